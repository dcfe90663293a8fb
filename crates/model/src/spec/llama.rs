//! Llama 2 and 3.x, and the many models that share the architecture.

use millrace_weights::HfConfig;

use super::ModelSpec;
use super::common::{Family, flag, set_windows, uniform};
use crate::ModelError;

/// Reads a `LlamaForCausalLM` configuration.
pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    let bias = flag(config, "attention_bias", false)?;
    let mlp_bias = flag(config, "mlp_bias", false)?;
    let family = Family { qkv_bias: bias, o_bias: bias, mlp_bias, ..Family::LLAMA };
    let mut spec = uniform(config, &family)?;
    // Llama has no windows; a list of layer types must agree.
    set_windows(config, &mut spec, None, |_| false)?;
    Ok(spec)
}
