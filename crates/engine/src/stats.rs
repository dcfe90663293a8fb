//! Counters and gauges that the engine publishes after every step.

/// Upper bounds of the `iteration_tokens_total` histogram (vLLM's).
pub const ITERATION_TOKEN_BUCKETS: [u64; 13] =
    [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/// A snapshot; plain `Copy` data so that publishing it never allocates.
#[derive(Debug, Clone, Copy, Default)]
pub struct EngineStats {
    /// Requests in the running batch.
    pub running: usize,
    /// Requests waiting for admission.
    pub waiting: usize,
    /// KV blocks owned by live requests.
    pub blocks_in_use: usize,
    /// Contents that a prefix lookup can find, in blocks, used or merely kept.
    pub blocks_cached: usize,
    /// All usable KV blocks.
    pub blocks_total: usize,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_queries: u64,
    /// Prompt tokens found there.
    pub prefix_hits: u64,
    /// Preemptions so far.
    pub preemptions: u64,
    /// Prompt tokens of admitted requests.
    pub prompt_tokens: u64,
    /// Tokens sampled.
    pub generation_tokens: u64,
    /// Steps executed.
    pub steps: u64,
    /// Finished requests by reason: stop, length, abort, timeout, error.
    pub finished: [u64; 5],
    /// Steps by scheduled tokens; one more bucket than [`ITERATION_TOKEN_BUCKETS`] (`+Inf`). Not cumulative.
    pub iteration_tokens: [u64; 14],
    /// Sum over steps of scheduled tokens.
    pub iteration_tokens_sum: u64,
    /// False once the engine thread has ended.
    pub alive: bool,
}
