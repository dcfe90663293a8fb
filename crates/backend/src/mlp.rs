//! The gated feed-forward of a layer.

use crate::{Activation, Backend, Matrix, Tensor};

/// Weights of `(act(x · gateᵀ) * (x · upᵀ)) · downᵀ` (arXiv 2002.05202). F is the inner width.
#[derive(Debug, Clone, Copy)]
pub struct GatedMlp {
    /// gate and up stacked, `[2F, hidden]`.
    pub gate_up: Matrix,
    /// `[1, 2F]`.
    pub gate_up_bias: Option<Tensor>,
    /// Of the gate.
    pub act: Activation,
    /// `[hidden, F]`.
    pub down: Matrix,
    /// `[1, hidden]`.
    pub down_bias: Option<Tensor>,
}

impl GatedMlp {
    /// Computes it with three operations.
    pub fn in_steps<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, room: [Tensor; 2], out: Tensor) {
        let [gate_up, activated] = room;
        backend.linear(x, self.gate_up, self.gate_up_bias, gate_up);
        backend.gated_activation(gate_up, self.act, activated);
        backend.linear(activated, self.down, self.down_bias, out);
    }
}
