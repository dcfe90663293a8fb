//! From options to what the engine samples with, once model and prompt are known.

use std::collections::HashSet;

use millrace_types::{GREEDY_TEMPERATURE, SamplingParams, TokenId};

use super::{GenerationOptions, MaxTokensDefault, SamplingDefaults};
use crate::ApiError;

/// What the rules need to know of a model.
#[derive(Debug, Clone, Copy)]
pub struct ModelLimits<'a> {
    /// Prompt and output together, in tokens.
    pub max_model_len: usize,
    /// Token ids are below this.
    pub vocab_size: usize,
    /// The model's end-of-sequence tokens.
    pub eos_token_ids: &'a [TokenId],
    /// Most alternatives per position.
    pub max_logprobs: usize,
}

impl GenerationOptions {
    /// The engine's parameters for a prompt of `prompt_tokens` tokens. `bad_words` and
    /// `thinking` stay empty (they need the tokenizer), and the seed is that of the first choice. [`validate`](Self::validate) comes first.
    ///
    /// # Errors
    /// A 400 if the prompt doesn't fit, or an id or count is beyond what the model has.
    pub fn resolve(
        &self,
        model: &ModelLimits<'_>,
        defaults: &SamplingDefaults,
        prompt_tokens: usize,
    ) -> Result<SamplingParams, ApiError> {
        let max_tokens = self.resolve_max_tokens(model, defaults, prompt_tokens)?;
        let min_tokens = usize::try_from(self.min_tokens).unwrap_or(usize::MAX);
        if min_tokens > max_tokens {
            let message = format!(
                "min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
            );
            return Err(ApiError::invalid("min_tokens", message));
        }
        let logprobs = resolve_logprobs(self.logprobs_name, "sample", self.logprobs, model)?;
        let prompt_logprobs = resolve_logprobs("prompt_logprobs", "prompt", self.prompt_logprobs, model)?;
        let echoed = logprobs.filter(|_| self.echo);
        let number =
            |own: Option<f64>, default: Option<f64>, off: f32| own.or(default).map_or(off, |v| v as f32);
        Ok(SamplingParams {
            temperature: self.resolve_temperature(defaults)?,
            top_p: number(self.top_p, defaults.top_p, 1.0),
            top_k: self.top_k.or(defaults.top_k).map_or(0, |k| u32::try_from(k.max(0)).unwrap_or(u32::MAX)),
            min_p: number(self.min_p, defaults.min_p, 0.0),
            typical_p: number(self.typical_p, defaults.typical_p, 1.0),
            presence_penalty: number(self.presence_penalty, None, 0.0),
            frequency_penalty: number(self.frequency_penalty, None, 0.0),
            repetition_penalty: number(self.repetition_penalty, defaults.repetition_penalty, 1.0),
            logit_bias: self.resolve_logit_bias(model)?,
            bad_words: Vec::new(),
            allowed_token_ids: self.resolve_allowed(model)?,
            min_tokens,
            max_tokens,
            stop_token_ids: in_vocabulary("stop_token_ids", self.stop_token_ids.iter().copied(), model)?,
            eos_token_ids: if self.ignore_eos { Vec::new() } else { model.eos_token_ids.to_vec() },
            seed: self.seed.filter(|seed| *seed != -1).map(i64::cast_unsigned),
            logprobs,
            prompt_logprobs: prompt_logprobs.max(echoed),
            thinking: None,
        })
    }

    fn resolve_temperature(&self, defaults: &SamplingDefaults) -> Result<f32, ApiError> {
        let greedy = |t: f64| (t as f32) < GREEDY_TEMPERATURE;
        match self.temperature {
            Some(temperature) if self.n > 1 && greedy(temperature) => {
                let message = format!("n must be 1 when using greedy sampling, got {}.", self.n);
                Err(ApiError::invalid("n", message))
            }
            Some(temperature) => Ok(temperature as f32),
            // Whoever asks for several choices and names no temperature wants them to differ.
            None => Ok(defaults.temperature.filter(|t| self.n == 1 || !greedy(*t)).map_or(1.0, |t| t as f32)),
        }
    }

