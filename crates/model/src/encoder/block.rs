//! A block's weights in a backend, and how it runs.

use millrace_backend::{Backend, Tensor};

use super::{Norm, Stream};
use crate::ModelError;
use crate::layer::{Attention, AttentionModules, Dense, Keys, Ropes};
use crate::load::{Loader, Module};
use crate::spec::encoder::{BlockSpec, EncoderSpec, NormKind, Norms};
use crate::spec::{self, Gqa};

/// One block, loaded.
#[derive(Debug)]
pub(super) struct Block {
    attention: Attention,
    attention_norms: Around,
    ffn: Dense,
    ffn_norms: Around,
}

/// Norms around a part of a block.
#[derive(Debug)]
struct Around {
    before: Option<Norm>,
    output: Option<Norm>,
    after: Option<Norm>,
}

impl Block {
    pub(super) fn load<B: Backend + ?Sized>(
        body: &EncoderSpec,
        index: usize,
        ropes: &mut Ropes,
        loader: &mut Loader<'_, B>,
    ) -> Result<Self, ModelError> {
        let BlockSpec { attention, attention_norms, ffn, ffn_norms } = &body.blocks[index];
        let prefix = body.names.in_block(index, "");
        Ok(Self {
            attention: load_attention(body, index, attention, attention_norms, ropes, loader)?,
            attention_norms: Around::load(attention_norms, &prefix, body.hidden, loader)?,
            ffn: load_ffn(body, index, ffn, loader)?,
            ffn_norms: Around::load(ffn_norms, &prefix, body.hidden, loader)?,
        })
    }

    pub(super) fn forward<B: Backend + ?Sized>(&self, backend: &mut B, stream: &mut Stream) {
        self.attention_norms
            .forward(backend, stream, |backend, x, out| self.attention.forward(backend, x, out));
        self.ffn_norms.forward(backend, stream, |backend, x, out| self.ffn.forward(backend, x, out));
    }
}

fn load_attention<B: Backend + ?Sized>(
    body: &EncoderSpec,
    index: usize,
    gqa: &Gqa,
    norms: &Norms,
    ropes: &mut Ropes,
    loader: &mut Loader<'_, B>,
) -> Result<Attention, ModelError> {
    let (names, heads) = (&body.names, gqa.heads);
    let name = |module: &str| names.in_block(index, module);
    let kv_cols = heads.kv_heads * heads.head_dim;
    // The heads' norms are of the same kind as the block's.
    let norm = norms.before.map(|norm| (norm.kind, norm.eps));
    let (norm_offset, eps) = match norm {
        Some((NormKind::Rms { offset }, eps)) => (offset, eps),
        Some((NormKind::Layer { .. }, eps)) => (0.0, eps),
        None => (0.0, 0.0),
    };
    let modules = AttentionModules {
        qkv: match names.qkv {
            [q, k, v] => vec![(name(q), heads.q_cols()), (name(k), kv_cols), (name(v), kv_cols)],
            fused => fused.iter().map(|module| (name(module), heads.fused_cols())).collect(),
        },
        o: (name(names.o), body.hidden),
        qk_norm: names.qk_norm.map(name),
        norm_offset,
    };
    Attention::load(gqa, modules, (body.hidden, eps, Keys::InBatch(body.mask)), ropes, loader)
}

fn load_ffn<B: Backend + ?Sized>(
    body: &EncoderSpec,
    index: usize,
    dense: &spec::Dense,
    loader: &mut Loader<'_, B>,
) -> Result<Dense, ModelError> {
    let (names, hidden) = (&body.names, body.hidden);
    // Gate and up are two modules, or one.
    let rows = dense.wide() / names.up.len();
    let up: Vec<Module> = names.up.iter().map(|module| (names.in_block(index, module), rows)).collect();
    Dense::load(dense, &up, (names.in_block(index, names.down), hidden), hidden, loader)
}

impl Around {
    fn load<B: Backend + ?Sized>(
        norms: &Norms,
        prefix: &str,
        hidden: usize,
        loader: &mut Loader<'_, B>,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            before: Norm::load(norms.before, prefix, hidden, loader)?,
            output: Norm::load(norms.output, prefix, hidden, loader)?,
            after: Norm::load(norms.after, prefix, hidden, loader)?,
        })
    }

    /// `states = after(states + output(part(before(states))))`.
    fn forward<B: Backend + ?Sized>(
        &self,
        backend: &mut B,
        stream: &mut Stream,
        part: impl FnOnce(&mut B, Tensor, Tensor),
    ) {
        let input = match self.before {
            Some(norm) => {
                norm.forward(backend, stream.states, stream.input);
                stream.input
            }
            None => stream.states,
        };
        part(backend, input, stream.output);
        match self.output {
            Some(norm) => {
                norm.forward(backend, stream.output, stream.input);
                backend.add(stream.states, stream.input);
            }
            None => backend.add(stream.states, stream.output),
        }
        if let Some(norm) = self.after {
            stream.renew(backend, norm);
        }
    }
}
