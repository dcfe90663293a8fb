//! Structured output over real HTTP: what the engine is given holds the answer to what the request asked for.

use std::sync::Arc;

use crate::support::{
    MODEL, Setup, TestServer,
    engine::Plan,
    tokenizer::{EOS, VOCAB_SIZE},
};
use millrace_parse::Families;
use millrace_types::{Constraint, Request, TokenId};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

fn body(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

async fn server(tool: Option<&str>) -> TestServer {
    let families = Families::named(tool, None).unwrap();
    Setup { families, ..Setup::default() }.start(|_| Plan::say("x")).await
}

async fn plain() -> TestServer {
    server(Some("hermes")).await
}

/// What the engine gets for a request.
async fn given(server: &mut TestServer, path: &str, body: &Value) -> Arc<Request> {
    let reply = server.post(path, body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    server.engine.submitted().await
}

fn allows(constraint: &mut dyn Constraint, token: TokenId) -> bool {
    let mut mask = [0u32; VOCAB_SIZE.div_ceil(32)];
    constraint.mask(&mut mask).unwrap();
    mask[token as usize / 32] >> (token % 32) & 1 == 1
}

/// Whether a whole answer is allowed; tokens are bytes.
fn accepts(request: &Request, answer: &str) -> bool {
    let mut constraint = request.constraint.clone().expect("there is no constraint");
    answer.bytes().all(|byte| {
        let allowed = allows(&mut *constraint, TokenId::from(byte));
        allowed && constraint.commit(TokenId::from(byte)).is_ok()
    }) && allows(&mut *constraint, EOS)
}

#[tokio::test]
async fn every_way_to_ask_leads_to_a_constraint() {
    let mut server = plain().await;
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
                        "additionalProperties": false});
    let format =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": true}});
    for extra in [
        json!({"response_format": format}),
        json!({"structured_outputs": {"json": schema}}),
        json!({"guided_json": schema.to_string()}),
    ] {
        let request = given(&mut server, CHAT, &body(extra)).await;
        assert!(
            accepts(&request, "{\"a\": 12}") && !accepts(&request, "{\"b\": 12}") && !accepts(&request, "x")
        );
    }
    let prompt =
        json!({"model": MODEL, "prompt": "a", "structured_outputs": {"regex": "b+"}, "ignore_eos": true});
    let request = given(&mut server, "/v1/completions", &prompt).await;
    assert!(accepts(&request, "bb") && !accepts(&request, "a"));
    assert_eq!(request.sampling.eos_token_ids, [EOS]);
    assert!(given(&mut server, CHAT, &body(json!({}))).await.constraint.is_none());

    let anthropic = json!({"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                           "output_config": {"format": {"type": "json_schema", "schema": schema}}});
    let request = given(&mut server, "/v1/messages", &anthropic).await;
    assert!(accepts(&request, "{\"a\": 12}") && !accepts(&request, "x"));

    let metrics = server.get("/metrics").await.text;
    let count = |name: &str, count: u32| {
        metrics.contains(&format!("millrace:{name}{{model_name=\"{MODEL}\",engine=\"0\"}} {count}"))
    };
    assert!(count("grammar_cache_queries_total", 5) && count("grammar_cache_hits_total", 3), "{metrics}");
    assert!(count("grammar_compile_seconds_count", 2) && count("mask_time_seconds_count", 0));
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"], "additionalProperties": false,
        }}})
    };
    json!([tool("f"), tool("g")])
}

fn call(name: &str, x: u32) -> String {
    format!("<tool_call>\n{{\"name\": \"{name}\", \"arguments\": {{\"x\": {x}}}}}\n</tool_call>")
}

#[tokio::test]
async fn forced_calls_have_the_models_format() {
    let mut server = plain().await;
    let two = format!("{}\n{}", call("f", 1), call("g", 2));
    let forced = |choice: Value| body(json!({"tools": tools(), "tool_choice": choice}));
    let request = given(&mut server, CHAT, &forced(json!("required"))).await;
    assert!(accepts(&request, &call("g", 1)) && accepts(&request, &two));
    assert!(
        !accepts(&request, &call("g", 3)) && !accepts(&request, "no") && !accepts(&request, &call("h", 1))
    );

    let named = json!({"type": "function", "function": {"name": "g"}});
    let request = given(&mut server, CHAT, &forced(named)).await;
    assert!(accepts(&request, &call("g", 1)) && !accepts(&request, &call("f", 1)));

    let mut single = forced(json!("required"));
    single["parallel_tool_calls"] = json!(false);
    let request = given(&mut server, CHAT, &single).await;
    assert!(accepts(&request, &call("g", 1)) && !accepts(&request, &two));

    let any = json!({"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                     "tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}});
    let request = given(&mut server, "/v1/messages", &any).await;
    assert!(accepts(&request, &call("f", 7)) && !accepts(&request, "no"));
}

