//! OpenAI's Responses API over real HTTP with a scripted engine: what can only be seen when the engine misbehaves or
//! holds still.

use std::time::Duration;

use millrace_parse::Families;
use millrace_server::ServerConfig;
use millrace_types::FinishReason;
use serde_json::{Value, json};

use crate::support::{
    MODEL, Setup, TestServer,
    client::{Reply, Stream, json_request, request},
    engine::Plan,
    saying,
};

const PATH: &str = "/v1/responses";

fn body(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "input": "hi", "max_output_tokens": 50});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn events(mut stream: Stream) -> Vec<Value> {
    assert_eq!(stream.status, 200);
    let mut events = Vec::new();
    while let Some(event) = stream.event().await {
        assert_eq!(event["sequence_number"], events.len());
        events.push(event);
    }
    events
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

/// All but what differs each time.
fn plain(mut response: Value) -> Value {
    for field in ["id", "created_at", "completed_at"] {
        response[field] = Value::Null;
    }
    for item in response["output"].as_array_mut().unwrap() {
        item["id"] = Value::Null;
        item.as_object_mut().unwrap().remove("call_id");
    }
    response
}

async fn start(script: impl Fn() -> Plan + Send + 'static) -> TestServer {
    Setup::default().start(move |_| script()).await
}

async fn get(server: &TestServer, id: &Value) -> Reply {
    server.get(&format!("{PATH}/{}", id.as_str().unwrap())).await
}

async fn post(server: &TestServer, id: &Value, action: &str) -> Reply {
    server.send(request("POST", &format!("{PATH}/{}/{action}", id.as_str().unwrap()), &[], "")).await
}

#[tokio::test]
async fn an_answer_goes_through_template_engine_and_back() {
    let mut server = saying("Grüße!").await;
    let asked = body(json!({"instructions": "Be kind.", "reasoning": {"effort": "none"}, "top_k": 3}));
    let whole = server.post(PATH, &asked).await.json();
    let prompt = "[no thinking]<system>Be kind.;<user>hi;<assistant>";
    let request = server.engine.submitted().await;
    assert_eq!(request.prompt, prompt.bytes().map(u32::from).collect::<Vec<_>>());
    assert_eq!((request.sampling.max_tokens, request.sampling.top_k), (50, 3));
    let part = json!({"type": "output_text", "text": "Grüße!", "annotations": [], "logprobs": []});
    assert_eq!(whole["output"][0]["content"], json!([part]));
    assert_eq!((&whole["status"], &whole["instructions"]), (&json!("completed"), &json!("Be kind.")));
    // Eight bytes and the end; the mock engine has one token cached.
    let usage = json!({
        "input_tokens": prompt.len(), "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt.len() + 9,
    });
    assert_eq!(whole["usage"], usage);
    let events = events(server.stream(PATH, &asked).await).await;
    let kinds = kinds(&events);
    assert_eq!(
        kinds[..5],
        ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    );
    let end = ["output_text.done", "content_part.done", "output_item.done", "completed"];
    assert_eq!(kinds[kinds.len() - 4..], end);
    assert_eq!(plain(events.last().unwrap()["response"].clone()), plain(whole));
}

#[tokio::test]
async fn streamed_and_whole_say_the_same_whatever_is_said() {
    let texts: [&'static str; 9] = [
        "",
        "  \n ",
        "plain",
        "<think>\nwhy\n</think>\n\nbecause",
        "<think>only thought",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>",
        "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"b\": [\"ü\"]}}\n</tool_call>",
        "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": ",
        "<think>a</think>  \n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call> and then?",
    ];
    let families = || Families::named(Some("hermes"), Some("qwen3")).unwrap();
    let tools = json!([{"type": "function", "name": "f", "parameters": {"type": "object"}}]);
    for text in texts {
        for at_once in [false, true] {
            let plan = move |_: &_| if at_once { Plan::say_at_once(text) } else { Plan::say(text) };
            let server = Setup { families: families(), ..Setup::default() }.start(plan).await;
            for limit in [6, 30, 400] {
                let include = json!(["message.output_text.logprobs", "reasoning.encrypted_content"]);
                let asked = body(json!({
                    "tools": tools, "max_output_tokens": limit, "reasoning": {"summary": "auto"}, "include": include,
                }));
                let whole = server.post(PATH, &asked).await.json();
                let events = events(server.stream(PATH, &asked).await).await;
                assert_eq!(plain(events.last().unwrap()["response"].clone()), plain(whole.clone()), "{text}");
                let broken =
                    whole["output"].as_array().unwrap().iter().any(|item| item["status"] != "completed");
                assert!(!broken || whole["status"] == "incomplete", "{whole}");
            }
        }
    }
}

#[tokio::test]
async fn failures_are_events_or_errors_and_never_success() {
    let server = start(|| Plan::Fail(b"so far".map(u32::from).to_vec(), "the device is gone")).await;
    let reply = server.post(PATH, &body(json!({}))).await;
    assert_eq!((reply.status, reply.error()["type"].clone()), (500, json!("InternalServerError")));
    let events = events(server.stream(PATH, &body(json!({}))).await).await;
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["error"], json!({"code": "server_error", "message": "the device is gone"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    // The client knows its id, and may look it up.
    let stored = get(&server, &last["response"]["id"]).await.json();
    assert_eq!(stored, last["response"]);
    let background = server.post(PATH, &body(json!({"background": true}))).await.json();
    let ended = until_final(&server, &background["id"]).await;
    assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("failed"), &json!("server_error")));
}

/// The answer once it has ended: cancelling waits for that.
async fn until_final(server: &TestServer, id: &Value) -> Value {
    post(server, id, "cancel").await;
    let response = get(server, id).await.json();
    assert_ne!(response["status"], "in_progress");
    response
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_unless_it_is_in_the_background() {
    let mut server = start(|| Plan::Hold).await;
    let mut stream = server.stream(PATH, &body(json!({}))).await;
    stream.event().await.unwrap();
    let request = server.engine.submitted().await;
    drop(stream);
    assert_eq!(server.engine.aborted().await, request.id);

    let mut stream = server.stream(PATH, &body(json!({"background": true}))).await;
    let id = stream.event().await.unwrap()["response"]["id"].clone();
    let request = server.engine.submitted().await;
    drop(stream);
    server.engine.say(request.id, "still here");
    let mut again = server.open(request_stream(&id, 3)).await;
    // Events 0 to 3 are its three states and the item.
    assert_eq!(again.event().await.unwrap()["sequence_number"], 4);
    server.engine.finish(request.id, FinishReason::Stop);
    let rest = {
        let mut all = Vec::new();
        while let Some(event) = again.event().await {
            all.push(event);
        }
        all
    };
    assert_eq!(rest.last().unwrap()["type"], "response.completed");
    assert_eq!(get(&server, &id).await.json(), rest.last().unwrap()["response"]);
}

fn request_stream(id: &Value, after: usize) -> hyper::Request<http_body_util::Full<hyper::body::Bytes>> {
    let path = format!("{PATH}/{}?stream=true&starting_after={after}", id.as_str().unwrap());
    request("GET", &path, &[], "")
}

#[tokio::test]
async fn cancelling_ends_what_waits_and_what_runs() {
    for plan in [|| Plan::Queue, || Plan::Hold] {
        let mut server = start(plan).await;
        let answer = server.post(PATH, &body(json!({"background": true}))).await.json();
        assert_eq!(answer["status"], "queued");
        let running = server.engine.submitted().await;
        let early = server.post(PATH, &body(json!({"previous_response_id": answer["id"]}))).await;
        assert_eq!((early.status, early.error()["param"].clone()), (400, json!("previous_response_id")));
        let cancelled = post(&server, &answer["id"], "cancel").await.json();
        assert_eq!((&cancelled["status"], &cancelled["id"]), (&json!("cancelled"), &answer["id"]));
        assert_eq!(server.engine.aborted().await, running.id);
        server.app.service().idle().await;
    }
}

#[tokio::test]
async fn a_deadline_is_a_408_or_a_failed_answer() {
    let config = ServerConfig { request_timeout: Some(Duration::from_millis(20)), ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start(|_| Plan::Hold).await;
    assert_eq!(server.post(PATH, &body(json!({}))).await.status, 408);
    let events = events(server.stream(PATH, &body(json!({}))).await).await;
    assert_eq!(kinds(&events), ["created", "in_progress", "failed"]);
}

#[tokio::test]
async fn answers_belong_to_the_key_that_made_them() {
    let config = ServerConfig { api_keys: vec!["one".into(), "two".into()], ..ServerConfig::default() };
    let server = Setup { config, ..Setup::default() }.start(|_| Plan::say("x")).await;
    let with = |key: &str, method: &str, path: &str, body: &Value| {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
        server.client.send(request(method, path, &headers, &body.to_string()))
    };
    let made = with("one", "POST", PATH, &body(json!({}))).await.json();
    let path = format!("{PATH}/{}", made["id"].as_str().unwrap());
    let follow = body(json!({"previous_response_id": made["id"]}));
    let item = body(json!({"input": [{"type": "item_reference", "id": made["output"][0]["id"]}]}));
    for (method, path, body) in [
        ("GET", path.clone(), json!({})),
        ("DELETE", path.clone(), json!({})),
        ("POST", format!("{path}/cancel"), json!({})),
        ("GET", format!("{path}/input_items"), json!({})),
        ("POST", PATH.into(), follow.clone()),
        ("POST", PATH.into(), item.clone()),
    ] {
        assert_eq!(with("two", method, &path, &body).await.status, 404, "{method} {path}");
    }
    assert_eq!(with("one", "POST", PATH, &follow).await.status, 200);
    assert_eq!(with("one", "POST", PATH, &item).await.status, 200);
    assert_eq!(with("one", "DELETE", &path, &json!({})).await.json()["deleted"], true);
    assert_eq!(with("one", "GET", &path, &json!({})).await.status, 404);
}

#[tokio::test]
async fn a_context_that_is_too_small_is_cut_from_the_front() {
    let mut server = saying("x").await;
    let mut input: Vec<Value> =
        (0..9).map(|n| json!({"role": "user", "content": format!("{n}").repeat(90)})).collect();
    input.push(json!({"role": "user", "content": "last"}));
    let reply = server.post(PATH, &body(json!({"input": input}))).await;
    assert!(reply.status == 400 && reply.error()["message"].as_str().unwrap().contains("maximum context"));
    let cut = body(json!({"input": input, "truncation": "auto", "max_output_tokens": 100}));
    assert_eq!(server.post(PATH, &cut).await.status, 200);
    let prompt = server.engine.submitted().await.prompt.clone();
    let text: String = prompt.iter().map(|byte| char::from(u8::try_from(*byte).unwrap())).collect();
    // As much as fits beside 100 tokens of an answer: four of the long ones.
    assert!(text.starts_with("<user>5555") && text.contains("last"), "{text}");
    let hopeless = body(json!({"input": "x".repeat(600), "truncation": "auto"}));
    assert_eq!(server.post(PATH, &hopeless).await.status, 400);
}

#[tokio::test]
async fn wrong_bodies_and_paths_are_told_in_openais_shape() {
    let server = saying("x").await;
    let reply = server.send(json_request(PATH, &json!([]))).await;
    assert_eq!((reply.status, reply.error()["type"].clone()), (400, json!("BadRequestError")));
    for (method, path, status) in [
        ("GET", "/v1/responses/resp_x", 404),
        ("DELETE", "/v1/responses/resp_x", 404),
        ("POST", "/v1/responses/resp_x/cancel", 404),
        ("GET", "/v1/responses/resp_x/input_items", 404),
        ("GET", "/v1/responses/resp_x/input_items?limit=0", 400),
        ("GET", "/v1/responses/resp_x?stream=maybe", 400),
        ("GET", PATH, 405),
    ] {
        let reply = server.send(request(method, path, &[], "")).await;
        assert_eq!(reply.status, status, "{method} {path}");
        reply.error();
    }
}
