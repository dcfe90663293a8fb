//! A whole answer is the collected stream.

use millrace_types::{TokenId, Usage};

use crate::{ApiError, ChatEvent, Delta, End, EndReason, Scored, Start};

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
    /// All of its text.
    pub text: String,
    /// All sampled tokens.
    pub token_ids: Vec<TokenId>,
    /// Of echoed and sampled tokens, if asked for.
    pub logprobs: Vec<Scored>,
    /// Of the prompt, if asked for.
    pub prompt_logprobs: Option<Vec<Option<Scored>>>,
    /// How it ended.
    pub end: End,
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
            text: String::new(),
            token_ids: Vec::new(),
            logprobs: Vec::new(),
            prompt_logprobs: None,
            end: End { reason: EndReason::Abort, stop: None },
        }
    }

    fn extend(&mut self, delta: Delta) {
        self.text.push_str(&delta.text);
        self.token_ids.extend(delta.token_ids);
        self.logprobs.extend(delta.logprobs);
        if delta.prompt_logprobs.is_some() {
            self.prompt_logprobs = delta.prompt_logprobs;
        }
        if let Some(end) = delta.end {
            self.end = end;
        }
    }
}
