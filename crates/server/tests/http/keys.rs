//! Keys with budgets and models; the administration.

use crate::support::{
    MODEL, Setup, TestServer,
    client::{Reply, request},
    engine::{Plan, Seen},
};
use millrace_server::{KeysFile, ServerConfig};
use serde_json::{Value, json};

const TEXT: &str = "/v1/completions";
const MESSAGES: &str = "/v1/messages";

const KEYS: &str = "\
keys:
  - {name: ada, key: of-ada, requests_per_minute: 3}
  - {name: bob, key: of-bob, tokens_per_minute: 20}
  - {name: eve, key: of-eve, models: [other]}
  - {name: root, key: of-root, admin: true}
";

/// A server with these keys, and the folder of their file.
async fn locked(script: impl Fn() -> Plan + Send + 'static) -> (TestServer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("keys.yaml");
    std::fs::write(&path, KEYS).unwrap();
    let config =
        ServerConfig { api_keys_file: Some(KeysFile::open(&path).unwrap()), ..ServerConfig::default() };
    (Setup { config, ..Setup::default() }.start(move |_| script()).await, dir)
}

async fn post(server: &TestServer, path: &str, key: &str, body: &Value) -> Reply {
    let headers = [("content-type", "application/json"), ("x-api-key", key)];
    server.send(request("POST", path, &headers, &body.to_string())).await
}

/// A request of this machine would be an administrator's whatever its key; one that a proxy passed on is not.
async fn ask(server: &TestServer, method: &str, path: &str, key: &str) -> Reply {
    server.send(request(method, path, &[("x-api-key", key), ("x-forwarded-for", "10.0.0.1")], "")).await
}

fn number(reply: &Reply, header: &str) -> u64 {
    reply.headers[header].to_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn requests_over_budget_are_refused_in_the_vendors_shape() {
    let (mut server, _dir) = locked(|| Plan::say("x")).await;
    for left in [2, 1] {
        let reply = post(&server, TEXT, "of-ada", &json!({"prompt": "a"})).await;
        assert_eq!(reply.status, 200);
        assert_eq!(number(&reply, "x-ratelimit-limit-requests"), 3);
        assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), left);
        assert!(reply.headers.contains_key("x-ratelimit-reset-requests"));
        assert!(!reply.headers.contains_key("x-ratelimit-limit-tokens"));
    }
    // Looking costs nothing, nonsense does.
    assert_eq!(ask(&server, "GET", "/v1/models", "of-ada").await.status, 200);
    assert_eq!(post(&server, TEXT, "of-ada", &json!({})).await.status, 400);
    let reply = post(&server, TEXT, "of-ada", &json!({"prompt": "a"})).await;
    assert_eq!((reply.status, &reply.error()["type"]), (429, &json!("RateLimitError")));
    assert!((1..=21).contains(&number(&reply, "retry-after")), "{:?}", reply.headers);
    assert_eq!(number(&reply, "x-ratelimit-remaining-requests"), 0);

    let body = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
    let reply = post(&server, MESSAGES, "of-ada", &body).await;
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (429, &json!("rate_limit_error")));
    assert_eq!(number(&reply, "anthropic-ratelimit-requests-remaining"), 0);
    let reset = reply.headers["anthropic-ratelimit-requests-reset"].to_str().unwrap();
    assert!(reset.len() == 20 && reset.ends_with('Z'), "{reset}");

    let submitted = std::iter::from_fn(|| server.engine.seen.try_recv().ok());
    assert_eq!(submitted.filter(|seen| matches!(seen, Seen::Submitted(_))).count(), 2);
}

#[tokio::test]
async fn tokens_are_counted_and_refused_before_the_queue() {
    let (mut server, _dir) = locked(|| Plan::say("1234567")).await;
    let reply = post(&server, TEXT, "of-bob", &json!({"prompt": "12345"})).await;
    assert_eq!(reply.status, 200);
    server.engine.submitted().await;
    // 5 of the prompt, 7 and the end of sequence of the answer.
    let models = ask(&server, "GET", "/v1/models", "of-bob").await;
    assert!((7..=8).contains(&number(&models, "x-ratelimit-remaining-tokens")), "{:?}", models.headers);
    let reply = post(&server, TEXT, "of-bob", &json!({"prompt": "123456789012"})).await;
    assert_eq!(reply.status, 429);
    assert!(reply.error()["message"].as_str().unwrap().starts_with("Too many tokens: "), "{}", reply.text);
    assert!(number(&reply, "retry-after") >= 1);
    let reply = post(&server, TEXT, "of-bob", &json!({"prompt": "123456789012345678901"})).await;
    assert_eq!((reply.status, reply.headers.contains_key("retry-after")), (400, false));
    assert!(server.engine.seen.try_recv().is_err());

    let metrics = server.get("/metrics").await.text;
    for line in [
        "millrace:key_requests_total{key=\"bob\"} 3",
        "millrace:key_requests_limited_total{key=\"bob\"} 2",
        "millrace:key_prompt_tokens_total{key=\"bob\"} 5",
        "millrace:key_completion_tokens_total{key=\"bob\"} 8",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("of-bob"));
}

