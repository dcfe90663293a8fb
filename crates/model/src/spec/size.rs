//! What a spec costs: parameters, bytes, floating-point operations. For planning memory and for rooflines.

use millrace_backend::{Encoding, KvDtype, KvSpec, WeightFormat};

use super::{FeedForward, LayerSpec, Mixer, ModelSpec};
use crate::load::table_format;

impl ModelSpec {
    /// Number of weights; a tied head counts once.
    pub fn param_count(&self) -> u64 {
        let tables = if self.tied_head { 1 } else { 2 };
        tables * self.table_params() + self.layer_matrix_params() + self.vector_params()
    }

    /// Estimated bytes of all weights in memory, when a checkpoint of encoding `native` is loaded with `format`.
    pub fn weight_bytes(&self, format: WeightFormat, native: Encoding) -> u64 {
        let embedding = if self.tied_head { 0 } else { self.table_bytes(format, native) };
        embedding + self.step_weight_bytes(format, native)
    }

    /// Estimated bytes of weights that a step reads, however few tokens it has: the layers and the output head.
    pub fn step_weight_bytes(&self, format: WeightFormat, native: Encoding) -> u64 {
        let layers = stored_bytes(self.layer_matrix_params(), format, native);
        let vectors = self.vector_params() * size_of::<f32>() as u64;
        layers + vectors + self.table_bytes(format, native)
    }

    /// Floating-point operations (a multiplication and an addition are two) for one token's logits, with `context`
    /// tokens visible to a layer without a window.
    pub fn flops_per_token(&self, context: usize) -> u64 {
        let attention: u64 = self.layers.iter().map(|l| l.mixer.attention_flops(context)).sum();
        2 * (self.layer_matrix_params() + self.table_params()) + attention
    }

    /// Bytes of keys and values that one token adds, over all layers.
    pub fn kv_bytes_per_token(&self, dtype: KvDtype) -> usize {
        self.kv_spec(0, 1, dtype).block_bytes()
    }

    /// The KV cache for this model: `num_blocks` blocks (the null block included) of `block_size` tokens.
    pub fn kv_spec(&self, num_blocks: usize, block_size: usize, dtype: KvDtype) -> KvSpec {
        let heads = self.layers.iter().map(|layer| match &layer.mixer {
            Mixer::Gqa(gqa) => (gqa.heads.kv_heads, gqa.heads.head_dim),
        });
        KvSpec { layers: heads.collect(), num_blocks, block_size, dtype }
    }

    /// How far back any layer sees: a token at position p sees those above p − window. `None`: some layer sees all.
    pub fn window(&self) -> Option<usize> {
        let windows = self.layers.iter().map(|layer| match &layer.mixer {
            Mixer::Gqa(gqa) => gqa.window,
        });
        windows.collect::<Option<Vec<usize>>>()?.into_iter().max()
    }

    /// Weights of the embedding, and of the output head.
    fn table_params(&self) -> u64 {
        (self.vocab * self.hidden) as u64
    }

    fn table_bytes(&self, format: WeightFormat, native: Encoding) -> u64 {
        stored_bytes(self.table_params(), table_format(format), native)
    }

    fn layer_matrix_params(&self) -> u64 {
        self.layers.iter().map(|layer| layer.matrix_params(self.hidden)).sum()
    }

    /// Norms and biases.
    fn vector_params(&self) -> u64 {
        let layers: u64 = self.layers.iter().map(|layer| layer.vector_params(self.hidden)).sum();
        layers + self.hidden as u64
    }
}

impl LayerSpec {
    fn matrix_params(&self, hidden: usize) -> u64 {
        let mixer = match &self.mixer {
            Mixer::Gqa(gqa) => (gqa.heads.fused_cols() + gqa.heads.q_cols()) * hidden,
        };
        let ffn = match &self.ffn {
            FeedForward::Dense(dense) => dense.matrix_params(hidden),
        };
        (mixer + ffn) as u64
    }

    fn vector_params(&self, hidden: usize) -> u64 {
        let when = |there: bool, count: usize| if there { count } else { 0 };
        let mixer = match &self.mixer {
            Mixer::Gqa(gqa) => {
                when(gqa.qkv_bias, gqa.heads.fused_cols())
                    + when(gqa.o_bias, hidden)
                    + when(gqa.qk_norm, 2 * gqa.heads.head_dim)
            }
        };
        let ffn = match &self.ffn {
            FeedForward::Dense(dense) => dense.bias_params(hidden),
        };
        (2 * hidden + mixer + ffn) as u64
    }
}

impl Mixer {
    /// q·k and the weighted sum of values.
    fn attention_flops(&self, context: usize) -> u64 {
        match self {
            Self::Gqa(gqa) => {
                let visible = gqa.window.map_or(context, |window| window.min(context));
                (4 * gqa.heads.q_cols() * visible) as u64
            }
        }
    }
}

/// Estimated bytes of `params` matrix weights in memory: padding is left out, and a group of integers counts one
/// float32 scale.
pub fn stored_bytes(params: u64, format: WeightFormat, native: Encoding) -> u64 {
    let grouped =
        |bits: u32, group: usize| (params * u64::from(bits)).div_ceil(8) + params.div_ceil(group as u64) * 4;
    match (native, format) {
        (Encoding::Affine { bits, group }, _) | (_, WeightFormat::Quantize { bits, group }) => {
            grouped(bits, group)
        }
        (Encoding::F32, WeightFormat::Native) => 4 * params,
        (Encoding::F16 | Encoding::Bf16, WeightFormat::Native) => 2 * params,
    }
}
