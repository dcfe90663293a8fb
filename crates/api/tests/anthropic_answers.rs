//! Neutral events to Anthropic's events and messages, which must say the same.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads better without borrows"
)]

use std::time::{Duration, Instant};

use millrace_api::{
    ApiError, Call, ChatEvent, Collector, Delta, End, EndReason, Frame, Input, Limits, Part, ReplyHead,
    Start, StopCause, anthropic::parse,
};
use millrace_types::Usage;
use serde_json::{Value, json};

const PROMPT: usize = 9;
const CACHED: usize = 4;

fn head() -> ReplyHead {
    ReplyHead { id: "msg_1".into(), created: 7, model: "m".into() }
}

fn call(extra: Value) -> Call {
    let mut body = json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    parse(&body, &Limits::default(), "req_1").unwrap()
}

fn text(text: &str) -> Part {
    Part::Text(text.into())
}

fn thought(text: &str) -> Part {
    Part::Reasoning(text.into())
}

/// A call in pieces of at most `size` bytes.
fn tool(index: usize, arguments: &str, size: usize, complete: bool) -> Vec<Part> {
    let begin = Part::ToolCall { index, id: format!("call_{index}"), name: format!("f{index}") };
    let pieces = arguments
        .as_bytes()
        .chunks(size)
        .map(|piece| Part::ToolArguments { index, delta: String::from_utf8(piece.to_vec()).unwrap() });
    [begin].into_iter().chain(pieces).chain([Part::ToolCallEnd { index, complete }]).collect()
}

fn usage(completion_tokens: usize) -> Usage {
    Usage { prompt_tokens: PROMPT, cached_tokens: CACHED, completion_tokens }
}

/// Each part in a delta of its own, then the end.
fn script(parts: Vec<Part>, end: End) -> Vec<ChatEvent> {
    let start = Start { prompts: vec![vec![0; PROMPT].into()], samples: 1, cache_block: Some(4) };
    let count = parts.len();
    let deltas = parts.into_iter().enumerate().map(|(index, part)| Delta {
        parts: vec![part],
        usage: usage(index + 1),
        reasoning_tokens: 2,
        ..Delta::default()
    });
    let last = Delta { usage: usage(count), reasoning_tokens: 2, end: Some(end), ..Delta::default() };
    let deltas = deltas.chain([last]).map(|delta| ChatEvent::Delta(Box::new(delta)));
    [ChatEvent::Start(start)].into_iter().chain(deltas).chain([ChatEvent::Done(usage(count))]).collect()
}

fn stop() -> End {
    End { reason: EndReason::Stop, stop: None }
}

/// All events; checks that each names its type.
fn events(mut call: Call, script: Vec<ChatEvent>) -> Vec<Value> {
    let head = head();
    let frames: Vec<Frame> = script.into_iter().flat_map(|event| call.encoder.frames(&head, event)).collect();
    let parse = |frame: &Frame| {
        let event: Value = serde_json::from_str(&frame.data).unwrap();
        assert_eq!(event["type"], frame.event.unwrap());
        event
    };
    frames.iter().map(parse).collect()
}

fn whole(call: &Call, script: Vec<ChatEvent>) -> Value {
    let mut collector = Collector::default();
    let answer = script.into_iter().find_map(|event| collector.push(event).unwrap()).unwrap();
    call.encoder.body(&head(), answer)
}

/// Puts events together as a client does, and checks their order.
fn assemble(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "message_start");
    let mut message = events[0]["message"].clone();
    let mut open: Option<(u64, Value, String)> = None;
    for event in &events[1..events.len() - 2] {
        let index = event["index"].as_u64().unwrap();
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert!(open.is_none(), "two open blocks");
                assert_eq!(index, message["content"].as_array().unwrap().len() as u64);
                open = Some((index, event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                let (at, block, json) = open.as_mut().unwrap();
                assert_eq!(*at, index);
                let delta = event["delta"].as_object().unwrap();
                for (field, value) in delta.iter().filter(|(field, _)| *field != "type") {
                    let more = value.as_str().unwrap();
                    match field.as_str() {
                        "partial_json" => json.push_str(more),
                        _ => block[field] = (block[field].as_str().unwrap().to_owned() + more).into(),
                    }
                }
            }
            "content_block_stop" => {
                let (at, mut block, json) = open.take().unwrap();
                assert_eq!(at, index);
                if block["type"] == "tool_use" && !json.is_empty() {
                    block["input"] = serde_json::from_str(&json).unwrap();
                }
                message["content"].as_array_mut().unwrap().push(block);
            }
            other => panic!("{other} among the blocks"),
        }
    }
    assert!(open.is_none());
    let [delta, last] = &events[events.len() - 2..] else { panic!("too short") };
    assert_eq!((&delta["type"], last), (&json!("message_delta"), &json!({"type": "message_stop"})));
    for field in ["stop_reason", "stop_sequence"] {
        message[field] = delta["delta"][field].clone();
    }
    message["usage"] = delta["usage"].clone();
    message
}

