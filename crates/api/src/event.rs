//! The neutral stream: what the pipeline yields and every vendor's encoder reads.

use std::sync::Arc;

use millrace_types::{TokenId, Usage};

use crate::{ApiError, ServerCallNews};

/// One piece of news. The order is `Start`, then `Delta`s of all choices as they come, then `Done` or `Error`.
#[derive(Debug, Clone)]
pub enum ChatEvent {
    /// Accepted and queued.
    Start(Start),
    /// More of one choice.
    Delta(Box<Delta>),
    /// All choices have ended. Counts of the whole request; a prompt counts once for its `n` choices.
    Done(Usage),
    /// The request failed; nothing follows.
    Error(ApiError),
}

/// The prompts as the engine got them.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Token ids of each prompt.
    pub prompts: Vec<Arc<[TokenId]>>,
    /// Choices of each prompt; choice `prompt * samples + i`.
    pub samples: usize,
    /// Tokens of a block of the prefix cache; `None`: prefixes aren't cached.
    pub cache_block: Option<usize>,
}

impl Start {
    /// Tokens of all prompts.
    pub fn prompt_tokens(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.len()).sum()
    }

    /// Prompt tokens that weren't cached before and are now, if `cached` were: whole blocks are kept.
    pub fn stored_tokens(&self, cached: usize) -> usize {
        let Some(block) = self.cache_block.filter(|block| *block > 0) else { return 0 };
        let whole: usize = self.prompts.iter().map(|prompt| prompt.len() / block * block).sum();
        whole.saturating_sub(cached)
    }

    /// How many choices the request has.
    pub fn choices(&self) -> usize {
        self.prompts.len() * self.samples
    }
}

/// News of one choice.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    /// Which choice.
    pub choice: usize,
    /// What was said, in order; only what is certain: whole characters that can't become part of a stop string nor of
    /// the markup around reasoning and calls. May be empty.
    pub parts: Vec<Part>,
    /// Calls that the server runs itself. A delta has either these or parts.
    pub server_calls: Vec<ServerCallNews>,
    /// Tokens sampled since the last delta; their text may come in a later one.
    pub token_ids: Vec<TokenId>,
    /// Parallel to the tokens if asked for. Echoed prompt tokens come here too, ahead of the sampled ones.
    pub logprobs: Vec<Scored>,
    /// Once, if asked for: one entry per prompt token, `None` for the first.
    pub prompt_logprobs: Option<Vec<Option<Scored>>>,
    /// Counts of this choice so far.
    pub usage: Usage,
    /// How many of its completion tokens so far were reasoning.
    pub reasoning_tokens: usize,
    /// Set in the choice's last delta.
    pub end: Option<End>,
}

/// A piece of what the model says.
///
/// Texts are never empty. Calls of one choice are numbered from 0 in the order in which they begin, and never overlap:
/// `ToolCall`, any number of `ToolArguments`, `ToolCallEnd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// More of the answer's text.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// A call begins.
    ToolCall {
        /// Which call of the choice.
        index: usize,
        /// The call's id, by which its result refers to it.
        id: String,
        /// The function, as the model wrote it.
        name: String,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// Which call of the choice.
        index: usize,
        /// JSON text; the deltas of a call joined are its arguments.
        delta: String,
    },
    /// A call ends.
    ToolCallEnd {
        /// Which call of the choice.
        index: usize,
        /// Whether its arguments came to their end; if not, the call must not be run.
        complete: bool,
    },
}

impl Delta {
    /// Adds answer text; joined to the last part if that is text too.
    pub fn say(&mut self, text: &str) {
        match self.parts.last_mut() {
            _ if text.is_empty() => {}
            Some(Part::Text(last)) => last.push_str(text),
            _ => self.parts.push(Part::Text(text.to_owned())),
        }
    }

    /// The answer text of this delta, without reasoning and calls.
    pub fn text(&self) -> String {
        let parts = self.parts.iter();
        parts.map(|part| if let Part::Text(text) = part { text.as_str() } else { "" }).collect()
    }
}

/// A token as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenText {
    /// Its id.
    pub id: TokenId,
    /// Its bytes; a token may hold part of a character.
    pub bytes: Vec<u8>,
}

impl TokenText {
    /// The bytes as text, with U+FFFD where they aren't whole characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A token with its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: TokenText,
    /// Natural logarithm; `None` for the first token of a prompt.
    pub logprob: Option<f32>,
    /// 1 for the most likely token; 0 if there is no logprob.
    pub rank: u32,
    /// The most likely tokens, best first.
    pub top: Vec<(TokenText, f32)>,
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// The stop string or stop token that did it; `None` for the model's own end.
    pub stop: Option<StopCause>,
}

/// Why a choice ended. A failure or a passed deadline ends the request instead: [`ChatEvent::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The model's end, a stop token or a stop string.
    Stop,
    /// `max_tokens` or the context length.
    Length,
    /// Cancelled by id, or the server is shutting down.
    Abort,
}

/// What matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// One of `stop`.
    Text(String),
    /// One of `stop_token_ids`.
    Token(TokenId),
}
