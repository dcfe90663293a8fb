//! `millrace bench latency`: one batch from its prompts to its last tokens.

use anyhow::Result;
use serde_json::json;

use super::stats::Sample;
use super::workload::{Run, Shape};
use super::{Bench, Report, measure, roofline::Bound};
use crate::args::LatencyArgs;

/// Runs the command.
pub(crate) fn run(args: &LatencyArgs) -> Result<()> {
    let common = &args.common;
    let shape = Shape {
        input_len: common.input_len,
        output_len: common.output_len,
        num_prompts: args.batch_size,
        batch_size: args.batch_size,
        num_iters: args.num_iters,
    };
    measure::<Latency>(common, shape)
}

struct Latency {
    shape: Shape,
    first_tokens: Sample,
    gaps: Sample,
    totals: Sample,
    /// Until the last request of a run had its first token.
    prefills: Sample,
    /// All prompts of the batch at the ceilings.
    prefill: Bound,
    /// One step at the ceilings.
    decode: Bound,
}

impl Report for Latency {
    fn new(bench: &Bench, runs: &[Run]) -> Self {
        let shape = bench.workload.shape;
        Self {
            shape,
            first_tokens: Sample::millis(runs.iter().flat_map(|run| run.first_tokens.iter().copied())),
            gaps: Sample::millis(runs.iter().flat_map(|run| run.gaps.iter().copied())),
            totals: Sample::millis(runs.iter().map(|run| run.wall)),
            prefills: Sample::millis(runs.iter().filter_map(|run| run.first_tokens.iter().max().copied())),
            prefill: bench.cost.prefill(&bench.ceilings, shape.num_prompts, shape.input_len),
            decode: bench.cost.decode(
                &bench.ceilings,
                shape.num_prompts,
                shape.input_len + shape.output_len / 2,
            ),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            Sample::head(),
            self.first_tokens.row("first token", "ms"),
            self.gaps.row("between tokens", "ms"),
            self.totals.row("whole batch", "ms"),
            String::new(),
            beside_ceiling("prompts", self.prefill_rate(), self.prefill, self.prefill_seconds()),
        ];
        if self.shape.output_len > 1 {
            lines.push(beside_ceiling("answers", self.decode_rate(), self.decode, self.decode_seconds()));
        }
        lines
    }

    fn to_json(&self, mut head: serde_json::Value) -> serde_json::Value {
        head["first_token_ms"] = self.first_tokens.to_json();
        head["inter_token_ms"] = self.gaps.to_json();
        head["total_ms"] = self.totals.to_json();
        head["prefill_tokens_per_second"] = json!(self.prefill_rate());
        head["decode_tokens_per_second"] = json!(self.decode_rate());
        head["roofline"] = json!({
            "prefill": self.prefill.to_json(self.prefill_seconds()),
            "decode": self.decode.to_json(self.decode_seconds()),
        });
        head
    }
}

impl Latency {
    /// Prompt tokens per second.
    fn prefill_rate(&self) -> f64 {
        (self.shape.num_prompts * self.shape.input_len) as f64 / self.prefill_seconds()
    }

    fn prefill_seconds(&self) -> f64 {
        (self.prefills.median() / 1e3).max(f64::MIN_POSITIVE)
    }

    /// Output tokens per second once all prompts are read; 0 if there is only one token per answer.
    fn decode_rate(&self) -> f64 {
        let seconds = self.decode_seconds();
        if seconds > 0.0 { self.shape.num_prompts as f64 / seconds } else { 0.0 }
    }

    fn decode_seconds(&self) -> f64 {
        self.gaps.median() / 1e3
    }
}

/// A rate beside the one that the machine would reach at best.
fn beside_ceiling(what: &str, rate: f64, bound: Bound, seconds: f64) -> String {
    let share = bound.reached(seconds);
    let ceiling = if share > 0.0 { rate / share * 100.0 } else { 0.0 };
    format!("{what:<12}{rate:.1} tokens/s; the {} ceiling is {ceiling:.1}: {share:.0} % reached", bound.by)
}
