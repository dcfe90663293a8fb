//! Neutral events to OpenAI answers: chunks, and the whole answer, which must say the same.
#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test may fail, and reads better without borrows"
)]

use millrace_api::{
    ApiError, ChatEvent, Collector, Delta, End, EndReason, Frame, Limits, Part, ReplyHead, Scored, Start,
    StopCause, TokenText,
    openai::{Call, chat, completions},
};
use millrace_types::Usage;
use serde_json::{Value, json};

fn head() -> ReplyHead {
    ReplyHead { id: "x-1".into(), created: 7, model: "m".into() }
}

fn chat_call(extra: Value) -> Call {
    let mut body = json!({"messages": [{"role": "user", "content": "hi"}], "stream": true});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    chat::parse(&body, &Limits::default()).unwrap()
}

fn completion_call(extra: Value) -> Call {
    let mut body = json!({"prompt": "hi", "stream": true});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    completions::parse(&body, &Limits::default()).unwrap()
}

fn token(id: u32, text: &str) -> TokenText {
    TokenText { id, bytes: text.as_bytes().to_vec() }
}

fn scored(id: u32, text: &str, logprob: f32) -> Scored {
    let top = vec![(token(9, "Z"), -0.1), (token(id, text), logprob)];
    Scored { token: token(id, text), logprob: Some(logprob), rank: 2, top }
}

fn delta(choice: usize, text: &str, id: u32, completion_tokens: usize) -> Delta {
    Delta {
        choice,
        parts: vec![Part::Text(text.into())],
        token_ids: vec![id],
        logprobs: vec![scored(id, text, -0.5)],
        usage: Usage { prompt_tokens: 3, cached_tokens: 2, completion_tokens },
        ..Delta::default()
    }
}

fn start(samples: usize) -> ChatEvent {
    ChatEvent::Start(Start { prompts: vec![vec![1, 2, 3].into()], samples, cache_block: None })
}

/// Two choices, interleaved; one ends by a stop string, one by length.
fn script() -> Vec<ChatEvent> {
    let end = |reason, stop| Some(End { reason, stop });
    let stop = end(EndReason::Stop, Some(StopCause::Text("END".into())));
    let deltas = [
        delta(0, "Hé", 10, 1),
        delta(1, "A", 20, 1),
        delta(0, "", 11, 2),
        Delta { end: stop, ..delta(0, "y", 12, 3) },
        Delta { end: end(EndReason::Length, None), ..delta(1, "B", 21, 2) },
    ];
    let done = ChatEvent::Done(Usage { prompt_tokens: 3, cached_tokens: 2, completion_tokens: 5 });
    let deltas = deltas.into_iter().map(|delta| ChatEvent::Delta(Box::new(delta)));
    [start(2)].into_iter().chain(deltas).chain([done]).collect()
}

/// All chunks but the last `[DONE]`.
fn chunks(mut call: Call, events: Vec<ChatEvent>) -> Vec<Value> {
    let head = head();
    let mut frames: Vec<Frame> = events.into_iter().flat_map(|e| call.encoder.frames(&head, e)).collect();
    assert_eq!(frames.pop().unwrap().data, "[DONE]");
    frames.iter().map(|frame| serde_json::from_str(&frame.data).unwrap()).collect()
}

fn whole(call: &Call, events: Vec<ChatEvent>) -> Value {
    let mut collector = Collector::default();
    let answer = events.into_iter().find_map(|event| collector.push(event).unwrap()).unwrap();
    call.encoder.body(&head(), answer)
}

fn of_choice(chunks: &[Value], index: usize) -> Vec<&Value> {
    let choices = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap());
    choices.filter(|choice| choice["index"] == index).collect()
}

