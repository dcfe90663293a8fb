//! Typed reading of `config.json`.

use millrace_types::TokenId;
use serde_json::{Map, Value};

use crate::{Result, WeightsError};

/// Longest configuration that is read, in bytes.
const MAX_CONFIG_BYTES: usize = 16 << 20;

/// A JSON object of settings whose getters give errors that name file and field.
///
/// Multimodal models keep the language model's settings in `text_config`: a getter looks there first, then at the
/// top. `null` counts as absent, as it does in Hugging Face's own configurations.
#[derive(Debug, Clone, PartialEq)]
pub struct HfConfig {
    file: String,
    /// Prefix of field names in messages: "rope_scaling." in a nested object.
    path: String,
    root: Map<String, Value>,
    text: Map<String, Value>,
}

impl HfConfig {
    /// Parses JSON; `file` is its name for messages.
    ///
    /// # Errors
    /// The text is too long, no valid JSON, or no object.
    pub fn parse(file: &str, json: &[u8]) -> Result<Self> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(WeightsError::bad_file(file, format!("it is longer than {MAX_CONFIG_BYTES} bytes")));
        }
        let value: Value = serde_json::from_slice(json)
            .map_err(|e| WeightsError::bad_file(file, format!("it is not valid JSON ({e})")))?;
        let Value::Object(root) = value else {
            return Err(WeightsError::bad_file(file, "it is not a JSON object"));
        };
        let mut config = Self { file: file.into(), path: String::new(), root, text: Map::new() };
        if let Some(text) = config.root_object("text_config")? {
            config.text = text.clone();
        }
        Ok(config)
    }

    /// The same with other values for some settings. A setting of the language model's own object is replaced there.
    ///
    /// # Errors
    /// `text_config` would be no object any more.
    pub fn with_overrides(mut self, settings: &Map<String, Value>) -> Result<Self> {
        for (key, value) in settings {
            let map = if self.text.contains_key(key) { &mut self.text } else { &mut self.root };
            map.insert(key.clone(), value.clone());
        }
        if settings.contains_key("text_config") {
            self.text = self.root_object("text_config")?.cloned().unwrap_or_default();
        }
        Ok(self)
    }

    /// The file's name, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// First of `architectures`, such as `Qwen3ForCausalLM`.
    ///
    /// # Errors
    /// The list is absent, empty or holds no text.
    pub fn architecture(&self) -> Result<&str> {
        let first = self.root.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str);
        first.ok_or_else(|| self.error("architectures", "must be a list with a class name"))
    }

    /// `model_type` of the whole model, such as `qwen3`.
    ///
    /// # Errors
    /// It is absent or no text.
    pub fn model_type(&self) -> Result<&str> {
        let text = self.root.get("model_type").and_then(Value::as_str);
        text.ok_or_else(|| self.error("model_type", "must be a text"))
    }

    /// A raw value, `None` if absent or null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let present = |map: &'_ Map<String, Value>| map.get(key).is_some_and(|v| !v.is_null());
        let map = if present(&self.text) { &self.text } else { &self.root };
        map.get(key).filter(|v| !v.is_null())
    }

    /// Whether a setting is mentioned at all, also as null: an explicit null can mean "none" where absence means a
    /// default.
    pub fn contains(&self, key: &str) -> bool {
        self.text.contains_key(key) || self.root.contains_key(key)
    }

    /// All settings of this object by name, `text_config`'s included.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.text.keys().chain(self.root.keys()).map(String::as_str)
    }

    /// A nested object of settings, `None` if absent or null.
    ///
    /// # Errors
    /// The value is no object.
    pub fn object(&self, key: &str) -> Result<Option<HfConfig>> {
        let nested = |map: &Map<String, Value>| HfConfig {
            file: self.file.clone(),
            path: format!("{}{key}.", self.path),
            root: map.clone(),
            text: Map::new(),
        };
        self.optional(key, "must be an object", |v| v.as_object().map(nested))
    }

    /// A whole number in `0..=u32::MAX` (sizes and counts), `None` if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        self.optional(key, "must be a whole number between 0 and 4294967295", |v| {
            as_u32(v).map(|n| n as usize)
        })
    }

    /// A required [`HfConfig::opt_usize`].
    ///
    /// # Errors
    /// Absent or of another kind.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required(key, self.opt_usize(key)?)
    }

    /// A finite number, `None` if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>> {
        self.optional(key, "must be a finite number", |v| v.as_f64().filter(|n| n.is_finite()))
    }

    /// A required [`HfConfig::opt_f64`].
    ///
    /// # Errors
    /// Absent or of another kind.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, self.opt_f64(key)?)
    }

    /// True or false, `None` if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.optional(key, "must be true or false", Value::as_bool)
    }

    /// A text, `None` if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        self.optional(key, "must be a text", Value::as_str)
    }

    /// A required [`HfConfig::opt_str`].
    ///
    /// # Errors
    /// Absent or of another kind.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, self.opt_str(key)?)
    }

    /// A list, `None` if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn opt_list(&self, key: &str) -> Result<Option<&[Value]>> {
        self.optional(key, "must be a list", |v| v.as_array().map(Vec::as_slice))
    }

    /// Token ids given as one number or a list of numbers; empty if absent.
    ///
    /// # Errors
    /// The value is of another kind.
    pub fn token_ids(&self, key: &str) -> Result<Vec<TokenId>> {
        let ids = |value: &Value| match value {
            Value::Array(list) => list.iter().map(as_u32).collect(),
            one => as_u32(one).map(|id| vec![id]),
        };
        Ok(self.optional(key, "must be a token id or a list of them", ids)?.unwrap_or_default())
    }

    /// An error about `key`, for checks that a caller makes: "num_attention_heads must be a multiple of ...".
    pub fn error(&self, key: &str, problem: impl Into<String>) -> WeightsError {
        WeightsError::Config {
            file: self.file.clone(),
            field: format!("{}{key}", self.path),
            problem: problem.into(),
        }
    }

    /// An object at the top, whatever `text_config` says.
    pub(crate) fn root_object(&self, key: &str) -> Result<Option<&Map<String, Value>>> {
        match self.root.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.error(key, "must be an object")),
        }
    }

    fn optional<'a, T>(
        &'a self,
        key: &str,
        problem: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        self.value(key).map(|value| read(value).ok_or_else(|| self.error(key, problem))).transpose()
    }

    fn required<T>(&self, key: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, "is missing"))
    }
}

