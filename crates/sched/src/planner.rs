//! How a step is put together: running sequences first, then waiting ones.

use millrace_kv::Slots;

use crate::{Admitted, Plan, PlannedSeq, Policy, Scheduler, seq::Rank, sharing};

impl Scheduler {
    /// Decides the next step and takes its KV blocks. The plan stays readable as [`planned`](Self::planned) until
    /// the next call; it is empty if there is nothing to do.
    ///
    /// Every planned sequence must be committed or finished afterwards, in the order of the plans.
    pub fn plan(&mut self) -> &Plan {
        self.plan.clear();
        let mut budget = self.config.max_num_batched_tokens;
        self.plan_running(&mut budget);
        // A preemption says that there is no room; whoever came now would be thrown out next.
        if self.plan.preempted.is_empty() {
            self.plan_waiting(&mut budget);
        }
        for planned in &self.plan.seqs {
            self.seqs[planned.slot].launch(planned.end);
        }
        &self.plan
    }

    fn plan_running(&mut self, budget: &mut usize) {
        let mut turn = 0;
        while *budget > 0 && turn < self.running.len() {
            let slot = self.running[turn];
            let chunk = self.config.chunk(self.seqs[slot].pending(), *budget, self.slots.len());
            // Zero if its next token is still being sampled; those behind it go on.
            if chunk == 0 || self.make_room(slot, chunk, &mut turn, budget) {
                turn += 1;
            }
        }
    }

    /// Takes blocks for the next `chunk` tokens and schedules them, preempting others or, in the end, the sequence
    /// itself (then false). `turn` is the sequence's place in the running list and follows it.
    fn make_room(&mut self, slot: usize, chunk: usize, turn: &mut usize, budget: &mut usize) -> bool {
        loop {
            let seq = &mut self.seqs[slot];
            if self.kv.grow(&mut seq.table, seq.planned + chunk).is_ok() {
                self.schedule(slot, chunk, budget);
                return true;
            }
            let index = self.victim();
            let victim = self.running.remove(index);
            self.preempt(victim, budget);
            if victim == slot {
                return false;
            }
            *turn -= usize::from(index < *turn);
        }
    }

    /// Whom to preempt, as an index into the running list, which is not empty.
    fn victim(&self) -> usize {
        if let Some(index) = self.last_in_background() {
            return index;
        }
        let last = self.running.len() - 1;
        match self.config.policy {
            Policy::Fcfs => last,
            Policy::Priority => {
                (0..=last).max_by_key(|index| self.seqs[self.running[*index]].rank).unwrap_or(last)
            }
        }
    }

    /// The running sequence in the background that came last, as an index into the running list.
    fn last_in_background(&self) -> Option<usize> {
        let rank = |index: usize| self.seqs[self.running[index]].rank;
        (0..self.running.len()).filter(|index| rank(*index).is_background()).max_by_key(|index| rank(*index))
    }

    /// Throws out a sequence in the background for one that isn't and finds no room; whether there was one.
    fn displace(&mut self, slot: usize, budget: &mut usize) -> bool {
        let seq = &self.seqs[slot];
        // What waits for its own last token finds room when that is there.
        let yields = seq.rank.is_background() || seq.stale > 0;
        let Some(index) = self.last_in_background().filter(|_| !yields) else { return false };
        let victim = self.running[index];
        // Where only tokens are missing, its share of this step must be worth something.
        if *budget == 0 && !self.plan.seqs.iter().any(|planned| planned.slot == victim) {
            return false;
        }
        self.running.remove(index);
        self.preempt(victim, budget);
        true
    }

    /// Takes a sequence's blocks away and queues it again. It must have left the running list.
    fn preempt(&mut self, slot: usize, budget: &mut usize) {
        let seq = &mut self.seqs[slot];
        self.kv.release(&mut seq.table);
        seq.preempt();
        self.waiting.insert(seq.rank, slot);
        self.preemptions += 1;
        self.plan.preempted.push(seq.rank.id);
        // Its share of this very step is given back.
        if let Some(index) = self.plan.seqs.iter().position(|planned| planned.slot == slot) {
            let planned = self.plan.seqs.remove(index);
            *budget += planned.end - planned.start;
        }
    }