    fn resolve_max_tokens(
        &self,
        model: &ModelLimits<'_>,
        defaults: &SamplingDefaults,
        prompt_tokens: usize,
    ) -> Result<usize, ApiError> {
        let most = model.max_model_len;
        if prompt_tokens == 0 {
            return Err(ApiError::bad_request("The decoder prompt cannot be empty."));
        }
        if prompt_tokens > most {
            return Err(prompt_too_long(most, &prompt_tokens.to_string()));
        }
        if prompt_tokens == most {
            return Err(ApiError::bad_request(format!(
                "The decoder prompt (length {prompt_tokens}) plus the number of requested output tokens \
                 (at least 1) is longer than the maximum model length of {most}."
            )));
        }
        let rest = most - prompt_tokens;
        let Some(asked) = self.max_tokens else {
            return Ok(match self.max_tokens_default {
                MaxTokensDefault::Fixed(tokens) => tokens.min(rest),
                MaxTokensDefault::RestOfContext => defaults.max_tokens.unwrap_or(rest).min(rest),
            });
        };
        let asked = usize::try_from(asked).unwrap_or(0);
        if asked > most {
            let name = self.max_tokens_name;
            let message = format!(
                "{name}={asked} cannot be greater than max_model_len={most}. Please request fewer output tokens."
            );
            return Err(ApiError::invalid(name, message));
        }
        Ok(asked.min(rest))
    }

    fn resolve_logit_bias(&self, model: &ModelLimits<'_>) -> Result<Vec<(TokenId, f32)>, ApiError> {
        let ids = in_vocabulary("logit_bias", self.logit_bias.iter().map(|(id, _)| *id), model)?;
        Ok(ids
            .into_iter()
            .zip(&self.logit_bias)
            .map(|(id, (_, bias))| (id, bias.clamp(-100.0, 100.0) as f32))
            .collect())
    }

    fn resolve_allowed(&self, model: &ModelLimits<'_>) -> Result<Option<Vec<TokenId>>, ApiError> {
        let Some(allowed) = &self.allowed_token_ids else { return Ok(None) };
        if allowed.is_empty() {
            let message = "allowed_token_ids is not None and empty!";
            return Err(ApiError::invalid("allowed_token_ids", message));
        }
        match in_vocabulary("allowed_token_ids", allowed.iter().copied(), model) {
            Ok(ids) => Ok(Some(ids)),
            Err(_) => {
                let message = "allowed_token_ids contains out-of-vocab token id!";
                Err(ApiError::invalid("allowed_token_ids", message))
            }
        }
    }
}

/// The 400 for a prompt beyond the context; `tokens` may be a lower bound such as `at least 9000`. Clients look for words
/// in it, those of OpenAI's API at its head and those of Anthropic's at its end, to shorten the conversation themselves.
pub fn prompt_too_long(max_model_len: usize, tokens: &str) -> ApiError {
    ApiError::bad_request(format!(
        "This model's maximum context length is {max_model_len} tokens. However, your prompt contains {tokens} \
         input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the \
         input prompt (prompt is too long: {tokens} tokens > {max_model_len} maximum)."
    ))
}

impl ModelLimits<'_> {
    /// Checks that a first token can be sampled: not every allowed one is a bad word, or a stop token that must not
    /// come before `min_tokens`.
    ///
    /// # Errors
    /// A 400 that names the options at odds.
    pub fn check_choice(&self, sampling: &SamplingParams) -> Result<(), ApiError> {
        let early = sampling.min_tokens > 0;
        let stops = sampling.eos_token_ids.iter().chain(&sampling.stop_token_ids).filter(|_| early);
        let words = sampling.bad_words.iter().filter_map(|word| match word.as_slice() {
            [only] => Some(only),
            _ => None,
        });
        let banned: HashSet<&TokenId> = stops.chain(words).collect();
        let possible = match &sampling.allowed_token_ids {
            Some(allowed) => allowed.iter().any(|token| !banned.contains(token)),
            None => banned.len() < self.vocab_size,
        };
        if possible || sampling.max_tokens == 0 {
            return Ok(());
        }
        let reason = match early {
            true => {
                format!("a stop token, which must not come before min_tokens={}, or", sampling.min_tokens)
            }
            false => "one".to_owned(),
        };
        let message = format!(
            "Nothing is left to sample: every allowed token is {reason} of bad_words; allow another token."
        );
        Err(ApiError::invalid("allowed_token_ids", message))
    }

    /// Checks the ids of field `name`, which came as tokens.
    ///
    /// # Errors
    /// A 400 that names some of the ids at fault.
    pub fn check_tokens(&self, name: &str, tokens: &[TokenId]) -> Result<(), ApiError> {
        in_vocabulary(name, tokens.iter().map(|id| i64::from(*id)), self).map(|_| ())
    }
}

