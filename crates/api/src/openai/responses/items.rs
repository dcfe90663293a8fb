//! Items of a request's input.

use serde_json::Value;

use super::{
    ids::ResponseId,
    mcp, reasoning,
    types::{
        CallOutput, FunctionCall, InputText, Item, ItemStatus, Message, OutputText, Part, Reasoning, Role,
    },
};
use crate::{
    ApiError, Limits, documents,
    error::shorten,
    fields::{Fields, invalid},
};

/// Most parts of one item.
const MAX_PARTS: usize = 4096;

/// Longest id of an item or a call, in characters.
const MAX_ID: usize = 256;

const KNOWN: &str = "Known are message, function_call, function_call_output, reasoning, item_reference, mcp_list_tools, \
                     mcp_call, mcp_approval_request and mcp_approval_response.";

/// One entry of `input`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Item(Item),
    /// The id of an item of an earlier answer.
    Reference(String),
}

/// Reads `input`: a text, or a list of items. Items without an id get one.
///
/// # Errors
/// A 400 with the path of the item at fault.
pub(super) fn read_input(input: &Value, limits: &Limits, id: &ResponseId) -> Result<Vec<Input>, ApiError> {
    let list = match input {
        Value::String(text) => {
            let content = vec![Part::InputText { text: text.clone() }];
            let id = id.input("msg", 0);
            let message = Message { id, status: ItemStatus::Completed, role: Role::User, content };
            return Ok(vec![Input::Item(Item::Message(message))]);
        }
        Value::Array(list) => list,
        _ => return Err(invalid("input", "Input should be a string or a list of items.")),
    };
    if list.len() > limits.max_messages {
        let message = format!("At most {} items are allowed, got {}.", limits.max_messages, list.len());
        return Err(invalid("input", &message));
    }
    let read = |(index, item)| {
        let fields = Fields::new(format!("input[{index}]"), item)?;
        read_item(fields, limits, |kind| id.input(kind, index))
    };
    list.iter().enumerate().map(read).collect()
}

fn read_item(
    mut fields: Fields<'_>,
    limits: &Limits,
    fresh: impl Fn(&str) -> String,
) -> Result<Input, ApiError> {
    // Messages may leave their type out, and so may references.
    let kind = match fields.str("type")? {
        Some(kind) => kind,
        None if fields.get("role").is_some() => "message",
        None if fields.get("id").is_some() => "item_reference",
        None => return Err(invalid(&fields.at("type"), "Field required.")),
    };
    if kind == "item_reference" {
        fields.need("id")?;
        let id = short(&mut fields, "id")?.unwrap_or_default();
        fields.done()?;
        return Ok(Input::Reference(id));
    }
    let prefix = match kind {
        "message" => "msg",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "reasoning" => "rs",
        "mcp_list_tools" => "mcpl",
        "mcp_call" => "mcp",
        "mcp_approval_request" => "mcpr",
        "mcp_approval_response" => "mcpa",
        _ => {
            let message =
                format!("Items of type '{}' are not supported by this server. {KNOWN}", shorten(kind, 60));
            return Err(invalid(fields.path(), &message));
        }
    };
    let id = short(&mut fields, "id")?.unwrap_or_else(|| fresh(prefix));
    fields.accept(&["created_by"]);
    let item = match prefix {
        "msg" => Item::Message(read_message(&mut fields, id, limits)?),
        "fc" => Item::FunctionCall(read_call(&mut fields, id)?),
        "fco" => Item::FunctionCallOutput(read_output(&mut fields, id, limits)?),
        "mcpl" => Item::McpListTools(mcp::read_list(&mut fields, id)?),
        "mcp" => Item::McpCall(mcp::read_call(&mut fields, id)?),
        "mcpr" => Item::McpApprovalRequest(mcp::read_request(&mut fields, id)?),
        "mcpa" => Item::McpApprovalResponse(mcp::read_response(&mut fields, id)?),
        _ => Item::Reasoning(read_reasoning(&mut fields, id)?),
    };
    fields.done()?;
    Ok(Input::Item(item))
}

