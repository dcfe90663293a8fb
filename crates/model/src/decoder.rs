//! The one decoder: executes any [`ModelSpec`] on any [`Backend`].

use millrace_backend::{Backend, Batch, Matrix, Tensor, Ticket};

use crate::layer::{Layer, LayerLoader, Norm};
use crate::load::{LoadOptions, LoadReport, Loader, Progress};
use crate::spec::ModelSpec;
use crate::{ModelError, WeightSource};

/// A loaded model: handles to weights and activations in a backend, which it must always be used with.
#[derive(Debug)]
pub struct Decoder {
    /// `[vocab, hidden]`.
    embedding: Matrix,
    layers: Vec<Layer>,
    final_norm: Norm,
    /// `[vocab, hidden]`; the embedding itself if tied.
    head: Matrix,
    /// For all tokens of a step, `[max tokens, hidden]`.
    tokens: Stream,
    /// For one slice of its sampled rows, `[max logit rows, hidden]`.
    sampled: Stream,
    /// `[max logit rows, vocab]`.
    logits: Tensor,
}

/// The residual stream and what goes around it, `[rows, hidden]` each.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// The sum of the embedding and of all outputs but the last.
    residual: Tensor,
    /// The last output; the next norm adds it.
    output: Tensor,
    /// The normalised stream.
    normed: Tensor,
}

impl Decoder {
    /// Packs a model's weights into `backend` and allocates all activations, once. Weights pass row by row; the
    /// memory of `source` is released as it is consumed.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or the backend has no memory or no kernel for it.
    pub fn load<B: Backend + ?Sized>(
        spec: &ModelSpec,
        source: &dyn WeightSource,
        backend: &mut B,
        options: LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, LoadReport), ModelError> {
        let names = &spec.names;
        let options = options.at_least_one();
        let mut loader = Loader::new(spec.param_count(), source, backend, options, progress);
        let embedding = loader.table((names.embedding.into(), spec.vocab), spec.hidden, spec.tied_head)?;
        let mut layer_loader = LayerLoader::new(spec);
        let layers = (0..spec.layers.len()).map(|index| layer_loader.load(index, &mut loader));
        let layers = layers.collect::<Result<_, _>>()?;
        let final_norm =
            Norm { weight: loader.norm(names.final_norm, spec.hidden)?, eps: spec.final_norm_eps };
        let head = match spec.tied_head {
            true => {
                // Some checkpoints carry a copy.
                loader.ignore(names.head);
                embedding
            }
            false => loader.table((names.head.into(), spec.vocab), spec.hidden, true)?,
        };
        let tokens = Stream::alloc(loader.backend, options.max_tokens, spec.hidden)?;
        let sampled = Stream::alloc(loader.backend, options.max_logit_rows, spec.hidden)?;
        let logits = loader.backend.alloc(options.max_logit_rows, spec.vocab)?;
        let decoder = Self { embedding, layers, final_norm, head, tokens, sampled, logits };
        Ok((decoder, loader.finish()))
    }

    /// Enqueues one step: [`compute`](Self::compute) and [`sample`](Self::sample).
    ///
    /// # Panics
    /// If the batch has more than `max_tokens` tokens.
    pub fn forward<B: Backend + ?Sized>(&self, backend: &mut B, batch: &Batch) -> Ticket {
        self.compute(backend, batch);
        self.sample(backend, batch)
    }

    /// Enqueues the first part of a step: every token of the batch through all layers. Allocates nothing, reads nothing
    /// back; all shapes follow from the batch. Its masks aren't looked at.
    ///
    /// # Panics
    /// If the batch has more than `max_tokens` tokens.
    pub fn compute<B: Backend + ?Sized>(&self, backend: &mut B, batch: &Batch) {
        let stream = self.tokens.first(batch.tokens.len());
        let Stream { residual, output, normed } = stream;

        backend.begin(batch);
        backend.embed(self.embedding, residual);
        for (index, layer) in self.layers.iter().enumerate() {
            match index {
                0 => backend.rms_norm(residual, layer.mixer_norm.weight, layer.mixer_norm.eps, normed),
                _ => stream.add_norm(backend, layer.mixer_norm),
            }
            layer.mixer.forward(backend, normed, output);
            stream.add_norm(backend, layer.ffn_norm);
            layer.ffn.forward(backend, normed, output);
        }
    }

    /// Enqueues the rest of the step: logits and samples for the rows that ask for them. [`Backend::wait`] on the ticket
    /// gives the results.
    pub fn sample<B: Backend + ?Sized>(&self, backend: &mut B, batch: &Batch) -> Ticket {
        if !batch.masks.is_empty() {
            backend.masks(&batch.masks);
        }
        let tokens = self.tokens.first(batch.tokens.len());
        // A slice of rows at a time: a long prompt's log-probabilities would not fit otherwise.
        let samples = batch.samples.len();
        for first in (0..samples).step_by(self.logits.rows) {
            let rows = self.logits.rows.min(samples - first);
            let (stream, logits) = (self.sampled.first(rows), self.logits.first(rows));
            backend.gather_rows(tokens.residual, first, stream.residual);
            backend.gather_rows(tokens.output, first, stream.output);
            stream.add_norm(backend, self.final_norm);
            backend.logits(stream.normed, self.head, logits);
            backend.sample(logits, first);
        }
        backend.submit()
    }
}

impl Stream {
    fn alloc<B: Backend + ?Sized>(backend: &mut B, rows: usize, hidden: usize) -> Result<Self, ModelError> {
        let mut alloc = || backend.alloc(rows, hidden);
        Ok(Self { residual: alloc()?, output: alloc()?, normed: alloc()? })
    }

    /// Its first `rows` rows.
    fn first(self, rows: usize) -> Self {
        Self {
            residual: self.residual.first(rows),
            output: self.output.first(rows),
            normed: self.normed.first(rows),
        }
    }

    /// `residual += output`, `normed = norm(residual)`.
    fn add_norm<B: Backend + ?Sized>(self, backend: &mut B, norm: Norm) {
        backend.add_rms_norm(self.residual, self.output, norm.weight, norm.eps, self.normed);
    }
}
