//! `millrace perplexity`.

use clap::Args;

use super::{EngineArgs, ModelArgs, units};

/// `millrace perplexity`.
#[derive(Debug, Args)]
#[command(after_help = "\
Windows don't overlap. The first token of each has nothing before it and is not scored, unless the tokenizer has a \
token that begins every text. Numbers of models with different tokenizers cannot be compared.

Examples:
  millrace perplexity --file bench/heldout.txt
  millrace perplexity Qwen/Qwen3-0.6B --file book.txt --quantize q4 --kv-cache-dtype f32
  millrace perplexity --file bench/heldout.txt --json | jq .perplexity")]
pub(crate) struct PerplexityArgs {
    /// Model folder, or ORG/NAME on the Hub [default: the built-in demo model]
    pub(crate) model: Option<String>,
    /// Text to score; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    pub(crate) file: String,
    /// Tokens per window [default: 1024, or what the model allows]
    #[arg(long, value_name = "TOKENS", value_parser = units::count)]
    pub(crate) window: Option<usize>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
