//! A layer's weights in a backend, and how its two halves run.

use millrace_backend::{Activation, AttentionSpec, Backend, Matrix, QkNorm, Rope, Tensor};

use crate::ModelError;
use crate::load::{Loader, Module};
use crate::spec::{self, LayerSpec, ModelSpec, RopeSpec};

/// One residual layer, loaded.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) mixer_norm: Norm,
    pub(crate) mixer: Mixer,
    pub(crate) ffn_norm: Norm,
    pub(crate) ffn: FeedForward,
}

/// An RMS norm over the residual stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Norm {
    /// `[1, hidden]`.
    pub(crate) weight: Tensor,
    pub(crate) eps: f32,
}

#[derive(Debug)]
pub(crate) enum Mixer {
    Attention(Attention),
}

#[derive(Debug)]
pub(crate) enum FeedForward {
    Dense(Dense),
}

#[derive(Debug)]
pub(crate) struct Attention {
    /// Layer of the KV cache.
    kv_layer: usize,
    spec: AttentionSpec,
    /// q, k and v stacked: `[fused cols, hidden]`.
    qkv: Matrix,
    qkv_bias: Option<Tensor>,
    qk_norm: Option<QkNorm>,
    rope: Option<Rope>,
    /// `[hidden, q cols]`.
    o: Matrix,
    o_bias: Option<Tensor>,
    /// `[max tokens, fused cols]`.
    fused: Tensor,
    /// `[max tokens, q cols]`.
    attended: Tensor,
}

#[derive(Debug)]
pub(crate) struct Dense {
    act: Activation,
    /// gate and up stacked: `[2 · inner, hidden]`.
    gate_up: Matrix,
    gate_up_bias: Option<Tensor>,
    /// `[hidden, inner]`.
    down: Matrix,
    down_bias: Option<Tensor>,
    /// `[max tokens, 2 · inner]`.
    fused: Tensor,
    /// `[max tokens, inner]`.
    activated: Tensor,
}

impl Mixer {
    /// x `[T, hidden]` (normalised) → out `[T, hidden]`.
    pub(crate) fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        match self {
            Self::Attention(attention) => attention.forward(backend, x, out),
        }
    }
}

impl FeedForward {
    /// x `[T, hidden]` (normalised) → out `[T, hidden]`.
    pub(crate) fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        match self {
            Self::Dense(dense) => dense.forward(backend, x, out),
        }
    }
}

impl Attention {
    fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        let (qkv, attended) = (self.fused.first(x.rows), self.attended.first(x.rows));
        backend.linear(x, self.qkv, self.qkv_bias, qkv);
        if self.qk_norm.is_some() || self.rope.is_some() {
            backend.qk_norm_rope(qkv, self.spec.heads, self.qk_norm, self.rope);
        }
        backend.kv_write(self.kv_layer, qkv, self.spec.heads);
        backend.attention(self.kv_layer, qkv, &self.spec, attended);
        backend.linear(attended, self.o, self.o_bias, out);
    }
}

impl Dense {
    fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        let (gate_up, activated) = (self.fused.first(x.rows), self.activated.first(x.rows));
        backend.linear(x, self.gate_up, self.gate_up_bias, gate_up);
        backend.gated_activation(gate_up, self.act, activated);
        backend.linear(activated, self.down, self.down_bias, out);
    }
}

/// Loads the layers of one model.
pub(crate) struct LayerLoader<'s> {
    spec: &'s ModelSpec,
    /// Layers with the same rotation share its constants, so that a backend computes the angles once per step.
    ropes: Vec<(RopeSpec, Rope)>,
}

impl<'s> LayerLoader<'s> {
    pub(crate) fn new(spec: &'s ModelSpec) -> Self {
        Self { spec, ropes: Vec::new() }
    }