/// The message, made both ways.
fn both(extra: Value, parts: Vec<Part>, end: End) -> Value {
    let script = script(parts, end);
    let whole = whole(&call(extra.clone()), script.clone());
    assert_eq!(assemble(&events(call(extra), script)), whole);
    whole
}

#[test]
fn blocks_come_in_the_order_in_which_they_were_said() {
    let mut parts = vec![thought("a "), thought("b"), text("\n\n"), text("Let me"), text(" look.")];
    parts.extend(tool(0, r#"{"x": "é", "n": [1, 2]}"#, 200, true));
    parts.push(text("\n"));
    parts.extend(tool(1, "{}", 1, true));
    parts.extend([text("\n"), thought("c"), text(" Done. ")]);
    let message = both(json!({}), parts, stop());
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "a b", "signature": "millrace"},
            {"type": "text", "text": "\n\nLet me look."},
            {"type": "tool_use", "id": "call_0", "name": "f0", "input": {"x": "é", "n": [1, 2]}},
            {"type": "tool_use", "id": "call_1", "name": "f1", "input": {}},
            {"type": "thinking", "thinking": "c", "signature": "millrace"},
            {"type": "text", "text": " Done. "},
        ])
    );
    assert_eq!(message["stop_reason"], "tool_use");
    assert_eq!(message["type"], "message");
    assert_eq!(
        (&message["id"], &message["role"], &message["model"]),
        (&json!("msg_1"), &json!("assistant"), &json!("m"))
    );
}

#[test]
fn usage_keeps_cached_tokens_apart() {
    let message = both(json!({}), vec![text("x")], stop());
    assert_eq!(
        message["usage"],
        json!({
            "input_tokens": PROMPT - CACHED, "cache_creation_input_tokens": 0, "cache_read_input_tokens": CACHED,
            "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 2},
        })
    );
    let events = events(call(json!({})), script(vec![text("x")], stop()));
    let usage = &events[0]["message"]["usage"];
    assert_eq!((&usage["input_tokens"], &usage["cache_read_input_tokens"]), (&json!(5), &json!(4)));
    assert_eq!(usage["output_tokens"], 0);
    assert!(events[0]["message"]["stop_reason"].is_null());
}

