//! `/api/embed`, and its forerunner `/api/embeddings`.

use serde::Serialize;
use serde_json::Value;

use super::{KeepAlive, Times, parse_name};
use crate::{
    ApiError, Int, Limits, PoolingAnswer, PoolingCall, PoolingOptions, PoolingWork, Prompt, StringOrList,
    read,
};

/// A parsed call.
#[derive(Debug)]
pub struct EmbedCall {
    /// The model's name as the client wrote it.
    pub model: String,
    /// How long the model is to stay afterwards, if the client says.
    pub keep_alive: Option<KeepAlive>,
    /// What is to be embedded; `None` only loads the model.
    pub work: Option<PoolingCall>,
}

#[derive(Debug, Serialize)]
struct EmbedReply<'a> {
    model: &'a str,
    embeddings: &'a [Vec<f32>],
    /// In nanoseconds, as is the next.
    total_duration: u64,
    load_duration: u64,
    prompt_eval_count: usize,
}

#[derive(Debug, Serialize)]
struct EmbeddingsReply<'a> {
    embedding: &'a [f32],
}

/// Reads a body of `POST /api/embed`. Long texts are cut unless it says otherwise.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse_embed(body: &Value, limits: &Limits) -> Result<EmbedCall, ApiError> {
    let input = match body.get("input") {
        None | Some(Value::Null) => Vec::new(),
        Some(input) => read::<Input>(&serde_json::json!({"input": input}))?.input.0,
    };
    let cut = match body.get("truncate") {
        None | Some(Value::Null) => true,
        Some(Value::Bool(cut)) => *cut,
        Some(_) => return Err(ApiError::invalid("truncate", "`truncate` must be true or false.")),
    };
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let problem = |_| ApiError::invalid("dimensions", "`dimensions` must be a whole number.");
            Some(serde_json::from_value::<Int>(value.clone()).map_err(problem)?.0)
        }
    };
    call(body, "input", input, cut, dimensions.filter(|dimensions| *dimensions != 0), limits)
}

/// Reads a body of `POST /api/embeddings`.
///
/// # Errors
/// As in [`parse_embed`].
pub fn parse_embeddings(body: &Value, limits: &Limits) -> Result<EmbedCall, ApiError> {
    let texts = match body.get("prompt") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![text.clone()],
        Some(_) => return Err(ApiError::invalid("prompt", "`prompt` must be a text.")),
    };
    call(body, "prompt", texts, true, None, limits)
}

#[derive(Debug, Default, serde::Deserialize)]
struct Input {
    input: StringOrList,
}

fn call(
    body: &Value,
    field: &str,
    texts: Vec<String>,
    cut: bool,
    dimensions: Option<i64>,
    limits: &Limits,
) -> Result<EmbedCall, ApiError> {
    let model = parse_name(body)?;
    let keep_alive = KeepAlive::read(body.get("keep_alive"))?;
    if texts.len() > limits.max_texts {
        let message =
            format!("`{field}` holds {} texts; at most {} are allowed.", texts.len(), limits.max_texts);
        return Err(ApiError::invalid(field, message));
    }
    if texts.iter().any(|text| text.chars().nth(limits.max_prompt_chars).is_some()) {
        let message = format!("A text of `{field}` may hold at most {} characters.", limits.max_prompt_chars);
        return Err(ApiError::invalid(field, message));
    }
    let options = PoolingOptions { truncate: cut.then_some(-1), ..PoolingOptions::default() };
    let prompts: Vec<Prompt> = texts.into_iter().map(Prompt::Text).collect();
    let work = (!prompts.is_empty()).then_some(PoolingCall {
        options,
        work: PoolingWork::Embed { prompts, dimensions, normalize: None },
    });
    Ok(EmbedCall { model, keep_alive, work })
}

/// The answer of `/api/embed` as JSON; no answer is that to a request that only loads the model.
///
/// # Errors
/// A 500 if it can't be written.
pub fn embed_body(model: &str, answer: Option<&PoolingAnswer>, times: &Times) -> Result<String, ApiError> {
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    written(&EmbedReply {
        model,
        embeddings: answer.map_or(&[], |answer| &answer.rows),
        total_duration: nanos(times.now),
        load_duration: nanos(times.load),
        prompt_eval_count: answer.map_or(0, |answer| answer.prompt_tokens),
    })
}

/// The same for `/api/embeddings`.
///
/// # Errors
/// As in [`embed_body`].
pub fn embeddings_body(answer: Option<&PoolingAnswer>) -> Result<String, ApiError> {
    let first = answer.and_then(|answer| answer.rows.first());
    written(&EmbeddingsReply { embedding: first.map_or(&[], Vec::as_slice) })
}

fn written(body: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(body)
        .map_err(|error| ApiError::internal(format!("The answer can't be written: {error}.")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_cut_unless_the_client_says_otherwise() {
        let read = |body: Value| {
            parse_embed(&body, &Limits::default()).unwrap().work.map(|work| work.options.truncate)
        };
        assert_eq!(read(json!({"model": "m", "input": "a"})), Some(Some(-1)));
        assert_eq!(read(json!({"model": "m", "input": ["a", "b"], "truncate": false})), Some(None));
        assert_eq!(read(json!({"model": "m"})), None);
        assert_eq!(read(json!({"model": "m", "input": []})), None);
        for body in
            [json!({"input": "a"}), json!({"model": "m", "input": 3}), json!({"model": "m", "truncate": 1})]
        {
            assert!(parse_embed(&body, &Limits::default()).is_err(), "{body}");
        }
        let old = parse_embeddings(&json!({"model": "m", "prompt": "a"}), &Limits::default()).unwrap();
        assert!(old.work.is_some());
        assert!(parse_embeddings(&json!({"model": "m", "prompt": ["a"]}), &Limits::default()).is_err());
    }

    #[test]
    fn answers_have_the_shapes_of_both_endpoints() {
        let rows = vec![vec![0.5, -1.0]];
        let answer = PoolingAnswer { model: "m".into(), rows, labels: Vec::new(), prompt_tokens: 3 };
        let times = Times { load: Duration::from_nanos(5), now: Duration::from_nanos(9), unix: 0 };
        let body: Value =
            serde_json::from_str(&embed_body("m:latest", Some(&answer), &times).unwrap()).unwrap();
        let expected = json!({"model": "m:latest", "embeddings": [[0.5, -1.0]], "total_duration": 9, "load_duration": 5,
            "prompt_eval_count": 3});
        assert_eq!(body, expected);
        assert_eq!(embeddings_body(Some(&answer)).unwrap(), r#"{"embedding":[0.5,-1.0]}"#);
        assert_eq!(embeddings_body(None).unwrap(), r#"{"embedding":[]}"#);
    }
}
