//! One sequence: from the engine's tokens to certain text, and to its parts.

use std::sync::Arc;

use millrace_api::{ApiError, Delta, End, EndReason, GenerationOptions, Scored, StopCause, TokenText};
use millrace_engine::SubmitError;
use millrace_text::{Detokenizer, StopChecker, Tokenizer};
use millrace_types::{Finish, FinishReason, RequestOutput, TokenId, TokenLogprobs};

use super::{
    prepare::Prepared,
    reading::{Reader, Reading},
};
use crate::{
    ServedModel,
    metrics::{Outcome, SequenceTimer},
};

/// Seconds after which a client may try again when its request was not started in time.
const RETRY_QUEUE: u32 = 5;

/// The state of one choice.
pub(super) struct Sequence {
    choice: usize,
    tokenizer: Arc<Tokenizer>,
    detokenizer: Detokenizer,
    /// Watches the text as the model writes it, markup included.
    stop: StopChecker,
    reader: Reader,
    reasoning_tokens: usize,
    /// Show the text of the token that ended the answer.
    include_stop: bool,
    opening: Opening,
    timer: SequenceTimer,
}

/// What the first delta says about the prompt; taken once.
#[derive(Default)]
struct Opening {
    /// Text to give back.
    echo: Option<String>,
    /// Alternatives per echoed prompt token, if those are wanted.
    echo_logprobs: Option<usize>,
    /// Alternatives per prompt token, if those are wanted.
    prompt_logprobs: Option<usize>,
    /// For the first token, of which the engine says nothing.
    first_token: TokenId,
}

/// Ends of a sequence that fail the whole request.
pub(super) fn failure(output: &RequestOutput) -> Option<(Outcome, ApiError)> {
    match output.finish?.reason {
        FinishReason::Timeout => {
            // With an error it is the queue that took too long.
            let error = match &output.error {
                Some(reason) => ApiError::unavailable(reason, RETRY_QUEUE),
                None => ApiError::timeout(),
            };
            Some((Outcome::Timeout, error))
        }
        FinishReason::Error => {
            let reason = output.error.as_deref().unwrap_or("The engine could not go on with this request.");
            Some((Outcome::Error, ApiError::internal(reason)))
        }
        FinishReason::Stop | FinishReason::Length | FinishReason::Abort => None,
    }
}

impl Sequence {
    pub(super) fn new(
        choice: usize,
        model: &ServedModel,
        prompt: &Prepared,
        options: &GenerationOptions,
        timer: SequenceTimer,
    ) -> Self {
        let tokenizer = model.parts.tokenizer.clone();
        let count = |wanted: Option<i64>| wanted.and_then(|count| usize::try_from(count).ok());
        let detokenizer =
            Detokenizer::after_prompt(tokenizer.clone(), options.skip_special_tokens, &prompt.tokens);
        let markers = prompt.reading.as_ref().map(Reading::markers).unwrap_or_default();
        Self {
            choice,
            detokenizer: detokenizer.showing(markers),
            tokenizer,
            stop: StopChecker::new(
                &options.stop,
                options.include_stop_str_in_output,
                prompt.sampling.min_tokens,
            ),
            reader: Reader::new(prompt.reading.as_ref()),
            reasoning_tokens: 0,
            include_stop: options.include_stop_str_in_output,
            opening: Opening {
                echo: prompt.echo.clone(),
                echo_logprobs: count(options.logprobs).filter(|_| options.echo),
                prompt_logprobs: count(options.prompt_logprobs),
                first_token: prompt.tokens.first().copied().unwrap_or_default(),
            },
            timer,
        }
    }

    /// Takes the news of one step; `None` if there is nothing to tell.
    ///
    /// # Errors
    /// The request's deadline passed, or the engine could not go on with it.
    pub(super) fn push(&mut self, output: &RequestOutput) -> Result<Option<Delta>, ApiError> {
        self.timer.step(output);
        self.check(output)?;
        let mut delta = Delta { choice: self.choice, usage: output.usage, ..Delta::default() };
        let scores = output.prompt_logprobs.as_deref();
        if scores.is_some() || !output.tokens.is_empty() || output.finish.is_some() {
            self.open(&mut delta, scores);
        }
        delta.end = match self.take_tokens(&mut delta, output) {
            Some(end) => Some(end),
            None => output.finish.map(|finish| self.finish(&mut delta, finish)),
        };
        delta.reasoning_tokens = self.reasoning_tokens;
        if let Some(end) = &delta.end {
            self.timer.close(outcome(end.reason));
        }
        let news = delta.end.is_some()
            || !delta.parts.is_empty()
            || !delta.token_ids.is_empty()
            || delta.prompt_logprobs.is_some();
        Ok(news.then_some(delta))
    }

