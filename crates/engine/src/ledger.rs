//! The ledger: a request is opened once and closed once, with exactly one finish reason. Usage is counted here.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use millrace_types::{
    Finish, FinishReason, Request, RequestId, RequestOutput, TokenId, TokenLogprobs, Usage,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::{RequestState, constrained::Constrained, sampling::SamplingState};

/// Said to a request that was never started.
const WAITED: &str = "The request waited too long for its turn. Please try again later.";

/// One open request.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sampling: SamplingState,
    /// Whether there is a constraint, here or away.
    is_constrained: bool,
    /// Away from a sampled token until the mask of the next one is known.
    pub(crate) constrained: Option<Box<Constrained>>,
    /// Tokens that the constraint puts behind the last sampled one.
    pub(crate) forced: Vec<TokenId>,
    pub(crate) output: Vec<TokenId>,
    pub(crate) usage: Usage,
    pub(crate) deadline: Option<Instant>,
    start_by: Option<Instant>,
    /// Prompt log-probabilities that were not sent yet (chunked prefill brings them piece by piece).
    prompt_logprobs: Vec<Option<TokenLogprobs>>,
    /// Prompt tokens that have theirs, the first one (which has none) included; 0 if nobody asked.
    pub(crate) scored: usize,
    arrival: Instant,
    queue_time: Option<Duration>,
    preemptions: u32,
    outputs: UnboundedSender<RequestOutput>,
}

impl Entry {
    /// Sampled rows of a prompt-scoring request are never drawn: `max_tokens` 0 only asks for the prompt.
    pub(crate) fn scores_only(&self) -> bool {
        self.sampling.params().max_tokens == 0
    }

    /// Whether the next token needs the mask of a constraint.
    pub(crate) fn is_masked(&self) -> bool {
        self.is_constrained && !self.constrained.as_ref().is_some_and(|constrained| constrained.is_tried())
    }

    /// Whether, and why, the output ends with `token` as its token number `count` (the order of checks is vLLM's).
    pub(crate) fn finish_at(&self, token: TokenId, count: usize, max_model_len: usize) -> Option<Finish> {
        let params = self.sampling.params();
        if params.eos_token_ids.contains(&token) {
            return Some(Finish { reason: FinishReason::Stop, stop_token: None });
        }
        if params.stop_token_ids.contains(&token) {
            return Some(Finish { reason: FinishReason::Stop, stop_token: Some(token) });
        }
        (count >= self.most_tokens(max_model_len))
            .then_some(Finish { reason: FinishReason::Length, stop_token: None })
    }

    /// How many tokens the output may have.
    pub(crate) fn most_tokens(&self, max_model_len: usize) -> usize {
        max_model_len.saturating_sub(self.usage.prompt_tokens).min(self.sampling.params().max_tokens)
    }

    /// Notes the log-probability of the next prompt token.
    pub(crate) fn push_score(&mut self, logprobs: TokenLogprobs) {
        self.prompt_logprobs.push(Some(logprobs));
        self.scored += 1;
    }

    fn report(&self) -> RequestOutput {
        RequestOutput {
            usage: self.usage,
            sent: Some(Instant::now()),
            queue_time: self.queue_time.unwrap_or_else(|| self.arrival.elapsed()),
            preemptions: self.preemptions,
            ..RequestOutput::default()
        }
    }
}

/// All open requests.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<RequestId, Entry>,
    /// Closed requests by reason, in the order of [`FinishReason`].
    pub(crate) finished: [u64; 5],
    pub(crate) generation_tokens: u64,
    pub(crate) prompt_tokens: u64,
}

