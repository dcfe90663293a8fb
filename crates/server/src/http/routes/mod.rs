//! Handlers, one file per subject.

mod admin;
mod admin_models;
pub(super) mod batches;
pub(super) mod completions;
mod docs;
pub(super) mod files;
mod generate;
mod mcp;
mod messages;
mod models;
mod ollama;
mod ollama_embed;
mod ollama_models;
mod pooling;
mod probes;
mod render;
mod requests;
pub(super) mod responses;
mod sleep;
mod tokens;

use axum::http::{Method, Uri};
use millrace_api::{ApiError, ErrorKind};

use super::reply::Failure;

pub(super) use admin::{cache_stats, cancel_any, drop_prefixes, status};
pub(super) use admin_models::{admin_models, load_model, unload_model};
#[cfg(test)]
pub(super) use docs::OPENAPI;
pub(super) use docs::{docs, openapi};
pub(super) use generate::{chat_completions, chat_list, completions};
pub(super) use mcp::{mcp_execute, mcp_servers, mcp_tools};
pub(super) use messages::{count_tokens, messages};
pub(super) use models::{get_model, list_models};
pub(super) use ollama::{ollama_chat, ollama_generate};
pub(super) use ollama_embed::{ollama_embed, ollama_embeddings};
pub(super) use ollama_models::{fixed_models, ollama_version, ps, pull, root, show, tags};
pub(crate) use pooling::answer as answer_pooling;
pub(super) use pooling::{classify, embeddings, pool, rerank, score};
pub(super) use probes::{health, load, metrics, ready, version};
pub(super) use render::{render_chat, render_completion, tokenizer_info};
pub(super) use requests::cancel_request;
pub(super) use sleep::{is_sleeping, sleep, wake_up};
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
