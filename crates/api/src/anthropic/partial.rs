//! The input of a call that may have been cut off.

use serde_json::{Map, Value};

/// The member under which text stands that is no JSON object. Anthropic recommends it for handing such text to a model,
/// and no tool mistakes it for its input.
const INVALID: &str = "INVALID_JSON";

/// The object that `json` is the text of, or what came to its end of it if it breaks off: members and elements in their
/// order. Only a last number may lack digits, because nothing tells where one ends. What isn't the beginning of an object is kept as text, in the member `INVALID_JSON`.
///
/// The official clients read streamed input that breaks off in the same way, so a whole answer says what a stream says.
pub(super) fn object(json: &str) -> Map<String, Value> {
    if json.trim().is_empty() {
        return Map::new();
    }
    let read = match serde_json::from_str(json) {
        Err(error) if error.is_eof() => serde_json::from_str(&closed(json)),
        read => read,
    };
    read.unwrap_or_else(|_| Map::from_iter([(INVALID.to_owned(), json.into())]))
}

/// `json` up to its last value that is complete (or a number that may be), with the brackets that are missing.
fn closed(json: &str) -> String {
    let mut open = Vec::new();
    // The end of what is complete. Brackets move it, so the ones open there are the ones open at the end.
    let mut certain = 0;
    // Whether a string that begins here would be a value and not a key.
    let mut value = false;
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in json.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    in_string = false;
                    if value {
                        certain = at + 1;
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                open.push(if byte == b'{' { b'}' } else { b']' });
                certain = at + 1;
                value = byte == b'[';
            }
            b'}' | b']' => {
                open.pop();
                certain = at + 1;
            }
            b',' => {
                certain = at;
                value = open.last() == Some(&b']');
            }
            b':' => value = true,
            _ => {}
        }
    }
    if !in_string && is_value(&json[certain..]) {
        certain = json.len();
    }
    let missing = open.iter().rev().map(|byte| char::from(*byte));
    json[..certain].chars().chain(missing).collect()
}

/// Whether the rest after a certain place is a last value without quotes or brackets: `, "a": 1`, `1`, `, true`. For all
/// but numbers that means that it is complete.
fn is_value(rest: &str) -> bool {
    let last = rest.rsplit([':', ',']).next().unwrap_or_default().trim();
    serde_json::from_str::<Value>(last).is_ok_and(|value| !value.is_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_complete_stays() {
        for (text, expected) in [
            ("", json!({})),
            ("nonsense", json!({"INVALID_JSON": "nonsense"})),
            ("[1, 2]", json!({"INVALID_JSON": "[1, 2]"})),
            (r#"{"a": 1-2"#, json!({"INVALID_JSON": r#"{"a": 1-2"#})),
            (r#"{"a": 1}"#, json!({"a": 1})),
            (r#"{"a""#, json!({})),
            (r#"{"a":"#, json!({})),
            (r#"{"a": "par"#, json!({})),
            (r#"{"a": "Paris""#, json!({"a": "Paris"})),
            (r#"{"a": "Paris", "b"#, json!({"a": "Paris"})),
            (r#"{"a": "x\"}", "b": [1, {"c": null, "d": "#, json!({"a": "x\"}", "b": [1, {"c": null}]})),
            (r#"{"a": [true, fal"#, json!({"a": [true]})),
            (r#"{"a": [true, false"#, json!({"a": [true, false]})),
            (r#"{"a": {"b": []}, "c": {"#, json!({"a": {"b": []}, "c": {}})),
        ] {
            assert_eq!(Value::Object(object(text)), expected, "{text}");
        }
    }

    /// Whether `part` is what a beginning of `whole`'s text says: a last number may lack digits, nothing else differs.
    fn begins(part: &Value, whole: &Value) -> bool {
        match (part, whole) {
            (Value::Object(part), Value::Object(whole)) => {
                part.iter().zip(whole).all(|((key, part), (name, whole))| key == name && begins(part, whole))
            }
            (Value::Array(part), Value::Array(whole)) => {
                part.iter().zip(whole).all(|(part, whole)| begins(part, whole))
            }
            (Value::Number(part), Value::Number(whole)) => whole.to_string().starts_with(&part.to_string()),
            _ => part == whole,
        }
    }

    #[test]
    fn every_beginning_is_read_in_order() {
        let whole =
            r#"{"k": "a,]}\"", "n": [1.5, -20, {"x": {}, "s": "t"}], "t": true, "é": null, "f": false}"#;
        let Value::Object(all) = serde_json::from_str(whole).unwrap() else { panic!("an object") };
        for end in (0..whole.len()).filter(|end| whole.is_char_boundary(*end)) {
            let part = object(&whole[..end]);
            assert!(part.len() <= all.len() && !part.contains_key(INVALID), "{}", &whole[..end]);
            for ((key, part), (name, all)) in part.iter().zip(&all) {
                assert!(key == name && begins(part, all), "{}: {part}", &whole[..end]);
            }
        }
        assert_eq!(object(r#"{"a": 12"#)["a"], 12, "and 123 may have been meant");
        assert_eq!(object(whole), all);
    }
}
