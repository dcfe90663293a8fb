//! Why a scheduler or a sequence was refused.

use millrace_kv::KvError;
use millrace_types::RequestId;

/// Errors of the scheduler. Nothing was changed when one is returned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchedError {
    /// A setting is too small.
    #[error("{name} is {value}; set it to at least {min}.")]
    Config {
        /// The setting.
        name: &'static str,
        /// What it is.
        value: usize,
        /// What it must be at least.
        min: usize,
    },
    /// The KV cache cannot be built.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// There is nothing to compute.
    #[error("The prompt of request {} is empty; send at least one token.", .0.0)]
    EmptyPrompt(RequestId),
    /// The prompt leaves no room for output.
    #[error("The prompt has {len} tokens and the model takes at most {max}; shorten the prompt.")]
    PromptTooLong {
        /// Tokens in the prompt.
        len: usize,
        /// Most tokens a prompt may have: `max_model_len - 1`.
        max: usize,
    },
    /// The sequence could never finish, even alone.
    #[error(
        "Prompt and max_tokens need {needed} tokens of KV cache and all of it holds {capacity}; \
         lower max_tokens, shorten the prompt or give the server more KV cache."
    )]
    NeverFits {
        /// Tokens of KV that the longest outcome needs.
        needed: usize,
        /// Tokens that the whole cache holds.
        capacity: usize,
    },
    /// The id is taken.
    #[error("Request {} is already scheduled; use every id once.", .0.0)]
    DuplicateId(RequestId),
}
