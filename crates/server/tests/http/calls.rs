//! Tool calls and reasoning, over real HTTP: whole and streamed answers say the same.

use std::collections::BTreeMap;

use crate::support::{
    MODEL, Setup, TestServer,
    engine::Plan,
    tokenizer::{EOS, PYTHON_TAG, SPECIAL, TEMPLATE, VOCAB_SIZE, harmony_tokenizer},
};
use millrace_engine::EngineInfo;
use millrace_parse::Families;
use millrace_types::Follow;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const THOUGHT: &str = "<think>\nHm.\n</think>\n\n";
const CALL: &str =
    "<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1, \"b\": [2, \"é\"]}}\n</tool_call>";
const OTHER: &str = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";

/// One token a byte: from the one that completes the opening tag to the end of the closing one.
fn reasoning_tokens() -> usize {
    THOUGHT.trim_end().len() - "<think".len()
}

fn body(extra: Value) -> Value {
    let mut body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn tools() -> Value {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {}}});
    json!([tool("add"), tool("now")])
}

async fn server(plan: impl Fn() -> Plan + Send + 'static) -> TestServer {
    let families = Families::named(Some("hermes"), Some("qwen3")).unwrap();
    Setup { families, ..Setup::default() }.start(move |_| plan()).await
}

async fn saying(text: String) -> TestServer {
    server(move || Plan::say(&text)).await
}

/// A message and its end, as a client would put it together from chunks.
#[derive(Debug, Default)]
struct Assembled {
    content: String,
    reasoning: String,
    calls: BTreeMap<u64, (Value, String)>,
    finish: Value,
    usage: Value,
}

impl Assembled {
    fn of(chunks: &[Value]) -> Self {
        let mut whole = Self::default();
        for chunk in chunks {
            if chunk["usage"].is_object() {
                whole.usage = chunk["usage"].clone();
            }
            let Some(choice) = chunk["choices"].get(0) else { continue };
            let delta = &choice["delta"];
            whole.content += delta["content"].as_str().unwrap_or("");
            whole.reasoning += delta["reasoning_content"].as_str().unwrap_or("");
            assert_eq!(delta["reasoning"], delta["reasoning_content"]);
            whole.finish = choice["finish_reason"].clone();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let entry = whole.calls.entry(call["index"].as_u64().unwrap()).or_insert_with(|| {
                    assert_eq!(call["type"], "function");
                    (json!([call["id"], call["function"]["name"]]), String::new())
                });
                entry.1 += call["function"]["arguments"].as_str().unwrap();
            }
        }
        whole
    }
}

/// Asks twice, whole and streamed, and checks that both say the same. Returns the whole choice, with its usage.
async fn both(server: &TestServer, extra: Value) -> (Value, Value) {
    let reply = server.post(CHAT, &body(extra.clone())).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let whole = reply.json();
    let mut streamed = body(extra);
    streamed["stream_options"] = json!({"include_usage": true});
    let got = Assembled::of(&server.stream(CHAT, &streamed).await.chunks().await);
    let choice = whole["choices"][0].clone();
    let message = &choice["message"];
    assert_eq!(message["content"].as_str().unwrap_or(""), got.content);
    assert_eq!(message["reasoning_content"].as_str().unwrap_or(""), got.reasoning);
    assert_eq!(message["reasoning"], message["reasoning_content"]);
    assert_eq!(choice["finish_reason"], got.finish);
    assert_eq!(whole["usage"], got.usage);
    let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    assert_eq!(calls.len(), got.calls.len());
    for (call, (head, arguments)) in calls.iter().zip(got.calls.values()) {
        assert_eq!(call["function"]["name"], head[1]);
        assert_eq!(call["function"]["arguments"], *arguments);
        assert!(head[0].as_str().unwrap().starts_with("call_"));
        assert_ne!(call["id"], head[0], "two answers must not share ids");
    }
    (choice, whole["usage"].clone())
}

