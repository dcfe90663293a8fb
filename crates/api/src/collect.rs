//! A whole answer is the collected stream.

use millrace_types::{TokenId, Usage};

use crate::{ApiError, ChatEvent, Delta, End, EndReason, Part, Scored, ServerCall, Start};

/// Gathers events until the request is done.
#[derive(Debug, Default)]
pub struct Collector {
    start: Option<Start>,
    choices: Vec<Choice>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Collected {
    /// The prompts.
    pub start: Start,
    /// In order of their index.
    pub choices: Vec<Choice>,
    /// Counts of the whole request.
    pub usage: Usage,
}

/// One whole choice.
#[derive(Debug, Clone)]
pub struct Choice {
    /// All that was said, in order; neighbours of one kind are joined.
    pub parts: Vec<Part>,
    /// All of its answer text.
    pub text: String,
    /// All of its reasoning.
    pub reasoning: String,
    /// Its calls in order; those that broke off too.
    pub tool_calls: Vec<ToolCall>,
    /// Calls that the server ran itself, in order.
    pub server_calls: Vec<ServerCall>,
    /// All sampled tokens.
    pub token_ids: Vec<TokenId>,
    /// Of echoed and sampled tokens, if asked for.
    pub logprobs: Vec<Scored>,
    /// Of the prompt, if asked for.
    pub prompt_logprobs: Option<Vec<Option<Scored>>>,
    /// How many of its tokens were reasoning.
    pub reasoning_tokens: usize,
    /// How it ended.
    pub end: End,
}

/// One whole call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id.
    pub id: String,
    /// The function.
    pub name: String,
    /// JSON text; only its beginning if the call isn't complete.
    pub arguments: String,
    /// Whether the arguments came to their end; if not, the call must not be run.
    pub complete: bool,
}

impl Collector {
    /// Takes the next event; returns the answer with `Done`.
    ///
    /// # Errors
    /// The error that ended the stream.
    pub fn push(&mut self, event: ChatEvent) -> Result<Option<Collected>, ApiError> {
        match event {
            ChatEvent::Start(start) => {
                self.choices = vec![Choice::open(); start.choices()];
                self.start = Some(start);
            }
            ChatEvent::Delta(delta) => {
                if let Some(choice) = self.choices.get_mut(delta.choice) {
                    choice.extend(*delta);
                }
            }
            ChatEvent::Done(usage) => {
                let start =
                    self.start.take().ok_or_else(|| ApiError::internal("The answer has no beginning."))?;
                return Ok(Some(Collected { start, choices: std::mem::take(&mut self.choices), usage }));
            }
            ChatEvent::Error(error) => return Err(error),
        }
        Ok(None)
    }
}

impl Choice {
    fn open() -> Self {
        Self {
            parts: Vec::new(),
            text: String::new(),
            reasoning: String::new(),
            tool_calls: Vec::new(),
            server_calls: Vec::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            prompt_logprobs: None,
            reasoning_tokens: 0,
            end: End { reason: EndReason::Abort, stop: None },
        }
    }

    fn extend(&mut self, delta: Delta) {
        delta.parts.into_iter().for_each(|part| self.add(part));
        for news in delta.server_calls {
            ServerCall::note(&mut self.server_calls, news, self.parts.len());
        }
        self.reasoning_tokens = delta.reasoning_tokens;
        self.token_ids.extend(delta.token_ids);
        self.logprobs.extend(delta.logprobs);
        if delta.prompt_logprobs.is_some() {
            self.prompt_logprobs = delta.prompt_logprobs;
        }
        if let Some(end) = delta.end {
            self.end = end;
        }
    }

    fn add(&mut self, part: Part) {
        self.append(&part);
        match part {
            Part::Text(text) => self.text.push_str(&text),
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::ToolCall { id, name, .. } => {
                self.tool_calls.push(ToolCall { id, name, arguments: String::new(), complete: false });
            }
            Part::ToolArguments { index, delta } => {
                if let Some(call) = self.tool_calls.get_mut(index) {
                    call.arguments.push_str(&delta);
                }
            }
            Part::ToolCallEnd { index, complete } => {
                if let Some(call) = self.tool_calls.get_mut(index) {
                    call.complete = complete;
                }
            }
        }
    }

    fn append(&mut self, part: &Part) {
        match (part, self.parts.last_mut()) {
            (Part::Text(more), Some(Part::Text(text)))
            | (Part::Reasoning(more), Some(Part::Reasoning(text)))
            | (Part::ToolArguments { delta: more, .. }, Some(Part::ToolArguments { delta: text, .. })) => {
                text.push_str(more);
            }
            _ => self.parts.push(part.clone()),
        }
    }

    /// Whether it holds a call that may be run.
    pub fn has_call(&self) -> bool {
        self.tool_calls.iter().any(|call| call.complete)
    }
}
