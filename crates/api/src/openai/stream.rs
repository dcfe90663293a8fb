//! What the chunk streams of both endpoints share.

use serde::{Deserialize, Serialize};

use super::{UsageBody, body::CommonBody, error_body};
use crate::{ApiError, Frame};

/// The `stream_options` of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct StreamOptions {
    /// A last chunk with the usage of the whole request and no choices.
    pub include_usage: Option<bool>,
    /// With it, every chunk carries the usage of its choice so far.
    pub continuous_usage_stats: Option<bool>,
    /// Bytes that hide how long tokens are; only `false` can be had.
    pub include_obfuscation: Option<bool>,
}

/// Which chunks carry usage.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct UsagePlan {
    include: bool,
    continuous: bool,
}

impl UsagePlan {
    pub(super) fn new(body: &CommonBody) -> Self {
        let options = body.stream_options.unwrap_or_default();
        let include = options.include_usage.unwrap_or(false);
        Self { include, continuous: include && options.continuous_usage_stats.unwrap_or(false) }
    }

    /// The `usage` field of a content chunk: absent, null, or the counts so far.
    pub(super) fn of_chunk(self, usage: impl Into<UsageBody>) -> Option<Option<UsageBody>> {
        self.include.then(|| self.continuous.then(|| usage.into()))
    }

    /// The usage of the last chunk, if there is to be one.
    pub(super) fn of_end(self, usage: impl Into<UsageBody>) -> Option<UsageBody> {
        self.include.then(|| usage.into())
    }
}

/// What ends every stream.
pub(super) fn done() -> Frame {
    Frame::data("[DONE]")
}

/// An error in the middle of a stream: its body, then the usual end.
pub(super) fn failed(error: &ApiError) -> Vec<Frame> {
    vec![Frame::data(error_body(error).to_string()), done()]
}

/// A chunk as a frame.
pub(super) fn chunk(body: &impl Serialize) -> Frame {
    match serde_json::to_string(body) {
        Ok(data) => Frame::data(data),
        // Plain structs of strings and numbers always serialize; if ever not, the client is told.
        Err(e) => Frame::data(
            error_body(&ApiError::internal(format!("A chunk can't be written: {e}."))).to_string(),
        ),
    }
}
