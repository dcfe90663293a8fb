//! Reads the rotary embedding from config.json: `rope_theta` and `rope_scaling` (transformers up to 4), or
//! `rope_parameters` (from 5 on), whose fields are the same.

use millrace_weights::HfConfig;

use super::{RopeScaling, RopeSpec};
use crate::ModelError;

/// Everything that may stand in the object. Any other key could change results and is refused.
const KNOWN: &[&str] = &[
    "type",
    "rope_type",
    "rope_theta",
    "partial_rotary_factor",
    "factor",
    "original_max_position_embeddings",
    "low_freq_factor",
    "high_freq_factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    // Says how a YaRN model was made; changes nothing.
    "finetuned",
];

/// A rotary embedding and how far it reaches.
pub(super) struct Rope {
    pub(super) spec: RopeSpec,
    /// Longest sequence, the extension included.
    pub(super) max_positions: usize,
}

/// Reads the embedding for heads of `head_dim`; `context` is `max_position_embeddings`.
pub(super) fn read(
    config: &HfConfig,
    head_dim: usize,
    context: usize,
    default_theta: f64,
) -> Result<Rope, ModelError> {
    // As in transformers: rope_scaling wins where both are there.
    let object = match config.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => config.object("rope_parameters")?,
    };
    let theta = config.opt_f64("rope_theta")?.unwrap_or(default_theta);
    read_object(config, object.as_ref(), head_dim, context, theta)
}

/// The embedding of one kind of layers, where a model has two: the object of that kind in `rope_parameters`, or, as
/// transformers up to 4 had it, the base alone, in the field `theta_key`. `scaled`: `rope_scaling` is about this kind.
pub(super) fn read_kind(
    config: &HfConfig,
    (kind, theta_key, scaled): (&str, &str, bool),
    head_dim: usize,
    context: usize,
    default_theta: f64,
) -> Result<Rope, ModelError> {
    let kinds = config.object("rope_parameters")?;
    let object = match &kinds {
        Some(kinds) => kinds.object(kind)?,
        None if scaled => config.object("rope_scaling")?,
        None => None,
    };
    let theta = config.opt_f64(theta_key)?.unwrap_or(default_theta);
    read_object(config, object.as_ref(), head_dim, context, theta)
}

/// Reads `object`, which may bring a base of its own.
fn read_object(
    config: &HfConfig,
    object: Option<&HfConfig>,
    head_dim: usize,
    context: usize,
    theta: f64,
) -> Result<Rope, ModelError> {
    let theta = object.map(|o| o.opt_f64("rope_theta")).transpose()?.flatten().unwrap_or(theta);
    if theta <= 1.0 {
        return Err(config.error("rope_theta", format!("is {theta} and must be greater than 1")).into());
    }
    for place in object.into_iter().chain([config]) {
        let part = place.opt_f64("partial_rotary_factor")?.unwrap_or(1.0);
        if part != 1.0 {
            let problem = format!("is {part}; this architecture rotates whole heads (1.0)");
            return Err(place.error("partial_rotary_factor", problem).into());
        }
    }
    let (scaling, max_positions) = match object {
        Some(object) => scaling(config, object, context)?,
        None => (RopeScaling::None, context),
    };
    Ok(Rope { spec: RopeSpec { theta: theta as f32, dim: head_dim, scaling }, max_positions })
}

