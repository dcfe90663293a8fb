//! `millrace bench latency`: batches from their prompts to their last tokens.

use std::io::BufRead;

use anyhow::{Context, Result};
use serde_json::json;

use super::roofline::Roof;
use super::stats::Sample;
use super::workload::{Run, Shape};
use super::{Bench, Report, Room, measure_all};
use crate::args::{BatchCase, Case, LatencyArgs};

/// Runs the command.
pub(crate) fn run(args: &LatencyArgs) -> Result<()> {
    let common = &args.common;
    let single =
        BatchCase { input_len: common.input_len, output_len: common.output_len, batch_size: args.batch_size };
    let cases = if args.cases.is_empty() { vec![Case::Batch(single)] } else { args.cases.clone() };
    let room = room(&cases, common.engine.max_num_seqs);
    measure_all::<Latency>(common, room, args.num_iters, cases.into_iter().flat_map(shapes))
}

/// What the cases need. Those on standard input aren't known yet: they get what the settings say.
fn room(cases: &[Case], max_num_seqs: usize) -> Room {
    let batches: Vec<BatchCase> = cases
        .iter()
        .filter_map(|case| match case {
            Case::Batch(batch) => Some(*batch),
            Case::Stdin => None,
        })
        .collect();
    let seqs = batches.iter().map(|case| case.batch_size).max().unwrap_or(1);
    let tokens = batches.iter().map(|case| case.input_len + case.output_len).max();
    if batches.len() < cases.len() {
        let seqs = seqs.max(max_num_seqs);
        return Room { tokens: None, seqs, requests: seqs };
    }
    Room { tokens, seqs, requests: seqs }
}

/// A case, or all cases of standard input, each as soon as its line is complete.
fn shapes(case: Case) -> Box<dyn Iterator<Item = Result<Shape>>> {
    match case {
        Case::Batch(batch) => Box::new(std::iter::once(Ok(shape(batch)))),
        Case::Stdin => {
            Box::new(std::io::stdin().lock().lines().filter_map(|line| read_case(line).transpose()))
        }
    }
}

/// A line of standard input; empty ones count for nothing.
fn read_case(line: std::io::Result<String>) -> Result<Option<Shape>> {
    let line = line.context("standard input can't be read")?;
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    line.parse().map(|case| Some(shape(case))).map_err(anyhow::Error::msg)
}

fn shape(case: BatchCase) -> Shape {
    let BatchCase { input_len, output_len, batch_size } = case;
    Shape { input_len, output_len, num_prompts: batch_size, batch_size }
}

struct Latency {
    shape: Shape,
    first_tokens: Sample,
    gaps: Sample,
    totals: Sample,
    /// Until the last request of a run had its first token, in milliseconds.
    prefills: Sample,
    /// A step while all requests of a run were in their answers, in milliseconds; empty if there never was one.
    steps: Sample,
    /// All prompts of the batch.
    prefill: Roof,
    /// One step.
    decode: Roof,
}

impl Report for Latency {
    fn new(bench: &Bench, shape: Shape, runs: &[Run]) -> Self {
        Self {
            shape,
            first_tokens: Sample::millis(runs.iter().flat_map(|run| run.first_tokens.iter().copied())),
            gaps: Sample::millis(runs.iter().flat_map(|run| run.gaps.iter().copied())),
            totals: Sample::millis(runs.iter().map(|run| run.wall)),
            prefills: Sample::millis(runs.iter().filter_map(|run| run.first_tokens.iter().max().copied())),
            steps: Sample::millis(runs.iter().filter_map(|run| run.step)),
            prefill: bench.prefill_roof(shape.num_prompts, shape.input_len),
            decode: bench.decode_roof(shape.num_prompts, shape.input_len + shape.output_len / 2),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            Sample::head(),
            self.first_tokens.row("first token", "ms"),
            self.gaps.row("between tokens", "ms"),
            self.totals.row("whole batch", "ms"),
            String::new(),
            self.prefill.beside("prompts", self.prefill_rate(), self.prefill_seconds()),
        ];
        if let (Some(rate), Some(seconds)) = (self.decode_rate(), self.step_seconds()) {
            lines.push(self.decode.beside("answers", rate, seconds));
        }
        lines
    }

    fn to_json(&self, mut head: serde_json::Value) -> serde_json::Value {
        let tokens = self.shape.num_prompts * (self.shape.input_len + self.shape.output_len);
        head["first_token_ms"] = self.first_tokens.to_json();
        head["inter_token_ms"] = self.gaps.to_json();
        head["total_ms"] = self.totals.to_json();
        head["prefill_tokens_per_second"] = json!(self.prefill_rate());
        head["decode_tokens_per_second"] = json!(self.decode_rate());
        head["total_tokens_per_second"] = json!(tokens as f64 / self.totals.median() * 1e3);
        head["roofline"] = json!({
            "prefill": self.prefill.to_json(self.prefill_seconds()),
            "decode": self.step_seconds().map(|seconds| self.decode.to_json(seconds)),
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

    /// Output tokens per second while all requests are in their answers.
    fn decode_rate(&self) -> Option<f64> {
        self.step_seconds().map(|seconds| self.shape.num_prompts as f64 / seconds)
    }

    fn step_seconds(&self) -> Option<f64> {
        Some(self.steps.median() / 1e3).filter(|seconds| *seconds > 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_for_the_largest_of_each() {
        let case = |text: &str| text.parse::<Case>().unwrap();
        let known = room(&[case("512:1:1"), case("128:64:16")], 256);
        assert_eq!((known.tokens, known.seqs, known.requests), (Some(513), 16, 16));
        let open = room(&[case("128:64:300"), Case::Stdin], 256);
        assert_eq!((open.tokens, open.seqs), (None, 300));
    }

    #[test]
    fn lines_are_cases_or_nothing() {
        let read = |text: &str| read_case(Ok(text.to_owned()));
        assert_eq!(read(" 8:4:2\r").unwrap().map(|shape| (shape.input_len, shape.batch_size)), Some((8, 2)));
        assert!(read("  ").unwrap().is_none());
        assert!(read("8:4").is_err());
    }
}
