//! Chat completion chunks.

use serde_json::Value;

use super::{
    convert::{prompt_token_ids, to_completion, to_logprobs, to_value},
    types::{Chunk, ChunkChoice, MessageDelta},
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

/// Encodes one chat answer.
pub(super) struct ChatEncoder {
    pub(super) tokens: TokenFormat,
    pub(super) usage: UsagePlan,
    pub(super) logprobs: bool,
    pub(super) prompt_logprobs: bool,
}

impl Encoder for ChatEncoder {
    fn frames(&mut self, head: &ReplyHead, event: ChatEvent) -> Vec<Frame> {
        match event {
            ChatEvent::Start(start) => self.open(head, &start),
            ChatEvent::Delta(delta) => self.delta(head, *delta).into_iter().collect(),
            ChatEvent::Done(usage) => {
                let last =
                    self.usage.of_end(&usage).map(|usage| frame(head, vec![], Some(Some(usage)), None));
                last.into_iter().chain([done()]).collect()
            }
            ChatEvent::Error(error) => failed(&error),
        }
    }

    fn body(&self, head: &ReplyHead, answer: Collected) -> Value {
        to_value(&to_completion(self, head, answer))
    }

    fn error(&self, error: &ApiError) -> Value {
        error_body(error)
    }
}

impl ChatEncoder {
    /// Every choice opens with its role.
    fn open(&self, head: &ReplyHead, start: &Start) -> Vec<Frame> {
        let prompt_tokens = start.prompts.first().map_or(0, |prompt| prompt.len());
        let usage = millrace_types::Usage { prompt_tokens, ..Default::default() };
        let open = |index| {
            let delta = MessageDelta { role: Some("assistant"), content: Some(String::new()) };
            let choice = ChunkChoice { delta, ..ChunkChoice::empty(index) };
            let ids = prompt_token_ids(self.tokens, start).filter(|_| index == 0);
            frame(head, vec![choice], self.usage.of_chunk(&usage), ids)
        };
        (0..start.choices()).map(open).collect()
    }

    /// A delta without text is worth a chunk only if it ends the choice or the client looks at tokens.
    fn delta(&self, head: &ReplyHead, delta: Delta) -> Option<Frame> {
        let shows_tokens =
            (self.logprobs && !delta.logprobs.is_empty()) || (self.tokens.ids && !delta.token_ids.is_empty());
        if delta.text.is_empty() && delta.end.is_none() && !shows_tokens {
            return None;
        }
        let scored = self.logprobs && !delta.logprobs.is_empty();
        let choice = ChunkChoice {
            index: delta.choice,
            logprobs: scored.then(|| to_logprobs(&delta.logprobs, self.tokens)),
            finish_reason: delta.end.as_ref().map(reply::finish_reason),
            stop_reason: delta.end.as_ref().map(reply::stop_reason),
            token_ids: self.tokens.ids.then_some(delta.token_ids),
            delta: MessageDelta { role: None, content: (!delta.text.is_empty()).then_some(delta.text) },
        };
        Some(frame(head, vec![choice], self.usage.of_chunk(&delta.usage), None))
    }
}

impl ChunkChoice {
    fn empty(index: usize) -> Self {
        Self {
            index,
            delta: MessageDelta::default(),
            logprobs: None,
            finish_reason: None,
            stop_reason: None,
            token_ids: None,
        }
    }
}

fn frame(
    head: &ReplyHead,
    choices: Vec<ChunkChoice>,
    usage: Option<Option<UsageBody>>,
    prompt_token_ids: Option<Vec<u32>>,
) -> Frame {
    chunk(&Chunk {
        id: &head.id,
        object: "chat.completion.chunk",
        created: head.created,
        model: &head.model,
        choices,
        usage,
        prompt_token_ids,
    })
}
