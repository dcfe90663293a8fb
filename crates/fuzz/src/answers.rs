//! What answers say, so that a whole one can be held against a stream.

use serde_json::{Map, Value, json};

use crate::stream;

/// How the answers of one endpoint are read.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// What a whole answer says.
    pub(crate) whole: fn(&Value) -> Value,
    /// What a stream says, which must be closed as its vendor closes one.
    pub(crate) streamed: fn(&[u8]) -> Value,
}

pub(crate) const CHAT: Shape = Shape { whole: chat_whole, streamed: chat_streamed };
pub(crate) const COMPLETION: Shape = Shape { whole: completion_whole, streamed: completion_streamed };
pub(crate) const MESSAGE: Shape = Shape { whole: message_whole, streamed: message_streamed };
pub(crate) const RESPONSE: Shape = Shape { whole: response_whole, streamed: response_streamed };
pub(crate) const OLLAMA: Shape = Shape { whole: ollama_whole, streamed: ollama_streamed };

/// Appends a text, if there is one.
fn append(target: &mut Value, more: &Value) {
    if let Some(more) = more.as_str() {
        *target = (target.as_str().unwrap_or_default().to_owned() + more).into();
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A text; absent and null are empty.
fn text(value: &Value) -> Value {
    value.as_str().unwrap_or_default().into()
}

/// Checks that the sum is one.
fn check_usage(usage: &Value) {
    let count = |name: &str| usage[name].as_u64().expect("a count of tokens");
    assert_eq!(count("total_tokens"), count("prompt_tokens") + count("completion_tokens"), "{usage}");
}

fn chat_whole(body: &Value) -> Value {
    check_usage(&body["usage"]);
    let call = |call: &Value| json!([call["function"]["name"], call["function"]["arguments"]]);
    let choice = |choice: &Value| {
        let message = &choice["message"];
        let calls: Vec<Value> = list(&message["tool_calls"]).iter().map(call).collect();
        let says = [text(&message["content"]), text(&message["reasoning_content"]), calls.into()];
        json!([says, choice["finish_reason"]])
    };
    list(&body["choices"]).iter().map(choice).collect()
}

fn chat_streamed(body: &[u8]) -> Value {
    choices_streamed(body, &json!(["", "", []]), |said, choice| {
        let delta = &choice["delta"];
        assert!(said[1].is_null(), "news of a choice that has ended: {choice}");
        append(&mut said[0][0], &delta["content"]);
        append(&mut said[0][1], &delta["reasoning_content"]);
        list(&delta["tool_calls"]).iter().for_each(|call| add_call(&mut said[0][2], call));
    })
}

/// Choices and why they ended, from events that each add something to what a choice has said.
fn choices_streamed(body: &[u8], nothing: &Value, add: impl Fn(&mut Value, &Value)) -> Value {
    assert!(stream::is_done(body), "a stream without an end");
    let mut choices: Vec<Value> = Vec::new();
    for event in stream::events(body) {
        assert!(event["error"].is_null(), "an error in a stream: {event}");
        for choice in list(&event["choices"]) {
            let index = choice["index"].as_u64().unwrap() as usize;
            while choices.len() <= index {
                choices.push(json!([nothing, null]));
            }
            add(&mut choices[index], choice);
            choices[index][1] = choice["finish_reason"].clone();
        }
    }
    choices.into()
}

fn add_call(calls: &mut Value, delta: &Value) {
    let calls = calls.as_array_mut().unwrap();
    let index = delta["index"].as_u64().unwrap() as usize;
    if index == calls.len() {
        assert!(delta["id"].is_string(), "a call without an id: {delta}");
        calls.push(json!([delta["function"]["name"], ""]));
    }
    append(&mut calls[index][1], &delta["function"]["arguments"]);
}

fn completion_whole(body: &Value) -> Value {
    check_usage(&body["usage"]);
    list(&body["choices"]).iter().map(|choice| json!([choice["text"], choice["finish_reason"]])).collect()
}

fn completion_streamed(body: &[u8]) -> Value {
    choices_streamed(body, &json!(""), |said, choice| append(&mut said[0], &choice["text"]))
}

fn message_whole(body: &Value) -> Value {
    let mut blocks: Vec<Value> = list(&body["content"]).iter().map(block).collect();
    if body["stop_reason"] != "tool_use" {
        forget_inputs(&mut blocks);
    }
    json!([blocks, body["stop_reason"], body["stop_sequence"], body["usage"]["output_tokens"]])
}

fn block(block: &Value) -> Value {
    let says = match block["type"].as_str().unwrap() {
        "text" => &block["text"],
        "thinking" => &block["thinking"],
        _ => &block["input"],
    };
    json!([block["type"], block["name"], says])
}

/// An input that broke off is told whole as far as it can be read, and streamed as it was written.
fn forget_inputs(blocks: &mut [Value]) {
    blocks.iter_mut().filter(|block| block[0] == "tool_use").for_each(|block| block[2] = Value::Null);
}

fn message_streamed(body: &[u8]) -> Value {
    let events = stream::events(body);
    let mut blocks: Vec<Value> = Vec::new();
    let mut end = Value::Null;
    for event in &events {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(event["index"], blocks.len(), "blocks are counted: {event}");
                let mut block = block(&event["content_block"]);
                // Arguments come as text.
                block[2] = text(&block[2]);
                blocks.push(block);
            }
            "content_block_delta" => {
                assert_eq!(event["index"], blocks.len() - 1, "the last block is open: {event}");
                let delta = &event["delta"];
                for field in ["text", "thinking", "partial_json"] {
                    append(&mut blocks.last_mut().unwrap()[2], &delta[field]);
                }
            }
            "message_delta" => end = event.clone(),
            "error" => panic!("an error in a stream: {event}"),
            _ => {}
        }
    }
    assert_eq!(events.last().map(|event| &event["type"]), Some(&json!("message_stop")));
    let delta = &end["delta"];
    if delta["stop_reason"] != "tool_use" {
        forget_inputs(&mut blocks);
    }
    for block in blocks.iter_mut().filter(|block| block[0] == "tool_use" && block[2].is_string()) {
        let written = block[2].as_str().unwrap();
        let written = if written.is_empty() { "{}" } else { written };
        block[2] = serde_json::from_str(written).expect("arguments are JSON");
    }
    json!([blocks, delta["stop_reason"], delta["stop_sequence"], end["usage"]["output_tokens"]])
}

