//! Wire shapes of text completions.

use millrace_types::TokenId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::prompt::PromptBody;
use crate::{Int, openai::UsageBody};

/// Fields that only text completions have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CompletionBody {
    pub(super) prompt: Option<PromptBody>,
    pub(super) logprobs: Option<Int>,
    pub(super) add_special_tokens: Option<bool>,
    pub(super) suffix: Option<String>,
}

/// A whole answer, or a piece of a streamed one: OpenAI gives both the same shape.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<CompletionChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct CompletionChoice {
    pub(super) index: usize,
    pub(super) text: String,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
    pub(super) stop_reason: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_logprobs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<TokenId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_token_ids: Option<Vec<TokenId>>,
}

/// `logprobs` of a choice; the lists are parallel.
#[derive(Debug, Default, Serialize)]
pub(super) struct Logprobs {
    /// Where each token begins in the choice's text, in characters.
    pub(super) text_offset: Vec<usize>,
    pub(super) token_logprobs: Vec<Option<f64>>,
    pub(super) tokens: Vec<String>,
    /// The asked number of alternatives, and the token itself if it isn't among them.
    pub(super) top_logprobs: Vec<Option<Map<String, Value>>>,
}
