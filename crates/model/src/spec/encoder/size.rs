//! What a model that pools costs: parameters and bytes, for planning memory.

use millrace_backend::{Encoding, WeightFormat};

use super::super::stored_bytes;
use super::{BlockSpec, EncoderSpec, HeadStep, NormKind, NormSpec, Norms, PoolingSpec};
use crate::load::table_format;

impl PoolingSpec {
    /// Number of weights.
    pub fn param_count(&self) -> u64 {
        self.body.table_params() + self.body.matrix_params() + self.body.vector_params() + self.head_params()
    }

    /// Estimated bytes of all weights in memory, when a checkpoint of encoding `native` is loaded with `format`.
    pub fn weight_bytes(&self, format: WeightFormat, native: Encoding) -> u64 {
        stored_bytes(self.body.table_params(), table_format(format), native)
            + stored_bytes(self.body.matrix_params(), format, native)
            + stored_bytes(self.head_params(), WeightFormat::Native, native)
            + self.body.vector_params() * size_of::<f32>() as u64
    }

    /// Elements of activations that an [`Encoder`](crate::Encoder) keeps for each token of a step, the kernels' copy
    /// of the widest input included.
    pub fn floats_per_token(&self) -> usize {
        let (mut attention, mut ffn, mut widest) = (0, 0, self.body.hidden);
        for block in &self.body.blocks {
            let (heads, inner) = (block.attention.heads, block.ffn.inner);
            attention = attention.max(heads.fused_cols() + heads.q_cols());
            ffn = ffn.max(block.ffn.wide() + inner);
            widest = widest.max(inner).max(heads.q_cols());
        }
        4 * self.body.hidden + attention + ffn + widest
    }

    /// Linear layers of the head; its norms are too small to count.
    fn head_params(&self) -> u64 {
        let mut cols = self.body.hidden;
        let mut params = 0;
        for step in &self.head {
            match step {
                HeadStep::Linear { out, .. } => {
                    params += cols * out + out;
                    cols = *out;
                }
                HeadStep::Contrast { .. } => {
                    params += cols;
                    cols = 1;
                }
                HeadStep::Activation(_) | HeadStep::Norm(_) => {}
            }
        }
        params as u64
    }
}

impl EncoderSpec {
    fn table_params(&self) -> u64 {
        let positions = self.embedding.positions.map_or(0, |(rows, _)| rows);
        ((self.vocab + positions + self.embedding.token_types) * self.hidden) as u64
    }

    fn matrix_params(&self) -> u64 {
        self.blocks.iter().map(|block| block.matrix_params(self.hidden)).sum()
    }

    /// Norms and biases.
    fn vector_params(&self) -> u64 {
        let norm = |norm: &Option<NormSpec>| norm.map_or(0, |norm| norm.params(self.hidden));
        let blocks: usize = self.blocks.iter().map(|block| block.vector_params(self.hidden)).sum();
        (blocks + norm(&self.embedding.norm) + norm(&self.final_norm)) as u64
    }
}

impl BlockSpec {
    fn matrix_params(&self, hidden: usize) -> u64 {
        let heads = self.attention.heads;
        ((heads.fused_cols() + heads.q_cols()) * hidden + self.ffn.matrix_params(hidden)) as u64
    }

    fn vector_params(&self, hidden: usize) -> usize {
        let when = |there: bool, count: usize| if there { count } else { 0 };
        let Norms { before, output, after } = self.attention_norms;
        let ffn = self.ffn_norms;
        let norms = [before, output, after, ffn.before, ffn.output, ffn.after];
        let norms: usize = norms.into_iter().flatten().map(|norm| norm.params(hidden)).sum();
        let attention = &self.attention;
        norms
            + when(attention.qkv_bias, attention.heads.fused_cols())
            + when(attention.o_bias, hidden)
            + when(attention.qk_norm, 2 * attention.heads.head_dim)
            + self.ffn.bias_params(hidden)
    }
}

impl NormSpec {
    fn params(&self, hidden: usize) -> usize {
        match self.kind {
            NormKind::Layer { bias: true } => 2 * hidden,
            NormKind::Layer { bias: false } | NormKind::Rms { .. } => hidden,
        }
    }
}
