//! From an answer's text to its parts: what is reasoning, what is a call, what is text.

use std::sync::Arc;

use millrace_api::{ApiError, ChatInput, Delta, Part};
use millrace_parse::{Event, Parser, Start, Tools};
use millrace_types::{Follow, TokenId};

use super::marks::Marks;
use crate::{ServedModel, formats::Format};

/// How the answers to one conversation are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    format: Format,
    tools: Arc<Tools>,
    start: Start,
    /// The prompt ends with reasoning that is over.
    reasoned: bool,
    /// The answer ends after its first complete call.
    single_call: bool,
}

impl Reading {
    /// For a conversation that was rendered as `prompt`; `None` if all is text.
    pub(super) fn new(model: &ServedModel, chat: &ChatInput, prompt: &str) -> Result<Option<Self>, ApiError> {
        let Some(format) = model.formats.of(chat.may_call()) else { return Ok(None) };
        let tools =
            Tools::from_list(&chat.tools).map_err(|error| ApiError::invalid("tools", error.to_string()))?;
        let start = match chat.open_text() {
            Some(text) => format.families.start_within(text),
            None => format.families.start_after(prompt),
        };
        Ok(Some(Self {
            format: format.clone(),
            tools: Arc::new(tools),
            start,
            reasoned: format.families.is_reasoned(prompt),
            single_call: !chat.parallel_tool_calls,
        }))
    }

    /// Where the answer begins.
    pub(super) fn start(&self) -> Start {
        self.start
    }

    /// Whether reasoning may come before the answer.
    pub(super) fn may_reason(&self) -> bool {
        match self.start {
            Start::Reasoning => true,
            Start::Content | Start::Unknown => !self.reasoned,
            Start::Continued => false,
        }
    }

    /// Whether reasoning and answer are framed alike, so that a format says both.
    pub(super) fn is_framed(&self) -> bool {
        self.format.families.is_framed()
    }

    /// How its reasoning is told from its tokens; `None` if there is none, or it can't be.
    pub(super) fn marks(&self) -> Option<&Marks> {
        self.format.marks.as_ref()
    }

    /// At the beginning of the answer.
    pub(super) fn follow(&self, marks: &Marks) -> Box<dyn Follow> {
        marks.follow(self.start == Start::Reasoning)
    }

    /// Special tokens that have to be text.
    pub(super) fn markers(&self) -> Arc<[TokenId]> {
        self.format.markers.clone()
    }
}

/// Reads one answer. Text goes in as it becomes certain; parts come out into the deltas.
pub(super) struct Reader {
    /// `None`: all is text.
    parser: Option<Parser>,
    single_call: bool,
    events: Vec<Event>,
}

impl Reader {
    pub(super) fn new(reading: Option<&Reading>) -> Self {
        let parser = reading.map(|reading| {
            // Ids of calls have to differ between all answers that may come to stand in one conversation.
            let seed = uuid::Uuid::new_v4().as_u64_pair().0;
            reading.format.families.parser(reading.tools.clone(), reading.start, seed)
        });
        Self { parser, single_call: reading.is_some_and(|reading| reading.single_call), events: Vec::new() }
    }

    /// More of the answer. Whether it is over, because one call was all that the client wanted.
    pub(super) fn push(&mut self, text: &str, delta: &mut Delta) -> bool {
        match &mut self.parser {
            Some(parser) => parser.push(text, &mut self.events),
            None => delta.say(text),
        }
        self.hand_over(delta)
    }

    /// The answer has ended; says what was held back.
    pub(super) fn finish(&mut self, delta: &mut Delta) {
        if let Some(parser) = &mut self.parser {
            parser.finish(&mut self.events);
        }
        self.hand_over(delta);
    }

    /// Whether what comes next is reasoning.
    pub(super) fn in_reasoning(&self) -> bool {
        self.parser.as_ref().is_some_and(Parser::in_reasoning)
    }

    fn hand_over(&mut self, delta: &mut Delta) -> bool {
        for event in std::mem::take(&mut self.events) {
            let ends = self.single_call && matches!(event, Event::ToolCallEnd { complete: true, .. });
            delta.parts.extend(to_part(event));
            if ends {
                // What may follow in the same piece of text isn't wanted, nor is the end of it.
                self.parser = None;
                return true;
            }
        }
        false
    }
}

fn to_part(event: Event) -> Option<Part> {
    Some(match event {
        Event::Text(text) => Part::Text(text),
        Event::Reasoning(text) => Part::Reasoning(text),
        Event::ToolCall { index, id, name } => Part::ToolCall { index, id, name },
        Event::ToolArguments { index, delta } => Part::ToolArguments { index, delta },
        Event::ToolCallEnd { index, complete } => Part::ToolCallEnd { index, complete },
        Event::Done { .. } => return None,
    })
}