#[test]
fn chat_chunks_say_what_the_whole_answer_says() {
    let options = json!({"n": 2, "logprobs": true, "top_logprobs": 2});
    let chunks = chunks(chat_call(options.clone()), script());
    let whole = whole(&chat_call(options), script());
    for index in 0..2 {
        let pieces = of_choice(&chunks, index);
        let choice = &whole["choices"][index];
        assert_eq!(pieces[0]["delta"], json!({"role": "assistant", "content": ""}));
        let text: String = pieces.iter().filter_map(|piece| piece["delta"]["content"].as_str()).collect();
        assert_eq!(choice["message"]["content"], text);
        let logprobs: Vec<&Value> =
            pieces.iter().filter_map(|piece| piece["logprobs"]["content"].as_array()).flatten().collect();
        assert_eq!(choice["logprobs"]["content"], json!(logprobs));
        let last = pieces.last().unwrap();
        assert_eq!(choice["finish_reason"], last["finish_reason"]);
        assert_eq!(choice["stop_reason"], last["stop_reason"]);
        assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece["finish_reason"].is_null()));
    }
    assert_eq!(whole["choices"][0]["message"]["content"], "Héy");
    assert_eq!(whole["choices"][0]["stop_reason"], "END");
    assert_eq!(whole["choices"][1]["finish_reason"], "length");
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["usage"]["total_tokens"], 8);
    assert_eq!(whole["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
    let first = &whole["choices"][0]["logprobs"]["content"][0];
    assert_eq!(first["token"], "Hé");
    assert_eq!(first["bytes"], json!([72, 195, 169]));
    assert_eq!(first["top_logprobs"][0]["token"], "Z");
}

#[test]
fn completion_chunks_say_what_the_whole_answer_says() {
    let options = json!({"n": 2, "logprobs": 2, "return_token_ids": true});
    let chunks = chunks(completion_call(options.clone()), script());
    let whole = whole(&completion_call(options), script());
    for index in 0..2 {
        let pieces = of_choice(&chunks, index);
        let choice = &whole["choices"][index];
        let text: String = pieces.iter().filter_map(|piece| piece["text"].as_str()).collect();
        assert_eq!(choice["text"], text);
        for list in ["text_offset", "tokens", "token_logprobs", "top_logprobs"] {
            let joined: Vec<&Value> =
                pieces.iter().flat_map(|piece| piece["logprobs"][list].as_array().unwrap()).collect();
            assert_eq!(choice["logprobs"][list], json!(joined), "{list}");
        }
        let ids: Vec<&Value> =
            pieces.iter().flat_map(|piece| piece["token_ids"].as_array().unwrap()).collect();
        assert_eq!(choice["token_ids"], json!(ids));
        assert_eq!(pieces[0]["prompt_token_ids"], json!([1, 2, 3]));
        assert!(pieces[1].get("prompt_token_ids").is_none());
    }
    assert_eq!(whole["choices"][0]["logprobs"]["text_offset"], json!([0, 2, 2]));
    assert_eq!(whole["choices"][1]["logprobs"]["top_logprobs"][0], json!({"Z": -0.1, "A": -0.5}));
    assert_eq!(whole["object"], "text_completion");
}

#[test]
fn a_delta_without_news_makes_no_chunk() {
    let empty = Delta { parts: Vec::new(), ..delta(0, "", 11, 1) };
    let events = vec![start(1), ChatEvent::Delta(Box::new(empty)), ChatEvent::Done(Usage::default())];
    assert_eq!(chunks(chat_call(json!({})), events.clone()).len(), 1);
    assert_eq!(chunks(completion_call(json!({})), events).len(), 0);
}

#[test]
fn usage_comes_where_it_was_asked_for() {
    let plain = chunks(chat_call(json!({"n": 2})), script());
    assert!(plain.iter().all(|chunk| chunk.get("usage").is_none()));

    let options = json!({"n": 2, "stream_options": {"include_usage": true}});
    let at_end = chunks(chat_call(options), script());
    let (last, rest) = at_end.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 5);
    assert!(rest.iter().all(|chunk| chunk.get("usage").is_some_and(Value::is_null)));

    let options = json!({"n": 2, "stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let always = chunks(completion_call(options), script());
    let counts: Vec<_> =
        always.iter().map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 1, 3, 2, 5]);
}

#[test]
fn the_likeliest_of_several_texts_are_shown() {
    let call = completion_call(json!({"n": 2, "best_of": 3, "stream": false}));
    assert_eq!((call.request.options.n, call.request.options.logprobs), (3, Some(0)));
    // By the mean of their tokens: −3, −1 and −2, whatever their sums are.
    let text = |choice: usize, logprobs: &[f32]| {
        let logprobs = logprobs.iter().enumerate().map(|(at, logprob)| Delta {
            logprobs: vec![scored(9, "x", *logprob)],
            ..delta(choice, &choice.to_string(), 9, at + 1)
        });
        logprobs.map(|delta| ChatEvent::Delta(Box::new(delta))).collect::<Vec<_>>()
    };
    let texts = [text(0, &[-3.0]), text(1, &[-1.5, -0.5, -1.0, -1.0]), text(2, &[-2.0, -2.0])].concat();
    let done = ChatEvent::Done(Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 7 });
    let events = [vec![start(3)], texts, vec![done]].concat();
    let whole = whole(&call, events);
    let shown: Vec<&Value> =
        whole["choices"].as_array().unwrap().iter().map(|choice| &choice["text"]).collect();
    assert_eq!(shown, [&json!("1111"), &json!("22")]);
    assert_eq!((&whole["choices"][1]["index"], &whole["choices"][1]["logprobs"]), (&json!(1), &Value::Null));
    assert_eq!(whole["usage"]["completion_tokens"], 7);
}

#[test]
fn tokens_may_be_named_by_id() {
    let options = json!({"n": 2, "logprobs": true, "return_tokens_as_token_ids": true});
    let whole = whole(&chat_call(options), script());
    assert_eq!(whole["choices"][0]["logprobs"]["content"][0]["token"], "token_id:10");
}

#[test]
fn an_error_ends_the_stream_in_the_open() {
    let error = ApiError::internal("The engine is not running.");
    let chunks = chunks(chat_call(json!({})), vec![start(1), ChatEvent::Error(error)]);
    let last = chunks.last().unwrap();
    assert_eq!(
        *last,
        json!({"error": {
            "message": "The engine is not running.", "type": "InternalServerError", "param": null, "code": 500,
        }})
    );
}

#[test]
fn prompt_logprobs_are_keyed_by_token() {
    let mut call = chat_call(json!({"stream": false, "prompt_logprobs": 2}));
    call.stream = false;
    let first = Delta {
        prompt_logprobs: Some(vec![None, Some(scored(5, "b", f32::NEG_INFINITY))]),
        end: Some(End { reason: EndReason::Stop, stop: Some(StopCause::Token(7)) }),
        ..delta(0, "x", 10, 1)
    };
    let events = vec![start(1), ChatEvent::Delta(Box::new(first)), ChatEvent::Done(Usage::default())];
    let whole = whole(&call, events);
    assert_eq!(whole["prompt_logprobs"][0], Value::Null);
    assert_eq!(
        whole["prompt_logprobs"][1]["5"],
        json!({"logprob": -9999.0, "rank": 2, "decoded_token": "b"})
    );
    assert_eq!(whole["prompt_logprobs"][1]["9"]["rank"], 1);
    assert_eq!(whole["choices"][0]["stop_reason"], 7);
    assert!(whole["choices"][0]["logprobs"].is_null());
}
