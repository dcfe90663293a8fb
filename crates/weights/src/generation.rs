//! Sampling defaults of a model: `generation_config.json`.

use millrace_types::TokenId;

use crate::{HfConfig, Result};

/// What the model's authors recommend. Every field is `None` where the file says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerationConfig {
    /// `false` means greedy decoding.
    pub do_sample: Option<bool>,
    /// At least 0.
    pub temperature: Option<f32>,
    /// In (0, 1].
    pub top_p: Option<f32>,
    /// 0 turns it off.
    pub top_k: Option<u32>,
    /// In [0, 1].
    pub min_p: Option<f32>,
    /// In (0, 1].
    pub typical_p: Option<f32>,
    /// Above 0.
    pub repetition_penalty: Option<f32>,
    /// Longest answer, in tokens.
    pub max_new_tokens: Option<usize>,
    /// Tokens that end an answer; empty if none is named.
    pub eos_token_ids: Vec<TokenId>,
    /// Start-of-text token.
    pub bos_token_id: Option<TokenId>,
    /// Padding token.
    pub pad_token_id: Option<TokenId>,
}

impl GenerationConfig {
    /// Reads the settings of a parsed `generation_config.json`.
    ///
    /// # Errors
    /// A setting is of the wrong kind or out of its range.
    pub fn from_config(config: &HfConfig) -> Result<Self> {
        let number = |key: &str, valid: fn(f64) -> bool, problem: &str| match config.opt_f64(key)? {
            Some(n) if !valid(n) => Err(config.error(key, problem)),
            other => Ok(other.map(|n| n as f32)),
        };
        let fraction = |n: f64| n > 0.0 && n <= 1.0;
        Ok(Self {
            do_sample: config.opt_bool("do_sample")?,
            temperature: number("temperature", |n| n >= 0.0, "must be at least 0")?,
            top_p: number("top_p", fraction, "must be in (0, 1]")?,
            top_k: config.opt_usize("top_k")?.map(|k| k as u32),
            min_p: number("min_p", |n| (0.0..=1.0).contains(&n), "must be in [0, 1]")?,
            typical_p: number("typical_p", fraction, "must be in (0, 1]")?,
            repetition_penalty: number("repetition_penalty", |n| n > 0.0, "must be above 0")?,
            max_new_tokens: config.opt_usize("max_new_tokens")?,
            eos_token_ids: config.token_ids("eos_token_id")?,
            bos_token_id: config.token_ids("bos_token_id")?.first().copied(),
            pad_token_id: config.token_ids("pad_token_id")?.first().copied(),
        })
    }

    /// The temperature for a request that names none: 0 where the model says `do_sample: false`.
    pub fn default_temperature(&self) -> Option<f32> {
        if self.do_sample == Some(false) { Some(0.0) } else { self.temperature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<GenerationConfig> {
        GenerationConfig::from_config(&HfConfig::parse("generation_config.json", json.as_bytes())?)
    }

    #[test]
    fn sampling_defaults() {
        let config = read(
            r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05,
                "eos_token_id": [151645, 151643], "bos_token_id": 151643, "transformers_version": "4.51.0"}"#,
        )
        .unwrap();
        assert_eq!(config.default_temperature(), Some(0.6));
        assert_eq!((config.top_k, config.top_p), (Some(20), Some(0.95)));
        assert_eq!(config.eos_token_ids, [151_645, 151_643]);
        assert_eq!(config.bos_token_id, Some(151_643));
    }

    #[test]
    fn greedy_models_default_to_temperature_zero() {
        assert_eq!(
            read(r#"{"do_sample": false, "temperature": 0.6}"#).unwrap().default_temperature(),
            Some(0.0)
        );
        assert_eq!(read("{}").unwrap().default_temperature(), None);
        assert_eq!(read("{}").unwrap(), GenerationConfig::default());
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for json in
            [r#"{"top_p": 0}"#, r#"{"min_p": 2}"#, r#"{"temperature": -1}"#, r#"{"eos_token_id": "x"}"#]
        {
            assert!(read(json).unwrap_err().to_string().starts_with("generation_config.json: "), "{json}");
        }
    }
}
