//! The front door: prefix lookup, allocation, sealing and release for whole sequences.

use std::ops::Range;

use crate::{BlockHash, BlockPool, BlockTable, HashChain, KvError, table::Taken};

/// Size and mode of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvConfig {
    /// Physical blocks, the reserved block 0 included; at least 2.
    pub num_blocks: usize,
    /// Tokens per block; at least 1.
    pub block_size: usize,
    /// Whether full blocks are kept and found again by content.
    pub prefix_caching: bool,
    /// No layer sees further back: a token at position p sees those above p − window. `None`: some layer sees all.
    pub window: Option<usize>,
}

/// Tokens looked up in the prefix index and found there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixStats {
    /// Tokens of the sequences that were looked up and given blocks.
    pub queries: u64,
    /// Those of them whose KV was there.
    pub hits: u64,
}

/// How much room a new sequence asks for, in tokens counted from its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// Tokens that need a place in the coming step: computed ones, new ones and lookahead (speculation).
    pub now: usize,
    /// The whole known sequence must fit into the pool now, though only `now` is allocated: a long prompt is not
    /// let in chunk by chunk only to be thrown out halfway. 0 asks for `now` only.
    pub whole: usize,
    /// Free blocks that others have been promised.
    pub reserved: usize,
}

/// Owns the pool and applies the rules of allocation and reuse to whole sequences.
#[derive(Debug)]
pub struct BlockManager {
    pool: BlockPool,
    config: KvConfig,
    stats: PrefixStats,
}

impl BlockManager {
    /// An empty cache.
    ///
    /// # Errors
    /// [`KvError::NumBlocks`] or [`KvError::BlockSize`] if the configuration is impossible.
    pub fn new(config: KvConfig) -> Result<Self, KvError> {
        if !(1..=65536).contains(&config.block_size) {
            return Err(KvError::BlockSize(config.block_size));
        }
        Ok(Self { pool: BlockPool::new(config.num_blocks)?, config, stats: PrefixStats::default() })
    }

    /// The longest cached prefix of a sequence of `num_tokens` tokens whose full blocks `chain` names. With a window, only
    /// those blocks of it count that the next token sees.
    ///
    /// At most `(num_tokens - 1) / block_size` blocks: the last token is always computed, because its logits are
    /// wanted. Nothing changes until [`PrefixHit::allocate`]. Without prefix caching the hit is empty.
    pub fn lookup<'a>(&'a mut self, chain: &'a HashChain, num_tokens: usize) -> PrefixHit<'a> {
        let limit = if self.config.prefix_caching {
            num_tokens.saturating_sub(1) / self.config.block_size
        } else {
            0
        };
        let hashes = chain.hashes();
        let found = self.find_longest(&hashes[..limit.min(hashes.len())]);
        PrefixHit { skipped: found.start, hashes: &hashes[found], queried: num_tokens, manager: self }
    }

    /// The blocks to take so that the token behind them sees only cached ones, as far to the right as possible.
    fn find_longest(&self, hashes: &[BlockHash]) -> Range<usize> {
        let is_cached = |index: usize| self.pool.find(&hashes[index]).is_some();
        if self.config.window.is_none() {
            return 0..(0..hashes.len()).take_while(|index| is_cached(*index)).count();
        }
        let (mut start, mut end) = (hashes.len(), hashes.len());
        while start > self.first_visible(end * self.config.block_size) {
            start -= 1;
            if !is_cached(start) {
                end = start;
            }
        }
        start..end
    }

    /// The first block of which the token at `position` sees anything.
    fn first_visible(&self, position: usize) -> usize {
        self.config.window.map_or(0, |window| (position + 1).saturating_sub(window) / self.config.block_size)
    }

