//! The feed-forward of a layer.

use crate::{Activation, Backend, Matrix, Tensor};

/// Weights of `act(x · upᵀ) · downᵀ`, or with a gate `(act(x · gateᵀ) * (x · upᵀ)) · downᵀ` (arXiv 2002.05202).
#[derive(Debug, Clone, Copy)]
pub struct Mlp {
    /// `[F, hidden]`; with a gate, gate and up stacked, `[2F, hidden]`.
    pub up: Matrix,
    /// `[1, up's rows]`.
    pub up_bias: Option<Tensor>,
    /// Whether there is a gate.
    pub gated: bool,
    /// Of the gate, or of up if there is none.
    pub act: Activation,
    /// `[hidden, F]`.
    pub down: Matrix,
    /// `[1, hidden]`.
    pub down_bias: Option<Tensor>,
}

impl Mlp {
    /// Computes it with three operations.
    pub fn in_steps<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, room: [Tensor; 2], out: Tensor) {
        let [widened, activated] = room;
        backend.linear(x, self.up, self.up_bias, widened);
        match self.gated {
            true => backend.gated_activation(widened, self.act, activated),
            false => backend.activate(widened, self.act, activated),
        }
        backend.linear(activated, self.down, self.down_bias, out);
    }
}
