//! Decoder-only models whose hidden states are pooled (Qwen3-Embedding and its like), and lists of layer types.

use millrace_backend::{Mask, Pool};
use millrace_weights::HfConfig;

use super::super::{FeedForward, Mixer, ModelSpec};
use super::labels::Labels;
use super::{
    BlockSpec, EmbeddingSpec, EncoderNames, EncoderSpec, HeadStep, NormKind, NormSpec, Norms, PoolingSpec,
    PoolingTask,
};
use crate::ModelError;

impl PoolingSpec {
    /// A decoder whose last token's hidden state is the embedding.
    pub fn of_decoder(spec: &ModelSpec) -> Self {
        let body = EncoderSpec::of_decoder(spec);
        let task = PoolingTask::EMBED;
        Self { body, pool: Pool::Last, head: Vec::new(), task }
    }

    /// A decoder with a linear layer over its last token (`…ForSequenceClassification`).
    pub(super) fn classifying_decoder(spec: &ModelSpec, config: &HfConfig) -> Result<Self, ModelError> {
        let body = EncoderSpec::of_decoder(spec);
        let labels = Labels::read(config)?;
        let head = vec![HeadStep::Linear { module: "score".into(), out: labels.names.len(), bias: false }];
        Ok(Self { body, pool: Pool::Last, head, task: PoolingTask::Classify(labels) })
    }
}

impl EncoderSpec {
    /// The layers of a decoder, without its output head.
    pub fn of_decoder(spec: &ModelSpec) -> Self {
        let rms = |module, eps| Some(NormSpec { module, kind: NormKind::Rms { offset: 0.0 }, eps });
        let blocks = spec.layers.iter().map(|layer| {
            let (Mixer::Gqa(attention), FeedForward::Dense(dense)) = (&layer.mixer, &layer.ffn);
            let before = |module| Norms { before: rms(module, layer.norm_eps), ..Norms::default() };
            BlockSpec {
                attention: attention.clone(),
                attention_norms: before("input_layernorm"),
                ffn: dense.clone(),
                ffn_norms: before("post_attention_layernorm"),
            }
        });
        Self {
            family: spec.family,
            vocab: spec.vocab,
            hidden: spec.hidden,
            embedding: EmbeddingSpec { scale: 1.0, positions: None, token_types: 0, norm: None },
            blocks: blocks.collect(),
            final_norm: rms("norm", spec.final_norm_eps),
            mask: Mask::Causal,
            max_positions: spec.max_positions,
            names: EncoderNames::DECODER,
        }
    }
}

/// Which of the layers slide: those that `layer_types` calls so, or, without that list, those for which `slides` is
/// true.
pub(super) fn layer_types(
    config: &HfConfig,
    layers: usize,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<bool>, ModelError> {
    let Some(types) = config.opt_list("layer_types")? else { return Ok((0..layers).map(slides).collect()) };
    if types.len() < layers {
        let problem = format!("names {} layers of {layers}", types.len());
        return Err(config.error("layer_types", problem).into());
    }
    let slides = |kind: &serde_json::Value| match kind.as_str().unwrap_or("no text") {
        "full_attention" => Ok(false),
        "sliding_attention" => Ok(true),
        other => {
            let problem = format!("has {other:?}; supported are full_attention and sliding_attention");
            Err(config.error("layer_types", problem).into())
        }
    };
    types[..layers].iter().map(slides).collect()
}
