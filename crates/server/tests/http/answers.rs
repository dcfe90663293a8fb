//! What answers look like, over real HTTP: whole and streamed, all options.

use crate::support::{
    MODEL, Setup, TestServer,
    engine::Plan,
    saying,
    tokenizer::{self, EOS, SPECIAL, TEMPLATE},
};
use serde_json::{Value, json};

fn chat(content: &str) -> Value {
    json!({"model": MODEL, "messages": [{"role": "user", "content": content}]})
}

fn with(mut body: Value, extra: Value) -> Value {
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

/// The choices of a stream, put together as a client would.
fn assemble(chunks: &[Value], text_of: fn(&Value) -> &Value, choices: usize) -> Vec<(String, Value, Value)> {
    let mut whole = vec![(String::new(), Value::Null, Value::Null); choices];
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let (text, finish, stop) = &mut whole[choice["index"].as_u64().unwrap() as usize];
        assert!(finish.is_null(), "text after the end: {choice}");
        text.push_str(text_of(choice).as_str().unwrap_or(""));
        *finish = choice["finish_reason"].clone();
        *stop = choice.get("stop_reason").cloned().unwrap_or(Value::Null);
    }
    whole
}

/// Asks twice, whole and streamed, and checks that both say the same. Returns the whole answer.
async fn both(server: &TestServer, path: &str, body: Value) -> Value {
    let reply = server.post(path, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let whole = reply.json();
    let streamed = with(body, json!({"stream_options": {"include_usage": true}}));
    let mut chunks = server.stream(path, &streamed).await.chunks().await;
    let last = chunks.pop().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"], whole["usage"]);
    let choices = whole["choices"].as_array().unwrap();
    let text_of: fn(&Value) -> &Value =
        if path == CHAT { |choice| &choice["delta"]["content"] } else { |choice| &choice["text"] };
    let assembled = assemble(&chunks, text_of, choices.len());
    for (choice, (text, finish, stop)) in choices.iter().zip(assembled) {
        let whole_text = if path == CHAT { &choice["message"]["content"] } else { &choice["text"] };
        assert_eq!(*whole_text, text);
        assert_eq!(choice["finish_reason"], finish);
        assert_eq!(choice["stop_reason"], stop);
    }
    whole
}

#[tokio::test]
async fn chat_goes_through_template_engine_and_back() {
    let mut server = saying("Grüße, 世界!").await;
    let answer = both(&server, CHAT, chat("hi")).await;
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], MODEL);
    assert_eq!(
        answer["choices"][0]["message"],
        json!({"role": "assistant", "content": "Grüße, 世界!", "refusal": null})
    );
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["choices"][0]["stop_reason"].is_null());
    let prompt = "<user>hi;<assistant>";
    let request = server.engine.submitted().await;
    assert_eq!(request.prompt, prompt.bytes().map(u32::from).collect::<Vec<_>>());
    assert_eq!(request.sampling.max_tokens, 512 - prompt.len());
    assert_eq!(
        answer["usage"],
        json!({"prompt_tokens": 20, "completion_tokens": 17, "total_tokens": 37,
               "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 0}})
    );
}

#[tokio::test]
async fn chunks_carry_whole_characters_and_one_id() {
    let server = saying("aé世").await;
    let chunks = server.stream(CHAT, &chat("hi")).await.chunks().await;
    let texts: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["delta"]["content"].clone()).collect();
    assert_eq!(texts, [json!(""), json!("a"), json!("é"), json!("世"), Value::Null]);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["object"] == "chat.completion.chunk")
    );
    assert!(chunks[0]["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn streams_are_event_streams() {
    let server = saying("x").await;
    let stream = server.stream(CHAT, &chat("hi")).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-cache");
}

#[tokio::test]
async fn completions_default_to_sixteen_tokens() {
    let server = saying("abcdefghijklmnopqrstuvwxyz").await;
    let answer = both(&server, TEXT, json!({"prompt": "hi"})).await;
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["model"], MODEL);
    assert_eq!(answer["choices"][0]["text"], "abcdefghijklmnop");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn prompts_times_n_choices_in_order() {
    let server = Setup::default()
        .start(|request| {
            let seed = request.sampling.seed.unwrap();
            Plan::say(&format!("{}{seed}", request.prompt[0]))
        })
        .await;
    let body = json!({"prompt": ["A", [66, 67]], "n": 2, "seed": 5, "temperature": 1});
    let answer = both(&server, TEXT, body).await;
    let texts: Vec<_> = answer["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(texts, ["655", "656", "665", "666"]);
    // A prompt counts once however many choices read it.
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn n_chat_choices_share_one_stream() {
    let server = saying("yes").await;
    let answer = both(&server, CHAT, with(chat("hi"), json!({"n": 3, "temperature": 0.5}))).await;
    assert_eq!(answer["choices"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_stop_string_across_chunks_cuts_the_text_and_aborts() {
    let mut server = saying("one STOP two").await;
    let answer = both(&server, CHAT, with(chat("hi"), json!({"stop": ["STOP", "never"]}))).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["message"]["content"], "one ");
    assert_eq!((&choice["finish_reason"], &choice["stop_reason"]), (&json!("stop"), &json!("STOP")));
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    let request = server.engine.submitted().await;
    assert_eq!(server.engine.aborted().await, request.id);
}

#[tokio::test]
async fn a_stop_string_inside_one_step_counts_tokens_up_to_it() {
    let server = Setup::default().start(|_| Plan::say_at_once("ab STOP cd")).await;
    let answer = both(&server, TEXT, json!({"prompt": "x", "stop": "STOP", "logprobs": 0})).await;
    assert_eq!(answer["choices"][0]["text"], "ab ");
    assert_eq!(answer["usage"]["completion_tokens"], 7);
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"].as_array().unwrap().len(), 7);
}

#[tokio::test]
async fn stop_strings_may_stay_and_wait_for_min_tokens() {
    let server = saying("aXbXc").await;
    let included = json!({"prompt": "x", "stop": "X", "include_stop_str_in_output": true});
    assert_eq!(both(&server, TEXT, included).await["choices"][0]["text"], "aX");
    let later = json!({"prompt": "x", "stop": "X", "min_tokens": 3});
    assert_eq!(both(&server, TEXT, later).await["choices"][0]["text"], "aXb");
}

#[tokio::test]
async fn a_held_back_prefix_is_released_at_the_end() {
    let server = saying("almost STO").await;
    let answer = both(&server, TEXT, json!({"prompt": "x", "stop": "STOP"})).await;
    assert_eq!(answer["choices"][0]["text"], "almost STO");
    assert!(answer["choices"][0]["stop_reason"].is_null());
}

#[tokio::test]
async fn stop_tokens_are_counted_and_hidden() {
    let server = saying("abcd").await;
    let answer = both(&server, TEXT, json!({"prompt": "x", "stop_token_ids": [99]})).await;
    assert_eq!(answer["choices"][0]["text"], "ab");
    assert_eq!(answer["choices"][0]["stop_reason"], 99);
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    let shown = json!({"prompt": "x", "stop_token_ids": [99], "include_stop_str_in_output": true});
    assert_eq!(both(&server, TEXT, shown).await["choices"][0]["text"], "abc");
}

#[tokio::test]
async fn special_tokens_are_hidden_unless_asked_for() {
    let server = Setup::default().start(|_| Plan::Say(vec![vec![97], vec![SPECIAL], vec![98]])).await;
    assert_eq!(both(&server, TEXT, json!({"prompt": "x"})).await["choices"][0]["text"], "ab");
    let shown = json!({"prompt": "x", "skip_special_tokens": false});
    assert_eq!(both(&server, TEXT, shown).await["choices"][0]["text"], "a<special>b");
}

#[tokio::test]
async fn ignore_eos_takes_the_end_away() {
    let mut server = saying("ab").await;
    let body = json!({"prompt": "x", "ignore_eos": true, "max_tokens": 2});
    assert_eq!(server.post(TEXT, &body).await.json()["choices"][0]["finish_reason"], "length");
    assert!(server.engine.submitted().await.sampling.eos_token_ids.is_empty());
    assert_eq!(server.post(TEXT, &json!({"prompt": "x"})).await.status, 200);
    assert_eq!(server.engine.submitted().await.sampling.eos_token_ids, [EOS]);
}

#[tokio::test]
async fn chat_logprobs() {
    let server = saying("a").await;
    let answer = both(&server, CHAT, with(chat("hi"), json!({"logprobs": true, "top_logprobs": 2}))).await;
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    // The end token has a logprob, too.
    assert_eq!(content.len(), 2);
    assert_eq!(
        content[0],
        json!({"token": "a", "logprob": -1.5, "bytes": [97], "top_logprobs": [
            {"token": "!", "logprob": -0.25, "bytes": [33]}, {"token": "a", "logprob": -1.5, "bytes": [97]}]})
    );
    assert_eq!(content[1]["token"], "<eos>");
    let none = both(&server, CHAT, chat("hi")).await;
    assert!(none["choices"][0]["logprobs"].is_null());
}

#[tokio::test]
async fn completion_logprobs_with_echo_cover_the_prompt() {
    let server = saying("cd").await;
    let body = json!({"prompt": "ab", "echo": true, "logprobs": 1, "max_tokens": 2});
    let answer = both(&server, TEXT, body).await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "abcd");
    assert_eq!(
        choice["logprobs"],
        json!({
            "tokens": ["a", "b", "c", "d"], "token_logprobs": [null, -1.5, -1.5, -1.5], "text_offset": [0, 1, 2, 3],
            "top_logprobs": [null, {"!": -0.25, "b": -1.5}, {"!": -0.25, "c": -1.5}, {"!": -0.25, "d": -1.5}],
        })
    );
}

#[tokio::test]
async fn echo_alone_scores_the_prompt() {
    let server = saying("unheard").await;
    let body = json!({"prompt": [97, 98], "echo": true, "logprobs": 0, "max_tokens": 0});
    let answer = both(&server, TEXT, body).await;
    let choice = &answer["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!("ab"), &json!("length")));
    assert_eq!(choice["logprobs"]["token_logprobs"], json!([null, -1.5]));
    assert_eq!(answer["usage"]["completion_tokens"], 0);
}

#[tokio::test]
async fn prompt_logprobs() {
    let server = saying("c").await;
    let answer = server.post(TEXT, &json!({"prompt": "ab", "prompt_logprobs": 1})).await.json();
    let expected = json!([null, {
        "98": {"logprob": -1.5, "rank": 2, "decoded_token": "b"},
        "33": {"logprob": -0.25, "rank": 1, "decoded_token": "!"},
    }]);
    assert_eq!(answer["choices"][0]["prompt_logprobs"], expected);
    assert!(answer["choices"][0]["logprobs"].is_null());
    let body = with(chat("x"), json!({"prompt_logprobs": 0}));
    let positions = server.post(CHAT, &body).await.json()["prompt_logprobs"].as_array().unwrap().len();
    assert_eq!(positions, "<user>x;<assistant>".len());
}

#[tokio::test]
async fn token_ids_on_request() {
    let server = saying("hi").await;
    let body = json!({"prompt": "ab", "return_token_ids": true});
    let choice = server.post(TEXT, &body).await.json()["choices"][0].clone();
    assert_eq!(choice["prompt_token_ids"], json!([97, 98]));
    assert_eq!(choice["token_ids"], json!([104, 105, EOS]));
    let chunks = server.stream(TEXT, &body).await.chunks().await;
    let ids: Vec<_> =
        chunks.iter().flat_map(|c| c["choices"][0]["token_ids"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(ids), choice["token_ids"]);
}

#[tokio::test]
async fn continuous_usage() {
    let server = saying("abc").await;
    let options = json!({"stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let chunks = server.stream(TEXT, &with(json!({"prompt": "x"}), options)).await.chunks().await;
    let counts: Vec<_> = chunks.iter().map(|chunk| chunk["usage"]["completion_tokens"].clone()).collect();
    assert_eq!(counts, [1, 2, 3, 4, 4]);
}

#[tokio::test]
async fn templates_see_tools_thinking_and_open_messages() {
    let mut server = saying("x").await;
    let mut prompt_of = async |body: Value| {
        assert_eq!(server.post(CHAT, &body).await.status, 200);
        let bytes = server.engine.submitted().await.prompt.iter().map(|id| *id as u8).collect();
        String::from_utf8(bytes).unwrap()
    };
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]);
    assert_eq!(prompt_of(with(chat("a"), json!({"tools": tools}))).await, "[1 tools]<user>a;<assistant>");
    let body = with(chat("a"), json!({"tools": tools, "tool_choice": "none"}));
    assert_eq!(prompt_of(body).await, "<user>a;<assistant>");
    let body = with(chat("a"), json!({"enable_thinking": false}));
    assert_eq!(prompt_of(body).await, "[no thinking]<user>a;<assistant>");
    let body = with(chat("a"), json!({"add_generation_prompt": false}));
    assert_eq!(prompt_of(body).await, "<user>a");
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "Sure, "}]);
    let body = json!({"messages": messages, "continue_final_message": true});
    assert_eq!(prompt_of(body).await, "<user>a;<assistant>Sure, ");
}

#[tokio::test]
async fn developers_are_systems_where_templates_know_no_developers() {
    const OLD: &str = "{% for m in messages %}{% if m.role in ['system', 'user'] %}<{{ m.role }}>{{ m.content }}\
        {% endif %}{% endfor %}";
    let messages = json!([{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]);
    for (template, prompt) in [(OLD, "<system>a<user>b"), (TEMPLATE, "<developer>a;<user>b;<assistant>")] {
        let mut server =
            Setup { template: Some(template), ..Setup::default() }.start(|_| Plan::say("x")).await;
        assert_eq!(server.post(CHAT, &json!({"messages": messages})).await.status, 200);
        assert_eq!(server.engine.submitted().await.prompt, prompt.bytes().map(u32::from).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_continued_message_may_be_echoed() {
    let server = saying("here it is").await;
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "Sure, "}]);
    let body = json!({"messages": messages, "continue_final_message": true, "echo": true});
    let answer = both(&server, CHAT, body).await;
    assert_eq!(answer["choices"][0]["message"]["content"], "Sure, here it is");
}

#[tokio::test]
async fn sampling_reaches_the_engine() {
    let mut server = saying("x").await;
    let body = json!({
        "prompt": "x", "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "typical_p": 0.8,
        "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.5, "logit_bias": {"5": 200},
        "bad_words": ["no"], "allowed_token_ids": [1, 2], "min_tokens": 1, "max_tokens": 3, "seed": 4,
        "priority": -3, "cache_salt": "s",
    });
    assert_eq!(server.post(TEXT, &body).await.status, 200);
    let request = server.engine.submitted().await;
    let s = &request.sampling;
    assert_eq!((s.temperature, s.top_p, s.top_k, s.min_p, s.typical_p), (0.5, 0.9, 0, 0.1, 0.8));
    assert_eq!((s.presence_penalty, s.frequency_penalty, s.repetition_penalty), (1.0, -1.0, 1.5));
    assert_eq!((&s.logit_bias, &s.allowed_token_ids), (&vec![(5, 100.0)], &Some(vec![1, 2])));
    // `no` and ` no` differ in length here, so only the bare form is banned.
    assert_eq!(s.bad_words, [[110, 111]]);
    assert_eq!((s.min_tokens, s.max_tokens, s.seed), (1, 3, Some(4)));
    assert_eq!((request.priority, request.cache_salt.as_deref()), (-3, Some("s")));
}

#[tokio::test]
async fn tokenize_and_detokenize() {
    let server = saying("x").await;
    let reply = server.post("/tokenize", &json!({"prompt": "hé", "return_token_strs": true})).await.json();
    assert_eq!(reply["tokens"], json!([104, 195, 169]));
    assert_eq!((&reply["count"], &reply["max_model_len"]), (&json!(3), &json!(512)));
    assert_eq!(reply["token_strs"], json!(["h", "\u{fffd}", "\u{fffd}"]));
    let reply = server.post("/tokenize", &chat("a")).await.json();
    assert_eq!(reply["count"], "<user>a;<assistant>".len());
    let reply = server.post("/detokenize", &json!({"tokens": [104, 195, 169]})).await.json();
    assert_eq!(reply, json!({"prompt": "hé"}));
}

#[tokio::test]
async fn every_served_name_answers() {
    let server = saying("x").await;
    let names: Vec<_> = server.get("/v1/models").await.json()["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|card| card["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, [MODEL, "alias"]);
    for name in names {
        let card = server.get(&format!("/v1/models/{name}")).await.json();
        assert_eq!((&card["id"], &card["max_model_len"]), (&json!(name), &json!(512)));
        let answer = server.post(TEXT, &json!({"model": name, "prompt": "x"})).await.json();
        assert_eq!(answer["model"], name);
    }
    assert_eq!(server.get("/v1/models/test%2Fmodel").await.status, 200);
}

#[tokio::test]
async fn a_gap_is_filled_where_the_tokenizer_has_tokens_for_it() {
    let info =
        millrace_engine::EngineInfo { vocab_size: tokenizer::VOCAB_SIZE + 10, ..Setup::default().info };
    let setup = Setup { info, tokenizer: tokenizer::filling_tokenizer(), ..Setup::default() };
    let mut server = setup.start(|_| Plan::say("b")).await;
    let body = json!({"model": MODEL, "prompt": ["a", "x"], "suffix": "c"});
    let answer = server.post("/v1/completions", &body).await.json();
    assert_eq!(answer["choices"][1]["text"], "b");
    let [prefix, suffix, middle] = tokenizer::FILL;
    for before in [b'a', b'x'].map(u32::from) {
        let request = server.engine.submitted().await;
        assert_eq!(request.prompt, [prefix, before, suffix, u32::from(b'c'), middle]);
    }
    let conversation = json!({"messages": [{"role": "user", "content": "x"}], "suffix": "c"});
    assert_eq!(server.post("/v1/chat/completions", &conversation).await.error()["param"], "suffix");
}

#[tokio::test]
async fn fields_that_mean_nothing_are_named() {
    let server = saying("hi").await;
    const HEADER: &str = "x-millrace-ignored-fields";
    let plain = server.post(CHAT, &with(chat("x"), json!({"user": "u", "metadata": {}}))).await;
    assert!(!plain.headers.contains_key(HEADER));
    let typo = with(chat("x"), json!({"temprature": 0, "chat_id": "1", "a\nb": 1}));
    let reply = server.post(CHAT, &typo).await;
    assert_eq!((reply.status, reply.headers[HEADER].to_str().unwrap()), (200, "temprature, chat_id"));
    let reply = server.post(TEXT, &json!({"prompt": "x", "max_new_tokens": 3})).await;
    assert_eq!(reply.headers[HEADER], "max_new_tokens");
}
