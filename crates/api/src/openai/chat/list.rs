//! `POST /v1/chat/completions/batch` (vLLM's): several conversations in one request, answered as choices of one answer.

use serde_json::{Value, json};

use super::parse;
use crate::{ApiError, Call, Limits, ReplyHead, documents};

/// Reads a body whose `messages` are a list of conversations; all else holds for each of them.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse_list(body: &Value, limits: &Limits) -> Result<Vec<Call>, ApiError> {
    let refuse = |name: &str, why: &str| Err(ApiError::invalid(name, why));
    let conversations = match body.get("messages") {
        Some(Value::Array(list)) if !list.is_empty() && list.iter().all(Value::is_array) => list,
        _ => {
            return refuse(
                "messages",
                "`messages` must be a list of conversations, each a list of messages.",
            );
        }
    };
    if conversations.len() > limits.max_sequences {
        let most = limits.max_sequences;
        return refuse("messages", &format!("One request may have at most {most} conversations."));
    }
    if body.get("stream").is_some_and(|stream| stream == true) {
        return refuse("stream", "Lists of conversations can't be streamed.");
    }
    if body.get("n").is_some_and(|n| !n.is_null() && n.as_f64() != Some(1.0)) {
        return refuse("n", "`n` must be 1 for lists of conversations.");
    }
    if body.get("mcp").is_some_and(|mcp| !mcp.is_null()) {
        return refuse("mcp", "The server runs no tools for lists of conversations.");
    }
    documents::check_count(body)?;
    let mut own = without_messages(body);
    // Each conversation has a copy of the rest.
    if own.to_string().len().saturating_mul(conversations.len()) > limits.max_body_bytes {
        return refuse(
            "messages",
            "The other fields are too long for so many conversations. Send fewer at a time.",
        );
    }
    let mut calls = Vec::with_capacity(conversations.len());
    for (index, messages) in conversations.iter().enumerate() {
        own["messages"] = messages.clone();
        calls.push(parse(&own, limits).map_err(|error| ApiError {
            param: error.param.map(|param| match param.strip_prefix("messages") {
                Some(rest) => format!("messages[{index}]{rest}"),
                None => param,
            }),
            ..error
        })?);
    }
    Ok(calls)
}

fn without_messages(body: &Value) -> Value {
    let fields = body.as_object().into_iter().flatten().filter(|(name, _)| *name != "messages");
    Value::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// One answer out of the bodies of all: a choice for each conversation, in their order, and the sum of their usage.
pub fn join(head: &ReplyHead, bodies: Vec<Value>) -> Value {
    let (mut choices, mut usage) = (Vec::with_capacity(bodies.len()), Value::Null);
    for (index, mut body) in bodies.into_iter().enumerate() {
        add(&mut usage, body["usage"].take());
        let mut choice = body["choices"][0].take();
        choice["index"] = index.into();
        // These are about the prompt, of which each choice has its own.
        for name in ["prompt_logprobs", "prompt_token_ids"] {
            if let Some(value) = body.get_mut(name) {
                choice[name] = value.take();
            }
        }
        choices.push(choice);
    }
    json!({
        "id": head.id,
        "object": "chat.completion",
        "created": head.created,
        "model": head.model,
        "choices": choices,
        "usage": usage,
    })
}

/// Adds counts, field by field.
fn add(sum: &mut Value, more: Value) {
    match (&mut *sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, value) in more {
                add(sum.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::Number(number), Value::Number(more)) => {
            *sum = (number.as_u64().unwrap_or(0) + more.as_u64().unwrap_or(0)).into();
        }
        (Value::Null, more) => *sum = more,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(extra: &Value) -> Result<usize, String> {
        let question = |text: &str| json!([{"role": "user", "content": text}]);
        let mut body = json!({"messages": [question("a"), question("b")]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let calls = parse_list(&body, &Limits { max_sequences: 2, ..Limits::default() });
        calls.map(|calls| calls.len()).map_err(|error| error.param.unwrap_or_default())
    }

    #[test]
    fn lists_are_read_or_refused() {
        assert_eq!(list(&json!({"temperature": 0})), Ok(2));
        for (extra, param) in [
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"role": "user", "content": "x"}]}), "messages"),
            (json!({"messages": [[], [], []]}), "messages"),
            (json!({"messages": [[{"role": "user", "content": "x"}], [{"role": 1}]]}), "messages[1][0].role"),
            (json!({"stream": true}), "stream"),
            (json!({"n": 2}), "n"),
            (json!({"mcp": {}}), "mcp"),
            (json!({"temperature": 9}), "temperature"),
            (json!({"user": "x".repeat(9 << 20)}), "messages"),
        ] {
            assert_eq!(list(&extra), Err(param.to_owned()), "{extra}");
        }
    }

    #[test]
    fn answers_become_choices() {
        let body = |text: &str, tokens: u32| {
            json!({"id": "x", "choices": [{"index": 0, "message": {"content": text}}], "prompt_token_ids": [tokens],
                   "usage": {"prompt_tokens": tokens, "prompt_tokens_details": {"cached_tokens": 1}}})
        };
        let head = ReplyHead { id: "i".into(), created: 7, model: "m".into() };
        let joined = join(&head, vec![body("a", 3), body("b", 4)]);
        assert_eq!(
            joined["choices"][1],
            json!({"index": 1, "message": {"content": "b"}, "prompt_token_ids": [4]})
        );
        assert_eq!(
            joined["usage"],
            json!({"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}})
        );
    }
}
