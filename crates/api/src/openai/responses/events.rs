//! Server-sent events of an answer.

use serde::Serialize;
use serde_json::{Value, json};

use super::types::{Item, Part, Response};
use crate::Frame;

/// Events that are waiting to be sent, numbered from 0.
#[derive(Debug)]
pub(super) struct Events {
    /// Whether anybody listens.
    on: bool,
    next: u64,
    waiting: Vec<Frame>,
}

/// What every event begins with.
#[derive(Serialize)]
struct Envelope<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    of: &'a T,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct At<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<usize>,
}

#[derive(Serialize)]
pub(super) struct OfResponse<'a> {
    pub(super) response: &'a Response,
}

#[derive(Serialize)]
pub(super) struct OfItem<'a> {
    pub(super) output_index: usize,
    pub(super) item: &'a Item,
}

#[derive(Serialize)]
pub(super) struct OfPart<'a> {
    #[serde(flatten)]
    pub(super) at: At<'a>,
    pub(super) part: &'a Part,
}

#[derive(Serialize)]
pub(super) struct OfDelta<'a> {
    #[serde(flatten)]
    pub(super) at: At<'a>,
    pub(super) delta: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<&'a [Value]>,
}

#[derive(Serialize)]
pub(super) struct OfText<'a> {
    #[serde(flatten)]
    pub(super) at: At<'a>,
    pub(super) text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) logprobs: Option<&'a [Value]>,
}

#[derive(Serialize)]
pub(super) struct OfArguments<'a> {
    #[serde(flatten)]
    pub(super) at: At<'a>,
    pub(super) name: &'a str,
    pub(super) arguments: &'a str,
}

impl<'a> At<'a> {
    /// A whole item.
    pub(super) fn item(item_id: &'a str, output_index: usize) -> Self {
        Self { item_id, output_index, content_index: None, summary_index: None }
    }

    /// Its only piece of content.
    pub(super) fn content(item_id: &'a str, output_index: usize) -> Self {
        Self { content_index: Some(0), ..Self::item(item_id, output_index) }
    }

    /// Its only summary.
    pub(super) fn summary(item_id: &'a str, output_index: usize) -> Self {
        Self { summary_index: Some(0), ..Self::item(item_id, output_index) }
    }
}

impl Events {
    pub(super) fn new(on: bool) -> Self {
        Self { on, next: 0, waiting: Vec::new() }
    }

    pub(super) fn add<T: Serialize>(&mut self, kind: &'static str, of: &T) {
        if !self.on {
            return;
        }
        let sequence_number = self.next;
        self.next += 1;
        let frame = match serde_json::to_string(&Envelope { kind, sequence_number, of }) {
            Ok(data) => Frame { event: Some(kind), data },
            // Plain structs of strings and numbers always serialize; if ever not, the client is told.
            Err(e) => {
                let message = format!("An event can't be written: {e}.");
                let body = json!({
                    "type": "error", "sequence_number": sequence_number, "code": "server_error", "message": message,
                    "param": null,
                });
                Frame { event: Some("error"), data: body.to_string() }
            }
        };
        self.waiting.push(frame);
    }

    /// What has happened since the last time.
    pub(super) fn take(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.waiting)
    }
}
