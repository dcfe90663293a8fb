//! Checks messages and brings their content into the one form that every chat template reads: a string.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{ApiError, Limits, documents, error::shorten, json::text_chars};

/// Names that clients have for an assistant's reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Checks each message and joins its text parts. All other fields stay as the client sent them.
///
/// # Errors
/// A 400 with the path of the message at fault.
pub(crate) fn normalize(messages: Vec<Value>, limits: &Limits) -> Result<Vec<Value>, ApiError> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages", "`messages` must hold at least one message."));
    }
    if messages.len() > limits.max_messages {
        let message =
            format!("`messages` may hold at most {} messages, got {}.", limits.max_messages, messages.len());
        return Err(ApiError::invalid("messages", message));
    }
    let mut chars = 0;
    let mut normal = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let message = normalize_one(&format!("messages[{index}]"), message, limits)?;
        chars += count_chars(&message);
        normal.push(message);
    }
    if chars > limits.max_prompt_chars {
        let most = limits.max_prompt_chars;
        let message = format!("The messages hold {chars} characters together; at most {most} are allowed.");
        return Err(ApiError::invalid("messages", message));
    }
    Ok(normal)
}

fn normalize_one(path: &str, message: Value, limits: &Limits) -> Result<Value, ApiError> {
    let Value::Object(mut message) = message else {
        return Err(ApiError::invalid(
            path,
            format!("`{path}` must be an object with `role` and `content`."),
        ));
    };
    let role = match message.get("role") {
        Some(Value::String(role)) if !role.is_empty() => role.clone(),
        _ => {
            let message = format!("`{path}.role` must be a non-empty string such as \"user\".");
            return Err(ApiError::invalid(format!("{path}.role"), message));
        }
    };
    check_tool_calls(path, &message)?;
    let content = match message.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => join_parts(path, &parts, limits)?,
        // An assistant that only calls tools says nothing.
        None | Some(Value::Null) if role == "assistant" => String::new(),
        _ => {
            let message = format!("`{path}.content` must be a string or a list of text parts.");
            return Err(ApiError::invalid(format!("{path}.content"), message));
        }
    };
    message.insert("content".into(), Value::String(content));
    Ok(Value::Object(message))
}

/// Characters that a template shows of a message: content, reasoning, and calls.
fn count_chars(message: &Value) -> usize {
    let field = |name: &str| message.get(name).map_or(0, text_chars);
    let calls = message.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    let functions = calls.filter_map(|call| call.get("function"));
    let calls = functions.flat_map(|function| [function.get("name"), function.get("arguments")]).flatten();
    // The same reasoning often comes under more than one name, and is shown once.
    let reasoning = REASONING.into_iter().map(field).max().unwrap_or_default();
    field("content") + reasoning + calls.map(text_chars).sum::<usize>()
}

/// Text parts are joined by line breaks, as vLLM does for templates that read strings.
fn join_parts(path: &str, parts: &[Value], limits: &Limits) -> Result<String, ApiError> {
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            text.push('\n');
        }
        text.push_str(&part_text(&format!("{path}.content[{index}]"), part, limits)?);
    }
    Ok(text)
}

fn part_text<'a>(path: &str, part: &'a Value, limits: &Limits) -> Result<Cow<'a, str>, ApiError> {
    if let Value::String(text) = part {
        return Ok(text.into());
    }
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let field = match kind {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        "file" => return file_text(&format!("{path}.file"), &part["file"], limits).map(Cow::Owned),
        _ => {
            let kind = shorten(kind, 40);
            let message = format!(
                "`{path}` is of type \"{kind}\", which this model can't read. Send parts of type \"text\" or \"file\"."
            );
            return Err(ApiError::invalid(path, message));
        }
    };
    part.get(field).and_then(Value::as_str).map(Cow::Borrowed).ok_or_else(|| {
        ApiError::invalid(format!("{path}.{field}"), format!("`{path}.{field}` must be a string."))
    })
}

/// A file's text, as a document with its name.
fn file_text(path: &str, file: &Value, limits: &Limits) -> Result<String, ApiError> {
    let text = |name: &str| file.get(name).and_then(Value::as_str);
    let refuse = |name: &str, reason: &str| {
        let path = format!("{path}.{name}");
        Err(ApiError::invalid(&path, format!("`{path}`: {reason}")))
    };
    if let Some(data) = text("file_data") {
        return match documents::read_file(data, limits) {
            Ok(content) => Ok(documents::framed(text("filename"), None, &content)),
            Err(reason) => refuse("file_data", &reason),
        };
    }
    // A file that is there has its content in this place.
    match text("file_id") {
        Some(id) => refuse("file_id", &format!("There is no file '{}'.", shorten(id, 100))),
        None => {
            refuse("file_data", "The part needs the file as base64, or the `file_id` of an uploaded one.")
        }
    }
}

