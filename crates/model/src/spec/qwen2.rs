//! Qwen2 and Qwen2.5: Llama with q, k, v biases and an optional sliding window on the upper layers.

use millrace_weights::HfConfig;

use super::ModelSpec;
use super::common::{Family, opt_in_window, set_windows, uniform};
use crate::ModelError;

/// Reads a `Qwen2ForCausalLM` configuration.
pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    let mut spec = uniform(config, &Family { name: "qwen2", qkv_bias: true, ..Family::LLAMA })?;
    set_upper_windows(config, &mut spec)?;
    Ok(spec)
}

/// `use_sliding_window`: the layers from `max_window_layers` on slide (the name notwithstanding).
pub(super) fn set_upper_windows(config: &HfConfig, spec: &mut ModelSpec) -> Result<(), ModelError> {
    let window = opt_in_window(config, Some(4096))?;
    let first = config.opt_usize("max_window_layers")?.unwrap_or(28);
    set_windows(config, spec, window, |layer| layer >= first)
}
