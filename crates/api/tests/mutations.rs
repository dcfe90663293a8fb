//! Random mutations of valid bodies: every request type reads or refuses them, with a 4xx and never with a panic.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use millrace_api::openai::{batches::BatchLine, responses::ResponseId};
use millrace_api::{
    ApiError, Limits, StoredFile, anthropic, file_ids, ollama, openai, parse_body, put_files,
};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

/// Bodies that use every field at least once.
fn seeds() -> Vec<Value> {
    let tool = json!({"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}});
    let call = json!({"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": [1]}"}});
    vec![
        json!({"model": "m", "n": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "typical_p": 0.8,
            "presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.2, "logit_bias": {"5": 3, " 6 ": -200},
            "bad_words": ["x"], "allowed_token_ids": [1, 2], "min_tokens": 2, "max_tokens": 9, "stop": ["end", "stop"],
            "stop_token_ids": [4], "include_stop_str_in_output": true, "ignore_eos": true, "seed": 11,
            "skip_special_tokens": false, "priority": -2, "cache_salt": "s", "timeout": 2.5, "stream": true,
            "stream_options": {"include_usage": true, "continuous_usage_stats": true}, "logprobs": true, "top_logprobs": 2,
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": ["a", {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": "2"}, {"role": "assistant", "content": "c"}],
            "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": false, "documents": [{"title": "t"}], "continue_final_message": true,
            "chat_template_kwargs": {"a": [1]}, "reasoning_effort": "none", "thinking_token_budget": 3}),
        json!({"model": "m", "prompt": [[1, 2], "text"], "logprobs": 3, "echo": true, "max_tokens": 0, "best_of": 1,
            "prompt_logprobs": 2, "suffix": "", "return_token_ids": true, "add_special_tokens": false}),
        json!({"model": "m", "max_tokens": 9, "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": "q"},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": {"b": [1]}}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "r"}],
                    "is_error": true}]}],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}, "temperature": 1, "top_p": 0.5,
            "top_k": 3, "stop_sequences": ["x"], "stream": true, "thinking": {"type": "disabled"}, "metadata": {"user_id": "u"},
            "output_config": {"effort": "low"}, "service_tier": "auto"}),
        json!({"model": "m", "messages": [{"role": "user", "content": "q"}], "return_token_strs": true}),
        json!({"model": "m", "tokens": [1, 2.0, 3]}),
        json!({"model": "m", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]},
                {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "1", "output": "x"},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]}],
            "instructions": "i", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
            "tool_choice": "auto", "text": {"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
            "reasoning": {"effort": "low", "summary": "auto"}, "include": ["reasoning.encrypted_content"], "store": false,
            "metadata": {"a": "b"}, "truncation": "auto", "max_output_tokens": 9, "top_logprobs": 0, "stream": true}),
        json!({"input_file_id": "file-1", "endpoint": "/v1/responses", "completion_window": "24h", "metadata": {"a": "b"},
            "output_expires_after": {"anchor": "created_at", "seconds": 3600}}),
        json!({"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": {"model": "m", "input": "x"}}),
        json!({"model": "m", "temperature": 0, "messages": [[{"role": "user", "content": "a"}],
            [{"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]]}),
        json!({"model": "m", "prompt": ["a", "b"], "suffix": "c", "max_tokens": 4}),
        json!({"model": "m", "messages": [{"role": "user", "content": "q", "tool_calls": [], "images": []}], "format": "json",
            "options": {"temperature": 0.5, "num_predict": 4, "stop": ["x"]}, "keep_alive": "5m", "think": true, "stream": false}),
        json!({"model": "m", "prompt": "a", "suffix": "b", "system": "", "raw": false, "logprobs": true, "top_logprobs": 2,
            "options": {"seed": 3, "top_k": 4, "num_ctx": 8, "mirostat": 0}, "keep_alive": -1, "format": {"type": "object"}}),
        json!({"model": "m", "input": ["a", "b"], "truncate": true, "dimensions": 2, "keep_alive": "1h30m", "options": {}}),
        json!({"model": "m", "prompt": "a", "keep_alive": 0}),
        json!({"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 2, "normalize": false,
            "truncate_prompt_tokens": -1, "add_special_tokens": false, "priority": 1, "timeout": 3, "user": "u",
            "use_activation": true}),
        json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": false,
            "instruction": "i", "use_activation": false}),
        json!({"model": "m", "text_1": "q", "text_2": ["a", "b"], "instruction": "i"}),
        json!({"model": "m", "prompt": "a", "n": 2, "best_of": 3, "temperature": 0.5}),
        json!({"model": "m", "store": true, "metadata": {"a": "b"}, "messages": [{"role": "user", "content": [
            {"type": "file", "file": {"file_data": "data:text/plain;base64,aGk=", "filename": "f"}},
            {"type": "text", "text": "t"}]}]}),
        json!({"model": "m", "input": [{"role": "user", "content": [
            {"type": "input_file", "file_data": "aGk=", "filename": "f", "detail": "low"}]}]}),
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "document", "title": "t",
            "context": "c", "source": {"type": "text", "media_type": "text/plain", "data": "d"}}]}]}),
    ]
}

