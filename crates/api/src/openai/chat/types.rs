//! Wire shapes of chat completions.

use millrace_types::TokenId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::mcp::{McpBody, McpCallBody};
use crate::{Int, openai::UsageBody};

/// Fields that only chat completions have.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ChatBody {
    pub(super) logprobs: Option<bool>,
    pub(super) top_logprobs: Option<Int>,
    pub(super) include_reasoning: Option<bool>,
    pub(super) mcp: Option<McpBody>,
    /// The latter two are [`Question`](super::Question)'s.
    store: Option<bool>,
    metadata: Option<Value>,
}

/// The conversation and what its template sees; `/tokenize` reads it too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TemplateBody {
    pub(super) messages: Option<Vec<Value>>,
    pub(super) tools: Option<Vec<Value>>,
    pub(super) tool_choice: Option<Value>,
    pub(super) parallel_tool_calls: Option<bool>,
    pub(super) documents: Option<Vec<Value>>,
    pub(super) add_generation_prompt: Option<bool>,
    pub(super) continue_final_message: Option<bool>,
    pub(super) chat_template_kwargs: Option<Map<String, Value>>,
    pub(super) enable_thinking: Option<bool>,
    pub(super) reasoning_effort: Option<String>,
    pub(super) add_special_tokens: Option<bool>,
}

/// A whole answer.
#[derive(Debug, Serialize)]
pub(super) struct ChatCompletion<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<Choice>,
    pub(super) usage: UsageBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_logprobs: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Choice {
    pub(super) index: usize,
    pub(super) message: Message,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: &'static str,
    pub(super) stop_reason: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) role: &'static str,
    /// Null beside calls, if there is no text.
    pub(super) content: Option<String>,
    pub(super) refusal: Option<String>,
    #[serde(flatten)]
    pub(super) reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCallBody>,
    /// Ours: calls that the server has run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mcp_calls: Vec<McpCallBody>,
}

/// A piece of a streamed answer.
#[derive(Debug, Serialize)]
pub(super) struct Chunk<'a> {
    pub(super) id: &'a str,
    pub(super) object: &'static str,
    pub(super) created: u64,
    pub(super) model: &'a str,
    pub(super) choices: Vec<ChunkChoice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<UsageBody>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prompt_token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Serialize)]
pub(super) struct ChunkChoice {
    pub(super) index: usize,
    pub(super) delta: MessageDelta,
    pub(super) logprobs: Option<Logprobs>,
    pub(super) finish_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stop_reason: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_ids: Option<Vec<TokenId>>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct MessageDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(flatten)]
    pub(super) reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCallBody>,
    /// Ours: calls that the server runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mcp_calls: Vec<McpCallBody>,
}

/// Reasoning under both names that vLLM has had for it; clients read one or the other.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reasoning {
    pub(super) reasoning: String,
    pub(super) reasoning_content: String,
}

impl Reasoning {
    /// None if there is no text.
    pub(super) fn of(text: String) -> Option<Self> {
        (!text.is_empty()).then(|| Self { reasoning: text.clone(), reasoning_content: text })
    }
}

/// An entry of `tool_calls`, in a message or in a chunk.
#[derive(Debug, Serialize)]
pub(super) struct ToolCallBody {
    /// Only in chunks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) index: Option<usize>,
    /// As `kind` and the name: not in chunks that only go on with a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(super) kind: Option<&'static str>,
    pub(super) function: FunctionBody,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct FunctionBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

/// `logprobs` of a choice or chunk.
#[derive(Debug, Serialize)]
pub(super) struct Logprobs {
    pub(super) content: Vec<TokenLogprob>,
}

/// A sampled token with its probability.
#[derive(Debug, Serialize)]
pub(in crate::openai) struct TokenLogprob {
    pub(super) token: String,
    pub(super) logprob: f64,
    pub(super) bytes: Vec<u8>,
    pub(super) top_logprobs: Vec<TopLogprob>,
}

#[derive(Debug, Serialize)]
pub(super) struct TopLogprob {
    pub(super) token: String,
    pub(super) logprob: f64,
    pub(super) bytes: Vec<u8>,
}
