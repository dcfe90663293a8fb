//! What a token becomes before attention: a query for it, a key and a value for others.

use crate::{Backend, HeadLayout, Matrix, QkNorm, Rope, Tensor};

/// How q, k and v come from a token.
#[derive(Debug, Clone, Copy)]
pub struct Projection {
    /// q, k and v stacked: `[heads.fused_cols(), hidden]`.
    pub qkv: Matrix,
    /// `[1, heads.fused_cols()]`.
    pub bias: Option<Tensor>,
    /// What the columns are.
    pub heads: HeadLayout,
    /// Normalisation of q and k.
    pub norm: Option<QkNorm>,
    /// Their rotation.
    pub rope: Option<Rope>,
    /// The layer of the KV cache that takes k and v.
    pub layer: Option<usize>,
}

impl Projection {
    /// Computes it with up to three operations.
    pub fn in_steps<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        backend.linear(x, self.qkv, self.bias, out);
        if self.norm.is_some() || self.rope.is_some() {
            backend.qk_norm_rope(out, self.heads, self.norm, self.rope);
        }
        if let Some(layer) = self.layer {
            backend.kv_write(layer, out, self.heads);
        }
    }
}