fn read_message(fields: &mut Fields<'_>, id: String, limits: &Limits) -> Result<Message, ApiError> {
    fields.need("role")?;
    let role = match fields.one_of("role", &["user", "assistant", "system", "developer"])? {
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        _ => Role::User,
    };
    let content = match fields.need("content")? {
        Value::String(text) => vec![said(role, text.clone())],
        Value::Array(parts) => {
            let read = |fields: &mut Fields<'_>, kind: &str| read_content(fields, kind, role, limits);
            read_parts(&fields.at("content"), parts, read)?
        }
        _ => {
            let reason = "Input should be a string or a list of content parts.";
            return Err(invalid(&fields.at("content"), reason));
        }
    };
    // Which of an answer's messages were remarks on the way; no template tells them apart.
    fields.accept(&["phase"]);
    Ok(Message { id, status: read_status(fields)?, role, content })
}

/// A text by the name that its role has for it.
fn said(role: Role, text: String) -> Part {
    match role {
        Role::Assistant => Part::output_text(text),
        _ => Part::InputText { text },
    }
}

fn read_content(fields: &mut Fields<'_>, kind: &str, role: Role, limits: &Limits) -> Result<Part, ApiError> {
    match kind {
        "input_text" | "output_text" => {
            let text = fields.need_str("text")?.to_owned();
            // What an earlier answer carried beside its text.
            fields.accept(&["annotations", "logprobs", "parsed", "prompt_cache_breakpoint"]);
            Ok(said(role, text))
        }
        "refusal" if role == Role::Assistant => {
            Ok(Part::Refusal { refusal: fields.need_str("refusal")?.to_owned() })
        }
        "input_file" => Ok(said(role, read_file(fields, limits)?)),
        _ => Err(unreadable(fields, kind, "input_text, output_text, refusal and input_file")),
    }
}

/// A file's text, as a document with its name.
fn read_file(fields: &mut Fields<'_>, limits: &Limits) -> Result<String, ApiError> {
    fields.refuse("file_url", documents::NO_URLS)?;
    let name = fields.str("filename")?;
    // How closely to look at pictures of pages.
    fields.accept(&["detail", "prompt_cache_breakpoint"]);
    // A file that is there has its content in this place.
    if let Some(id) = fields.str("file_id")? {
        let message = format!("There is no file '{}'.", shorten(id, 100));
        return Err(invalid(&fields.at("file_id"), &message));
    }
    let data = fields.need_str("file_data")?;
    let text =
        documents::read_file(data, limits).map_err(|reason| invalid(&fields.at("file_data"), &reason))?;
    Ok(documents::framed(name, None, &text))
}

fn unreadable(fields: &Fields<'_>, kind: &str, known: &str) -> ApiError {
    let message =
        format!("Parts of type '{}' can't be read by this model. Send text: {known}.", shorten(kind, 60));
    invalid(fields.path(), &message)
}

/// Reads parts that have a `type`.
fn read_parts<'a, T>(
    path: &str,
    parts: &'a [Value],
    read: impl Fn(&mut Fields<'a>, &'a str) -> Result<T, ApiError>,
) -> Result<Vec<T>, ApiError> {
    if parts.len() > MAX_PARTS {
        let message = format!("At most {MAX_PARTS} parts are allowed, got {}.", parts.len());
        return Err(invalid(path, &message));
    }
    let one = |(index, part)| {
        let mut fields = Fields::new(format!("{path}[{index}]"), part)?;
        let kind = fields.need_str("type")?;
        let part = read(&mut fields, kind)?;
        fields.done()?;
        Ok(part)
    };
    parts.iter().enumerate().map(one).collect()
}

fn read_call(fields: &mut Fields<'_>, id: String) -> Result<FunctionCall, ApiError> {
    let call = FunctionCall {
        id,
        status: read_status(fields)?,
        call_id: needed(fields, "call_id")?,
        namespace: short(fields, "namespace")?,
        name: needed(fields, "name")?,
        arguments: fields.need_str("arguments")?.to_owned(),
    };
    // `async_` is what the official package calls the latter in dumps.
    fields.accept(&["parsed_arguments", "caller", "async", "async_"]);
    Ok(call)
}

