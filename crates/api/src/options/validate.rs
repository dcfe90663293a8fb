//! The rules that need no model. Ranges and words follow vLLM where both have the rule.

use super::GenerationOptions;
use crate::{ApiError, Limits};

/// A week: a longer limit is a mistake in the unit.
const MAX_TIMEOUT_SECONDS: f64 = 604_800.0;

/// Longest `cache_salt`, in characters.
const MAX_SALT_CHARS: usize = 128;

/// Checks a client's time limit in seconds.
pub(crate) fn check_timeout(seconds: Option<f64>) -> Result<(), ApiError> {
    if let Some(value) = seconds.filter(|v| !(*v > 0.0 && *v <= MAX_TIMEOUT_SECONDS)) {
        let rule = format!("must be in (0, {MAX_TIMEOUT_SECONDS}] seconds");
        return out_of_range("timeout", &rule, value);
    }
    Ok(())
}

impl GenerationOptions {
    /// Checks everything that can be checked without knowing the model.
    ///
    /// # Errors
    /// A 400 that names the field, for the first rule that is broken.
    pub fn validate(&self, limits: &Limits) -> Result<(), ApiError> {
        self.validate_counts(limits)?;
        self.validate_numbers()?;
        self.validate_stops(limits)?;
        self.validate_words(limits)?;
        self.validate_ids(limits)?;
        validate_logprobs(self.logprobs_name, "sample", self.logprobs)?;
        validate_logprobs("prompt_logprobs", "prompt", self.prompt_logprobs)?;
        validate_salt(self.cache_salt.as_deref())
    }

