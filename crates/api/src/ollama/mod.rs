//! Ollama's API.
//!
//! `request` reads the bodies of both generation endpoints and makes the neutral request; `options` and `keep_alive`
//! are its parts. `reply` makes lines of an answer, and `models` describes models.

mod embed;
mod keep_alive;
pub mod models;
mod options;
mod reply;
mod request;

use serde_json::{Value, json};

use crate::{ApiError, GenerationRequest, Limits};

pub use embed::{EmbedCall, embed_body, embeddings_body, parse_embed, parse_embeddings};
pub use keep_alive::KeepAlive;
pub use reply::{Lines, Times};

/// The release of Ollama whose API this is. Clients ask, and some refuse older ones.
pub const VERSION: &str = "0.12.6";

/// A parsed call of `/api/chat` or `/api/generate`.
pub struct OllamaCall {
    /// The model's name as the client wrote it.
    pub model: String,
    /// Whether the answer comes in lines.
    pub stream: bool,
    /// How long the model is to stay afterwards, if the client says.
    pub keep_alive: Option<KeepAlive>,
    /// What is to be generated; `None` only loads the model, or unloads it.
    pub work: Option<GenerationRequest>,
    /// What the model has to be able to do.
    pub needs: Needs,
    /// For the answer.
    pub lines: Lines,
}

/// What a request asks of its model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tool calls.
    pub tools: bool,
    /// Reasoning.
    pub thinking: bool,
}

/// Reads a body of `POST /api/chat`.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse_chat(body: &Value, limits: &Limits) -> Result<OllamaCall, ApiError> {
    request::chat(body, limits)
}

/// Reads a body of `POST /api/generate`. `has_template` says whether the model of a name takes conversations: one
/// that doesn't gets the prompt as it is.
///
/// # Errors
/// As in [`parse_chat`].
pub fn parse_generate(
    body: &Value,
    limits: &Limits,
    has_template: impl FnOnce(&str) -> bool,
) -> Result<OllamaCall, ApiError> {
    request::generate(body, limits, has_template)
}

/// The model of a body that names one and says little else: `model`, or `name` as older clients have it.
///
/// # Errors
/// A 400 if there is none.
pub fn parse_name(body: &Value) -> Result<String, ApiError> {
    let name = ["model", "name"].iter().find_map(|field| body.get(field).filter(|value| !value.is_null()));
    match name {
        Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(ApiError::invalid("model", "`model` is required: the name of a model.")),
    }
}

/// Whether a body asks for lines: it does unless it says otherwise.
///
/// # Errors
/// A 400 if `stream` is neither true nor false.
pub fn parse_stream(body: &Value) -> Result<bool, ApiError> {
    match body.get("stream") {
        None | Some(Value::Null) => Ok(true),
        Some(Value::Bool(stream)) => Ok(*stream),
        Some(_) => Err(ApiError::invalid("stream", "`stream` must be true or false.")),
    }
}

/// `{"error": …}`.
pub fn error_body(error: &ApiError) -> Value {
    json!({"error": error.message})
}
