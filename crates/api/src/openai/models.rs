//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::Serialize;

/// One served name.
#[derive(Debug, Clone, Serialize)]
pub struct ModelCard {
    /// The name that requests use.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// Unix time in seconds since which it is offered.
    pub created: u64,
    /// `millrace`.
    pub owned_by: &'static str,
    /// Where the weights come from.
    pub root: String,
    /// The base model, for adapters.
    pub parent: Option<String>,
    /// What vLLM's clients look for; it says nothing about keys.
    pub permission: [Permission; 1],
    /// Prompt and output together, in tokens; null as long as it isn't known.
    pub max_model_len: Option<usize>,
    /// Whether it is in memory, such as `ready` or `unloaded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// What may be asked of it: `completion`, `chat`, `tools`, `thinking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<&'static str>>,
}

/// An entry of `permission`, as OpenAI's first API had it.
#[derive(Debug, Clone, Serialize)]
pub struct Permission {
    id: String,
    object: &'static str,
    created: u64,
    allow_create_engine: bool,
    allow_sampling: bool,
    allow_logprobs: bool,
    allow_search_indices: bool,
    allow_view: bool,
    allow_fine_tuning: bool,
    organization: &'static str,
    group: Option<&'static str>,
    is_blocking: bool,
}

impl Permission {
    /// What may be done with a model of this name: sampled from, and looked at.
    fn of(model: &str, created: u64) -> Self {
        Self {
            id: format!("modelperm-{model}"),
            object: "model_permission",
            created,
            allow_create_engine: false,
            allow_sampling: true,
            allow_logprobs: true,
            allow_search_indices: false,
            allow_view: true,
            allow_fine_tuning: false,
            organization: "*",
            group: None,
            is_blocking: false,
        }
    }
}

impl ModelCard {
    /// A base model's card.
    pub fn new(
        id: impl Into<String>,
        root: impl Into<String>,
        created: u64,
        max_model_len: Option<usize>,
    ) -> Self {
        let id = id.into();
        Self {
            permission: [Permission::of(&id, created)],
            id,
            object: "model",
            created,
            owned_by: "millrace",
            root: root.into(),
            parent: None,
            max_model_len,
            state: None,
            capabilities: None,
        }
    }
}

/// All cards.
#[derive(Debug, Clone, Serialize)]
pub struct ModelList {
    /// `list`.
    pub object: &'static str,
    /// One per served name.
    pub data: Vec<ModelCard>,
}

impl ModelList {
    /// A list of cards.
    pub fn new(data: Vec<ModelCard>) -> Self {
        Self { object: "list", data }
    }
}
