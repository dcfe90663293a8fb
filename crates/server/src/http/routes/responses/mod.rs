//! OpenAI's Responses API.

mod create;
mod stored;

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::http::{App, middleware::presented};

pub(crate) use create::{create, input_tokens};
pub(crate) use stored::{cancel, delete, input_items, retrieve};

/// Whose answers these are: a digest of the key with which they were asked for. On a server without keys all callers
/// are one. Where two keys are presented the first one counts: whoever shows a key may be taken for its owner.
fn owner(app: &App, headers: &HeaderMap) -> String {
    if app.keys.is_empty() {
        return String::new();
    }
    let key = presented(headers).next().unwrap_or_default();
    let digest = Sha256::new_with_prefix("millrace response owner ").chain_update(key).finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
