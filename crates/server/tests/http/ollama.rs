//! Ollama's API over a scripted engine.

use millrace_api::ApiError;
use serde_json::{Value, json};

use crate::support::{
    MODEL, Setup,
    client::{json_request, request},
    engine::Plan,
    saying,
};

fn chat(more: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The lines of a stream.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn answers_come_in_lines_unless_asked_for_whole() {
    let server = saying("hello").await;
    let reply = server.post("/api/chat", &chat(json!({}))).await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let all = lines(&reply.text);
    let text: String = all.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    let last = all.last().unwrap();
    assert_eq!((text.as_str(), &last["done"], &last["done_reason"]), ("hello", &json!(true), &json!("stop")));
    let whole = server.post("/api/chat", &chat(json!({"stream": false}))).await.json();
    assert_eq!(whole["message"], json!({"role": "assistant", "content": "hello"}));
    assert_eq!((&whole["eval_count"], &whole["model"]), (&last["eval_count"], &json!(MODEL)));
    let tagged = json!({"model": format!("{MODEL}:latest"), "prompt": "x", "stream": false});
    assert_eq!(server.post("/api/generate", &tagged).await.json()["response"], "hello");
}

#[tokio::test]
async fn a_failure_is_a_status_or_the_last_line() {
    let server = Setup::default().start(|_| Plan::Fail(vec![b'a'.into()], "it broke")).await;
    let reply = server.post("/api/chat", &chat(json!({}))).await;
    let all = lines(&reply.text);
    assert_eq!((reply.status, all.last().unwrap()), (200, &json!({"error": "it broke"})));
    let reply = server.post("/api/chat", &chat(json!({"stream": false}))).await;
    assert_eq!((reply.status, reply.json()), (500, json!({"error": "it broke"})));
    let missing = ApiError::model_not_found("none");
    let reply = server.post("/api/chat", &chat(json!({"model": "none"}))).await;
    assert_eq!((reply.status, reply.json()), (404, json!({"error": missing.message})));
    assert!(server.get("/api/none").await.json()["error"].is_string());
    assert!(server.get("/api/chat").await.json()["error"].is_string());
}

#[tokio::test]
async fn a_model_is_asked_for_nothing_that_it_cannot_do() {
    let server = saying("hello").await;
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
    for (more, what) in [(json!({"tools": [tool]}), "tools"), (json!({"think": true}), "thinking")] {
        let reply = server.post("/api/chat", &chat(more)).await;
        assert_eq!(reply.status, 400);
        assert!(reply.text.contains(&format!("does not support {what}")), "{}", reply.text);
    }
    assert_eq!(server.post("/api/chat", &chat(json!({"think": false}))).await.status, 200);
}

#[tokio::test]
async fn a_model_that_stays_is_kept_whatever_a_client_asks() {
    let server = saying("hello").await;
    let reply = server.post("/api/generate", &json!({"model": MODEL, "keep_alive": 0})).await;
    assert_eq!((reply.status, &reply.json()["done_reason"]), (200, &json!("unload")));
    assert_eq!(server.post("/api/chat", &chat(json!({"keep_alive": 0}))).await.status, 200);
    assert_eq!(server.get("/api/ps").await.json()["models"].as_array().unwrap().len(), 1);
    assert_eq!(
        server.get("/api/tags").await.json()["models"].as_array().unwrap().len(),
        2,
        "a name and an alias"
    );
}

#[tokio::test]
async fn bodies_of_any_type_are_read_but_not_from_web_pages() {
    let server = saying("hello").await;
    let text = chat(json!({"stream": false})).to_string();
    assert_eq!(server.send(request("POST", "/api/chat", &[], &text)).await.status, 200);
    let page = [("origin", "https://example.org"), ("content-type", "text/plain")];
    assert_eq!(server.send(request("POST", "/api/chat", &page, &text)).await.status, 400);
    let (mut page, origin) =
        (json_request("/api/chat", &chat(json!({"stream": false}))), "https://example.org");
    page.headers_mut().insert("origin", origin.parse().unwrap());
    assert_eq!(server.send(page).await.status, 200);
}