    /// A hit of length zero, for sequences that must compute everything.
    pub fn no_prefix(&mut self) -> PrefixHit<'_> {
        PrefixHit { manager: self, skipped: 0, hashes: &[], queried: 0 }
    }

    /// Makes room in `table` for tokens `0..tokens`: all or nothing. Tables only grow.
    ///
    /// # Errors
    /// [`KvError::OutOfBlocks`]; nothing was changed.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> Result<(), KvError> {
        let needed = self.blocks_for(tokens).saturating_sub(table.len());
        self.check_room(needed, 0)?;
        self.push_new(table, needed);
        Ok(())
    }

    /// Publishes the table's full blocks under `chain`'s hashes, as far as the KV of tokens `0..computed` is
    /// really in the cache. Unverified drafts must not be counted. Without prefix caching nothing happens.
    pub fn seal(&mut self, table: &mut BlockTable, chain: &HashChain, computed: usize) {
        if !self.config.prefix_caching {
            return;
        }
        let full = computed / self.config.block_size;
        let todo = chain.hashes().iter().take(full).skip(table.num_sealed());
        for hash in todo {
            table.seal_next(|block| self.pool.seal(block, *hash));
        }
    }

    /// Takes the blocks back that the token at `position` and those behind it don't see. Their places stay in the table.
    pub fn skip(&mut self, table: &mut BlockTable, position: usize) {
        while table.num_skipped() < self.first_visible(position)
            && let Some(block) = table.skip_next()
        {
            self.take_back(block);
        }
    }

    /// Takes all blocks back, last one first, so that of one sequence the tail is evicted before the head.
    /// The table is empty afterwards and keeps its memory.
    pub fn release(&mut self, table: &mut BlockTable) {
        while let Some(block) = table.pop() {
            self.take_back(block);
        }
    }

    fn take_back(&mut self, block: Taken) {
        match block {
            Taken::Shared(block) => self.pool.free_shared(block),
            Taken::Owned(block) => self.pool.free_owned(block),
        }
    }

    /// Forgets all cached content if no sequence holds a block; returns whether it did.
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.pool.reset_cache()
    }

    /// Forgets the cached content that no sequence uses; says how many blocks held it.
    pub fn drop_unused_cache(&mut self) -> usize {
        self.pool.drop_unused()
    }

    /// Blocks that hold `tokens` tokens.
    pub fn blocks_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.config.block_size)
    }

    /// The pool, for its figures.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// The configuration.
    pub fn config(&self) -> &KvConfig {
        &self.config
    }

    /// Lookups so far.
    pub fn stats(&self) -> PrefixStats {
        self.stats
    }

    /// Used blocks over usable ones, 0 to 1.
    pub fn usage(&self) -> f64 {
        self.pool.num_used() as f64 / self.pool.capacity() as f64
    }

    fn check_room(&self, needed: usize, reserved: usize) -> Result<(), KvError> {
        let free = self.pool.num_free().saturating_sub(reserved);
        if needed > free { Err(KvError::OutOfBlocks { needed, free }) } else { Ok(()) }
    }

    /// The caller has checked that there is room.
    fn push_new(&mut self, table: &mut BlockTable, count: usize) {
        for block in std::iter::from_fn(|| self.pool.take()).take(count) {
            table.push_owned(block);
        }
    }
}

/// A prefix that was found. It borrows the manager, so it cannot go stale before it is used.
#[derive(Debug)]
pub struct PrefixHit<'a> {
    manager: &'a mut BlockManager,
    /// Blocks before the first one that is seen.
    skipped: usize,
    /// The blocks behind them.
    hashes: &'a [BlockHash],
    /// Tokens that count as looked up, if this hit is used.
    queried: usize,
}

impl PrefixHit<'_> {
    /// Tokens whose KV is in the cache; a multiple of the block size.
    pub fn tokens(&self) -> usize {
        (self.skipped + self.hashes.len()) * self.manager.config.block_size
    }

    /// Leaves this lookup out of the [`PrefixStats`]: a preempted sequence that finds its own blocks again
    /// says nothing about how well prompts share prefixes.
    pub fn uncounted(self) -> Self {
        Self { queried: 0, ..self }
    }

    /// Gives an empty table the found blocks and new ones for the rest of `slots.now`: all or nothing.
    ///
    /// # Errors
    /// [`KvError::OutOfBlocks`]; nothing was changed.
    pub fn allocate(self, table: &mut BlockTable, slots: Slots) -> Result<(), KvError> {
        debug_assert!(table.is_empty(), "a prefix hit starts a table");
        let tokens = self.tokens();
        let Self { manager, skipped, hashes, queried } = self;
        let new = |tokens| manager.blocks_for(tokens).saturating_sub(skipped + hashes.len());
        let (now, whole) = (new(slots.now), new(slots.now.max(slots.whole)));
        // Found blocks that nobody holds are on the free queue and leave it too.
        let idle = hashes.iter().filter(|h| manager.pool.find(h).is_some_and(|b| manager.pool.is_free(b)));
        manager.check_room(whole + idle.count(), slots.reserved)?;
        table.push_skipped(skipped);
        // First the found blocks, or the new ones could evict them.
        for block in hashes.iter().filter_map(|hash| manager.pool.share(hash)) {
            table.push_shared(block);
        }
        manager.push_new(table, now);
        if queried > 0 {
            manager.stats.queries += queried as u64;
            manager.stats.hits += tokens as u64;
        }
        Ok(())
    }
}
