//! [`CpuBackend`]: memory by handle, and each operation handed to its kernel.
//!
//! Operations run when they are called. A failure inside a step is kept for its `wait`; what follows it in the step
//! is skipped.

#[cfg(target_arch = "x86_64")]
mod tiled;

use millrace_backend::{
    Activation, AttentionSpec, Backend, BackendError, Batch, HeadLayout, KvSpec, Mask, Matrix, MatrixSource,
    Mlp, Pool as Pooling, Projection, QkNorm, Rope, RowIndex, StepResult, Tensor, Ticket, WeightFormat,
    sampling,
};

use crate::activations::{Activations, Input};
use crate::attend::Attend;
use crate::attention::{self, Attention};
use crate::elementwise::{Activate, AddAssign, Gated, RmsNorm, for_rows};
use crate::kv::{KvCache, LayerKv};
use crate::layer_norm::LayerNorm;
use crate::level::{Isa, Level};
use crate::linear::{Linear, Output};
use crate::pack::{self, Packed};
use crate::pool::{Pool, TaskPanicked};
use crate::pooling::PoolRows;
use crate::region::{Arena, Region};
use crate::rope::{QkNormRope, RopeTables};
use crate::sample::Sampling;
use crate::shared::SharedMut;
use crate::threads::default_threads;

/// Executes operations on the CPU, each one on all threads.
pub struct CpuBackend {
    isa: Isa,
    pool: Pool,
    tensors: Vec<Region<f32>>,
    matrices: Vec<Packed>,
    /// Where they lie.
    weights: Arena,
    kv: Option<KvCache>,
    batch: Batch,
    result: StepResult,
    activations: Activations,
    rope: RopeTables,
    attention: attention::Scratch,
    attend: Region<f32>,
    sampling: Vec<sampling::Scratch>,
    failed: Option<BackendError>,
    steps: u64,
}

impl From<TaskPanicked> for BackendError {
    fn from(panic: TaskPanicked) -> Self {
        Self::Device(panic.to_string())
    }
}

impl CpuBackend {
    /// The best level of this machine (see [`Level::detect`]), on `threads` threads
    /// ([`default_threads`] if not given).
    ///
    /// # Errors
    /// `MILLRACE_CPU` names no level.
    pub fn new(threads: Option<usize>) -> Result<Self, BackendError> {
        Self::with_level(Level::detect()?, threads.unwrap_or_else(default_threads))
    }

    /// A level of one's choice.
    ///
    /// # Errors
    /// The machine does not execute it.
    pub fn with_level(level: Level, threads: usize) -> Result<Self, BackendError> {
        Ok(Self {
            isa: Isa::new(level)?,
            pool: Pool::new(threads),
            tensors: Vec::new(),
            matrices: Vec::new(),
            weights: Arena::default(),
            kv: None,
            batch: Batch::default(),
            result: StepResult::default(),
            activations: Activations::default(),
            rope: RopeTables::default(),
            attention: attention::Scratch::default(),
            attend: Region::empty(),
            sampling: Vec::new(),
            failed: None,
            steps: 0,
        })
    }

    /// The level in use.
    pub fn level(&self) -> Level {
        self.isa.level()
    }

    /// The threads that every operation runs on.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Bytes that a linear layer with this weight reads: what decoding streams.
    pub fn matrix_bytes(&self, matrix: Matrix) -> usize {
        let packed = &self.matrices[matrix.id as usize];
        packed.panels() * packed.panel_bytes()
    }

    /// The first row of a tensor.
    fn vector(&self, tensor: Tensor) -> &[f32] {
        &self.tensors[tensor.id as usize][..tensor.cols]
    }

    /// The first `rows` rows of a tensor.
    fn rows(&self, tensor: Tensor, rows: usize) -> &[f32] {
        &self.tensors[tensor.id as usize][..rows * tensor.cols]
    }

    /// Runs an operation that writes the first `rows` rows of `out`, unless the step has already failed. The buffer
    /// is taken out of the table meanwhile, so that the others can be read.
    fn write_rows<E: Into<BackendError>>(
        &mut self,
        out: Tensor,
        rows: usize,
        operation: impl FnOnce(&mut Self, &mut [f32]) -> Result<(), E>,
    ) {
        if self.failed.is_some() {
            return;
        }
        self.failed = self.lend(out, rows, operation).err().map(Into::into);
    }

