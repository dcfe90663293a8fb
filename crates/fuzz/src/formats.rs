//! Formats of structured output: refused, or the answer has them. The first line of an input says which kind, the rest is
//! the format itself; what the model would rather say stands behind the separator.

use regex::Regex;
use serde_json::{Value, json};

use crate::{input::Input, requests, server};

const PATH: &str = "/v1/chat/completions";

pub(crate) fn formats(input: &[u8]) -> bool {
    let Some(input) = Input::read(input) else { return false };
    let Ok(text) = std::str::from_utf8(input.body) else { return false };
    let format = match input.path {
        "json" | "structural_tag" => serde_json::from_str(text).ok(),
        "regex" | "grammar" => Some(Value::from(text)),
        "choice" => Some(text.split('\n').collect()),
        _ => None,
    };
    let Some(format) = format else { return false };
    let body = json!({"model": "chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": 120,
        "chat_template_kwargs": {"enable_thinking": false}, "structured_outputs": {input.path: format}});
    let reply = server::with(|server| {
        server.say(input.answer);
        requests::post(server, PATH, body.to_string().as_bytes())
    });
    if reply.status == 200 {
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        check(input.path, &format, &answer["choices"][0]);
    }
    true
}

/// Whether an answer that came to its end has its format, as far as that can be told by other means than the grammar.
fn check(kind: &str, format: &Value, choice: &Value) {
    if choice["finish_reason"] != "stop" {
        return;
    }
    let said = choice["message"]["content"].as_str().unwrap_or_default();
    match kind {
        "json" => {
            let value: Value = serde_json::from_str(said).expect("the answer is JSON");
            if let Some(allowed) = format["enum"].as_array() {
                assert!(
                    allowed.iter().any(|allowed| equal(allowed, &value)),
                    "{value} is none of {allowed:?}"
                );
            }
        }
        "choice" => {
            assert!(format.as_array().unwrap().contains(&said.into()), "{said:?} is none of {format}");
        }
        // Where the two engines read a pattern differently, this one can't tell.
        "regex" => {
            let whole = format!("^(?:{})$", format.as_str().unwrap());
            if let Ok(pattern) = Regex::new(&whole) {
                assert!(pattern.is_match(said), "{said:?} isn't {format}");
            }
        }
        _ => {}
    }
}

/// As JSON schemas compare: `1.0` is `1`, wherever it stands.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b || a.as_f64().is_some_and(|a| Some(a) == b.as_f64()),
    }
}