/// The extension and the context that it reaches. What vLLM does with `factor`: it multiplies the context that it
/// refers to, except for Llama 3.1, whose `max_position_embeddings` is the extended one already.
fn scaling(config: &HfConfig, object: &HfConfig, context: usize) -> Result<(RopeScaling, usize), ModelError> {
    if let Some(unknown) = object.keys().find(|key| !KNOWN.contains(key)) {
        let problem = "is not known for a rotary embedding and might change results".to_string();
        return Err(object.error(unknown, problem).into());
    }
    let kind = match object.opt_str("rope_type")? {
        Some(kind) => Some(kind),
        None => object.opt_str("type")?,
    };
    // Some configurations name the original context beside the object; that one wins, as in transformers.
    let original = match config.opt_usize("original_max_position_embeddings")? {
        Some(original) => original,
        None => object.opt_usize("original_max_position_embeddings")?.unwrap_or(context),
    };
    if original == 0 {
        return Err(object.error("original_max_position_embeddings", "is 0 and must be at least 1").into());
    }
    match kind.unwrap_or("default") {
        "default" => Ok((RopeScaling::None, context)),
        // Dynamic NTK leaves the frequencies alone up to the context of pre-training. Beyond it they would depend on
        // the length of each sequence and cached keys would be of another length's kind; so that is where we stop.
        "dynamic" => Ok((RopeScaling::None, context)),
        "linear" => {
            let factor = factor(object)?;
            Ok((RopeScaling::Linear { factor: factor as f32 }, extended(context, factor)))
        }
        "llama3" => Ok((llama3(object, original)?, context)),
        "yarn" => {
            let factor = match object.opt_f64("factor")? {
                Some(_) => factor(object)?,
                None => context as f64 / original as f64,
            };
            Ok((yarn(object, factor, original)?, extended(original, factor).max(context)))
        }
        other => {
            let problem = format!(
                "{other:?} is not supported; supported are default, linear, dynamic, llama3 and yarn"
            );
            Err(object.error("rope_type", problem).into())
        }
    }
}

fn llama3(object: &HfConfig, original_context: usize) -> Result<RopeScaling, ModelError> {
    let low_freq_factor = positive(object, "low_freq_factor", None)?;
    let high_freq_factor = positive(object, "high_freq_factor", None)?;
    if high_freq_factor <= low_freq_factor {
        return Err(object.error("high_freq_factor", "must be greater than low_freq_factor").into());
    }
    Ok(RopeScaling::Llama3 {
        factor: factor(object)? as f32,
        low_freq_factor: low_freq_factor as f32,
        high_freq_factor: high_freq_factor as f32,
        original_context,
    })
}

fn yarn(object: &HfConfig, factor: f64, original_context: usize) -> Result<RopeScaling, ModelError> {
    let beta_fast = positive(object, "beta_fast", Some(32.0))?;
    let beta_slow = positive(object, "beta_slow", Some(1.0))?;
    let attention_factor = match object.opt_f64("attention_factor")? {
        Some(_) => positive(object, "attention_factor", None)?,
        None => yarn_magnitude(factor, object.opt_f64("mscale")?, object.opt_f64("mscale_all_dim")?),
    };
    Ok(RopeScaling::Yarn {
        factor: factor as f32,
        beta_fast: beta_fast as f32,
        beta_slow: beta_slow as f32,
        attention_factor: attention_factor as f32,
        original_context,
        truncate: object.opt_bool("truncate")?.unwrap_or(true),
    })
}

/// YaRN's default for the attention factor, and DeepSeek's variant with two scales.
fn yarn_magnitude(factor: f64, mscale: Option<f64>, mscale_all_dim: Option<f64>) -> f64 {
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    match (mscale, mscale_all_dim) {
        (Some(a), Some(b)) if a != 0.0 && b != 0.0 => magnitude(a) / magnitude(b),
        _ => magnitude(1.0),
    }
}

fn factor(object: &HfConfig) -> Result<f64, ModelError> {
    let factor = object.f64("factor")?;
    if !(1.0..=1e6).contains(&factor) {
        return Err(object.error("factor", format!("is {factor} and must be between 1 and 1000000")).into());
    }
    Ok(factor)
}

fn positive(object: &HfConfig, key: &str, default: Option<f64>) -> Result<f64, ModelError> {
    let value = match (object.opt_f64(key)?, default) {
        (Some(value), _) | (None, Some(value)) => value,
        (None, None) => object.f64(key)?,
    };
    if value <= 0.0 {
        return Err(object.error(key, format!("is {value} and must be greater than 0")).into());
    }
    Ok(value)
}

fn extended(context: usize, factor: f64) -> usize {
    (context as f64 * factor).min(f64::from(u32::MAX)) as usize
}
