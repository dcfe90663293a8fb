//! What the registry has to know of a model, and where it gets it from.

use std::{fmt, time::Duration};

use millrace_engine::{EngineHandle, PoolingInfo, PoolingTask};

use crate::{ModelParts, ServedModel};

/// Where a model comes from. Both calls block, and come one at a time from the registry's own thread.
pub trait ModelSource: fmt::Debug + Send + Sync {
    /// Finds the model and works out what it takes, before anything is loaded.
    ///
    /// # Errors
    /// There is no such model, or its files or settings can't be used.
    fn plan(&self) -> Result<ModelPlan, LoadError>;

    /// Loads the model and starts its engine, with the memory of `plan`.
    ///
    /// # Errors
    /// The weights can't be read, or there is no memory for them.
    fn load(&self, plan: &ModelPlan) -> Result<LoadedModel, LoadError>;
}

/// Why a model can't be put up, in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// What a model takes and is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelPlan {
    /// Memory while it is loaded.
    pub memory: MemoryNeed,
    /// Prompt and output together, in tokens.
    pub max_model_len: usize,
    /// What clients may ask of it.
    pub abilities: Abilities,
    /// What it is, for people.
    pub details: ModelDetails,
}

/// Bytes of memory that a loaded model takes, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights as they lie in memory.
    pub weights: u64,
    /// The KV cache.
    pub kv: u64,
    /// Activations of one step, and what else an engine keeps.
    pub activations: u64,
}

impl MemoryNeed {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.activations)
    }
}

/// What clients may ask of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Conversations: it has a chat template.
    pub chat: bool,
    /// Tool calls, which are found in its answers.
    pub tools: bool,
    /// Reasoning, which is told apart from its answers.
    pub thinking: bool,
    /// What it does.
    pub kind: ModelKind,
}

/// What a model does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ModelKind {
    /// It writes text.
    #[default]
    Generates,
    /// It makes embeddings of texts.
    Embeds,
    /// It gives scores to texts, or to pairs of texts.
    Classifies,
}

impl Abilities {
    /// Of a model with these parts.
    pub fn of(parts: &ModelParts) -> Self {
        Self {
            chat: parts.template.is_some(),
            tools: parts.template.is_some() && parts.families.tool().is_some(),
            thinking: parts.template.is_some() && parts.families.reasoning().is_some(),
            kind: ModelKind::Generates,
        }
    }

    /// Of a model that is loaded.
    pub(crate) fn of_loaded(model: &ServedModel) -> Self {
        let kind = match &model.engine.info().pooling {
            None => ModelKind::Generates,
            Some(PoolingInfo { task: PoolingTask::Embed { .. }, .. }) => ModelKind::Embeds,
            Some(PoolingInfo { task: PoolingTask::Classify(_), .. }) => ModelKind::Classifies,
        };
        Self { kind, ..Self::of(&model.parts) }
    }

    /// As `/v1/models` and Ollama's clients have them. Every model that writes completes text.
    pub fn names(self) -> Vec<&'static str> {
        match self.kind {
            ModelKind::Generates => {}
            ModelKind::Embeds => return vec!["embedding"],
            ModelKind::Classifies => return vec!["classification"],
        }
        let more = [(self.chat, "chat"), (self.tools, "tools"), (self.thinking, "thinking")];
        let more = more.into_iter().filter_map(|(is, name)| is.then_some(name));
        ["completion"].into_iter().chain(more).collect()
    }
}

/// What a model is, for people and for Ollama's clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelDetails {
    /// The family, such as `qwen3`.
    pub family: String,
    /// Number of weights.
    pub parameters: u64,
    /// How the weights are kept, such as `q8`.
    pub quantization: String,
    /// Width of the hidden state.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Size of the vocabulary.
    pub vocab: usize,
}

/// A model whose engine runs.
pub struct LoadedModel {
    /// Names, tokenizer, template, defaults.
    pub parts: ModelParts,
    /// Where its requests go.
    pub engine: EngineHandle,
    /// Ends the engine and gives its memory back; returns when that is done. False if the engine had failed.
    pub stop: Stop,
}

/// What ends an engine.
pub type Stop = Box<dyn FnOnce() -> bool + Send>;

impl fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedModel").field("names", &self.parts.names).finish_non_exhaustive()
    }
}

/// A model of the registry.
#[derive(Debug)]
pub struct ModelEntry {
    /// Names that requests may use; the first one stands in metrics. Differ between entries.
    pub names: Vec<String>,
    /// Where the weights come from: a path or a Hub id.
    pub root: String,
    /// Where it comes from.
    pub source: Box<dyn ModelSource>,
    /// What is known of it already, if it was looked at.
    pub plan: Option<ModelPlan>,
    /// When it is there.
    pub residence: Residence,
}

/// When a model is loaded and unloaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Residence {
    /// Loaded at start instead of on its first use.
    pub at_start: bool,
    /// Never unloaded to make room, or for being idle.
    pub pin: bool,
    /// Unloaded after so much time without a request.
    pub idle_unload: Option<Duration>,
}
