//! What must hold after every plan and every commit.

use std::collections::{BTreeMap, BTreeSet};

use millrace_kv::NULL_BLOCK;
use millrace_sched::{BACKGROUND, Policy, SchedulerConfig};
use millrace_types::{BlockId, RequestId};

use crate::sim::Sim;

/// The first block of which the token at `position` sees anything.
fn first_visible(config: &SchedulerConfig, position: usize) -> usize {
    config.window.map_or(0, |window| (position + 1).saturating_sub(window) / config.block_size)
}

impl Sim<'_> {
    /// The newest plan keeps to every limit and carries on exactly where each sequence stood.
    pub(crate) fn check_plan(&mut self) {
        let config = self.sched.config().clone();
        let plan = self.sched.planned().clone();
        assert!(plan.num_tokens() <= config.max_num_batched_tokens, "token budget");
        assert!(self.sched.stats().running <= config.max_num_seqs, "running sequences");
        let ids: BTreeSet<RequestId> = plan.seqs.iter().map(|seq| seq.id).collect();
        assert_eq!(ids.len(), plan.seqs.len(), "a sequence is planned once");
        if plan.preempted.iter().any(|id| !self.in_background(*id)) {
            assert!(plan.admitted.is_empty(), "nobody comes in while others go");
        }
        if !plan.preempted.is_empty() {
            let comes_in = plan.admitted.iter().any(|admitted| self.in_background(admitted.id));
            assert!(!comes_in, "the background makes room for others only");
        }
        if self.depth == 1 && self.sched.has_unfinished() {
            assert!(!plan.seqs.is_empty(), "a step without work");
            let sits_out = |id: &u64| !ids.contains(&RequestId(*id)) && self.running(*id);
            if plan.num_tokens() < config.max_num_batched_tokens {
                assert_eq!(self.live.keys().find(|id| sits_out(id)), None, "budget left and work left");
            }
        }
        for id in &plan.preempted {
            assert!(!ids.contains(id));
            assert_eq!(self.sched.block_table(*id), Some(&[][..]));
            self.next_start.remove(&id.0);
        }
        self.check_admitted();
        for seq in self.sched.batch() {
            assert!(seq.start < seq.end && seq.end <= seq.tokens.len());
            assert_eq!(seq.samples, seq.end == seq.tokens.len());
            assert_eq!(self.next_start.insert(seq.id.0, seq.end), Some(seq.start), "contiguous");
            assert!(seq.blocks.len() * config.block_size >= seq.end, "a place for every token");
            let sees = first_visible(&config, seq.start);
            assert!(!seq.blocks[sees..].contains(&NULL_BLOCK));
            if config.long_prefill_token_threshold > 0 && self.live.len() > 1 {
                assert!(seq.end - seq.start <= config.long_prefill_token_threshold);
            }
        }
    }

    fn in_background(&self, id: RequestId) -> bool {
        self.jobs[id.0 as usize].priority == BACKGROUND
    }

    fn running(&self, id: u64) -> bool {
        self.sched.info(RequestId(id)).unwrap().running
    }

    fn check_admitted(&mut self) {
        let config = self.sched.config().clone();
        for admitted in &self.sched.planned().admitted {
            let job = &self.jobs[admitted.id.0 as usize];
            let old = self.next_start.insert(admitted.id.0, admitted.cached_tokens);
            assert_eq!(old, None, "admitted while running");
            assert_eq!(admitted.cached_tokens % config.block_size, 0);
            let first_token_known = self.live[&admitted.id.0].len() > job.prompt.len();
            if !config.enable_prefix_caching || (job.skip_prefix_lookup && !first_token_known) {
                assert_eq!(admitted.cached_tokens, 0);
            }
            let info = self.sched.info(admitted.id).unwrap();
            assert_eq!(info.preemptions > 0, admitted.resumed);
            if !admitted.resumed {
                assert_eq!(info.cached_tokens, admitted.cached_tokens);
            }
        }
        if !config.enable_prefix_caching {
            self.check_head_of_line(config.policy);
        }
    }

    /// Nobody who waits has a better claim than somebody who came in. (With prefix caching a sequence may be set
    /// aside for a neighbour's blocks.)
    fn check_head_of_line(&self, policy: Policy) {
        let rank = |id: u64| {
            let job = &self.jobs[id as usize];
            let counts = policy == Policy::Priority || job.priority == BACKGROUND;
            (if counts { job.priority } else { 0 }, job.arrives, id)
        };
        let waiting = self.live.keys().filter(|id| !self.running(**id));
        let best_waiting = waiting.map(|id| rank(*id)).min();
        let worst_admitted = self.sched.planned().admitted.iter().map(|admitted| rank(admitted.id.0)).max();
        if let (Some(waiting), Some(admitted)) = (best_waiting, worst_admitted) {
            assert!(admitted < waiting, "{admitted:?} slipped past {waiting:?}");
        }
    }

    /// A block has one owner, or it is full, computed and means the same to everybody; and the pool's count agrees.
    pub(crate) fn check_blocks(&self) {
        let block_size = self.sched.config().block_size;
        let mut holders: BTreeMap<BlockId, (u64, usize)> = BTreeMap::new();
        for id in self.live.keys().copied() {
            let blocks = self.sched.block_table(RequestId(id)).unwrap();
            let computed = self.sched.info(RequestId(id)).unwrap().computed;
            let left = first_visible(self.sched.config(), computed).min(blocks.len());
            let is_null = |block: &BlockId| *block == NULL_BLOCK;
            assert!(blocks[..left].iter().all(is_null), "held, and seen by nobody");
            for (i, block) in blocks.iter().enumerate().filter(|(_, block)| !is_null(block)) {
                let Some((other, j)) = holders.insert(*block, (id, i)) else { continue };
                assert!(other != id, "a block twice in one table");
                assert_eq!(i, j, "a shared block at two places");
                let end = (i + 1) * block_size;
                assert_eq!(
                    self.live[&id][..end],
                    self.live[&other][..end],
                    "a shared block with two contents"
                );
                assert_eq!(self.jobs[id as usize].salt, self.jobs[other as usize].salt);
                for holder in [id, other] {
                    assert!(
                        self.sched.info(RequestId(holder)).unwrap().computed >= end,
                        "shared before computed"
                    );
                }
                assert!(self.sched.config().enable_prefix_caching);
            }
        }
        assert_eq!(self.sched.stats().blocks_in_use, holders.len());
    }
}
