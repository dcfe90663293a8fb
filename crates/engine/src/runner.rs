//! The runner: lays out a planned step as one ragged batch and executes it.

use millrace_backend::{Backend, BackendError, Batch, SampleKind, SampleSpec, SeqSpan, Span, StepResult};
use millrace_model::Decoder;
use millrace_sched::{ScheduledSeq, Scheduler};
use millrace_types::{BlockId, RequestId, TokenId, TokenLogprobs};

use crate::{
    ledger::{Entry, Ledger},
    sampling,
};

/// Executes steps; owns the device.
pub(crate) struct Runner {
    backend: Box<dyn Backend>,
    decoder: Decoder,
    block_size: usize,
    batch: Batch,
    result: StepResult,
    /// The same for rows that are sampled again.
    again: Batch,
    again_result: StepResult,
    /// Whose each sampled row is, parallel to `batch.samples`.
    owners: Vec<RequestId>,
    /// The samples whose masks come from constraints.
    constrained: Vec<usize>,
    /// Sequences for which nothing is left to sample.
    stuck: Vec<RequestId>,
}

/// What the step found out about one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Row {
    /// A new token of the sequence.
    Sampled(TokenId, Option<TokenLogprobs>),
    /// The log-probability of the next prompt token.
    Scored(TokenLogprobs),
}