/// Earlier calls are shown to the model by templates that trust their shape.
fn check_tool_calls(path: &str, message: &Map<String, Value>) -> Result<(), ApiError> {
    let calls = match message.get("tool_calls") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(calls)) => calls,
        Some(_) => {
            let message = format!("`{path}.tool_calls` must be a list.");
            return Err(ApiError::invalid(format!("{path}.tool_calls"), message));
        }
    };
    for (index, call) in calls.iter().enumerate() {
        if call.pointer("/function/name").and_then(Value::as_str).is_none_or(str::is_empty) {
            let path = format!("{path}.tool_calls[{index}].function.name");
            return Err(ApiError::invalid(&path, format!("`{path}` must be a non-empty string.")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(message: Value) -> Result<Value, ApiError> {
        normalize(vec![message], &Limits::default()).map(|mut list| list.remove(0))
    }

    #[test]
    fn text_parts_become_one_string_and_the_rest_stays() {
        let got =
            one(json!({"role": "user", "name": "Ada", "content": ["a", {"type": "text", "text": "b"}]}));
        assert_eq!(got.unwrap(), json!({"role": "user", "name": "Ada", "content": "a\nb"}));
    }

    #[test]
    fn files_become_documents() {
        let file = json!({"file_data": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"});
        let got = one(json!({"role": "user", "content": [{"type": "file", "file": file}, "What is it?"]}));
        let expected = "<document>\nTitle: a.txt\nhello\n</document>\nWhat is it?";
        assert_eq!(got.unwrap()["content"], expected);
    }

    #[test]
    fn only_assistants_may_say_nothing() {
        let call = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]);
        let got = one(json!({"role": "assistant", "content": null, "tool_calls": call})).unwrap();
        assert_eq!(got["content"], "");
        assert!(one(json!({"role": "user", "content": null})).is_err());
        assert!(one(json!({"role": "tool"})).is_err());
    }

    #[test]
    fn faults_are_named_by_path() {
        for (message, path) in [
            (json!("hello"), "messages[0]"),
            (json!({"content": "x"}), "messages[0].role"),
            (json!({"role": "user", "content": 3}), "messages[0].content"),
            (
                json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}),
                "messages[0].content[0]",
            ),
            (json!({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
            (json!({"role": "user", "content": [{"type": "file"}]}), "messages[0].content[0].file.file_data"),
            (
                json!({"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}),
                "messages[0].content[0].file.file_id",
            ),
            (json!({"role": "assistant", "tool_calls": {}}), "messages[0].tool_calls"),
            (json!({"role": "assistant", "tool_calls": [{}]}), "messages[0].tool_calls[0].function.name"),
        ] {
            assert_eq!(one(message).unwrap_err().param.as_deref(), Some(path));
        }
    }

    #[test]
    fn counts_and_sizes_are_bounded() {
        let limits = Limits { max_messages: 2, max_prompt_chars: 5, ..Limits::default() };
        let hello = json!({"role": "user", "content": "abc"});
        assert!(normalize(vec![], &limits).is_err());
        assert!(normalize(vec![hello.clone(); 3], &limits).unwrap_err().message.contains("at most 2"));
        assert!(normalize(vec![hello; 2], &limits).unwrap_err().message.contains("6 characters"));
    }

    #[test]
    fn calls_and_reasoning_count_as_text() {
        let limits = Limits { max_prompt_chars: 6, ..Limits::default() };
        let calls =
            |arguments: Value| json!({"tool_calls": [{"function": {"name": "f", "arguments": arguments}}]});
        for (mut message, refused) in [
            (calls(json!("{ééé}")), false),
            (calls(json!("{éééé}")), true),
            (calls(json!({"key": ["a", "b"]})), false),
            (calls(json!({"key": ["a", {"b": "c"}]})), true),
            (json!({"reasoning_content": "sixsix"}), false),
            // Two names for one text, as this server's own answers have them.
            (json!({"reasoning_content": "sixsix", "reasoning": "sixsix"}), false),
            (json!({"reasoning_content": "x", "reasoning": "sevense"}), true),
            (json!({"thinking": "six", "content": "four"}), true),
        ] {
            message["role"] = "assistant".into();
            assert_eq!(normalize(vec![message.clone()], &limits).is_err(), refused, "{message}");
        }
    }
}
