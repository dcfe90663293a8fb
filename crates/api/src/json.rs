//! From bytes to typed bodies, with limits that hold before anything is allocated.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{ApiError, Limits, error::shorten};

/// Parses a request body into a JSON object.
///
/// # Errors
/// A 400 if the body isn't JSON, isn't an object, or is nested or populated beyond `limits`.
pub fn parse_body(body: &[u8], limits: &Limits) -> Result<Value, ApiError> {
    check_shape(body, limits)?;
    let value: Value = serde_json::from_slice(body)
        .map_err(|e| ApiError::bad_request(format!("The request body is not valid JSON: {e}.")))?;
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(ApiError::bad_request("The request body must be a JSON object.")),
    }
}

/// Reads a typed view of a body; unknown fields are ignored. The error names the field by its path.
///
/// # Errors
/// A 400 for a field of the wrong type.
pub fn read<T: DeserializeOwned>(body: &Value) -> Result<T, ApiError> {
    serde_path_to_error::deserialize(body).map_err(|e| {
        let path = e.path().to_string();
        let reason = shorten(&e.inner().to_string(), 200);
        ApiError::invalid(&path, format!("Invalid value for `{path}`: {reason}."))
    })
}

/// Characters of the strings and keys in a value.
pub(crate) fn text_chars(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(list) => list.iter().map(text_chars).sum(),
        Value::Object(fields) => object_chars(fields),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

/// The same for an object.
pub(crate) fn object_chars(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| key.chars().count() + text_chars(value)).sum()
}

/// One pass over the bytes, before the parser allocates: depth, and values counted by their separators.
fn check_shape(body: &[u8], limits: &Limits) -> Result<(), ApiError> {
    let (mut depth, mut values) = (0usize, 1usize);
    let (mut in_string, mut escaped) = (false, false);
    for &byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if depth > limits.max_json_depth {
            let max = limits.max_json_depth;
            return Err(ApiError::bad_request(format!(
                "The request body is nested too deeply: objects and arrays may nest at most {max} levels."
            )));
        }
        if values > limits.max_json_values {
            let max = limits.max_json_values;
            return Err(ApiError::bad_request(format!(
                "The request body holds too many JSON values: at most {max} are allowed."
            )));
        }
    }
    Ok(())
}

/// An integer that may also be written as a float without a fraction (`16.0`), as some clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Int(pub i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IntVisitor)
    }
}

struct IntVisitor;

impl Visitor<'_> for IntVisitor {
    type Value = Int;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer of at most 64 bits")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Int, E> {
        Ok(Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Int, E> {
        i64::try_from(value).map(Int).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Int, E> {
        // 2^53: beyond it a float no longer says which integer was meant.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            Ok(Int(value as i64))
        } else {
            Err(E::invalid_type(de::Unexpected::Float(value), &self))
        }
    }
}

/// `"a"` or `["a", "b"]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StringOrList(pub Vec<String>);

impl<'de> Deserialize<'de> for StringOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StringOrListVisitor)
    }
}

struct StringOrListVisitor;

impl<'de> Visitor<'de> for StringOrListVisitor {
    type Value = StringOrList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<StringOrList, E> {
        Ok(StringOrList(vec![value.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<StringOrList, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(StringOrList(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { max_json_depth: 4, max_json_values: 8, ..Limits::default() }
    }

    #[test]
    fn depth_and_count_are_checked_before_parsing() {
        let deep = "[".repeat(100_000);
        assert!(parse_body(deep.as_bytes(), &limits()).unwrap_err().message.contains("nested too deeply"));
        let wide = format!("{{\"a\":[{}1]}}", "1,".repeat(10));
        assert!(parse_body(wide.as_bytes(), &limits()).unwrap_err().message.contains("too many"));
        assert!(parse_body(br#"{"a":[[[1]]]}"#, &limits()).is_ok());
    }

    #[test]
    fn brackets_in_strings_do_not_count() {
        assert!(parse_body(br#"{"a":"[[[[[[\"{{{{,,,,,,,,,,,"}"#, &limits()).is_ok());
    }

    #[test]
    fn only_objects_are_bodies() {
        for body in ["", "{", "[]", "3", "null", "{\"a\":NaN}", "{\"a\":1}x", "\u{0}"] {
            assert!(parse_body(body.as_bytes(), &limits()).is_err(), "{body:?}");
        }
    }

    #[test]
    fn an_error_names_its_path_and_stays_short() {
        #[derive(Debug, Deserialize)]
        struct Body {
            #[serde(rename = "list")]
            _list: Vec<Int>,
        }
        let long = "x".repeat(10_000);
        let error = read::<Body>(&serde_json::json!({"list": [1, 2.0, long]})).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("list[2]"));
        assert!(error.message.len() < 400, "{}", error.message.len());
    }

    #[test]
    fn integers_may_be_written_as_floats() {
        assert_eq!(serde_json::from_str::<Int>("16.0").unwrap(), Int(16));
        assert!(serde_json::from_str::<Int>("16.5").is_err());
        assert!(serde_json::from_str::<Int>("18446744073709551615").is_err());
        assert!(serde_json::from_str::<Int>("1e300").is_err());
        assert!(serde_json::from_str::<Int>("true").is_err());
    }
}
