//! The fields that chat and text completions share.

use std::collections::BTreeMap;

use millrace_types::GREEDY_TEMPERATURE;
use serde::Deserialize;

use super::StreamOptions;
use crate::{ApiError, GenerationOptions, Int, StringOrList, TokenText};

/// Sampling and delivery; both endpoints read it beside their own fields. Unknown fields are ignored, as in vLLM.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CommonBody {
    pub(super) model: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
    pub(super) echo: Option<bool>,
    pub(super) return_token_ids: Option<bool>,
    pub(super) return_tokens_as_token_ids: Option<bool>,
    pub(super) max_tokens: Option<Int>,
    pub(super) max_completion_tokens: Option<Int>,
    n: Option<Int>,
    pub(super) best_of: Option<Int>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<Int>,
    min_p: Option<f64>,
    typical_p: Option<f64>,
    presence_penalty: Option<f64>,
    frequency_penalty: Option<f64>,
    repetition_penalty: Option<f64>,
    seed: Option<Int>,
    logit_bias: Option<BTreeMap<String, f64>>,
    bad_words: Option<Vec<String>>,
    allowed_token_ids: Option<Vec<Int>>,
    stop: Option<StringOrList>,
    stop_token_ids: Option<Vec<Int>>,
    include_stop_str_in_output: Option<bool>,
    ignore_eos: Option<bool>,
    min_tokens: Option<Int>,
    thinking_token_budget: Option<Int>,
    prompt_logprobs: Option<Int>,
    skip_special_tokens: Option<bool>,
    priority: Option<i32>,
    cache_salt: Option<String>,
    timeout: Option<f64>,
}

impl CommonBody {
    /// Whether the answer is streamed.
    pub(super) fn streams(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Rules between fields of this body.
    pub(super) fn validate(&self) -> Result<(), ApiError> {
        if self.stream_options.is_some() && !self.streams() {
            let message = "Stream options can only be defined when `stream=True`.";
            return Err(ApiError::invalid("stream_options", message));
        }
        if self.stream_options.is_some_and(|options| options.include_obfuscation == Some(true)) {
            let name = "stream_options.include_obfuscation";
            return Err(ApiError::invalid(name, "Streams are not obfuscated here. Leave it out."));
        }
        if self.prompt_logprobs.is_some() && self.streams() {
            let message = "`prompt_logprobs` are not available when `stream=True`.";
            return Err(ApiError::invalid("prompt_logprobs", message));
        }
        Ok(())
    }

    /// `best_of` belongs to text completions.
    pub(super) fn refuse_best_of(&self) -> Result<(), ApiError> {
        let n = self.choices();
        match self.best_of.filter(|best_of| best_of.0 != n) {
            None => Ok(()),
            Some(Int(best_of)) => {
                let message = format!(
                    "best_of is not supported here other than equal to n={n}, got {best_of}. Leave it out."
                );
                Err(ApiError::invalid("best_of", message))
            }
        }
    }

    /// `n`.
    pub(super) fn choices(&self) -> i64 {
        self.n.map_or(1, |n| n.0)
    }

    /// Whether the client itself asks for the likeliest token each time.
    pub(super) fn is_greedy(&self) -> bool {
        self.temperature.is_some_and(|t| (t as f32) < GREEDY_TEMPERATURE)
    }

    /// The neutral options; the endpoint fills in `logprobs` and the defaults that are its own.
    pub(super) fn options(&self) -> Result<GenerationOptions, ApiError> {
        let ids = |list: &[Int]| list.iter().map(|id| id.0).collect::<Vec<_>>();
        let (max_tokens, max_tokens_name) = match self.max_completion_tokens {
            Some(max) => (Some(max), "max_completion_tokens"),
            None => (self.max_tokens, "max_tokens"),
        };
        Ok(GenerationOptions {
            n: self.choices(),
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k.map(|k| k.0),
            min_p: self.min_p,
            typical_p: self.typical_p,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed.map(|seed| seed.0),
            logit_bias: self.logit_bias.as_ref().map_or(Ok(Vec::new()), parse_logit_bias)?,
            bad_words: self.bad_words.clone().unwrap_or_default(),
            allowed_token_ids: self.allowed_token_ids.as_deref().map(ids),
            stop: self.stop.clone().unwrap_or_default().0,
            stop_token_ids: self.stop_token_ids.as_deref().map(ids).unwrap_or_default(),
            include_stop_str_in_output: self.include_stop_str_in_output.unwrap_or(false),
            ignore_eos: self.ignore_eos.unwrap_or(false),
            min_tokens: self.min_tokens.map_or(0, |min| min.0),
            thinking_token_budget: self.thinking_token_budget.map(|budget| budget.0),
            max_tokens: max_tokens.map(|max| max.0),
            max_tokens_name,
            prompt_logprobs: self.prompt_logprobs.map(|count| count.0),
            echo: self.echo.unwrap_or(false),
            skip_special_tokens: self.skip_special_tokens.unwrap_or(true),
            priority: self.priority.unwrap_or(0),
            cache_salt: self.cache_salt.clone(),
            timeout: self.timeout,
            ..GenerationOptions::default()
        })
    }

    /// How tokens are shown in the answer.
    pub(super) fn token_format(&self) -> TokenFormat {
        TokenFormat {
            ids: self.return_token_ids.unwrap_or(false),
            as_ids: self.return_tokens_as_token_ids.unwrap_or(false),
        }
    }
}

/// How tokens are shown in an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenFormat {
    /// Add the ids of prompt and answer.
    pub(super) ids: bool,
    /// Write tokens in logprobs as `token_id:5` instead of their text.
    pub(super) as_ids: bool,
}

impl TokenFormat {
    /// A token as logprobs name it.
    pub(super) fn name(self, token: &TokenText) -> String {
        if self.as_ids { format!("token_id:{}", token.id) } else { token.text() }
    }
}

fn parse_logit_bias(bias: &BTreeMap<String, f64>) -> Result<Vec<(i64, f64)>, ApiError> {
    let parsed: Vec<_> = bias.iter().map(|(key, value)| (key.trim().parse::<i64>(), key, *value)).collect();
    let bad: Vec<&str> =
        parsed.iter().filter(|(id, ..)| id.is_err()).map(|(_, key, _)| key.as_str()).take(10).collect();
    if !bad.is_empty() {
        let shown = crate::error::shorten(&format!("{bad:?}"), 200);
        let message =
            format!("logit_bias contains key(s) that cannot be converted to integer token IDs: {shown}");
        return Err(ApiError::invalid("logit_bias", message));
    }
    // "5" and " 5" name one token: one of them counts, or their sum would pass the bounds on a bias.
    let unique: BTreeMap<i64, f64> =
        parsed.into_iter().filter_map(|(id, _, value)| Some((id.ok()?, value))).collect();
    Ok(unique.into_iter().collect())
}
