//! How much memory a model will take, told from its configuration and the headers of its weights.

use anyhow::Result;
use millrace_backend::{Encoding, GROUP};
use millrace_model::ModelSpec;
use millrace_model::spec::{FeedForward, Mixer};
use millrace_server::MemoryNeed;
use millrace_weights::{Checkpoint, ModelFiles, QuantizationConfig};

use crate::args::{EngineArgs, LoadFormat, ModelArgs};
use crate::load::{self, Model};
use crate::pooling::{self, PoolingModel};

/// What an engine keeps besides: thread stacks, scratch memory of kernels, tokenizer and template. Measured with the
/// embedded models; a tokenizer of 150,000 tokens takes about as much again.
const BASE: u64 = 24 << 20;

/// The bytes that `model` takes with these settings, where `free` bytes are free for a KV cache whose size nobody says.
pub(super) fn of(
    model: &Model,
    args: &ModelArgs,
    engine: &EngineArgs,
    free: impl FnOnce() -> u64,
) -> Result<MemoryNeed> {
    let options = load::options(&model.spec, args, engine);
    let native = encoding(&model.files, model.spec.param_count(), args.load_format)?;
    let weights = model.spec.weight_bytes(options.format, native);
    let kv = load::kv_cache_memory(engine, &model.spec, || free().saturating_sub(weights));
    let step = step_bytes(&model.spec, options.max_tokens, options.max_logit_rows);
    Ok(MemoryNeed { weights, kv, activations: BASE.saturating_add(step) })
}

/// The same for a model that pools: it has no cache, and a step holds its longest text.
pub(super) fn of_pooling(model: &PoolingModel, args: &ModelArgs, engine: &EngineArgs) -> Result<MemoryNeed> {
    let options = pooling::options(&model.spec, args, engine);
    let native = encoding(&model.files, model.spec.param_count(), args.load_format)?;
    let weights = model.spec.weight_bytes(options.format, native);
    let step = (options.max_tokens * model.spec.floats_per_token() * size_of::<f32>()) as u64;
    Ok(MemoryNeed { weights, kv: 0, activations: BASE.saturating_add(step) })
}

/// How most of a model's weights are stored, for people; `params` is their number.
pub(super) fn stored_as(files: &ModelFiles, params: u64, format: LoadFormat) -> Result<String> {
    Ok(match encoding(files, params, format)? {
        Encoding::F32 => "F32".to_owned(),
        Encoding::F16 | Encoding::Bf16 => "BF16".to_owned(),
        Encoding::Affine { bits, .. } => format!("Q{bits}"),
    })
}

/// How most of the weights are stored.
fn encoding(files: &ModelFiles, params: u64, format: LoadFormat) -> Result<Encoding> {
    if format == LoadFormat::Dummy {
        return Ok(Encoding::Bf16);
    }
    let checkpoint = files.checkpoint()?;
    Ok(match checkpoint.quantization() {
        Some(config) => quantized(config),
        None => dense(&checkpoint, params),
    })
}

fn quantized(config: &QuantizationConfig) -> Encoding {
    let default = config.of("");
    match default.group_size >= GROUP {
        true => Encoding::Affine { bits: if default.bits <= 4 { 4 } else { 8 }, group: default.group_size },
        // Smaller groups are read as floats.
        false => Encoding::F32,
    }
}

/// 32-bit floats or half of that, as the sizes of the files say.
fn dense(checkpoint: &Checkpoint, params: u64) -> Encoding {
    let is_wide = checkpoint.total_bytes() > params.saturating_mul(3);
    if is_wide { Encoding::F32 } else { Encoding::Bf16 }
}

/// Bytes of activations for steps of so many tokens and sampled rows: what the decoder allocates, and a copy of the
/// widest input in the form that kernels read.
fn step_bytes(spec: &ModelSpec, tokens: usize, sampled: usize) -> u64 {
    let (mut attention, mut feed_forward, mut widest) = (0, 0, spec.hidden);
    for layer in &spec.layers {
        let Mixer::Gqa(gqa) = &layer.mixer;
        let FeedForward::Dense(dense) = &layer.ffn;
        attention = attention.max(gqa.heads.fused_cols() + gqa.heads.q_cols());
        feed_forward = feed_forward.max(3 * dense.inner);
        widest = widest.max(dense.inner).max(gqa.heads.q_cols());
    }
    let of_tokens = tokens as u64 * (3 * spec.hidden + attention + feed_forward + widest) as u64;
    // Logits, and as much again to sort them.
    let of_samples = sampled as u64 * (3 * spec.hidden + spec.vocab) as u64 + 2 * spec.vocab as u64;
    (of_tokens + of_samples) * size_of::<f32>() as u64
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};
    use millrace_backend::Backend;
    use millrace_backend_cpu::CpuBackend;
    use millrace_model::Decoder;

    use super::*;
    use crate::args::ModelFlags;

    fn flags(given: &[&str]) -> ModelFlags {
        let command = ModelFlags::augment_args(clap::Command::new("model").no_binary_name(true));
        ModelFlags::from_arg_matches(&command.get_matches_from(given)).unwrap()
    }

    #[test]
    fn weights_are_what_loading_finds() {
        let flags = flags(&["--kv-cache-memory", "10M"]);
        for name in ["millrace-demo", "millrace-demo-draft"] {
            let model = load::find(Some(name), &flags.model_args).unwrap();
            let need = of(&model, &flags.model_args, &flags.engine, || 0).unwrap();
            let mut backend = CpuBackend::new(Some(1)).unwrap();
            let options = load::options(&model.spec, &flags.model_args, &flags.engine);
            let checkpoint = model.files.checkpoint().unwrap();
            let (_, report) =
                Decoder::load(&model.spec, &checkpoint, &mut backend, options, &mut |_| ()).unwrap();
            assert!(!backend.describe().is_empty());
            let ratio = need.weights as f64 / report.weight_bytes as f64;
            assert!((0.98..1.1).contains(&ratio), "{name}: {need:?} {}", report.weight_bytes);
            assert_eq!(need.kv, 10 << 20);
        }
    }

    #[test]
    fn a_smaller_step_takes_less() {
        let model = load::find(Some("millrace-demo"), &flags(&[]).model_args).unwrap();
        assert!(step_bytes(&model.spec, 64, 8) < step_bytes(&model.spec, 512, 64) / 4);
    }
}
