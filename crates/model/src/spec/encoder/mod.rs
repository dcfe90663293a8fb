//! Models that read whole texts and give one row of numbers for each, as data: embeddings, scores.
//!
//! [`from_config`] reads a `config.json` and returns a [`PoolingSpec`] if it describes such a model; a decoder-only
//! model becomes one by [`PoolingSpec::of_decoder`]. The [`Encoder`](crate::Encoder) executes them. What is the same as
//! in a decoder is described by the same types ([`Gqa`], [`Dense`]). A new family is one file here, one line in the
//! registry and one golden test.

mod bert;
mod causal;
mod gemma3;
mod judge;
mod labels;
mod modernbert;
mod names;
mod registry;
mod roberta;
mod sentence;
mod size;
#[cfg(test)]
mod tests;

use millrace_backend::{Activation, Batch, Mask, Pool, SeqSpan, Span};
use millrace_types::TokenId;
use millrace_weights::HfConfig;

pub use judge::Judge;
pub use labels::{Labels, ScoreScale};
pub use names::EncoderNames;
pub use registry::{describe, from_config, supported};
pub use sentence::{Part, Sentence};

use super::{Dense, Gqa};
use crate::ModelError;

/// A model and what is made of its hidden states.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolingSpec {
    /// The transformer.
    pub body: EncoderSpec,
    /// How a text's hidden states become one row.
    pub pool: Pool,
    /// What that row passes through.
    pub head: Vec<HeadStep>,
    /// What the result is.
    pub task: PoolingTask,
}

/// What a row that comes out of a model means.
#[derive(Debug, Clone, PartialEq)]
pub enum PoolingTask {
    /// An embedding.
    Embed {
        /// It is scaled to length 1.
        normalize: bool,
        /// Whether its first elements are an embedding too.
        matryoshka: Matryoshka,
    },
    /// A score for each label.
    Classify(Labels),
}

/// Whether the first elements of an embedding can stand for it (arXiv 2205.13147).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Matryoshka {
    /// They can't, or nobody says so.
    #[default]
    No,
    /// Any number of them.
    Any,
    /// So many.
    Of(Vec<usize>),
}

/// A transformer over whole sequences: embedding → blocks → optional norm.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderSpec {
    /// Family name, for people.
    pub family: &'static str,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// How tokens become the first hidden states.
    pub embedding: EmbeddingSpec,
    /// At least one.
    pub blocks: Vec<BlockSpec>,
    /// After the last block.
    pub final_norm: Option<NormSpec>,
    /// Which tokens of its text a token sees.
    pub mask: Mask,
    /// Longest text in tokens.
    pub max_positions: usize,
    /// Where the weights are found in a checkpoint.
    pub names: EncoderNames,
}

/// The sum of up to three tables' rows, perhaps normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingSpec {
    /// Multiplies the tokens' rows.
    pub scale: f32,
    /// Learned positions, if there are any: rows of the table, and the row of the first token.
    pub positions: Option<(usize, usize)>,
    /// Rows of the table of token types; 0: there is none.
    pub token_types: usize,
    /// On the sum.
    pub norm: Option<NormSpec>,
}

/// A normalisation of rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Module in the checkpoint; inside a block without the block's prefix.
    pub module: &'static str,
    /// Which one.
    pub kind: NormKind,
    /// Added to the variance or the mean square.
    pub eps: f32,
}

/// Normalisations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NormKind {
    /// Layer norm.
    Layer {
        /// It has a bias.
        bias: bool,
    },
    /// RMS norm.
    Rms {
        /// Added to the weight as it is stored.
        offset: f32,
    },
}

/// One block: attention, then a feed-forward, each with a residual connection around it.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSpec {
    /// Heads, biases, rotation, window.
    pub attention: Gqa,
    /// Around the attention.
    pub attention_norms: Norms,
    /// What is computed for each token.
    pub ffn: Dense,
    /// Around the feed-forward.
    pub ffn_norms: Norms,
}

/// Where norms stand around a part f of a block: `h = after(h + output(f(before(h))))`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Norms {
    /// On what goes in (pre-norm).
    pub before: Option<NormSpec>,
    /// On what comes out.
    pub output: Option<NormSpec>,
    /// On the sum (post-norm).
    pub after: Option<NormSpec>,
}

