//! Items, which requests and answers are made of, and the answer around them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::ApiError;

/// A piece of a conversation, in a request's input or an answer's output. As JSON it is both what clients see and what
/// is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Item {
    Message(Message),
    Reasoning(Reasoning),
    FunctionCall(FunctionCall),
    FunctionCallOutput(CallOutput),
    McpListTools(McpListTools),
    McpCall(McpCall),
    McpApprovalRequest(McpApprovalRequest),
    McpApprovalResponse(McpApprovalResponse),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) status: ItemStatus,
    pub(super) role: Role,
    pub(super) content: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Reasoning {
    pub(super) id: String,
    pub(super) status: ItemStatus,
    /// The reasoning once more, if a summary was asked for: nothing here sums up.
    pub(super) summary: Vec<Part>,
    pub(super) content: Vec<Part>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) encrypted_content: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct FunctionCall {
    pub(super) id: String,
    pub(super) status: ItemStatus,
    pub(super) call_id: String,
    /// The group of tools that the function is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    /// JSON text; only its beginning if the call is incomplete.
    pub(super) arguments: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct CallOutput {
    pub(super) id: String,
    pub(super) status: ItemStatus,
    pub(super) call_id: String,
    pub(super) output: OutputText,
}

/// The tools of an MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct McpListTools {
    pub(super) id: String,
    pub(super) server_label: String,
    pub(super) tools: Vec<Value>,
    pub(super) error: Option<String>,
}

/// A call that the server ran.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct McpCall {
    pub(super) id: String,
    pub(super) status: ItemStatus,
    pub(super) server_label: String,
    pub(super) name: String,
    /// JSON text; only its beginning if the call is incomplete.
    pub(super) arguments: String,
    pub(super) output: Option<String>,
    /// What went wrong, in the place of `output`.
    pub(super) error: Option<String>,
    pub(super) approval_request_id: Option<String>,
}

/// A call that the client has to approve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct McpApprovalRequest {
    pub(super) id: String,
    pub(super) server_label: String,
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

/// The client's word about a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct McpApprovalResponse {
    pub(super) id: String,
    pub(super) approval_request_id: String,
    pub(super) approve: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

/// What a tool answered, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum OutputText {
    Text(String),
    Parts(Vec<InputText>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum InputText {
    InputText { text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ItemStatus {
    InProgress,
    Completed,
    Incomplete,
    /// Only of calls that the server ran.
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    User,
    Assistant,
    System,
    Developer,
}

/// Content of a message or of reasoning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part {
    InputText { text: String },
    OutputText { text: String, annotations: Vec<Value>, logprobs: Vec<Value> },
    Refusal { refusal: String },
    ReasoningText { text: String },
    SummaryText { text: String },
}

/// The state of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In the background, not yet begun.
    Queued,
    /// Being written.
    InProgress,
    /// The model came to its end.
    Completed,
    /// It was cut off.
    Incomplete,
    /// It was cancelled.
    Cancelled,
    /// It could not go on.
    Failed,
}

/// An answer with what it was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Response {
    pub(super) id: String,
    pub(super) object: &'static str,
    pub(super) created_at: u64,
    pub(super) status: Status,
    pub(super) completed_at: Option<u64>,
    pub(super) error: Option<Value>,
    pub(super) incomplete_details: Option<Value>,
    pub(super) model: String,
    pub(super) output: Vec<Item>,
    pub(super) usage: Option<UsageBody>,
    /// What the request said.
    #[serde(flatten)]
    pub(super) asked: Map<String, Value>,
}

/// `usage`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UsageBody {
    pub(super) input_tokens: usize,
    pub(super) input_tokens_details: InputTokensDetails,
    pub(super) output_tokens: usize,
    pub(super) output_tokens_details: OutputTokensDetails,
    pub(super) total_tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct InputTokensDetails {
    /// Prompt tokens whose prefix was cached.
    pub(super) cached_tokens: usize,
    /// Always 0: what is computed is cached without being asked, and costs nothing more.
    pub(super) cache_write_tokens: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OutputTokensDetails {
    pub(super) reasoning_tokens: usize,
}

impl Item {
    /// By which other requests may refer to it.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Message(message) => &message.id,
            Self::Reasoning(reasoning) => &reasoning.id,
            Self::FunctionCall(call) => &call.id,
            Self::FunctionCallOutput(output) => &output.id,
            Self::McpListTools(list) => &list.id,
            Self::McpCall(call) => &call.id,
            Self::McpApprovalRequest(request) => &request.id,
            Self::McpApprovalResponse(response) => &response.id,
        }
    }

    /// Characters that a template may show of it.
    pub(super) fn chars(&self) -> usize {
        let parts = |parts: &[Part]| parts.iter().map(|part| part.text().chars().count()).sum();
        match self {
            Self::Message(message) => parts(&message.content),
            Self::Reasoning(reasoning) => parts(&reasoning.content),
            Self::FunctionCall(call) => call.name.chars().count() + call.arguments.chars().count(),
            Self::FunctionCallOutput(output) => output.output.text().chars().count(),
            // The model gets its tools from the request and not from here.
            Self::McpListTools(_) => 0,
            Self::McpCall(call) => {
                let result = call.output.as_ref().or(call.error.as_ref());
                call.name.chars().count()
                    + call.arguments.chars().count()
                    + result.map_or(0, |t| t.chars().count())
            }
            Self::McpApprovalRequest(request) => {
                request.name.chars().count() + request.arguments.chars().count()
            }
            Self::McpApprovalResponse(response) => {
                response.reason.as_ref().map_or(0, |text| text.chars().count())
            }
        }
    }
}

impl Role {
    /// As templates know it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Developer => "developer",
        }
    }
}

impl Part {
    /// An answer's text that is about to grow.
    pub(super) fn output_text(text: String) -> Self {
        Self::OutputText { text, annotations: Vec::new(), logprobs: Vec::new() }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::InputText { text }
            | Self::OutputText { text, .. }
            | Self::ReasoningText { text }
            | Self::SummaryText { text } => text,
            Self::Refusal { refusal } => refusal,
        }
    }
}

impl OutputText {
    /// Parts are joined by line breaks, as in messages.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Parts(parts) => {
                let texts: Vec<&str> =
                    parts.iter().map(|InputText::InputText { text }| text.as_str()).collect();
                texts.join("\n")
            }
        }
    }
}

impl Status {
    /// Whether nothing more will happen.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }
}

/// The `error` of an answer that failed.
pub(super) fn error_value(error: &ApiError) -> Value {
    let code = match error.kind.status() {
        429 | 503 => "rate_limit_exceeded",
        400..500 => "invalid_prompt",
        _ => "server_error",
    };
    json!({"code": code, "message": error.message})
}
