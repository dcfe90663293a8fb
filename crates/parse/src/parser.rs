//! The parser as its users see it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use crate::ParseError;
use crate::event::{Answer, Event};
use crate::families::{self, ReasoningFamily, ToolFamily};
use crate::grammar::{Body, Plan};
use crate::output::{Channel, Ids, Output};
use crate::scan::{Scan, SharedPort};
use crate::shape::{CallShape, CallSigns};
use crate::tools::Tools;
use crate::watch::Watch;
use crate::{harmony, text};

/// Where the output begins, which only the prompt can tell: many templates end it with `<think>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// Inside of reasoning.
    Reasoning,
    /// Outside of reasoning, or reasoning that the model opens itself.
    Content,
    /// In the middle of text that the prompt began: white space at the beginning belongs to it.
    Continued,
    /// Not known. Text before the first tag is held back, since an end tag would make it reasoning; without any tag
    /// it is text.
    #[default]
    Unknown,
}

/// What to look for in the output of one model: chosen once, used for each answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Families {
    tool: Option<&'static ToolFamily>,
    reasoning: Option<&'static ReasoningFamily>,
}

impl Families {
    /// By the names of the families, see [`crate::tool_parsers`] and [`crate::reasoning_parsers`]; `none` (or `None`)
    /// looks for nothing.
    ///
    /// # Errors
    ///
    /// If there is no family of that name.
    pub fn named(tool: Option<&str>, reasoning: Option<&str>) -> Result<Self, ParseError> {
        Ok(Self { tool: families::tool(tool)?, reasoning: families::reasoning(reasoning)? })
    }

    /// The name of the tool-call family.
    pub fn tool(&self) -> Option<&'static str> {
        self.tool.map(|family| family.names[0])
    }

    /// The name of the reasoning family.
    pub fn reasoning(&self) -> Option<&'static str> {
        self.reasoning.map(|family| family.names[0])
    }

    /// Whether there is nothing to look for: the output is text as it is.
    pub fn is_none(&self) -> bool {
        self.tool.is_none() && self.reasoning.is_none()
    }

    /// The same without calls, for a request that offers no tools.
    #[must_use]
    pub fn without_tools(self) -> Self {
        Self { tool: None, ..self }
    }

    /// All texts that formats of these families are marked with. A tokenizer's special tokens that are part of one
    /// have to reach the parser as text; other special tokens mean nothing to it.
    pub fn markers(&self) -> Vec<&'static str> {
        let mut markers = Vec::new();
        self.tool.inspect(|family| family.markers(&mut markers));
        self.reasoning.inspect(|family| family.markers(&mut markers));
        markers.retain(|marker| !marker.is_empty());
        markers
    }

    /// The texts that begin reasoning, each with the one that ends it, which a thinking budget can force on the model.
    pub fn reasoning_marks(&self) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
        let pairs = |family: &'static ReasoningFamily| family.open.iter().zip(family.close);
        self.reasoning.into_iter().flat_map(pairs).map(|(open, close)| (*open, *close))
    }

    /// Follows where reasoning is, without the rest; `None` if none is looked for.
    pub fn watch(&self) -> Option<Watch> {
        self.reasoning.map(Watch::new)
    }

    /// How the family writes calls, the newest of its models first. Empty if it has a format that can't be put that way.
    pub fn call_shapes(&self) -> &'static [CallShape] {
        self.tool.map_or(&[], |family| family.writes)
    }

    /// What makes text a call.
    pub fn call_signs(&self) -> CallSigns {
        let sections = || self.tool.into_iter().flat_map(|family| family.sections);
        let has = |wanted: fn(&Body) -> bool| {
            sections().any(|section| section.bare && section.bodies.iter().any(wanted))
        };
        CallSigns {
            marks: sections()
                .filter(|section| !section.bare)
                .flat_map(|section| section.open)
                .copied()
                .collect(),
            objects: has(|body| matches!(body, Body::Json)),
            python: has(|body| matches!(body, Body::Python)),
        }
    }

    /// Whether the whole output is in a format of its own, text included.
    pub fn is_framed(&self) -> bool {
        self.tool.is_some_and(|family| family.harmony) || self.reasoning.is_some_and(|family| family.harmony)
    }

    /// Whether the prompt ends with reasoning that is over: templates write an empty one to forbid it.
    pub fn is_reasoned(&self, prompt: &str) -> bool {
        let prompt = prompt.trim_end();
        self.reasoning.is_some_and(|family| family.close.iter().any(|close| prompt.ends_with(close)))
    }

    /// Where the output begins after this prompt, which is the rendered template.
    pub fn start_after(&self, prompt: &str) -> Start {
        let prompt = prompt.trim_end();
        let opened = |family: &ReasoningFamily| {
            family.open.iter().chain(family.prompt_open).any(|open| prompt.ends_with(open.trim_end()))
        };
        if self.reasoning.is_some_and(opened) { Start::Reasoning } else { Start::Content }
    }

    /// Where the output begins if it goes on with this text, which the model began.
    pub fn start_within(&self, text: &str) -> Start {
        let last = |markers: &[&str]| markers.iter().filter_map(|marker| text.rfind(marker)).max();
        match self.reasoning {
            Some(family) if last(family.open) > last(family.close) => Start::Reasoning,
            _ => Start::Continued,
        }
    }

    /// A parser for one answer. `seed` makes the ids of its calls, so it should differ between answers.
    pub fn parser(&self, tools: Arc<Tools>, start: Start, seed: u64) -> Parser {
        Parser::new(self, tools, start, seed)
    }
}

