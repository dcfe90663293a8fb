//! `POST /v1/embeddings`.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CommonBody, ListBody, PoolingUsage, check_prompts, request, to_json};
use crate::openai::completions::prompt::PromptBody;
use crate::{
    ApiError, Int, Limits, PoolingAnswer, PoolingRequest, PoolingWork, ReplyHead, error::shorten,
    introspect::field_names, read,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EmbeddingBody {
    input: Option<PromptBody>,
    encoding_format: Option<String>,
    dimensions: Option<Int>,
    normalize: Option<bool>,
}

/// How the numbers of an embedding are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// A list.
    Float,
    /// 32-bit floats, little-endian, in base64.
    Base64,
}

#[derive(Debug, Serialize)]
struct Embedding<'a> {
    index: usize,
    object: &'static str,
    embedding: Numbers<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Numbers<'a> {
    List(&'a [f32]),
    Base64(String),
}

/// Names of the fields that a body may have and that mean something.
pub fn fields() -> Vec<&'static str> {
    [field_names::<CommonBody>(), field_names::<EmbeddingBody>()].concat()
}

/// Reads a body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits) -> Result<PoolingRequest, ApiError> {
    if body.get("messages").is_some_and(|messages| !messages.is_null()) {
        let message = "Embeddings of conversations are not available. Send `input` as text or token ids.";
        return Err(ApiError::invalid("messages", message));
    }
    let (common, own): (CommonBody, EmbeddingBody) = (read(body)?, read(body)?);
    let options = common.options()?;
    let prompts = own.input.unwrap_or_default().0;
    check_prompts("input", &prompts, limits)?;
    let format = match own.encoding_format.as_deref() {
        None | Some("float") => Format::Float,
        Some("base64") => Format::Base64,
        Some(other) => {
            let message =
                format!("encoding_format is '{}'; it must be 'float' or 'base64'.", shorten(other, 60));
            return Err(ApiError::invalid("encoding_format", message));
        }
    };
    let dimensions = own.dimensions.map(|dimensions| dimensions.0);
    let work = PoolingWork::Embed { prompts, dimensions, normalize: own.normalize };
    let reply = Box::new(move |head: &ReplyHead, answer: &PoolingAnswer| write(head, answer, format));
    Ok(request(body, fields(), (options, work), reply))
}

fn write(head: &ReplyHead, answer: &PoolingAnswer, format: Format) -> Result<String, ApiError> {
    let numbers = |row| match format {
        Format::Float => Numbers::List(row),
        Format::Base64 => Numbers::Base64(base64(row)),
    };
    let embedding = |(index, row)| Embedding { index, object: "embedding", embedding: numbers(row) };
    to_json(&ListBody {
        id: &head.id,
        object: "list",
        created: head.created,
        model: &head.model,
        data: answer.rows.iter().map(Vec::as_slice).enumerate().map(embedding).collect(),
        usage: PoolingUsage::of(answer.prompt_tokens),
    })
}

fn base64(row: &[f32]) -> String {
    let bytes: Vec<u8> = row.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Prompt;

    fn parse_body(body: &Value) -> Result<PoolingRequest, ApiError> {
        parse(body, &Limits { max_texts: 3, max_prompt_chars: 10, ..Limits::default() })
    }

    fn answer() -> PoolingAnswer {
        let rows = vec![vec![1.0, -0.1], vec![0.0, 2.5]];
        PoolingAnswer { model: "m".into(), rows, labels: Vec::new(), prompt_tokens: 7 }
    }

    #[test]
    fn every_kind_of_input_is_read() {
        for (input, prompts) in [
            (json!("a"), vec![Prompt::Text("a".into())]),
            (json!(["a", "b"]), vec![Prompt::Text("a".into()), Prompt::Text("b".into())]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1], [2]]), vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2])]),
        ] {
            let request =
                parse_body(&json!({"input": input, "dimensions": 8, "user": "u", "model": "m"})).unwrap();
            let work = PoolingWork::Embed { prompts, dimensions: Some(8), normalize: None };
            assert_eq!(request.call.work, work);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": [[]]}), "input"),
            (json!({"input": ["a", "b", "c", "d"]}), "input"),
            (json!({"input": "much too long"}), "input"),
            (json!({"input": 3}), "input"),
            (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
            (json!({"input": "a", "truncate_prompt_tokens": 0}), "truncate_prompt_tokens"),
            (json!({"input": "a", "timeout": -1}), "timeout"),
            (json!({"messages": [], "input": "a"}), "messages"),
        ] {
            assert_eq!(parse_body(&body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
    }

    #[test]
    fn numbers_are_short_or_base64() {
        let head = ReplyHead { id: "e".into(), created: 5, model: "m".into() };
        let write = |format: Value| {
            let request = parse_body(&json!({"input": "a", "encoding_format": format})).unwrap();
            (request.reply)(&head, &answer()).unwrap()
        };
        let text = write(Value::Null);
        assert!(text.contains("[1.0,-0.1]"), "{text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["data"][1]["index"], 1);
        assert_eq!(body["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
        let body: Value = serde_json::from_str(&write(json!("base64"))).unwrap();
        assert_eq!(body["data"][1]["embedding"], "AAAAAAAAIEA=");
    }
}
