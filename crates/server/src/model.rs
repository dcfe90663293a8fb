//! A loaded model.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use millrace_api::{Limits, ModelLimits, SamplingDefaults};
use millrace_engine::EngineHandle;
use millrace_grammar::{Grammars, Vocabulary};
use millrace_parse::Families;
use millrace_text::{ChatTemplate, Tokenizer};
use millrace_types::TokenId;

use crate::{
    formats::Formats,
    metrics::ModelMetrics,
    service::{knows_developer, knows_late_system, marks},
};

/// What a model needs besides its engine.
#[derive(Debug)]
pub struct ModelParts {
    /// Names that requests may use; the first one stands in metrics and answers for requests that name none.
    pub names: Vec<String>,
    /// Where the weights come from: a path or a Hub id.
    pub root: String,
    /// Text to tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// `None` for base models: chat requests are refused.
    pub template: Option<Arc<ChatTemplate>>,
    /// Makes one text of a query and a document (roles `query`, `document`, and `system` for an instruction), for models
    /// that give scores to such texts; `None` for those that read pairs, and all others.
    pub pair_template: Option<Arc<ChatTemplate>>,
    /// The model's own sampling defaults.
    pub defaults: SamplingDefaults,
    /// Tokens that end an answer.
    pub eos_token_ids: Vec<TokenId>,
    /// How it writes tool calls and reasoning.
    pub families: Families,
}

/// A model that answers.
#[derive(Debug)]
pub struct ServedModel {
    /// Names, tokenizer, template, defaults.
    pub parts: ModelParts,
    /// Where its requests go.
    pub engine: EngineHandle,
    /// Unix time in seconds at which it was put up.
    pub created: u64,
    /// Whether the template reads messages of the role `developer`.
    pub(crate) knows_developer: bool,
    /// Whether the template reads system messages that aren't the first message.
    pub(crate) knows_late_system: bool,
    pub(crate) formats: Formats,
    /// Compiled formats of structured output.
    pub(crate) grammars: Grammars,
    pub(crate) metrics: Arc<ModelMetrics>,
}

impl ServedModel {
    /// A model behind a running engine.
    pub fn new(parts: ModelParts, engine: EngineHandle) -> Self {
        let max_model_len = engine.info().max_model_len;
        let knows_developer = parts.template.as_deref().is_some_and(knows_developer);
        let knows_late_system = parts.template.as_deref().is_some_and(knows_late_system);
        let template = parts.template.as_deref();
        let vocab_size = engine.info().vocab_size;
        let (tokenizer, ends) = (&parts.tokenizer, &*parts.eos_token_ids);
        let formats =
            Formats::new(parts.families, &marks::Vocabulary { tokenizer, template, ends, size: vocab_size });
        let metrics = Arc::new(ModelMetrics::new(max_model_len));
        let (tokenizer, ends) = (parts.tokenizer.clone(), parts.eos_token_ids.clone());
        let grammars = Grammars::new(move || vocabulary(&tokenizer, &ends, vocab_size));
        Self {
            grammars,
            parts,
            engine,
            created: unix_time(),
            knows_developer,
            knows_late_system,
            formats,
            metrics,
        }
    }

    /// What requests are checked against.
    pub(crate) fn limits(&self, limits: &Limits) -> ModelLimits<'_> {
        let info = self.engine.info();
        ModelLimits {
            max_model_len: info.max_model_len,
            vocab_size: info.vocab_size,
            eos_token_ids: &self.parts.eos_token_ids,
            max_logprobs: limits.max_logprobs,
        }
    }

    /// Its main name.
    pub fn name(&self) -> &str {
        self.parts.names.first().map_or("", String::as_str)
    }
}

/// The tokens of a model as grammars see them.
fn vocabulary(tokenizer: &Arc<Tokenizer>, ends: &[TokenId], size: usize) -> Vocabulary {
    let ids = || (0..size).filter_map(|id| TokenId::try_from(id).ok());
    let special = ids().filter(|id| tokenizer.is_special(*id));
    let special = special.map(|id| (id, tokenizer.token_text(id))).collect();
    let bytes = |id| if tokenizer.is_special(id) { Vec::new() } else { tokenizer.token_bytes(id).to_vec() };
    let encoder = tokenizer.clone();
    // A text that it has no tokens for is none that a grammar can force.
    let encode = move |text: &str| encoder.encode(text, false).unwrap_or_default();
    Vocabulary::new(ids().map(bytes).collect(), special, ends.to_vec(), encode)
}

/// Seconds since 1970.
pub(crate) fn unix_time() -> u64 {
    // A clock before 1970 is no reason to fail a request.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
