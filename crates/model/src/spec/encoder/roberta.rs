//! RoBERTa and XLM-RoBERTa: BERT whose positions begin behind the padding token's row.

use millrace_backend::{Activation, Pool};
use millrace_weights::HfConfig;

use super::bert::{body, embedding};
use super::labels::Labels;
use super::{EncoderNames, EncoderSpec, HeadStep, PoolingSpec, PoolingTask};
use crate::ModelError;

/// Reads a RoBERTa whose task is to embed.
pub(super) fn embed(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    Ok(embedding(read(config)?))
}

/// Reads a `RobertaForSequenceClassification`: two layers over the first token.
pub(super) fn classify(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    let body = read(config)?;
    let labels = Labels::read(config)?;
    let head = vec![
        HeadStep::Linear { module: "classifier.dense".into(), out: body.hidden, bias: true },
        HeadStep::Activation(Activation::Tanh),
        HeadStep::Linear { module: "classifier.out_proj".into(), out: labels.names.len(), bias: true },
    ];
    Ok(PoolingSpec { body, pool: Pool::First, head, task: PoolingTask::Classify(labels) })
}

fn read(config: &HfConfig) -> Result<EncoderSpec, ModelError> {
    let padding = config.opt_usize("pad_token_id")?.unwrap_or(1);
    let names = EncoderNames { prefix: "roberta.", ..EncoderNames::BERT };
    body(config, "roberta", names, padding.saturating_add(1))
}