fn response_whole(body: &Value) -> Value {
    let mut said = json!([body["output"], body["status"], body["incomplete_details"], body["usage"]]);
    forget_names(&mut said);
    said
}

fn response_streamed(body: &[u8]) -> Value {
    let events = stream::events(body);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "events are counted: {event}");
    }
    let last = events.last().expect("a stream has events");
    let kind = last["type"].as_str().unwrap();
    assert!(matches!(kind, "response.completed" | "response.incomplete"), "the last event is {last}");
    response_whole(&last["response"])
}

/// Takes out what differs between two answers that say the same.
fn forget_names(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(forget_names),
        Value::Object(fields) => {
            fields.retain(|name, _| !matches!(name.as_str(), "id" | "call_id" | "encrypted_content"));
            fields.values_mut().for_each(forget_names);
        }
        _ => {}
    }
}

fn ollama_whole(body: &Value) -> Value {
    assert_eq!(body["done"], true, "a whole answer is done");
    ollama_said(std::slice::from_ref(body))
}

fn ollama_streamed(body: &[u8]) -> Value {
    let lines = stream::lines(body);
    let (last, others) = lines.split_last().expect("a stream has lines");
    assert_eq!(last["done"], true, "the last line ends the stream: {last}");
    assert!(others.iter().all(|line| line["done"] == false), "only the last line is done");
    ollama_said(&lines)
}

fn ollama_said(lines: &[Value]) -> Value {
    let (mut content, mut thinking, mut calls) = (json!(""), json!(""), Vec::new());
    for line in lines {
        assert!(line["error"].is_null(), "an error in a stream: {line}");
        let message = line.get("message").unwrap_or(line);
        append(&mut content, message.get("content").unwrap_or(&message["response"]));
        append(&mut thinking, &message["thinking"]);
        calls.extend(list(&message["tool_calls"]).iter().map(|call| {
            let function: Map<String, Value> = call["function"].as_object().cloned().unwrap_or_default();
            json!([function.get("name"), function.get("arguments")])
        }));
    }
    let end = &lines[lines.len() - 1];
    json!([content, thinking, calls, end["done_reason"], end["eval_count"]])
}
