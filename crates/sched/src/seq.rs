//! One sequence: its tokens, how far they are computed, and its blocks.

use std::collections::VecDeque;

use millrace_kv::{BlockTable, HashChain, PrefixKeys};
use millrace_types::{RequestId, TokenId};

use crate::{Policy, SchedError, SchedulerConfig};

/// A new sequence.
#[derive(Debug, Clone)]
pub struct SeqInit {
    /// Unique among all sequences of this scheduler's life.
    pub id: RequestId,
    /// Prompt tokens; `1..max_model_len` of them.
    pub prompt: Vec<TokenId>,
    /// Most tokens that will be committed; cut to what `max_model_len` leaves. 0 only computes the prompt.
    pub max_tokens: usize,
    /// Lower goes first; only [`Policy::Priority`] looks at it, save for [`BACKGROUND`].
    pub priority: i32,
    /// Smaller came earlier; ties are broken by id.
    pub arrival: u64,
    /// What keeps this sequence's blocks apart from others (cache salt, adapter, media).
    pub keys: PrefixKeys,
    /// Compute the whole prompt even if a prefix is cached (prompt log-probabilities need every position's logits).
    /// Holds until the first token is committed.
    pub skip_prefix_lookup: bool,
}

impl Default for SeqInit {
    fn default() -> Self {
        Self {
            id: RequestId(0),
            prompt: Vec::new(),
            max_tokens: 16,
            priority: 0,
            arrival: 0,
            keys: PrefixKeys::default(),
            skip_prefix_lookup: false,
        }
    }
}

/// What is known about a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqInfo {
    /// Tokens of the prompt.
    pub prompt_len: usize,
    /// Tokens whose KV is in the cache (committed steps only).
    pub computed: usize,
    /// Prompt tokens that the prefix cache gave at first admission.
    pub cached_tokens: usize,
    /// How often it was preempted.
    pub preemptions: u32,
    /// Whether it is in the running batch, else it waits.
    pub running: bool,
}

/// The priority of what is done in the background, under every policy: it comes after all else, and makes room for it.
pub const BACKGROUND: i32 = i32::MAX;

/// Order of admission: lower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    priority: i32,
    arrival: u64,
    pub(crate) id: RequestId,
}

#[derive(Debug)]
pub(crate) struct Seq {
    pub(crate) rank: Rank,
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Most tokens, prompt included.
    max_len: usize,
    skip_lookup: bool,
    pub(crate) chain: HashChain,
    pub(crate) table: BlockTable,
    /// Tokens whose KV is in the cache.
    pub(crate) computed: usize,
    /// Tokens whose KV will be in the cache when every launched step is done.
    pub(crate) planned: usize,
    /// Where the launched and not yet committed chunks end, oldest first.
    in_flight: VecDeque<usize>,
    /// Chunks that were launched before a preemption: their KV is lost, their sampled tokens are not.
    pub(crate) stale: usize,
    pub(crate) admitted: bool,
    pub(crate) cached_tokens: usize,
    pub(crate) preemptions: u32,
    pub(crate) running: bool,
}

impl Rank {
    /// Whether it makes room for whatever else there is.
    pub(crate) fn is_background(&self) -> bool {
        self.priority == BACKGROUND
    }
}

impl Seq {
    /// Checks a new sequence against the configuration.
    pub(crate) fn new(init: SeqInit, config: &SchedulerConfig) -> Result<Self, SchedError> {
        let SeqInit { id, prompt, max_tokens, priority, arrival, keys, skip_prefix_lookup } = init;
        let (prompt_len, max) = (prompt.len(), config.max_model_len - 1);
        if prompt_len == 0 {
            return Err(SchedError::EmptyPrompt(id));
        }
        if prompt_len > max {
            return Err(SchedError::PromptTooLong { len: prompt_len, max });
        }
        let max_len = prompt_len.saturating_add(max_tokens).min(config.max_model_len);
        // The last sampled token is never fed back, so it needs no place.
        let (needed, capacity) = (prompt_len.max(max_len - 1), config.kv_capacity_tokens());
        if needed > capacity {
            return Err(SchedError::NeverFits { needed, capacity });
        }
        let counts = config.policy == Policy::Priority || priority == BACKGROUND;
        let priority = if counts { priority } else { 0 };
        Ok(Self {
            rank: Rank { priority, arrival, id },
            tokens: prompt,
            prompt_len,
            max_len,
            skip_lookup: skip_prefix_lookup,
            chain: HashChain::new(config.block_size, keys),
            table: BlockTable::default(),
            computed: 0,
            planned: 0,
            in_flight: VecDeque::new(),
            stale: 0,
            admitted: false,
            cached_tokens: 0,
            preemptions: 0,
            running: false,
        })
    }

    /// Tokens that still have to be computed.
    pub(crate) fn pending(&self) -> usize {
        self.tokens.len() - self.planned
    }

    /// Whether cached blocks may be used.
    pub(crate) fn may_reuse(&self) -> bool {
        !self.skip_lookup || self.tokens.len() > self.prompt_len
    }

    /// A chunk that ends before token `end` was handed out.
    pub(crate) fn launch(&mut self, end: usize) {
        self.planned = end;
        self.in_flight.push_back(end);
    }

    /// The oldest chunk came back with these tokens. False if no chunk is out. The only place that appends a token.
    pub(crate) fn land(&mut self, new_tokens: &[TokenId]) -> bool {
        let end = if self.stale > 0 {
            self.stale -= 1;
            None
        } else if let Some(end) = self.in_flight.pop_front() {
            Some(end)
        } else {
            return false;
        };
        let room = self.max_len.saturating_sub(self.tokens.len());
        self.tokens.extend_from_slice(&new_tokens[..new_tokens.len().min(room)]);
        if let Some(end) = end {
            // The last token is never computed: its logits are what comes next. With speculation this also takes
            // back the rejected drafts, with nothing sampled the last token is computed again.
            self.computed = end.min(self.tokens.len() - 1);
            if self.in_flight.is_empty() {
                self.planned = self.computed;
            }
        }
        true
    }

    /// Everything computed is lost; tokens of launched chunks will still arrive.
    pub(crate) fn preempt(&mut self) {
        self.stale += self.in_flight.len();
        self.in_flight.clear();
        self.computed = 0;
        self.planned = 0;
        self.preemptions += 1;
        self.running = false;
    }

    /// Drops what takes memory; the slot may stay vacant for long.
    pub(crate) fn retire(&mut self) {
        self.tokens = Vec::new();
        self.in_flight = VecDeque::new();
        self.chain = HashChain::new(1, PrefixKeys::default());
        self.table = BlockTable::default();
    }

    pub(crate) fn info(&self) -> SeqInfo {
        let Self { prompt_len, computed, cached_tokens, preemptions, running, .. } = *self;
        SeqInfo { prompt_len, computed, cached_tokens, preemptions, running }
    }
}
