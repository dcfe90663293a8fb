//! The steps of models that read whole texts: a queue and a device.

use std::collections::BTreeMap;

use millrace_backend::{Backend, Batch, StepResult};
use millrace_model::Encoder;
use millrace_types::{FinishReason, Request, RequestId, RequestOutput, TokenId};
use tokio::sync::mpsc::UnboundedSender;

use super::PoolingConfig;
use crate::{
    EngineStats, Inspection, Policy,
    sampling::SamplingState,
    work::{Desk, Work},
};

/// What the engine thread owns besides its desk.
pub(super) struct Pooling {
    backend: Box<dyn Backend>,
    encoder: Encoder,
    queue: Queue,
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

impl Work for Pooling {
    fn open(&mut self, desk: &mut Desk, mut request: Request, outputs: UnboundedSender<RequestOutput>) {
        let sampling = SamplingState::new(std::mem::take(&mut request.sampling), &[], 0, 0);
        desk.ledger.open(&request, sampling, None, outputs);
        let priority = if self.policy == Policy::Priority { request.priority } else { 0 };
        let (len, most) = (request.prompt.len(), self.max_tokens);
        if len == 0 || len > most {
            let error = format!("a text of {len} tokens doesn't fit into a step of 1 to {most}");
            return self.close(desk, request.id, FinishReason::Error, Some(error));
        }
        self.queue.insert((priority, request.id), Text { tokens: request.prompt, second: request.second });
    }

    fn release(&mut self, id: RequestId) {
        self.queue.retain(|(_, other), _| *other != id);
    }

    /// Computes the texts at the front of the queue.
    fn step(&mut self, desk: &mut Desk) {
        self.take_texts(desk);
        if self.running.is_empty() {
            return;
        }
        desk.publish(self);
        let ticket = self.encoder.forward(&mut *self.backend, &self.batch);
        match self.backend.wait(ticket, &mut self.result) {
            Ok(()) => {
                let rows = self.result.collected.chunks_exact(self.encoder.dim());
                self.running.iter().zip(rows).for_each(|(id, row)| desk.ledger.send_pooled(*id, row));
            }
            Err(error) => {
                let ids = std::mem::take(&mut self.running);
                self.fail_step(desk, ids, &error);
            }
        }
        self.running.clear();
        desk.stats.note_step(self.batch.tokens.len());
    }

    fn gauges(&self, stats: &mut EngineStats) {
        stats.running = self.running.len();
        stats.waiting = self.queue.len();
    }

    fn describe(&self, _: &mut Inspection) {}

    /// There is none.
    fn drop_cache(&mut self) -> usize {
        0
    }
}

impl Pooling {
    pub(super) fn new(backend: Box<dyn Backend>, encoder: Encoder, config: &PoolingConfig) -> Self {
        Self {
            backend,
            encoder,
            queue: Queue::new(),
            policy: config.policy,
            max_seqs: config.max_num_seqs.max(1),
            max_tokens: config.max_num_batched_tokens,
            batch: Batch::default(),
            result: StepResult::default(),
            running: Vec::new(),
        }
    }

    /// Makes a batch of the texts at the front of the queue.
    fn take_texts(&mut self, desk: &mut Desk) {
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
            desk.admit(id, 0);
            self.running.push(id);
        }
    }
}
