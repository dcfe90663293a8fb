//! What every command that talks to a model takes, and what a file of models may set.

use clap::Args;

use super::{EngineArgs, ModelArgs, ParserArgs};

/// A model, how its answers are read, and how it is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelFlags {
    #[command(flatten)]
    pub(crate) model_args: ModelArgs,
    #[command(flatten)]
    pub(crate) parsers: ParserArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}
