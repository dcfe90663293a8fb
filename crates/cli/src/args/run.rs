//! `millrace run`.

use clap::Args;

use super::TalkArgs;

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
    pub(crate) common: TalkArgs,
}