    pub(crate) fn load<B: Backend + ?Sized>(
        &mut self,
        index: usize,
        loader: &mut Loader<'_, B>,
    ) -> Result<Layer, ModelError> {
        let (names, hidden) = (&self.spec.names, self.spec.hidden);
        let LayerSpec { norm_eps: eps, mixer, ffn } = &self.spec.layers[index];
        let norm = |loader: &mut Loader<'_, B>, module| -> Result<Norm, ModelError> {
            Ok(Norm { weight: loader.norm(&names.in_layer(index, module), hidden)?, eps: *eps })
        };
        Ok(Layer {
            mixer_norm: norm(loader, names.mixer_norm)?,
            mixer: match mixer {
                spec::Mixer::Gqa(gqa) => Mixer::Attention(self.attention(index, gqa, *eps, loader)?),
            },
            ffn_norm: norm(loader, names.ffn_norm)?,
            ffn: match ffn {
                spec::FeedForward::Dense(dense) => FeedForward::Dense(self.dense(index, dense, loader)?),
            },
        })
    }

    fn attention<B: Backend + ?Sized>(
        &mut self,
        index: usize,
        gqa: &spec::Gqa,
        eps: f32,
        loader: &mut Loader<'_, B>,
    ) -> Result<Attention, ModelError> {
        let (names, hidden, heads) = (&self.spec.names, self.spec.hidden, gqa.heads);
        let kv_cols = heads.kv_heads * heads.head_dim;
        let qkv = [
            (names.in_layer(index, names.q), heads.q_cols()),
            (names.in_layer(index, names.k), kv_cols),
            (names.in_layer(index, names.v), kv_cols),
        ];
        let o: [Module; 1] = [(names.in_layer(index, names.o), hidden)];
        Ok(Attention {
            kv_layer: index,
            spec: AttentionSpec { heads, scale: gqa.scale, window: gqa.window },
            qkv: loader.matrix(&qkv, hidden)?,
            qkv_bias: loader.bias(gqa.qkv_bias, &qkv)?,
            qk_norm: match gqa.qk_norm {
                true => Some(QkNorm {
                    q: loader.norm(&names.in_layer(index, names.q_norm), heads.head_dim)?,
                    k: loader.norm(&names.in_layer(index, names.k_norm), heads.head_dim)?,
                    eps,
                }),
                false => None,
            },
            rope: gqa.rope.as_ref().map(|rope| self.rope(rope, loader)).transpose()?,
            o: loader.matrix(&o, heads.q_cols())?,
            o_bias: loader.bias(gqa.o_bias, &o)?,
            fused: loader.scratch("q, k, v", heads.fused_cols())?,
            attended: loader.scratch("attended", heads.q_cols())?,
        })
    }

    fn dense<B: Backend + ?Sized>(
        &self,
        index: usize,
        dense: &spec::Dense,
        loader: &mut Loader<'_, B>,
    ) -> Result<Dense, ModelError> {
        let (names, hidden, inner) = (&self.spec.names, self.spec.hidden, dense.inner);
        let gate_up = [(names.in_layer(index, names.gate), inner), (names.in_layer(index, names.up), inner)];
        let down: [Module; 1] = [(names.in_layer(index, names.down), hidden)];
        Ok(Dense {
            act: dense.act,
            gate_up: loader.matrix(&gate_up, hidden)?,
            gate_up_bias: loader.bias(dense.bias, &gate_up)?,
            down: loader.matrix(&down, inner)?,
            down_bias: loader.bias(dense.bias, &down)?,
            fused: loader.scratch("gate, up", 2 * inner)?,
            activated: loader.scratch("activated", inner)?,
        })
    }

    fn rope<B: Backend + ?Sized>(
        &mut self,
        spec: &RopeSpec,
        loader: &mut Loader<'_, B>,
    ) -> Result<Rope, ModelError> {
        if let Some((_, rope)) = self.ropes.iter().find(|(known, _)| known == spec) {
            return Ok(*rope);
        }
        let inv_freq = loader.backend.load_vector(&spec.inv_freq())?;
        let rope = Rope { inv_freq, magnitude: spec.magnitude() };
        self.ropes.push((spec.clone(), rope));
        Ok(rope)
    }
}