    fn plan_waiting(&mut self, budget: &mut usize) {
        let mut promised = self.promised();
        let mut cursor: Option<Rank> = None;
        let mut set_aside = 0;
        while let Some((rank, slot)) = self.waiting.after(cursor) {
            // Whoever was thrown out doesn't come back in the same step.
            if rank.is_background() && !self.plan.preempted.is_empty() {
                break;
            }
            let is_full = *budget == 0 || self.running.len() >= self.config.max_num_seqs;
            if !is_full {
                self.name_blocks(slot);
                if self.waits_for_a_neighbour(slot) {
                    cursor = Some(rank);
                    set_aside += 1;
                    if set_aside == self.config.max_num_seqs {
                        break;
                    }
                    continue;
                }
                if self.admit(slot, promised, budget) {
                    promised += self.owed(slot);
                    continue;
                }
            }
            // Whoever is behind must not slip past the head, or a large request would never get in.
            if !self.displace(slot, budget) {
                break;
            }
            promised = self.promised();
        }
    }

    /// Blocks that all running sequences together will still take.
    fn promised(&self) -> usize {
        self.running.iter().map(|slot| self.owed(*slot)).sum()
    }

    /// Blocks that a running sequence will still take for tokens that it has already. They stay free for it: two
    /// long prompts that each fit, but not together, are not let in to throw each other out.
    fn owed(&self, slot: usize) -> usize {
        let seq = &self.seqs[slot];
        self.kv.blocks_for(seq.tokens.len()).saturating_sub(seq.table.len())
    }

    /// Computes the hashes that its own lookup needs, and that others need to see what it will compute.
    fn name_blocks(&mut self, slot: usize) {
        let seq = &mut self.seqs[slot];
        if self.config.enable_prefix_caching {
            seq.chain.extend(&seq.tokens);
        }
    }

    /// Whether it pays to let this sequence wait for blocks that a running one is about to compute.
    fn waits_for_a_neighbour(&self, slot: usize) -> bool {
        let seq = &self.seqs[slot];
        let neighbours = self.running.iter().map(|other| &self.seqs[*other]);
        seq.may_reuse() && sharing::worth_waiting(seq, neighbours, &self.kv)
    }

    /// Moves a waiting sequence into the running batch with its first chunk, if all of it fits.
    fn admit(&mut self, slot: usize, promised: usize, budget: &mut usize) -> bool {
        // Its next token is on the way; computing that once more would sample it twice.
        if self.seqs[slot].stale > 0 {
            return false;
        }
        let Self { seqs, kv, config, slots, .. } = self;
        let seq = &mut seqs[slot];
        let whole = seq.tokens.len();
        let mut hit = if seq.may_reuse() { kv.lookup(&seq.chain, whole) } else { kv.no_prefix() };
        if seq.admitted {
            hit = hit.uncounted();
        }
        let cached = hit.tokens();
        let chunk = config.chunk(whole - cached, *budget, slots.len());
        let room = Slots { now: cached + chunk, whole, reserved: promised };
        if hit.allocate(&mut seq.table, room).is_err() {
            return false;
        }
        let resumed = std::mem::replace(&mut seq.admitted, true);
        if !resumed {
            seq.cached_tokens = cached;
        }
        (seq.computed, seq.planned, seq.running) = (cached, cached, true);
        self.plan.admitted.push(Admitted { id: seq.rank.id, cached_tokens: cached, resumed });
        self.waiting.remove(&seq.rank);
        self.running.push(slot);
        self.schedule(slot, chunk, budget);
        true
    }

    /// Adds a chunk, whose blocks are there, to the plan.
    fn schedule(&mut self, slot: usize, chunk: usize, budget: &mut usize) {
        let seq = &self.seqs[slot];
        let (start, end) = (seq.planned, seq.planned + chunk);
        let samples = end == seq.tokens.len();
        self.plan.seqs.push(PlannedSeq { id: seq.rank.id, start, end, samples, slot });
        *budget -= chunk;
    }
}
