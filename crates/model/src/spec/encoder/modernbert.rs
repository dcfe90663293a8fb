//! ModernBERT (arXiv 2412.13663): rotary positions, windows in most layers, gated feed-forward, norms before.

use millrace_backend::{Mask, Pool};
use millrace_weights::HfConfig;

use super::super::common::{MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, activation, eps, flag, heads, within};
use super::super::rope_config::read_kind;
use super::super::{Dense, Gqa};
use super::bert::embedding;
use super::labels::Labels;
use super::{
    BlockSpec, EmbeddingSpec, EncoderNames, EncoderSpec, HeadStep, NormKind, NormSpec, Norms, PoolingSpec,
    PoolingTask,
};
use crate::ModelError;

/// Reads a ModernBERT whose task is to embed.
pub(super) fn embed(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    Ok(embedding(body(config)?))
}

/// Reads a `ModernBertForSequenceClassification`: a layer, a norm and a linear layer over the pooled row.
pub(super) fn classify(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    let body = body(config)?;
    let labels = Labels::read(config)?;
    let bias = flag(config, "classifier_bias", false)?;
    let head = vec![
        HeadStep::Linear { module: "head.dense".into(), out: body.hidden, bias },
        HeadStep::Activation(activation(config, "classifier_activation", "gelu")?),
        HeadStep::Norm(norm(config, "head.norm")?),
        HeadStep::Linear { module: "classifier".into(), out: labels.names.len(), bias: true },
    ];
    let pool = match config.opt_str("classifier_pooling")?.unwrap_or("cls") {
        "cls" => Pool::First,
        "mean" => Pool::Mean,
        other => {
            let problem = format!("{other:?} is not supported; supported are cls and mean");
            return Err(config.error("classifier_pooling", problem).into());
        }
    };
    Ok(PoolingSpec { body, pool, head, task: PoolingTask::Classify(labels) })
}

fn norm(config: &HfConfig, module: &'static str) -> Result<NormSpec, ModelError> {
    let bias = flag(config, "norm_bias", false)?;
    Ok(NormSpec { module, kind: NormKind::Layer { bias }, eps: eps(config, "norm_eps", 1e-5)? })
}

fn body(config: &HfConfig) -> Result<EncoderSpec, ModelError> {
    let hidden = within(config, "hidden_size", None, MAX_WIDTH)?;
    let layers = within(config, "num_hidden_layers", None, MAX_LAYERS)?;
    let heads = heads(config, hidden, None)?;
    let context = within(config, "max_position_embeddings", None, u32::MAX as usize)?;
    let read = |kind, key, theta| read_kind(config, (kind, key, true), heads.head_dim, context, theta);
    let global = read("full_attention", "global_rope_theta", 160_000.0)?;
    let local = read("sliding_attention", "local_rope_theta", 10_000.0)?;
    // Half of it to each side, and the token itself.
    let window = within(config, "local_attention", Some(128), u32::MAX as usize)? / 2 + 1;
    let attention_bias = flag(config, "attention_bias", false)?;
    let mlp_bias = flag(config, "mlp_bias", false)?;
    let inner = within(config, "intermediate_size", None, MAX_WIDTH)?;
    let act = activation(config, "hidden_activation", "gelu")?;
    let (attention_norm, ffn_norm) = (norm(config, "attn_norm")?, norm(config, "mlp_norm")?);
    let block = |index: usize, slides: bool| BlockSpec {
        attention: Gqa {
            heads,
            qkv_bias: attention_bias,
            o_bias: attention_bias,
            qk_norm: false,
            rope: Some(if slides { local.spec.clone() } else { global.spec.clone() }),
            window: slides.then_some(window),
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
        },
        // The embedding's norm stands right before the first block.
        attention_norms: Norms { before: (index > 0).then_some(attention_norm), ..Norms::default() },
        ffn: Dense { inner, gated: true, act, bias: mlp_bias },
        ffn_norms: Norms { before: Some(ffn_norm), ..Norms::default() },
    };
    let slides = sliding_layers(config, layers)?;
    Ok(EncoderSpec {
        family: "modernbert",
        vocab: within(config, "vocab_size", None, MAX_VOCAB)?,
        hidden,
        embedding: EmbeddingSpec {
            scale: 1.0,
            positions: None,
            token_types: 0,
            norm: Some(norm(config, "embeddings.norm")?),
        },
        blocks: slides.into_iter().enumerate().map(|(index, slides)| block(index, slides)).collect(),
        final_norm: Some(norm(config, "final_norm")?),
        mask: Mask::Bidirectional,
        max_positions: global.max_positions,
        names: EncoderNames::MODERN_BERT,
    })
}

/// Which layers have a window: those that `layer_types` calls so, or all but every so manieth.
fn sliding_layers(config: &HfConfig, layers: usize) -> Result<Vec<bool>, ModelError> {
    let every = within(config, "global_attn_every_n_layers", Some(3), MAX_LAYERS)?;
    super::causal::layer_types(config, layers, |index| index % every != 0)
}
