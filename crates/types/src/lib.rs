//! Plain data that every layer shares: identifiers, the engine's request, sampling parameters and outputs.
//!
//! Nothing here computes. The engine side of Millrace works on token ids only; text exists above it.

mod constraint;
mod follow;
mod output;
mod request;
mod sampling;

pub use constraint::{Constraint, ConstraintError};
pub use follow::Follow;
pub use output::{Finish, FinishReason, RequestOutput, TokenLogprobs, Usage};
pub use request::{Request, RequestId};
pub use sampling::{GREEDY_TEMPERATURE, SamplingParams, ThinkingLimit};

/// A token id: an index into the model's vocabulary.
pub type TokenId = u32;

/// A physical KV block: an index into the block pool and into the backend's KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct BlockId(pub u32);
