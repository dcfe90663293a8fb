//! A model as data: what the layers are, not how they run.
//!
//! [`from_config`] reads a `config.json` and returns a [`ModelSpec`]; the [`Decoder`](crate::Decoder) executes it.
//! New kinds of layers become new variants of [`Mixer`] and [`FeedForward`]; new families become one file here and
//! one line in the registry.

mod common;
pub mod encoder;
mod llama;
mod mistral;
mod names;
mod qwen2;
mod qwen3;
mod registry;
mod rope;
mod rope_config;
mod size;
mod smollm3;
#[cfg(test)]
mod tests;

use millrace_backend::{Activation, HeadLayout};

pub use names::WeightNames;
pub use registry::{from_config, of_model_type, supported};
pub use rope::{RopeScaling, RopeSpec};
pub use size::stored_bytes;

/// A decoder-only transformer with pre-normalised residual layers:
/// embedding → layers → RMS norm → output head.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    /// Family name, for people.
    pub family: &'static str,
    /// Rows of the embedding and of the output head.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// At least one.
    pub layers: Vec<LayerSpec>,
    /// Added to the mean square in the norm before the head.
    pub final_norm_eps: f32,
    /// The output head is the embedding matrix.
    pub tied_head: bool,
    /// Longest sequence (prompt and output) that the position embedding is made for.
    pub max_positions: usize,
    /// Where the weights are found in a checkpoint.
    pub names: WeightNames,
}

/// One residual layer: `h += mixer(norm(h)); h += ffn(norm(h))`.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerSpec {
    /// Added to the mean square in both RMS norms.
    pub norm_eps: f32,
    /// What moves information between tokens.
    pub mixer: Mixer,
    /// What is computed for each token.
    pub ffn: FeedForward,
}

/// Token mixers.
#[derive(Debug, Clone, PartialEq)]
pub enum Mixer {
    /// Softmax attention with grouped KV heads.
    Gqa(Gqa),
}

/// Grouped-query attention (arXiv 2305.13245); multi-head if there are as many KV heads as query heads.
#[derive(Debug, Clone, PartialEq)]
pub struct Gqa {
    /// Head counts and width.
    pub heads: HeadLayout,
    /// The q, k and v projections have biases.
    pub qkv_bias: bool,
    /// The output projection has a bias.
    pub o_bias: bool,
    /// RMS norm of each q and k head before the rotation, with the layer's epsilon.
    pub qk_norm: bool,
    /// Rotary position embedding; `None`: no position information in this layer (NoPE).
    pub rope: Option<RopeSpec>,
    /// A token sees this many positions, its own included; `None`: all.
    pub window: Option<usize>,
    /// Multiplies q·k.
    pub scale: f32,
}

/// Feed-forward blocks.
#[derive(Debug, Clone, PartialEq)]
pub enum FeedForward {
    /// Every token uses the same weights.
    Dense(Dense),
}

/// Feed-forward: `down(act(up(x)))`, or gated, `down(act(gate(x)) * up(x))` (arXiv 2002.05202).
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Rows of gate and up.
    pub inner: usize,
    /// Whether there is a gate.
    pub gated: bool,
    /// Applied to the gate, else to up.
    pub act: Activation,
    /// All projections have biases.
    pub bias: bool,
}

impl Dense {
    /// Rows of what is multiplied with the input: up, or gate and up.
    pub fn wide(&self) -> usize {
        if self.gated { 2 * self.inner } else { self.inner }
    }

    /// Weights of its matrices.
    pub fn matrix_params(&self, hidden: usize) -> usize {
        (self.wide() + self.inner) * hidden
    }

    /// Elements of its biases.
    pub fn bias_params(&self, hidden: usize) -> usize {
        if self.bias { self.wide() + hidden } else { 0 }
    }
}
