//! Text completion chunks.

use serde_json::Value;

use super::{
    best_of::BestOf,
    convert::{prompt_token_ids, to_completion, to_logprobs},
    types::{Completion, CompletionChoice},
};
use crate::{
    ApiError, ChatEvent, Collected, Delta, Encoder, Frame, ReplyHead, Start,
    openai::{
        UsageBody,
        body::TokenFormat,
        error_body, reply,
        stream::{UsagePlan, chunk, done, failed},
    },
};

/// Encodes one completion.
pub(super) struct CompletionEncoder {
    pub(super) tokens: TokenFormat,
    pub(super) usage: UsagePlan,
    /// Not all that is written is shown.
    pub(super) best: Option<BestOf>,
    pub(super) logprobs: bool,
    pub(super) prompt_logprobs: bool,
    /// Kept for the prompt's ids.
    pub(super) start: Option<Start>,
    /// Which choices have had a chunk (the first one carries the prompt's ids).
    pub(super) opened: Vec<bool>,
    /// Characters of each choice's logprob tokens so far.
    pub(super) offsets: Vec<usize>,
}

impl Encoder for CompletionEncoder {
    fn frames(&mut self, head: &ReplyHead, event: ChatEvent) -> Vec<Frame> {
        match event {
            ChatEvent::Start(start) => {
                self.opened = vec![false; start.choices()];
                self.offsets = vec![0; start.choices()];
                self.start = Some(start);
                Vec::new()
            }
            ChatEvent::Delta(delta) => self.delta(head, *delta).into_iter().collect(),
            ChatEvent::Done(usage) => {
                let last = self.usage.of_end(&usage).map(|usage| frame(head, vec![], Some(Some(usage))));
                last.into_iter().chain([done()]).collect()
            }
            ChatEvent::Error(error) => failed(&error),
        }
    }

    fn body(&self, head: &ReplyHead, answer: Collected) -> Value {
        to_completion(self, head, answer)
    }

    fn error(&self, error: &ApiError) -> Value {
        error_body(error)
    }
}

impl CompletionEncoder {
    /// A delta without text is worth a chunk only if it ends the choice or the client looks at tokens.
    fn delta(&mut self, head: &ReplyHead, delta: Delta) -> Option<Frame> {
        let scored = self.logprobs && !delta.logprobs.is_empty();
        let shows_tokens = scored || (self.tokens.ids && !delta.token_ids.is_empty());
        let text = delta.text();
        if text.is_empty() && delta.end.is_none() && !shows_tokens {
            return None;
        }
        let index = delta.choice;
        let logprobs = match self.offsets.get_mut(index) {
            Some(offset) if scored => Some(to_logprobs(&delta.logprobs, self.tokens, offset)),
            _ => None,
        };
        let choice = CompletionChoice {
            index,
            text,
            logprobs,
            finish_reason: delta.end.as_ref().map(reply::finish_reason),
            stop_reason: delta.end.as_ref().map_or(Value::Null, reply::stop_reason),
            prompt_logprobs: None,
            token_ids: self.tokens.ids.then_some(delta.token_ids),
            prompt_token_ids: self.first_ids(index),
        };
        Some(frame(head, vec![choice], self.usage.of_chunk(&delta.usage)))
    }

    fn first_ids(&mut self, index: usize) -> Option<Vec<u32>> {
        let opened = self.opened.get_mut(index)?;
        if std::mem::replace(opened, true) {
            return None;
        }
        prompt_token_ids(self.tokens, self.start.as_ref()?, index)
    }
}

fn frame(head: &ReplyHead, choices: Vec<CompletionChoice>, usage: Option<Option<UsageBody>>) -> Frame {
    chunk(&Completion {
        id: &head.id,
        object: "text_completion",
        created: head.created,
        model: &head.model,
        choices,
        usage,
    })
}
