//! What a refusal looks like.

use serde_json::Value;

use crate::server::Reply;

/// Longest message, in bytes: no body is echoed.
const MAX_MESSAGE: usize = 4000;

/// Checks an answer that isn't a success: it is the client's fault, says so in one sentence, and in its vendor's shape.
///
/// # Panics
/// If it isn't so.
pub(crate) fn check(path: &str, reply: &Reply) {
    let shown = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status / 100, 4, "{path}: {} {shown}", reply.status);
    assert!(reply.kind.starts_with("application/json"), "{path}: a refusal as {}", reply.kind);
    let body: Value = serde_json::from_slice(&reply.body).expect("a refusal is JSON");
    let message = match path {
        _ if path.starts_with("/api/") => body["error"].as_str(),
        _ if path.starts_with("/v1/messages") => anthropic(&body),
        _ => openai(&body, reply.status),
    };
    let message = message.unwrap_or_else(|| panic!("{path}: a refusal in another shape: {shown}"));
    assert!(!message.is_empty() && message.len() < MAX_MESSAGE, "{path}: {} bytes of message", message.len());
}

fn anthropic(body: &Value) -> Option<&str> {
    let error = &body["error"];
    let shaped = body["type"] == "error" && error["type"].as_str()?.ends_with("_error");
    error["message"].as_str().filter(|_| shaped)
}

fn openai(body: &Value, status: u16) -> Option<&str> {
    let error = body["error"].as_object()?;
    let shaped = error["type"].is_string() && error.contains_key("param") && error["code"] == status;
    error["message"].as_str().filter(|_| shaped)
}
