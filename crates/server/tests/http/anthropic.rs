//! Anthropic's API over real HTTP: messages whole and streamed, counting, models, and errors from every layer.

use std::time::Duration;

use crate::support::{
    MODEL, Setup, TestServer,
    client::{Reply, Stream, json_request, request},
    engine::Plan,
    saying,
};
use millrace_api::Limits;
use millrace_engine::EngineInfo;
use millrace_parse::Families;
use millrace_server::ServerConfig;
use millrace_types::FinishReason;
use serde_json::{Value, json};

const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

fn body(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn events(mut stream: Stream) -> Vec<Value> {
    let mut events = Vec::new();
    while let Some(event) = stream.event().await {
        events.push(event);
    }
    events
}

fn assert_error(reply: &Reply, status: u16, kind: &str, message: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    let body = reply.json();
    let id = reply.headers["request-id"].to_str().unwrap();
    assert_eq!(reply.headers["x-request-id"], id);
    assert_eq!((&body["type"], &body["request_id"]), (&json!("error"), &json!(id)), "{body}");
    assert_eq!(body["error"]["type"], kind, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains(message), "{body}");
    assert_eq!(reply.headers["content-type"], "application/json");
}

async fn with_config(config: ServerConfig, script: fn() -> Plan) -> TestServer {
    Setup { config, ..Setup::default() }.start(move |_| script()).await
}

#[tokio::test]
async fn a_message_goes_through_template_engine_and_back() {
    let mut server = saying("Grüße!").await;
    let asked = body(json!({"system": "Be kind.", "top_k": 3, "stop_sequences": ["X"]}));
    let reply = server.post(MESSAGES, &asked).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.headers["request-id"], reply.headers["x-request-id"]);
    let message = reply.json();
    let prompt = "[no thinking]<system>Be kind.;<user>hi;<assistant>";
    let request = server.engine.submitted().await;
    assert_eq!(request.prompt, prompt.bytes().map(u32::from).collect::<Vec<_>>());
    assert_eq!((request.sampling.max_tokens, request.sampling.top_k), (50, 3));
    assert!(message["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(message["content"], json!([{"type": "text", "text": "Grüße!"}]));
    assert_eq!((&message["stop_reason"], &message["stop_sequence"]), (&json!("end_turn"), &Value::Null));
    // Eight bytes and the end; the mock engine has one token cached.
    assert_eq!(message["usage"]["input_tokens"], prompt.len() - 1);
    assert_eq!(message["usage"]["cache_read_input_tokens"], 1);
    assert_eq!(message["usage"]["output_tokens"], 9);

    let events = events(server.stream(MESSAGES, &asked).await).await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["message_start", "content_block_start"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, "Grüße!");
    assert_eq!(events[events.len() - 2]["usage"], message["usage"]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], message["usage"]["input_tokens"]);
}

#[tokio::test]
async fn stop_sequences_and_lengths_are_told_apart() {
    let server = saying("one two three").await;
    let reply = server.post(MESSAGES, &body(json!({"stop_sequences": ["zzz", " th"]}))).await.json();
    assert_eq!(reply["content"][0]["text"], "one two");
    assert_eq!((&reply["stop_reason"], &reply["stop_sequence"]), (&json!("stop_sequence"), &json!(" th")));
    let reply = server.post(MESSAGES, &body(json!({"max_tokens": 3}))).await.json();
    assert_eq!((&reply["content"][0]["text"], &reply["stop_reason"]), (&json!("one"), &json!("max_tokens")));

    let setup = Setup::default();
    let info = EngineInfo { max_model_len: 40, ..setup.info.clone() };
    let small = Setup { info, ..setup }.start(|_| Plan::say("one two three")).await;
    let reply = small.post(MESSAGES, &body(json!({"max_tokens": 32_000}))).await.json();
    assert_eq!(reply["stop_reason"], "model_context_window_exceeded");
    let long = body(json!({"messages": [{"role": "user", "content": "x".repeat(50)}]}));
    assert_error(&small.post(MESSAGES, &long).await, 400, "invalid_request_error", "maximum context length");
}

#[tokio::test]
async fn an_answer_that_was_begun_goes_on() {
    let mut server = saying("42.").await;
    let begun = json!({"messages": [
        {"role": "user", "content": "?"}, {"role": "assistant", "content": "It is"},
    ]});
    let reply = server.post(MESSAGES, &body(begun)).await;
    assert_eq!(reply.json()["content"][0]["text"], "42.");
    let prompt = "[no thinking]<user>?;<assistant>It is";
    assert_eq!(server.engine.submitted().await.prompt, prompt.bytes().map(u32::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn late_system_messages_reach_models_that_know_none() {
    const STRICT: &str = "{%- for m in messages -%}{%- if m.role == 'system' and not loop.first -%}\
        {{ raise_exception('system first') }}{%- endif -%}<{{ m.role }}>{{ m.content }};{%- endfor -%}<assistant>";
    let late = json!({"system": "a", "messages": [
        {"role": "user", "content": "b"}, {"role": "system", "content": "c"}, {"role": "user", "content": "d"},
    ]});
    let prompt = async |setup: Setup| {
        let mut server = setup.start(|_| Plan::say("x")).await;
        let reply = server.post(MESSAGES, &body(late.clone())).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let tokens = server.engine.submitted().await.prompt.clone();
        String::from_utf8(tokens.iter().map(|id| *id as u8).collect()).unwrap()
    };
    let strict = Setup { template: Some(STRICT), ..Setup::default() };
    assert_eq!(prompt(strict).await, "<system>a;<user>b\n\nc\n\nd;<assistant>");
    let known = prompt(Setup::default()).await;
    assert_eq!(known, "[no thinking]<system>a;<user>b;<system>c;<user>d;<assistant>");
}

#[tokio::test]
async fn counting_says_what_the_request_will_use() {
    let server = saying("x").await;
    for extra in [
        json!({}),
        json!({"system": [{"type": "text", "text": "Be kind."}], "thinking": {"type": "adaptive"}}),
        json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    ] {
        let asked = body(extra);
        let mut counted = asked.clone();
        counted.as_object_mut().unwrap().remove("max_tokens");
        let count = server.post(COUNT, &counted).await;
        assert_eq!(count.status, 200, "{}", count.text);
        let usage = server.post(MESSAGES, &asked).await.json()["usage"].clone();
        let used =
            usage["input_tokens"].as_u64().unwrap() + usage["cache_read_input_tokens"].as_u64().unwrap();
        assert_eq!(count.json(), json!({ "input_tokens": used }));
    }
    assert_error(
        &server.post(COUNT, &json!({"model": MODEL})).await,
        400,
        "invalid_request_error",
        "messages: ",
    );
}

#[tokio::test]
async fn errors_of_every_layer_have_one_shape() {
    let config = ServerConfig {
        api_keys: vec!["key".into()],
        limits: Limits { max_body_bytes: 1000, ..Limits::default() },
        ..ServerConfig::default()
    };
    let server = with_config(config, || Plan::say("x")).await;
    let send = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("x-api-key", "key"), ("content-type", "application/json")];
        all.extend(headers);
        server.send(request(method, path, &all, body)).await
    };
    let ok = body(json!({})).to_string();
    assert_eq!(
        send("POST", "/v1/messages?beta=true", &[("anthropic-beta", "x-1,y-2")], &ok).await.status,
        200
    );
    let bearer = [("authorization", "Bearer key"), ("content-type", "application/json")];
    assert_eq!(server.send(request("POST", MESSAGES, &bearer, &ok)).await.status, 200);

    let none = server.send(json_request(MESSAGES, &body(json!({})))).await;
    assert_error(&none, 401, "authentication_error", "x-api-key");
    let none = server.send(json_request(COUNT, &body(json!({})))).await;
    assert_error(&none, 401, "authentication_error", "x-api-key");
    let none = server.send(request("GET", "/v1/models", &[VERSION], "")).await;
    assert_error(&none, 401, "authentication_error", "x-api-key");
    let long = body(json!({"system": "x".repeat(1000)})).to_string();
    assert_error(&send("POST", MESSAGES, &[], &long).await, 413, "request_too_large", "at most 1000 bytes");
    assert_error(&send("POST", MESSAGES, &[], "{").await, 400, "invalid_request_error", "not valid JSON");
    assert_error(&send("GET", MESSAGES, &[], "").await, 405, "invalid_request_error", "GET");
    assert_error(&send("POST", "/v1/messages/batches", &[], "").await, 404, "not_found_error", "batches");
    assert_error(&send("POST", "/v1/complete", &[VERSION], "").await, 404, "not_found_error", "complete");
    let other = body(json!({"model": "other"})).to_string();
    assert_error(&send("POST", MESSAGES, &[], &other).await, 404, "not_found_error", "other");
    let missing = send("GET", "/v1/models/other", &[VERSION], "").await;
    assert_error(&missing, 404, "not_found_error", "other");

    // Everybody else's errors stay OpenAI's.
    let plain = server.post("/v1/messagesx", &json!({})).await;
    assert_eq!(plain.error()["type"], "NotFoundError");
    assert!(!plain.headers.contains_key("request-id"));
}

#[tokio::test]
async fn thinking_and_calls_are_blocks() {
    const ANSWER: &str = "<think>\nHm.\n</think>\n\nLet me see.\n<tool_call>\n{\"name\": \"add\", \"arguments\": \
                          {\"a\": 1}}\n</tool_call>\n<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>";
    let families = Families::named(Some("hermes"), Some("qwen3")).unwrap();
    let server = Setup { families, ..Setup::default() }.start(|_| Plan::say(ANSWER)).await;
    let asked = body(json!({
        "max_tokens": 400, "thinking": {"type": "adaptive"},
        "tools": [{"name": "add", "input_schema": {"type": "object"}}],
    }));
    let message = server.post(MESSAGES, &asked).await.json();
    let content = message["content"].as_array().unwrap();
    let kinds: Vec<_> = content.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["thinking", "text", "tool_use", "tool_use"]);
    assert_eq!(content[0]["thinking"].as_str().unwrap().trim(), "Hm.");
    assert_eq!(content[1]["text"].as_str().unwrap().trim(), "Let me see.");
    assert_eq!((&content[2]["name"], &content[2]["input"]), (&json!("add"), &json!({"a": 1})));
    assert_eq!(message["stop_reason"], "tool_use");
    assert!(message["usage"]["output_tokens_details"]["thinking_tokens"].as_u64().unwrap() > 4);

    let events = events(server.stream(MESSAGES, &asked).await).await;
    let starts: Vec<_> = events.iter().filter(|event| event["type"] == "content_block_start").collect();
    assert_eq!(starts.iter().map(|event| &event["content_block"]["type"]).collect::<Vec<_>>(), kinds);
    let json: String = events
        .iter()
        .filter(|event| event["index"] == 2)
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    assert_eq!(json, "{\"a\": 1}");
    assert_eq!(events[events.len() - 2]["usage"], message["usage"]);

    let mut single = asked.clone();
    single["tool_choice"] = json!({"type": "auto", "disable_parallel_tool_use": true});
    let message = server.post(MESSAGES, &single).await.json();
    assert_eq!(
        (message["content"].as_array().unwrap().len(), &message["stop_reason"]),
        (3, &json!("tool_use"))
    );
}

#[tokio::test]
async fn calls_need_a_format_to_be_forced() {
    let server = saying("x").await;
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "f"})] {
        let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
        let reply = server.post(MESSAGES, &body(json!({"tools": tools, "tool_choice": choice}))).await;
        assert_error(&reply, 400, "invalid_request_error", "tool-call format");
    }
}

