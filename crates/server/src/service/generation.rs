//! Several sequences as one stream of events.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures::{
    Stream, StreamExt,
    stream::{SelectAll, unfold},
};
use millrace_api::{ApiError, ChatEvent, Delta, Start};
use millrace_engine::ResponseStream;
use millrace_types::Usage;

use super::{active::ActiveGuard, sequence::Sequence};
use crate::{Lease, ServedModel, keys::Caller};

/// A running request. Dropping it aborts what hasn't ended.
pub struct Generation {
    /// Keeps the model from being unloaded.
    model: Lease,
    ready: VecDeque<ChatEvent>,
    sequences: SelectAll<News>,
    tally: Tally,
    /// Whose budget the answer is taken from.
    caller: Caller,
    ended: bool,
    load_time: Duration,
    /// In the table of active requests until the last event is out.
    _guard: ActiveGuard,
}

/// The deltas of one sequence; ends after the one with `end`, or after an error.
type News = Pin<Box<dyn Stream<Item = Result<Delta, ApiError>> + Send>>;

impl Generation {
    pub(super) fn new(
        model: Lease,
        start: Start,
        sequences: Vec<(ResponseStream, Sequence)>,
        guard: ActiveGuard,
    ) -> Self {
        let tally = Tally::new(&start);
        let sequences = sequences.into_iter().map(|(outputs, sequence)| follow(outputs, sequence));
        Self {
            model,
            ready: [ChatEvent::Start(start)].into(),
            sequences: sequences.collect(),
            tally,
            caller: Caller::current(),
            ended: false,
            load_time: Duration::ZERO,
            _guard: guard,
        }
    }

    /// The model that answers.
    pub fn model(&self) -> &ServedModel {
        &self.model
    }

    /// How long the request waited for its model to be loaded.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    pub(super) fn loaded_after(self, load_time: Duration) -> Self {
        Self { load_time, ..self }
    }

    /// The next event; `None` after `Done` or `Error`. Deltas of different choices come as they are sampled.
    pub async fn next(&mut self) -> Option<ChatEvent> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        if self.ended {
            return None;
        }
        Some(match self.sequences.next().await {
            Some(Ok(delta)) => {
                self.caller.charge(self.tally.add(&delta));
                ChatEvent::Delta(Box::new(delta))
            }
            Some(Err(error)) => {
                self.end();
                ChatEvent::Error(error)
            }
            None => {
                self.end();
                ChatEvent::Done(self.tally.total())
            }
        })
    }

    /// [`next`](Self::next) as a stream.
    pub fn into_stream(self) -> impl Stream<Item = ChatEvent> + Send {
        unfold(self, |mut generation| async move { Some((generation.next().await?, generation)) })
    }

    /// No more events. What still runs is aborted: one failed choice fails the request.
    fn end(&mut self) {
        self.ended = true;
        self.sequences = SelectAll::new();
    }
}

/// One sequence from engine outputs to deltas. The engine's stream is dropped with the sequence's end, which aborts
/// the request if it was a stop string that ended it.
fn follow(outputs: ResponseStream, sequence: Sequence) -> News {
    let states = unfold(Some((outputs, sequence)), |state| async move {
        let (mut outputs, mut sequence) = state?;
        loop {
            let news = match outputs.recv().await {
                Some(output) => sequence.push(&output),
                None => Err(sequence.lost()),
            };
            match news {
                Ok(None) => {}
                Ok(Some(delta)) => {
                    let rest = delta.end.is_none().then_some((outputs, sequence));
                    return Some((Ok(delta), rest));
                }
                Err(error) => return Some((Err(error), None)),
            }
        }
    });
    Box::pin(states)
}

/// Counts of a request. A prompt counts once, however many choices read it, and its cached tokens are those of its
/// first choice: the others find what that one computed.
#[derive(Debug)]
struct Tally {
    samples: usize,
    prompt_tokens: usize,
    choices: Vec<Usage>,
}

impl Tally {
    fn new(start: &Start) -> Self {
        Self {
            samples: start.samples.max(1),
            prompt_tokens: start.prompts.iter().map(|prompt| prompt.len()).sum(),
            choices: vec![Usage::default(); start.choices()],
        }
    }

    /// Takes the newest counts of a choice; says how many tokens it has more.
    fn add(&mut self, delta: &Delta) -> usize {
        let Some(usage) = self.choices.get_mut(delta.choice) else { return 0 };
        let before = std::mem::replace(usage, delta.usage);
        usage.completion_tokens.saturating_sub(before.completion_tokens)
    }

    fn total(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.choices.iter().step_by(self.samples).map(|usage| usage.cached_tokens).sum(),
            completion_tokens: self.choices.iter().map(|usage| usage.completion_tokens).sum(),
        }
    }
}