impl Runner {
    pub(crate) fn new(backend: Box<dyn Backend>, decoder: Decoder, block_size: usize) -> Self {
        Self {
            backend,
            decoder,
            block_size,
            batch: Batch::default(),
            result: StepResult::default(),
            again: Batch::default(),
            again_result: StepResult::default(),
            owners: Vec::new(),
            constrained: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// Whether the model runs on the engine's own cores.
    pub(crate) fn is_host(&self) -> bool {
        self.backend.is_host()
    }

    /// Sets the model to work on the scheduler's newest plan.
    pub(crate) fn launch(&mut self, sched: &Scheduler, ledger: &Ledger) {
        self.batch.clear();
        self.owners.clear();
        self.constrained.clear();
        self.stuck.clear();
        self.result.clear();
        self.push_all(sched, ledger, |start, _, prompt_len| start..prompt_len);
        self.batch.prompt_rows = self.batch.tokens.len();
        self.push_all(sched, ledger, |_, end, prompt_len| prompt_len..end);
        self.decoder.compute(&mut *self.backend, &self.batch);
    }

    /// Samples from what was launched, by the masks that have come meanwhile. Afterwards [`rows`](Self::rows) has the
    /// results.
    pub(crate) fn finish(&mut self, ledger: &Ledger) -> Result<(), BackendError> {
        for index in &self.constrained {
            let (id, spec) = (self.owners[*index], self.batch.samples[*index]);
            // Whose constraint has failed is closed by now, and nobody will look at its row.
            let Some(entry) = ledger.get(id) else { continue };
            let Some(constrained) = entry.constrained.as_deref() else { continue };
            if !entry.sampling.constrain(&spec, constrained.mask(), &mut self.batch) {
                self.stuck.push(id);
            }
        }
        let ticket = self.decoder.sample(&mut *self.backend, &self.batch);
        self.backend.wait(ticket, &mut self.result)
    }

    /// Samples once more for sequences whose token was refused, now by their masks. For backends that are hosts.
    pub(crate) fn retry(&mut self, refused: &[RequestId], ledger: &Ledger) -> Result<(), BackendError> {
        self.again.clone_from(&self.batch);
        self.again.samples.clear();
        self.again.masks.clear();
        self.stuck.clear();
        let mut rows = Vec::with_capacity(refused.len());
        for (index, id) in self.owners.iter().enumerate().filter(|(_, id)| refused.contains(id)) {
            let spec = self.batch.samples[index];
            let Some(entry) = ledger.get(*id).filter(|_| spec.kind == SampleKind::Sample) else { continue };
            let Some(constrained) = entry.constrained.as_deref() else { continue };
            let spec = SampleSpec { mask: entry.sampling.room(&mut self.again), ..spec };
            if entry.sampling.constrain(&spec, constrained.mask(), &mut self.again) {
                self.again.samples.push(spec);
                rows.push(index);
            } else {
                self.stuck.push(*id);
            }
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.backend.begin(&self.again);
        let ticket = self.decoder.sample(&mut *self.backend, &self.again);
        self.backend.wait(ticket, &mut self.again_result)?;
        for (index, row) in rows.into_iter().zip(&self.again_result.rows) {
            self.result.rows[index].token = row.token;
        }
        Ok(())
    }

    /// Sequences of the last step that got no token because their options allow none.
    pub(crate) fn stuck(&self) -> &[RequestId] {
        &self.stuck
    }

    /// The tokens that the last step sampled, in batch order.
    pub(crate) fn sampled(&self) -> impl Iterator<Item = (RequestId, TokenId)> {
        let rows = self.owners.iter().zip(&self.batch.samples).zip(&self.result.rows);
        rows.filter(|((_, spec), _)| spec.kind == SampleKind::Sample).map(|((id, _), row)| (*id, row.token))
    }

    /// The last step's results in batch order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (RequestId, Row)> {
        self.owners.iter().zip(&self.batch.samples).zip(&self.result.rows).map(|((id, spec), row)| {
            let logprobs = spec.logprobs.map(|_| TokenLogprobs {
                token: row.token,
                logprob: row.logprob,
                rank: row.rank,
                top: row.top.of(&self.result.top).to_vec(),
            });
            match (spec.kind, logprobs) {
                (SampleKind::Score(_), Some(logprobs)) => (*id, Row::Scored(logprobs)),
                (_, logprobs) => (*id, Row::Sampled(row.token, logprobs)),
            }
        })
    }

    /// Adds a part of every sequence's chunk: what `part(start, end, prompt length)` and the chunk have in common.
    fn push_all(
        &mut self,
        sched: &Scheduler,
        ledger: &Ledger,
        part: impl Fn(usize, usize, usize) -> std::ops::Range<usize>,
    ) {
        for seq in sched.batch() {
            let Some(entry) = ledger.get(seq.id) else { continue };
            let part = part(seq.start, seq.end, entry.usage.prompt_tokens);
            let (start, end) = (part.start.max(seq.start), part.end.min(seq.end));
            if start < end {
                self.push(&ScheduledSeq { start, end, samples: seq.samples && end == seq.end, ..seq }, entry);
            }
        }
    }

    fn push(&mut self, seq: &ScheduledSeq<'_>, entry: &Entry) {
        let batch = &mut self.batch;
        let first_row = batch.tokens.len() as u32;
        let blocks = &seq.blocks[..seq.end.div_ceil(self.block_size)];
        batch.tokens.extend_from_slice(&seq.tokens[seq.start..seq.end]);
        batch.positions.extend((seq.start..seq.end).map(|p| p as u32));
        batch.slots.extend((seq.start..seq.end).map(|p| slot(blocks, self.block_size, p)));
        batch.seqs.push(SeqSpan {
            query: Span { start: first_row, len: (seq.end - seq.start) as u32 },
            kv_len: seq.end as u32,
            blocks: Span { start: batch.block_tables.len() as u32, len: blocks.len() as u32 },
        });
        batch.block_tables.extend_from_slice(blocks);

        let row_of = |position: usize| first_row + (position - seq.start) as u32;
        if let Some(logprobs) = entry.sampling.params().prompt_logprobs {
            // Row p predicts token p + 1; a chunk that is computed again after a preemption is not scored again.
            let prompt_len = entry.usage.prompt_tokens;
            for position in seq.start.max(entry.scored - 1)..seq.end.min(prompt_len - 1) {
                let spec = sampling::score(row_of(position), seq.tokens[position + 1], logprobs);
                batch.samples.push(spec);
                self.owners.push(seq.id);
            }
        }
        if seq.samples && !entry.scores_only() {
            let masked = entry.is_masked();
            match entry.sampling.sample(row_of(seq.end - 1), &entry.output, masked, batch) {
                Some(spec) => {
                    self.constrained.extend(masked.then_some(batch.samples.len()));
                    batch.samples.push(spec);
                    self.owners.push(seq.id);
                }
                None => self.stuck.push(seq.id),
            }
        }
    }
}

/// Where the KV of the token at `position` goes.
fn slot(blocks: &[BlockId], block_size: usize, position: usize) -> u32 {
    blocks[position / block_size].0 * block_size as u32 + (position % block_size) as u32
}
