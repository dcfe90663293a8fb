//! The times of one sequence.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use millrace_types::{RequestOutput, Usage};

use super::ModelMetrics;

/// How a sequence ended, as `finished_reason` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Stop,
    Length,
    Abort,
    Timeout,
    Error,
}

impl Outcome {
    pub(crate) const ALL: [Self; 5] = [Self::Stop, Self::Length, Self::Abort, Self::Timeout, Self::Error];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Timeout => "timeout",
            Self::Error => "error",
        }
    }
}

/// Observes one sequence from its arrival. Dropped before its end, it counts as aborted.
#[derive(Debug)]
pub(crate) struct SequenceTimer {
    metrics: Arc<ModelMetrics>,
    arrival: Instant,
    first: Option<Instant>,
    last: Instant,
    queue_time: Duration,
    preemptions: u32,
    usage: Usage,
    closed: bool,
}

impl SequenceTimer {
    pub(crate) fn new(metrics: Arc<ModelMetrics>, arrival: Instant) -> Self {
        Self {
            metrics,
            arrival,
            first: None,
            last: arrival,
            queue_time: Duration::ZERO,
            preemptions: 0,
            usage: Usage::default(),
            closed: false,
        }
    }

    /// Notes the news of one step.
    pub(crate) fn step(&mut self, output: &RequestOutput) {
        self.usage = output.usage;
        self.queue_time = output.queue_time;
        self.preemptions = output.preemptions;
        if output.tokens.is_empty() {
            return;
        }
        let now = Instant::now();
        match self.first {
            None => {
                self.first = Some(now);
                self.metrics.first_token.observe_time(now - self.arrival);
            }
            Some(_) => self.metrics.inter_token.observe_time(now - self.last),
        }
        self.last = now;
    }

    /// Notes the end.
    pub(crate) fn close(&mut self, outcome: Outcome) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let (metrics, now) = (&*self.metrics, Instant::now());
        metrics.outcome(outcome);
        metrics.end_to_end.observe_time(now - self.arrival);
        metrics.queue.observe_time(self.queue_time);
        metrics.prompt_tokens.observe_count(self.usage.prompt_tokens);
        metrics.generation_tokens.observe_count(self.usage.completion_tokens);
        metrics.preemptions.observe_count(self.preemptions as usize);
        metrics.cached_tokens.fetch_add(self.usage.cached_tokens as u64, Relaxed);
        let Some(first) = self.first else { return };
        let scheduled = self.arrival + self.queue_time;
        metrics.inference.observe_time(self.last.saturating_duration_since(scheduled));
        metrics.prefill.observe_time(first.saturating_duration_since(scheduled));
        let decode = self.last - first;
        metrics.decode.observe_time(decode);
        if let Some(gaps) = u32::try_from(self.usage.completion_tokens).ok().filter(|tokens| *tokens > 1) {
            metrics.per_output_token.observe_time(decode / (gaps - 1));
        }
    }
}

impl Drop for SequenceTimer {
    fn drop(&mut self) {
        self.close(Outcome::Abort);
    }
}
