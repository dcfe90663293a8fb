//! Which family reads which architecture.

use millrace_weights::HfConfig;

use super::{Judge, PoolingSpec, Sentence, bert, gemma3, modernbert, roberta};
use crate::ModelError;
use crate::spec;

type Read = fn(&HfConfig) -> Result<PoolingSpec, ModelError>;

/// Class name in transformers, reader. The head of a masked language model isn't used.
const FAMILIES: &[(&str, Read)] = &[
    ("BertModel", bert::embed),
    ("BertForMaskedLM", bert::embed),
    ("BertForSequenceClassification", bert::classify),
    ("RobertaModel", roberta::embed),
    ("RobertaForMaskedLM", roberta::embed),
    ("RobertaForSequenceClassification", roberta::classify),
    ("XLMRobertaModel", roberta::embed),
    ("XLMRobertaForMaskedLM", roberta::embed),
    ("XLMRobertaForSequenceClassification", roberta::classify),
    ("ModernBertModel", modernbert::embed),
    ("ModernBertForMaskedLM", modernbert::embed),
    ("ModernBertForSequenceClassification", modernbert::classify),
    ("Gemma3TextModel", gemma3::embed),
    ("LlamaModel", decoder),
    ("MistralModel", decoder),
    ("Qwen2Model", decoder),
    ("Qwen3Model", decoder),
    ("LlamaForSequenceClassification", classifying_decoder),
    ("MistralForSequenceClassification", classifying_decoder),
    ("Qwen2ForSequenceClassification", classifying_decoder),
    ("Qwen3ForSequenceClassification", classifying_decoder),
];

/// Reads a `config.json`; `None` if its architecture isn't one of models that pool (it may be a decoder's).
///
/// # Errors
/// A setting is missing or out of range, or it asks for something that would change results and is not implemented.
pub fn from_config(config: &HfConfig) -> Result<Option<PoolingSpec>, ModelError> {
    let Some(_) = config.value("architectures") else { return Ok(None) };
    let named = config.architecture()?;
    let family = FAMILIES.iter().find(|(class, _)| named == *class);
    family.map(|(_, read)| read(config)?.with_matryoshka(config)).transpose()
}

/// What a configuration and the files of sentence-transformers beside it describe, if it is a model that pools: by its
/// architecture, by those files, because it judges, or, for any decoder, because the caller says so (`pools`).
///
/// # Errors
/// As for [`from_config`].
pub fn describe(
    config: &HfConfig,
    sentence: Option<Sentence>,
    judge: Option<Judge>,
    pools: bool,
) -> Result<Option<PoolingSpec>, ModelError> {
    if let Some(judge) = sentence.as_ref().and_then(|sentence| sentence.judge).or(judge) {
        let spec = PoolingSpec::judging_decoder(&spec::of_model_type(config)?, judge, config)?;
        return Ok(Some(spec.with_max_length(sentence.and_then(|sentence| sentence.max_length))));
    }
    let spec = match from_config(config)? {
        Some(spec) => spec,
        None if pools || sentence.is_some() => {
            PoolingSpec::of_decoder(&spec::from_config(config)?).with_matryoshka(config)?
        }
        None => return Ok(None),
    };
    Ok(Some(match sentence {
        Some(sentence) => spec.with_sentence(sentence),
        None => spec,
    }))
}

/// The architectures that [`from_config`] reads.
pub fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(class, ..)| *class)
}

fn decoder(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    Ok(PoolingSpec::of_decoder(&spec::of_model_type(config)?))
}

fn classifying_decoder(config: &HfConfig) -> Result<PoolingSpec, ModelError> {
    PoolingSpec::classifying_decoder(&spec::of_model_type(config)?, config)
}
