//! Qwen3 (dense): Qwen2 without q, k, v biases, with a norm on each q and k head.

use millrace_weights::HfConfig;

use super::ModelSpec;
use super::common::{Family, flag, uniform};
use super::qwen2::set_upper_windows;
use crate::ModelError;

/// Reads a `Qwen3ForCausalLM` configuration.
pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    let bias = flag(config, "attention_bias", false)?;
    let family = Family {
        name: "qwen3",
        qkv_bias: bias,
        o_bias: bias,
        qk_norm: true,
        head_dim: Some(128),
        ..Family::LLAMA
    };
    let mut spec = uniform(config, &family)?;
    set_upper_windows(config, &mut spec)?;
    Ok(spec)
}