#[tokio::test]
async fn a_full_queue_is_an_overload() {
    let setup = Setup::default();
    let info = EngineInfo { max_queued: 1, ..setup.info.clone() };
    let mut server = Setup { info, ..setup }.start(|_| Plan::Queue).await;
    let waiting = server.stream(MESSAGES, &body(json!({}))).await;
    assert_eq!(waiting.status, 200);
    server.engine.submitted().await;
    for extra in [json!({}), json!({"stream": true})] {
        let reply = server.post(MESSAGES, &body(extra)).await;
        assert_error(&reply, 529, "overloaded_error", "busy");
        assert_eq!(reply.headers["retry-after"], "1");
    }
}

#[tokio::test]
async fn failures_and_time_limits_are_told_whole_and_in_the_stream() {
    let server = Setup::default().start(|_| Plan::Fail(vec![97], "The device is on fire.")).await;
    assert_error(&server.post(MESSAGES, &body(json!({}))).await, 500, "api_error", "on fire");
    let stream = server.stream(MESSAGES, &body(json!({}))).await;
    let id = stream.headers["request-id"].to_str().unwrap().to_owned();
    let last = events(stream).await.pop().unwrap();
    let error = json!({"type": "api_error", "message": "The device is on fire."});
    assert_eq!(last, json!({"type": "error", "error": error, "request_id": id}));

    let config = ServerConfig { request_timeout: Some(Duration::from_millis(1)), ..ServerConfig::default() };
    let server = with_config(config, || Plan::Hold).await;
    assert_error(&server.post(MESSAGES, &body(json!({}))).await, 504, "timeout_error", "time limit");
}

