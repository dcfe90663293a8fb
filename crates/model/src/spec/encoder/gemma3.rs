//! Gemma 3 as an encoder (EmbeddingGemma): norms before and behind each half of a block, scaled embedding.

use millrace_backend::{Mask, Pool};
use millrace_weights::HfConfig;

use super::super::common::{MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, activation, eps, flag, heads, within};
use super::super::rope_config::read_kind;
use super::super::{Dense, Gqa};
use super::{
    BlockSpec, EmbeddingSpec, EncoderNames, EncoderSpec, NormKind, NormSpec, Norms, PoolingSpec, PoolingTask,
};
use crate::ModelError;

/// Reads a `Gemma3TextModel`, pooled by the mean where no file says more.
pub(super) fn embed(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    let task = PoolingTask::EMBED;
    Ok(PoolingSpec { body: body(config)?, pool: Pool::Mean, head: Vec::new(), task })
}

fn body(config: &HfConfig) -> Result<EncoderSpec, ModelError> {
    refuse_softcaps(config)?;
    let hidden = within(config, "hidden_size", None, MAX_WIDTH)?;
    let layers = within(config, "num_hidden_layers", None, MAX_LAYERS)?;
    let heads = heads(config, hidden, Some(256))?;
    let context = within(config, "max_position_embeddings", Some(131_072), u32::MAX as usize)?;
    let read =
        |kind, key, scaled, theta| read_kind(config, (kind, key, scaled), heads.head_dim, context, theta);
    let global = read("full_attention", "rope_theta", true, 1_000_000.0)?;
    let local = read("sliding_attention", "rope_local_base_freq", false, 10_000.0)?;
    let is_bidirectional = flag(config, "use_bidirectional_attention", false)?;
    let window = within(config, "sliding_window", Some(4096), u32::MAX as usize)?;
    // Half of it to each side, and the token itself.
    let window = if is_bidirectional { window / 2 + 1 } else { window };
    let every = within(config, "sliding_window_pattern", Some(6), MAX_LAYERS)?;
    let scalar = within(config, "query_pre_attn_scalar", Some(256), MAX_WIDTH)?;
    let bias = flag(config, "attention_bias", false)?;
    let inner = within(config, "intermediate_size", None, MAX_WIDTH)?;
    let act = activation(config, "hidden_activation", "gelu_pytorch_tanh")?;
    let eps = eps(config, "rms_norm_eps", 1e-6)?;
    let norm = |module| Some(NormSpec { module, kind: NormKind::Rms { offset: 1.0 }, eps });
    let around = |before, output| Norms { before: norm(before), output: norm(output), after: None };
    let block = |slides: bool| BlockSpec {
        attention: Gqa {
            heads,
            qkv_bias: bias,
            o_bias: bias,
            qk_norm: true,
            rope: Some(if slides { local.spec.clone() } else { global.spec.clone() }),
            window: slides.then_some(window),
            scale: 1.0 / (scalar as f32).sqrt(),
        },
        attention_norms: around("input_layernorm", "post_attention_layernorm"),
        ffn: Dense { inner, gated: true, act, bias: false },
        ffn_norms: around("pre_feedforward_layernorm", "post_feedforward_layernorm"),
    };
    let slides = super::causal::layer_types(config, layers, |index| (index + 1) % every != 0)?;
    Ok(EncoderSpec {
        family: "gemma3",
        vocab: within(config, "vocab_size", None, MAX_VOCAB)?,
        hidden,
        embedding: EmbeddingSpec {
            scale: (hidden as f32).sqrt(),
            positions: None,
            token_types: 0,
            norm: None,
        },
        blocks: slides.into_iter().map(block).collect(),
        final_norm: norm("norm"),
        mask: if is_bidirectional { Mask::Bidirectional } else { Mask::Causal },
        max_positions: global.max_positions,
        names: EncoderNames::DECODER,
    })
}

fn refuse_softcaps(config: &HfConfig) -> Result<(), ModelError> {
    if let Some(cap) = config.opt_f64("attn_logit_softcapping")? {
        let problem = format!("is {cap}; soft caps are not supported");
        return Err(config.error("attn_logit_softcapping", problem).into());
    }
    Ok(())
}
