//! `POST /score`, `/v1/score` (vLLM's).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CommonBody, ListBody, PoolingUsage, check_count, check_instruction, check_pairs, check_text, request,
    to_json,
};
use crate::{
    ApiError, Limits, PoolingAnswer, PoolingRequest, PoolingWork, ReplyHead, StringOrList,
    introspect::field_names, read,
};

/// The two sides have had several names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ScoreBody {
    text_1: Option<StringOrList>,
    text_2: Option<StringOrList>,
    queries: Option<StringOrList>,
    documents: Option<StringOrList>,
    use_activation: Option<bool>,
    instruction: Option<String>,
}

#[derive(Debug, Serialize)]
struct Score {
    index: usize,
    object: &'static str,
    score: f32,
}

/// Names of the fields that a body may have and that mean something.
pub fn fields() -> Vec<&'static str> {
    [field_names::<CommonBody>(), field_names::<ScoreBody>()].concat()
}

/// Reads a body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits) -> Result<PoolingRequest, ApiError> {
    let (common, own): (CommonBody, ScoreBody) = (read(body)?, read(body)?);
    let options = common.options()?;
    let side = |name: &str, texts: Option<StringOrList>| {
        let texts = texts.unwrap_or_default().0;
        check_count(name, texts.len(), limits)?;
        texts.iter().try_for_each(|text| check_text(name, text, limits))?;
        Ok::<_, ApiError>(texts)
    };
    let queries = side("text_1", own.text_1.or(own.queries))?;
    let documents = side("text_2", own.text_2.or(own.documents))?;
    if queries.len() != 1 && queries.len() != documents.len() {
        let message = format!(
            "text_1 holds {} texts and text_2 holds {}; give one and many, or as many of both.",
            queries.len(),
            documents.len()
        );
        return Err(ApiError::invalid("text_1", message));
    }
    if let [query] = &*queries {
        check_pairs("text_1", query, documents.len(), limits)?;
    }
    let instruction = check_instruction(own.instruction, documents.len(), limits)?;
    let scale = own.use_activation.unwrap_or(true);
    let work = PoolingWork::Score { queries, documents, instruction, scale };
    Ok(request(body, fields(), (options, work), Box::new(write)))
}

fn write(head: &ReplyHead, answer: &PoolingAnswer) -> Result<String, ApiError> {
    let score = |(index, row): (usize, &Vec<f32>)| Score {
        index,
        object: "score",
        score: row.first().copied().unwrap_or_default(),
    };
    to_json(&ListBody {
        id: &head.id,
        object: "list",
        created: head.created,
        model: &head.model,
        data: answer.rows.iter().enumerate().map(score).collect(),
        usage: PoolingUsage::of(answer.prompt_tokens),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_to_many_and_pairs_are_read_and_nothing_else() {
        let work = |body: &Value| parse(body, &Limits::default()).map(|request| request.call.work);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (queries, documents) = (texts(&["a"]), texts(&["b", "c"]));
        let one = PoolingWork::Score { queries, documents, instruction: None, scale: true };
        assert_eq!(work(&json!({"text_1": "a", "text_2": ["b", "c"]})).unwrap(), one);
        assert_eq!(work(&json!({"queries": ["a"], "documents": ["b", "c"]})).unwrap(), one);
        assert!(work(&json!({"text_1": ["a", "b"], "text_2": ["c", "d"]})).is_ok());
        for body in [
            json!({"text_1": ["a", "b"], "text_2": ["c"]}),
            json!({"text_2": "c"}),
            json!({"text_1": "a", "text_2": []}),
            json!({"text_1": 1, "text_2": "b"}),
        ] {
            assert!(work(&body).is_err(), "{body}");
        }
    }
}