#[tokio::test]
async fn silence_is_filled_with_pings_and_leaving_aborts() {
    let config = ServerConfig { keep_alive: Duration::from_millis(1), ..ServerConfig::default() };
    let mut server = with_config(config, || Plan::Hold).await;
    let mut stream = server.stream(MESSAGES, &body(json!({}))).await;
    let held = server.engine.submitted().await;
    for _ in 0..3 {
        assert_eq!(stream.event().await, Some(json!({"type": "ping"})));
    }
    server.engine.say(held.id, "a");
    let mut next = stream.event().await.unwrap();
    while next["type"] == "ping" {
        next = stream.event().await.unwrap();
    }
    assert_eq!(next["type"], "message_start");
    drop(stream);
    assert_eq!(server.engine.aborted().await, held.id);
    server.app.service().idle().await;
}

#[tokio::test]
async fn a_cancelled_message_ends_as_paused() {
    let mut server = with_config(ServerConfig::default(), || Plan::Hold).await;
    let stream = server.stream(MESSAGES, &body(json!({}))).await;
    let held = server.engine.submitted().await;
    server.engine.say(held.id, "a");
    server.engine.finish(held.id, FinishReason::Abort);
    let events = events(stream).await;
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "pause_turn");
}

#[tokio::test]
async fn models_take_the_shape_that_the_client_knows() {
    let server = saying("x").await;
    let get = async |path: &str| server.send(request("GET", path, &[VERSION], "")).await;
    let page = get("/v1/models").await.json();
    let ids: Vec<_> = page["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(ids, [json!(MODEL), json!("alias")]);
    assert_eq!(
        (&page["has_more"], &page["first_id"], &page["last_id"]),
        (&json!(false), &json!(MODEL), &json!("alias"))
    );
    let one = get("/v1/models?limit=1&lifecycle=active").await.json();
    assert_eq!((&one["has_more"], &one["last_id"]), (&json!(true), &json!(MODEL)));
    let next = get(&format!("/v1/models?limit=1&after_id={MODEL}")).await.json();
    assert_eq!((&next["has_more"], &next["first_id"]), (&json!(false), &json!("alias")));
    assert_error(&get("/v1/models?limit=0").await, 400, "invalid_request_error", "limit");
    let model = get(&format!("/v1/models/{MODEL}")).await.json();
    assert_eq!(model, page["data"][0]);
    assert_eq!((&model["type"], &model["max_input_tokens"]), (&json!("model"), &json!(512)));
    assert_eq!(server.get("/v1/models").await.json()["object"], "list");
}
