//! When things go wrong: clients leave, engines fail, queues fill up, time runs out.

use std::time::Duration;

use crate::support::{
    Setup, TestServer,
    client::{Line, request},
    engine::Plan,
};
use millrace_engine::EngineInfo;
use millrace_server::ServerConfig;
use millrace_types::FinishReason;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn chat() -> Value {
    json!({"messages": [{"role": "user", "content": "hi"}]})
}

/// A server whose requests wait for the test's word.
async fn holding(config: ServerConfig) -> TestServer {
    Setup { config, ..Setup::default() }.start(|_| Plan::Hold).await
}

/// Waits until no request is in the house.
async fn idle(server: &TestServer) {
    server.app.service().idle().await;
    assert_eq!(server.app.service().active_requests(), 0);
}

#[tokio::test]
async fn leaving_a_stream_aborts_its_request() {
    let mut server = holding(ServerConfig::default()).await;
    let mut stream = server.stream(CHAT, &chat()).await;
    let request = server.engine.submitted().await;
    server.engine.say(request.id, "some");
    assert!(stream.data().await.unwrap().contains("assistant"));
    assert!(stream.data().await.unwrap().contains("some"));
    assert_eq!(server.app.service().active_requests(), 1);
    drop(stream);
    assert_eq!(server.engine.aborted().await, request.id);
    idle(&server).await;
}

#[tokio::test]
async fn leaving_before_the_answer_aborts_all_choices() {
    let mut server = holding(ServerConfig::default()).await;
    let body = json!({"prompt": "x", "n": 3, "temperature": 1}).to_string();
    let address = server.address;
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut sent = 0;
    while sent < head.len() {
        socket.writable().await.unwrap();
        sent += socket.try_write(&head.as_bytes()[sent..]).unwrap_or(0);
    }
    let mut submitted = Vec::new();
    for _ in 0..3 {
        submitted.push(server.engine.submitted().await.id);
    }
    drop(socket);
    let mut aborted = Vec::new();
    for _ in 0..3 {
        aborted.push(server.engine.aborted().await);
    }
    aborted.sort();
    assert_eq!(aborted, submitted);
    idle(&server).await;
}

#[tokio::test]
async fn a_full_queue_is_a_503_with_retry_after() {
    let setup = Setup::default();
    let info = EngineInfo { max_queued: 2, ..setup.info.clone() };
    let mut server = Setup { info, ..setup }.start(|_| Plan::Queue).await;
    let waiting = server.stream(TEXT, &json!({"prompt": "x"})).await;
    assert_eq!(waiting.status, 200);
    let first = server.engine.submitted().await.id;
    // Two choices don't fit: neither is queued.
    let reply = server.post(TEXT, &json!({"prompt": "x", "n": 2, "temperature": 1})).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.headers["retry-after"], "1");
    let error = reply.error();
    assert_eq!(error["type"], "ServiceUnavailableError");
    assert!(error["message"].as_str().unwrap().starts_with("The engine is currently busy"));
    assert_eq!(server.app.service().active_requests(), 1);
    // The place that was left still is.
    let second = server.stream(TEXT, &json!({"prompt": "y"})).await;
    assert_eq!(second.status, 200);
    assert_eq!(server.engine.submitted().await.id.0, first.0 + 1);
}

#[tokio::test]
async fn more_sequences_than_ever_may_wait_are_a_400() {
    let setup = Setup::default();
    let info = EngineInfo { max_queued: 2, ..setup.info.clone() };
    let server = Setup { info, ..setup }.start(|_| Plan::say("x")).await;
    for body in [
        json!({"prompt": "x", "n": 3, "temperature": 1}),
        json!({"prompt": ["x", "y", "z"]}),
        json!({"prompt": ["x", "y"], "n": 2, "temperature": 1}),
    ] {
        let reply = server.post(TEXT, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        let error = reply.error();
        assert_eq!(error["param"], "n");
        assert!(error["message"].as_str().unwrap().contains("at most 2 may wait at a time"), "{error}");
    }
    assert_eq!(server.post(TEXT, &json!({"prompt": ["x", "y"]})).await.status, 200);
    idle(&server).await;
}

#[tokio::test]
async fn an_error_in_a_stream_is_an_event_and_then_the_end() {
    let server = Setup::default().start(|_| Plan::Fail(vec![97, 98], "The device is on fire.")).await;
    let chunks = server.stream(CHAT, &chat()).await.chunks().await;
    let last = chunks.last().unwrap();
    assert_eq!(
        last["error"],
        json!({"message": "The device is on fire.", "type": "InternalServerError", "param": null, "code": 500})
    );
    assert_eq!(chunks[1]["choices"][0]["delta"]["content"], "ab");
    let reply = server.post(CHAT, &chat()).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.error()["message"], "The device is on fire.");
    idle(&server).await;
}