/// A step from the pooled row to the result.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadStep {
    /// A linear layer.
    Linear {
        /// Module in the checkpoint.
        module: String,
        /// Output features.
        out: usize,
        /// It has a bias.
        bias: bool,
    },
    /// How much likelier the model writes one token next than another: the difference of their logits, one number.
    Contrast {
        /// The output head in the checkpoint, `[vocab, hidden]`; the embedding, if they are tied.
        module: &'static str,
        /// A token.
        plus: TokenId,
        /// The other one.
        minus: TokenId,
    },
    /// Element by element.
    Activation(Activation),
    /// A norm.
    Norm(NormSpec),
}

impl PoolingTask {
    /// Embeddings of length 1.
    pub(crate) const EMBED: Self = Self::Embed { normalize: true, matryoshka: Matryoshka::No };
}

impl PoolingSpec {
    /// Elements of a result.
    pub fn dim(&self) -> usize {
        let out = |step: &HeadStep| match step {
            HeadStep::Linear { out, .. } => Some(*out),
            HeadStep::Contrast { .. } => Some(1),
            _ => None,
        };
        self.head.iter().rev().find_map(out).unwrap_or(self.body.hidden)
    }

    /// What the files of sentence-transformers say besides: pooling, dense layers, normalisation, greatest length.
    #[must_use]
    pub fn with_sentence(mut self, sentence: Sentence) -> Self {
        self = self.with_max_length(sentence.max_length);
        if let PoolingTask::Embed { normalize, .. } = &mut self.task {
            *normalize = sentence.normalize;
            self.pool = sentence.pool.unwrap_or(self.pool);
            self.head.extend(sentence.parts.into_iter().flat_map(Part::steps));
        }
        self
    }

    /// Texts are no longer than so many tokens, if that is said.
    fn with_max_length(mut self, length: Option<usize>) -> Self {
        self.body.max_positions = self.body.max_positions.min(length.unwrap_or(usize::MAX));
        self
    }

    /// What `config.json` says of shortened embeddings: `is_matryoshka`, `matryoshka_dimensions`.
    ///
    /// # Errors
    /// A setting is of the wrong kind.
    pub fn with_matryoshka(mut self, config: &HfConfig) -> Result<Self, ModelError> {
        if let PoolingTask::Embed { matryoshka, .. } = &mut self.task {
            let sizes = config.opt_list("matryoshka_dimensions")?.unwrap_or(&[]).iter();
            let sizes: Vec<usize> = sizes
                .filter_map(serde_json::Value::as_u64)
                .filter_map(|size| usize::try_from(size).ok())
                .collect();
            *matryoshka = match (sizes.is_empty(), config.opt_bool("is_matryoshka")?.unwrap_or(false)) {
                (false, _) => Matryoshka::Of(sizes),
                (true, true) => Matryoshka::Any,
                (true, false) => Matryoshka::No,
            };
        }
        Ok(self)
    }
}

impl EncoderSpec {
    /// Adds a whole text to a batch. From `second` on its tokens are of type 1, where the model has types.
    pub fn push(&self, batch: &mut Batch, tokens: &[TokenId], second: Option<usize>) {
        let start = batch.tokens.len() as u32;
        let first = self.embedding.positions.map_or(0, |(_, first)| first);
        batch.tokens.extend_from_slice(tokens);
        batch.positions.extend((first..first + tokens.len()).map(|position| position as u32));
        if self.embedding.token_types > 0 {
            // A table of one row knows no second text.
            let second = second.filter(|_| self.embedding.token_types > 1).unwrap_or(tokens.len());
            batch.token_types.extend((0..tokens.len()).map(|at| u32::from(at >= second)));
        }
        let query = Span { start, len: tokens.len() as u32 };
        batch.seqs.push(SeqSpan { query, kv_len: query.len, blocks: Span::default() });
        // All of it is prompt: one arithmetic, whatever stands beside it.
        batch.prompt_rows = batch.tokens.len();
    }
}
