//! How to continue a prompt: the neutral options, their rules, their defaults.

mod defaults;
mod resolve;
mod validate;

use std::time::Duration;

pub use defaults::{Ignored, SamplingDefaults, eos_token_ids};
pub use resolve::{ModelLimits, prompt_too_long};
pub(crate) use validate::check_timeout;

use crate::Structure;

/// Options as a client wrote them; `None` is "not said". Numbers are wide so that the rules, and not the parser,
/// say what is out of range. [`validate`](Self::validate) checks what needs no model,
/// [`resolve`](Self::resolve) the rest.
#[derive(Debug, Clone)]
pub struct GenerationOptions {
    /// Choices per prompt.
    pub n: i64,
    /// In [0, 2]; 0 is greedy.
    pub temperature: Option<f64>,
    /// In (0, 1].
    pub top_p: Option<f64>,
    /// At least 1; 0 and -1 turn it off.
    pub top_k: Option<i64>,
    /// In [0, 1].
    pub min_p: Option<f64>,
    /// In (0, 1].
    pub typical_p: Option<f64>,
    /// In [-2, 2].
    pub presence_penalty: Option<f64>,
    /// In [-2, 2].
    pub frequency_penalty: Option<f64>,
    /// Greater than 0.
    pub repetition_penalty: Option<f64>,
    /// Same seed, same text; -1 is none. Choice `i` of a prompt gets `seed + i`.
    pub seed: Option<i64>,
    /// Token ids and what to add to their logits, clamped to ±100.
    pub logit_bias: Vec<(i64, f64)>,
    /// Texts that must not appear.
    pub bad_words: Vec<String>,
    /// If set, only these tokens may be sampled.
    pub allowed_token_ids: Option<Vec<i64>>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Stop tokens.
    pub stop_token_ids: Vec<i64>,
    /// Show the stop string, or the stop token's text.
    pub include_stop_str_in_output: bool,
    /// Go on after the model's end-of-sequence token.
    pub ignore_eos: bool,
    /// Nothing stops the text before this many tokens.
    pub min_tokens: i64,
    /// Most tokens of reasoning; -1 is no limit. Conversations only.
    pub thinking_token_budget: Option<i64>,
    /// Where that can't be kept, it is left out instead of refused.
    pub thinking_budget_is_a_wish: bool,
    /// Most tokens to sample.
    pub max_tokens: Option<i64>,
    /// What the client called `max_tokens` (for error messages).
    pub max_tokens_name: &'static str,
    /// What holds if `max_tokens` isn't said.
    pub max_tokens_default: MaxTokensDefault,
    /// Alternatives to report per sampled token; -1 is the whole vocabulary.
    pub logprobs: Option<i64>,
    /// What the client called them (for error messages).
    pub logprobs_name: &'static str,
    /// The same for prompt tokens.
    pub prompt_logprobs: Option<i64>,
    /// Give the prompt back at the head of the text (raw prompts only).
    pub echo: bool,
    /// Leave special tokens out of the text.
    pub skip_special_tokens: bool,
    /// What the answer is held to; of a conversation, what follows on reasoning.
    pub structure: Option<Structure>,
    /// Lower runs earlier, under the priority policy.
    pub priority: i32,
    /// Keeps cached prefixes apart from those of other salts.
    pub cache_salt: Option<String>,
    /// Seconds until the request is given up.
    pub timeout: Option<f64>,
}

/// What `max_tokens` is if a client doesn't say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxTokensDefault {
    /// This many, whatever the model's defaults say.
    Fixed(usize),
    /// The model's `max_new_tokens`, else the rest of the context.
    RestOfContext,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            n: 1,
            temperature: None,
            top_p: None,
            top_k: None,
            min_p: None,
            typical_p: None,
            presence_penalty: None,
            frequency_penalty: None,
            repetition_penalty: None,
            seed: None,
            logit_bias: Vec::new(),
            bad_words: Vec::new(),
            allowed_token_ids: None,
            stop: Vec::new(),
            stop_token_ids: Vec::new(),
            include_stop_str_in_output: false,
            ignore_eos: false,
            min_tokens: 0,
            thinking_token_budget: None,
            thinking_budget_is_a_wish: false,
            max_tokens: None,
            max_tokens_name: "max_tokens",
            max_tokens_default: MaxTokensDefault::RestOfContext,
            logprobs: None,
            logprobs_name: "logprobs",
            prompt_logprobs: None,
            echo: false,
            skip_special_tokens: true,
            structure: None,
            priority: 0,
            cache_salt: None,
            timeout: None,
        }
    }
}

impl GenerationOptions {
    /// The client's time limit, if it set one; its range is checked by [`validate`](Self::validate).
    pub fn time_limit(&self) -> Option<Duration> {
        self.timeout.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}
