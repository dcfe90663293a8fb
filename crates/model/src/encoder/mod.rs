//! The executor of models that read whole texts: any [`PoolingSpec`] on any [`Backend`].

mod block;
mod head;
mod norm;
mod source;

use millrace_backend::{Backend, Batch, Matrix, Pool, RowIndex, Tensor, Ticket};

use crate::layer::Ropes;
use crate::load::{LoadOptions, LoadReport, Loader, Progress};
use crate::spec::encoder::{EncoderSpec, PoolingSpec};
use crate::{ModelError, WeightSource};
use block::Block;
use head::Head;
use norm::Norm;
use source::Bare;
pub use source::WithParts;

/// A loaded model that gives one row for each text of a batch: handles to weights and activations in a backend, which
/// it must always be used with.
#[derive(Debug)]
pub struct Encoder {
    body: EncoderSpec,
    /// `[vocab, hidden]`.
    tokens: Matrix,
    /// `[positions, hidden]`.
    positions: Option<Matrix>,
    /// `[types, hidden]`.
    token_types: Option<Matrix>,
    embedding_norm: Option<Norm>,
    blocks: Vec<Block>,
    final_norm: Option<Norm>,
    pool: Pool,
    head: Head,
    stream: Stream,
}

/// Hidden states and what goes around them, `[max tokens, hidden]` each.
#[derive(Debug, Clone, Copy)]
struct Stream {
    /// The hidden states.
    states: Tensor,
    /// Their next version, where a norm makes it.
    next: Tensor,
    /// What a part of a block reads.
    input: Tensor,
    /// What it gives.
    output: Tensor,
}

impl Encoder {
    /// Packs a model's weights into `backend` and allocates all activations, once. `options.max_tokens` bounds the
    /// tokens of a step, `options.max_logit_rows` the texts whose head is computed together.
    ///
    /// # Errors
    /// A tensor is missing, misshapen or unreadable, or the backend has no memory or no kernel for it.
    pub fn load<B: Backend + ?Sized>(
        spec: &PoolingSpec,
        source: &dyn WeightSource,
        backend: &mut B,
        options: LoadOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Self, LoadReport), ModelError> {
        let (body, options) = (&spec.body, options.at_least_one());
        let source = Bare::new(source, body.names.prefix);
        let mut loader = Loader::new(spec.param_count(), &source, backend, options, progress);
        let table = |loader: &mut Loader<'_, B>, module: &str, rows: usize| {
            loader.table((module.to_owned(), rows), body.hidden, false)
        };
        let (names, embedding) = (&body.names, &body.embedding);
        let tokens = table(&mut loader, names.embedding, body.vocab)?;
        let positions = embedding.positions.map(|(rows, _)| table(&mut loader, names.positions, rows));
        let types = Some(embedding.token_types).filter(|rows| *rows > 0);
        let token_types = types.map(|rows| table(&mut loader, names.token_types, rows));
        let norm = |loader: &mut Loader<'_, B>, norm: Option<_>| Norm::load(norm, "", body.hidden, loader);
        let embedding_norm = norm(&mut loader, embedding.norm)?;
        let mut ropes = Ropes::default();
        let blocks = (0..body.blocks.len()).map(|index| Block::load(body, index, &mut ropes, &mut loader));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let encoder = Self {
            tokens,
            positions: positions.transpose()?,
            token_types: token_types.transpose()?,
            embedding_norm,
            blocks,
            final_norm: norm(&mut loader, body.final_norm)?,
            pool: spec.pool,
            head: Head::load(spec, options.max_logit_rows, &mut loader)?,
            stream: Stream::alloc(&mut loader, options.max_tokens, body.hidden)?,
            body: body.clone(),
        };
        let mut report = loader.finish();
        report.unused.retain(|tensor| !names.leftovers.iter().any(|start| tensor.starts_with(start)));
        Ok((encoder, report))
    }

    /// What it computes; builds batches for it.
    pub fn body(&self) -> &EncoderSpec {
        &self.body
    }

    /// Elements of a result.
    pub fn dim(&self) -> usize {
        self.head.dim()
    }

    /// Enqueues one step over whole texts. The rows collected are the results, `[texts, dim]`, in order.
    ///
    /// # Panics
    /// If the batch has more than `max_tokens` tokens.
    pub fn forward<B: Backend + ?Sized>(&self, backend: &mut B, batch: &Batch) -> Ticket {
        let mut stream = self.stream.first(batch.tokens.len());
        backend.begin(batch);
        self.embed(backend, &mut stream);
        for block in &self.blocks {
            block.forward(backend, &mut stream);
        }
        if let Some(norm) = self.final_norm {
            stream.renew(backend, norm);
        }
        self.head.forward(backend, stream.states, self.pool, batch.seqs.len());
        backend.submit()
    }

    fn embed<B: Backend + ?Sized>(&self, backend: &mut B, stream: &mut Stream) {
        backend.embed(self.tokens, stream.states);
        if self.body.embedding.scale != 1.0 {
            backend.scale(stream.states, self.body.embedding.scale);
        }
        if let Some(table) = self.token_types {
            backend.add_embedding(table, RowIndex::TokenTypes, stream.states);
        }
        if let Some(table) = self.positions {
            backend.add_embedding(table, RowIndex::Positions, stream.states);
        }
        if let Some(norm) = self.embedding_norm {
            stream.renew(backend, norm);
        }
    }
}

impl Stream {
    fn alloc<B: Backend + ?Sized>(
        loader: &mut Loader<'_, B>,
        rows: usize,
        hidden: usize,
    ) -> Result<Self, ModelError> {
        let mut alloc = || loader.buffer(rows, hidden);
        Ok(Self { states: alloc()?, next: alloc()?, input: alloc()?, output: alloc()? })
    }

    /// Its first `rows` rows.
    fn first(self, rows: usize) -> Self {
        Self {
            states: self.states.first(rows),
            next: self.next.first(rows),
            input: self.input.first(rows),
            output: self.output.first(rows),
        }
    }

    /// `states = norm(states)`.
    fn renew<B: Backend + ?Sized>(&mut self, backend: &mut B, norm: Norm) {
        norm.forward(backend, self.states, self.next);
        std::mem::swap(&mut self.states, &mut self.next);
    }
}
