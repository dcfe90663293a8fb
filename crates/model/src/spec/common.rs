//! What the families share: reading sizes with bounds, the Llama skeleton, windows, activations.

use millrace_backend::{Activation, HeadLayout};
use millrace_weights::HfConfig;

use super::rope_config;
use super::{Dense, FeedForward, Gqa, LayerSpec, Mixer, ModelSpec, WeightNames};
use crate::ModelError;

/// Bounds on sizes: far above every known model, low enough that products of two stay far from overflow.
pub(super) const MAX_LAYERS: usize = 1 << 12;
const MAX_HEADS: usize = 1 << 12;
const MAX_HEAD_DIM: usize = 1 << 12;
pub(super) const MAX_WIDTH: usize = 1 << 20;
pub(super) const MAX_VOCAB: usize = 1 << 24;

/// What distinguishes a family from plain Llama, and the defaults of its configuration class in transformers, which
/// hold when config.json leaves a field out.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) qkv_bias: bool,
    pub(super) o_bias: bool,
    pub(super) mlp_bias: bool,
    pub(super) qk_norm: bool,
    /// Default head width; `None`: hidden size / query heads.
    pub(super) head_dim: Option<usize>,
    pub(super) tied_head: bool,
    pub(super) rope_theta: f64,
}

impl Family {
    pub(super) const LLAMA: Self = Self {
        name: "llama",
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        head_dim: None,
        tied_head: false,
        rope_theta: 10_000.0,
    };
}

/// Reads a model of identical layers: pre-norm, grouped-query attention over the whole context, rotary embedding,
/// gated feed-forward. A family then changes single layers.
pub(super) fn uniform(config: &HfConfig, family: &Family) -> Result<ModelSpec, ModelError> {
    let hidden = within(config, "hidden_size", None, MAX_WIDTH)?;
    let layers = within(config, "num_hidden_layers", None, MAX_LAYERS)?;
    let eps = eps(config, "rms_norm_eps", 1e-6)?;
    let heads = heads(config, hidden, family.head_dim)?;
    let max_positions = within(config, "max_position_embeddings", None, u32::MAX as usize)?;
    let rope = rope_config::read(config, heads.head_dim, max_positions, family.rope_theta)?;
    let layer = LayerSpec {
        norm_eps: eps,
        mixer: Mixer::Gqa(Gqa {
            heads,
            qkv_bias: family.qkv_bias,
            o_bias: family.o_bias,
            qk_norm: family.qk_norm,
            rope: Some(rope.spec),
            window: None,
            scale: 1.0 / (heads.head_dim as f32).sqrt(),
        }),
        ffn: FeedForward::Dense(Dense {
            gated: true,
            inner: within(config, "intermediate_size", None, MAX_WIDTH)?,
            act: activation(config, "hidden_act", "silu")?,
            bias: family.mlp_bias,
        }),
    };
    Ok(ModelSpec {
        family: family.name,
        vocab: within(config, "vocab_size", None, MAX_VOCAB)?,
        hidden,
        layers: vec![layer; layers],
        final_norm_eps: eps,
        tied_head: flag(config, "tie_word_embeddings", family.tied_head)?,
        max_positions: rope.max_positions,
        names: WeightNames::HUGGING_FACE,
    })
}

/// A boolean setting.
pub(super) fn flag(config: &HfConfig, key: &str, default: bool) -> Result<bool, ModelError> {
    Ok(config.opt_bool(key)?.unwrap_or(default))
}

/// A window size, `None` if it is absent or zero.
pub(super) fn window(config: &HfConfig, default: Option<usize>) -> Result<Option<usize>, ModelError> {
    Ok(config.opt_usize("sliding_window")?.or(default).filter(|window| *window > 0))
}

/// The window of Qwen's line of models: off unless `use_sliding_window` says so.
pub(super) fn opt_in_window(config: &HfConfig, default: Option<usize>) -> Result<Option<usize>, ModelError> {
    if flag(config, "use_sliding_window", false)? { window(config, default) } else { Ok(None) }
}