    /// The first rows of a tensor beside everything else.
    fn lend<R>(&mut self, tensor: Tensor, rows: usize, user: impl FnOnce(&mut Self, &mut [f32]) -> R) -> R {
        let mut buffer = std::mem::take(&mut self.tensors[tensor.id as usize]);
        let done = user(self, &mut buffer[..rows * tensor.cols]);
        self.tensors[tensor.id as usize] = buffer;
        done
    }

    /// `values = x · weightᵀ + bias`; the first `prompt` rows are tokens of prompts.
    fn multiply(
        &mut self,
        x: Tensor,
        weight: Matrix,
        bias: Option<Tensor>,
        values: &mut [f32],
        prompt: usize,
    ) -> Result<(), BackendError> {
        let packed = &self.matrices[weight.id as usize];
        let (cols, rows) = (packed.rows, values.len() / packed.rows);
        let split = if Linear::tells_prompts_apart(self.isa, packed) { prompt.min(rows) } else { 0 };
        let (first, rest) = values.split_at_mut(split * cols);
        self.multiply_alike(x, 0, weight, bias, first, true)?;
        self.multiply_alike(x, split, weight, bias, rest, false)
    }

    /// The same for rows of x from `first` on, all tokens of prompts or all not.
    fn multiply_alike(
        &mut self,
        x: Tensor,
        first: usize,
        weight: Matrix,
        bias: Option<Tensor>,
        values: &mut [f32],
        prompt: bool,
    ) -> Result<(), BackendError> {
        let mut scratch = std::mem::take(&mut self.activations);
        let weight = &self.matrices[weight.id as usize];
        let (input, out) =
            (self.input(x, first, values.len() / weight.rows), self.output(values, weight, bias));
        let done = match input.rows {
            0 => Ok(()),
            _ => Linear { isa: self.isa, pool: &self.pool, weight, input, out, prompt }.run(&mut scratch),
        };
        self.activations = scratch;
        done
    }

    /// Some rows of x.
    fn input(&self, x: Tensor, first: usize, rows: usize) -> Input<'_> {
        Input { values: &self.tensors[x.id as usize][first * x.cols..][..rows * x.cols], rows, cols: x.cols }
    }

    fn output<'a>(&'a self, values: &'a mut [f32], weight: &Packed, bias: Option<Tensor>) -> Output<'a> {
        let bias = bias.map(|bias| self.vector(bias));
        Output { values: SharedMut::new(values), cols: weight.rows, bias }
    }

    /// Hands over what normalises and rotates rows from `first` on.
    fn norm_rope<E: Into<BackendError>>(
        &mut self,
        (heads, norm, rope): (HeadLayout, Option<QkNorm>, Option<Rope>),
        first: usize,
        user: impl FnOnce(&Self, QkNormRope<'_>) -> Result<(), E>,
    ) -> Result<(), BackendError> {
        let mut tables = std::mem::take(&mut self.rope);
        let table =
            rope.map(|rope| tables.get(&self.pool, &rope, self.vector(rope.inv_freq), &self.batch.positions));
        let done = table.transpose().map_err(Into::into).and_then(|table| {
            let norm = norm.map(|norm| (self.vector(norm.q), self.vector(norm.k), norm.eps));
            let table = table.map(|(table, width)| (&table[first * width..], width));
            user(self, QkNormRope { heads, norm, table }).map_err(Into::into)
        });
        self.rope = tables;
        done
    }

    /// Stores k and v of fused rows, the first of which is the batch's row number `first`.
    fn cache(
        &mut self,
        layer: usize,
        heads: HeadLayout,
        first: usize,
        rows: &[f32],
    ) -> Result<(), BackendError> {
        let kv = self.kv.as_mut().ok_or_else(no_cache)?;
        let (isa, pool, slots) = (self.isa, &self.pool, &self.batch.slots[first..]);
        match &mut kv.layers[layer] {
            LayerKv::F32(layer) => layer.write(isa, pool, rows, heads, slots),
            LayerKv::Int8(layer) => layer.write(isa, pool, rows, heads, slots),
            LayerKv::Bf16(layer) => layer.write(isa, pool, rows, heads, slots),
        }
    }

    /// `values = act(gate) * up`.
    fn gate(&self, gate_up: Tensor, act: Activation, values: &mut [f32]) -> Result<(), TaskPanicked> {
        let cols = gate_up.cols / 2;
        let (isa, both) = (self.isa, self.rows(gate_up, values.len() / cols));
        for_rows(&self.pool, values, cols, &|row, out| {
            let (gate, up) = both[row * 2 * cols..][..2 * cols].split_at(cols);
            isa.run(Gated { gate, up, act, out });
        })
    }

    fn tensor(&mut self, values: Region<f32>, rows: usize, cols: usize) -> Tensor {
        self.tensors.push(values);
        Tensor { id: self.tensors.len() as u32 - 1, rows, cols }
    }
}

