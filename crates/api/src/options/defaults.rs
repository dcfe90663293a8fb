//! Sampling defaults that a model ships in `generation_config.json`.

use millrace_types::TokenId;
use serde_json::Value;

/// A model's own defaults; `None` falls through to OpenAI's (temperature 1, everything else off).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SamplingDefaults {
    /// See [`GenerationOptions`](crate::GenerationOptions), as all of these.
    pub temperature: Option<f64>,
    /// Nucleus mass.
    pub top_p: Option<f64>,
    /// Most likely tokens kept.
    pub top_k: Option<i64>,
    /// Relative probability floor.
    pub min_p: Option<f64>,
    /// Locally typical mass.
    pub typical_p: Option<f64>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f64>,
    /// `max_new_tokens`.
    pub max_tokens: Option<usize>,
}

impl SamplingDefaults {
    /// Reads a parsed `generation_config.json`. Values that are absent, of the wrong type or out of range are left
    /// out: a careless file must not make every request of its model fail.
    ///
    /// `"do_sample": false` with no temperature means greedy, as in transformers.
    pub fn from_generation_config(config: &Value) -> Self {
        let number = |name: &str, ok: fn(f64) -> bool| config.get(name)?.as_f64().filter(|v| ok(*v));
        let greedy = config.get("do_sample").and_then(Value::as_bool) == Some(false);
        let temperature = number("temperature", |v| (0.0..=2.0).contains(&v));
        Self {
            temperature: temperature.or(greedy.then_some(0.0)),
            top_p: number("top_p", |v| v > 0.0 && v <= 1.0),
            top_k: config.get("top_k").and_then(Value::as_i64).filter(|v| *v >= 0),
            min_p: number("min_p", |v| (0.0..=1.0).contains(&v)),
            typical_p: number("typical_p", |v| v > 0.0 && v <= 1.0),
            repetition_penalty: number("repetition_penalty", |v| v > 0.0),
            max_tokens: config
                .get("max_new_tokens")
                .and_then(Value::as_u64)
                .and_then(|v| usize::try_from(v).ok())
                .filter(|v| *v > 0),
        }
    }
}

/// The end-of-sequence ids of a parsed `generation_config.json` or `config.json`: one id or a list.
pub fn eos_token_ids(config: &Value) -> Vec<TokenId> {
    let id = |value: &Value| value.as_u64().and_then(|v| TokenId::try_from(v).ok());
    match config.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(id).collect(),
        Some(one) => id(one).into_iter().collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_careless_file_is_read_as_far_as_it_makes_sense() {
        let config =
            json!({"temperature": 0.6, "top_p": 7, "top_k": 20, "max_new_tokens": "many", "min_p": null});
        let defaults = SamplingDefaults::from_generation_config(&config);
        assert_eq!(
            defaults,
            SamplingDefaults { temperature: Some(0.6), top_k: Some(20), ..SamplingDefaults::default() }
        );
    }

    #[test]
    fn do_sample_false_is_greedy_unless_a_temperature_is_given() {
        let read = |v: Value| SamplingDefaults::from_generation_config(&v).temperature;
        assert_eq!(read(json!({"do_sample": false})), Some(0.0));
        assert_eq!(read(json!({"do_sample": false, "temperature": 0.7})), Some(0.7));
        assert_eq!(read(json!({})), None);
    }

    #[test]
    fn end_ids_come_as_one_or_many() {
        assert_eq!(eos_token_ids(&json!({"eos_token_id": 3})), [3]);
        assert_eq!(eos_token_ids(&json!({"eos_token_id": [3, 5, -1]})), [3, 5]);
        assert!(eos_token_ids(&json!({"eos_token_id": null})).is_empty());
    }
}
