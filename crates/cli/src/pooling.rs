//! Models that read whole texts and give embeddings or scores: found, described, started.

use anyhow::Result;
use millrace_backend_cpu::CpuBackend;
use millrace_engine::{Engine, PoolingConfig, start_pooling};
use millrace_model::spec::encoder::{self, Judge, PoolingSpec, PoolingTask, Sentence};
use millrace_model::{DummyWeights, Encoder, LoadOptions, WeightSource, WithParts};
use millrace_parse::Families;
use millrace_server::ModelParts;
use millrace_weights::{Checkpoint, ModelFiles};

use crate::args::{Device, EngineArgs, LoadFormat, ModelArgs, Runner};
use crate::{load, pairs, pipeline};

/// Longest text where nobody says otherwise: a step holds a whole text, and its activations are allocated at start.
const DEFAULT_LEN: usize = 8192;

/// Texts whose heads are computed together.
const HEAD_ROWS: usize = 64;

/// A model that was found and described, but not loaded.
#[derive(Debug)]
pub(crate) struct PoolingModel {
    /// As the user wrote it.
    pub(crate) name: String,
    pub(crate) files: ModelFiles,
    pub(crate) spec: PoolingSpec,
}

/// What these files describe, if it is a model that pools: by its architecture, or, for one that could write text, by
/// the files of sentence-transformers beside it, or because the user says so.
pub(crate) fn describe(files: &ModelFiles, args: &ModelArgs) -> Result<Option<PoolingSpec>> {
    if args.runner == Runner::Generate {
        return Ok(None);
    }
    let config = load::config(files, args)?;
    let judge = match config.value("classifier_from_token") {
        Some(_) => {
            let tokenizer = pipeline::tokenizer(files, args)?;
            Judge::read(&config, |text| tokenizer.token_to_id(text))?
        }
        None => None,
    };
    let pools = args.runner == Runner::Pooling;
    Ok(encoder::describe(&config, Sentence::read(files)?, judge, pools)?)
}

/// What the server needs besides an engine.
pub(crate) fn parts(model: &PoolingModel, args: &ModelArgs) -> Result<ModelParts> {
    let files = pipeline::text_files(&pipeline::text_source(&model.files, args)?)?;
    let pair_template = match model.spec.task {
        PoolingTask::Classify(_) => pairs::template(&model.spec, &files, args.chat_template.as_deref())?,
        PoolingTask::Embed { .. } => None,
    };
    Ok(ModelParts {
        names: vec![model.name.clone()],
        root: model.name.clone(),
        tokenizer: pipeline::tokenizer(&model.files, args)?.into(),
        template: None,
        pair_template,
        defaults: millrace_api::SamplingDefaults::default(),
        eos_token_ids: Vec::new(),
        families: Families::default(),
    })
}

/// Longest text that the engine takes.
pub(crate) fn max_model_len(spec: &PoolingSpec, engine: &EngineArgs) -> usize {
    engine.max_model_len.unwrap_or(spec.body.max_positions.min(DEFAULT_LEN))
}

/// Weight format, and how large a step may be: it has room for the longest text.
pub(crate) fn options(spec: &PoolingSpec, args: &ModelArgs, engine: &EngineArgs) -> LoadOptions {
    LoadOptions {
        format: load::weight_format(args.quantize),
        max_tokens: engine.max_num_batched_tokens.max(max_model_len(spec, engine)),
        max_logit_rows: HEAD_ROWS,
    }
}

/// Loads a model's weights and starts its engine.
pub(crate) fn start(model: &PoolingModel, args: &ModelArgs, engine: &EngineArgs) -> Result<Engine> {
    let mut backend = match engine.device {
        Device::Auto | Device::Cpu => CpuBackend::new(engine.threads)?,
    };
    let source: Box<dyn WeightSource> = match args.load_format {
        LoadFormat::Auto => Box::new(weights(model)?),
        LoadFormat::Dummy => Box::new(DummyWeights::new(engine.seed.unwrap_or(0))),
    };
    let options = options(&model.spec, args, engine);
    let (encoder, report) = load::with_bar(&model.name, |progress| {
        Encoder::load(&model.spec, &*source, &mut backend, options, progress)
    })?;
    for warning in report.warnings() {
        tracing::warn!("{warning}");
    }
    let config = PoolingConfig {
        max_model_len: max_model_len(&model.spec, engine),
        max_num_seqs: engine.max_num_seqs,
        max_num_batched_tokens: options.max_tokens,
        policy: load::policy(engine),
        max_queued: engine.max_num_queued_reqs,
    };
    Ok(start_pooling(Box::new(backend), encoder, model.spec.task.clone(), &config)?)
}

/// The model's checkpoint and those of its parts.
fn weights(model: &PoolingModel) -> Result<WithParts> {
    let mut parts = Vec::new();
    if let (Some(sentence), ModelFiles::Folder(folder)) = (Sentence::read(&model.files)?, &model.files) {
        for part in sentence.parts {
            let file = folder.join(&part.folder).join("model.safetensors");
            parts.push((part.folder, Checkpoint::open_file(&file, None)?));
        }
    }
    Ok(WithParts::new(model.files.checkpoint()?, parts))
}