/// Copies a batch into memory that is already there; its masks come later.
fn copy_batch(from: &Batch, to: &mut Batch) {
    to.clear();
    to.prompt_rows = from.prompt_rows;
    to.tokens.extend_from_slice(&from.tokens);
    to.positions.extend_from_slice(&from.positions);
    to.token_types.extend_from_slice(&from.token_types);
    to.slots.extend_from_slice(&from.slots);
    to.seqs.extend_from_slice(&from.seqs);
    to.block_tables.extend_from_slice(&from.block_tables);
    to.samples.extend_from_slice(&from.samples);
    to.seen.extend_from_slice(&from.seen);
    to.bias.extend_from_slice(&from.bias);
    to.banned.extend_from_slice(&from.banned);
}

impl Backend for CpuBackend {
    fn describe(&self) -> String {
        let threads = self.pool.threads();
        format!("cpu ({}, {threads} thread{})", self.level().name(), if threads == 1 { "" } else { "s" })
    }

    fn is_host(&self) -> bool {
        true
    }

    fn alloc(&mut self, rows: usize, cols: usize) -> Result<Tensor, BackendError> {
        let values = Region::zeroed(rows.saturating_mul(cols), "activations")?;
        Ok(self.tensor(values, rows, cols))
    }

    fn load_vector(&mut self, values: &[f32]) -> Result<Tensor, BackendError> {
        let mut region = Region::zeroed(values.len(), "a constant")?;
        region.copy_from_slice(values);
        Ok(self.tensor(region, 1, values.len()))
    }

    fn load_matrix(
        &mut self,
        source: &mut dyn MatrixSource,
        format: WeightFormat,
    ) -> Result<Matrix, BackendError> {
        let packed = pack::load(self.isa, &self.pool, &mut self.weights, source, format)?;
        let (rows, cols) = (packed.rows, packed.cols);
        self.matrices.push(packed);
        Ok(Matrix { id: self.matrices.len() as u32 - 1, rows, cols })
    }

    fn alloc_kv(&mut self, spec: &KvSpec) -> Result<(), BackendError> {
        self.kv = Some(KvCache::new(spec)?);
        Ok(())
    }

    fn commit_kv(&mut self) -> Result<(), BackendError> {
        self.kv.as_ref().map_or(Ok(()), |kv| kv.commit(&self.pool))
    }

    fn begin(&mut self, batch: &Batch) {
        copy_batch(batch, &mut self.batch);
        self.result.clear();
        self.rope.forget();
        self.failed = None;
    }

    fn embed(&mut self, table: Matrix, out: Tensor) {
        self.write_rows(out, self.batch.tokens.len(), |me, values| {
            let weights = &me.matrices[table.id as usize];
            for_rows(&me.pool, values, out.cols, &|row, values| {
                weights.read_row(me.batch.tokens[row] as usize, values);
            })
        });
    }

