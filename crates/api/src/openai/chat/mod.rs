//! `POST /v1/chat/completions`.

mod convert;
mod messages;
mod stream;
mod tools;
mod types;
mod validate;

use serde_json::Value;

use super::{Call, body::CommonBody, structure, unsupported::refuse_unsupported};
use crate::{ApiError, Limits, read};

pub(super) use messages::normalize;
pub(crate) use tools::check_schema;
pub(super) use types::TemplateBody;
pub(super) use validate::chat_input;

/// Reads a parsed body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits) -> Result<Call, ApiError> {
    refuse_unsupported(body)?;
    let structure = structure::read(body)?;
    let common: CommonBody = read(body)?;
    let own: types::ChatBody = read(body)?;
    let template: TemplateBody = read(body)?;
    common.validate()?;
    own.validate()?;
    convert::to_call(&common, &own, template, structure, limits)
}
