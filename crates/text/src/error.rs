use std::path::PathBuf;

/// What can go wrong between text and tokens.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file was read but isn't what its name says.
    #[error("{name} is not valid: {reason}")]
    Invalid {
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer turns tokens into text in a way that can't be done token by token.
    #[error(
        "the tokenizer's decoder is not supported: {reason}; use a model with a byte-level, SentencePiece or WordPiece tokenizer"
    )]
    UnsupportedDecoder {
        /// The part that isn't supported.
        reason: String,
    },
    /// The text can't fit into the token limit, whatever its exact token count is.
    #[error("the text has at least {at_least} tokens, which is more than the limit of {limit}; shorten it")]
    TooLong {
        /// A lower bound (exact if the text was tokenized).
        at_least: usize,
        /// The limit it was checked against.
        limit: usize,
    },
    /// The tokenizer failed on this text.
    #[error("the text cannot be tokenized: {0}")]
    Encode(String),
    /// The model has no chat template, or none of the name asked for.
    #[error("the model has no {name} chat template; pass one with --chat-template, or use /v1/completions")]
    NoTemplate {
        /// Which one was looked for.
        name: String,
    },
    /// The template itself refuses this conversation (`raise_exception`): the message is the template's own.
    #[error("{0}")]
    Refused(String),
    /// The template failed on this conversation.
    #[error("the chat template cannot render this conversation: {0}")]
    Render(String),
    /// The template ran into a limit that keeps a render from taking the server's time or memory.
    #[error("the chat template exceeded its limit of {0}; shorten the conversation")]
    RenderLimit(&'static str),
    /// The conversation can't be rendered as asked, whatever the template.
    #[error("{0}")]
    BadConversation(String),
}

impl TextError {
    /// Whether the request is to blame (a 4xx) rather than the model's files (a failure at start-up).
    pub fn is_bad_request(&self) -> bool {
        !matches!(self, Self::Read { .. } | Self::Invalid { .. } | Self::UnsupportedDecoder { .. })
    }

    pub(crate) fn invalid(name: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Invalid { name: name.into(), reason: reason.to_string() }
    }
}
