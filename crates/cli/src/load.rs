//! From a model's name to a running engine: the one way for all commands.

use std::path::Path;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use millrace_backend::{Backend, KvDtype, WeightFormat};
use millrace_backend_cpu::CpuBackend;
use millrace_engine::{Engine, EngineConfig, Policy};
use millrace_model::{
    Decoder, DummyWeights, LoadOptions, LoadReport, ModelError, ModelSpec, Progress, WeightSource, spec,
};
use millrace_weights::{HfConfig, HubOptions, ModelFiles};

use crate::args::{
    Device, EngineArgs, KvCacheDtype, LoadFormat, ModelArgs, QuantizeFormat, SchedulingPolicy,
};
use crate::{embedded, memory, pooling};

/// Memory for the logits of one slice of a step's sampled rows.
const LOGITS_BYTES: usize = 64 << 20;

/// A model that was found and described, but not loaded.
#[derive(Debug)]
pub(crate) struct Model {
    /// As the user wrote it; [`embedded::DEMO_NAME`] for the demo.
    pub(crate) name: String,
    /// Whether nobody named a model.
    pub(crate) is_demo: bool,
    /// Its files.
    pub(crate) files: ModelFiles,
    /// What it is.
    pub(crate) spec: ModelSpec,
}

/// A model in an engine.
#[derive(Debug)]
pub(crate) struct Running {
    /// The thread and the way in.
    pub(crate) engine: Engine,
    /// What loading found out.
    pub(crate) report: LoadReport,
}

/// Finds a model: a folder, a Hub id (downloaded if need be), or the built-in demo.
///
/// It has to be one that writes text; [`pooling::describe`] tells the others.
pub(crate) fn find(model: Option<&str>, args: &ModelArgs) -> Result<Model> {
    let (name, files) = located(model, args)?;
    if pooling::describe(&files, args)?.is_some() {
        bail!("{name} makes embeddings or scores and writes no text; put it up with `millrace serve`");
    }
    described(model.is_none(), name, files, args)
}

/// A model's name and files.
pub(crate) fn located(model: Option<&str>, args: &ModelArgs) -> Result<(String, ModelFiles)> {
    Ok(match model {
        None => (embedded::DEMO_NAME.to_owned(), embedded::DEMO),
        Some(name) => (name.to_owned(), files(name, Some(&args.revision), args.load_format)?),
    })
}

/// A model that writes text, by its files.
pub(crate) fn described(is_demo: bool, name: String, files: ModelFiles, args: &ModelArgs) -> Result<Model> {
    let spec = spec::from_config(&config(&files, args)?)?;
    Ok(Model { name, is_demo, files, spec })
}

/// A model's `config.json` with what the user has set over it.
pub(crate) fn config(files: &ModelFiles, args: &ModelArgs) -> Result<HfConfig> {
    let config = files.config()?;
    Ok(match &args.hf_overrides {
        Some(settings) => config.with_overrides(settings)?,
        None => config,
    })
}

/// The files of a named model.
pub(crate) fn files(name: &str, revision: Option<&str>, format: LoadFormat) -> Result<ModelFiles> {
    if let Some(built_in) = embedded::find(name) {
        return Ok(built_in);
    }
    let path = Path::new(name);
    // Random weights need no download of the real ones: any folder with a config.json will do.
    if format == LoadFormat::Dummy && path.exists() {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        return Ok(ModelFiles::Folder(folder.to_owned()));
    }
    Ok(ModelFiles::Folder(millrace_weights::resolve(name, revision, &HubOptions::from_env()?)?))
}

/// Loads a model's weights and starts its engine, with so many bytes of KV cache if that was planned.
pub(crate) fn start(
    model: &Model,
    args: &ModelArgs,
    engine: &EngineArgs,
    planned_kv: Option<u64>,
) -> Result<Running> {
    start_on(model, args, engine, planned_kv, |cpu| Box::new(cpu))
}

/// The same with the loaded backend in something of the caller's.
pub(crate) fn start_on(
    model: &Model,
    args: &ModelArgs,
    engine: &EngineArgs,
    planned_kv: Option<u64>,
    wrap: impl FnOnce(CpuBackend) -> Box<dyn Backend>,
) -> Result<Running> {
    let mut backend = match engine.device {
        Device::Auto | Device::Cpu => CpuBackend::new(engine.threads)?,
    };
    let (decoder, report) = load_weights(model, args, engine, &mut backend)?;
    for warning in report.warnings() {
        tracing::warn!("{warning}");
    }
    let config = engine_config(engine, &model.spec, planned_kv);
    let engine = millrace_engine::start(wrap(backend), decoder, &model.spec, &config)?;
    Ok(Running { engine, report })
}

