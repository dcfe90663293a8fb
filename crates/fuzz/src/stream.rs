//! Streams, read as their clients read them.

use serde_json::Value;

/// The events of a stream of server-sent events, without `[DONE]`.
///
/// # Panics
/// If it isn't one, or the name of an event isn't its type.
pub(crate) fn events(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).expect("a stream is UTF-8");
    let mut events = Vec::new();
    for block in text.split_terminator("\n\n") {
        let mut name = None;
        for line in block.lines() {
            let (field, value) = line.split_once(": ").unwrap_or((line, ""));
            match field {
                "event" => name = Some(value),
                "data" if value == "[DONE]" => {}
                "data" => events.push(event(value, name)),
                _ => assert!(line.starts_with(':'), "a line of a stream: {line}"),
            }
        }
    }
    events
}

fn event(data: &str, name: Option<&str>) -> Value {
    let event: Value = serde_json::from_str(data).expect("an event is JSON");
    assert!(name.is_none_or(|name| event["type"] == name), "{name:?}: {event}");
    event
}

/// The lines of a stream of JSON objects.
///
/// # Panics
/// If one isn't JSON.
pub(crate) fn lines(body: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(body).expect("a stream is UTF-8");
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

/// Whether a stream of OpenAI's chunks was closed.
pub(crate) fn is_done(body: &[u8]) -> bool {
    body.ends_with(b"data: [DONE]\n\n")
}
