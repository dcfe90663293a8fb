//! Handlers, one file per subject.

mod admin;
mod docs;
mod generate;
mod messages;
mod models;
mod probes;
mod requests;
mod tokens;

use axum::http::{Method, Uri};
use millrace_api::{ApiError, ErrorKind};

use super::reply::Failure;

pub(super) use admin::{cache_stats, cancel_any, drop_prefixes, status};
#[cfg(test)]
pub(super) use docs::OPENAPI;
pub(super) use docs::{docs, openapi};
pub(super) use generate::{chat_completions, completions};
pub(super) use messages::{count_tokens, messages};
pub(super) use models::{get_model, list_models};
pub(super) use probes::{health, load, metrics, ready, version};
pub(super) use requests::cancel_request;
pub(super) use tokens::{detokenize, tokenize};

/// For paths that don't exist.
pub(super) async fn not_found(uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    Failure(ApiError::new(ErrorKind::NotFound, format!("There is nothing at `{path}`.")))
}

/// For paths that exist with other methods.
pub(super) async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("`{path}` does not answer to {method}.");
    Failure(ApiError::new(ErrorKind::MethodNotAllowed, message))
}
