//! `millrace bench`.

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
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
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
  millrace bench latency bench/shapes/qwen3-0.6b --load-format dummy --batch-size 8")]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) common: BenchArgs,
    /// Sequences in the batch
    #[arg(long, value_name = "N", default_value = "1", value_parser = units::count)]
    pub(crate) batch_size: usize,
    /// Measured runs; the median counts
    #[arg(long, value_name = "N", default_value = "5", value_parser = units::positive)]
    pub(crate) num_iters: usize,
}