    fn validate_counts(&self, limits: &Limits) -> Result<(), ApiError> {
        let Self { n, min_tokens, max_tokens, max_tokens_name, .. } = self;
        let most = limits.max_sequences;
        if *n < 1 {
            return Err(ApiError::invalid("n", format!("n must be at least 1, got {n}.")));
        }
        if usize::try_from(*n).is_ok_and(|n| n > most) {
            return Err(ApiError::invalid("n", format!("n must be at most {most}, got {n}.")));
        }
        // Nothing to sample is a sensible wish only if the prompt comes back with its scores.
        let least = if self.echo { 0 } else { 1 };
        if let Some(max) = max_tokens.filter(|max| *max < least) {
            let message = format!("{max_tokens_name} must be at least {least}, got {max}.");
            return Err(ApiError::invalid(*max_tokens_name, message));
        }
        if let Some(budget) = self.thinking_token_budget.filter(|budget| *budget < -1) {
            let message = format!("thinking_token_budget must be -1 (no limit), 0 or more, got {budget}.");
            return Err(ApiError::invalid("thinking_token_budget", message));
        }
        if *min_tokens < 0 {
            let message = format!("min_tokens must be greater than or equal to 0, got {min_tokens}.");
            return Err(ApiError::invalid("min_tokens", message));
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), ApiError> {
        if let Some(value) = self.temperature {
            finite("temperature", value)?;
            if value < 0.0 {
                return out_of_range("temperature", "must be non-negative", value);
            }
            in_range("temperature", value, 0.0..=2.0)?;
        }
        for (name, value) in
            [("presence_penalty", self.presence_penalty), ("frequency_penalty", self.frequency_penalty)]
        {
            value.map_or(Ok(()), |value| in_range(name, value, -2.0..=2.0))?;
        }
        if let Some(value) = self.repetition_penalty {
            finite("repetition_penalty", value)?;
            // Compared as the engine will see it: a tiny double is zero as a float.
            if value as f32 <= 0.0 {
                return out_of_range("repetition_penalty", "must be greater than zero", value);
            }
        }
        for (name, value) in [("top_p", self.top_p), ("typical_p", self.typical_p)] {
            if let Some(value) = value.filter(|v| !(*v as f32 > 0.0 && *v <= 1.0)) {
                return out_of_range(name, "must be in (0, 1]", value);
            }
        }
        if let Some(value) = self.min_p {
            in_range("min_p", value, 0.0..=1.0)?;
        }
        if let Some(value) = self.top_k.filter(|v| *v < -1) {
            let message = format!("top_k must be 0 (disable), or at least 1, got {value}.");
            return Err(ApiError::invalid("top_k", message));
        }
        check_timeout(self.timeout)
    }

    fn validate_stops(&self, limits: &Limits) -> Result<(), ApiError> {
        if self.stop.len() > limits.max_stop {
            let message =
                format!("stop may hold at most {} strings, got {}.", limits.max_stop, self.stop.len());
            return Err(ApiError::invalid("stop", message));
        }
        validate_texts("stop", &self.stop, limits)
    }

    fn validate_words(&self, limits: &Limits) -> Result<(), ApiError> {
        if self.bad_words.len() > limits.max_bad_words {
            let message = format!(
                "bad_words may hold at most {} strings, got {}.",
                limits.max_bad_words,
                self.bad_words.len()
            );
            return Err(ApiError::invalid("bad_words", message));
        }
        validate_texts("bad_words", &self.bad_words, limits)
    }

    fn validate_ids(&self, limits: &Limits) -> Result<(), ApiError> {
        let most = limits.max_token_ids;
        for (name, count) in [
            ("stop_token_ids", self.stop_token_ids.len()),
            ("allowed_token_ids", self.allowed_token_ids.as_ref().map_or(0, Vec::len)),
            ("logit_bias", self.logit_bias.len()),
        ] {
            if count > most {
                let message = format!("{name} may hold at most {most} entries, got {count}.");
                return Err(ApiError::invalid(name, message));
            }
        }
        Ok(())
    }
}

fn validate_texts(name: &str, texts: &[String], limits: &Limits) -> Result<(), ApiError> {
    if texts.iter().any(String::is_empty) {
        return Err(ApiError::invalid(name, format!("{name} cannot contain an empty string.")));
    }
    let most = limits.max_stop_chars;
    if texts.iter().any(|text| text.chars().nth(most).is_some()) {
        let message = format!("{name} cannot contain a string of more than {most} characters.");
        return Err(ApiError::invalid(name, message));
    }
    Ok(())
}

fn validate_logprobs(name: &str, kind: &str, value: Option<i64>) -> Result<(), ApiError> {
    match value {
        Some(value) if value < -1 => {
            let name_in_message = if kind == "sample" { "logprobs" } else { name };
            let message = format!("{name_in_message} must be non-negative or -1, got {value}.");
            Err(ApiError::invalid(name, message))
        }
        _ => Ok(()),
    }
}

fn validate_salt(salt: Option<&str>) -> Result<(), ApiError> {
    let Some(salt) = salt else { return Ok(()) };
    let refuse = |message: &str| Err(ApiError::invalid("cache_salt", message));
    if salt.is_empty() {
        return refuse("Parameter 'cache_salt' must be a non-empty string if provided.");
    }
    if salt.chars().count() > MAX_SALT_CHARS {
        return refuse("Parameter 'cache_salt' must have at most 128 characters.");
    }
    if salt.contains(['@', '/', '\\', '\0']) {
        return refuse("Parameter 'cache_salt' must not contain '@', '/', '\\' or NUL.");
    }
    Ok(())
}

fn finite(name: &str, value: f64) -> Result<(), ApiError> {
    if (value as f32).is_finite() { Ok(()) } else { out_of_range(name, "must be a finite number", value) }
}

fn in_range(name: &str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<(), ApiError> {
    if range.contains(&value) {
        return Ok(());
    }
    out_of_range(name, &format!("must be in [{}, {}]", range.start(), range.end()), value)
}

fn out_of_range(name: &str, rule: &str, value: f64) -> Result<(), ApiError> {
    Err(ApiError::invalid(name, format!("{name} {rule}, got {value}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut GenerationOptions)) -> (String, String) {
        let mut options = GenerationOptions::default();
        change(&mut options);
        let error = options.validate(&Limits::default()).unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::BadRequest);
        (error.param.unwrap(), error.message)
    }

    #[test]
    fn every_rule_has_its_words() {
        type Change = fn(&mut GenerationOptions);
        let cases: [(Change, &str, &str); 26] = [
            (|o| o.n = 0, "n", "n must be at least 1, got 0."),
            (|o| o.n = 99_999, "n", "n must be at most 1024, got 99999."),
            (|o| o.max_tokens = Some(0), "max_tokens", "max_tokens must be at least 1, got 0."),
            (|o| o.min_tokens = -1, "min_tokens", "min_tokens must be greater than or equal to 0, got -1."),
            (|o| o.temperature = Some(-0.1), "temperature", "temperature must be non-negative, got -0.1."),
            (|o| o.temperature = Some(2.5), "temperature", "temperature must be in [0, 2], got 2.5."),
            (
                |o| o.temperature = Some(f64::NAN),
                "temperature",
                "temperature must be a finite number, got NaN.",
            ),
            (|o| o.top_p = Some(0.0), "top_p", "top_p must be in (0, 1], got 0."),
            (|o| o.top_p = Some(1e-300), "top_p", "top_p must be in (0, 1], got "),
            (|o| o.typical_p = Some(1.1), "typical_p", "typical_p must be in (0, 1], got 1.1."),
            (|o| o.top_k = Some(-2), "top_k", "top_k must be 0 (disable), or at least 1, got -2."),
            (|o| o.min_p = Some(1.5), "min_p", "min_p must be in [0, 1], got 1.5."),
            (
                |o| o.presence_penalty = Some(3.0),
                "presence_penalty",
                "presence_penalty must be in [-2, 2], got 3.",
            ),
            (
                |o| o.frequency_penalty = Some(-3.0),
                "frequency_penalty",
                "frequency_penalty must be in [-2, 2], got -3.",
            ),
            (
                |o| o.repetition_penalty = Some(0.0),
                "repetition_penalty",
                "repetition_penalty must be greater than zero, got 0.",
            ),
            (
                |o| o.repetition_penalty = Some(1e300),
                "repetition_penalty",
                "repetition_penalty must be a finite number, got 1",
            ),
            (|o| o.timeout = Some(0.0), "timeout", "timeout must be in (0, 604800] seconds, got 0."),
            (|o| o.stop = vec!["a".into(); 5], "stop", "stop may hold at most 4 strings, got 5."),
            (|o| o.stop = vec![String::new()], "stop", "stop cannot contain an empty string."),
            (|o| o.stop = vec!["x".repeat(2000)], "stop", "stop cannot contain a string of more than 1024"),
            (|o| o.bad_words = vec![String::new()], "bad_words", "bad_words cannot contain an empty string."),
            (|o| o.logprobs = Some(-2), "logprobs", "logprobs must be non-negative or -1, got -2."),
            (
                |o| o.prompt_logprobs = Some(-2),
                "prompt_logprobs",
                "prompt_logprobs must be non-negative or -1, got -2.",
            ),
            (
                |o| o.cache_salt = Some(String::new()),
                "cache_salt",
                "Parameter 'cache_salt' must be a non-empty string if provided.",
            ),
            (|o| o.cache_salt = Some("a/b".into()), "cache_salt", "Parameter 'cache_salt' must not contain"),
            (
                |o| o.cache_salt = Some("a".repeat(129)),
                "cache_salt",
                "Parameter 'cache_salt' must have at most",
            ),
        ];
        for (change, param, message) in cases {
            let got = refused(change);
            assert_eq!(got.0, param);
            assert!(got.1.starts_with(message), "{} / {message}", got.1);
        }
    }

    #[test]
    fn the_edges_of_every_range_are_allowed() {
        let options = GenerationOptions {
            temperature: Some(2.0),
            top_p: Some(1.0),
            typical_p: Some(1.0),
            min_p: Some(0.0),
            top_k: Some(-1),
            presence_penalty: Some(-2.0),
            frequency_penalty: Some(2.0),
            max_tokens: Some(0),
            echo: true,
            ..GenerationOptions::default()
        };
        options.validate(&Limits::default()).unwrap();
    }
}
