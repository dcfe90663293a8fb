//! The scheduler's state and its public face; [`planner`](crate::planner) decides.

use std::collections::HashMap;

use millrace_kv::{BlockManager, KvConfig, PrefixStats};
use millrace_types::{BlockId, RequestId, TokenId};

use crate::{
    Plan, SchedError, ScheduledSeq, SchedulerConfig, SeqInfo, SeqInit, queue::WaitingQueue, seq::Seq,
};

/// Plans steps over all sequences of an engine, and owns their token lists and KV blocks.
///
/// The cycle is [`plan`](Self::plan), compute the [`batch`](Self::batch), [`commit`](Self::commit) for every planned
/// sequence, [`finish`](Self::finish) for those that are done. Sequences may be added and finished at any time. A
/// step may be planned before the one before it is committed: then sequences whose next token is still unknown sit
/// out, and prefill goes on. The device must execute steps in the order of their plans, because blocks of a finished
/// or preempted sequence are handed out again at once.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: SchedulerConfig,
    pub(crate) kv: BlockManager,
    /// Live and vacant; indices stay valid for a sequence's life.
    pub(crate) seqs: Vec<Seq>,
    vacant: Vec<usize>,
    /// Every unfinished sequence.
    pub(crate) slots: HashMap<RequestId, usize>,
    /// In order of admission.
    pub(crate) running: Vec<usize>,
    pub(crate) waiting: WaitingQueue,
    pub(crate) plan: Plan,
    pub(crate) preemptions: u64,
}

/// Figures for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SchedStats {
    /// Sequences in the running batch.
    pub running: usize,
    /// Sequences waiting for admission, preempted ones included.
    pub waiting: usize,
    /// KV blocks that sequences hold.
    pub blocks_in_use: usize,
    /// Different contents in the prefix cache, in blocks, used or merely kept.
    pub blocks_cached: usize,
    /// KV blocks that there are, the reserved one not counted.
    pub blocks_total: usize,
    /// Prefix lookups, in tokens; the first admission of each sequence counts.
    pub prefix: PrefixStats,
    /// Preemptions so far.
    pub preemptions: u64,
}

impl Scheduler {
    /// A scheduler without sequences.
    ///
    /// # Errors
    /// [`SchedError::Config`] or [`SchedError::Kv`] for settings that cannot work.
    pub fn new(config: SchedulerConfig) -> Result<Self, SchedError> {
        config.validate()?;
        let kv = BlockManager::new(KvConfig {
            num_blocks: config.num_blocks,
            block_size: config.block_size,
            prefix_caching: config.enable_prefix_caching,
            window: config.window,
        })?;
        Ok(Self {
            config,
            kv,
            seqs: Vec::new(),
            vacant: Vec::new(),
            slots: HashMap::new(),
            running: Vec::new(),
            waiting: WaitingQueue::default(),
            plan: Plan::default(),
            preemptions: 0,
        })
    }

    /// Queues a sequence.
    ///
    /// # Errors
    /// A prompt that is empty or too long, a sequence that could never finish even alone, an id that is in use.
    pub fn add(&mut self, init: SeqInit) -> Result<(), SchedError> {
        let id = init.id;
        if self.slots.contains_key(&id) {
            return Err(SchedError::DuplicateId(id));
        }
        let seq = Seq::new(init, &self.config)?;
        let rank = seq.rank;
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.seqs[slot] = seq;
                slot
            }
            None => {
                self.seqs.push(seq);
                self.seqs.len() - 1
            }
        };
        self.slots.insert(id, slot);
        self.waiting.insert(rank, slot);
        Ok(())
    }

    /// Ends a sequence and frees its blocks at once, whether it waits, runs or is part of a step under way
    /// (its commit will be ignored). Returns false for unknown ids.
    pub fn finish(&mut self, id: RequestId) -> bool {
        let Some(slot) = self.slots.remove(&id) else { return false };
        let seq = &mut self.seqs[slot];
        self.kv.release(&mut seq.table);
        if seq.running {
            self.running.retain(|other| *other != slot);
        } else {
            self.waiting.remove(&seq.rank);
        }
        seq.retire();
        self.vacant.push(slot);
        true
    }

    /// Reports that the oldest uncommitted chunk of a sequence was computed, and appends what was sampled: nothing
    /// for a chunk that does not sample, one token, or several (accepted drafts and the token after them). Tokens
    /// past `max_tokens` are dropped. Only now are full blocks offered for reuse, and those that have left the window
    /// free.
    ///
    /// Returns false, and does nothing, if the sequence was finished meanwhile or has no chunk under way.
    pub fn commit(&mut self, id: RequestId, new_tokens: &[TokenId]) -> bool {
        let Some(slot) = self.slots.get(&id) else { return false };
        let seq = &mut self.seqs[*slot];
        let landed = seq.land(new_tokens);
        if landed && self.config.enable_prefix_caching {
            seq.chain.extend(&seq.tokens[..seq.computed]);
            self.kv.seal(&mut seq.table, &seq.chain, seq.computed);
        }
        self.kv.skip(&mut seq.table, seq.computed);
        landed
    }

    /// The newest plan.
    pub fn planned(&self) -> &Plan {
        &self.plan
    }

    /// The newest plan's sequences with their tokens and blocks, in order; those finished since are left out.
    pub fn batch(&self) -> impl Iterator<Item = ScheduledSeq<'_>> {
        self.plan.seqs.iter().filter(|planned| self.slots.get(&planned.id) == Some(&planned.slot)).map(
            |planned| {
                let seq = &self.seqs[planned.slot];
                ScheduledSeq {
                    id: planned.id,
                    tokens: &seq.tokens,
                    start: planned.start,
                    end: planned.end,
                    samples: planned.samples,
                    blocks: seq.table.ids(),
                }
            },
        )
    }

    /// Whether any sequence is waiting or running.
    pub fn has_unfinished(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Prompt and output of an unfinished sequence.
    pub fn tokens(&self, id: RequestId) -> Option<&[TokenId]> {
        self.seq(id).map(|seq| seq.tokens.as_slice())
    }

    /// Blocks of an unfinished sequence; empty while it waits.
    pub fn block_table(&self, id: RequestId) -> Option<&[BlockId]> {
        self.seq(id).map(|seq| seq.table.ids())
    }

    /// Progress of an unfinished sequence.
    pub fn info(&self, id: RequestId) -> Option<SeqInfo> {
        self.seq(id).map(Seq::info)
    }

    /// Figures for metrics.
    pub fn stats(&self) -> SchedStats {
        SchedStats {
            running: self.running.len(),
            waiting: self.waiting.len(),
            blocks_in_use: self.kv.pool().num_used(),
            blocks_cached: self.kv.pool().num_cached(),
            blocks_total: self.kv.pool().capacity(),
            prefix: self.kv.stats(),
            preemptions: self.preemptions,
        }
    }

    /// The settings.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// Forgets all cached prefixes, if no sequence holds a block; returns whether it did.
    pub fn reset_prefix_cache(&mut self) -> bool {
        self.kv.reset_prefix_cache()
    }

    /// Forgets the cached prefixes that no sequence uses; says how many blocks held them.
    pub fn drop_unused_cache(&mut self) -> usize {
        self.kv.drop_unused_cache()
    }

    fn seq(&self, id: RequestId) -> Option<&Seq> {
        self.slots.get(&id).map(|slot| &self.seqs[*slot])
    }
}
