//! BERT (arXiv 1810.04805): learned positions, token types, norms after each half of a block.

use millrace_backend::{Activation, Mask, Pool};
use millrace_weights::HfConfig;

use super::super::common::{MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, activation, eps, heads, within};
use super::super::{Dense, Gqa};
use super::labels::Labels;
use super::{
    BlockSpec, EmbeddingSpec, EncoderNames, EncoderSpec, HeadStep, NormKind, NormSpec, Norms, PoolingSpec,
    PoolingTask,
};
use crate::ModelError;

/// Reads a BERT whose task is to embed.
pub(super) fn embed(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    Ok(embedding(body(config, "bert", EncoderNames::BERT, 0)?))
}

/// Reads a `BertForSequenceClassification`: the pooler's layer over the first token, and a linear layer.
pub(super) fn classify(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    let body = body(config, "bert", EncoderNames::BERT, 0)?;
    let labels = Labels::read(config)?;
    let head = vec![
        HeadStep::Linear { module: "pooler.dense".into(), out: body.hidden, bias: true },
        HeadStep::Activation(Activation::Tanh),
        HeadStep::Linear { module: "classifier".into(), out: labels.names.len(), bias: true },
    ];
    Ok(PoolingSpec { body, pool: Pool::First, head, task: PoolingTask::Classify(labels) })
}

/// The first token's hidden state, scaled to length 1: what vLLM takes where no file says more.
pub(super) fn embedding(body: EncoderSpec) -> PoolingSpec {
    PoolingSpec { body, pool: Pool::First, head: Vec::new(), task: PoolingTask::EMBED }
}

/// The transformer; position p has row `first + p` of the table.
pub(super) fn body(
    config: &HfConfig,
    family: &'static str,
    names: EncoderNames,
    first: usize,
) -> Result<EncoderSpec, ModelError> {
    refuse_other_positions(config)?;
    let hidden = within(config, "hidden_size", None, MAX_WIDTH)?;
    let rows = within(config, "max_position_embeddings", None, u32::MAX as usize)?;
    let Some(max_positions) = rows.checked_sub(first).filter(|left| *left > 0) else {
        let problem =
            format!("is {rows} and must be more than the {first} rows that come before the first token");
        return Err(config.error("max_position_embeddings", problem).into());
    };
    let heads = heads(config, hidden, None)?;
    let eps = eps(config, "layer_norm_eps", 1e-12)?;
    let norm = |module| Some(NormSpec { module, kind: NormKind::Layer { bias: true }, eps });
    let block = BlockSpec {
        attention: Gqa {
            heads,
            qkv_bias: true,
            o_bias: true,
            qk_norm: false,
            rope: None,
            window: None,
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
        },
        attention_norms: Norms { after: norm("attention.output.LayerNorm"), ..Norms::default() },
        ffn: Dense {
            inner: within(config, "intermediate_size", None, MAX_WIDTH)?,
            gated: false,
            act: activation(config, "hidden_act", "gelu")?,
            bias: true,
        },
        ffn_norms: Norms { after: norm("output.LayerNorm"), ..Norms::default() },
    };
    Ok(EncoderSpec {
        family,
        vocab: within(config, "vocab_size", None, MAX_VOCAB)?,
        hidden,
        embedding: EmbeddingSpec {
            scale: 1.0,
            positions: Some((rows, first)),
            token_types: within(config, "type_vocab_size", Some(2), MAX_WIDTH)?,
            norm: norm("embeddings.LayerNorm"),
        },
        blocks: vec![block; within(config, "num_hidden_layers", None, MAX_LAYERS)?],
        final_norm: None,
        mask: Mask::Bidirectional,
        max_positions,
        names,
    })
}

fn refuse_other_positions(config: &HfConfig) -> Result<(), ModelError> {
    let key = "position_embedding_type";
    if let Some(other) = config.opt_str(key)?.filter(|other| *other != "absolute") {
        return Err(config.error(key, format!("{other:?} is not supported; supported is absolute")).into());
    }
    if config.opt_bool("is_decoder")?.unwrap_or(false) {
        return Err(config
            .error("is_decoder", "is true; only encoders of this architecture are supported")
            .into());
    }
    Ok(())
}
