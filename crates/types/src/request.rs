//! What the engine is asked to do.

use std::time::Instant;

use crate::{Constraint, SamplingParams, TokenId};

/// Names a request within one engine; never reused while the process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// One sequence to generate. `n` samples of a prompt are `n` requests (they share the prompt's blocks).
#[derive(Debug, Clone)]
pub struct Request {
    /// Chosen by [`EngineHandle::submit`](../millrace_engine/struct.EngineHandle.html); unique.
    pub id: RequestId,
    /// Prompt tokens; at least one, at most `max_model_len - 1`.
    pub prompt: Vec<TokenId>,
    /// How to sample and when to stop.
    pub sampling: SamplingParams,
    /// What the output has to obey.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Where the second text of a pair begins in the prompt; only models that tell the two apart ask.
    pub second: Option<usize>,
    /// Lower runs earlier. Only the `priority` scheduling policy looks at it.
    pub priority: i32,
    /// Keeps this request's prefix blocks apart from those of any other salt.
    pub cache_salt: Option<String>,
    /// Past this moment the engine ends the request with [`FinishReason::Timeout`](crate::FinishReason).
    pub deadline: Option<Instant>,
    /// If the request still waits for its first step at this moment, the engine ends it with
    /// [`FinishReason::Timeout`](crate::FinishReason) and an error that says so.
    pub start_by: Option<Instant>,
    /// When the request entered the engine's queue (queue and first-token times count from here).
    pub arrival: Instant,
}
