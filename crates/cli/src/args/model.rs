//! Which model, and how it is read.

use clap::{Args, ValueEnum};

use super::units;

/// What every command that loads a model takes, besides its name.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Branch, tag or commit on the Hub
    #[arg(long, default_value = "main")]
    pub(crate) revision: String,
    /// Take the tokenizer from this folder or Hub id instead of the model's own
    #[arg(long, value_name = "MODEL")]
    pub(crate) tokenizer: Option<String>,
    /// Chat template to use instead of the model's own: a file, or the template itself
    #[arg(long, value_name = "FILE|TEXT")]
    pub(crate) chat_template: Option<String>,
    /// Keep dense weights as 8- or 4-bit integers in memory (about a half or a quarter of bf16)
    #[arg(long, value_enum, default_value_t = QuantizeFormat::None, value_name = "FORMAT")]
    pub(crate) quantize: QuantizeFormat,
    /// Whether the model writes text, or reads whole texts and gives embeddings or scores
    #[arg(long, value_enum, default_value_t = Runner::Auto, value_name = "KIND")]
    pub(crate) runner: Runner,
    /// Settings to use instead of those in the model's config.json: a JSON object
    #[arg(long, alias = "hf_overrides", value_name = "JSON", value_parser = units::json_object)]
    pub(crate) hf_overrides: Option<serde_json::Map<String, serde_json::Value>>,
    /// `dummy` makes random weights from a `config.json` alone, to time a shape without its weights
    #[arg(long, value_enum, default_value_t = LoadFormat::Auto, value_name = "FORMAT")]
    pub(crate) load_format: LoadFormat,
}

/// `--quantize`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QuantizeFormat {
    /// As in the checkpoint
    None,
    /// 8-bit integers, one scale per 32 values
    Q8,
    /// 4-bit integers, one scale per 32 values; embedding and output head stay at 8
    Q4,
}

/// `--runner`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Runner {
    /// As its files say
    Auto,
    /// It writes, also if it could make embeddings
    Generate,
    /// It reads, also if it could write: the last token's hidden state is the embedding, unless its files say otherwise
    Pooling,
}

/// `--load-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LoadFormat {
    /// The weights of the checkpoint
    Auto,
    /// Random weights
    Dummy,
}
