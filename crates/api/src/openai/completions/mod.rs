//! `POST /v1/completions`.

mod best_of;
mod convert;
pub(super) mod prompt;
mod stream;
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
use crate::{ApiError, Limits, introspect::field_names, read};

/// Names of the fields that a body may have and that mean something.
pub fn fields() -> Vec<&'static str> {
    let typed = [field_names::<CommonBody>(), field_names::<types::CompletionBody>()];
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
    let structure = structure::read(body)?;
    let common: CommonBody = read(body)?;
    let own: types::CompletionBody = read(body)?;
    common.validate()?;
    let call = convert::to_call(&common, own, structure, limits)?;
    Ok(Call { ignored: ignored(body, &FIELDS), ..call })
}
