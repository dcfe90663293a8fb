//! Mistral: Llama with a sliding window on every layer.

use millrace_weights::HfConfig;

use super::ModelSpec;
use super::common::{Family, set_windows, uniform, window};
use crate::ModelError;

/// The window where config.json does not mention one; an explicit null means none.
const DEFAULT_WINDOW: usize = 4096;

/// Reads a `MistralForCausalLM` configuration.
pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    let mut spec = uniform(config, &Family { name: "mistral", ..Family::LLAMA })?;
    let default = if config.contains("sliding_window") { None } else { Some(DEFAULT_WINDOW) };
    let window = window(config, default)?;
    set_windows(config, &mut spec, window, |_| true)?;
    Ok(spec)
}