    /// The engine is gone without a word.
    pub(super) fn lost(&mut self) -> ApiError {
        self.timer.close(Outcome::Error);
        ApiError::internal(SubmitError::Dead.to_string())
    }

    /// Ends that fail the whole request.
    fn check(&mut self, output: &RequestOutput) -> Result<(), ApiError> {
        match failure(output) {
            Some((outcome, error)) => {
                self.timer.close(outcome);
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// The prompt's part of the first delta. Scores of the prompt, if asked for, come no later than the first token.
    fn open(&mut self, delta: &mut Delta, scores: Option<&[Option<TokenLogprobs>]>) {
        let opening = std::mem::take(&mut self.opening);
        delta.say(&opening.echo.unwrap_or_default());
        let Some(scores) = scores else { return };
        if let Some(count) = opening.echo_logprobs {
            let first =
                Scored { token: self.show(opening.first_token), logprob: None, rank: 0, top: Vec::new() };
            delta.logprobs.push(first);
            delta.logprobs.extend(scores.iter().flatten().map(|score| self.score(score, count)));
        }
        if let Some(count) = opening.prompt_logprobs {
            let shown = scores.iter().map(|score| score.as_ref().map(|score| self.score(score, count)));
            delta.prompt_logprobs = Some(shown.collect());
        }
    }

    /// Takes token by token until a stop string or the only call that is wanted is complete. Tokens after it are
    /// neither shown nor counted.
    fn take_tokens(&mut self, delta: &mut Delta, output: &RequestOutput) -> Option<End> {
        let hidden = self.hidden_tail(output);
        let count = output.tokens.len();
        for (index, token) in output.tokens.iter().enumerate() {
            delta.token_ids.push(*token);
            let score = output.logprobs.get(index).map(|score| self.score(score, score.top.len()));
            delta.logprobs.extend(score);
            // A hidden token still counts as a piece, for `min_tokens`.
            let shown = index + hidden < count;
            let text = if shown { self.detokenizer.push(*token) } else { String::new() };
            let before = self.reader.in_reasoning();
            let end = self.release(&text, delta);
            // Its markers count as reasoning too: the one that opens it by where it leads, the other by where it stood.
            self.reasoning_tokens += usize::from(shown && (before || self.reader.in_reasoning()));
            if let Some(end) = end {
                delta.usage.completion_tokens -= count - index - 1;
                return Some(end);
            }
        }
        None
    }

    /// How many tokens at the end of this output have no text: one, if a stop token ended the request.
    fn hidden_tail(&self, output: &RequestOutput) -> usize {
        let stopped = output.finish.is_some_and(|finish| finish.reason == FinishReason::Stop);
        usize::from(stopped && !self.include_stop)
    }

    /// Flushes what was held back; it may still complete a stop string.
    fn finish(&mut self, delta: &mut Delta, finish: Finish) -> End {
        let rest = self.detokenizer.finish();
        if let Some(end) = self.release(&rest, delta) {
            return end;
        }
        let rest = self.stop.finish();
        if self.reader.push(&rest, delta) {
            return End { reason: EndReason::Stop, stop: None };
        }
        self.reader.finish(delta);
        let reason = match finish.reason {
            FinishReason::Stop => EndReason::Stop,
            FinishReason::Length => EndReason::Length,
            // Timeouts and errors don't come here: see `check`.
            FinishReason::Abort | FinishReason::Timeout | FinishReason::Error => EndReason::Abort,
        };
        End { reason, stop: finish.stop_token.map(StopCause::Token) }
    }

    /// Passes on what is certain; `Some` if the answer ends with it.
    fn release(&mut self, text: &str, delta: &mut Delta) -> Option<End> {
        let certain = self.stop.push(text);
        if self.reader.push(&certain, delta) {
            return Some(End { reason: EndReason::Stop, stop: None });
        }
        let stop = self.stop.matched()?.to_owned();
        self.reader.finish(delta);
        Some(End { reason: EndReason::Stop, stop: Some(StopCause::Text(stop)) })
    }

    fn score(&self, score: &TokenLogprobs, count: usize) -> Scored {
        Scored {
            token: self.show(score.token),
            logprob: Some(score.logprob),
            rank: score.rank,
            top: score.top.iter().take(count).map(|(token, logprob)| (self.show(*token), *logprob)).collect(),
        }
    }

    fn show(&self, id: TokenId) -> TokenText {
        TokenText { id, bytes: self.tokenizer.token_bytes(id).to_vec() }
    }
}

fn outcome(reason: EndReason) -> Outcome {
    match reason {
        EndReason::Stop => Outcome::Stop,
        EndReason::Length => Outcome::Length,
        EndReason::Abort => Outcome::Abort,
    }
}
