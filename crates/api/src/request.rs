//! The neutral request: what every vendor's body becomes.

use millrace_types::TokenId;
use serde_json::{Map, Value};

use crate::{GenerationOptions, ServerTools};

/// One request for text. It yields prompts × `n` choices, in that order.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// The model's name as the client wrote it; `None` is the server's first model.
    pub model: Option<String>,
    /// What to continue.
    pub input: Input,
    /// How to continue it.
    pub options: GenerationOptions,
}

/// What a request continues.
#[derive(Debug, Clone)]
pub enum Input {
    /// A conversation, rendered by the model's chat template.
    Chat(Box<ChatInput>),
    /// Raw prompts, at least one.
    Prompts {
        /// Each is continued on its own.
        prompts: Vec<Prompt>,
        /// Whether the tokenizer adds its begin-of-sequence tokens to text prompts.
        add_special_tokens: bool,
    },
}

/// A raw prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// To be tokenized.
    Text(String),
    /// As it is. Ids are checked against the vocabulary later.
    Tokens(Vec<TokenId>),
    /// Two texts, of which the answer is to be what stands between them.
    Gap {
        /// What stands before it.
        before: String,
        /// What stands after it; not empty.
        after: String,
    },
}

/// A conversation and what its template may look at.
#[derive(Debug, Clone)]
pub struct ChatInput {
    /// Message objects with `role` and `content` (a string); all other fields as the client sent them.
    pub messages: Vec<Value>,
    /// Tool definitions in OpenAI's shape; empty if there are none or the model must not see any.
    pub tools: Vec<Value>,
    /// Names of those whose arguments are held to their schema.
    pub strict_tools: Vec<String>,
    /// Whether the model may, must or must not call them.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls; if not, it ends after its first complete one.
    pub parallel_tool_calls: bool,
    /// Tools that the server runs itself, if the request asks for any.
    pub server_tools: Option<ServerTools>,
    /// Documents for retrieval templates.
    pub documents: Vec<Value>,
    /// Open the assistant's turn after the last message.
    pub add_generation_prompt: bool,
    /// Leave the last message open and go on writing it.
    pub continue_final_message: bool,
    /// Further template variables, such as `enable_thinking`.
    pub template_kwargs: Map<String, Value>,
    /// Whether the tokenizer adds its special tokens; templates usually write them themselves.
    pub add_special_tokens: bool,
    /// Open the answer with the text of the message that is continued.
    pub echo: bool,
}

/// What the model may do with its tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It decides.
    #[default]
    Auto,
    /// It must not call any: what looks like a call stays text.
    None,
    /// It must call at least one.
    Required,
    /// It must call the function of this name.
    Named(String),
}

impl Default for ChatInput {
    /// No messages, an opened assistant's turn left to the caller, and parallel calls allowed, as all vendors have it.
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            tools: Vec::new(),
            strict_tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            server_tools: None,
            documents: Vec::new(),
            add_generation_prompt: false,
            continue_final_message: false,
            template_kwargs: Map::new(),
            add_special_tokens: false,
            echo: false,
        }
    }
}

impl ChatInput {
    /// Whether calls are to be looked for in the answer.
    pub fn may_call(&self) -> bool {
        !self.tools.is_empty() && self.tool_choice != ToolChoice::None
    }

    /// The text of the last message, if it is the one to be continued.
    pub fn open_text(&self) -> Option<&str> {
        let last = self.continue_final_message.then(|| self.messages.last()).flatten()?;
        last.get("content")?.as_str()
    }
}
