//! What is stored of an answer.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    convert::Conversation,
    types::{Item, Status, error_value},
};
use crate::ApiError;

/// An answer as it is stored, with the input that it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    owner: String,
    previous: Option<String>,
    input: Vec<Item>,
    /// As clients see it.
    response: Value,
}

impl Record {
    /// `owner` says whose it is; nobody else gets to see it.
    pub fn new(owner: &str, conversation: &Conversation, response: Value) -> Self {
        Self {
            owner: owner.to_owned(),
            previous: conversation.prompt.previous.clone(),
            input: conversation.input().to_vec(),
            response,
        }
    }

    /// The same question with another state of its answer.
    #[must_use]
    pub fn with_response(&self, response: Value) -> Self {
        Self { response, ..self.clone() }
    }

    /// Whether this caller may see it.
    pub fn is_of(&self, owner: &str) -> bool {
        self.owner == owner
    }

    /// The answer before this one.
    pub fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Whether the answer has come to some end.
    pub fn is_final(&self) -> bool {
        let open = [Status::Queued, Status::InProgress].map(|status| json!(status));
        !open.contains(&self.response["status"])
    }

    /// Whether the answer was to be written in the background.
    pub fn is_background(&self) -> bool {
        self.response["background"] == true
    }

    /// The answer.
    pub fn into_response(self) -> Value {
        self.response
    }

    /// The answer of a record whose writer is gone: it will never come to its end.
    pub fn into_lost_response(mut self) -> Value {
        let error = ApiError::internal("The server was stopped before this answer was complete. Ask again.");
        self.response["status"] = json!(Status::Failed);
        self.response["error"] = error_value(&error);
        self.response
    }

    /// The items that the answer was asked with.
    pub(super) fn input(&self) -> &[Item] {
        &self.input
    }

    /// Question and answer as items.
    pub(super) fn into_items(self) -> Vec<Item> {
        let output = self.output();
        self.input.into_iter().chain(output).collect()
    }

    /// An item of the question or the answer.
    pub(super) fn item(&self, id: &str) -> Option<Item> {
        self.input.iter().cloned().chain(self.output()).find(|item| item.id() == id)
    }

    fn output(&self) -> Vec<Item> {
        // Whatever an older version wrote that this one can't read is left out, as if it had expired.
        Vec::deserialize(&self.response["output"]).unwrap_or_default()
    }
}