fn resolve_logprobs(
    name: &str,
    kind: &str,
    value: Option<i64>,
    model: &ModelLimits<'_>,
) -> Result<Option<usize>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    let count = usize::try_from(value).unwrap_or(model.vocab_size);
    if count > model.max_logprobs {
        let most = model.max_logprobs;
        let message =
            format!("Requested {kind} logprobs of {count}, which is greater than max allowed: {most}");
        return Err(ApiError::invalid(name, message));
    }
    Ok(Some(count))
}

fn in_vocabulary(
    name: &str,
    ids: impl Iterator<Item = i64>,
    model: &ModelLimits<'_>,
) -> Result<Vec<TokenId>, ApiError> {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for id in ids {
        match TokenId::try_from(id).ok().filter(|id| (*id as usize) < model.vocab_size) {
            Some(id) => known.push(id),
            None if unknown.len() < 10 => unknown.push(id),
            None => break,
        }
    }
    if unknown.is_empty() {
        return Ok(known);
    }
    let message = format!(
        "token_id(s) {unknown:?} in {name} contain out-of-vocab token ids. Vocabulary size: {}",
        model.vocab_size
    );
    Err(ApiError::invalid(name, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: ModelLimits<'static> =
        ModelLimits { max_model_len: 100, vocab_size: 50, eos_token_ids: &[7], max_logprobs: 20 };

    fn resolve(options: &GenerationOptions, prompt: usize) -> Result<SamplingParams, ApiError> {
        options.resolve(&MODEL, &SamplingDefaults::default(), prompt)
    }

    #[test]
    fn defaults_go_from_user_to_model_to_openai() {
        let defaults = SamplingDefaults { temperature: Some(0.6), top_k: Some(20), ..Default::default() };
        let options = GenerationOptions { top_k: Some(5), ..GenerationOptions::default() };
        let params = options.resolve(&MODEL, &defaults, 10).unwrap();
        assert_eq!((params.temperature, params.top_k, params.top_p), (0.6, 5, 1.0));
        assert_eq!(params.max_tokens, 90);
        assert_eq!(params.eos_token_ids, [7]);
    }

    #[test]
    fn max_tokens_is_clamped_to_the_context_unless_it_alone_exceeds_it() {
        let asking = |max| GenerationOptions { max_tokens: Some(max), ..GenerationOptions::default() };
        assert_eq!(resolve(&asking(95), 10).unwrap().max_tokens, 90);
        assert!(
            resolve(&asking(101), 10).unwrap_err().message.starts_with("max_tokens=101 cannot be greater")
        );
    }

    #[test]
    fn prompts_must_fit() {
        let options = GenerationOptions::default();
        assert_eq!(resolve(&options, 0).unwrap_err().message, "The decoder prompt cannot be empty.");
        assert!(resolve(&options, 100).unwrap_err().message.contains("plus the number of requested output"));
        assert!(
            resolve(&options, 101).unwrap_err().message.contains("your prompt contains 101 input tokens")
        );
        assert_eq!(resolve(&options, 99).unwrap().max_tokens, 1);
    }

    #[test]
    fn several_greedy_choices_are_refused_only_if_greedy_was_asked_for() {
        let several = GenerationOptions { n: 2, ..GenerationOptions::default() };
        let greedy = SamplingDefaults { temperature: Some(0.0), ..SamplingDefaults::default() };
        assert_eq!(several.resolve(&MODEL, &greedy, 1).unwrap().temperature, 1.0);
        let asked = GenerationOptions { temperature: Some(0.0), ..several };
        let message = resolve(&asked, 1).unwrap_err().message;
        assert_eq!(message, "n must be 1 when using greedy sampling, got 2.");
    }

    #[test]
    fn ids_must_be_in_the_vocabulary() {
        let options = GenerationOptions { stop_token_ids: vec![3, 50, -4], ..GenerationOptions::default() };
        let message = resolve(&options, 1).unwrap_err().message;
        assert!(
            message.starts_with("token_id(s) [50, -4] in stop_token_ids contain out-of-vocab"),
            "{message}"
        );
        let options = GenerationOptions { allowed_token_ids: Some(vec![]), ..GenerationOptions::default() };
        assert_eq!(resolve(&options, 1).unwrap_err().message, "allowed_token_ids is not None and empty!");
        let options = GenerationOptions { allowed_token_ids: Some(vec![99]), ..GenerationOptions::default() };
        assert!(resolve(&options, 1).unwrap_err().message.contains("out-of-vocab token id!"));
    }

    #[test]
    fn something_must_be_left_to_sample() {
        let base = GenerationOptions {
            min_tokens: 2,
            allowed_token_ids: Some(vec![3, 7]),
            stop_token_ids: vec![7],
            ..GenerationOptions::default()
        };
        // 3 and 7 stop, one as the model's own end.
        let model = ModelLimits { eos_token_ids: &[3], ..MODEL };
        let check = |options: &GenerationOptions, bad_words: Vec<Vec<u32>>| {
            let resolved = options.resolve(&model, &SamplingDefaults::default(), 1).unwrap();
            model.check_choice(&SamplingParams { bad_words, ..resolved }).map_err(|error| error.message)
        };
        let message = check(&base, vec![]).unwrap_err();
        assert!(message.contains("a stop token, which must not come before min_tokens=2"), "{message}");
        check(&GenerationOptions { min_tokens: 0, ..base.clone() }, vec![]).unwrap();
        check(&GenerationOptions { ignore_eos: true, ..base.clone() }, vec![]).unwrap();
        check(&GenerationOptions { allowed_token_ids: Some(vec![3, 4]), ..base.clone() }, vec![]).unwrap();
        check(
            &GenerationOptions { max_tokens: Some(0), min_tokens: 0, ..base.clone() },
            vec![vec![3], vec![7]],
        )
        .unwrap();
        let words = GenerationOptions { min_tokens: 0, stop_token_ids: vec![], ..base.clone() };
        check(&words, vec![vec![3], vec![7, 7]]).unwrap();
        let message = check(&words, vec![vec![3], vec![7]]).unwrap_err();
        assert!(message.contains("every allowed token is one of bad_words"), "{message}");
        let all = GenerationOptions { allowed_token_ids: None, stop_token_ids: (0..50).collect(), ..base };
        assert!(check(&all, vec![]).is_err());
    }

    #[test]
    fn logprobs_and_bias_are_bounded() {
        let options = GenerationOptions { logprobs: Some(-1), ..GenerationOptions::default() };
        let message = resolve(&options, 1).unwrap_err().message;
        assert_eq!(message, "Requested sample logprobs of 50, which is greater than max allowed: 20");
        let options = GenerationOptions { logit_bias: vec![(3, 500.0)], ..GenerationOptions::default() };
        assert_eq!(resolve(&options, 1).unwrap().logit_bias, [(3, 100.0)]);
    }

    #[test]
    fn echo_with_logprobs_scores_the_prompt() {
        let options = GenerationOptions { echo: true, logprobs: Some(2), ..GenerationOptions::default() };
        assert_eq!(resolve(&options, 1).unwrap().prompt_logprobs, Some(2));
        let options = GenerationOptions { seed: Some(-1), min_tokens: 200, ..GenerationOptions::default() };
        assert!(resolve(&options, 1).unwrap_err().message.contains("less than or equal to max_tokens=99"));
    }
}
