//! What Prometheus scrapes.
//!
//! Everything that happens per token is an atomic add. Engine gauges and counters are read from the engine's own
//! snapshot when somebody scrapes.

mod buckets;
mod histogram;
mod http;
mod mcp;
mod request;
mod scrape;
mod store;
mod text;

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use histogram::Histogram;
pub(crate) use http::HttpMetrics;
pub(crate) use request::{Outcome, SequenceTimer};
pub(crate) use scrape::scrape;
pub(crate) use store::StoreMetrics;

/// One model's histograms and counters, filled by the service.
#[derive(Debug)]
pub struct ModelMetrics {
    first_token: Histogram,
    inter_token: Histogram,
    per_output_token: Histogram,
    end_to_end: Histogram,
    queue: Histogram,
    inference: Histogram,
    prefill: Histogram,
    decode: Histogram,
    prompt_tokens: Histogram,
    generation_tokens: Histogram,
    max_tokens: Histogram,
    choices: Histogram,
    preemptions: Histogram,
    cached_tokens: AtomicU64,
    grammar_compile: Histogram,
    grammar_queries: AtomicU64,
    grammar_hits: AtomicU64,
    /// By [`Outcome`].
    outcomes: [AtomicU64; Outcome::ALL.len()],
}

impl ModelMetrics {
    /// Empty metrics; token histograms reach up to `max_model_len`.
    pub fn new(max_model_len: usize) -> Self {
        let tokens = buckets::tokens(max_model_len);
        Self {
            first_token: Histogram::new(buckets::FIRST_TOKEN),
            inter_token: Histogram::new(buckets::TOKEN),
            per_output_token: Histogram::new(buckets::TOKEN),
            end_to_end: Histogram::new(buckets::REQUEST),
            queue: Histogram::new(buckets::REQUEST),
            inference: Histogram::new(buckets::REQUEST),
            prefill: Histogram::new(buckets::REQUEST),
            decode: Histogram::new(buckets::REQUEST),
            prompt_tokens: Histogram::new(&tokens),
            generation_tokens: Histogram::new(&tokens),
            max_tokens: Histogram::new(&tokens),
            choices: Histogram::new(buckets::CHOICES),
            preemptions: Histogram::new(buckets::EVENTS),
            cached_tokens: AtomicU64::new(0),
            grammar_compile: Histogram::new(buckets::COMPILE),
            grammar_queries: AtomicU64::new(0),
            grammar_hits: AtomicU64::new(0),
            outcomes: Default::default(),
        }
    }

    /// Notes the parameters of an accepted request.
    pub(crate) fn accepted(&self, choices: usize, max_tokens: usize) {
        self.choices.observe_count(choices);
        self.max_tokens.observe_count(max_tokens);
    }

    /// Notes that a grammar was asked for, and how long it took to compile if it wasn't there.
    pub(crate) fn grammar(&self, compiled_in: Option<Duration>) {
        self.grammar_queries.fetch_add(1, Relaxed);
        if let Some(time) = compiled_in {
            self.grammar_compile.observe_time(time);
        } else {
            self.grammar_hits.fetch_add(1, Relaxed);
        }
    }

    fn outcome(&self, outcome: Outcome) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}
