//! A model of the registry: found, described, and put up by the way of all commands.

use std::sync::{Mutex, PoisonError};

use anyhow::Result;
use millrace_api::SamplingDefaults;
use millrace_model::ModelSpec;
use millrace_model::spec::encoder::PoolingTask;
use millrace_server::{
    Abilities, LoadError, LoadedModel, MemoryNeed, ModelDetails, ModelKind, ModelParts, ModelPlan,
    ModelSource,
};
use millrace_weights::ModelFiles;

use super::footprint;
use crate::args::{EngineArgs, ModelArgs, ParserArgs, QuantizeFormat};
use crate::load::{self, Model};
use crate::pooling::{self, PoolingModel};
use crate::{memory, one_sentence, pipeline};

/// Where a model comes from, and its settings.
#[derive(Debug)]
pub(super) struct Source {
    /// Folder, Hub id or name of a built-in model; `None` is the demo.
    pub(super) model: Option<String>,
    pub(super) args: ModelArgs,
    pub(super) parsers: ParserArgs,
    pub(super) engine: EngineArgs,
    /// What goes before the model's own defaults.
    pub(super) sampling: SamplingDefaults,
    /// Free memory by which the size of the KV cache goes; `None`: what is free at the time.
    pub(super) free: Option<u64>,
    /// Whether failures go to the log; not if they end the program, which then tells them itself.
    pub(super) logs_failures: bool,
    /// What planning has read and loading needs.
    pub(super) found: Mutex<Option<Found>>,
}

/// A model that was found and read but for its weights.
#[derive(Debug)]
pub(super) struct Found {
    model: Kind,
    parts: ModelParts,
}

/// Both kinds of models.
#[derive(Debug)]
enum Kind {
    Writes(Model),
    Pools(PoolingModel),
}

impl ModelSource for Source {
    fn plan(&self) -> Result<ModelPlan, LoadError> {
        let (found, plan) = self.look().map_err(|error| self.told(&error))?;
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        Ok(plan)
    }

    fn load(&self, plan: &ModelPlan) -> Result<LoadedModel, LoadError> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.put_up(found, plan).map_err(|error| self.told(&error))
    }
}

impl Source {
    /// Finds the model and reads all but its weights.
    pub(super) fn look(&self) -> Result<(Found, ModelPlan)> {
        let found = self.find()?;
        let plan = match &found.model {
            Kind::Writes(model) => {
                let free = || self.free.unwrap_or_else(memory::available);
                let memory = footprint::of(model, &self.args, &self.engine, free)?;
                ModelPlan {
                    memory,
                    max_model_len: self.max_model_len(&model.spec, &memory),
                    abilities: Abilities::of(&found.parts),
                    details: self.details(model)?,
                }
            }
            Kind::Pools(model) => self.plan_pooling(model)?,
        };
        Ok((found, plan))
    }

    fn plan_pooling(&self, model: &PoolingModel) -> Result<ModelPlan> {
        let spec = &model.spec;
        let kind = match spec.task {
            PoolingTask::Embed { .. } => ModelKind::Embeds,
            PoolingTask::Classify(_) => ModelKind::Classifies,
        };
        Ok(ModelPlan {
            memory: footprint::of_pooling(model, &self.args, &self.engine)?,
            max_model_len: pooling::max_model_len(spec, &self.engine),
            abilities: Abilities { kind, ..Abilities::default() },
            details: ModelDetails {
                family: spec.body.family.to_owned(),
                parameters: spec.param_count(),
                quantization: self.quantization(&model.files, spec.param_count())?,
                hidden: spec.body.hidden,
                layers: spec.body.blocks.len(),
                vocab: spec.body.vocab,
            },
        })
    }

    fn told(&self, error: &anyhow::Error) -> LoadError {
        let sentence = one_sentence(error);
        if self.logs_failures {
            tracing::error!("a model can't be loaded: {sentence}");
        }
        LoadError(sentence)
    }

    fn find(&self) -> Result<Found> {
        let (name, files) = load::located(self.model.as_deref(), &self.args)?;
        if let Some(spec) = pooling::describe(&files, &self.args)? {
            let model = PoolingModel { name, files, spec };
            let parts = pooling::parts(&model, &self.args)?;
            return Ok(Found { model: Kind::Pools(model), parts });
        }
        let model = load::described(self.model.is_none(), name, files, &self.args)?;
        let mut parts = pipeline::parts(&model, Vec::new(), &self.args, &self.parsers)?;
        parts.defaults = over(&self.sampling, &parts.defaults);
        Ok(Found { model: Kind::Writes(model), parts })
    }

    fn put_up(&self, found: Option<Found>, plan: &ModelPlan) -> Result<LoadedModel> {
        let Found { model, parts } = match found {
            Some(found) => found,
            None => self.find()?,
        };
        let running = match &model {
            Kind::Writes(model) => load::start(model, &self.args, &self.engine, Some(plan.memory.kv))?.engine,
            Kind::Pools(model) => pooling::start(model, &self.args, &self.engine)?,
        };
        let handle = running.handle.clone();
        let stop = move || {
            running.handle.shutdown();
            let sound = running.join();
            memory::give_back();
            sound
        };
        Ok(LoadedModel { parts, engine: handle, stop: Box::new(stop) })
    }

    /// What the engine will find out for itself.
    fn max_model_len(&self, spec: &ModelSpec, memory: &MemoryNeed) -> usize {
        let block = spec.kv_spec(0, self.engine.block_size, load::kv_dtype(&self.engine)).block_bytes();
        let blocks = usize::try_from(memory.kv).unwrap_or(usize::MAX) / block.max(1);
        let capacity = blocks.saturating_sub(1).saturating_mul(self.engine.block_size);
        self.engine.max_model_len.unwrap_or(spec.max_positions.min(capacity))
    }

    fn details(&self, model: &Model) -> Result<ModelDetails> {
        let spec = &model.spec;
        Ok(ModelDetails {
            family: spec.family.to_owned(),
            parameters: spec.param_count(),
            quantization: self.quantization(&model.files, spec.param_count())?,
            hidden: spec.hidden,
            layers: spec.layers.len(),
            vocab: spec.vocab,
        })
    }

    /// How the weights are kept.
    fn quantization(&self, files: &ModelFiles, params: u64) -> Result<String> {
        Ok(match self.args.quantize {
            QuantizeFormat::Q8 => "Q8".to_owned(),
            QuantizeFormat::Q4 => "Q4".to_owned(),
            QuantizeFormat::None => footprint::stored_as(files, params, self.args.load_format)?,
        })
    }
}

/// What `first` says, else what `then` says.
pub(super) fn over(first: &SamplingDefaults, then: &SamplingDefaults) -> SamplingDefaults {
    SamplingDefaults {
        temperature: first.temperature.or(then.temperature),
        top_p: first.top_p.or(then.top_p),
        top_k: first.top_k.or(then.top_k),
        min_p: first.min_p.or(then.min_p),
        typical_p: first.typical_p.or(then.typical_p),
        repetition_penalty: first.repetition_penalty.or(then.repetition_penalty),
        max_tokens: first.max_tokens.or(then.max_tokens),
    }
}
