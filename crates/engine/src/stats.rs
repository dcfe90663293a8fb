//! Counters and gauges that the engine publishes after every step.

use std::time::Duration;

/// Upper bounds of the `iteration_tokens_total` histogram (vLLM's).
pub const ITERATION_TOKEN_BUCKETS: [u64; 13] =
    [1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384];

/// Upper bounds of the `mask_time_seconds` histogram.
pub const MASK_SECONDS_BUCKETS: [f64; 13] =
    [5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2];

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
    /// Constraints advanced and masks computed, by how long that took; one more bucket than [`MASK_SECONDS_BUCKETS`].
    pub mask_time: [u64; 14],
    /// Their sum, in nanoseconds.
    pub mask_nanos: u64,
    /// Tokens that constraints forced, and that were not sampled.
    pub forced_tokens: u64,
    /// False once the engine thread has ended.
    pub alive: bool,
}

impl EngineStats {
    /// Notes a step of so many tokens.
    pub(crate) fn note_step(&mut self, tokens: usize) {
        self.steps += 1;
        self.iteration_tokens_sum += tokens as u64;
        let bucket = ITERATION_TOKEN_BUCKETS.partition_point(|bound| *bound < tokens as u64);
        self.iteration_tokens[bucket] += 1;
    }

    /// Notes how long a constraint took to its next mask.
    pub(crate) fn note_mask(&mut self, took: Duration) {
        let bucket = MASK_SECONDS_BUCKETS.partition_point(|bound| *bound < took.as_secs_f64());
        self.mask_time[bucket] += 1;
        self.mask_nanos += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    }
}