#[tokio::test]
async fn one_failed_choice_fails_the_request_and_aborts_the_others() {
    let mut server = Setup::default()
        .start(|request| if request.prompt == [97] { Plan::Fail(vec![98], "Broken.") } else { Plan::Hold })
        .await;
    let reply = server.post(TEXT, &json!({"prompt": ["b", "a"]})).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.error()["message"], "Broken.");
    let held = server.engine.submitted().await;
    assert_eq!(held.prompt, [98]);
    assert_eq!(server.engine.aborted().await, held.id);
}

#[tokio::test]
async fn a_dead_engine_is_told_in_the_stream_and_by_health() {
    let mut server = holding(ServerConfig::default()).await;
    let mut stream = server.stream(CHAT, &chat()).await;
    server.engine.submitted().await;
    assert!(stream.data().await.unwrap().contains("assistant"));
    assert_eq!(server.get("/health").await.status, 200);
    server.engine.die();
    assert!(stream.data().await.unwrap().contains("The engine is not running."));
    assert_eq!(stream.data().await.unwrap(), "[DONE]");
    let reply = server.post(CHAT, &chat()).await;
    assert_eq!(reply.status, 500);
    assert_eq!(reply.error()["message"], "The engine is not running.");
    for path in ["/health", "/ready", "/ping"] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 503, "{path}");
        reply.error();
    }
}

#[tokio::test]
async fn time_limits_per_request_and_by_default() {
    let server = holding(ServerConfig::default()).await;
    let own = json!({"prompt": "x", "timeout": 0.001});
    let reply = server.post(TEXT, &own).await;
    assert_eq!(reply.status, 408);
    assert_eq!(reply.error()["type"], "TimeoutError");
    let chunks = server.stream(TEXT, &own).await.chunks().await;
    assert_eq!(chunks.last().unwrap()["error"]["code"], 408);
    idle(&server).await;

    let config = ServerConfig { request_timeout: Some(Duration::from_millis(1)), ..ServerConfig::default() };
    let mut server = holding(config).await;
    assert_eq!(server.post(TEXT, &json!({"prompt": "x"})).await.status, 408);
    let default = server.engine.submitted().await;
    assert!(default.deadline.unwrap() - default.arrival <= Duration::from_millis(1));
}

#[tokio::test]
async fn requests_are_cancelled_by_answer_id_and_by_request_id() {
    let mut server = holding(ServerConfig::default()).await;
    let mut stream = server.stream(CHAT, &chat()).await;
    let held = server.engine.submitted().await;
    let chunk: Value = serde_json::from_str(&stream.data().await.unwrap()).unwrap();
    server.engine.say(held.id, "some");
    let path = format!("/v1/requests/{}", chunk["id"].as_str().unwrap());
    assert!(stream.data().await.unwrap().contains("some"));
    let reply = server.send(request("DELETE", &path, &[], "")).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["requests"], 1);
    assert_eq!(server.engine.aborted().await, held.id);
    let chunks = stream.chunks().await;
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "abort");
    idle(&server).await;
    assert_eq!(server.send(request("DELETE", &path, &[], "")).await.status, 404);

    let headers = [("content-type", "application/json"), ("x-request-id", "my-request")];
    let body = json!({"prompt": "x", "n": 2, "temperature": 1}).to_string();
    let client = server.client;
    let whole = client.send(request("POST", TEXT, &headers, &body));
    let cancel = async {
        let first = server.engine.seen.recv().await;
        let second = server.engine.seen.recv().await;
        assert!(first.is_some() && second.is_some());
        client.send(request("DELETE", "/v1/requests/my-request", &[], "")).await
    };
    let (whole, cancelled) = tokio::join!(whole, cancel);
    assert_eq!(cancelled.status, 200);
    assert_eq!(whole.status, 200);
    assert_eq!(whole.headers["x-request-id"], "my-request");
    let answer = whole.json();
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["finish_reason"], "abort");
    }
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let config = ServerConfig { keep_alive: Duration::from_millis(1), ..ServerConfig::default() };
    let mut server = holding(config).await;
    let mut stream = server.stream(TEXT, &json!({"prompt": "x"})).await;
    let held = server.engine.submitted().await;
    for _ in 0..3 {
        assert_eq!(stream.next().await, Some(Line::Comment(": keep-alive".into())));
    }
    server.engine.say(held.id, "a");
    assert!(stream.data().await.unwrap().contains("\"a\""));
    server.engine.finish(held.id, FinishReason::Stop);
    let chunks = stream.chunks().await;
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let config = ServerConfig { body_timeout: Duration::from_millis(1), ..ServerConfig::default() };
    let server = holding(config).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_given_up() {
    let config = ServerConfig { header_timeout: Duration::from_millis(1), ..ServerConfig::default() };
    let server = holding(config).await;
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut socket, b"GET /health HTTP/1.1\r\nx:").await.unwrap();
    let mut reply = Vec::new();
    // Closed, with or without a word; what matters is that reading comes to an end.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut reply).await;
    assert!(!reply.starts_with(b"HTTP/1.1 200"));
}
