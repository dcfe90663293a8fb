//! `metadata`: pairs that clients attach to what they ask for, told again in the answer.

use serde_json::{Value, json};

use crate::{
    ApiError,
    fields::{Fields, invalid},
};

/// Most pairs of `metadata`, and their longest key and value in characters, as OpenAI has them.
const MAX_METADATA: (usize, usize, usize) = (16, 64, 512);

/// The pairs; an empty object if there are none.
pub(super) fn read_metadata(fields: &mut Fields<'_>) -> Result<Value, ApiError> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(json!({})) };
    let (pairs, key_chars, value_chars) = MAX_METADATA;
    if metadata.len() > pairs {
        return Err(invalid(
            "metadata",
            &format!("At most {pairs} pairs are allowed, got {}.", metadata.len()),
        ));
    }
    let longer = |text: &str, most: usize| text.chars().nth(most).is_some();
    let wrong = |(key, value): (&String, &Value)| {
        longer(key, key_chars) || value.as_str().is_none_or(|value| longer(value, value_chars))
    };
    if metadata.iter().any(wrong) {
        let message =
            format!("Keys have at most {key_chars} characters, values are strings of at most {value_chars}.");
        return Err(invalid("metadata", &message));
    }
    Ok(metadata.clone().into())
}