fn read_output(fields: &mut Fields<'_>, id: String, limits: &Limits) -> Result<CallOutput, ApiError> {
    let call_id = needed(fields, "call_id")?;
    let output = match fields.need("output")? {
        Value::String(text) => OutputText::Text(text.clone()),
        Value::Array(parts) => {
            OutputText::Parts(read_parts(&fields.at("output"), parts, |fields, kind| match kind {
                "input_text" | "output_text" => {
                    let text = fields.need_str("text")?.to_owned();
                    fields.accept(&["annotations", "logprobs", "prompt_cache_breakpoint"]);
                    Ok(InputText::InputText { text })
                }
                "input_file" => Ok(InputText::InputText { text: read_file(fields, limits)? }),
                _ => Err(unreadable(fields, kind, "input_text and input_file")),
            })?)
        }
        _ => return Err(invalid(&fields.at("output"), "Input should be a string or a list of text parts.")),
    };
    fields.accept(&["name", "namespace", "caller"]);
    Ok(CallOutput { id, status: read_status(fields)?, call_id, output })
}

fn read_reasoning(fields: &mut Fields<'_>, id: String) -> Result<Reasoning, ApiError> {
    let read = |name: &'static str, kind: &'static str, fields: &mut Fields<'_>| {
        let path = fields.at(name);
        read_parts(&path, fields.list(name)?.unwrap_or_default(), |fields, found| {
            if found != kind {
                let message = format!("Input should be '{kind}', got '{}'.", shorten(found, 60));
                return Err(invalid(&fields.at("type"), &message));
            }
            Ok(fields.need_str("text")?.to_owned())
        })
    };
    let summary = read("summary", "summary_text", fields)?;
    let mut content = read("content", "reasoning_text", fields)?;
    let sealed = fields.str("encrypted_content")?;
    if content.is_empty() {
        content.extend(sealed.and_then(reasoning::unseal));
    }
    Ok(Reasoning {
        id,
        status: read_status(fields)?,
        summary: summary.into_iter().map(|text| Part::SummaryText { text }).collect(),
        content: content.into_iter().map(|text| Part::ReasoningText { text }).collect(),
        encrypted_content: sealed.map(str::to_owned),
    })
}

fn read_status(fields: &mut Fields<'_>) -> Result<ItemStatus, ApiError> {
    Ok(match fields.one_of("status", &["in_progress", "completed", "incomplete"])? {
        Some("in_progress") => ItemStatus::InProgress,
        Some("incomplete") => ItemStatus::Incomplete,
        _ => ItemStatus::Completed,
    })
}

/// A string that must be there, not empty and not endless.
pub(super) fn needed(fields: &mut Fields<'_>, name: &'static str) -> Result<String, ApiError> {
    fields.need(name)?;
    Ok(short(fields, name)?.unwrap_or_default())
}

