//! One step's inputs and results: flat arrays that a device can take in one copy each.

use millrace_types::{BlockId, TokenId};

/// `start .. start + len` in one of the batch's flat arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// First index.
    pub start: u32,
    /// Number of elements.
    pub len: u32,
}

impl Span {
    /// The part of `array` that this span names.
    pub fn of<T>(self, array: &[T]) -> &[T] {
        &array[self.start as usize..(self.start + self.len) as usize]
    }
}

/// A ragged batch: the tokens of all scheduled sequences one after another, prefill chunks and decodes mixed.
///
/// T tokens, B sequences, S sampled rows. Reused from step to step (`clear` keeps the memory).
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Token ids, `[T]`.
    pub tokens: Vec<TokenId>,
    /// Rotary position of each token, `[T]`; need not be a range.
    pub positions: Vec<u32>,
    /// Which part of a pair of texts each token belongs to, `[T]`; empty where the model doesn't ask.
    pub token_types: Vec<u32>,
    /// Where each token's K and V go: physical block · block size + offset, `[T]`.
    pub slots: Vec<u32>,
    /// The first rows, which hold tokens of prompts; generated tokens follow. A backend may compute the two with
    /// different arithmetic (faster for many rows or for few), and must not choose by anything else: a request's
    /// results would depend on its neighbours.
    pub prompt_rows: usize,
    /// The sequences, `[B]`; their query rows partition `0..T` in order. One that is computed again after a preemption
    /// may occur twice: with tokens of its prompt, and with generated ones.
    pub seqs: Vec<SeqSpan>,
    /// Block tables of all sequences, concatenated.
    pub block_tables: Vec<BlockId>,
    /// Rows whose logits are wanted, `[S]`.
    pub samples: Vec<SampleSpec>,
    /// Penalised tokens of all samples, concatenated.
    pub seen: Vec<TokenCount>,
    /// Logit biases of all samples, concatenated.
    pub bias: Vec<(TokenId, f32)>,
    /// Banned tokens (logit −∞) of all samples, concatenated.
    pub banned: Vec<TokenId>,
    /// Allowed-token bit masks of all samples that have one: bit t % 32 of word t / 32, ⌈vocab / 32⌉ words each. May be
    /// filled in later than the rest, by [`Backend::masks`](crate::Backend::masks).
    pub masks: Vec<u32>,
}

impl Batch {
    /// Empties every array and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.token_types.clear();
        self.slots.clear();
        self.prompt_rows = 0;
        self.seqs.clear();
        self.block_tables.clear();
        self.samples.clear();
        self.seen.clear();
        self.bias.clear();
        self.banned.clear();
        self.masks.clear();
    }
}

/// One sequence's part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqSpan {
    /// Its query rows in `tokens`.
    pub query: Span,
    /// KV length after this step's writes: query row i sees keys `0 ..= kv_len - query.len + i`.
    pub kv_len: u32,
    /// Its blocks in `block_tables`; at least ⌈kv_len / block size⌉.
    pub blocks: Span,
}

/// What to do with a row of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// Draw a token.
    Sample,
    /// Only report the log-probability of this token (prompt log-probabilities).
    Score(TokenId),
}

/// A token that was already seen, for penalties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenCount {
    /// The token; each occurs once per sample.
    pub token: TokenId,
    /// Occurrences among generated tokens; 0 if it is in the prompt only.
    pub generated: u32,
}

/// Penalties over [`Batch::seen`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalties {
    /// Logits of seen tokens are divided (if positive) or multiplied by this; 1 is off.
    pub repetition: f32,
    /// Subtracted per generated occurrence.
    pub frequency: f32,
    /// Subtracted if generated at all.
    pub presence: f32,
}

/// One row of logits and how to sample from it; see [`crate::sampling`] for the order of operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleSpec {
    /// Token row (`0..T`) whose logits are read.
    pub row: u32,
    /// Draw or score.
    pub kind: SampleKind,
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub typical_p: f32,
    /// The uniform number in [0, 1) that picks the token; a pure function of the request's seed and output index.
    pub uniform: f32,
    /// Penalties over `seen`.
    pub penalties: Penalties,
    /// In [`Batch::seen`]; empty if there are no penalties.
    pub seen: Span,
    /// In [`Batch::bias`].
    pub bias: Span,
    /// In [`Batch::banned`].
    pub banned: Span,
    /// In [`Batch::masks`]; empty allows everything.
    pub mask: Span,
    /// `Some(n)`: report the raw log-probability of the token and of the n most likely ones.
    pub logprobs: Option<u32>,
}

impl SampleSpec {
    /// Takes the most likely token of a row: nothing edited, nothing reported. The start for every other spec.
    pub fn greedy(row: u32) -> Self {
        Self {
            row,
            kind: SampleKind::Sample,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            uniform: 0.0,
            penalties: Penalties { repetition: 1.0, frequency: 0.0, presence: 0.0 },
            seen: Span::default(),
            bias: Span::default(),
            banned: Span::default(),
            mask: Span::default(),
            logprobs: None,
        }
    }
}

/// Result for one [`SampleSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SampledRow {
    /// The drawn (or scored) token.
    pub token: TokenId,
    /// Its raw log-probability; 0 if not asked for.
    pub logprob: f32,
    /// Its rank among raw logits, 1 for the best; 0 if not asked for.
    pub rank: u32,
    /// Most likely tokens, best first, in [`StepResult::top`].
    pub top: Span,
}

/// What comes back from a step; reused from step to step.
#[derive(Debug, Clone, Default)]
pub struct StepResult {
    /// Parallel to [`Batch::samples`].
    pub rows: Vec<SampledRow>,
    /// Token and raw log-probability pairs.
    pub top: Vec<(TokenId, f32)>,
    /// Rows of [`crate::Backend::collect`], one after the other.
    pub collected: Vec<f32>,
}

impl StepResult {
    /// Empties all arrays and keeps the memory.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.top.clear();
        self.collected.clear();
    }
}