#[test]
fn who_marks_what_to_cache_is_told_what_was() {
    let marked = json!({"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}]});
    let message = both(marked.clone(), vec![text("x")], stop());
    // Of 9 tokens 4 were cached, and two blocks of 4 are now.
    let of = |usage: &Value| ["input_tokens", "cache_creation_input_tokens"].map(|name| usage[name].clone());
    assert_eq!(of(&message["usage"]), [json!(1), json!(4)]);
    assert_eq!(message["usage"]["cache_read_input_tokens"], CACHED);
    let events = events(call(marked), script(vec![text("x")], stop()));
    assert_eq!(of(&events[0]["message"]["usage"]), [json!(1), json!(4)]);
}

#[test]
fn every_end_has_its_reason() {
    let end = |reason, stop| End { reason, stop };
    let reason = |parts: Vec<Part>, end| both(json!({"max_tokens": 3}), parts, end)["stop_reason"].clone();
    let three = || vec![text("a"), text("b"), text("c")];
    assert_eq!(reason(three(), stop()), "end_turn");
    assert_eq!(reason(three(), end(EndReason::Stop, Some(StopCause::Token(7)))), "end_turn");
    assert_eq!(reason(three(), end(EndReason::Length, None)), "max_tokens");
    assert_eq!(reason(vec![text("a")], end(EndReason::Length, None)), "model_context_window_exceeded");
    assert_eq!(reason(three(), end(EndReason::Abort, None)), "pause_turn");
    let matched = end(EndReason::Stop, Some(StopCause::Text("END".into())));
    let message = both(json!({}), three(), matched);
    assert_eq!(
        (&message["stop_reason"], &message["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
}

/// Clients run the calls of an answer that ended with `tool_use`, and some those of any answer that ended by itself.
#[test]
fn an_answer_with_a_broken_call_did_not_end_well() {
    let reason = |parts: Vec<Part>, stop| {
        let message = both(json!({}), parts, End { reason: EndReason::Stop, stop });
        message["stop_reason"].clone()
    };
    let mut calls = tool(0, "{}", 2, true);
    assert_eq!(reason(calls.clone(), None), "tool_use");
    calls.extend(tool(1, "{}", 2, false));
    assert_eq!(reason(calls.clone(), None), "max_tokens");
    assert_eq!(reason(calls, Some(StopCause::Text("END".into()))), "stop_sequence");
    assert_eq!(reason(tool(0, "{}", 2, false), None), "max_tokens");
}

/// Models write ids such as `functions.f:0`; Anthropic's have letters, digits, `_` and `-` only.
#[test]
fn ids_take_anthropics_form_and_come_back_as_they_were() {
    let ids = ["functions.f:0", "functions.f.0", "call_1-a", "é", "esc-x"];
    let part = |(index, id): (usize, &&str)| {
        [
            Part::ToolCall { index, id: (*id).into(), name: "f".into() },
            Part::ToolCallEnd { index, complete: true },
        ]
    };
    let message = both(json!({}), ids.iter().enumerate().flat_map(part).collect(), stop());
    let calls = message["content"].as_array().unwrap();
    let shown: Vec<_> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
    let plain = |id: &&str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    assert!(shown.iter().all(plain), "{shown:?}");
    assert_eq!(shown[2], "call_1-a");

    let results =
        shown.iter().map(|id| json!({"type": "tool_result", "tool_use_id": id})).collect::<Vec<_>>();
    let history = json!({"messages": [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": calls},
        {"role": "user", "content": results},
    ]});
    let Input::Chat(chat) = call(history).request.input else { panic!("not a conversation") };
    let called = chat.messages[1]["tool_calls"].as_array().unwrap().iter().map(|call| &call["id"]);
    assert_eq!(called.collect::<Vec<_>>(), ids);
    let answered = chat.messages[2..].iter().map(|result| &result["tool_call_id"]);
    assert_eq!(answered.collect::<Vec<_>>(), ids);
}

#[test]
fn white_space_takes_linear_time() {
    let mut call = call(json!({}));
    let blank = Delta { parts: vec![text("\n")], ..Delta::default() };
    let begin = Instant::now();
    for _ in 0..500_000 {
        assert!(call.encoder.frames(&head(), ChatEvent::Delta(Box::new(blank.clone()))).len() < 2);
        // Many times what it takes.
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn a_call_that_breaks_off_keeps_what_is_certain() {
    let parts = tool(0, r#"{"a": "x", "b": "y"#, 4, false);
    let message = whole(&call(json!({})), script(parts, End { reason: EndReason::Length, stop: None }));
    assert_eq!(message["content"][0]["input"], json!({"a": "x"}));
}

#[test]
fn thinking_can_be_kept_to_the_model() {
    let extra = json!({"thinking": {"type": "adaptive", "display": "omitted"}});
    let message = both(extra, vec![thought("secret"), text("x")], stop());
    assert_eq!(
        message["content"],
        json!([
            {"type": "thinking", "thinking": "", "signature": "millrace"}, {"type": "text", "text": "x"},
        ])
    );
}

#[test]
fn little_or_nothing_said() {
    assert_eq!(both(json!({}), vec![], stop())["content"], json!([]));
    assert_eq!(both(json!({}), vec![text(" "), text("\n")], stop())["content"][0]["text"], " \n");
    let message = both(json!({}), vec![thought("x"), text("\n\n")], stop());
    assert_eq!(message["content"].as_array().unwrap().len(), 1);
}

#[test]
fn a_failure_is_an_error_event() {
    let mut script = script(vec![text("x")], stop());
    script.truncate(2);
    script.push(ChatEvent::Error(ApiError::unavailable("Later.", 1)));
    let events = events(call(json!({})), script);
    let expected = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Later."}, "request_id": "req_1"});
    assert_eq!(events.last().unwrap(), &expected);
    assert!(events.iter().all(|event| event["type"] != "message_stop"));
}

#[test]
fn a_silent_stream_is_kept_alive_by_pings() {
    let ping = Frame { event: Some("ping"), data: r#"{"type":"ping"}"#.into() };
    assert_eq!(call(json!({})).encoder.ping(), Some(ping));
}