#[tokio::test]
async fn calls_and_reasoning_are_fields() {
    let server = saying(format!("{THOUGHT}Let me see.\n{CALL}\n{OTHER}")).await;
    let (choice, usage) = both(&server, json!({"tools": tools()})).await;
    let message = &choice["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Let me see."), &json!("Hm.")));
    assert_eq!(choice["finish_reason"], "tool_calls");
    let functions: Vec<_> =
        message["tool_calls"].as_array().unwrap().iter().map(|call| call["function"].clone()).collect();
    let add = json!({"name": "add", "arguments": "{\"a\": 1, \"b\": [2, \"é\"]}"});
    assert_eq!(functions, [add, json!({"name": "now", "arguments": "{}"})]);
    assert!(message["tool_calls"][0].get("index").is_none());
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], reasoning_tokens());
}

#[tokio::test]
async fn calls_alone_have_no_content() {
    let server = saying(CALL.into()).await;
    let (choice, _) = both(&server, json!({"tools": tools()})).await;
    assert!(choice["message"]["content"].is_null() && choice["message"].get("reasoning").is_none());
    assert_eq!(choice["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn without_tools_only_reasoning_is_read() {
    let server = saying(format!("{THOUGHT}{CALL}")).await;
    for extra in [json!({}), json!({"tools": tools(), "tool_choice": "none"})] {
        let (choice, _) = both(&server, extra).await;
        assert_eq!(choice["message"]["content"], CALL);
        assert_eq!(choice["message"]["reasoning"], "Hm.");
        assert_eq!(choice["finish_reason"], "stop");
        assert!(choice["message"].get("tool_calls").is_none());
    }
}

#[tokio::test]
async fn reasoning_may_be_left_out() {
    let server = saying(format!("{THOUGHT}Yes.")).await;
    let (choice, usage) = both(&server, json!({"include_reasoning": false})).await;
    assert_eq!(choice["message"], json!({"role": "assistant", "content": "Yes.", "refusal": null}));
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], reasoning_tokens());
}

#[tokio::test]
async fn one_call_may_be_enough() {
    for plan in [Plan::say as fn(&str) -> Plan, Plan::say_at_once] {
        let mut server = server(move || plan(&format!("{CALL}{OTHER} and more"))).await;
        let (choice, usage) = both(&server, json!({"tools": tools(), "parallel_tool_calls": false})).await;
        assert_eq!(choice["message"]["tool_calls"].as_array().unwrap().len(), 1);
        assert_eq!(choice["finish_reason"], "tool_calls");
        assert!(choice["message"]["content"].is_null());
        // Tokens after the call aren't counted; the call is over with its arguments' object.
        let used = usage["completion_tokens"].as_u64().unwrap() as usize;
        assert!(used <= CALL.len() && used >= CALL.find("]}").unwrap(), "{used}");
        // Both requests stop there.
        let first = server.engine.aborted().await;
        assert_ne!(server.engine.aborted().await, first);
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_has_no_complete_call() {
    let server = saying(CALL.into()).await;
    let (choice, _) = both(&server, json!({"tools": tools(), "max_tokens": 55})).await;
    assert_eq!(choice["finish_reason"], "length");
    let arguments = choice["message"]["tool_calls"][0]["function"]["arguments"].as_str().unwrap();
    assert!("{\"a\": 1, \"b\": [2, \"é\"]}".starts_with(arguments) && arguments.len() > 4, "{arguments}");
}

#[tokio::test]
async fn stop_strings_see_what_the_model_writes() {
    let server = saying(format!("{THOUGHT}One. Two.\n{CALL}")).await;
    // In the answer, inside of reasoning, and inside of arguments.
    let (choice, _) = both(&server, json!({"tools": tools(), "stop": ["Two"]})).await;
    assert_eq!((&choice["message"]["content"], &choice["stop_reason"]), (&json!("One. "), &json!("Two")));
    let (choice, _) = both(&server, json!({"tools": tools(), "stop": ["m.\n</think>"]})).await;
    assert_eq!((&choice["message"]["content"], &choice["message"]["reasoning"]), (&json!(""), &json!("H")));
    let (choice, _) = both(&server, json!({"tools": tools(), "stop": ["\"b\""]})).await;
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], "{\"a\": 1, ");
    assert_eq!((&choice["finish_reason"], &choice["stop_reason"]), (&json!("stop"), &json!("\"b\"")));
}