#[tokio::test]
async fn a_key_sees_and_uses_its_own_models() {
    let (server, _dir) = locked(|| Plan::say("x")).await;
    let bodies = [
        (TEXT, json!({"prompt": "a"})),
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": "a"}]})),
        ("/tokenize", json!({"prompt": "a"})),
        ("/detokenize", json!({"tokens": [1]})),
    ];
    for (path, body) in bodies {
        let reply = post(&server, path, "of-eve", &body).await;
        assert_eq!((reply.status, &reply.error()["type"]), (403, &json!("PermissionDeniedError")), "{path}");
        assert_eq!(post(&server, path, "of-root", &body).await.status, 200, "{path}");
    }
    let body = json!({"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "a"}]});
    let reply = post(&server, MESSAGES, "of-eve", &body).await;
    assert_eq!((reply.status, &reply.json()["error"]["type"]), (403, &json!("permission_error")));
    assert_eq!(ask(&server, "GET", "/v1/models", "of-eve").await.json()["data"], json!([]));
    assert_eq!(ask(&server, "GET", &format!("/v1/models/{MODEL}"), "of-eve").await.status, 404);
    assert_ne!(ask(&server, "GET", "/v1/models", "of-root").await.json()["data"], json!([]));
}

#[tokio::test]
async fn the_administration_is_for_administrators() {
    let (server, _dir) = locked(|| Plan::say("x")).await;
    for (method, path) in [
        ("GET", "/v1/status"),
        ("GET", "/v1/cache/stats"),
        ("DELETE", "/v1/cache/prefix"),
        ("POST", "/v1/requests/x/cancel"),
    ] {
        assert_eq!(ask(&server, method, path, "wrong").await.status, 401, "{path}");
        assert_eq!(ask(&server, method, path, "of-ada").await.status, 403, "{path}");
        let good = if path.ends_with("cancel") { 404 } else { 200 };
        assert_eq!(ask(&server, method, path, "of-root").await.status, good, "{path}");
        let local = request(method, path, &[("host", "localhost")], "");
        assert_eq!(server.send(local).await.status, good, "{path}");
        // The client's own `Host` is a name of nowhere, which may be made to point here.
        let foreign = [("host", "localhost"), ("origin", "https://evil.example")];
        for headers in [&[][..], &foreign] {
            assert_eq!(server.send(request(method, path, headers, "")).await.status, 401, "{path}");
        }
    }
}

#[tokio::test]
async fn an_administrator_sees_and_ends_requests() {
    let (mut server, _dir) = locked(|| Plan::Hold).await;
    let headers = [("content-type", "application/json"), ("x-api-key", "of-bob"), ("x-request-id", "mine")];
    let body = json!({"prompt": "secret", "stream": true}).to_string();
    let mut stream = server.open(request("POST", TEXT, &headers, &body)).await;
    let held = server.engine.submitted().await;
    server.engine.say(held.id, "a");
    assert!(stream.data().await.is_some());

    let reply = ask(&server, "GET", "/v1/status", "of-root").await;
    assert!(!reply.text.contains("secret") && !reply.text.contains("of-bob"), "{}", reply.text);
    let status = reply.json();
    let shown = &status["requests"][0];
    assert!(shown["id"].as_str().unwrap().starts_with("cmpl-"), "{status}");
    assert_eq!((&shown["request_id"], &shown["key"]), (&json!("mine"), &json!("bob")));
    assert_eq!((&shown["state"], &shown["generated_tokens"]), (&json!("running"), &json!(2)));
    assert_eq!(shown["model"], MODEL);
    assert_eq!(status["models"][0]["cache"]["block_tokens"], 16);

    // Another key's requests are out of reach, and not even known.
    assert_eq!(ask(&server, "DELETE", "/v1/requests/mine", "of-ada").await.status, 404);
    assert_eq!(ask(&server, "POST", "/v1/requests/mine/cancel", "of-root").await.json()["requests"], 1);
    assert_eq!(server.engine.aborted().await, held.id);
    let chunks = stream.chunks().await;
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "abort");
    let dropped = ask(&server, "DELETE", "/v1/cache/prefix", "of-root").await.json();
    assert_eq!(dropped["data"], json!([{"model": MODEL, "blocks": 7}]));
    let unknown = ask(&server, "DELETE", "/v1/cache/prefix?model=none", "of-root").await;
    assert_eq!(unknown.status, 404);
}
