//! What the engine tells about itself when asked. It answers between two steps, so the picture is consistent.

use millrace_types::RequestId;

/// One open request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestState {
    /// Which one.
    pub id: RequestId,
    /// In the running batch; else it waits, at first or again after a preemption.
    pub running: bool,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that the prefix cache gave.
    pub cached_tokens: usize,
    /// Tokens of prompt and answer whose KV is in the cache.
    pub computed_tokens: usize,
    /// Tokens sampled.
    pub generated_tokens: usize,
    /// How often it lost its blocks to others.
    pub preemptions: u32,
}

/// The engine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Open requests, oldest first.
    pub requests: Vec<RequestState>,
    /// Contents that a prefix lookup can find, in blocks; both those in use and those that are merely kept.
    pub cached_blocks: usize,
}
