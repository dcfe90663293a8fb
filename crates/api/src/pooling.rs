//! The neutral request for what is made of whole texts (embeddings, scores, classes), and its answer.

use std::{fmt, time::Duration};

use crate::{ApiError, Prompt, ReplyHead};

/// What is asked of a model that reads whole texts.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolingCall {
    /// For which model, and how texts are read.
    pub options: PoolingOptions,
    /// What is wanted.
    pub work: PoolingWork,
}

/// What all of these requests have.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolingOptions {
    /// The model's name; `None` is the server's first.
    pub model: Option<String>,
    /// Texts are cut to so many tokens; −1 is as many as the model reads. `None`: longer ones are refused.
    pub truncate: Option<i64>,
    /// Whether the tokenizer adds its special tokens.
    pub add_special_tokens: bool,
    /// Lower runs earlier, where the server's policy looks at it.
    pub priority: i32,
    /// Seconds that the request may take.
    pub timeout: Option<f64>,
}

/// Kinds of work.
#[derive(Debug, Clone, PartialEq)]
pub enum PoolingWork {
    /// An embedding for each text.
    Embed {
        /// The texts.
        prompts: Vec<Prompt>,
        /// Only so many of the first elements (Matryoshka embeddings, arXiv 2205.13147).
        dimensions: Option<i64>,
        /// Scale to length 1; `None`: as the model's files say.
        normalize: Option<bool>,
    },
    /// A score for each label of each text.
    Classify {
        /// The texts.
        prompts: Vec<Prompt>,
        /// Scale scores as the model's files say.
        scale: bool,
    },
    /// Whatever the model makes of each text.
    Pool {
        /// The texts.
        prompts: Vec<Prompt>,
    },
    /// One score for each pair: how well the second text answers the first, or how near they are to each other.
    Score {
        /// One for all documents, or one for each.
        queries: Vec<String>,
        /// At least one.
        documents: Vec<String>,
        /// What to look for, for models that are told so.
        instruction: Option<String>,
        /// Scale scores as the model's files say.
        scale: bool,
    },
}

/// What comes back.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolingAnswer {
    /// The model's name.
    pub model: String,
    /// A row for each text or pair, in order.
    pub rows: Vec<Vec<f32>>,
    /// Names of a row's elements; empty for embeddings.
    pub labels: Vec<String>,
    /// Tokens of all texts.
    pub prompt_tokens: usize,
}

/// Writes an answer as its vendor has it: JSON.
pub type PoolingReply = Box<dyn FnOnce(&ReplyHead, &PoolingAnswer) -> Result<String, ApiError> + Send>;

/// A request, and how its answer is written.
pub struct PoolingRequest {
    /// What is asked.
    pub call: PoolingCall,
    /// Writes the answer.
    pub reply: PoolingReply,
    /// Fields of the body that mean nothing here; a few of them, shortened.
    pub ignored: Vec<String>,
}

impl fmt::Debug for PoolingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolingRequest").field("call", &self.call).finish_non_exhaustive()
    }
}

impl Default for PoolingOptions {
    fn default() -> Self {
        Self { model: None, truncate: None, add_special_tokens: true, priority: 0, timeout: None }
    }
}

impl PoolingOptions {
    /// How long the request may take.
    pub fn time_limit(&self) -> Option<Duration> {
        self.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

impl PoolingWork {
    /// Roughly how much text there is.
    pub fn bytes(&self) -> usize {
        let prompt = |prompt: &Prompt| match prompt {
            Prompt::Text(text) => text.len(),
            Prompt::Tokens(tokens) => size_of_val(&**tokens),
            Prompt::Gap { before, after } => before.len() + after.len(),
        };
        match self {
            Self::Embed { prompts, .. } | Self::Classify { prompts, .. } | Self::Pool { prompts } => {
                prompts.iter().map(prompt).sum()
            }
            Self::Score { queries, documents, instruction, .. } => {
                let told = instruction.as_ref().map_or(0, String::len).saturating_mul(documents.len());
                let pairs = documents.len() / queries.len().max(1);
                let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
                bytes(queries)
                    .saturating_mul(pairs.max(1))
                    .saturating_add(bytes(documents))
                    .saturating_add(told)
            }
        }
    }
}
