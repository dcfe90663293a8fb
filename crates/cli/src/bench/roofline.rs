//! What the machine could do at best: every byte at the measured bandwidth or every operation at the measured peak of
//! the matrix units, whichever takes longer (Williams, Waterman, Patterson 2009).

use millrace_model::{LoadReport, ModelSpec};
use serde_json::{Value, json};

use crate::args::EngineArgs;
use crate::load::kv_dtype;

/// What the machine reached in a loop that does nothing else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ceilings {
    /// Bytes read from memory per second, all threads.
    pub(super) bytes_per_second: f64,
    /// Operations per second with the number type of the weights, all threads.
    pub(super) ops_per_second: f64,
    /// That number type.
    pub(super) unit: &'static str,
}

/// What the model needs.
#[derive(Debug, Clone)]
pub(super) struct Cost {
    spec: ModelSpec,
    /// Weights that every step reads.
    step_bytes: f64,
    /// Keys and values of one token.
    kv_bytes: f64,
    /// Tokens of a step at most.
    max_tokens: usize,
}

/// What a piece of work takes on any machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    /// Multiplications and additions.
    pub(super) flops: f64,
    /// Read from memory or written to it.
    pub(super) bytes: f64,
}

/// A piece of work, and its shortest time on this machine if the ceilings were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Roof {
    pub(super) work: Work,
    pub(super) bound: Option<Bound>,
}

/// The shortest time for a piece of work, and what it waits for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bound {
    /// Seconds.
    pub(super) seconds: f64,
    /// `memory` or `compute`.
    pub(super) by: &'static str,
}

impl Cost {
    pub(super) fn new(spec: &ModelSpec, report: &LoadReport, engine: &EngineArgs) -> Self {
        Self {
            spec: spec.clone(),
            step_bytes: report.step_weight_bytes as f64,
            kv_bytes: spec.kv_bytes_per_token(kv_dtype(engine)) as f64,
            max_tokens: engine.max_num_batched_tokens,
        }
    }

    /// Reading `prompts` prompts of `len` tokens, and the first token of each answer.
    pub(super) fn prefill(&self, prompts: usize, len: usize) -> Work {
        let (prompts_f, tokens) = (prompts as f64, (prompts * len) as f64);
        let head = self.head_flops();
        // A token sees half of its prompt on average; only the last one goes through the output head.
        let flops = tokens * (self.spec.flops_per_token(len / 2) as f64 - head) + prompts_f * head;
        let steps = (prompts * len).div_ceil(self.max_tokens) as f64;
        Work { flops, bytes: steps * self.step_bytes + tokens * self.kv_bytes }
    }

    /// One step that gives each of `batch` sequences of `context` tokens its next token.
    pub(super) fn decode(&self, batch: usize, context: usize) -> Work {
        let batch = batch as f64;
        let flops = batch * self.spec.flops_per_token(context) as f64;
        Work { flops, bytes: self.step_bytes + batch * context as f64 * self.kv_bytes }
    }

    fn head_flops(&self) -> f64 {
        2.0 * (self.spec.vocab * self.spec.hidden) as f64
    }
}

impl Work {
    /// The shortest time for it.
    pub(super) fn at(self, ceilings: Ceilings) -> Bound {
        let compute = self.flops / ceilings.ops_per_second;
        let memory = self.bytes / ceilings.bytes_per_second;
        if compute > memory {
            Bound { seconds: compute, by: "compute" }
        } else {
            Bound { seconds: memory, by: "memory" }
        }
    }
}

impl Roof {
    pub(super) fn new(work: Work, ceilings: Option<Ceilings>) -> Self {
        Self { work, bound: ceilings.map(|ceilings| work.at(ceilings)) }
    }

    /// Beside what was measured.
    pub(super) fn to_json(self, measured_seconds: f64) -> Value {
        json!({
            "operations": self.work.flops,
            "bytes": self.work.bytes,
            "measured_seconds": measured_seconds,
            "ideal_seconds": self.bound.map(|bound| bound.seconds),
            "bound_by": self.bound.map(|bound| bound.by),
            "percent_reached": self.bound.map(|bound| bound.reached(measured_seconds)),
        })
    }

    /// A rate beside the one that the machine would reach at best, for the table. `seconds` is what was measured.
    pub(super) fn beside(self, what: &str, rate: f64, seconds: f64) -> String {
        let shown = format!("{what:<12}{rate:.1} tokens/s");
        let Some(bound) = self.bound else { return shown };
        let share = bound.reached(seconds);
        let ceiling = if share > 0.0 { rate / share * 100.0 } else { 0.0 };
        format!("{shown}; the {} ceiling is {ceiling:.1}: {share:.0} % reached", bound.by)
    }
}

impl Ceilings {
    /// For the table.
    pub(super) fn describe(&self) -> String {
        let (gigabytes, tera) = (self.bytes_per_second / 1e9, self.ops_per_second / 1e12);
        format!("memory {gigabytes:.1} GB/s, {} {tera:.2} TOP/s (measured just now)", self.unit)
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "memory_bytes_per_second": self.bytes_per_second,
            "ops_per_second": self.ops_per_second,
            "ops_type": self.unit,
        })
    }
}

impl Bound {
    /// The share of the ceiling that a measured time reaches, in percent.
    pub(super) fn reached(&self, seconds: f64) -> f64 {
        if seconds > 0.0 { self.seconds / seconds * 100.0 } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::shape_spec;

    const CEILINGS: Ceilings = Ceilings { bytes_per_second: 30e9, ops_per_second: 1e12, unit: "int8" };

    fn cost() -> Cost {
        Cost { spec: shape_spec("qwen3-0.6b"), step_bytes: 600e6, kv_bytes: 114_688.0, max_tokens: 2048 }
    }

    #[test]
    fn one_sequence_waits_for_memory_and_a_batch_for_the_units() {
        let one = cost().decode(1, 128).at(CEILINGS);
        assert_eq!(one.by, "memory");
        assert!((one.seconds - (600e6 + 128.0 * 114_688.0) / 30e9).abs() < 1e-9);
        let many = cost().decode(64, 128).at(CEILINGS);
        assert_eq!(many.by, "compute");
        // 596 M parameters are 1.19 GFLOP a token, and a little attention.
        assert!((1.0..1.3).contains(&(many.seconds / (64.0 * 1.19e-3))), "{}", many.seconds);
    }

    #[test]
    fn prefill_leaves_out_the_output_head() {
        let bound = cost().prefill(4, 512).at(CEILINGS);
        assert_eq!(bound.by, "compute");
        let layers = 2.0 * (596e6 - 155.6e6) * 2048.0 / 1e12;
        assert!((1.0..1.15).contains(&(bound.seconds / layers)), "{} / {layers}", bound.seconds);
    }

    #[test]
    fn shares_are_percent_of_the_ideal() {
        let bound = Bound { seconds: 0.5, by: "memory" };
        assert_eq!(bound.reached(1.0), 50.0);
        assert_eq!(bound.reached(0.0), 0.0);
    }
}