/// Values of every type, with the ones that programs stumble over.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        prop::sample::select(vec![
            json!(0),
            json!(-1),
            json!(1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(0.1)
        ]),
        ".{0,12}".prop_map(Value::String),
        prop::sample::select(vec![
            "",
            "\u{0}",
            "text",
            "user",
            "assistant",
            "tool",
            "function",
            "auto",
            "e\u{301}🦀",
            " "
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-z_]{0,8}|type|text|role|content|name|id", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// One change of a body: at the `place`-th value (counted in order), something else happens.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Repeat(usize),
    Rename(String),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => any_value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => (2_usize..40).prop_map(Change::Repeat),
        1 => "[a-z_]{1,10}".prop_map(Change::Rename),
    ]
}

/// Applies a change to the `place`-th child below `value`; false if there are not so many, less those counted.
fn apply(value: &mut Value, place: &mut usize, change: &Change) -> bool {
    match value {
        Value::Array(list) => {
            for index in 0..list.len() {
                if *place == 0 {
                    match change {
                        Change::Replace(new) => list[index] = new.clone(),
                        Change::Remove => drop(list.remove(index)),
                        Change::Repeat(count) => list.extend(vec![list[index].clone(); *count]),
                        Change::Rename(_) => list.reverse(),
                    }
                    return true;
                }
                *place -= 1;
                if apply(&mut list[index], place, change) {
                    return true;
                }
            }
            false
        }
        Value::Object(fields) => {
            for key in fields.keys().cloned().collect::<Vec<_>>() {
                if *place == 0 {
                    match change {
                        Change::Replace(new) => drop(fields.insert(key, new.clone())),
                        Change::Remove => drop(fields.shift_remove(&key)),
                        Change::Repeat(count) => {
                            let copies = vec![fields[&key].clone(); *count];
                            fields.insert(key, Value::Array(copies));
                        }
                        Change::Rename(name) => {
                            if let Some(value) = fields.shift_remove(&key) {
                                fields.insert(name.clone(), value);
                            }
                        }
                    }
                    return true;
                }
                *place -= 1;
                if fields.get_mut(&key).is_some_and(|value| apply(value, place, change)) {
                    return true;
                }
            }
            false
        }
        _ => false,
    }
}

