//! OpenAI's Responses API.

mod create;
mod stored;

pub(crate) use create::{answer, create, input_tokens};
pub(crate) use stored::{cancel, delete, input_items, retrieve};

use crate::keys::Caller;

/// Whose answers these are. On a server without keys all callers are one.
fn owner() -> String {
    Caller::current().owner()
}
