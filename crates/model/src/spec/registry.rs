//! Which family reads which architecture.

use millrace_weights::HfConfig;

use super::{ModelSpec, llama, mistral, qwen2, qwen3, smollm3};
use crate::ModelError;

type ReadSpec = fn(&HfConfig) -> Result<ModelSpec, ModelError>;

/// Class name in transformers, `model_type`, reader.
const FAMILIES: &[(&str, &str, ReadSpec)] = &[
    ("LlamaForCausalLM", "llama", llama::spec),
    ("MistralForCausalLM", "mistral", mistral::spec),
    ("Qwen2ForCausalLM", "qwen2", qwen2::spec),
    ("Qwen3ForCausalLM", "qwen3", qwen3::spec),
    ("SmolLM3ForCausalLM", "smollm3", smollm3::spec),
];

/// Reads a `config.json` into a spec. The family follows from `architectures`, or from `model_type` where that list
/// is missing.
///
/// # Errors
/// The architecture is unknown, a setting is missing or out of range, or it asks for something that would change
/// results and is not implemented.
pub fn from_config(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    match config.value("architectures") {
        Some(_) => named(config, config.architecture()?),
        None => of_model_type(config),
    }
}

/// The same for a model without its usual head: the family follows from `model_type` alone.
///
/// # Errors
/// As for [`from_config`].
pub fn of_model_type(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    named(config, config.model_type()?)
}

fn named(config: &HfConfig, named: &str) -> Result<ModelSpec, ModelError> {
    let family = FAMILIES.iter().find(|(class, model_type, _)| named == *class || named == *model_type);
    let (_, _, read) = family.ok_or_else(|| ModelError::UnknownArchitecture {
        file: config.file().into(),
        found: named.into(),
        supported: supported().collect::<Vec<_>>().join(", "),
    })?;
    read(config)
}

/// The architectures that [`from_config`] reads.
pub fn supported() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(class, ..)| *class)
}