/// Also accepts `32768.0`, which some exporters write.
fn as_u32(value: &Value) -> Option<u32> {
    let whole = |n: f64| (n.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&n)).then_some(n as u32);
    value.as_u64().map_or_else(|| value.as_f64().and_then(whole), |n| u32::try_from(n).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> HfConfig {
        HfConfig::parse("m/config.json", json.as_bytes()).unwrap()
    }

    #[test]
    fn text_config_comes_before_the_top() {
        let config = parse(
            r#"{"architectures": ["A"], "model_type": "a", "hidden_size": 1, "tie_word_embeddings": true,
                "text_config": {"hidden_size": 2, "model_type": "a_text", "rope_scaling": {"factor": 8}}}"#,
        );
        assert_eq!(config.usize("hidden_size").unwrap(), 2);
        assert_eq!(config.opt_bool("tie_word_embeddings").unwrap(), Some(true));
        assert_eq!(config.model_type().unwrap(), "a");
        assert_eq!(config.architecture().unwrap(), "A");
        assert_eq!(config.object("rope_scaling").unwrap().unwrap().f64("factor").unwrap(), 8.0);
    }

    #[test]
    fn overrides_are_seen_where_getters_look() {
        let config = parse(r#"{"architectures": ["A"], "a": 1, "text_config": {"b": 2, "c": 3}}"#);
        let Value::Object(settings) = serde_json::json!({"architectures": ["B"], "b": 5, "d": 6, "c": null})
        else {
            panic!("it is an object");
        };
        let config = config.with_overrides(&settings).unwrap();
        assert_eq!(config.architecture().unwrap(), "B");
        let number = |key: &str| config.opt_usize(key).unwrap();
        assert_eq!([number("a"), number("b"), number("c"), number("d")], [Some(1), Some(5), None, Some(6)]);
        let Value::Object(whole) = serde_json::json!({"text_config": {"b": 7}}) else {
            panic!("it is an object")
        };
        assert_eq!(config.with_overrides(&whole).unwrap().opt_usize("b").unwrap(), Some(7));
    }

    #[test]
    fn errors_name_file_and_field() {
        let config =
            parse(r#"{"a": -1, "b": "x", "c": {"factor": "8"}, "d": null, "e": 4294967296, "f": 2.5}"#);
        let message = |result: Result<usize>| result.unwrap_err().to_string();
        let whole = "must be a whole number between 0 and 4294967295";
        for key in ["a", "b", "c", "e", "f"] {
            assert_eq!(message(config.usize(key)), format!("m/config.json: {key} {whole}"));
        }
        assert_eq!(message(config.usize("d")), "m/config.json: d is missing");
        let nested = config.object("c").unwrap().unwrap().f64("factor").unwrap_err().to_string();
        assert_eq!(nested, "m/config.json: c.factor must be a finite number");
        assert_eq!(config.opt_usize("d").unwrap(), None);
        assert!(config.architecture().unwrap_err().to_string().contains("architectures must be"));
    }

    #[test]
    fn hostile_json_is_an_error() {
        for json in ["", "[]", "{", "\u{0}", &"[".repeat(100_000), "{\"text_config\": 3}"] {
            assert!(HfConfig::parse("c", json.as_bytes()).is_err());
        }
    }

    #[test]
    fn token_ids_come_alone_or_in_a_list() {
        let config = parse(r#"{"one": 7, "many": [7, 8.0], "bad": [7, -1]}"#);
        assert_eq!(config.token_ids("one").unwrap(), [7]);
        assert_eq!(config.token_ids("many").unwrap(), [7, 8]);
        assert!(config.token_ids("bad").is_err());
        assert!(config.token_ids("none").unwrap().is_empty());
    }
}
