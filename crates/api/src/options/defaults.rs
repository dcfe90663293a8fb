//! Sampling defaults that a model ships in `generation_config.json`.

use millrace_types::TokenId;
use serde_json::Value;

use crate::error::shorten;

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

/// A value of a settings file that makes no sense and was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its key.
    pub key: &'static str,
    /// As the file has it, shortened.
    pub value: String,
    /// What it would have to be.
    pub rule: &'static str,
}

impl SamplingDefaults {
    /// Reads a parsed `generation_config.json`. Values of the wrong type or out of range are left out and told in
    /// the second part: a careless file must not make every request of its model fail. Null is the same as absent.
    ///
    /// `"do_sample": false` with no temperature means greedy, as in transformers.
    pub fn from_generation_config(config: &Value) -> (Self, Vec<Ignored>) {
        let mut reader = Reader { config, ignored: Vec::new() };
        let sampled = reader.read("do_sample", "true or false", Value::as_bool);
        let temperature = reader.number("temperature", "a number from 0 to 2", |v| (0.0..=2.0).contains(&v));
        let share = |v: f64| v as f32 > 0.0 && v <= 1.0;
        let defaults = Self {
            temperature: temperature.or((sampled == Some(false)).then_some(0.0)),
            top_p: reader.number("top_p", "a number above 0 and up to 1", share),
            top_k: reader.read("top_k", "a whole number from -1 on", |v| v.as_i64().filter(|v| *v >= -1)),
            min_p: reader.number("min_p", "a number from 0 to 1", |v| (0.0..=1.0).contains(&v)),
            typical_p: reader.number("typical_p", "a number above 0 and up to 1", share),
            repetition_penalty: reader.number("repetition_penalty", "a number above 0", |v| {
                v as f32 > 0.0 && (v as f32).is_finite()
            }),
            max_tokens: reader.read("max_new_tokens", "a whole number from 1 on", |v| {
                v.as_u64().and_then(|v| usize::try_from(v).ok()).filter(|v| *v > 0)
            }),
        };
        (defaults, reader.ignored)
    }
}

/// Reads keys and notes the values that it can't take.
struct Reader<'a> {
    config: &'a Value,
    ignored: Vec<Ignored>,
}

impl Reader<'_> {
    fn read<T>(
        &mut self,
        key: &'static str,
        rule: &'static str,
        take: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.config.get(key).filter(|value| !value.is_null())?;
        let taken = take(value);
        if taken.is_none() {
            self.ignored.push(Ignored::new(key, value, rule));
        }
        taken
    }

    fn number(&mut self, key: &'static str, rule: &'static str, ok: fn(f64) -> bool) -> Option<f64> {
        self.read(key, rule, |value| value.as_f64().filter(|v| ok(*v)))
    }
}

impl Ignored {
    fn new(key: &'static str, value: &Value, rule: &'static str) -> Self {
        Self { key, value: shorten(&value.to_string(), 100), rule }
    }
}

/// The end-of-sequence ids of a parsed `generation_config.json` or `config.json`, one id or a list, and the values
/// that are no ids below `vocab_size`: the model can't produce them, and nothing may index its logits with them.
pub fn eos_token_ids(config: &Value, vocab_size: usize) -> (Vec<TokenId>, Vec<Ignored>) {
    let id =
        |value: &Value| value.as_u64().filter(|v| *v < vocab_size as u64).and_then(|v| v.try_into().ok());
    let (mut ids, mut ignored) = (Vec::new(), Vec::new());
    let values = match config.get("eos_token_id") {
        Some(Value::Array(values)) => values.as_slice(),
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    };
    for value in values {
        match id(value) {
            Some(id) => ids.push(id),
            None => ignored.push(Ignored::new("eos_token_id", value, "a token id of the model")),
        }
    }
    (ids, ignored)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn keys(ignored: &[Ignored]) -> Vec<&str> {
        ignored.iter().map(|one| one.key).collect()
    }

    #[test]
    fn a_careless_file_is_read_as_far_as_it_makes_sense() {
        let config =
            json!({"temperature": 0.6, "top_p": 7, "top_k": 20, "max_new_tokens": "many", "min_p": null});
        let (defaults, ignored) = SamplingDefaults::from_generation_config(&config);
        assert_eq!(
            defaults,
            SamplingDefaults { temperature: Some(0.6), top_k: Some(20), ..SamplingDefaults::default() }
        );
        let seven = Ignored { key: "top_p", value: "7".into(), rule: "a number above 0 and up to 1" };
        assert_eq!(ignored[0], seven);
        assert_eq!(
            (keys(&ignored), ignored[1].value.as_str()),
            (vec!["top_p", "max_new_tokens"], "\"many\"")
        );
    }

    #[test]
    fn each_value_that_is_left_out_is_told() {
        let config = json!({
            "do_sample": "yes", "temperature": 3, "top_p": 0, "top_k": 1.5, "min_p": -1, "typical_p": [1],
            "repetition_penalty": 1e300, "max_new_tokens": 0,
        });
        let (defaults, ignored) = SamplingDefaults::from_generation_config(&config);
        assert_eq!(defaults, SamplingDefaults::default());
        assert_eq!(ignored.len(), config.as_object().unwrap().len());
        let (_, ignored) = SamplingDefaults::from_generation_config(&json!({"top_k": "x".repeat(500)}));
        assert!(ignored[0].value.chars().count() <= 101);
    }

    #[test]
    fn do_sample_false_is_greedy_unless_a_temperature_is_given() {
        let read = |v: Value| SamplingDefaults::from_generation_config(&v).0.temperature;
        assert_eq!(read(json!({"do_sample": false})), Some(0.0));
        assert_eq!(read(json!({"do_sample": false, "temperature": 0.7})), Some(0.7));
        assert_eq!(read(json!({})), None);
    }

    #[test]
    fn end_ids_come_as_one_or_many() {
        let ids = |value: Value| eos_token_ids(&json!({"eos_token_id": value}), 6);
        assert_eq!(ids(json!(3)), (vec![3], vec![]));
        let (found, ignored) = ids(json!([3, 5, -1, 6, "x"]));
        assert_eq!(found, [3, 5]);
        assert_eq!(ignored.iter().map(|one| one.value.as_str()).collect::<Vec<_>>(), ["-1", "6", "\"x\""]);
        assert_eq!(ids(json!(null)), (vec![], vec![]));
    }
}
