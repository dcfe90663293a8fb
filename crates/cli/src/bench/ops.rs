//! What each kind of operation takes (`--ops`).

use std::time::Duration;

use millrace_backend::recording::{OpTime, OpTimes};
use serde_json::{Value, json};

/// Times of the measured runs, the longest first.
pub(super) struct Ops(Vec<OpTime>);

impl Ops {
    /// What has been counted since the last time.
    pub(super) fn take(times: &OpTimes) -> Self {
        let mut ops = times.take();
        ops.sort_by_key(|op| (!op.op.prompts, std::cmp::Reverse(op.time)));
        Self(ops)
    }

    /// A table for steps with prompts and one for steps without, with shares of each table's sum.
    pub(super) fn lines(&self) -> Vec<String> {
        [true, false].into_iter().flat_map(|prompts| self.table(prompts)).collect()
    }

    fn table(&self, prompts: bool) -> Vec<String> {
        let ops = || self.0.iter().filter(|op| op.op.prompts == prompts);
        let whole: Duration = ops().map(|op| op.time).sum();
        let steps = ops().find(|op| op.op.name == "begin").map_or(0, |op| op.calls);
        if steps == 0 {
            return Vec::new();
        }
        let title = if prompts { "with prompts" } else { "answers only" };
        let millis = whole.as_secs_f64() * 1e3 / steps as f64;
        let mut lines = vec![
            String::new(),
            format!("{title}: {steps} steps, {millis:.2} ms of operations each"),
            format!("{:<28}{:>10}{:>12}{:>12}{:>8}", "operation", "calls", "µs each", "ms a step", "share"),
        ];
        lines.extend(ops().map(|op| {
            let seconds = op.time.as_secs_f64();
            format!(
                "{:<28}{:>10}{:>12.1}{:>12.3}{:>7.1}%",
                name(op),
                op.calls,
                seconds * 1e6 / op.calls as f64,
                seconds * 1e3 / steps as f64,
                100.0 * seconds / whole.as_secs_f64(),
            )
        }));
        lines
    }

    pub(super) fn to_json(&self) -> Value {
        let ops = self.0.iter().map(|op| {
            json!({
                "operation": op.op.name,
                "weights": op.op.weights,
                "prompts": op.op.prompts,
                "calls": op.calls,
                "seconds": op.time.as_secs_f64(),
            })
        });
        ops.collect()
    }
}

/// The operation, and the output and input features of its weights.
fn name(op: &OpTime) -> String {
    match op.op.weights {
        Some([rows, cols]) => format!("{} {cols} → {rows}", op.op.name),
        None => op.op.name.to_owned(),
    }
}
