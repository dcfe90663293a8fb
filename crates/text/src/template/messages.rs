//! What happens to messages before a template sees them.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::bad;
use crate::TextError;

/// Names that templates and clients use for the reasoning before an answer; the first one is the standard.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Gives a message's reasoning the names that templates look for, whichever one the client used.
pub(super) fn alias_reasoning(message: &Value) -> Value {
    let Value::Object(fields) = message else { return message.clone() };
    let Some(reasoning) =
        REASONING.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()))
    else {
        return message.clone();
    };
    let mut aliased = Map::from_iter([("thinking".to_owned(), reasoning.clone())]);
    aliased.extend(fields.clone());
    aliased.insert(REASONING[0].to_owned(), reasoning.clone());
    Value::Object(aliased)
}

/// Gives a message's reasoning the one name that [`alias_reasoning`] leaves out, as few templates look for it.
pub(super) fn name_reasoning(message: &mut Value) {
    let Some(fields) = message.as_object_mut() else { return };
    let given = REASONING.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    if let Some(reasoning) = given.cloned() {
        fields.insert("reasoning".to_owned(), reasoning);
    }
}

/// Makes empty content beside calls null.
pub(super) fn empty_to_null(message: &mut Value) {
    let Some(fields) = message.as_object_mut() else { return };
    let calls = fields.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty());
    if calls && fields.get("content").and_then(Value::as_str).is_some_and(str::is_empty) {
        fields.insert("content".to_owned(), Value::Null);
    }
}

/// Says in each result of a call which function it comes from, if the client doesn't: it names the call by its id,
/// some templates show the function.
pub(super) fn name_results(messages: &mut [Value]) {
    let mut names: HashMap<String, String> = HashMap::new();
    for message in messages {
        for call in message.get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
            let (id, name) = (call.get("id"), call.pointer("/function/name"));
            if let (Some(id), Some(name)) = (id.and_then(Value::as_str), name.and_then(Value::as_str)) {
                names.insert(id.to_owned(), name.to_owned());
            }
        }
        let Some(fields) =
            message.as_object_mut().filter(|fields| fields.get("role") == Some(&"tool".into()))
        else {
            continue;
        };
        let id = fields.get("tool_call_id").and_then(Value::as_str);
        if let Some(name) = id.and_then(|id| names.get(id))
            && fields.get("name").is_none_or(Value::is_null)
        {
            fields.insert("name".to_owned(), name.clone().into());
        }
    }
}

/// Brings the arguments of tool calls into one form: the object that a JSON string holds (what isn't an object stays a
/// string), or JSON text.
pub(super) fn shape_arguments(message: &mut Value, as_text: bool) {
    let Some(calls) = message.get_mut("tool_calls").and_then(Value::as_array_mut) else { return };
    for call in calls {
        let Some(arguments) = call.get_mut("function").and_then(|function| function.get_mut("arguments"))
        else {
            continue;
        };
        if as_text {
            if !arguments.is_string() {
                *arguments = arguments.to_string().into();
            }
            continue;
        }
        // A call without arguments is an empty text to some clients.
        let parsed = arguments
            .as_str()
            .map(|text| if text.trim().is_empty() { "{}" } else { text })
            .and_then(|json| serde_json::from_str::<Map<String, Value>>(json).ok());
        if let Some(object) = parsed {
            *arguments = Value::Object(object);
        }
    }
}

/// Replaces content that is a list of text parts by the text, joined by newlines.
pub(super) fn flatten_text_parts(message: &mut Value) {
    let Some(content) = message.get_mut("content") else { return };
    let Some(parts) = content.as_array() else { return };
    let texts: Option<Vec<&str>> = parts.iter().map(part_text).collect();
    if let Some(texts) = texts {
        *content = Value::String(texts.join("\n"));
    }
}

fn part_text(part: &Value) -> Option<&str> {
    part.as_str().or_else(|| part.get("text")?.as_str())
}

/// Put at the end of the final message, to find that place again in the rendered text. Some templates trim
/// messages; the space at its end tells whether this one did.
const MARK: &str = "MILLRACE_CONTINUES_HERE ";

/// Marks the end of the final message's text; returns that text.
pub(super) fn mark_end(messages: &mut [Value]) -> Result<String, TextError> {
    let text = messages.last_mut().and_then(|message| final_text(message.get_mut("content")?));
    let Some(Value::String(text)) = text else {
        return Err(bad("continue_final_message is set, but the final message has no text to continue"));
    };
    let original = text.clone();
    text.push_str(MARK);
    Ok(original)
}

/// The content itself or the text of its last text part.
fn final_text(content: &mut Value) -> Option<&mut Value> {
    if content.is_string() {
        return Some(content);
    }
    content.as_array_mut()?.iter_mut().rev().find_map(|part| part.get_mut("text"))
}

/// Cuts the prompt where the final message's text ends, trailing spaces gone if the template trimmed the message.
pub(super) fn cut_at_mark(mut prompt: String, text: &str) -> Result<String, TextError> {
    let place = prompt.rfind(MARK.trim_end()).filter(|_| prompt.contains(text.trim()));
    let Some(place) = place else {
        return Err(bad(
            "continue_final_message is set, but the chat template does not show the final message's text as it is",
        ));
    };
    let trimmed = !prompt[place..].starts_with(MARK);
    prompt.truncate(place);
    if trimmed {
        prompt.truncate(prompt.trim_end().len());
    }
    Ok(prompt)
}
