//! `POST /v1/chat/completions`.

mod convert;
mod list;
mod mcp;
mod messages;
mod stored;
mod stream;
mod tools;
mod types;
mod validate;

use std::sync::LazyLock;

use serde_json::Value;

use super::{
    Call,
    body::CommonBody,
    structure,
    unsupported::{Known, ignored, refuse_unsupported},
};
use crate::{ApiError, Limits, documents, introspect::field_names, read};

pub use list::{join, parse_list};
pub use stored::{CompletionsQuery, Question, StoredCompletion, completion_deleted, completions_page};

pub(super) use convert::token_logprobs;
pub(super) use messages::normalize;
pub(crate) use tools::{check_name, check_schema, strict_names};
pub(crate) use types::TemplateBody;
pub(crate) use validate::chat_input;

/// Names of the fields that a body may have and that mean something.
pub fn fields() -> Vec<&'static str> {
    let typed =
        [field_names::<CommonBody>(), field_names::<types::ChatBody>(), field_names::<TemplateBody>()];
    [typed.concat(), structure::FIELDS.to_vec()].concat()
}

/// The same as a set.
static FIELDS: LazyLock<Known> = LazyLock::new(|| fields().into_iter().collect());

/// Reads a parsed body.
///
/// # Errors
/// A 400 for whatever can be told without the model.
pub fn parse(body: &Value, limits: &Limits) -> Result<Call, ApiError> {
    refuse_unsupported(body, None)?;
    parse_known(body, limits)
}

/// The same for an endpoint that stores answers, with what is to be stored of this one's question.
///
/// # Errors
/// As in [`parse`].
pub fn parse_storing(body: &Value, limits: &Limits) -> Result<(Call, Option<Question>), ApiError> {
    refuse_unsupported(body, Some("store"))?;
    Ok((parse_known(body, limits)?, Question::read(body)?))
}

fn parse_known(body: &Value, limits: &Limits) -> Result<Call, ApiError> {
    documents::check_count(body)?;
    if body.get("suffix").is_some_and(|suffix| !suffix.is_null() && suffix != "") {
        let message = "Conversations have no `suffix`. Use /v1/completions to fill in the middle.";
        return Err(ApiError::invalid("suffix", message));
    }
    let structure = structure::read(body)?;
    let common: CommonBody = read(body)?;
    let own: types::ChatBody = read(body)?;
    let template: TemplateBody = read(body)?;
    common.validate()?;
    common.refuse_best_of()?;
    own.validate()?;
    let call = convert::to_call(&common, &own, template, structure, limits)?;
    Ok(Call { ignored: ignored(body, &FIELDS), ..call })
}
