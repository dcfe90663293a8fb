//! `millrace parse`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::units;

/// `millrace parse`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millrace parse --tool-parser hermes < output.txt
  millrace parse --tool-parser glm45 --reasoning-parser glm45 --tools tools.json --chunk 1 < output.txt")]
pub(crate) struct ParseArgs {
    /// Family of tool calls to look for, such as `hermes`; `none` looks for none
    #[arg(long, value_name = "NAME")]
    pub(crate) tool_parser: Option<String>,
    /// Family of reasoning to look for, such as `qwen3`; `none` looks for none
    #[arg(long, value_name = "NAME")]
    pub(crate) reasoning_parser: Option<String>,
    /// JSON file with the `tools` of the request: types of arguments follow their schemas
    #[arg(long, value_name = "FILE")]
    pub(crate) tools: Option<PathBuf>,
    /// Characters to hand to the parser at a time [default: all]
    #[arg(long, value_name = "N", value_parser = units::positive)]
    pub(crate) chunk: Option<usize>,
    /// Whether the prompt ended inside of reasoning, as many templates do; `auto` waits for the first tag
    #[arg(long, value_enum, default_value_t = PromptThinking::Auto, value_name = "STATE")]
    pub(crate) prompt_thinking: PromptThinking,
}

/// How the prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PromptThinking {
    Auto,
    Open,
    Closed,
}
