//! Anthropic's Messages API.
//!
//! `validate` reads a body field by field and refuses what it doesn't know, as the real API does; `blocks` and `tools`
//! are its parts. `convert` makes the neutral request: messages in OpenAI's shape, because chat templates read that. `ids` gives
//! calls' ids the form that clients expect. `mcp` reads the servers whose tools run on the way. `reply` puts the pieces of an answer into content blocks, for `stream` and for the whole answer alike.

mod blocks;
mod caching;
mod convert;
mod error;
mod ids;
mod mcp;
pub mod models;
mod partial;
mod reply;
mod stream;
mod tools;
mod types;
mod validate;

use serde::Serialize;
use serde_json::Value;

use crate::{ApiError, Call, Limits, fields, openai::tokenize::TokenizeCall};

pub use error::{error_body, status};

/// Names of the fields that a body of `/v1/messages` may have; those included that are refused with advice.
pub fn fields() -> Vec<&'static str> {
    validate::field_names()
}

/// Reads a body of `POST /v1/messages`. `request_id` is told in errors that end a stream.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits, request_id: &str) -> Result<Call, ApiError> {
    let request = validate::read_request(body, limits)?;
    convert::to_call(request, request_id)
}

/// Reads a body of `POST /v1/messages/count_tokens`: the conversation of a message request; whatever else such a
/// request may hold is checked and has no influence.
///
/// # Errors
/// As in [`parse`].
pub fn parse_count(body: &Value, limits: &Limits) -> Result<TokenizeCall, ApiError> {
    let (model, conversation) = validate::read_count(body, limits)?;
    Ok(TokenizeCall { model: Some(model), input: convert::to_input(conversation), return_token_strs: false })
}

/// The answer to `count_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TokenCount {
    /// Tokens of the prompt: what `usage` of the same request splits into `input_tokens` and cached ones.
    pub input_tokens: usize,
}