/// Finds reasoning and calls in one answer.
///
/// Feed the model's text as it comes, with its special tokens as text (`<tool_call>`, `<|python_tag|>`: formats are
/// written with them) but without the end-of-sequence token; then [`Self::finish`]. How the text is cut makes no
/// difference. No input makes it fail: what isn't a call or reasoning is text.
///
/// Lost are only the marks themselves, white space that touches them, and the head of a call that the end of the output
/// cut off before anything could be said about it.
pub struct Parser {
    port: SharedPort,
    /// `None` once finished.
    grammar: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parser").field("finished", &self.grammar.is_none()).finish_non_exhaustive()
    }
}

impl Parser {
    fn new(families: &Families, tools: Arc<Tools>, start: Start, seed: u64) -> Self {
        let port = SharedPort::default();
        let short = families.tool.is_some_and(|family| family.short_ids);
        let is_harmony = families.is_framed();
        let channel = match (start, families.reasoning) {
            (_, None) | (Start::Content | Start::Continued, _) => Channel::Content,
            (Start::Reasoning, Some(_)) => Channel::Reasoning,
            (Start::Unknown, Some(family)) if family.implicit => Channel::Undecided,
            (Start::Unknown, Some(_)) => Channel::Content,
        };
        let after_markup = families.reasoning.is_some() && start != Start::Continued;
        let out = Output::new(Ids { seed, short }, after_markup);
        let mut scan = Scan::new(port.clone(), out, tools);
        let plan = Plan::new(families.tool, families.reasoning);
        let grammar = async move {
            let channel = if is_harmony {
                harmony::run(&mut scan).await
            } else {
                text::run(&mut scan, &plan, channel).await
            };
            scan.out.finish(channel);
            scan.close();
        };
        let mut parser = Self { port, grammar: Some(Box::pin(grammar)) };
        // Up to where it waits for text, so that `in_reasoning` is known from the start. Nothing can be said yet.
        parser.poll(&mut Vec::new());
        parser
    }

    /// More of the output. Adds the events that are certain now.
    pub fn push(&mut self, text: &str, events: &mut Vec<Event>) {
        if self.grammar.is_some() && !text.is_empty() {
            self.port.put(Some(text));
            self.poll(events);
        }
    }

    /// The output has ended. Adds the remaining events; the last is [`Event::Done`]. Later calls do nothing.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if self.grammar.is_some() {
            self.port.put(None);
            self.poll(events);
            self.grammar = None;
        }
    }

    /// Whether what comes next is reasoning, as far as the text so far can tell; a marker counts once it is whole.
    pub fn in_reasoning(&self) -> bool {
        self.grammar.is_some() && self.port.in_reasoning()
    }

    /// A whole output at once.
    pub fn parse(mut self, text: &str) -> Answer {
        let mut events = Vec::new();
        self.push(text, &mut events);
        self.finish(&mut events);
        events.iter().collect()
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        // The future waits for nothing but text, which comes with the next call: nobody needs to be woken.
        let mut context = Context::from_waker(Waker::noop());
        if let Some(grammar) = &mut self.grammar
            && grammar.as_mut().poll(&mut context).is_ready()
        {
            self.grammar = None;
        }
        self.port.take(events);
    }
}
