//! `cache_control`. Everything is cached without being asked; the marks decide how it is reported.

use serde_json::Value;

use super::fields::Fields;
use crate::ApiError;

/// Where marks may stand, besides the body itself: lists of objects, in which lists may lie in turn.
const LISTS: &[&str] = &["system", "messages", "tools", "content", "source"];

/// Deepest place of a mark: the body, a message, a tool's result, a block of it, the source of a document, its text.
const DEPTH: usize = 6;

/// Whether a body has a mark anywhere.
///
/// # Errors
/// A 400 with the path of a mark that isn't `{"type": "ephemeral"}`, perhaps with a `ttl`.
pub(super) fn is_marked(body: &Value) -> Result<bool, ApiError> {
    look(String::new(), body, DEPTH)
}

fn look(path: String, value: &Value, depth: usize) -> Result<bool, ApiError> {
    let mut marked = false;
    match value {
        Value::Object(_) if depth > 0 => {
            let mut fields = Fields::new(path, value)?;
            if let Some(mark) = fields.get("cache_control") {
                read(fields.at("cache_control"), mark)?;
                marked = true;
            }
            for name in LISTS {
                let inner =
                    fields.get(name).map_or(Ok(false), |inner| look(fields.at(name), inner, depth - 1));
                marked |= inner?;
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                marked |= look(format!("{path}.{index}"), item, depth)?;
            }
        }
        _ => {}
    }
    Ok(marked)
}

fn read(path: String, mark: &Value) -> Result<(), ApiError> {
    let mut fields = Fields::new(path, mark)?;
    fields.need("type")?;
    fields.one_of("type", &["ephemeral"])?;
    // How long a prefix stays is decided by the room there is. Further members are hints of the same kind.
    fields.one_of("ttl", &["5m", "1h"]).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn marks_are_found_wherever_they_may_stand() {
        let mark = json!({"type": "ephemeral", "ttl": "1h"});
        let document = json!({"type": "document", "source": {"type": "content", "content": [
            {"type": "text", "text": "x", "cache_control": mark}]}});
        let result = json!({"type": "tool_result", "tool_use_id": "t", "content": [document]});
        for body in [
            json!({"cache_control": mark}),
            json!({"system": [{"type": "text", "text": "x", "cache_control": mark}]}),
            json!({"tools": [{"name": "f"}, {"name": "g", "cache_control": mark}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": mark}]}]}),
            json!({"messages": [{"role": "user", "content": [result]}]}),
        ] {
            assert!(is_marked(&body).unwrap(), "{body}");
        }
        // Names of fields in what belongs to the client mean nothing.
        let schema = json!({"type": "object", "properties": {"cache_control": {"type": "string"}}});
        let body = json!({"tools": [{"name": "f", "input_schema": schema}], "messages": "x", "system": null});
        assert!(!is_marked(&body).unwrap());
    }

    #[test]
    fn wrong_marks_are_named_by_path() {
        let body =
            |mark: Value| json!({"system": [{"type": "text"}, {"type": "text", "cache_control": mark}]});
        for mark in
            [json!({}), json!("x"), json!({"type": "for ever"}), json!({"type": "ephemeral", "ttl": "2h"})]
        {
            let error = is_marked(&body(mark)).unwrap_err();
            assert!(error.param.unwrap().starts_with("system.1.cache_control"));
        }
    }
}
