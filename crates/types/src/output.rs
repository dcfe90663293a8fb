//! What comes back from the engine, step by step.

use std::time::{Duration, Instant};

use crate::TokenId;

/// Why a request ended; exactly one per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// An end-of-sequence or stop token was sampled.
    Stop,
    /// `max_tokens` or the model's context length was reached.
    Length,
    /// The client went away or asked for it, or the server is shutting down.
    Abort,
    /// The request's deadline passed.
    Timeout,
    /// The engine could not go on with this request.
    Error,
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finish {
    /// Why.
    pub reason: FinishReason,
    /// The id out of `stop_token_ids` that ended it (`None` for the model's own end-of-sequence tokens).
    pub stop_token: Option<TokenId>,
}

/// Token counts of one request; the engine's ledger is the only place that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens whose KV came from the prefix cache.
    pub cached_tokens: usize,
    /// Sampled tokens so far, the stop token included.
    pub completion_tokens: usize,
}

/// Natural-log probabilities at one position, under the model's raw distribution (before penalties and truncation).
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The token at this position.
    pub token: TokenId,
    /// Its log-probability.
    pub logprob: f32,
    /// 1 for the most likely token.
    pub rank: u32,
    /// The most likely tokens, best first; as many as were asked for.
    pub top: Vec<(TokenId, f32)>,
}

/// News of one request after one engine step. The last one, and only the last, has `finish`.
#[derive(Debug, Clone, Default)]
pub struct RequestOutput {
    /// Tokens sampled in this step: usually one, more with speculation, none if only the state changed.
    pub tokens: Vec<TokenId>,
    /// Parallel to `tokens` if `logprobs` was asked for, else empty.
    pub logprobs: Vec<TokenLogprobs>,
    /// Once, with or before the first token, if asked for: one entry per prompt token, `None` for the first.
    pub prompt_logprobs: Option<Vec<Option<TokenLogprobs>>>,
    /// The row that a model gives which reads whole texts (an embedding, scores), with `finish`; else empty.
    pub pooled: Vec<f32>,
    /// Set in the last output.
    pub finish: Option<Finish>,
    /// A sentence for [`FinishReason::Error`].
    pub error: Option<String>,
    /// Counts so far.
    pub usage: Usage,
    /// When the engine sent this; its reader may come to it later. `None` if no engine did.
    pub sent: Option<Instant>,
    /// Time between arrival and the first step that ran this request.
    pub queue_time: Duration,
    /// How often this request was preempted so far.
    pub preemptions: u32,
}
