//! The events of a streamed message, and the whole one.

use millrace_types::Usage;
use serde_json::Value;

use super::{
    error_body,
    reply::{Blocks, Step, usage_body, whole},
    types::{EndBody, Event, MessageBody, Options, UsageBody},
};
use crate::{ApiError, ChatEvent, Collected, Delta, Encoder, End, EndReason, Frame, ReplyHead, Start};

/// Encodes one message.
pub(super) struct MessageEncoder {
    max_tokens: usize,
    show_thinking: bool,
    request_id: String,
    blocks: Blocks,
    /// Whether `message_start` is out. It waits for the first news of the engine, which knows how much of the prompt
    /// was cached; the stream is kept alive until then.
    begun: bool,
    /// The client marks what to cache.
    cache_marked: bool,
    start: Start,
    thinking_tokens: usize,
    end: End,
}

impl MessageEncoder {
    pub(super) fn new(options: &Options, request_id: &str) -> Self {
        Self {
            max_tokens: options.max_tokens,
            show_thinking: options.show_thinking,
            request_id: request_id.to_owned(),
            blocks: Blocks::new(options.show_thinking),
            begun: false,
            cache_marked: options.cache_marked,
            start: Start::default(),
            thinking_tokens: 0,
            end: End { reason: EndReason::Abort, stop: None },
        }
    }
}

impl Encoder for MessageEncoder {
    fn frames(&mut self, head: &ReplyHead, event: ChatEvent) -> Vec<Frame> {
        match event {
            ChatEvent::Start(start) => {
                self.start = start;
                Vec::new()
            }
            ChatEvent::Delta(delta) => self.delta(head, *delta),
            ChatEvent::Done(usage) => self.done(head, &usage),
            ChatEvent::Error(error) => {
                vec![Frame { event: Some("error"), data: self.error(&error).to_string() }]
            }
        }
    }

    fn body(&self, head: &ReplyHead, mut answer: Collected) -> Value {
        let Some(choice) = answer.choices.pop() else {
            return self.error(&ApiError::internal("The answer has no choice."));
        };
        let (content, end) = whole(
            choice.parts,
            choice.server_calls,
            self.show_thinking,
            &choice.end,
            self.max_tokens,
            &answer.usage,
        );
        let usage = self.usage(&answer.start, &answer.usage, choice.reasoning_tokens);
        serde_json::to_value(MessageBody { content, end, ..message(head, usage) }).unwrap_or_default()
    }

    fn error(&self, error: &ApiError) -> Value {
        error_body(error, &self.request_id)
    }

    fn ping(&self) -> Option<Frame> {
        Some(self.frame(&Event::Ping))
    }
}

impl MessageEncoder {
    fn delta(&mut self, head: &ReplyHead, delta: Delta) -> Vec<Frame> {
        let mut frames = self.begin(head, &delta.usage);
        self.thinking_tokens = delta.reasoning_tokens;
        let mut steps = Vec::new();
        delta.parts.into_iter().for_each(|part| self.blocks.push(part, &mut steps));
        delta.server_calls.into_iter().for_each(|news| self.blocks.push_server_call(news, &mut steps));
        if let Some(end) = delta.end {
            self.blocks.finish(&mut steps);
            self.end = end;
        }
        frames.extend(steps.into_iter().map(|step| self.step(step)));
        frames
    }

    fn begin(&mut self, head: &ReplyHead, usage: &Usage) -> Vec<Frame> {
        if std::mem::replace(&mut self.begun, true) {
            return Vec::new();
        }
        let prompt = Usage { prompt_tokens: self.start.prompt_tokens(), completion_tokens: 0, ..*usage };
        let usage = self.usage(&self.start, &prompt, 0);
        vec![self.frame(&Event::MessageStart { message: message(head, usage) })]
    }

    fn done(&mut self, head: &ReplyHead, usage: &Usage) -> Vec<Frame> {
        let mut frames = self.begin(head, usage);
        let delta = self.blocks.end(&self.end, self.max_tokens, usage);
        let usage = self.usage(&self.start, usage, self.thinking_tokens);
        frames.push(self.frame(&Event::MessageDelta { delta, usage }));
        frames.push(self.frame(&Event::MessageStop));
        frames
    }

    fn usage(&self, start: &Start, usage: &Usage, thinking_tokens: usize) -> UsageBody {
        let stored = if self.cache_marked { start.stored_tokens(usage.cached_tokens) } else { 0 };
        usage_body(usage, stored, thinking_tokens)
    }

    fn step(&self, step: Step) -> Frame {
        self.frame(&match step {
            Step::Open(index, content_block) => Event::ContentBlockStart { index, content_block },
            Step::Grow(index, delta) => Event::ContentBlockDelta { index, delta },
            Step::Close(index) => Event::ContentBlockStop { index },
        })
    }

    fn frame(&self, event: &Event<'_>) -> Frame {
        match serde_json::to_string(event) {
            Ok(data) => Frame { event: Some(event.name()), data },
            // Plain structs of strings and numbers always serialize; if ever not, the client is told.
            Err(e) => {
                let error = ApiError::internal(format!("An event can't be written: {e}."));
                Frame { event: Some("error"), data: self.error(&error).to_string() }
            }
        }
    }
}

/// A message with nothing in it yet.
fn message(head: &ReplyHead, usage: UsageBody) -> MessageBody<'_> {
    MessageBody {
        id: &head.id,
        kind: "message",
        role: "assistant",
        model: &head.model,
        content: Vec::new(),
        end: EndBody::default(),
        usage,
    }
}
