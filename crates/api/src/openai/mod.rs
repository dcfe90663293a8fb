//! OpenAI's API as vLLM extends it.
//!
//! Each endpoint: `types` (wire shapes), `validate` (refusals), `convert` (to the neutral request, and from the
//! collected answer), `stream` (chunks). What both generation endpoints share is in `body`, `stream` and `reply`.

pub mod batches;
mod body;
pub mod chat;
pub mod completions;
mod error;
pub mod files;
mod metadata;
pub mod models;
pub mod paging;
pub mod pooling;
pub mod render;
mod reply;
pub mod responses;
mod stream;
mod structure;
pub mod tokenize;
mod unsupported;

pub use error::error_body;
pub use reply::UsageBody;
pub use stream::StreamOptions;

pub use crate::Call;
