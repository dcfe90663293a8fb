//! Keys, names, origins, probes, metrics, and the way down.

use std::collections::HashMap;

use crate::support::{
    MODEL, Setup, TestServer,
    client::{json_request, request},
    engine::{Plan, Seen},
    saying,
};
use millrace_server::{ServerConfig, ServerError, bind};
use serde_json::{Value, json};

const TEXT: &str = "/v1/completions";

async fn with_config(config: ServerConfig) -> TestServer {
    Setup { config, ..Setup::default() }.start(|_| Plan::say("x")).await
}

#[tokio::test]
async fn keys_guard_the_api_and_nothing_else() {
    let config = ServerConfig { api_keys: vec!["one".into(), "two".into()], ..ServerConfig::default() };
    let mut server = with_config(config).await;
    for (method, path) in [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/test/model"),
        ("POST", "/v1/chat/completions"),
        ("POST", TEXT),
        ("DELETE", "/v1/requests/x"),
        ("POST", "/tokenize"),
        ("POST", "/detokenize"),
    ] {
        let wrong: [&[(&str, &str)]; 6] = [
            &[],
            &[("authorization", "Bearer three")],
            &[("authorization", "one")],
            &[("authorization", "Basic one")],
            &[("x-api-key", "")],
            &[("x-api-key", "onetwo")],
        ];
        for headers in wrong {
            let reply = server.send(request(method, path, headers, "{}")).await;
            assert_eq!(reply.status, 401, "{method} {path} {headers:?}");
            assert_eq!(reply.error()["type"], "AuthenticationError");
        }
    }
    for headers in
        [[("authorization", "Bearer one")], [("authorization", "bearer two")], [("x-api-key", "two")]]
    {
        assert_eq!(server.send(request("GET", "/v1/models", &headers, "")).await.status, 200);
    }
    for path in ["/health", "/ready", "/ping", "/version", "/metrics", "/load"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert!(server.engine.seen.try_recv().is_err());
}

#[tokio::test]
async fn requests_have_names() {
    let server = saying("x").await;
    let named = request("GET", "/health", &[("x-request-id", "My_name-1.2:3")], "");
    assert_eq!(server.send(named).await.headers["x-request-id"], "My_name-1.2:3");
    let too_long = "x".repeat(129);
    for bad in ["", "a b", "a/b", "ü", too_long.as_str()] {
        let reply = server.send(request("GET", "/health", &[("x-request-id", bad)], "")).await;
        assert_eq!(reply.headers["x-request-id"].to_str().unwrap().len(), 36, "{bad}");
    }
    let reply = server.post(TEXT, &json!({"prompt": []})).await;
    assert_eq!(reply.status, 400);
    assert!(reply.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn origins() {
    let origin = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let closed = saying("x").await;
    let reply = closed.send(request("OPTIONS", TEXT, &origin, "")).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));

    let config = ServerConfig {
        allowed_origins: vec!["https://a.example".into()],
        api_keys: vec!["key".into()],
        ..ServerConfig::default()
    };
    let open = with_config(config).await;
    let reply = open.send(request("OPTIONS", TEXT, &origin, "")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["access-control-allow-origin"], "https://a.example");
    // Browsers don't take `*` for this header.
    let asks = [&origin[..], &[("access-control-request-headers", "authorization,content-type")]].concat();
    let reply = open.send(request("OPTIONS", TEXT, &asks, "")).await;
    assert_eq!(reply.headers["access-control-allow-headers"], "authorization,content-type");
    let other = [("origin", "https://b.example")];
    let reply = open.send(request("GET", "/health", &other, "")).await;
    assert!(!reply.headers.contains_key("access-control-allow-origin"));

    let config = ServerConfig { allowed_origins: vec!["*".into()], ..ServerConfig::default() };
    let all = with_config(config).await;
    let reply = all.send(request("GET", "/health", &origin, "")).await;
    assert_eq!(reply.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn probes() {
    let server = saying("x").await;
    assert_eq!(server.get("/version").await.json(), json!({"version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(server.get("/health").await.status, 200);
    assert_eq!(server.get("/ready").await.status, 200);
    assert_eq!(server.send(request("POST", "/ping", &[], "")).await.status, 200);
    assert_eq!(server.get("/load").await.json(), json!({"server_load": 0}));
}

#[tokio::test]
async fn an_address_that_is_taken() {
    let server = saying("x").await;
    let error = bind("127.0.0.1", server.address.port()).await.unwrap_err();
    assert!(matches!(error, ServerError::Bind { .. }));
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", server.address)));
}

/// Samples of a Prometheus text by name and labels. Fails the test on lines that aren't in the format.
fn parse_metrics(text: &str) -> HashMap<String, f64> {
    let mut types = HashMap::new();
    let mut samples = HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(types.contains_key(name) || types.contains_key(family), "{line}");
            assert!(samples.insert(sample.to_owned(), value.parse().unwrap()).is_none(), "{sample} twice");
        }
    }
    samples
}

#[tokio::test]
async fn metrics_count_what_happened_under_both_names() {
    let server = saying("abc").await;
    let body = json!({"prompt": "xy", "n": 2, "temperature": 1});
    assert_eq!(server.post(TEXT, &body).await.status, 200);
    let stopped = json!({"prompt": "xy", "stop": "b"});
    assert_eq!(server.post(TEXT, &stopped).await.status, 200);
    assert_eq!(server.post(TEXT, &json!({"prompt": "x", "max_tokens": 1})).await.status, 200);
    assert_eq!(server.post(TEXT, &json!({})).await.status, 400);
    let reply = server.get("/metrics").await;
    assert_eq!(reply.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let samples = parse_metrics(&reply.text);
    let labels = format!("model_name=\"{MODEL}\",engine=\"0\"");
    for prefix in ["millrace", "vllm"] {
        let get = |name: &str, more: &str| samples[&format!("{prefix}:{name}{{{labels}{more}}}")];
        assert_eq!(get("request_success_total", ",finished_reason=\"stop\""), 3.0);
        assert_eq!(get("request_success_total", ",finished_reason=\"length\""), 1.0);
        assert_eq!(get("time_to_first_token_seconds_count", ""), 4.0);
        assert_eq!(get("time_to_first_token_seconds_bucket", ",le=\"+Inf\""), 4.0);
        // 4 tokens each for two choices, 2 up to the stop string, 1.
        assert_eq!(get("request_generation_tokens_sum", ""), 11.0);
        assert_eq!(get("inter_token_latency_seconds_count", ""), 7.0);
        assert_eq!(get("request_prompt_tokens_sum", ""), 7.0);
        assert_eq!(get("prompt_tokens_cached_total", ""), 4.0);
        assert_eq!(get("request_params_n_bucket", ",le=\"1\""), 2.0);
        assert_eq!(get("kv_cache_usage_perc", ""), 0.0);
        assert_eq!(get("num_requests_running", ""), 0.0);
        assert_eq!(get("iteration_tokens_total_count", ""), 0.0);
    }
    let http = |status: u16| {
        samples[&format!("http_requests_total{{handler=\"{TEXT}\",method=\"POST\",status=\"{status}\"}}")]
    };
    assert_eq!((http(200), http(400)), (3.0, 1.0));
    assert_eq!(
        samples[&format!("http_request_duration_seconds_count{{handler=\"{TEXT}\",method=\"POST\"}}")],
        4.0
    );
}

#[tokio::test]
async fn the_first_signal_drains() {
    let mut server = Setup::default().start(|_| Plan::Hold).await;
    let mut stream = server.stream(TEXT, &json!({"prompt": "x"})).await;
    let held = server.engine.submitted().await;
    server.signals.send(()).unwrap();
    assert!(matches!(server.engine.seen.recv().await, Some(Seen::Draining)));

    assert_eq!(server.get("/ready").await.status, 503);
    assert_eq!(server.get("/health").await.status, 200);
    let reply = server.send(json_request(TEXT, &json!({"prompt": "x"}))).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["retry-after"], "10");
    assert_eq!(reply.error()["message"], "The server is shutting down and takes no new requests.");

    server.engine.say(held.id, "bye");
    assert!(stream.data().await.unwrap().contains("bye"));
    server.engine.finish(held.id, millrace_types::FinishReason::Stop);
    let chunks = stream.chunks().await;
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    server.task.await.unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn the_second_signal_aborts() {
    let mut server = Setup::default().start(|_| Plan::Hold).await;
    let stream = server.stream(TEXT, &json!({"prompt": "x"})).await;
    server.engine.submitted().await;
    server.signals.send(()).unwrap();
    server.signals.send(()).unwrap();
    let chunks: Vec<Value> = stream.chunks().await;
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "abort");
    assert!(matches!(server.engine.seen.recv().await, Some(Seen::Draining)));
    assert!(matches!(server.engine.seen.recv().await, Some(Seen::Shutdown)));
    server.task.await.unwrap();
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let server = saying("x").await;
    server.signals.send(()).unwrap();
    server.task.await.unwrap();
}
