//! `POST /classify` and `POST /pooling` (vLLM's).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CommonBody, ListBody, PoolingUsage, check_prompts, request, to_json};
use crate::openai::completions::prompt::PromptBody;
use crate::{
    ApiError, Limits, PoolingAnswer, PoolingRequest, PoolingWork, ReplyHead, introspect::field_names, read,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClassifyBody {
    input: Option<PromptBody>,
    use_activation: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolingBody {
    input: Option<PromptBody>,
}

#[derive(Debug, Serialize)]
struct Class<'a> {
    index: usize,
    /// Of the greatest score.
    label: Option<&'a str>,
    probs: &'a [f32],
    num_classes: usize,
}

#[derive(Debug, Serialize)]
struct Pooled<'a> {
    index: usize,
    object: &'static str,
    data: &'a [f32],
}

/// Names of the fields that a `/classify` body may have and that mean something.
pub fn classify_fields() -> Vec<&'static str> {
    [field_names::<CommonBody>(), field_names::<ClassifyBody>()].concat()
}

/// Names of the fields that a `/pooling` body may have and that mean something.
pub fn pooling_fields() -> Vec<&'static str> {
    [field_names::<CommonBody>(), field_names::<PoolingBody>()].concat()
}

/// Reads a `/classify` body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse_classify(body: &Value, limits: &Limits) -> Result<PoolingRequest, ApiError> {
    let (common, own): (CommonBody, ClassifyBody) = (read(body)?, read(body)?);
    let options = common.options()?;
    let prompts = own.input.unwrap_or_default().0;
    check_prompts("input", &prompts, limits)?;
    let work = PoolingWork::Classify { prompts, scale: own.use_activation.unwrap_or(true) };
    let reply = |head: &ReplyHead, answer: &PoolingAnswer| {
        let label = |row: &[f32]| answer.labels.get(best(row)?).map(String::as_str);
        let mut classes = Vec::with_capacity(answer.rows.len());
        for (index, row) in answer.rows.iter().enumerate() {
            classes.push(Class { index, label: label(row), probs: row, num_classes: row.len() });
        }
        write(head, answer, classes)
    };
    Ok(request(body, classify_fields(), (options, work), Box::new(reply)))
}

/// Reads a `/pooling` body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse_pooling(body: &Value, limits: &Limits) -> Result<PoolingRequest, ApiError> {
    let (common, own): (CommonBody, PoolingBody) = (read(body)?, read(body)?);
    let options = common.options()?;
    let prompts = own.input.unwrap_or_default().0;
    check_prompts("input", &prompts, limits)?;
    let reply = |head: &ReplyHead, answer: &PoolingAnswer| {
        let rows = answer.rows.iter().enumerate();
        write(head, answer, rows.map(|(index, row)| Pooled { index, object: "pooling", data: row }).collect())
    };
    let work = PoolingWork::Pool { prompts };
    Ok(request(body, pooling_fields(), (options, work), Box::new(reply)))
}

fn best(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]))
}

fn write<T: Serialize>(head: &ReplyHead, answer: &PoolingAnswer, data: Vec<T>) -> Result<String, ApiError> {
    to_json(&ListBody {
        id: &head.id,
        object: "list",
        created: head.created,
        model: &head.model,
        data,
        usage: PoolingUsage::of(answer.prompt_tokens),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_label_is_that_of_the_greatest_score() {
        let answer = PoolingAnswer {
            model: "m".into(),
            rows: vec![vec![0.25, 0.75], vec![0.5, 0.25]],
            labels: vec!["no".into(), "yes".into()],
            prompt_tokens: 4,
        };
        let head = ReplyHead { id: "c".into(), created: 1, model: "m".into() };
        let request = parse_classify(&json!({"input": ["a", "b"]}), &Limits::default()).unwrap();
        let body: Value = serde_json::from_str(&(request.reply)(&head, &answer).unwrap()).unwrap();
        assert_eq!(
            body["data"][0],
            json!({"index": 0, "label": "yes", "probs": [0.25, 0.75], "num_classes": 2})
        );
        assert_eq!(body["data"][1]["label"], "no");
        let request = parse_pooling(&json!({"input": [1, 2]}), &Limits::default()).unwrap();
        let body: Value = serde_json::from_str(&(request.reply)(&head, &answer).unwrap()).unwrap();
        assert_eq!(body["data"][1], json!({"index": 1, "object": "pooling", "data": [0.5, 0.25]}));
        assert!(parse_pooling(&json!({}), &Limits::default()).is_err());
    }
}
