//! Connections: Unix sockets, clients that send slowly or not at all, and too many of them.

use std::{sync::Arc, time::Duration};

use millrace_server::{Listener, ServerConfig, serve};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::support::{Setup, TestServer, client::request, engine::Plan};

async fn with_config(config: ServerConfig) -> TestServer {
    Setup { config, ..Setup::default() }.start(|_| Plan::say("x")).await
}

/// Sends bytes and reads all that comes back until the other side hangs up.
async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

const STATUS: &str = "GET /v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_unix_socket_serves_and_is_local() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let other = Setup::default().start(|_| Plan::say("x")).await;
    let listener = Listener::unix(&path, 0o600).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let signals = Box::pin(futures::stream::once(async { drop(stopped.await) }));
    let app = Arc::clone(&other.app);
    let task = tokio::spawn(async move { serve(listener, app, signals).await.unwrap() });

    let answer = say(UnixStream::connect(&path).await.unwrap(), STATUS).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stop.send(()).unwrap();
    task.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn who_sends_a_head_slowly_is_cut_off() {
    let config = ServerConfig { header_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let server = with_config(config).await;
    let slow = || async { TcpStream::connect(server.address).await.unwrap() };
    // Nothing at all, and half a head: both end without anybody waiting for more.
    let (silent, half) = (slow().await, slow().await);
    let (silent, half) = tokio::join!(say(silent, ""), say(half, "GET /health HTTP/1.1\r\nhost:"));
    assert_eq!(silent, "");
    assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
    assert_eq!(server.get("/health").await.status, 200);
}

#[tokio::test]
async fn who_sends_a_body_slowly_is_told_so() {
    let config = ServerConfig { body_timeout: Duration::from_millis(200), ..ServerConfig::default() };
    let server = with_config(config).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\nconnection: close\r\n\r\n{";
    let answer = say(stream, head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn who_reads_nothing_is_cut_off_and_its_request_ends() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Listener::unix(&dir.path().join("socket"), 0o600).unwrap();
    let config = ServerConfig { write_timeout: Duration::from_millis(50), ..ServerConfig::default() };
    let mut server = Setup { config, ..Setup::default() }.start(|_| Plan::Hold).await;
    let app = Arc::clone(&server.app);
    let task = tokio::spawn(async move { serve(listener, app, futures::stream::pending()).await.unwrap() });

    let mut client = UnixStream::connect(dir.path().join("socket")).await.unwrap();
    let body = r#"{"prompt": "x", "stream": true}"#;
    let head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    let text = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client.write_all(text.as_bytes()).await.unwrap();
    let held = server.engine.submitted().await;
    // More than the socket's buffers hold.
    for _ in 0..64 {
        server.engine.say(held.id, &"x".repeat(16 << 10));
    }
    assert_eq!(server.engine.aborted().await, held.id);
    task.abort();
    drop(client);
}

#[tokio::test]
async fn slow_connections_take_places_only_for_a_while() {
    let config = ServerConfig {
        max_connections: 2,
        header_timeout: Duration::from_millis(300),
        ..ServerConfig::default()
    };
    let server = with_config(config).await;
    let slow = [
        TcpStream::connect(server.address).await.unwrap(),
        TcpStream::connect(server.address).await.unwrap(),
    ];
    // All places are taken; this one waits in the system's queue until they are given up.
    assert_eq!(server.get("/health").await.status, 200);
    drop(slow);
}

#[tokio::test]
async fn time_limits_come_in_headers_too() {
    let mut server = Setup::default().start(|_| Plan::Hold).await;
    let post = |name: &'static str, value: &'static str, body: &'static str| {
        request("POST", "/v1/completions", &[("content-type", "application/json"), (name, value)], body)
    };
    let long = r#"{"prompt": "x", "timeout": 1000}"#;
    for (name, value) in [("x-request-timeout", "0.05"), ("x-envoy-expected-rq-timeout-ms", "50")] {
        let reply = server.send(post(name, value, long)).await;
        assert_eq!(reply.status, 408, "{name}");
        let deadline = server.engine.submitted().await.deadline.unwrap();
        assert!(deadline.elapsed() < Duration::from_secs(30));
    }
    let reply = server.send(post("x-request-timeout", "soon", long)).await;
    assert_eq!(reply.status, 400);
    assert!(reply.error()["message"].as_str().unwrap().contains("x-request-timeout"));
}

#[tokio::test]
async fn a_request_that_is_not_started_in_time_is_sent_away() {
    let config = ServerConfig { max_queue_wait: Some(Duration::from_millis(50)), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start(|_| Plan::Queue).await;
    let body = r#"{"prompt": "x"}"#;
    let reply =
        server.send(request("POST", "/v1/completions", &[("content-type", "application/json")], body)).await;
    assert_eq!(reply.status, 503);
    assert!(reply.headers.contains_key("retry-after"));
    assert!(reply.error()["message"].as_str().unwrap().contains("waited too long"), "{}", reply.text);
}
