//! The step loop: the one thread that owns queue, ledger and device.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use millrace_backend::{Backend, Batch, StepResult};
use millrace_model::Encoder;
use millrace_types::{FinishReason, Request, RequestId, RequestOutput, TokenId};
use tokio::sync::{mpsc::UnboundedSender, watch};

use super::PoolingConfig;
use crate::{
    Command, EngineStats, Inspection, Policy,
    handle::EnginePort,
    inbox::{Inbox, Mode},
    ledger::Ledger,
    sampling::SamplingState,
};

/// Everything the engine thread owns.
pub(super) struct PoolingCore {
    backend: Box<dyn Backend>,
    encoder: Encoder,
    queue: Queue,
    ledger: Ledger,
    inbox: Inbox,
    stats_out: watch::Sender<EngineStats>,
    queued: Arc<AtomicUsize>,
    stats: EngineStats,
    policy: Policy,
    max_seqs: usize,
    max_tokens: usize,
    /// Reused from step to step.
    batch: Batch,
    result: StepResult,
    running: Vec<RequestId>,
}

/// Texts that wait, by priority and arrival.
type Queue = BTreeMap<(i32, RequestId), Text>;

/// A text and where its second part begins.
struct Text {
    tokens: Vec<TokenId>,
    second: Option<usize>,
}

impl PoolingCore {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        encoder: Encoder,
        port: EnginePort,
        config: &PoolingConfig,
    ) -> Self {
        Self {
            backend,
            encoder,
            queue: Queue::new(),
            ledger: Ledger::default(),
            inbox: Inbox::new(port.commands),
            stats_out: port.stats,
            queued: port.queued,
            stats: EngineStats { alive: true, ..EngineStats::default() },
            policy: config.policy,
            max_seqs: config.max_num_seqs.max(1),
            max_tokens: config.max_num_batched_tokens,
            batch: Batch::default(),
            result: StepResult::default(),
            running: Vec::new(),
        }
    }

    /// Runs until told to stop, or until every handle is gone.
    pub(super) fn run(mut self) {
        self.publish();
        loop {
            self.receive();
            match self.inbox.mode() {
                Mode::Stopping => break,
                Mode::Draining if self.ledger.is_empty() => break,
                _ => {}
            }
            self.sweep();
            self.step();
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
            match command {
                Command::Submit(request, outputs) => self.open(*request, outputs),
                Command::Abort(id) => self.close(id, FinishReason::Abort, None),
                // Whoever asked may have left.
                Command::Inspect(reply) => drop(reply.send(self.inspect())),
                Command::DropCache(reply) => drop(reply.send(0)),
                // The inbox has seen to them.
                Command::Drain | Command::Shutdown => {}
            }
        }
    }

    fn open(&mut self, mut request: Request, outputs: UnboundedSender<RequestOutput>) {
        let sampling = SamplingState::new(std::mem::take(&mut request.sampling), &[], 0, 0);
        self.ledger.open(&request, sampling, None, outputs);
        let priority = if self.policy == Policy::Priority { request.priority } else { 0 };
        let (len, most) = (request.prompt.len(), self.max_tokens);
        if len == 0 || len > most {
            let error = format!("a text of {len} tokens doesn't fit into a step of 1 to {most}");
            return self.close(request.id, FinishReason::Error, Some(error));
        }
        self.queue.insert((priority, request.id), Text { tokens: request.prompt, second: request.second });
    }

    /// Ends requests whose client has gone or whose time is up.
    fn sweep(&mut self) {
        for (id, reason, error) in self.ledger.expired(Instant::now()) {
            self.close(id, reason, error);
        }
    }

    /// Ends a request that waits, or whose step failed.
    fn close(&mut self, id: RequestId, reason: FinishReason, error: Option<String>) {
        if self.ledger.get(id).is_none() {
            return;
        }
        if !self.ledger.was_admitted(id) {
            self.queued.fetch_sub(1, Ordering::AcqRel);
            self.queue.retain(|(_, other), _| *other != id);
        }
        self.ledger.close(id, reason, error);
    }

    /// Computes the texts at the front of the queue.
    fn step(&mut self) {
        self.batch.clear();
        self.result.clear();
        self.running.clear();
        while let Some(entry) = self.queue.first_entry() {
            let (text, (_, id)) = (entry.get(), *entry.key());
            if self.running.len() == self.max_seqs
                || self.batch.tokens.len() + text.tokens.len() > self.max_tokens
            {
                break;
            }
            self.encoder.body().push(&mut self.batch, &text.tokens, text.second);
            entry.remove();
            if self.ledger.admitted(id, 0) {
                self.queued.fetch_sub(1, Ordering::AcqRel);
            }
            self.running.push(id);
        }
        if self.running.is_empty() {
            return;
        }
        self.publish();
        let ticket = self.encoder.forward(&mut *self.backend, &self.batch);
        match self.backend.wait(ticket, &mut self.result) {
            Ok(()) => {
                let rows = self.result.collected.chunks_exact(self.encoder.dim());
                self.running.iter().zip(rows).for_each(|(id, row)| self.ledger.send_pooled(*id, row));
            }
            Err(error) => {
                tracing::error!(%error, "a step failed");
                for id in std::mem::take(&mut self.running) {
                    self.close(id, FinishReason::Error, Some(error.to_string()));
                }
            }
        }
        self.running.clear();
        self.stats.note_step(self.batch.tokens.len());
    }

    fn inspect(&self) -> Inspection {
        Inspection { requests: self.ledger.states(), cached_blocks: 0 }
    }

    fn publish(&mut self) {
        let stats = EngineStats {
            running: self.running.len(),
            waiting: self.queue.len(),
            prompt_tokens: self.ledger.prompt_tokens,
            finished: self.ledger.finished,
            ..self.stats
        };
        self.stats_out.send_replace(stats);
    }
}
