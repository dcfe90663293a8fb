//! How answers are read.

use clap::Args;

/// Which parsers find tool calls and reasoning in answers. Names are vLLM's where it has the same thing.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ParserArgs {
    /// Family of tool calls that the model writes, such as `hermes`; `none` leaves calls in the text [default: found in
    /// the chat template]
    #[arg(long, value_name = "NAME")]
    pub(crate) tool_call_parser: Option<String>,
    /// Family of reasoning that the model writes, such as `qwen3`; `none` leaves it in the text [default: found in the
    /// chat template]
    #[arg(long, value_name = "NAME")]
    pub(crate) reasoning_parser: Option<String>,
}
