//! The command line. Doc comments are the `--help` text; `docs/flags.md` is made from them.

mod bench;
mod chat;
mod engine;
mod flags;
mod model;
mod parse;
mod parsers;
mod perplexity;
mod run;
mod server;
mod talk;
#[cfg(test)]
mod tests;
mod units;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use bench::{BatchCase, BenchArgs, BenchCommand, Case, LatencyArgs, ThroughputArgs};
pub(crate) use chat::ChatArgs;
pub(crate) use engine::{Device, EngineArgs, KvCacheDtype, SchedulingPolicy};
pub(crate) use flags::ModelFlags;
pub(crate) use model::{LoadFormat, ModelArgs, QuantizeFormat, Runner};
pub(crate) use parse::{ParseArgs, PromptThinking};
pub(crate) use parsers::ParserArgs;
pub(crate) use perplexity::PerplexityArgs;
pub(crate) use run::RunArgs;
pub(crate) use server::{McpRequestUrls, ServeArgs, ServerArgs};
pub(crate) use talk::{PromptArgs, TalkArgs, Thinking};
pub(crate) use units::{bytes, show_bytes, time};

/// Serves large language models: one engine for many users at once.
#[derive(Debug, Parser)]
#[command(name = "millrace", version, max_term_width = 110, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// What goes to standard error; `debug` follows every step
    #[arg(long, global = true, value_enum, default_value_t = LogLevel::Warn, value_name = "LEVEL")]
    #[arg(help_heading = "Logging")]
    pub(crate) log_level: LogLevel,
    /// How a line of the log is written; `json` is one object a line, for machines
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    #[arg(help_heading = "Logging")]
    pub(crate) log_format: LogFormat,
}

const EXAMPLES: &str = "\
Examples:
  millrace serve                         Serve the built-in demo model on http://127.0.0.1:8000
  millrace serve Qwen/Qwen3-0.6B         Serve a model from the Hugging Face Hub
  millrace chat                          Talk to the demo model in this terminal
  millrace run \"What is 2+2?\"            One answer
  millrace doctor                        What this machine offers and what Millrace will use";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a model over HTTP, as OpenAI's API
    Serve(Box<ServeArgs>),
    /// Talk to a model in the terminal
    Chat(Box<ChatArgs>),
    /// Print one answer
    Run(Box<RunArgs>),
    /// Measure how fast a model runs, without a server
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Measure how well a model predicts a text
    Perplexity(Box<PerplexityArgs>),
    /// Show what this machine offers and what Millrace will use
    Doctor(DoctorArgs),
    /// Find tool calls and reasoning in a model's output, read from standard input
    Parse(ParseArgs),
}

/// A file with settings.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// YAML file with flags as keys, such as `max-num-seqs: 64`; the command line wins
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// `millrace doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millrace doctor
  millrace doctor --json | jq .cpu.level")]
pub(crate) struct DoctorArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads to measure with [default: the CPUs this process may use]
    #[arg(long, value_name = "N", value_parser = units::threads)]
    pub(crate) threads: Option<usize>,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
