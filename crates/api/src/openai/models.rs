//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde::Serialize;

/// One served name.
#[derive(Debug, Clone, Serialize)]
pub struct ModelCard {
    /// The name that requests use.
    pub id: String,
    /// `model`.
    pub object: &'static str,
    /// Unix time in seconds at which it was loaded.
    pub created: u64,
    /// `millrace`.
    pub owned_by: &'static str,
    /// Where the weights come from.
    pub root: String,
    /// The base model, for adapters.
    pub parent: Option<String>,
    /// Prompt and output together, in tokens.
    pub max_model_len: usize,
}

impl ModelCard {
    /// A base model's card.
    pub fn new(id: impl Into<String>, root: impl Into<String>, created: u64, max_model_len: usize) -> Self {
        Self {
            id: id.into(),
            object: "model",
            created,
            owned_by: "millrace",
            root: root.into(),
            parent: None,
            max_model_len,
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
