//! The contract between the decoder and a device, and the reference implementation that defines every operation.
//!
//! A [`Backend`] is a small set of coarse, fused operations, not a tensor library. Calls *enqueue* work: they
//! return at once, take plain handles ([`Tensor`], [`Matrix`]) and read nothing back. A step is
//! `begin → operations → submit → wait`; every shape follows from the [`Batch`] given to `begin`, so that a device
//! can record a step once and replay it. One input may come late, while the device is at work: the masks of what may be
//! sampled ([`Backend::masks`]). The only data that comes back is the [`StepResult`] of `wait`: sampled
//! tokens, the log-probabilities that a request asked for, and the rows that the step collects (embeddings, scores).
//!
//! Results of one row never depend on the other rows of a batch (batch invariance): an operation must
//! accumulate each output element in an order that is independent of the number of rows.

mod batch;
mod handle;
mod mlp;
mod pooling;
mod projection;
mod quant;
pub mod recording;
pub mod reference;
pub mod sampling;
mod weights;

pub use batch::{
    Batch, Penalties, SampleKind, SampleSpec, SampledRow, SeqSpan, Span, StepResult, TokenCount,
};
pub use handle::{Matrix, Tensor, Ticket};
pub use mlp::Mlp;
pub use pooling::{Mask, Pool, RowIndex, visible};
pub use projection::Projection;
pub use quant::{GROUP, activation_group, dequantize_row, quantize_activations, quantize_row};
pub use weights::{Encoding, MatrixSource, RawFloats, RawRow, WeightFormat};

/// Why a backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// Memory for weights, activations or KV could not be had.
    #[error("the {device} backend could not allocate {bytes} bytes for {what}")]
    OutOfMemory {
        /// Backend name.
        device: &'static str,
        /// Size of the failed allocation.
        bytes: usize,
        /// What it was for.
        what: &'static str,
    },
    /// A weight could not be read while it was being packed.
    #[error("{0}")]
    Weight(String),
    /// A format or shape that this backend has no kernel for.
    #[error("the {device} backend does not support {what}")]
    Unsupported {
        /// Backend name.
        device: &'static str,
        /// What was asked for.
        what: String,
    },
    /// The device failed while executing a step; the step's results are lost.
    #[error("the device failed during a step: {0}")]
    Device(String),
}

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvDtype {
    /// 32-bit floats: bit-exact against the reference.
    F32,
    /// bfloat16: half the memory and traffic; what bf16 models use elsewhere.
    Bf16,
    /// Signed bytes with a float32 scale for each head of each token ([`kv_scale`]): half of bf16 and a little.
    Int8,
}

/// How a head's key or value of one token becomes bytes: q = round-half-even(x · inverse), x ≈ q · scale.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvScale {
    /// max|x| / 127.
    pub scale: f32,
    /// 127 / max|x|, or 0.
    pub inverse: f32,
}

/// The scale of a head vector of one token in an [`KvDtype::Int8`] cache.
pub fn kv_scale(head: &[f32]) -> KvScale {
    let max = head.iter().fold(0.0f32, |m, x| m.max(x.abs()));
    KvScale { scale: max / 127.0, inverse: if max == 0.0 { 0.0 } else { 127.0 / max } }
}

impl KvDtype {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::Int8 => 1,
        }
    }

    /// Bytes per head of each token that are no elements.
    pub fn scale_size(self) -> usize {
        if self == Self::Int8 { size_of::<f32>() } else { 0 }
    }
}

/// Shape of the paged KV cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvSpec {
    /// Per layer: KV heads and head dimension.
    pub layers: Vec<(usize, usize)>,
    /// Physical blocks, the null block 0 included.
    pub num_blocks: usize,
    /// Tokens per block; a multiple of [`Backend::block_multiple`].
    pub block_size: usize,
    /// Element type.
    pub dtype: KvDtype,
}

impl KvSpec {
    /// Bytes of one block over all layers, keys and values.
    pub fn block_bytes(&self) -> usize {
        let head = |dim: usize| dim * self.dtype.size() + self.dtype.scale_size();
        self.layers.iter().map(|(heads, dim)| 2 * heads * head(*dim) * self.block_size).sum()
    }
}

/// Where q, k and v lie in a fused row `[q heads | k heads | v heads] × head_dim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLayout {
    /// Query heads; a multiple of `kv_heads`.
    pub q_heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements per head; even.
    pub head_dim: usize,
}

