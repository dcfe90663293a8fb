//! What a step will do.

use millrace_types::{BlockId, RequestId, TokenId};

/// One step. The scheduler reuses its buffers from step to step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The scheduled sequences: running ones in batch order, then those admitted in this step.
    pub seqs: Vec<PlannedSeq>,
    /// Sequences that lost their blocks and wait again, in the order in which that happened.
    pub preempted: Vec<RequestId>,
    /// Sequences that joined the running batch, also listed in `seqs`.
    pub admitted: Vec<Admitted>,
}

impl Plan {
    /// Tokens that the step computes; at most `max_num_batched_tokens`.
    pub fn num_tokens(&self) -> usize {
        self.seqs.iter().map(|seq| seq.end - seq.start).sum()
    }

    pub(crate) fn clear(&mut self) {
        self.seqs.clear();
        self.preempted.clear();
        self.admitted.clear();
    }
}

/// One sequence's share of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedSeq {
    /// Whose.
    pub id: RequestId,
    /// First token to compute; KV of the tokens before it is in the cache.
    pub start: usize,
    /// One past the last token to compute; more than `start`.
    pub end: usize,
    /// Whether the chunk reaches the last token, so that its logits are sampled.
    pub samples: bool,
    pub(crate) slot: usize,
}

/// A sequence that joined the running batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Who.
    pub id: RequestId,
    /// Tokens whose KV came from the prefix cache, this time.
    pub cached_tokens: usize,
    /// Whether it comes back after a preemption.
    pub resumed: bool,
}

/// One scheduled sequence with everything that a runner needs to lay out its batch.
#[derive(Debug, Clone, Copy)]
pub struct ScheduledSeq<'a> {
    /// Whose.
    pub id: RequestId,
    /// The whole sequence, prompt and output.
    pub tokens: &'a [TokenId],
    /// First token to compute.
    pub start: usize,
    /// One past the last token to compute.
    pub end: usize,
    /// Whether the logits of token `end - 1` are sampled.
    pub samples: bool,
    /// Physical blocks; they hold at least `end` tokens. The null block stands for those that have left the window.
    pub blocks: &'a [BlockId],
}
