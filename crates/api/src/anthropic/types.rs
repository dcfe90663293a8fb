//! A request as it was read, and the wire shapes of answers.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{ServerRule, Structure, ToolChoice};

/// A whole request.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) conversation: Conversation,
    pub(super) options: Options,
}

/// What the prompt is made of.
pub(super) struct Conversation {
    /// Text blocks.
    pub(super) system: Vec<String>,
    pub(super) messages: Vec<Message>,
    /// In OpenAI's shape.
    pub(super) tools: Vec<Value>,
    /// Names of those whose inputs are held to their schema.
    pub(super) strict_tools: Vec<String>,
    pub(super) tool_choice: ToolChoice,
    /// MCP servers whose tools the model may call too.
    pub(super) servers: Vec<ServerRule>,
    pub(super) parallel_tool_calls: bool,
    pub(super) thinking: Thinking,
    /// `output_config.effort` as templates know it.
    pub(super) effort: Option<&'static str>,
}

/// How the answer is made and shown.
pub(super) struct Options {
    /// At least 1.
    pub(super) max_tokens: usize,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<i64>,
    pub(super) stop_sequences: Vec<String>,
    pub(super) stream: bool,
    /// What the answer is held to.
    pub(super) structure: Option<Structure>,
    /// Show what was thought, not only that it was.
    pub(super) show_thinking: bool,
    /// Most tokens of it.
    pub(super) thinking_budget: Option<i64>,
    /// The client marks what to cache, and wants to be told what was.
    pub(super) cache_marked: bool,
}

/// `thinking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thinking {
    pub(super) on: bool,
    pub(super) shown: bool,
    /// Most tokens of it.
    pub(super) budget: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    User,
    Assistant,
    /// In the middle of a conversation; at its head stands the field `system`.
    System,
}

pub(super) struct Message {
    pub(super) role: Role,
    pub(super) blocks: Vec<Block>,
}

/// A content block of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Block {
    /// Text, or what reads as text: documents and search results.
    Text(String),
    Thinking(String),
    /// Encrypted for another model; nothing here can read it.
    RedactedThinking,
    ToolUse {
        id: String,
        name: String,
        input: Map<String, Value>,
    },
    ToolResult {
        id: String,
        text: String,
    },
    /// A call that a server has run in the middle of the message.
    ServerToolUse {
        id: String,
        server: String,
        name: String,
        input: Map<String, Value>,
    },
    /// What it came to.
    ServerToolResult {
        id: String,
        text: String,
    },
}

impl Message {
    /// Whether the assistant has begun to answer with these words; after a result it begins anew.
    pub(super) fn is_begun_answer(&self) -> bool {
        self.role == Role::Assistant && !matches!(self.blocks.last(), Some(Block::ServerToolResult { .. }))
    }
}

/// A message of an answer; with no content at the beginning of a stream.
#[derive(Debug, Serialize)]
pub(super) struct MessageBody<'a> {
    pub(super) id: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) role: &'static str,
    pub(super) model: &'a str,
    pub(super) content: Vec<ContentBlock>,
    #[serde(flatten)]
    pub(super) end: EndBody,
    pub(super) usage: UsageBody,
}

/// How an answer ended; both null as long as it hasn't.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct EndBody {
    pub(super) stop_reason: Option<&'static str>,
    pub(super) stop_sequence: Option<String>,
}

/// A content block of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ContentBlock {
    Text { text: String },
    Thinking { thinking: String, signature: &'static str },
    ToolUse { id: String, name: String, input: Map<String, Value> },
    McpToolUse { id: String, name: String, server_name: String, input: Map<String, Value> },
    McpToolResult { tool_use_id: String, is_error: bool, content: Vec<ContentBlock> },
}

/// More of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub(super) enum BlockDelta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'static str },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: String },
}

/// `usage`. The three kinds of input tokens together are the prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UsageBody {
    /// Prompt tokens that were computed, without the next ones.
    pub(super) input_tokens: usize,
    /// Prompt tokens that were computed and stay cached; 0 if the client marks nothing.
    pub(super) cache_creation_input_tokens: usize,
    /// Prompt tokens whose prefix was cached.
    pub(super) cache_read_input_tokens: usize,
    pub(super) output_tokens: usize,
    pub(super) output_tokens_details: OutputTokensDetails,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OutputTokensDetails {
    pub(super) thinking_tokens: usize,
}

/// A server-sent event.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    MessageStart { message: MessageBody<'a> },
    ContentBlockStart { index: usize, content_block: ContentBlock },
    ContentBlockDelta { index: usize, delta: BlockDelta },
    ContentBlockStop { index: usize },
    MessageDelta { delta: EndBody, usage: UsageBody },
    MessageStop,
    Ping,
}

impl Event<'_> {
    /// The `event:` line.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Ping => "ping",
        }
    }
}