#[tokio::test]
async fn the_prompt_says_where_the_answer_begins() {
    const OPENS: &str = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}";
    let families = Families::named(None, Some("qwen3")).unwrap();
    let setup = Setup { families, template: Some(OPENS), ..Setup::default() };
    let server = setup.start(|_| Plan::say("Hm.</think> Yes.")).await;
    let (choice, _) = both(&server, json!({})).await;
    let message = &choice["message"];
    assert_eq!((&message["reasoning"], &message["content"]), (&json!("Hm."), &json!("Yes.")));
    // Going on with a message: after its reasoning, and inside of it.
    let server = saying(" of course</think>x".into()).await;
    let continued = |text: &str| {
        json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": text}],
               "continue_final_message": true})
    };
    let (choice, _) = both(&server, continued("<think>Hm.</think>Yes")).await;
    assert_eq!(choice["message"]["content"], " of course</think>x");
    let (choice, _) = both(&server, continued("<think>Hm")).await;
    assert_eq!(
        (&choice["message"]["reasoning"], &choice["message"]["content"]),
        (&json!("of course"), &json!("x"))
    );
}

#[tokio::test]
async fn special_tokens_stay_hidden_unless_they_are_markup() {
    const CALL: &str = r#"{"name": "add", "parameters": {"a": 1}}"#;
    let plan = || {
        let call = CALL.bytes().map(u32::from);
        Plan::Say(vec![[SPECIAL, PYTHON_TAG].into_iter().chain(call).chain([EOS]).collect()])
    };
    let families = Families::named(Some("llama3_json"), None).unwrap();
    let server = Setup { families, ..Setup::default() }.start(move |_| plan()).await;
    let (choice, _) = both(&server, json!({"tools": tools()})).await;
    let function = &choice["message"]["tool_calls"][0]["function"];
    assert_eq!(*function, json!({"name": "add", "arguments": "{\"a\": 1}"}));
    assert!(choice["message"]["content"].is_null());
    // Whoever doesn't look for calls has no use for their marks.
    let (choice, _) = both(&server, json!({})).await;
    assert_eq!(choice["message"]["content"], CALL);
    // Whoever asks for special tokens gets those that mark nothing.
    let (choice, _) = both(&server, json!({"tools": tools(), "skip_special_tokens": false})).await;
    assert_eq!(choice["message"]["content"], "<special>");
    assert_eq!(choice["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn logprobs_line_up_with_tokens() {
    let text = format!("{THOUGHT}Yes.{CALL}");
    let server = saying(text.clone()).await;
    let (choice, usage) =
        both(&server, json!({"tools": tools(), "logprobs": true, "return_token_ids": true})).await;
    let tokens = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(tokens.len(), text.len() + 1);
    assert_eq!(usage["completion_tokens"], text.len() + 1);
    assert_eq!(choice["token_ids"].as_array().unwrap().len(), text.len() + 1);
}

#[tokio::test]
async fn text_completions_are_untouched() {
    let text = format!("{THOUGHT}{CALL}");
    let server = saying(text.clone()).await;
    let answer = server.post("/v1/completions", &json!({"prompt": "x", "max_tokens": 200})).await.json();
    assert_eq!(answer["choices"][0]["text"], text);
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn a_budget_leads_out_of_framed_reasoning() {
    const HARMONY: &str =
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.";
    let families = Families::named(Some("harmony"), Some("gpt_oss")).unwrap();
    let tokenizer = harmony_tokenizer();
    let info = EngineInfo { vocab_size: 264, ..Setup::default().info };
    let said = tokenizer.encode(HARMONY, false).unwrap();
    let tokens = |text: &str| tokenizer.encode(text, false).unwrap();
    let setup = Setup { families, info, tokenizer: tokenizer.clone(), ..Setup::default() };
    let mut server = setup.start(move |_| Plan::Say(vec![said.clone()])).await;
    for (extra, close, then) in [
        (json!({}), "<|end|><|start|>assistant<|channel|>final<|message|>", vec![]),
        (json!({"tools": tools()}), "<|end|><|start|>assistant<|channel|>", vec![b'f', b'c']),
    ] {
        let mut body = body(json!({"thinking_token_budget": 9}));
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let answer = server.post(CHAT, &body).await.json();
        let message = &answer["choices"][0]["message"];
        assert_eq!((&message["reasoning"], &message["content"]), (&json!("Hm."), &json!("Yes.")), "{answer}");
        let limit = server.engine.submitted().await.sampling.thinking.clone().unwrap();
        assert_eq!((limit.budget, limit.close), (9, tokens(close)));
        assert_eq!(limit.then, then.into_iter().map(u32::from).collect::<Vec<_>>());
        assert_eq!(turns(limit.follow, &tokens(HARMONY)), [10, 14]);
    }
}

/// Where reasoning begins and ends, as numbers of tokens.
fn turns(mut follow: Box<dyn Follow>, tokens: &[u32]) -> Vec<usize> {
    let turns = tokens.iter().enumerate().filter_map(|(index, token)| {
        let was = follow.inside();
        follow.append(*token);
        (was != follow.inside()).then_some(index + 1)
    });
    turns.collect()
}

/// Reasoning between sentences, which are many tokens each.
#[tokio::test]
async fn a_budget_leads_out_of_reasoning_that_is_marked_by_text() {
    const GRANITE: &str = "Here is my thought process:\nHm.\n\nHere is my response:\nYes.";
    const SAYS: &str = "{% for m in messages %}{{ m.content }}{% endfor %}{# Here is my thought process: #}";
    const OPENS: &str = "{% for m in messages %}{{ m.content }}{% endfor %}Here are my reasoning steps:\n";
    for (family, template, answer, close, marks) in [
        ("granite", SAYS, GRANITE, "\nHere is my response:", vec![27, 53]),
        ("granite", TEMPLATE, "<think>Hm.</think>Yes.", "\n</think>", vec![7, 18]),
        ("apriel", OPENS, "Hm.\n[BEGIN FINAL RESPONSE]\nYes.", "\n[BEGIN FINAL RESPONSE]", vec![26]),
    ] {
        let families = Families::named(None, Some(family)).unwrap();
        let setup = Setup { families, template: Some(template), ..Setup::default() };
        let mut server = setup.start(move |_| Plan::say(answer)).await;
        let reply = server.post(CHAT, &body(json!({"thinking_token_budget": 9}))).await.json();
        let message = &reply["choices"][0]["message"];
        assert_eq!((&message["reasoning"], &message["content"]), (&json!("Hm."), &json!("Yes.")), "{reply}");
        let limit = server.engine.submitted().await.sampling.thinking.clone().unwrap();
        let tokens = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
        assert_eq!((limit.budget, limit.close), (9, tokens(close)), "{family}");
        assert_eq!(turns(limit.follow, &tokens(answer)), marks, "{family}");
    }
}

/// A format begins behind the sentence that ends reasoning.
#[tokio::test]
async fn a_format_comes_behind_reasoning_that_is_marked_by_text() {
    const OPENS: &str = "{% for m in messages %}{{ m.content }}{% endfor %}Here are my reasoning steps:\n";
    let families = Families::named(None, Some("apriel")).unwrap();
    let setup = Setup { families, template: Some(OPENS), ..Setup::default() };
    let mut server = setup.start(|_| Plan::say("Hm.\n[BEGIN FINAL RESPONSE]\ntrue")).await;
    let reply = server.post(CHAT, &body(json!({"structured_outputs": {"choice": ["true"]}}))).await.json();
    assert_eq!(reply["choices"][0]["message"]["content"], "true", "{reply}");
    let mut held = server.engine.submitted().await.constraint.clone().unwrap();
    let mut allowed = |text: &str| {
        text.bytes().for_each(|byte| held.commit(byte.into()).unwrap());
        let mut mask = [0; VOCAB_SIZE.div_ceil(32)];
        held.mask(&mut mask).unwrap();
        (0..=255_u8).filter(|byte| mask[usize::from(*byte) / 32] >> (byte % 32) & 1 == 1).count()
    };
    assert_eq!(allowed("I think:\n[BEGIN"), 256);
    // Two line breaks may come before it.
    assert_eq!((allowed(" FINAL RESPONSE]"), allowed("\n\n"), allowed("t")), (2, 1, 1));
}
