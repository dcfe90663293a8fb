//! Parts of an answer that both endpoints share.

use millrace_types::Usage;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{End, EndReason, Scored, StopCause};

/// `usage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsageBody {
    /// Tokens of the prompts.
    pub prompt_tokens: usize,
    /// Prompt and completion together.
    pub total_tokens: usize,
    /// Sampled tokens.
    pub completion_tokens: usize,
    /// Where the prompt tokens came from.
    pub prompt_tokens_details: PromptTokensDetails,
    /// What the completion tokens were for; conversations only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// `usage.prompt_tokens_details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromptTokensDetails {
    /// Prompt tokens that weren't computed, because their prefix was cached.
    pub cached_tokens: usize,
}

/// `usage.completion_tokens_details`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CompletionTokensDetails {
    /// Completion tokens that were reasoning, its markers included.
    pub reasoning_tokens: usize,
}

impl UsageBody {
    /// Adds how many of the completion tokens were reasoning.
    #[must_use]
    pub(super) fn with_reasoning(self, reasoning_tokens: usize) -> Self {
        Self { completion_tokens_details: Some(CompletionTokensDetails { reasoning_tokens }), ..self }
    }
}

impl From<&Usage> for UsageBody {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            completion_tokens: usage.completion_tokens,
            prompt_tokens_details: PromptTokensDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: None,
        }
    }
}

/// `finish_reason` of a conversation's choice. `called`: it holds a complete call.
pub(super) fn chat_finish_reason(end: &End, called: bool) -> &'static str {
    match end.reason {
        EndReason::Stop if called => "tool_calls",
        _ => finish_reason(end),
    }
}

/// `finish_reason`.
pub(super) fn finish_reason(end: &End) -> &'static str {
    match end.reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Abort => "abort",
    }
}

/// `stop_reason` (vLLM's): the stop string or token, null otherwise.
pub(super) fn stop_reason(end: &End) -> Value {
    match &end.stop {
        Some(StopCause::Text(text)) => json!(text),
        Some(StopCause::Token(id)) => json!(id),
        None => Value::Null,
    }
}

/// A logprob as JSON shows it: with as few digits as tell a `f32` apart. JSON has no infinity; vLLM's floor stands
/// in for the logprob of an impossible token.
pub(super) fn shown_logprob(logprob: f32) -> f64 {
    let logprob = logprob.max(-9999.0);
    // Widening alone would turn -0.1 into -0.10000000149011612.
    logprob.to_string().parse().unwrap_or(f64::from(logprob))
}

/// `prompt_logprobs` (vLLM's): per position null or `{id: {logprob, rank, decoded_token}}`.
pub(super) fn prompt_logprobs(positions: &[Option<Scored>]) -> Value {
    positions.iter().map(|position| position.as_ref().map_or(Value::Null, prompt_position)).collect()
}

fn prompt_position(scored: &Scored) -> Value {
    let mut entries = Map::new();
    let mut add = |id: u32, logprob: f32, rank: u32, text: String| {
        let entry = json!({"logprob": shown_logprob(logprob), "rank": rank, "decoded_token": text});
        entries.entry(id.to_string()).or_insert(entry);
    };
    if let Some(logprob) = scored.logprob {
        add(scored.token.id, logprob, scored.rank, scored.token.text());
    }
    for (rank, (token, logprob)) in (1..).zip(&scored.top) {
        add(token.id, *logprob, rank, token.text());
    }
    Value::Object(entries)
}
