//! `millrace bench`.

use std::str::FromStr;

use clap::{Args, Subcommand};

use super::{EngineArgs, ModelArgs, units};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Tokens per second when many requests are there at once
    Throughput(Box<ThroughputArgs>),
    /// Time of one batch: first token, every further token, whole answer
    Latency(Box<LatencyArgs>),
}

/// What both measurements take.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Model folder, ORG/NAME on the Hub, or with --load-format dummy a `config.json` [default: the demo model]
    pub(crate) model: Option<String>,
    /// Random tokens per prompt
    #[arg(long, value_name = "TOKENS", default_value = "128", value_parser = units::count)]
    pub(crate) input_len: usize,
    /// Tokens per answer (an end-of-text token doesn't end it)
    #[arg(long, value_name = "TOKENS", default_value = "128", value_parser = units::count)]
    pub(crate) output_len: usize,
    /// Print JSON, one line per measurement
    #[arg(long)]
    pub(crate) json: bool,
    /// Don't measure what the machine could do at best; the shares of it are left out
    #[arg(long)]
    pub(crate) no_ceilings: bool,
    /// Also show what each operation takes; nothing else runs beside the operations then
    #[arg(long)]
    pub(crate) ops: bool,
    /// Runs before the measured ones, so that caches and memory are warm
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) num_warmups: usize,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// `millrace bench throughput`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millrace bench throughput --num-prompts 64
  millrace bench throughput bench/shapes/qwen3-0.6b --load-format dummy --quantize q4")]
pub(crate) struct ThroughputArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    /// Requests, all submitted at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = units::count)]
    pub(crate) num_prompts: usize,
    /// Requests that run at the same time [default: --max-num-seqs]
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(crate) batch_size: Option<usize>,
    /// Measured runs; the median counts
    #[arg(long, value_name = "N", default_value = "3", value_parser = units::positive)]
    pub(crate) num_iters: usize,
}

/// `millrace bench latency`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millrace bench latency
  millrace bench latency bench/shapes/qwen3-0.6b --load-format dummy --batch-size 8
  millrace bench latency --case 512:1:1 --case 128:64:1 --case 128:64:16
  millrace bench latency --case 128:64:16 --ops
  echo 128:64:16 | millrace bench latency --case - --json")]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    /// Sequences in the batch
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::count)]
    pub(crate) batch_size: usize,
    /// Instead of --input-len, --output-len and --batch-size; may be repeated. `-` reads cases from standard input,
    /// a line each, and answers each as it comes
    #[arg(long = "case", value_name = "INPUT:OUTPUT:BATCH")]
    #[arg(conflicts_with_all = ["input_len", "output_len", "batch_size"])]
    pub(crate) cases: Vec<Case>,
    /// Measured runs; the median counts
    #[arg(long, value_name = "N", default_value = "5", value_parser = units::positive)]
    pub(crate) num_iters: usize,
}

/// A value of `--case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// One batch.
    Batch(BatchCase),
    /// `-`: the lines of standard input.
    Stdin,
}

/// One batch to measure. All are at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchCase {
    /// Tokens per prompt.
    pub(crate) input_len: usize,
    /// Tokens per answer.
    pub(crate) output_len: usize,
    /// Sequences.
    pub(crate) batch_size: usize,
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "-" { Ok(Self::Stdin) } else { text.parse().map(Self::Batch) }
    }
}

impl FromStr for BatchCase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is no case; write INPUT:OUTPUT:BATCH in tokens and sequences, such as 512:64:8")
        };
        let numbers: Vec<usize> = text
            .split(':')
            .map(|part| units::count(part.trim()))
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        match numbers[..] {
            [input_len, output_len, batch_size] => Ok(Self { input_len, output_len, batch_size }),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_three_counts() {
        let case = BatchCase { input_len: 2048, output_len: 1, batch_size: 4 };
        assert_eq!("2K:1:4".parse(), Ok(Case::Batch(case)));
        assert_eq!("-".parse(), Ok(Case::Stdin));
        for text in ["", "512", "512:1", "1:2:3:4", "0:1:1", "1:1:x", "--"] {
            assert!(text.parse::<Case>().is_err_and(|error| error.contains("INPUT:OUTPUT:BATCH")), "{text}");
        }
    }
}