/// A string that must not be empty or endless if it is there.
pub(super) fn short(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<String>, ApiError> {
    match fields.str(name)? {
        Some("") => Err(invalid(&fields.at(name), "The string must not be empty.")),
        Some(text) if text.chars().nth(MAX_ID).is_some() => {
            Err(invalid(&fields.at(name), &format!("The string may hold at most {MAX_ID} characters.")))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: &Value) -> Result<Vec<Input>, ApiError> {
        read_input(input, &Limits { max_messages: 3, ..Limits::default() }, &ResponseId::new("a".repeat(32)))
    }

    fn one(item: &Value) -> Result<Value, String> {
        match read(&json!([item])).map(|mut list| list.remove(0)) {
            Ok(Input::Item(item)) => Ok(serde_json::to_value(item).unwrap()),
            Ok(Input::Reference(id)) => Ok(json!({"reference": id})),
            Err(error) => Err(error.param.unwrap_or_default()),
        }
    }

    #[test]
    fn short_forms_become_whole_items() {
        let id = format!("msg_{}i0", "a".repeat(32));
        let message = |role: &str, part: Value| json!({"type": "message", "id": id, "status": "completed", "role": role, "content": [part]});
        let text = json!({"type": "input_text", "text": "hi"});
        let output = json!({"type": "output_text", "text": "hi", "annotations": [], "logprobs": []});
        assert_eq!(one(&json!({"role": "user", "content": "hi"})), Ok(message("user", text.clone())));
        assert_eq!(one(&json!({"role": "developer", "content": [text]})), Ok(message("developer", text)));
        assert_eq!(one(&json!({"role": "assistant", "content": "hi"})), Ok(message("assistant", output)));
        assert_eq!(one(&json!({"id": "msg_1"})), Ok(json!({"reference": "msg_1"})));
        assert_eq!(read(&json!("hi")).unwrap(), read(&json!([{"role": "user", "content": "hi"}])).unwrap());
    }

    #[test]
    fn files_become_their_text() {
        let file =
            json!({"type": "input_file", "filename": "a.txt", "file_data": "aGVsbG8=", "detail": "low"});
        let text = json!([{"type": "input_text", "text": "<document>\nTitle: a.txt\nhello\n</document>"}]);
        assert_eq!(one(&json!({"role": "user", "content": [file]})).unwrap()["content"], text);
        let output = json!({"type": "function_call_output", "call_id": "c", "output": [file]});
        assert_eq!(one(&output).unwrap()["output"], text);
    }

    #[test]
    fn what_is_stored_reads_the_same_again() {
        for item in [
            json!({"type": "message", "id": "m", "status": "incomplete", "role": "assistant", "content": [
                {"type": "output_text", "text": "a", "annotations": [], "logprobs": []},
                {"type": "refusal", "refusal": "no"}]}),
            json!({"type": "function_call", "id": "f", "status": "completed", "call_id": "c", "name": "n",
                   "arguments": "{}"}),
            json!({"type": "function_call", "id": "f", "status": "completed", "call_id": "c", "namespace": "g",
                   "name": "n", "arguments": "{}"}),
            json!({"type": "function_call_output", "id": "o", "status": "completed", "call_id": "c",
                   "output": "text"}),
            json!({"type": "function_call_output", "id": "o", "status": "completed", "call_id": "c",
                   "output": [{"type": "input_text", "text": "text"}]}),
            json!({"type": "reasoning", "id": "r", "status": "completed",
                   "summary": [{"type": "summary_text", "text": "s"}],
                   "content": [{"type": "reasoning_text", "text": "t"}]}),
        ] {
            assert_eq!(one(&item), Ok(item.clone()));
            let stored: Item = serde_json::from_value(item.clone()).unwrap();
            assert_eq!(serde_json::to_value(stored).unwrap(), item);
        }
    }

    #[test]
    fn faults_are_named_by_path() {
        for (item, path) in [
            (json!(3), "input[0]"),
            (json!({}), "input[0].type"),
            (json!({"type": "web_search_call", "id": "x"}), "input[0]"),
            (json!({"type": "message", "content": "x"}), "input[0].role"),
            (json!({"role": "tool", "content": "x"}), "input[0].role"),
            (json!({"role": "user", "content": 3}), "input[0].content"),
            (json!({"role": "user", "content": "x", "extra": 1}), "input[0].extra"),
            (
                json!({"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}),
                "input[0].content[0]",
            ),
            (json!({"role": "user", "content": [{"type": "input_text"}]}), "input[0].content[0].text"),
            (
                json!({"role": "user", "content": [{"type": "input_file", "file_url": "http://x"}]}),
                "input[0].content[0].file_url",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}),
                "input[0].content[0].file_id",
            ),
            (
                json!({"role": "user", "content": [{"type": "input_file", "file_data": "%"}]}),
                "input[0].content[0].file_data",
            ),
            (
                json!({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}),
                "input[0].content[0]",
            ),
            (
                json!({"type": "function_call", "call_id": "", "name": "n", "arguments": ""}),
                "input[0].call_id",
            ),
            (json!({"type": "function_call", "call_id": "c", "name": "n"}), "input[0].arguments"),
            (json!({"type": "function_call_output", "call_id": "c", "output": {}}), "input[0].output"),
            (
                json!({"type": "reasoning", "summary": [{"type": "text", "text": "x"}]}),
                "input[0].summary[0].type",
            ),
            (json!({"type": "item_reference", "id": "x".repeat(300)}), "input[0].id"),
        ] {
            assert_eq!(one(&item), Err(path.to_owned()), "{item}");
        }
        assert!(read(&json!([{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}])).is_err());
        assert!(read(&json!({})).is_err());
    }
}
