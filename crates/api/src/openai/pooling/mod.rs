//! What OpenAI's API, as vLLM extends it, makes of whole texts: `/v1/embeddings`, `/score`, `/rerank` (the shapes of
//! Cohere and Jina), `/classify`, `/pooling`.

mod embeddings;
mod rerank;
mod score;
mod texts;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use embeddings::{fields as embedding_fields, parse as parse_embeddings};
pub use rerank::{fields as rerank_fields, parse as parse_rerank};
pub use score::{fields as score_fields, parse as parse_score};
pub use texts::{classify_fields, parse_classify, parse_pooling, pooling_fields};

use super::unsupported::ignored;
use crate::{
    ApiError, Int, Limits, PoolingCall, PoolingOptions, PoolingReply, PoolingRequest, PoolingWork, Prompt,
    options::check_timeout,
};

/// Fields that all of these requests have. Unknown ones are ignored, as in vLLM, and told.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CommonBody {
    model: Option<String>,
    truncate_prompt_tokens: Option<Int>,
    add_special_tokens: Option<bool>,
    priority: Option<i32>,
    timeout: Option<f64>,
}

impl CommonBody {
    fn options(self) -> Result<PoolingOptions, ApiError> {
        let truncate = self.truncate_prompt_tokens.map(|most| most.0);
        if let Some(most) = truncate.filter(|most| *most < 1 && *most != -1) {
            let message = format!(
                "truncate_prompt_tokens is {most}; it must be at least 1, or -1 for what the model reads."
            );
            return Err(ApiError::invalid("truncate_prompt_tokens", message));
        }
        check_timeout(self.timeout)?;
        Ok(PoolingOptions {
            model: self.model,
            truncate,
            add_special_tokens: self.add_special_tokens.unwrap_or(true),
            priority: self.priority.unwrap_or(0),
            timeout: self.timeout,
        })
    }
}

/// A request out of `body`, which may have had more fields than these.
fn request(
    body: &Value,
    fields: Vec<&'static str>,
    (options, work): (PoolingOptions, PoolingWork),
    reply: PoolingReply,
) -> PoolingRequest {
    let ignored = ignored(body, &fields.into_iter().collect());
    PoolingRequest { call: PoolingCall { options, work }, reply, ignored }
}

/// `usage` of answers that hold no text.
#[derive(Debug, Serialize)]
struct PoolingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

impl PoolingUsage {
    fn of(prompt_tokens: usize) -> Self {
        Self { prompt_tokens, total_tokens: prompt_tokens }
    }
}

/// An answer with a list.
#[derive(Debug, Serialize)]
struct ListBody<'a, T> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    data: Vec<T>,
    usage: PoolingUsage,
}

fn to_json(body: &impl Serialize) -> Result<String, ApiError> {
    serde_json::to_string(body)
        .map_err(|error| ApiError::internal(format!("The answer can't be written: {error}.")))
}

/// Checks number and size of the texts of the field `name`.
fn check_prompts(name: &str, prompts: &[Prompt], limits: &Limits) -> Result<(), ApiError> {
    check_count(name, prompts.len(), limits)?;
    for prompt in prompts {
        match prompt {
            Prompt::Tokens(ids) if ids.is_empty() => {
                return Err(ApiError::invalid(name, format!("`{name}` holds an empty list of token ids.")));
            }
            // Who reads the texts refuses gaps.
            Prompt::Tokens(_) | Prompt::Gap { .. } => {}
            Prompt::Text(text) => check_text(name, text, limits)?,
        }
    }
    Ok(())
}

fn check_count(name: &str, count: usize, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.max_texts;
    match count {
        0 => Err(ApiError::invalid(name, format!("`{name}` must hold at least one text."))),
        count if count > most => {
            let message = format!("`{name}` holds {count} texts; one request may have at most {most}.");
            Err(ApiError::invalid(name, message))
        }
        _ => Ok(()),
    }
}

/// A query is read again with each of its documents: together they may be no longer than a body.
fn check_pairs(name: &str, query: &str, documents: usize, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.max_body_bytes;
    if query.len().saturating_mul(documents) <= most {
        return Ok(());
    }
    let message = format!(
        "`{name}` has {} bytes and is read with each of {documents} documents; all readings together may have at most \
         {most} bytes. Send fewer documents at a time.",
        query.len()
    );
    Err(ApiError::invalid(name, message))
}

/// An instruction is read with each document, as a query is; an empty one is none.
fn check_instruction(
    instruction: Option<String>,
    documents: usize,
    limits: &Limits,
) -> Result<Option<String>, ApiError> {
    let instruction = instruction.filter(|text| !text.is_empty());
    if let Some(text) = &instruction {
        check_text("instruction", text, limits)?;
        check_pairs("instruction", text, documents, limits)?;
    }
    Ok(instruction)
}

fn check_text(name: &str, text: &str, limits: &Limits) -> Result<(), ApiError> {
    let most = limits.max_prompt_chars;
    match text.chars().nth(most) {
        Some(_) => {
            Err(ApiError::invalid(name, format!("A text of `{name}` may hold at most {most} characters.")))
        }
        None => Ok(()),
    }
}
