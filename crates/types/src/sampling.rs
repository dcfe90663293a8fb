//! Sampling parameters as the engine understands them: token ids and numbers, no text.

use crate::{Follow, TokenId};

/// Temperatures below this are greedy (argmax), as in vLLM.
pub const GREEDY_TEMPERATURE: f32 = 1e-5;

/// How one request is sampled and when it stops. Every field is per request, whatever shares its batch.
///
/// Order of application (vLLM's): allowed tokens, bad words, min-tokens, logit bias, repetition penalty,
/// frequency and presence penalties, then argmax if greedy, else temperature, min-p, top-k, top-p, typical-p.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 is greedy; the range is checked at the API edge (0..=2).
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 turns it off.
    pub top_p: f32,
    /// Keep the k most likely tokens; 0 turns it off.
    pub top_k: u32,
    /// Keep tokens with p ≥ min_p · max p; in [0, 1], 0 turns it off.
    pub min_p: f32,
    /// Locally typical sampling mass in (0, 1] (Meister et al. 2022); 1 turns it off.
    pub typical_p: f32,
    /// Subtracted once from every token that was already generated; in [-2, 2].
    pub presence_penalty: f32,
    /// Subtracted per occurrence among generated tokens; in [-2, 2].
    pub frequency_penalty: f32,
    /// Divides (positive) or multiplies (negative) logits of tokens in prompt or output; > 0, 1 turns it off.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Token sequences that must not be completed.
    pub bad_words: Vec<Vec<TokenId>>,
    /// If set, only these may be sampled; not empty.
    pub allowed_token_ids: Option<Vec<TokenId>>,
    /// Stop tokens have probability zero until this many tokens are out.
    pub min_tokens: usize,
    /// Ends with `length` after this many tokens; at least 1 (0 only scores the prompt: echo with logprobs).
    pub max_tokens: usize,
    /// End the request when sampled; the token is counted but its text is not shown.
    pub stop_token_ids: Vec<TokenId>,
    /// The model's end-of-sequence tokens; empty under `ignore_eos`.
    pub eos_token_ids: Vec<TokenId>,
    /// Same seed and prompt, same text, whatever else runs. `None` draws one from the engine's generator.
    pub seed: Option<u64>,
    /// Log-probability of each sampled token plus this many of the most likely ones (`Some(0)`: sampled only).
    pub logprobs: Option<usize>,
    /// The same for every prompt token but the first.
    pub prompt_logprobs: Option<usize>,
    /// How long the model may reason.
    pub thinking: Option<ThinkingLimit>,
}

/// A bound on reasoning: once it is used up, the next tokens are those that lead out of it.
#[derive(Debug, Clone)]
pub struct ThinkingLimit {
    /// Tokens of reasoning in one answer, those that begin and end it not counted.
    pub budget: usize,
    /// Tells where reasoning is; at the beginning of the answer.
    pub follow: Box<dyn Follow>,
    /// The tokens that lead out of it, in order. Not empty.
    pub close: Vec<TokenId>,
    /// If not empty: what follows on `close` is one of these.
    pub then: Vec<TokenId>,
}

/// What follows the tokens isn't compared: it goes with the model.
impl PartialEq for ThinkingLimit {
    fn eq(&self, other: &Self) -> bool {
        (self.budget, &self.close, &self.then) == (other.budget, &other.close, &other.then)
    }
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            typical_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            bad_words: Vec::new(),
            allowed_token_ids: None,
            min_tokens: 0,
            max_tokens: 16,
            stop_token_ids: Vec::new(),
            eos_token_ids: Vec::new(),
            seed: None,
            logprobs: None,
            prompt_logprobs: None,
            thinking: None,
        }
    }
}

impl SamplingParams {
    /// Whether the next token is simply the most likely one.
    pub fn is_greedy(&self) -> bool {
        self.temperature < GREEDY_TEMPERATURE
    }
}
