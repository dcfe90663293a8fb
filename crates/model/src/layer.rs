//! A layer's weights in a backend, and how its two halves run.

use millrace_backend::{AttentionSpec, Backend, Mask, Matrix, Mlp, Projection, QkNorm, Rope, Tensor};

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
    keys: Keys,
    spec: AttentionSpec,
    projection: Projection,
    /// `[hidden, q cols]`.
    o: Matrix,
    o_bias: Option<Tensor>,
    /// `[max tokens, fused cols]`.
    fused: Tensor,
    /// `[max tokens, q cols]`.
    attended: Tensor,
}

/// Where keys and values are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keys {
    /// In a layer of the KV cache.
    Cached(usize),
    /// In the batch, which holds whole sequences.
    InBatch(Mask),
}

/// Where the weights of an attention are found.
pub(crate) struct AttentionModules {
    /// q, k and v, or all in one.
    pub(crate) qkv: Vec<Module>,
    pub(crate) o: Module,
    /// Norms of q and k heads.
    pub(crate) qk_norm: [String; 2],
    /// Added to those norms' weights.
    pub(crate) norm_offset: f32,
}

/// `down(act(up(x)))`, or with a gate `down(act(gate(x)) * up(x))`.
#[derive(Debug)]
pub(crate) struct Dense {
    mlp: Mlp,
    /// `[max tokens, inner]`, or twice as wide with a gate.
    widened: Tensor,
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
    pub(crate) fn load<B: Backend + ?Sized>(
        gqa: &spec::Gqa,
        modules: AttentionModules,
        (hidden, eps, keys): (usize, f32, Keys),
        ropes: &mut Ropes,
        loader: &mut Loader<'_, B>,
    ) -> Result<Self, ModelError> {
        let (heads, offset) = (gqa.heads, modules.norm_offset);
        let (qkv, o) = (modules.qkv, [modules.o]);
        let [q_norm, k_norm] = &modules.qk_norm;
        let projection = Projection {
            qkv: loader.matrix(&qkv, hidden)?,
            bias: loader.bias(gqa.qkv_bias, &qkv)?,
            heads,
            norm: match gqa.qk_norm {
                true => Some(QkNorm {
                    q: loader.shifted_norm(q_norm, heads.head_dim, offset)?,
                    k: loader.shifted_norm(k_norm, heads.head_dim, offset)?,
                    eps,
                }),
                false => None,
            },
            rope: gqa.rope.as_ref().map(|rope| ropes.get(rope, loader)).transpose()?,
            layer: match keys {
                Keys::Cached(layer) => Some(layer),
                Keys::InBatch(_) => None,
            },
        };
        Ok(Self {
            keys,
            spec: AttentionSpec { heads, scale: gqa.scale, window: gqa.window },
            projection,
            o: loader.matrix(&o, heads.q_cols())?,
            o_bias: loader.bias(gqa.o_bias, &o)?,
            fused: loader.scratch("q, k, v", heads.fused_cols())?,
            attended: loader.scratch("attended", heads.q_cols())?,
        })
    }

    /// x `[T, hidden]` → out `[T, hidden]`.
    pub(crate) fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        let (qkv, attended) = (self.fused.first(x.rows), self.attended.first(x.rows));
        backend.project(x, &self.projection, qkv);
        match self.keys {
            Keys::Cached(layer) => backend.attention(layer, qkv, &self.spec, attended),
            Keys::InBatch(mask) => backend.attend(qkv, &self.spec, mask, attended),
        }
        backend.linear(attended, self.o, self.o_bias, out);
    }
}

impl Dense {
    /// `up`: the modules of up, or of gate and up.
    pub(crate) fn load<B: Backend + ?Sized>(
        dense: &spec::Dense,
        up: &[Module],
        down: Module,
        hidden: usize,
        loader: &mut Loader<'_, B>,
    ) -> Result<Self, ModelError> {
        let (inner, down) = (dense.inner, [down]);
        Ok(Self {
            mlp: Mlp {
                up: loader.matrix(up, hidden)?,
                up_bias: loader.bias(dense.bias, up)?,
                gated: dense.gated,
                act: dense.act,
                down: loader.matrix(&down, inner)?,
                down_bias: loader.bias(dense.bias, &down)?,
            },
            widened: loader.scratch("widened", dense.wide())?,
            activated: loader.scratch("activated", inner)?,
        })
    }

    /// x `[T, hidden]` → out `[T, hidden]`.
    pub(crate) fn forward<B: Backend + ?Sized>(&self, backend: &mut B, x: Tensor, out: Tensor) {
        let (widened, activated) = (self.widened.first(x.rows), self.activated.first(x.rows));
        backend.mlp(x, &self.mlp, [widened, activated], out);
    }
}

/// Rotations that are there already: layers with the same one share its constants, so that a backend computes the
/// angles once per step.
#[derive(Default)]
pub(crate) struct Ropes(Vec<(RopeSpec, Rope)>);

impl Ropes {
    fn get<B: Backend + ?Sized>(
        &mut self,
        spec: &RopeSpec,
        loader: &mut Loader<'_, B>,
    ) -> Result<Rope, ModelError> {
        if let Some((_, rope)) = self.0.iter().find(|(known, _)| known == spec) {
            return Ok(*rope);
        }
        let inv_freq = loader.backend.load_vector(&spec.inv_freq())?;
        let rope = Rope { inv_freq, magnitude: spec.magnitude() };
        self.0.push((spec.clone(), rope));
        Ok(rope)
    }
}

/// Loads the layers of one model.
pub(crate) struct LayerLoader<'s> {
    spec: &'s ModelSpec,
    ropes: Ropes,
}

impl<'s> LayerLoader<'s> {
    pub(crate) fn new(spec: &'s ModelSpec) -> Self {
        Self { spec, ropes: Ropes::default() }
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
        let name = |module| names.in_layer(index, module);
        let modules = AttentionModules {
            qkv: vec![(name(names.q), heads.q_cols()), (name(names.k), kv_cols), (name(names.v), kv_cols)],
            o: (name(names.o), hidden),
            qk_norm: [name(names.q_norm), name(names.k_norm)],
            norm_offset: 0.0,
        };
        Attention::load(gqa, modules, (hidden, eps, Keys::Cached(index)), &mut self.ropes, loader)
    }

    fn dense<B: Backend + ?Sized>(
        &self,
        index: usize,
        dense: &spec::Dense,
        loader: &mut Loader<'_, B>,
    ) -> Result<Dense, ModelError> {
        let (names, hidden, inner) = (&self.spec.names, self.spec.hidden, dense.inner);
        let gate_up = [(names.in_layer(index, names.gate), inner), (names.in_layer(index, names.up), inner)];
        Dense::load(dense, &gate_up, (names.in_layer(index, names.down), hidden), hidden, loader)
    }
}
