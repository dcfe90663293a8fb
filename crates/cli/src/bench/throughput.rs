//! `millrace bench throughput`: many requests at once.

use anyhow::Result;
use serde_json::json;

use super::stats::Sample;
use super::workload::{Run, Shape};
use super::{Bench, Report, Room, measure_all, roofline::Bound};
use crate::args::ThroughputArgs;

/// Runs the command.
pub(crate) fn run(args: &ThroughputArgs) -> Result<()> {
    let common = &args.common;
    let shape = Shape {
        input_len: common.input_len,
        output_len: common.output_len,
        num_prompts: args.num_prompts,
        batch_size: args.batch_size.unwrap_or(common.engine.max_num_seqs).min(args.num_prompts),
    };
    let tokens = Some(shape.input_len + shape.output_len);
    let room = Room { tokens, seqs: shape.batch_size, requests: shape.num_prompts };
    measure_all::<Throughput>(common, room, args.num_iters, [Ok(shape)])
}

struct Throughput {
    /// Seconds of each run.
    seconds: Sample,
    first_tokens: Sample,
    gaps: Sample,
    requests: f64,
    prompt_tokens: f64,
    output_tokens: f64,
    ideal: Option<Ideal>,
}

/// A run at the ceilings.
struct Ideal {
    whole: Bound,
    prefill: Bound,
    /// All decode steps.
    decode: Bound,
}

impl Report for Throughput {
    fn new(bench: &Bench, shape: Shape, runs: &[Run]) -> Self {
        let Shape { input_len, output_len, num_prompts, .. } = shape;
        Self {
            seconds: Sample::new(runs.iter().map(|run| run.wall.as_secs_f64())),
            first_tokens: Sample::millis(runs.iter().flat_map(|run| run.first_tokens.iter().copied())),
            gaps: Sample::millis(runs.iter().flat_map(|run| run.gaps.iter().copied())),
            requests: num_prompts as f64,
            prompt_tokens: (num_prompts * input_len) as f64,
            output_tokens: (num_prompts * output_len) as f64,
            ideal: Ideal::new(bench, shape),
        }
    }

    fn lines(&self) -> Vec<String> {
        let times = [50.0, 0.0, 100.0].map(|p| self.seconds.percentile(p));
        let rate = |name: &str, amount: f64| {
            let [median, best, worst] = times.map(|seconds| amount / seconds);
            format!("{name:<26}{median:>10.2}{best:>10.2}{worst:>10.2}")
        };
        let mut lines = vec![
            format!("{:<26}{:>10}{:>10}{:>10}", "", "median", "best", "worst"),
            rate("output tokens/s", self.output_tokens),
            rate("all tokens/s", self.output_tokens + self.prompt_tokens),
            rate("requests/s", self.requests),
            String::new(),
            Sample::head(),
            self.first_tokens.row("first token", "ms"),
            self.gaps.row("between tokens", "ms"),
        ];
        lines.extend(self.ideal.as_ref().map(|ideal| format!("\n{}", ideal.describe(times[0]))));
        lines
    }

    fn to_json(&self, mut head: serde_json::Value) -> serde_json::Value {
        let median = self.seconds.median();
        head["output_tokens_per_second"] = json!(self.output_tokens / median);
        head["total_tokens_per_second"] = json!((self.output_tokens + self.prompt_tokens) / median);
        head["requests_per_second"] = json!(self.requests / median);
        head["seconds"] = self.seconds.to_json();
        head["first_token_ms"] = self.first_tokens.to_json();
        head["inter_token_ms"] = self.gaps.to_json();
        head["roofline"] = json!(self.ideal.as_ref().map(|ideal| json!({
            "measured_seconds": median,
            "ideal_seconds": ideal.whole.seconds,
            "bound_by": ideal.whole.by,
            "percent_reached": ideal.whole.reached(median),
        })));
        head
    }
}

impl Ideal {
    fn new(bench: &Bench, shape: Shape) -> Option<Self> {
        let Shape { input_len, output_len, num_prompts, batch_size } = shape;
        let prefill = bench.prefill_roof(num_prompts, input_len).bound?;
        let step = bench.decode_roof(batch_size, input_len + output_len / 2).bound?;
        let steps = num_prompts as f64 / batch_size as f64 * output_len.saturating_sub(1) as f64;
        let decode = Bound { seconds: step.seconds * steps, ..step };
        let longer = if prefill.seconds > decode.seconds { prefill } else { decode };
        let whole = Bound { seconds: prefill.seconds + decode.seconds, by: longer.by };
        Some(Self { whole, prefill, decode })
    }

    fn describe(&self, seconds: f64) -> String {
        let Self { whole, prefill, decode } = self;
        format!(
            "roofline    at best {:.2} s (prompts {:.2} s by {}, answers {:.2} s by {}); took {seconds:.2} s: \
             {:.0} % reached",
            whole.seconds,
            prefill.seconds,
            prefill.by,
            decode.seconds,
            decode.by,
            whole.reached(seconds),
        )
    }
}
