//! SmolLM3: Llama where some layers have no position embedding (NoPE, arXiv 2305.19466).

use millrace_weights::HfConfig;

use super::common::{Family, flag, opt_in_window, set_windows, uniform};
use super::{Mixer, ModelSpec};
use crate::ModelError;

/// Reads a `SmolLM3ForCausalLM` configuration.
pub(super) fn spec(config: &HfConfig) -> Result<ModelSpec, ModelError> {
    let bias = flag(config, "attention_bias", false)?;
    let family = Family {
        name: "smollm3",
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: flag(config, "mlp_bias", false)?,
        tied_head: true,
        rope_theta: 2_000_000.0,
        ..Family::LLAMA
    };
    let mut spec = uniform(config, &family)?;
    let rotates = rotating_layers(config, spec.layers.len())?;
    for (layer, rotates) in spec.layers.iter_mut().zip(&rotates) {
        let Mixer::Gqa(gqa) = &mut layer.mixer;
        gqa.rope.take_if(|_| !rotates);
    }
    let window = opt_in_window(config, None)?;
    set_windows(config, &mut spec, window, |layer| !rotates[layer])?;
    Ok(spec)
}

/// `no_rope_layers` holds a 1 for each layer *with* rotation; without that list every n-th layer has none.
fn rotating_layers(config: &HfConfig, layers: usize) -> Result<Vec<bool>, ModelError> {
    let Some(list) = config.opt_list("no_rope_layers")? else {
        let interval = config.opt_usize("no_rope_layer_interval")?.unwrap_or(4);
        return Ok((1..=layers).map(|number| interval == 0 || number % interval != 0).collect());
    };
    let rotates: Option<Vec<bool>> = list.iter().take(layers).map(|v| v.as_u64().map(|v| v != 0)).collect();
    rotates.filter(|rotates| rotates.len() == layers).ok_or_else(|| {
        config.error("no_rope_layers", format!("must hold a 0 or a 1 for each of the {layers} layers")).into()
    })
}