impl HeadLayout {
    /// Columns of the fused q, k, v row.
    pub fn fused_cols(&self) -> usize {
        (self.q_heads + 2 * self.kv_heads) * self.head_dim
    }
    /// Columns of q, and of the attention output.
    pub fn q_cols(&self) -> usize {
        self.q_heads * self.head_dim
    }
}

/// Rotary position embedding, NeoX style: element i pairs with element i + rotary_dim / 2 (RoFormer, arXiv 2104.09864).
#[derive(Debug, Clone, Copy)]
pub struct Rope {
    /// Inverse frequencies, `[1, rotary_dim / 2]`, any scaling applied (a constant from [`Backend::load_vector`]).
    pub inv_freq: Tensor,
    /// Multiplies cos and sin (YaRN's attention factor; 1 otherwise).
    pub magnitude: f32,
}

/// Normalisation of each q and k head before the rotation (Qwen3).
#[derive(Debug, Clone, Copy)]
pub struct QkNorm {
    /// Weight for q heads, `[1, head_dim]`.
    pub q: Tensor,
    /// Weight for k heads, `[1, head_dim]`.
    pub k: Tensor,
    /// Added to the mean square.
    pub eps: f32,
}

/// How a layer attends.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpec {
    /// Layout of the fused rows.
    pub heads: HeadLayout,
    /// Multiplies q·k.
    pub scale: f32,
    /// Sliding window: a token at position p sees positions above `p - window` only.
    pub window: Option<usize>,
}

/// Activation of a feed-forward, `act(x)`, or of a gated one, `act(gate) * up`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// GELU, tanh approximation.
    GeluTanh,
    /// x · Φ(x), with the normal distribution's Φ (GELU as it is defined, arXiv 1606.08415).
    Gelu,
    /// max(x, 0).
    Relu,
    /// Hyperbolic tangent.
    Tanh,
}

/// A device that executes the decoder's operations in order.
///
/// Handles come from this backend and live as long as it does. `out.rows` says how many rows an operation
/// computes; operands must have at least as many. Activations are float32.
pub trait Backend: Send {
    /// For people: name, feature level, threads.
    fn describe(&self) -> String;

    /// The KV block size must be a multiple of this.
    fn block_multiple(&self) -> usize {
        16
    }

    /// Whether operations are computed by the caller's own processor. What the caller could do meanwhile would only take
    /// that from them, so it is better done before. Tensors of such a backend keep what a step left in them, so that some
    /// of its rows can be sampled again in a step that computes nothing else.
    fn is_host(&self) -> bool {
        false
    }

    // -- memory, before the first step --