#[tokio::test]
async fn forced_calls_have_formats_that_are_no_json() {
    let schema = json!({"type": "object", "properties": {"x": {"type": "string"}, "n": {"type": "integer"}},
                        "required": ["x"], "additionalProperties": false});
    let asked = body(json!({
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}], "tool_choice": "required",
    }));
    for (family, good, bad) in [
        (
            "qwen3_coder",
            "<tool_call>\n<function=f>\n<parameter=x>\na < b\n</parameter>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
            "<tool_call>\n<function=f>\n<parameter=n>\n3\n</parameter>\n</function>\n</tool_call>",
        ),
        ("llama4_pythonic", "[f(x=\"a\", n=3)]", "[f(x=a)]"),
        (
            "kimi_k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{\"x\": \"a\"}\
             <|tool_call_end|><|tool_calls_section_end|>",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.f<|tool_call_argument_begin|>{\"x\": \"a\"}\
             <|tool_call_end|><|tool_calls_section_end|>",
        ),
        (
            "harmony",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.f \
             <|constrain|>json<|message|>{\"x\": \"a\"}",
            "<|channel|>final<|message|>{\"x\": \"a\"}",
        ),
    ] {
        let mut server = server(Some(family)).await;
        let request = given(&mut server, CHAT, &asked).await;
        assert!(accepts(&request, good), "{family}");
        assert!(!accepts(&request, bad) && !accepts(&request, "no"), "{family}");
    }
    // Without tools, a format is the final message.
    let mut server = server(Some("harmony")).await;
    let request = given(&mut server, CHAT, &body(json!({"guided_choice": ["yes", "no"]}))).await;
    assert!(accepts(&request, "<|channel|>final<|message|>yes") && !accepts(&request, "yes"));
}

#[tokio::test]
async fn strict_tools_hold_calls_and_leave_text_alone() {
    let mut server = plain().await;
    let mut list = tools();
    list[0]["function"]["strict"] = json!(true);
    let request = given(&mut server, CHAT, &body(json!({"tools": list}))).await;
    for good in
        ["no call", &format!("Well:\n{}", call("f", 1)), &format!("{}\n{}", call("f", 2), call("g", 9))]
    {
        assert!(accepts(&request, good), "{good}");
    }
    for bad in [call("f", 3), call("h", 1), "a <tool_call> b".to_owned()] {
        assert!(!accepts(&request, &bad), "{bad}");
    }

    let both = body(json!({"tools": list, "response_format": {"type": "json_object"}}));
    let request = given(&mut server, CHAT, &both).await;
    assert!(accepts(&request, "{}") && accepts(&request, &call("f", 1)) && !accepts(&request, "no call"));
}

/// Calls that begin like any other text: the text can't have what would be read as one.
#[tokio::test]
async fn strict_tools_hold_calls_without_marks() {
    let mut list = tools();
    list[0]["function"]["strict"] = json!(true);
    for (family, calls, bad) in [
        (
            "llama3_json",
            [r#"{"name": "f", "parameters": {"x": 1}}"#, r#"{"name": "f", "parameters": {"x": 2}}"#],
            r#"{"name": "f", "parameters": {"x": 3}}"#,
        ),
        (
            "json",
            [r#"[{"name": "f", "arguments": {"x": 1}}]"#, ""],
            r#"[{"name": "f", "arguments": {"x": 3}}]"#,
        ),
        ("pythonic", ["[f(x=1), g(y=9)]", ""], "[f(x=3)]"),
        ("llama4_pythonic", ["[f(x=2)]", ""], "[f(x=3)]"),
    ] {
        let mut server = server(Some(family)).await;
        let request = given(&mut server, CHAT, &body(json!({"tools": list}))).await;
        let called = format!("Well [1], f(x=3), {{}}:\n{}\n{}", calls[0], calls[1]);
        for good in ["no call", r#"{"x": {"y": [1]}} and [g] {"#, called.trim_end()] {
            assert!(accepts(&request, good), "{family}: {good}");
        }
        for bad in
            [bad, "<function=f>", r#"{"x": {"id": 1}}"#, r#"{ "name": "f""#, r#"{"n\u0061me""#, "[ f(x=1)]"]
        {
            let read = match family {
                "llama3_json" => !bad.starts_with("[ f"),
                "json" => bad.contains(['{']),
                "pythonic" => bad.contains("f("),
                _ => !bad.starts_with('<'),
            };
            assert_eq!(accepts(&request, bad), !read, "{family}: {bad}");
        }
    }
}

#[tokio::test]
async fn formats_that_cannot_be_derived_are_named() {
    for (family, extra, word) in [
        (
            "qwen3_coder",
            json!({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f", "parameters": {
                "type": "object", "properties": {"x": {"type": ["string", "integer"]}}}}}]}),
            "The tool `f` can't be forced or strict",
        ),
        ("harmony", json!({"guided_grammar": "start: \"a\""}), "A grammar can't be combined"),
    ] {
        let server = server(Some(family)).await;
        let mut list = tools();
        list[0]["function"]["strict"] = json!(true);
        let mut asked = body(json!({"tools": list}));
        asked.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let reply = server.post(CHAT, &asked).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.text.contains(word), "{}", reply.text);
    }
}

#[tokio::test]
async fn a_bad_format_is_refused_before_anything_runs() {
    let server = plain().await;
    for (extra, param, words) in [
        (
            json!({"structured_outputs": {"json": {"type": "array", "uniqueItems": true}}}),
            "structured_outputs.json",
            "uniqueItems",
        ),
        (json!({"guided_regex": "(?=a)"}), "guided_regex", "regular expression"),
        (json!({"guided_grammar": "start: x"}), "guided_grammar", "grammar"),
        (
            json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"not": {}}}}],
                   "tool_choice": "required"}),
            "tools",
            "can't be used",
        ),
    ] {
        let reply = server.post(CHAT, &body(extra)).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
        let error = reply.error();
        assert_eq!(error["param"], param, "{error}");
        assert!(error["message"].as_str().unwrap().contains(words), "{error}");
    }
}
