//! `millrace run`, and what it shares with `chat`.

use clap::{Args, ValueEnum};

use super::{ConfigArgs, EngineArgs, ModelArgs, ParserArgs, units};

/// `millrace run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millrace run \"What is the capital of France?\"
  millrace run --model Qwen/Qwen3-0.6B --temperature 0 \"Name three rivers.\"
  millrace run --json \"What is 2+2?\" | jq -r .text
  git diff | millrace run --system \"Summarise the change in one line.\" -")]
pub(crate) struct RunArgs {
    /// What to ask; `-` reads it from standard input
    pub(crate) prompt: String,
    /// Model folder, or ORG/NAME on the Hub [default: the built-in demo model]
    #[arg(long)]
    pub(crate) model: Option<String>,
    /// Print one JSON object with text, reasoning, finish_reason and usage
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) prompting: PromptArgs,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    #[command(flatten)]
    pub(crate) parsers: ParserArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// How to answer. What isn't said is up to the model's `generation_config.json`.
///
/// The seed is the engine's (`--seed`): a process that serves one user needs no second one.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Answer")]
pub(crate) struct PromptArgs {
    /// Instructions ahead of the conversation
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// 0 always takes the most likely token; up to 2
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f64>,
    /// Sample from the most likely tokens that together have this probability
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Longest answer [default: the rest of the context]
    #[arg(long, value_name = "N", value_parser = units::count)]
    pub(crate) max_tokens: Option<usize>,
    /// Whether models that can think aloud first should; `auto` leaves it to the chat template
    #[arg(long, value_enum, default_value_t = Thinking::Off, value_name = "WHEN")]
    pub(crate) thinking: Thinking,
}

/// `--thinking`: the template variable `enable_thinking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Thinking {
    /// As the template has it
    Auto,
    /// Think first
    On,
    /// Answer at once
    Off,
}