fn load_weights(
    model: &Model,
    args: &ModelArgs,
    engine: &EngineArgs,
    backend: &mut CpuBackend,
) -> Result<(Decoder, LoadReport)> {
    let source: Box<dyn WeightSource> = match args.load_format {
        LoadFormat::Auto => Box::new(model.files.checkpoint()?),
        LoadFormat::Dummy => Box::new(DummyWeights::new(engine.seed.unwrap_or(0))),
    };
    let options = options(&model.spec, args, engine);
    with_bar(&model.name, |progress| Decoder::load(&model.spec, &*source, backend, options, progress))
}

/// Loads weights under a progress bar.
pub(crate) fn with_bar<T>(
    name: &str,
    load: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, ModelError>,
) -> Result<T> {
    let bar = progress_bar(format!("loading {name}"));
    let loaded = load(&mut |progress| {
        if bar.length() != Some(progress.total) {
            bar.set_length(progress.total);
        }
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    loaded.with_context(|| format!("{name} cannot be loaded"))
}

/// Weight format, and how large a step may be.
pub(crate) fn options(spec: &ModelSpec, args: &ModelArgs, engine: &EngineArgs) -> LoadOptions {
    let max_logit_rows = LOGITS_BYTES / (spec.vocab * size_of::<f32>());
    LoadOptions {
        format: weight_format(args.quantize),
        max_tokens: engine.max_num_batched_tokens,
        max_logit_rows: max_logit_rows.clamp(8, 256).min(engine.max_num_batched_tokens),
    }
}

fn engine_config(args: &EngineArgs, spec: &ModelSpec, planned_kv: Option<u64>) -> EngineConfig {
    let kv_dtype = kv_dtype(args);
    let kv_cache_memory = planned_kv.unwrap_or_else(|| kv_cache_memory(args, spec, memory::available));
    EngineConfig {
        max_model_len: args.max_model_len,
        max_num_seqs: args.max_num_seqs,
        max_num_batched_tokens: args.max_num_batched_tokens,
        block_size: args.block_size,
        kv_cache_memory,
        // What the user set aside is there when requests come; a default only grows as far as they need it.
        commit_kv: args.kv_cache_memory.is_some(),
        kv_dtype,
        prefix_caching: !args.no_enable_prefix_caching,
        policy: policy(args),
        max_queued: args.max_num_queued_reqs,
        seed: args.seed,
    }
}

/// Order of the queue.
pub(crate) fn policy(args: &EngineArgs) -> Policy {
    match args.scheduling_policy {
        SchedulingPolicy::Fcfs => Policy::Fcfs,
        SchedulingPolicy::Priority => Policy::Priority,
    }
}

/// Bytes for the KV cache, if nobody says with so much memory `free`.
pub(crate) fn kv_cache_memory(args: &EngineArgs, spec: &ModelSpec, free: impl FnOnce() -> u64) -> u64 {
    let max_model_len = args.max_model_len.unwrap_or(spec.max_positions).min(spec.max_positions);
    args.kv_cache_memory.unwrap_or_else(|| {
        let per_token = spec.kv_bytes_per_token(kv_dtype(args)) as u64;
        memory::default_kv_bytes(free(), per_token, args.block_size, args.max_num_seqs, max_model_len)
    })
}

/// The KV cache's number format; `auto` is half the memory of 32-bit floats.
pub(crate) fn kv_dtype(args: &EngineArgs) -> KvDtype {
    match args.kv_cache_dtype {
        KvCacheDtype::F32 => KvDtype::F32,
        KvCacheDtype::Int8 => KvDtype::Int8,
        KvCacheDtype::Auto | KvCacheDtype::Bf16 => KvDtype::Bf16,
    }
}

pub(crate) fn weight_format(quantize: QuantizeFormat) -> WeightFormat {
    let group = millrace_backend::GROUP;
    match quantize {
        QuantizeFormat::None => WeightFormat::Native,
        QuantizeFormat::Q8 => WeightFormat::Quantize { bits: 8, group },
        QuantizeFormat::Q4 => WeightFormat::Quantize { bits: 4, group },
    }
}

/// On standard error, if that is a terminal.
pub(crate) fn progress_bar(message: String) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(message);
    match ProgressStyle::with_template("{msg} {bar:30} {percent:>3} % {eta}") {
        Ok(style) => bar.with_style(style),
        // The bar is decoration: a template it doesn't take is no reason to stop.
        Err(_) => bar,
    }
}

/// The spec of one of the shapes in `bench/shapes`.
#[cfg(test)]
pub(crate) fn shape_spec(name: &str) -> ModelSpec {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../bench/shapes").join(name);
    spec::from_config(&ModelFiles::Folder(folder).config().unwrap()).unwrap()
}
