//! What can go wrong before a grammar is in use.

/// Why there is no grammar for a source. All but [`Vocabulary`](Self::Vocabulary) and [`Busy`](Self::Busy) are the
/// request's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The source is wrong, or asks for what can't be held to.
    #[error("{what} can't be used for structured output: {reason}.")]
    Unusable {
        /// Such as `The JSON schema`.
        what: &'static str,
        /// Without a full stop.
        reason: String,
    },
    /// Larger than any sensible source.
    #[error(
        "{what} is too large for structured output: it has {size} {unit}, and at most {most} are allowed."
    )]
    TooLarge {
        /// Such as `The JSON schema`.
        what: &'static str,
        /// What was counted.
        size: usize,
        /// Bytes, levels, branches.
        unit: &'static str,
        /// The limit.
        most: usize,
    },
    /// Compiling it took longer than allowed.
    #[error("{what} took longer than {seconds} seconds to compile; make it simpler.")]
    TooSlow {
        /// Such as `The JSON schema`.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// Too many slow ones at once.
    #[error("Too many grammars are being compiled at the moment; try again later.")]
    Busy,
    /// The model's tokens can't be constrained.
    #[error("Structured output is not available with this model: {0}.")]
    Vocabulary(String),
}
