//! The steps of models that generate text: scheduler, device and constraints.

use millrace_backend::BackendError;
use millrace_sched::{PrefixKeys, Scheduler, SeqInit};
use millrace_types::{Finish, FinishReason, Request, RequestId, RequestOutput, TokenId};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    EngineStats, Inspection,
    constrained::Constrained,
    masks::{Job, MaskPool, News},
    runner::{Row, Runner},
    sampling::{SamplingState, mix},
    work::{Desk, Work},
};

/// What the engine thread owns besides its desk.
pub(crate) struct Generation {
    pub(crate) sched: Scheduler,
    pub(crate) runner: Runner,
    vocab_size: usize,
    seed: u64,
    pub(crate) masks: MaskPool,
    /// Reused from step to step.
    pub(crate) jobs: Vec<Job>,
    pub(crate) news: Vec<News>,
    pub(crate) refused: Vec<RequestId>,
    taken: Vec<TokenId>,
}

impl Work for Generation {
    fn open(&mut self, desk: &mut Desk, mut request: Request, outputs: UnboundedSender<RequestOutput>) {
        let fallback_seed = mix(self.seed ^ request.id.0);
        let params = std::mem::take(&mut request.sampling);
        let init = SeqInit {
            id: request.id,
            prompt: request.prompt.clone(),
            max_tokens: params.max_tokens,
            priority: request.priority,
            arrival: request.id.0,
            keys: PrefixKeys { cache_salt: request.cache_salt.take(), ..PrefixKeys::default() },
            skip_prefix_lookup: params.prompt_logprobs.is_some(),
        };
        let sampling = SamplingState::new(params, &request.prompt, self.vocab_size, fallback_seed);
        let constrained = request.constraint.take();
        let constrained =
            constrained.map(|constraint| Box::new(Constrained::new(constraint, self.vocab_size)));
        desk.ledger.open(&request, sampling, constrained, outputs);
        if let Err(error) = self.sched.add(init) {
            self.close(desk, request.id, FinishReason::Error, Some(error.to_string()));
        }
    }

    fn release(&mut self, id: RequestId) {
        self.sched.finish(id);
    }

    fn step(&mut self, desk: &mut Desk) {
        if !self.sched.has_unfinished() {
            return;
        }
        self.sched.plan();
        self.note_plan(desk);
        let started = self.sched.planned().num_tokens();
        if started == 0 {
            // Every sequence alone fits the cache, so an empty plan is a bug; failing loudly beats spinning.
            self.fail_all(desk, "the scheduler could not place any request");
            return;
        }
        self.start_first_masks(desk);
        if self.runner.is_host() {
            self.finish_masks(desk);
        }
        self.runner.launch(&self.sched, &desk.ledger);
        self.finish_masks(desk);
        match self.runner.finish(&desk.ledger).and_then(|()| self.settle(desk)) {
            Ok(()) => self.commit(desk),
            Err(error) => {
                let ids = self.sched.planned().seqs.iter().map(|seq| seq.id).collect();
                self.fail_step(desk, ids, &error);
            }
        }
        desk.stats.note_step(started);
    }

    fn gauges(&self, stats: &mut EngineStats) {
        let sched = self.sched.stats();
        stats.running = sched.running;
        stats.waiting = sched.waiting;
        stats.blocks_in_use = sched.blocks_in_use;
        stats.blocks_cached = sched.blocks_cached;
        stats.blocks_total = sched.blocks_total;
        stats.prefix_queries = sched.prefix.queries;
        stats.prefix_hits = sched.prefix.hits;
        stats.preemptions = sched.preemptions;
    }

    fn describe(&self, inspection: &mut Inspection) {
        for request in &mut inspection.requests {
            if let Some(info) = self.sched.info(request.id) {
                request.running = info.running;
                request.computed_tokens = info.computed;
            }
        }
        inspection.cached_blocks = self.sched.stats().blocks_cached;
    }

    fn drop_cache(&mut self) -> usize {
        self.sched.drop_unused_cache()
    }
}

impl Generation {
    pub(crate) fn new(sched: Scheduler, runner: Runner, vocab_size: usize, seed: u64) -> Self {
        let (jobs, news, refused, taken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { sched, runner, vocab_size, seed, masks: MaskPool::new(), jobs, news, refused, taken }
    }

    fn note_plan(&self, desk: &mut Desk) {
        let plan = self.sched.planned();
        for id in &plan.preempted {
            desk.ledger.preempted(*id);
        }
        for admitted in &plan.admitted {
            desk.admit(admitted.id, admitted.cached_tokens);
        }
    }

    /// Ends the sequences that got no token, and has constraints see to the others' tokens.
    fn settle(&mut self, desk: &mut Desk) -> Result<(), BackendError> {
        self.close_stuck(desk);
        self.advance_constraints(desk)
    }

    /// Hands the step's results to scheduler and ledger. The only place where a request gets tokens.
    fn commit(&mut self, desk: &mut Desk) {
        let max_model_len = self.sched.config().max_model_len;
        for (id, row) in self.runner.rows() {
            let Some(entry) = desk.ledger.get_mut(id) else { continue };
            match row {
                Row::Scored(logprobs) => entry.push_score(logprobs),
                Row::Sampled(token, logprobs) => {
                    self.taken.clear();
                    self.taken.push(token);
                    self.taken.append(&mut entry.forced);
                    let (kept, finish) = desk.ledger.append_all(id, &self.taken, max_model_len);
                    let kept = &self.taken[..kept];
                    self.sched.commit(id, kept);
                    if finish.is_some() {
                        self.sched.finish(id);
                    }
                    desk.stats.forced_tokens += kept.len() as u64 - 1;
                    desk.ledger.send(id, kept, logprobs, finish);
                }
            }
        }
        self.commit_chunks(desk);
    }

    /// Commits the sequences that computed a part of their prompt and sampled nothing.
    fn commit_chunks(&mut self, desk: &mut Desk) {
        for index in 0..self.sched.planned().seqs.len() {
            let seq = self.sched.planned().seqs[index];
            let Some(entry) = desk.ledger.get(seq.id) else { continue };
            let scores_only = entry.scores_only();
            if !seq.samples || scores_only {
                self.sched.commit(seq.id, &[]);
            }
            if seq.samples && scores_only {
                self.sched.finish(seq.id);
                let finish = Finish { reason: FinishReason::Length, stop_token: None };
                desk.ledger.send(seq.id, &[], None, Some(finish));
            }
        }
    }

    fn fail_all(&mut self, desk: &mut Desk, why: &str) {
        tracing::error!(why, "the engine gave up on all open requests");
        for id in desk.ledger.ids() {
            self.close(desk, id, FinishReason::Error, Some(why.to_owned()));
        }
    }
}
