//! OpenAI's Responses API.
//!
//! Both what is asked and what is answered are lists of items (`types`): messages, reasoning, calls and their results.
//! `validate` reads a body field by field and refuses what it doesn't know; `items`, `tools` and `reasoning` are its
//! parts. `convert` joins the items with those of earlier answers and makes the neutral request of them. `stream` writes
//! the answer: one [`Assembler`] keeps it as it stands and says what happens as events, so a whole answer, a streamed one
//! and one that is looked up later are the same. `record` is what gets stored, `page` lists a stored question's items,
//! `ids` names everything.

mod convert;
mod events;
mod ids;
mod items;
mod mcp;
mod mcp_stream;
mod page;
mod reasoning;
mod record;
mod stream;
mod tools;
mod types;
mod validate;

use serde::Serialize;
use serde_json::Value;

use crate::{ApiError, GenerationOptions, Limits, documents};

pub use convert::Conversation;
pub use ids::ResponseId;
pub use page::{ItemsPage, ItemsQuery};
pub use record::Record;
pub use stream::Assembler;
pub use types::Status;
pub use validate::PromptBody;

/// A request that was read.
#[derive(Debug, Clone)]
pub struct ResponsesCall(validate::Request);

impl ResponsesCall {
    /// Whether the client wants server-sent events.
    pub fn streams(&self) -> bool {
        self.0.delivery.stream
    }

    /// Whether the answer is to be kept.
    pub fn stores(&self) -> bool {
        self.0.delivery.store
    }

    /// Whether it is to be written even if the client leaves.
    pub fn in_background(&self) -> bool {
        self.0.delivery.background
    }

    /// What the prompt is made of.
    pub fn prompt(&self) -> &PromptBody {
        &self.0.prompt
    }

    /// How to continue it.
    pub fn options(&self) -> &GenerationOptions {
        &self.0.options
    }

    /// The answer, with nothing in it yet.
    pub fn assembler(&self, id: &ResponseId, created: u64, model: &str) -> Assembler {
        Assembler::new(&self.0, id, created, model)
    }
}

/// Reads a body of `POST /v1/responses`, whose answer is to have this id.
///
/// # Errors
/// A 400 for whatever can be told without the model and the store.
pub fn parse(body: &Value, limits: &Limits, id: &ResponseId) -> Result<ResponsesCall, ApiError> {
    documents::check_count(body)?;
    validate::read_request(body, limits, id).map(ResponsesCall)
}

/// Reads a body of `POST /v1/responses/input_tokens`.
///
/// # Errors
/// As in [`parse`].
pub fn parse_count(body: &Value, limits: &Limits, id: &ResponseId) -> Result<PromptBody, ApiError> {
    documents::check_count(body)?;
    validate::read_count(body, limits, id)
}

/// The answer to `input_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenCount {
    object: &'static str,
    input_tokens: usize,
}

impl TokenCount {
    /// Of a prompt of so many tokens.
    pub fn new(input_tokens: usize) -> Self {
        Self { object: "response.input_tokens", input_tokens }
    }
}

/// The answer to `DELETE /v1/responses/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    id: String,
    object: &'static str,
    deleted: bool,
}

impl Deleted {
    /// That this answer is gone.
    pub fn new(id: String) -> Self {
        Self { id, object: "response", deleted: true }
    }
}