    fn rms_norm(&mut self, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            let (x, weight) = (me.rows(x, out.rows), me.vector(weight));
            for_rows(&me.pool, values, out.cols, &|row, out| {
                let x = &x[row * weight.len()..][..weight.len()];
                me.isa.run(RmsNorm { x, weight, eps, out });
            })
        });
    }

    fn add_rms_norm(&mut self, residual: Tensor, x: Tensor, weight: Tensor, eps: f32, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            me.lend(residual, out.rows, |me, sums| {
                let (weight, sums) = (me.vector(weight), SharedMut::new(sums));
                // What is added often lies where the result will.
                let x = (x.id != out.id).then(|| me.rows(x, out.rows));
                for_rows(&me.pool, values, out.cols, &|row, out| {
                    let (first, cols) = (row * out.len(), out.len());
                    // SAFETY: each row belongs to one task.
                    #[allow(unsafe_code)]
                    let sum = unsafe { sums.slice(first, cols) };
                    me.isa.run(AddAssign { x: x.map_or(&*out, |x| &x[first..][..cols]), sum });
                    me.isa.run(RmsNorm { x: sum, weight, eps, out });
                })
            })
        });
    }

    fn add_embedding(&mut self, table: Matrix, index: RowIndex, out: Tensor) {
        self.write_rows(out, self.batch.tokens.len(), |me, values| {
            let weights = &me.matrices[table.id as usize];
            let rows = match index {
                RowIndex::Positions => &me.batch.positions,
                RowIndex::TokenTypes => &me.batch.token_types,
            };
            let mut scratch = std::mem::take(&mut me.attend);
            scratch.reserve(out.cols, "a row of a table")?;
            let added = &mut scratch[..out.cols];
            // Once a step and far less than a layer: one thread.
            for (row, values) in rows.iter().zip(values.chunks_exact_mut(out.cols)) {
                weights.read_row(*row as usize, added);
                me.isa.run(AddAssign { x: added, sum: values });
            }
            me.attend = scratch;
            Ok::<_, BackendError>(())
        });
    }

    fn add(&mut self, sum: Tensor, x: Tensor) {
        self.write_rows(sum, sum.rows, |me, sums| {
            let x = me.rows(x, sum.rows);
            for_rows(&me.pool, sums, sum.cols, &|row, sum| {
                me.isa.run(AddAssign { x: &x[row * sum.len()..][..sum.len()], sum });
            })
        });
    }

    fn scale(&mut self, x: Tensor, factor: f32) {
        self.write_rows(x, x.rows, |me, values| {
            for_rows(&me.pool, values, x.cols, &|_, row| row.iter_mut().for_each(|value| *value *= factor))
        });
    }

    fn layer_norm(&mut self, x: Tensor, weight: Tensor, bias: Option<Tensor>, eps: f32, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            let (x, weight, bias) =
                (me.rows(x, out.rows), me.vector(weight), bias.map(|bias| me.vector(bias)));
            for_rows(&me.pool, values, out.cols, &|row, out| {
                let x = &x[row * weight.len()..][..weight.len()];
                me.isa.run(LayerNorm { x, weight, bias, eps, out });
            })
        });
    }

    fn linear(&mut self, x: Tensor, weight: Matrix, bias: Option<Tensor>, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            me.multiply(x, weight, bias, values, me.batch.prompt_rows)
        });
    }

    fn logits(&mut self, x: Tensor, head: Matrix, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| me.multiply(x, head, None, values, 0));
    }

    fn qk_norm_rope(&mut self, qkv: Tensor, heads: HeadLayout, norm: Option<QkNorm>, rope: Option<Rope>) {
        self.write_rows(qkv, self.batch.positions.len(), |me, values| {
            me.norm_rope((heads, norm, rope), 0, |me, norm_rope| norm_rope.run(me.isa, &me.pool, values))
        });
    }

    fn kv_write(&mut self, layer: usize, qkv: Tensor, heads: HeadLayout) {
        self.write_rows(qkv, self.batch.slots.len(), |me, rows| me.cache(layer, heads, 0, rows));
    }

    #[cfg(target_arch = "x86_64")]
    fn project(&mut self, x: Tensor, projection: &Projection, out: Tensor) {
        let tiled = self.tiled_in_projection(projection, out.rows);
        match projection.layer {
            Some(layer) if tiled > 0 => self
                .write_rows(out, out.rows, |me, values| me.project_rows(x, projection, layer, tiled, values)),
            _ => projection.in_steps(self, x, out),
        }
    }

    fn attention(&mut self, layer: usize, qkv: Tensor, spec: &AttentionSpec, out: Tensor) {
        self.write_rows(out, self.batch.tokens.len(), |me, values| {
            let mut scratch = std::mem::take(&mut me.attention);
            let attention = Attention {
                isa: me.isa,
                pool: &me.pool,
                batch: &me.batch,
                spec,
                qkv: &me.tensors[qkv.id as usize],
                out: values,
            };
            let done = match &me.kv {
                Some(kv) => attention.run(&kv.layers[layer], &mut scratch),
                None => Err(no_cache()),
            };
            me.attention = scratch;
            done
        });
    }

    fn attend(&mut self, qkv: Tensor, spec: &AttentionSpec, mask: Mask, out: Tensor) {
        self.write_rows(out, self.batch.tokens.len(), |me, values| {
            let mut scratch = std::mem::take(&mut me.attend);
            let attend = Attend {
                isa: me.isa,
                pool: &me.pool,
                batch: &me.batch,
                spec,
                mask,
                qkv: &me.tensors[qkv.id as usize],
                out: values,
            };
            let done = attend.run(&mut scratch);
            me.attend = scratch;
            done
        });
    }

    fn activate(&mut self, x: Tensor, act: Activation, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            let x = me.rows(x, out.rows);
            for_rows(&me.pool, values, out.cols, &|row, out| {
                me.isa.run(Activate { x: &x[row * out.len()..][..out.len()], act, out });
            })
        });
    }

    fn gated_activation(&mut self, gate_up: Tensor, act: Activation, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| me.gate(gate_up, act, values));
    }

    #[cfg(target_arch = "x86_64")]
    fn mlp(&mut self, x: Tensor, mlp: &Mlp, room: [Tensor; 2], out: Tensor) {
        let tiled = self.tiled_in_mlp(mlp, out.rows);
        match tiled {
            0 if !self.takes_integers(mlp, out.rows) => mlp.in_steps(self, x, room, out),
            _ => self.write_rows(out, out.rows, |me, values| me.mlp_rows(x, mlp, room, tiled, values)),
        }
    }

    fn gather_rows(&mut self, x: Tensor, first: usize, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            let x = &me.tensors[x.id as usize];
            for_rows(&me.pool, values, out.cols, &|row, values| {
                let from = me.batch.samples[first + row].row as usize;
                values.copy_from_slice(&x[from * values.len()..][..values.len()]);
            })
        });
    }

    fn pool(&mut self, x: Tensor, how: Pooling, first: usize, out: Tensor) {
        self.write_rows(out, out.rows, |me, values| {
            let x = &me.tensors[x.id as usize];
            for_rows(&me.pool, values, out.cols, &|row, out| {
                let query = me.batch.seqs[first + row].query;
                let rows = &x[query.start as usize * out.len()..][..query.len as usize * out.len()];
                me.isa.run(PoolRows { rows, how, out });
            })
        });
    }

    fn collect(&mut self, x: Tensor) {
        let rows = &self.tensors[x.id as usize][..x.rows * x.cols];
        self.result.collected.extend_from_slice(rows);
    }

    fn masks(&mut self, masks: &[u32]) {
        self.batch.masks.clear();
        self.batch.masks.extend_from_slice(masks);
    }

    fn sample(&mut self, logits: Tensor, first: usize) {
        if self.result.rows.is_empty() {
            sampling::prepare(&self.batch, logits.cols, &mut self.result);
        }
        self.write_rows(logits, logits.rows, |me, values| {
            let sampling =
                Sampling { isa: me.isa, pool: &me.pool, batch: &me.batch, vocab: logits.cols, first };
            sampling.run(values, &mut me.result, &mut me.sampling)
        });
    }

    fn submit(&mut self) -> Ticket {
        self.steps += 1;
        Ticket(self.steps)
    }

    fn wait(&mut self, ticket: Ticket, result: &mut StepResult) -> Result<(), BackendError> {
        assert_eq!(ticket.0, self.steps, "steps are waited for in order");
        match self.failed.take() {
            Some(error) => Err(error),
            None => {
                std::mem::swap(result, &mut self.result);
                Ok(())
            }
        }
    }

    fn read(&mut self, tensor: Tensor) -> Vec<f32> {
        self.rows(tensor, tensor.rows).to_vec()
    }

    fn write(&mut self, tensor: Tensor, values: &[f32]) {
        self.tensors[tensor.id as usize][..values.len()].copy_from_slice(values);
    }
}

fn no_cache() -> BackendError {
    BackendError::Unsupported { device: "cpu", what: "attention before alloc_kv".into() }
}