/// Gives layers their windows: those that `layer_types` calls sliding, or, without that list, those for which
/// `slides` is true.
pub(super) fn set_windows(
    config: &HfConfig,
    spec: &mut ModelSpec,
    window: Option<usize>,
    slides: impl Fn(usize) -> bool,
) -> Result<(), ModelError> {
    let types = config.opt_list("layer_types")?;
    if let Some(types) = types
        && types.len() < spec.layers.len()
    {
        let problem = format!("names {} layers of {}", types.len(), spec.layers.len());
        return Err(config.error("layer_types", problem).into());
    }
    for (index, layer) in spec.layers.iter_mut().enumerate() {
        let Mixer::Gqa(gqa) = &mut layer.mixer;
        gqa.window = match types.map(|types| types[index].as_str().unwrap_or("no text")) {
            None => window.filter(|_| slides(index)),
            Some("full_attention") => None,
            Some("sliding_attention") if window.is_some() => window,
            Some("sliding_attention") => {
                let problem = "has sliding layers, but sliding_window is absent or switched off";
                return Err(config.error("layer_types", problem).into());
            }
            Some(other) => {
                let problem = format!(
                    "has {other:?}; supported for this architecture are full_attention and sliding_attention"
                );
                return Err(config.error("layer_types", problem).into());
            }
        };
    }
    Ok(())
}

/// A size in `1..=max`.
pub(super) fn within(
    config: &HfConfig,
    key: &str,
    default: Option<usize>,
    max: usize,
) -> Result<usize, ModelError> {
    let value = match (config.opt_usize(key)?, default) {
        (Some(value), _) | (None, Some(value)) => value,
        (None, None) => config.usize(key)?,
    };
    if value == 0 || value > max {
        return Err(config.error(key, format!("is {value} and must be between 1 and {max}")).into());
    }
    Ok(value)
}

pub(super) fn heads(
    config: &HfConfig,
    hidden: usize,
    head_dim: Option<usize>,
) -> Result<HeadLayout, ModelError> {
    let q_heads = within(config, "num_attention_heads", None, MAX_HEADS)?;
    let kv_heads = within(config, "num_key_value_heads", Some(q_heads), MAX_HEADS)?;
    let head_dim = within(config, "head_dim", Some(head_dim.unwrap_or(hidden / q_heads)), MAX_HEAD_DIM)?;
    if !q_heads.is_multiple_of(kv_heads) {
        let problem = format!("is {kv_heads} and must divide num_attention_heads = {q_heads}");
        return Err(config.error("num_key_value_heads", problem).into());
    }
    if !head_dim.is_multiple_of(2) {
        return Err(config.error("head_dim", format!("is {head_dim} and must be even")).into());
    }
    if q_heads * head_dim > MAX_WIDTH {
        let problem = format!("times head_dim = {head_dim} must be at most {MAX_WIDTH}");
        return Err(config.error("num_attention_heads", problem).into());
    }
    Ok(HeadLayout { q_heads, kv_heads, head_dim })
}

/// What a norm adds to the mean square.
pub(super) fn eps(config: &HfConfig, key: &str, default: f64) -> Result<f32, ModelError> {
    let eps = config.opt_f64(key)?.unwrap_or(default);
    if !(0.0..1.0).contains(&eps) {
        return Err(config.error(key, format!("is {eps} and must be at least 0 and below 1")).into());
    }
    Ok(eps as f32)
}

/// The activation that `key` names, by transformers' names.
pub(super) fn activation(config: &HfConfig, key: &str, default: &str) -> Result<Activation, ModelError> {
    match config.opt_str(key)?.unwrap_or(default) {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu" => Ok(Activation::Gelu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => {
            let problem =
                format!("{other:?} is not supported; supported are silu, gelu, gelu_pytorch_tanh and relu");
            Err(config.error(key, problem).into())
        }
    }
}