impl Ledger {
    /// Opens a request.
    pub(crate) fn open(
        &mut self,
        request: &Request,
        sampling: SamplingState,
        constrained: Option<Box<Constrained>>,
        outputs: UnboundedSender<RequestOutput>,
    ) {
        let prompt_logprobs =
            if sampling.params().prompt_logprobs.is_some() { vec![None] } else { Vec::new() };
        let usage = Usage { prompt_tokens: request.prompt.len(), ..Usage::default() };
        let entry = Entry {
            sampling,
            is_constrained: constrained.is_some(),
            constrained,
            forced: Vec::new(),
            output: Vec::new(),
            usage,
            deadline: request.deadline,
            start_by: request.start_by,
            scored: prompt_logprobs.len(),
            prompt_logprobs,
            arrival: request.arrival,
            queue_time: None,
            preemptions: 0,
            outputs,
        };
        let before = self.entries.insert(request.id, entry);
        debug_assert!(before.is_none(), "request ids are unique");
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    /// Open requests whose client has gone or whose time is up, with how to close them.
    pub(crate) fn expired(&self, now: Instant) -> Vec<(RequestId, FinishReason, Option<String>)> {
        let over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        let close = |entry: &Entry| {
            if entry.outputs.is_closed() {
                Some((FinishReason::Abort, None))
            } else if over(entry.deadline) {
                Some((FinishReason::Timeout, None))
            } else {
                let waited = over(entry.start_by) && entry.queue_time.is_none();
                waited.then(|| (FinishReason::Timeout, Some(WAITED.to_owned())))
            }
        };
        let expired =
            |(id, entry): (&RequestId, &Entry)| close(entry).map(|(reason, error)| (*id, reason, error));
        self.entries.iter().filter_map(expired).collect()
    }

    /// What the ledger knows of its requests, oldest first; the rest is the scheduler's.
    pub(crate) fn states(&self) -> Vec<RequestState> {
        let state = |(id, entry): (&RequestId, &Entry)| RequestState {
            id: *id,
            running: false,
            prompt_tokens: entry.usage.prompt_tokens,
            cached_tokens: entry.usage.cached_tokens,
            computed_tokens: 0,
            generated_tokens: entry.usage.completion_tokens,
            preemptions: entry.preemptions,
        };
        let mut states: Vec<_> = self.entries.iter().map(state).collect();
        states.sort_unstable_by_key(|state| state.id);
        states
    }

    /// Notes the first admission of a request (later ones follow a preemption). True the first time.
    pub(crate) fn admitted(&mut self, id: RequestId, cached_tokens: usize) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        if entry.queue_time.is_some() {
            return false;
        }
        entry.queue_time = Some(entry.arrival.elapsed());
        entry.usage.cached_tokens = cached_tokens;
        self.prompt_tokens += entry.usage.prompt_tokens as u64;
        true
    }

    pub(crate) fn preempted(&mut self, id: RequestId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.preemptions += 1;
        }
    }

    /// Whether the request was ever admitted (it no longer counts as queued).
    pub(crate) fn was_admitted(&self, id: RequestId) -> bool {
        self.entries.get(&id).is_some_and(|e| e.queue_time.is_some())
    }

    /// Appends a step's tokens, one at least, up to the one that ends the request. Says how many those were, and why it
    /// ended: then the caller must close it.
    pub(crate) fn append_all(
        &mut self,
        id: RequestId,
        tokens: &[TokenId],
        max_model_len: usize,
    ) -> (usize, Option<Finish>) {
        let Some(entry) = self.entries.get_mut(&id) else { return (0, None) };
        for (index, token) in tokens.iter().enumerate() {
            entry.output.push(*token);
            entry.sampling.append(*token);
            entry.usage.completion_tokens += 1;
            self.generation_tokens += 1;
            if let Some(finish) = entry.finish_at(*token, entry.output.len(), max_model_len) {
                return (index + 1, Some(finish));
            }
        }
        (tokens.len(), None)
    }

    /// Sends a step's news. The last news of a request closes it.
    pub(crate) fn send(
        &mut self,
        id: RequestId,
        tokens: &[TokenId],
        logprobs: Option<TokenLogprobs>,
        finish: Option<Finish>,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let mut output = entry.report();
        output.tokens.extend_from_slice(tokens);
        output.logprobs.extend(logprobs);
        if !entry.prompt_logprobs.is_empty() {
            output.prompt_logprobs = Some(std::mem::take(&mut entry.prompt_logprobs));
        }
        output.finish = finish;
        // A closed channel is a client that left: the next sweep aborts the request.
        let _ = entry.outputs.send(output);
        if let Some(finish) = finish {
            self.finished[finish.reason as usize] += 1;
            self.entries.remove(&id);
        }
    }

    /// Closes a request with the row that it asked for.
    pub(crate) fn send_pooled(&mut self, id: RequestId, row: &[f32]) {
        let Some(entry) = self.entries.remove(&id) else { return };
        let finish = Finish { reason: FinishReason::Stop, stop_token: None };
        self.finished[finish.reason as usize] += 1;
        let output = RequestOutput { pooled: row.to_vec(), finish: Some(finish), ..entry.report() };
        // A closed channel is a client that left.
        let _ = entry.outputs.send(output);
    }

    /// Closes a request without a token; unknown ids are ignored. True if it was open.
    pub(crate) fn close(&mut self, id: RequestId, reason: FinishReason, error: Option<String>) -> bool {
        let Some(entry) = self.entries.remove(&id) else { return false };
        self.finished[reason as usize] += 1;
        let mut output = entry.report();
        output.finish = Some(Finish { reason, stop_token: None });
        output.error = error;
        let _ = entry.outputs.send(output);
        true
    }

    /// All open ids.
    pub(crate) fn ids(&self) -> Vec<RequestId> {
        self.entries.keys().copied().collect()
    }
}
