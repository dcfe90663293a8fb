//! What `run` and `chat` have in common.

use clap::{Args, ValueEnum};

use super::{ConfigArgs, ModelFlags, units};

/// A model in this process, and how it is to answer.
#[derive(Debug, Args)]
pub(crate) struct TalkArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
    #[command(flatten)]
    pub(crate) prompting: PromptArgs,
    #[command(flatten)]
    pub(crate) flags: ModelFlags,
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
