//! Reads a JSON object field by field, and refuses the fields that nobody read.

use serde_json::{Map, Value};

use crate::{ApiError, error::shorten};

/// An object of a request. Null counts as absent.
pub(crate) struct Fields<'a> {
    /// Dotted, as the real API writes paths: `messages.0.content`. Empty for the body.
    path: String,
    object: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object.
    pub(crate) fn new(path: String, value: &'a Value) -> Result<Self, ApiError> {
        match value {
            Value::Object(object) => Ok(Self { path, object, known: Vec::new() }),
            _ => Err(invalid(&path, "Input should be an object.")),
        }
    }

    /// Where this object is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Where a field of this object is.
    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// A field of any type.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Fields that are accepted and change nothing here.
    pub(crate) fn accept(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// A field that must be there.
    pub(crate) fn need(&mut self, name: &'static str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| invalid(&self.at(name), "Field required."))
    }

    /// A string that must be there.
    pub(crate) fn need_str(&mut self, name: &'static str) -> Result<&'a str, ApiError> {
        self.need(name)?;
        Ok(self.str(name)?.unwrap_or_default())
    }

    pub(crate) fn str(&mut self, name: &'static str) -> Result<Option<&'a str>, ApiError> {
        self.typed(name, "a string", Value::as_str)
    }

    pub(crate) fn bool(&mut self, name: &'static str) -> Result<Option<bool>, ApiError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    pub(crate) fn number(&mut self, name: &'static str) -> Result<Option<f64>, ApiError> {
        self.typed(name, "a number", Value::as_f64)
    }

    pub(crate) fn integer(&mut self, name: &'static str) -> Result<Option<i64>, ApiError> {
        self.typed(name, "an integer", Value::as_i64)
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Result<Option<&'a [Value]>, ApiError> {
        self.typed(name, "a list", |value| value.as_array().map(Vec::as_slice))
    }

    pub(crate) fn object(&mut self, name: &'static str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.typed(name, "an object", Value::as_object)
    }

    /// One of some words.
    pub(crate) fn one_of(
        &mut self,
        name: &'static str,
        words: &[&'static str],
    ) -> Result<Option<&'a str>, ApiError> {
        match self.str(name)? {
            Some(word) if !words.contains(&word) => {
                let shown = shorten(word, 60);
                let words = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
                Err(invalid(&self.at(name), &format!("Input should be one of {words}, got '{shown}'.")))
            }
            word => Ok(word),
        }
    }

    /// A field that asks for something this server can't do; `false`, `[]` and `{}` don't ask.
    pub(crate) fn refuse(&mut self, name: &'static str, why: &str) -> Result<(), ApiError> {
        let asks = |value: &&Value| match value {
            Value::Bool(on) => *on,
            Value::Array(list) => !list.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        match self.get(name).filter(asks) {
            Some(_) => Err(invalid(&self.at(name), why)),
            None => Ok(()),
        }
    }

    /// What was asked for so far.
    pub(super) fn known(&self) -> Vec<&'static str> {
        let mut known = self.known.clone();
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Refuses what nobody asked for by name.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        match self.object.keys().find(|key| !self.known.contains(&key.as_str())) {
            Some(key) => Err(invalid(&self.at(&shorten(key, 80)), "Extra inputs are not permitted.")),
            None => Ok(()),
        }
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        kind: &str,
        take: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match take(value) {
            Some(taken) => Ok(Some(taken)),
            None => Err(invalid(&self.at(name), &format!("Input should be {kind}."))),
        }
    }
}

/// A 400 whose message opens with the path.
pub(crate) fn invalid(path: &str, reason: &str) -> ApiError {
    if path.is_empty() {
        ApiError::bad_request(reason)
    } else {
        ApiError::invalid(path, format!("{path}: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_and_wrong_types_are_named_by_path() {
        let value = json!({"a": "x", "n": null, "extra": 1});
        let mut fields = Fields::new("tools.3".into(), &value).unwrap();
        assert_eq!(fields.need_str("a").unwrap(), "x");
        assert_eq!(fields.str("n").unwrap(), None);
        assert_eq!(fields.need_str("n").unwrap_err().message, "tools.3.n: Field required.");
        assert_eq!(fields.integer("a").unwrap_err().message, "tools.3.a: Input should be an integer.");
        let error = fields.done().unwrap_err();
        assert_eq!(error.message, "tools.3.extra: Extra inputs are not permitted.");
        assert_eq!(error.param.as_deref(), Some("tools.3.extra"));
        assert!(Fields::new("x".into(), &json!([])).is_err());
    }

    #[test]
    fn empty_values_ask_for_nothing() {
        for (value, refused) in [
            (json!(null), false),
            (json!([]), false),
            (json!({}), false),
            (json!(false), false),
            (json!([1]), true),
            (json!("x"), true),
        ] {
            let object = json!({"container": value});
            let mut fields = Fields::new(String::new(), &object).unwrap();
            assert_eq!(fields.refuse("container", "No.").is_err(), refused, "{object}");
        }
    }
}
