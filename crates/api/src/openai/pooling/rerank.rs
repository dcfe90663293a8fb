//! `POST /rerank`, `/v1/rerank`, `/v2/rerank`: the shapes of Jina's and Cohere's APIs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    CommonBody, PoolingUsage, check_count, check_instruction, check_pairs, check_text, request, to_json,
};
use crate::{
    ApiError, Int, Limits, PoolingAnswer, PoolingRequest, PoolingWork, ReplyHead, introspect::field_names,
    read,
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RerankBody {
    query: Option<String>,
    documents: Option<Vec<Document>>,
    top_n: Option<Int>,
    return_documents: Option<bool>,
    use_activation: Option<bool>,
    instruction: Option<String>,
}

/// A text, alone or in an object.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    id: &'a str,
    model: &'a str,
    usage: PoolingUsage,
    results: Vec<Ranked<'a>>,
}

#[derive(Debug, Serialize)]
struct Ranked<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Shown<'a>>,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    text: &'a str,
}

/// Names of the fields that a body may have and that mean something.
pub fn fields() -> Vec<&'static str> {
    [field_names::<CommonBody>(), field_names::<RerankBody>()].concat()
}

/// Reads a body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits) -> Result<PoolingRequest, ApiError> {
    for field in ["rank_fields", "max_tokens_per_doc", "max_chunks_per_doc"] {
        if body.get(field).is_some_and(|value| !value.is_null()) {
            let message = format!("`{field}` is not supported by this server. Leave it out.");
            return Err(ApiError::invalid(field, message));
        }
    }
    let (common, own): (CommonBody, RerankBody) = (read(body)?, read(body)?);
    let options = common.options()?;
    let query = own.query.ok_or_else(|| ApiError::invalid("query", "`query` is required: a text."))?;
    check_text("query", &query, limits)?;
    let documents: Vec<String> =
        own.documents.unwrap_or_default().into_iter().map(Document::into_text).collect();
    check_count("documents", documents.len(), limits)?;
    check_pairs("query", &query, documents.len(), limits)?;
    documents.iter().try_for_each(|text| check_text("documents", text, limits))?;
    let instruction = check_instruction(own.instruction, documents.len(), limits)?;
    // As in vLLM, 0 is all of them.
    let top = match own.top_n.map_or(0, |top| top.0) {
        0 => documents.len(),
        top => usize::try_from(top)
            .map_err(|_| ApiError::invalid("top_n", format!("top_n is {top}; it must not be negative.")))?,
    };
    let shown = own.return_documents.unwrap_or(true).then(|| documents.clone());
    let scale = own.use_activation.unwrap_or(true);
    let work = PoolingWork::Score { queries: vec![query], documents, instruction, scale };
    let reply =
        Box::new(move |head: &ReplyHead, answer: &PoolingAnswer| write(head, answer, top, shown.as_deref()));
    Ok(request(body, fields(), (options, work), reply))
}

impl Document {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

fn write(
    head: &ReplyHead,
    answer: &PoolingAnswer,
    top: usize,
    documents: Option<&[String]>,
) -> Result<String, ApiError> {
    let score = |row: &Vec<f32>| row.first().copied().unwrap_or_default();
    let mut results: Vec<Ranked<'_>> = answer
        .rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let text = documents.and_then(|documents| documents.get(index));
            Ranked { index, relevance_score: score(row), document: text.map(|text| Shown { text }) }
        })
        .collect();
    // Equal scores keep their order.
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(top);
    to_json(&Answer {
        id: &head.id,
        model: &head.model,
        usage: PoolingUsage::of(answer.prompt_tokens),
        results,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_best_come_first_and_keep_their_index() {
        let body = json!({"query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2});
        let request = parse(&body, &Limits::default()).unwrap();
        let documents = ["a", "b", "c"].map(String::from).to_vec();
        let work =
            PoolingWork::Score { queries: vec!["q".into()], documents, instruction: None, scale: true };
        assert_eq!(request.call.work, work);
        let rows = vec![vec![0.25], vec![0.75], vec![0.5]];
        let answer = PoolingAnswer { model: "m".into(), rows, labels: Vec::new(), prompt_tokens: 3 };
        let head = ReplyHead { id: "r".into(), created: 0, model: "m".into() };
        let written: Value = serde_json::from_str(&(request.reply)(&head, &answer).unwrap()).unwrap();
        assert_eq!(
            written,
            json!({"id": "r", "model": "m", "usage": {"prompt_tokens": 3, "total_tokens": 3}, "results": [
                {"index": 1, "relevance_score": 0.75, "document": {"text": "b"}},
                {"index": 2, "relevance_score": 0.5, "document": {"text": "c"}},
            ]})
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": []}), "documents"),
            (json!({"query": "q", "documents": ["a"], "top_n": -1}), "top_n"),
            (json!({"query": "q", "documents": ["a"], "rank_fields": ["x"]}), "rank_fields"),
        ] {
            assert_eq!(parse(&body, &Limits::default()).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        assert!(parse(&json!({"query": "q", "documents": [{"title": "a"}]}), &Limits::default()).is_err());
        // Little to send, much to read.
        let limits = Limits { max_body_bytes: 1000, ..Limits::default() };
        let body = json!({"query": "q".repeat(101), "documents": vec!["d"; 10]});
        assert!(parse(&body, &limits).unwrap_err().message.contains("1000 bytes"));
    }
}