/// Reads a body as every request type.
fn read_all(body: &Value, limits: &Limits) -> Vec<Result<(), ApiError>> {
    vec![
        openai::chat::parse(body, limits).map(drop),
        openai::completions::parse(body, limits).map(drop),
        openai::tokenize::parse_tokenize(body, limits).map(drop),
        openai::tokenize::parse_detokenize(body).map(drop),
        anthropic::parse(body, limits, "id").map(drop),
        anthropic::parse_count(body, limits).map(drop),
        openai::responses::parse(body, limits, &ResponseId::new("0")).map(drop),
        openai::responses::parse_count(body, limits, &ResponseId::new("0")).map(drop),
        openai::chat::parse_list(body, limits).map(drop),
        openai::batches::parse(body, &["/v1/responses"]).map(drop),
        BatchLine::read(1, body.to_string().as_bytes(), "/v1/responses", limits)
            .map(drop)
            .map_err(|error| ApiError { param: error.param, ..ApiError::bad_request(error.message) }),
        ollama::parse_chat(body, limits).map(drop),
        ollama::parse_generate(body, limits, |_| true).map(drop),
        ollama::parse_embed(body, limits).map(drop),
        ollama::parse_embeddings(body, limits).map(drop),
        openai::pooling::parse_embeddings(body, limits).map(drop),
        openai::pooling::parse_classify(body, limits).map(drop),
        openai::pooling::parse_pooling(body, limits).map(drop),
        openai::pooling::parse_rerank(body, limits).map(drop),
        openai::pooling::parse_score(body, limits).map(drop),
        openai::chat::parse_storing(body, limits).map(drop),
    ]
}

fn check(body: &Value, limits: &Limits) {
    // Files take the place of ids wherever these stand.
    let file = StoredFile { name: "n".into(), content: b"text".to_vec() };
    let files = file_ids(body).into_iter().map(|id| (id, file.clone())).collect();
    let mut filled = body.clone();
    put_files(&mut filled, &files);
    assert!(file_ids(&filled).is_empty(), "{body}");
    for error in read_all(body, limits).into_iter().filter_map(Result::err) {
        assert_eq!(error.kind.status() / 100, 4, "{body}: {error}");
        assert!(!error.message.is_empty() && error.message.len() < 2000, "{body}: {error}");
        // Both vendors can say it.
        openai::error_body(&error);
        anthropic::error_body(&error, "id");
    }
}

#[test]
fn the_seeds_are_valid() {
    let limits = Limits::default();
    let results: Vec<Vec<_>> = seeds().iter().map(|body| read_all(body, &limits)).collect();
    assert!(results[0][0].is_ok(), "{:?}", results[0][0]);
    assert!(results[2][4].is_ok() && results[2][5].is_ok(), "{:?}", results[2][4]);
    assert!(results[3][2].is_ok() && results[4][3].is_ok());
    assert!(results[5][6].is_ok(), "{:?}", results[5][6]);
    assert!(results[6][9].is_ok() && results[7][10].is_ok() && results[8][8].is_ok());
    assert!(results[9][1].is_ok() && results[10][11].is_ok(), "{:?}", results[10][11]);
    assert!(results[11][12].is_ok(), "{:?}", results[11][12]);
    assert!(results[12][13].is_ok() && results[13][14].is_ok());
    assert!(results[14][15..18].iter().all(Result::is_ok), "{:?}", results[14]);
    assert!(results[15][18].is_ok() && results[16][19].is_ok() && results[17][1].is_ok());
    assert!(results[18][20].is_ok(), "{:?}", results[18][20]);
    assert!(results[19][6].is_ok() && results[20][4].is_ok(), "{:?} {:?}", results[19][6], results[20][4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn mutations_are_read_or_refused(
        seed in 0..21_usize,
        changes in prop::collection::vec((0_usize..120, change()), 1..5),
        small in any::<bool>(),
    ) {
        let limits = Limits { max_messages: 4, max_prompt_chars: 16, max_tools: 2, max_stop: 1, ..Limits::default() };
        let limits = if small { limits } else { Limits::default() };
        let mut body = seeds().swap_remove(seed);
        for (mut place, change) in changes {
            apply(&mut body, &mut place, &change);
        }
        check(&body, &limits);
    }

    #[test]
    fn any_bytes_are_a_body_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse_body(&bytes, &Limits::default()) {
            prop_assert_eq!(error.kind.status(), 400);
        }
    }

    #[test]
    fn any_object_is_read_or_refused(value in any_value()) {
        let text = value.to_string();
        if let Ok(body) = parse_body(text.as_bytes(), &Limits::default()) {
            check(&body, &Limits::default());
        }
    }
}
