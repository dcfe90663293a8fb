//! The step loop: the one thread that owns scheduler, ledger and device.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use millrace_backend::BackendError;
use millrace_sched::{PrefixKeys, Scheduler, SeqInit};
use millrace_types::{Finish, FinishReason, Request, RequestId, RequestOutput, TokenId};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::{
    Command, EngineStats, Inspection,
    handle::EnginePort,
    inbox::{Inbox, Mode},
    ledger::Ledger,
    masks::{Constrained, Job, MaskPool, News},
    runner::{Row, Runner},
    sampling::{SamplingState, mix},
};

/// Everything the engine thread owns.
pub(crate) struct EngineCore {
    pub(crate) sched: Scheduler,
    pub(crate) runner: Runner,
    pub(crate) ledger: Ledger,
    inbox: Inbox,
    stats_out: watch::Sender<EngineStats>,
    queued: Arc<AtomicUsize>,
    pub(crate) stats: EngineStats,
    vocab_size: usize,
    seed: u64,
    pub(crate) masks: MaskPool,
    /// Reused from step to step.
    pub(crate) jobs: Vec<Job>,
    pub(crate) news: Vec<News>,
    taken: Vec<TokenId>,
}

impl EngineCore {
    pub(crate) fn new(
        sched: Scheduler,
        runner: Runner,
        port: EnginePort,
        vocab_size: usize,
        seed: u64,
    ) -> Self {
        Self {
            sched,
            runner,
            ledger: Ledger::default(),
            inbox: Inbox::new(port.commands),
            stats_out: port.stats,
            queued: port.queued,
            stats: EngineStats { alive: true, ..EngineStats::default() },
            vocab_size,
            seed,
            masks: MaskPool::new(),
            jobs: Vec::new(),
            news: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Runs until told to stop, or until every handle is gone.
    pub(crate) fn run(mut self) {
        self.publish();
        loop {
            self.receive();
            match self.inbox.mode() {
                Mode::Stopping => break,
                Mode::Draining if self.ledger.is_empty() => break,
                _ => {}
            }
            self.sweep();
            if self.sched.has_unfinished() {
                self.step();
            }
            self.publish();
        }
        for id in self.ledger.ids() {
            self.close(id, FinishReason::Abort, None);
        }
        self.stats.alive = false;
        self.publish();
    }

    /// Takes all commands that are there; waits for one if there is nothing else to do.
    fn receive(&mut self) {
        let mut wait = self.ledger.is_empty();
        while let Some(command) = self.inbox.next(std::mem::take(&mut wait)) {
            self.handle(command);
        }
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Submit(request, outputs) => self.open(*request, outputs),
            Command::Abort(id) => self.close(id, FinishReason::Abort, None),
            // Whoever asked may have left.
            Command::Inspect(reply) => drop(reply.send(self.inspect())),
            Command::DropCache(reply) => drop(reply.send(self.sched.drop_unused_cache())),
            // The inbox has seen to them.
            Command::Drain | Command::Shutdown => {}
        }
    }

    fn open(&mut self, mut request: Request, outputs: UnboundedSender<RequestOutput>) {
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
        self.ledger.open(&request, sampling, constrained, outputs);
        if let Err(error) = self.sched.add(init) {
            self.close(request.id, FinishReason::Error, Some(error.to_string()));
        }
    }

    fn inspect(&self) -> Inspection {
        let mut requests = self.ledger.states();
        for request in &mut requests {
            if let Some(info) = self.sched.info(request.id) {
                request.running = info.running;
                request.computed_tokens = info.computed;
            }
        }
        Inspection { requests, cached_blocks: self.sched.stats().blocks_cached }
    }

    /// Ends requests whose client has gone or whose time is up.
    fn sweep(&mut self) {
        for (id, reason, error) in self.ledger.expired(Instant::now()) {
            self.close(id, reason, error);
        }
    }

    /// Ends a request from outside of a step; its blocks are free at once.
    pub(crate) fn close(&mut self, id: RequestId, reason: FinishReason, error: Option<String>) {
        if !self.ledger.was_admitted(id) && self.ledger.get(id).is_some() {
            self.queued.fetch_sub(1, Ordering::AcqRel);
        }
        self.sched.finish(id);
        self.ledger.close(id, reason, error);
    }

    fn step(&mut self) {
        self.sched.plan();
        self.note_plan();
        let started = self.sched.planned().num_tokens();
        if started == 0 {
            // Every sequence alone fits the cache, so an empty plan is a bug; failing loudly beats spinning.
            self.fail_all("the scheduler could not place any request");
            return;
        }
        self.start_first_masks();
        if self.runner.is_host() {
            self.finish_masks();
        }
        self.runner.launch(&self.sched, &self.ledger);
        self.finish_masks();
        match self.runner.finish(&self.ledger) {
            Ok(()) => self.commit(),
            Err(error) => self.fail_step(&error),
        }
        self.stats.note_step(started);
    }

    fn note_plan(&mut self) {
        let plan = self.sched.planned();
        for id in &plan.preempted {
            self.ledger.preempted(*id);
        }
        for admitted in &plan.admitted {
            if self.ledger.admitted(admitted.id, admitted.cached_tokens) {
                self.queued.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }

    /// Hands the step's results to scheduler and ledger. The only place where a request gets tokens.
    fn commit(&mut self) {
        self.close_stuck();
        self.advance_constraints();
        let max_model_len = self.sched.config().max_model_len;
        for (id, row) in self.runner.rows() {
            let Some(entry) = self.ledger.get_mut(id) else { continue };
            match row {
                Row::Scored(logprobs) => entry.push_score(logprobs),
                Row::Sampled(token, logprobs) => {
                    self.taken.clear();
                    self.taken.push(token);
                    self.taken.append(&mut entry.forced);
                    let (kept, finish) = self.ledger.append_all(id, &self.taken, max_model_len);
                    let kept = &self.taken[..kept];
                    self.sched.commit(id, kept);
                    if finish.is_some() {
                        self.sched.finish(id);
                    }
                    self.stats.forced_tokens += kept.len() as u64 - 1;
                    self.ledger.send(id, kept, logprobs, finish);
                }
            }
        }
        self.commit_chunks();
    }

    /// Commits the sequences that computed a part of their prompt and sampled nothing.
    fn commit_chunks(&mut self) {
        for index in 0..self.sched.planned().seqs.len() {
            let seq = self.sched.planned().seqs[index];
            let Some(entry) = self.ledger.get(seq.id) else { continue };
            let scores_only = entry.scores_only();
            if !seq.samples || scores_only {
                self.sched.commit(seq.id, &[]);
            }
            if seq.samples && scores_only {
                self.sched.finish(seq.id);
                let finish = Finish { reason: FinishReason::Length, stop_token: None };
                self.ledger.send(seq.id, &[], None, Some(finish));
            }
        }
    }

    /// The device failed: the step's requests end with an error, the others go on.
    fn fail_step(&mut self, error: &BackendError) {
        tracing::error!(%error, "a step failed");
        let ids: Vec<_> = self.sched.planned().seqs.iter().map(|seq| seq.id).collect();
        for id in ids {
            self.close(id, FinishReason::Error, Some(error.to_string()));
        }
    }

    fn fail_all(&mut self, why: &str) {
        tracing::error!(why, "the engine gave up on all open requests");
        for id in self.ledger.ids() {
            self.close(id, FinishReason::Error, Some(why.to_owned()));
        }
    }

    fn publish(&mut self) {
        let sched = self.sched.stats();
        let stats = EngineStats {
            running: sched.running,
            waiting: sched.waiting,
            blocks_in_use: sched.blocks_in_use,
            blocks_cached: sched.blocks_cached,
            blocks_total: sched.blocks_total,
            prefix_queries: sched.prefix.queries,
            prefix_hits: sched.prefix.hits,
            preemptions: sched.preemptions,
            prompt_tokens: self.ledger.prompt_tokens,
            generation_tokens: self.ledger.generation_tokens,
            finished: self.ledger.finished,
            ..self.stats
        };
        self.stats_out.send_replace(stats);
    }
}
