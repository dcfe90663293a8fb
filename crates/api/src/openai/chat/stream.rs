//! Chat completion chunks.

use serde_json::Value;

use super::{
    convert::{prompt_token_ids, to_completion, to_logprobs, to_value},
    mcp::McpCallBody,
    types::{Chunk, ChunkChoice, FunctionBody, MessageDelta, Reasoning, ToolCallBody},
};
use crate::{
    ApiError, ChatEvent, Collected, Delta, Encoder, Frame, Part, ReplyHead, Start,
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
    /// Whether the client wants to see reasoning.
    pub(super) reasoning: bool,
    /// What the choices have done so far.
    pub(super) choices: Vec<Progress>,
}

/// What one choice has done so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// It made a complete call.
    called: bool,
    reasoning_tokens: usize,
}

impl Encoder for ChatEncoder {
    fn frames(&mut self, head: &ReplyHead, event: ChatEvent) -> Vec<Frame> {
        match event {
            ChatEvent::Start(start) => self.open(head, &start),
            ChatEvent::Delta(delta) => self.delta(head, *delta).into_iter().collect(),
            ChatEvent::Done(usage) => {
                let reasoning = self.choices.iter().map(|choice| choice.reasoning_tokens).sum();
                let usage = self.usage.of_end(UsageBody::from(&usage).with_reasoning(reasoning));
                let last = usage.map(|usage| frame(head, vec![], Some(Some(usage)), None));
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
    fn open(&mut self, head: &ReplyHead, start: &Start) -> Vec<Frame> {
        self.choices = vec![Progress::default(); start.choices()];
        let prompt_tokens = start.prompts.first().map_or(0, |prompt| prompt.len());
        let usage = millrace_types::Usage { prompt_tokens, ..Default::default() };
        let open = |index| {
            let delta = MessageDelta {
                role: Some("assistant"),
                content: Some(String::new()),
                ..MessageDelta::default()
            };
            let choice = ChunkChoice { delta, ..ChunkChoice::empty(index) };
            let ids = prompt_token_ids(self.tokens, start).filter(|_| index == 0);
            frame(head, vec![choice], self.usage.of_chunk(&usage), ids)
        };
        (0..start.choices()).map(open).collect()
    }

    /// A delta that says nothing is worth a chunk only if it ends the choice or the client looks at tokens.
    fn delta(&mut self, head: &ReplyHead, delta: Delta) -> Option<Frame> {
        let called = self.note(&delta);
        let mut message = MessageDelta::of(delta.parts, self.reasoning);
        message.mcp_calls = delta.server_calls.into_iter().filter_map(McpCallBody::of_news).collect();
        let scored = self.logprobs && !delta.logprobs.is_empty();
        let shows_tokens = scored || (self.tokens.ids && !delta.token_ids.is_empty());
        if message.is_empty() && delta.end.is_none() && !shows_tokens {
            return None;
        }
        let usage = UsageBody::from(&delta.usage).with_reasoning(delta.reasoning_tokens);
        let choice = ChunkChoice {
            index: delta.choice,
            logprobs: scored.then(|| to_logprobs(&delta.logprobs, self.tokens)),
            finish_reason: delta.end.as_ref().map(|end| reply::chat_finish_reason(end, called)),
            stop_reason: delta.end.as_ref().map(reply::stop_reason),
            token_ids: self.tokens.ids.then_some(delta.token_ids),
            delta: message,
        };
        Some(frame(head, vec![choice], self.usage.of_chunk(usage), None))
    }

    /// Keeps account of the choice; whether it has made a call.
    fn note(&mut self, delta: &Delta) -> bool {
        let Some(choice) = self.choices.get_mut(delta.choice) else { return false };
        choice.called |=
            delta.parts.iter().any(|part| matches!(part, Part::ToolCallEnd { complete: true, .. }));
        choice.reasoning_tokens = delta.reasoning_tokens;
        choice.called
    }
}

impl MessageDelta {
    /// All that one delta says, in one message: clients put together what has the same field and index.
    fn of(parts: Vec<Part>, show_reasoning: bool) -> Self {
        let (mut text, mut reasoning) = (String::new(), String::new());
        let mut calls: Vec<ToolCallBody> = Vec::new();
        for part in parts {
            match part {
                Part::Text(more) => text.push_str(&more),
                Part::Reasoning(more) if show_reasoning => reasoning.push_str(&more),
                Part::Reasoning(_) | Part::ToolCallEnd { .. } => {}
                Part::ToolCall { index, id, name } => calls.push(ToolCallBody {
                    index: Some(index),
                    id: Some(id),
                    kind: Some("function"),
                    function: FunctionBody { name: Some(name), arguments: String::new() },
                }),
                // One entry per call: the first chunk of a list is taken as it is.
                Part::ToolArguments { index, delta } => match calls.last_mut() {
                    Some(call) if call.index == Some(index) => call.function.arguments.push_str(&delta),
                    _ => calls.push(ToolCallBody {
                        index: Some(index),
                        id: None,
                        kind: None,
                        function: FunctionBody { name: None, arguments: delta },
                    }),
                },
            }
        }
        Self {
            role: None,
            content: Some(text).filter(|text| !text.is_empty()),
            reasoning: Reasoning::of(reasoning),
            tool_calls: calls,
            mcp_calls: Vec::new(),
        }
    }

    fn is_empty(&self) -> bool {
        let says_nothing = self.content.is_none() && self.reasoning.is_none();
        says_nothing && self.tool_calls.is_empty() && self.mcp_calls.is_empty()
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
