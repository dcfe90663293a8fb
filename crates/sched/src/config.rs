//! The scheduler's knobs.

use crate::SchedError;

/// Who goes first, and who is thrown out first when the KV cache is full. Under each of them, sequences of the priority
/// [`BACKGROUND`](crate::BACKGROUND) come last, and are thrown out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// By arrival; the most recently admitted sequence is preempted first.
    #[default]
    Fcfs,
    /// By priority (lower first), then arrival; the sequence that comes last in this order is preempted first.
    Priority,
}

/// Limits and modes; fixed for the scheduler's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// Sequences in the running batch at once; at least 1.
    pub max_num_seqs: usize,
    /// Tokens computed in one step, prefill and decode together; at least 1.
    pub max_num_batched_tokens: usize,
    /// Longest prompt plus output of one sequence, in tokens; at least 2.
    pub max_model_len: usize,
    /// Tokens per KV block, 1 to 65536.
    pub block_size: usize,
    /// Physical KV blocks, the reserved block 0 included; at least 2.
    pub num_blocks: usize,
    /// Whether full blocks are reused by content.
    pub enable_prefix_caching: bool,
    /// No layer sees further back: a token at position p sees those above p − window, and blocks left of that are free
    /// for others. `None`: some layer sees all.
    pub window: Option<usize>,
    /// Order of admission and of preemption.
    pub policy: Policy,
    /// Most tokens of one sequence in one step while others are there too, so that a long prompt does not hold up
    /// everybody's next token; 0 is no limit.
    pub long_prefill_token_threshold: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            max_num_seqs: 256,
            max_num_batched_tokens: 2048,
            max_model_len: 4096,
            block_size: 16,
            num_blocks: 1024,
            enable_prefix_caching: true,
            window: None,
            policy: Policy::Fcfs,
            long_prefill_token_threshold: 0,
        }
    }
}

impl SchedulerConfig {
    /// Tokens that fit into the KV cache.
    pub fn kv_capacity_tokens(&self) -> usize {
        self.num_blocks.saturating_sub(1).saturating_mul(self.block_size)
    }

    /// How many of its `pending` tokens a sequence may compute now, one of `num_seqs` unfinished ones.
    pub(crate) fn chunk(&self, pending: usize, budget: usize, num_seqs: usize) -> usize {
        let limit = match self.long_prefill_token_threshold {
            threshold if threshold > 0 && num_seqs > 1 => threshold,
            _ => usize::MAX,
        };
        pending.min(limit).min(budget)
    }

    pub(crate) fn validate(&self) -> Result<(), SchedError> {
        let minimums = [
            ("max_num_seqs", self.max_num_seqs, 1),
            ("max_num_batched_tokens", self.max_num_batched_tokens, 1),
            ("max_model_len", self.max_model_len, 2),
        ];
        match minimums.into_iter().find(|(_, value, min)| value < min) {
            Some((name, value, min)) => Err(SchedError::Config { name, value, min }),
            None => Ok(()),
        }
    }
}
