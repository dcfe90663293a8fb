//! What the server needs from a vendor's adapter to answer.

use serde_json::Value;

use crate::{ApiError, ChatEvent, Collected, GenerationRequest};

/// A parsed call: what to generate and how to answer.
pub struct Call {
    /// For the pipeline.
    pub request: GenerationRequest,
    /// For the answer.
    pub encoder: Box<dyn Encoder>,
    /// Whether the client wants server-sent events.
    pub stream: bool,
    /// Fields of the body that mean nothing here, for APIs that take such ones; a few of them, shortened.
    pub ignored: Vec<String>,
}

/// One server-sent event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The `event:` line, for vendors that use it.
    pub event: Option<&'static str>,
    /// The `data:` line; holds no line break.
    pub data: String,
}

impl Frame {
    /// An event with data only.
    pub fn data(data: impl Into<String>) -> Self {
        Self { event: None, data: data.into() }
    }
}

/// What every chunk of an answer repeats.
#[derive(Debug, Clone)]
pub struct ReplyHead {
    /// The answer's id, such as `chatcmpl-…`.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The model's name as the client wrote it.
    pub model: String,
}

/// Turns the neutral stream into one vendor's JSON.
pub trait Encoder: Send {
    /// The frames for one event; `Done` and `Error` include the vendor's end of stream.
    fn frames(&mut self, head: &ReplyHead, event: ChatEvent) -> Vec<Frame>;

    /// The whole answer.
    fn body(&self, head: &ReplyHead, answer: Collected) -> Value;

    /// An error body.
    fn error(&self, error: &ApiError) -> Value;

    /// What a silent stream sends to stay alive; a comment, if the vendor has no event for it.
    fn ping(&self) -> Option<Frame> {
        None
    }
}