    /// Uninitialised activations `[rows, cols]`.
    fn alloc(&mut self, rows: usize, cols: usize) -> Result<Tensor, BackendError>;
    /// A constant row `[1, values.len()]`: norm weights, biases, inverse frequencies.
    fn load_vector(&mut self, values: &[f32]) -> Result<Tensor, BackendError>;
    /// Packs a weight `[source.rows(), source.cols()]` (out features, in features) into this backend's layout.
    /// A dense source may be quantized on the way; a quantized one keeps its values.
    fn load_matrix(
        &mut self,
        source: &mut dyn MatrixSource,
        format: WeightFormat,
    ) -> Result<Matrix, BackendError>;
    /// The KV cache, zeroed. Called once.
    fn alloc_kv(&mut self, spec: &KvSpec) -> Result<(), BackendError>;
    /// Takes the memory of the KV cache now, if [`Backend::alloc_kv`] left that to the first use: no step waits for it.
    fn commit_kv(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    // -- one step --

    /// Starts a step and takes its inputs but [`Batch::masks`]. Fixes all shapes.
    fn begin(&mut self, batch: &Batch);
    /// `out[t] = table[batch.tokens[t]]`. `[T, hidden]`; the table may be quantized.
    fn embed(&mut self, table: Matrix, out: Tensor);
    /// `out = x / sqrt(mean(x²) + eps) * weight`, row by row (arXiv 1910.07467).
    fn rms_norm(&mut self, x: Tensor, weight: Tensor, eps: f32, out: Tensor);
    /// `residual += x`, then `out = rms_norm(residual)`.
    fn add_rms_norm(&mut self, residual: Tensor, x: Tensor, weight: Tensor, eps: f32, out: Tensor);
    /// `out[t] += table[index of t]`: what an embedding adds for positions or token types.
    fn add_embedding(&mut self, table: Matrix, index: RowIndex, out: Tensor);
    /// `sum += x`.
    fn add(&mut self, sum: Tensor, x: Tensor);
    /// `x *= factor`.
    fn scale(&mut self, x: Tensor, factor: f32);
    /// `out = (x − mean(x)) / sqrt(variance(x) + eps) * weight + bias`, row by row (arXiv 1607.06450).
    fn layer_norm(&mut self, x: Tensor, weight: Tensor, bias: Option<Tensor>, eps: f32, out: Tensor);
    /// `out = x · weightᵀ + bias`. x `[T, in]`, weight `[out, in]`, out `[T, out]`.
    /// Rows are those of the batch.
    fn linear(&mut self, x: Tensor, weight: Matrix, bias: Option<Tensor>, out: Tensor);
    /// `out = x · headᵀ` for sampled rows: x `[S, hidden]`, head `[vocab, hidden]`, out `[S, vocab]`.
    fn logits(&mut self, x: Tensor, head: Matrix, out: Tensor);
    /// In place on fused rows `[T, heads.fused_cols()]`: optional q/k normalisation, then optional rotation of q and
    /// k by `batch.positions`.
    fn qk_norm_rope(&mut self, qkv: Tensor, heads: HeadLayout, norm: Option<QkNorm>, rope: Option<Rope>);
    /// Stores k and v of each token at `batch.slots[t]` of a layer's cache.
    fn kv_write(&mut self, layer: usize, qkv: Tensor, heads: HeadLayout);
    /// q, k and v of every token, as the operations of [`Projection::in_steps`] compute them; x `[T, hidden]`, out
    /// `[T, fused_cols]`, whose columns of k and v are undefined if the KV cache took them.
    fn project(&mut self, x: Tensor, projection: &Projection, out: Tensor) {
        projection.in_steps(self, x, out);
    }
    /// Causal attention of every query row over its sequence's cached keys, its own included (already written).
    /// qkv `[T, fused_cols]`, out `[T, q_cols]`.
    fn attention(&mut self, layer: usize, qkv: Tensor, spec: &AttentionSpec, out: Tensor);
    /// Attention of every query row over the keys of its sequence that are in this batch; no cache is read or written.
    /// Sequences have to be whole. Which keys a row sees: [`visible`]. qkv `[T, fused_cols]`, out `[T, q_cols]`.
    fn attend(&mut self, qkv: Tensor, spec: &AttentionSpec, mask: Mask, out: Tensor);
    /// `out = act(x)`, element by element.
    fn activate(&mut self, x: Tensor, act: Activation, out: Tensor);
    /// `out = act(gate_up[.., ..F]) * gate_up[.., F..]`; gate_up `[T, 2F]`, out `[T, F]`.
    fn gated_activation(&mut self, gate_up: Tensor, act: Activation, out: Tensor);
    /// A feed-forward, as the three operations of [`Mlp::in_steps`] compute it; x and out `[T, hidden]`, room
    /// `[T, up's rows]` and `[T, F]`, whose contents are undefined then.
    fn mlp(&mut self, x: Tensor, mlp: &Mlp, room: [Tensor; 2], out: Tensor) {
        mlp.in_steps(self, x, room, out);
    }
    /// `out[i] = x[batch.samples[first + i].row]` for each row of `out`.
    fn gather_rows(&mut self, x: Tensor, first: usize, out: Tensor);
    /// `out[i]` = one row for sequence `first + i` of the batch, out of its rows of x `[T, hidden]`.
    fn pool(&mut self, x: Tensor, how: Pool, first: usize, out: Tensor);
    /// Appends the rows of x to [`StepResult::collected`].
    fn collect(&mut self, x: Tensor);
    /// Takes [`Batch::masks`], before the first sample of a step that has any. Late, so that the host can compute them
    /// while the device computes the logits.
    fn masks(&mut self, masks: &[u32]);
    /// Samples or scores rows of logits `[n, vocab]` by `batch.samples[first..first + n]`; results appear in the
    /// step's [`StepResult`] at the same indices. May overwrite the logits.
    fn sample(&mut self, logits: Tensor, first: usize);
    /// Ends the step's recording; execution may begin or go on after this returns.
    fn submit(&mut self) -> Ticket;
    /// Blocks until the step is done and hands over its results.
    fn wait(&mut self, ticket: Ticket, result: &mut StepResult) -> Result<(), BackendError>;

    /// For tests and debugging, outside of a step: the first rows of a tensor, row-major.
    fn read(&mut self, tensor: Tensor) -> Vec<f32>;
    /// For tests, outside of a step: overwrites the first rows of a tensor, row-major.
    fn write(&mut self, tensor: Tensor, values: &[f32]);
}
