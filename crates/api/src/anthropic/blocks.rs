//! Content blocks of requests.

use serde_json::Value;

use super::{
    fields::{Fields, invalid},
    types::{Block, Role},
};
use crate::{
    ApiError, Limits,
    documents::{self, PDF},
    error::shorten,
};

const NO_IMAGES: &str = "This model takes no images. Send text.";
const NO_CITATIONS: &str = "This server makes no citations. Leave it out.";

/// Reads the content of a message: a string or a list of blocks.
///
/// # Errors
/// A 400 with the path of the block at fault.
pub(super) fn read_content(
    path: &str,
    content: &Value,
    role: Role,
    limits: &Limits,
) -> Result<Vec<Block>, ApiError> {
    match content {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Block::Text(text.clone())]),
        Value::Array(blocks) => {
            let read = |(index, block)| read_block(format!("{path}.{index}"), block, role, limits);
            blocks.iter().enumerate().map(read).collect()
        }
        _ => Err(invalid(path, "Input should be a string or a list of content blocks.")),
    }
}

/// Reads a string or a list of text blocks, such as `system`. An empty string is no text.
///
/// # Errors
/// As in [`read_content`].
pub(super) fn read_texts(path: &str, content: &Value) -> Result<Vec<String>, ApiError> {
    match content {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(blocks) => {
            let read = |(index, block)| {
                let mut fields = Fields::new(format!("{path}.{index}"), block)?;
                fields.need("type")?;
                fields.one_of("type", &["text"])?;
                read_text(fields)
            };
            blocks.iter().enumerate().map(read).collect()
        }
        _ => Err(invalid(path, "Input should be a string or a list of text blocks.")),
    }
}

fn read_block(path: String, block: &Value, role: Role, limits: &Limits) -> Result<Block, ApiError> {
    let mut fields = Fields::new(path, block)?;
    let kind = fields.need_str("type")?;
    let misplaced = match kind {
        "text" => false,
        "tool_use" | "thinking" | "redacted_thinking" | "mcp_tool_use" | "mcp_tool_result" => {
            role != Role::Assistant
        }
        "tool_result" | "document" | "search_result" | "image" => role != Role::User,
        _ => false,
    };
    if misplaced {
        let message = format!("`{kind}` blocks can't stand in messages of this role.");
        return Err(invalid(fields.path(), &message));
    }
    match kind {
        "text" => Ok(Block::Text(read_text(fields)?)),
        "thinking" => {
            let thinking = fields.need_str("thinking")?.to_owned();
            // Not checked: whoever holds the conversation may say what was thought.
            fields.str("signature")?;
            fields.done()?;
            Ok(Block::Thinking(thinking))
        }
        "redacted_thinking" => {
            fields.need_str("data")?;
            fields.done()?;
            Ok(Block::RedactedThinking)
        }
        "tool_use" => read_tool_use(fields),
        "tool_result" => {
            let (id, text) = read_tool_result(fields, limits)?;
            Ok(Block::ToolResult { id, text })
        }
        "mcp_tool_use" => read_mcp_tool_use(fields),
        "mcp_tool_result" => {
            let (id, text) = read_tool_result(fields, limits)?;
            Ok(Block::ServerToolResult { id, text })
        }
        _ => Ok(Block::Text(read_readable(fields, kind, limits)?)),
    }
}

fn read_tool_use(mut fields: Fields<'_>) -> Result<Block, ApiError> {
    let id = named(&mut fields, "id")?;
    let name = named(&mut fields, "name")?;
    fields.need("input")?;
    let input = fields.object("input")?.cloned().unwrap_or_default();
    fields.accept(&["cache_control", "caller", "toolset_name"]);
    fields.done()?;
    Ok(Block::ToolUse { id, name, input })
}

fn read_mcp_tool_use(mut fields: Fields<'_>) -> Result<Block, ApiError> {
    let (id, name) = (named(&mut fields, "id")?, named(&mut fields, "name")?);
    let server = named(&mut fields, "server_name")?;
    let input = fields.object("input")?.cloned().unwrap_or_default();
    fields.accept(&["cache_control"]);
    fields.done()?;
    Ok(Block::ServerToolUse { id, server, name, input })
}

/// The call's id and its result. Templates have no word for a failed call, so the text says it.
fn read_tool_result(mut fields: Fields<'_>, limits: &Limits) -> Result<(String, String), ApiError> {
    let id = named(&mut fields, "tool_use_id")?;
    let failed = fields.bool("is_error")?.unwrap_or(false);
    let path = fields.at("content");
    let text = match fields.get("content") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            let read = |(index, block)| {
                let mut fields = Fields::new(format!("{path}.{index}"), block)?;
                let kind = fields.need_str("type")?;
                read_readable(fields, kind, limits)
            };
            let texts = blocks.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
            texts.join("\n")
        }
        Some(_) => return Err(invalid(&path, "Input should be a string or a list of content blocks.")),
    };
    fields.accept(&["cache_control", "toolset_name"]);
    fields.done()?;
    Ok((id, if failed { format!("Error: {text}") } else { text }))
}

/// A block that a text model can read.
fn read_readable(fields: Fields<'_>, kind: &str, limits: &Limits) -> Result<String, ApiError> {
    match kind {
        "text" => read_text(fields),
        "document" => read_document(fields, limits),
        "search_result" => read_search_result(fields),
        "image" => Err(invalid(fields.path(), NO_IMAGES)),
        _ => {
            let kind = shorten(kind, 60);
            let message = format!(
                "Blocks of type '{kind}' are not supported here. Known are text, thinking, redacted_thinking, \
                 tool_use, tool_result, mcp_tool_use, mcp_tool_result, document and search_result, each in its place."
            );
            Err(invalid(fields.path(), &message))
        }
    }
}

fn read_text(mut fields: Fields<'_>) -> Result<String, ApiError> {
    let text = fields.need_str("text")?;
    if text.is_empty() {
        return Err(invalid(&fields.at("text"), "A text block must not be empty. Leave the block out."));
    }
    // `citations` are those of an earlier answer, sent back with it.
    fields.accept(&["cache_control", "citations"]);
    fields.done()?;
    Ok(text.to_owned())
}

fn read_document(mut fields: Fields<'_>, limits: &Limits) -> Result<String, ApiError> {
    let mut source = Fields::new(fields.at("source"), fields.need("source")?)?;
    let text = match source.need_str("type")? {
        "text" => {
            source.one_of("media_type", &["text/plain"])?;
            source.need_str("data")?.to_owned()
        }
        "content" => {
            let path = source.at("content");
            read_texts(&path, source.need("content")?)?.join("\n")
        }
        "base64" => {
            source.one_of("media_type", &[PDF])?;
            let data = source.need_str("data")?;
            documents::read_base64(PDF, data, limits)
                .map_err(|reason| invalid(&source.at("data"), &reason))?
        }
        "url" => return Err(invalid(source.path(), documents::NO_URLS)),
        // A file that is there has its content in this place.
        "file" => {
            let message = format!("There is no file '{}'.", shorten(source.need_str("file_id")?, 100));
            return Err(invalid(&source.at("file_id"), &message));
        }
        other => {
            let message = format!(
                "Documents of the source type '{}' are unknown. Known are base64, text, content and file.",
                shorten(other, 60)
            );
            return Err(invalid(source.path(), &message));
        }
    };
    source.done()?;
    refuse_citations(&mut fields)?;
    let (title, context) = (fields.str("title")?, fields.str("context")?);
    fields.accept(&["cache_control"]);
    fields.done()?;
    Ok(documents::framed(title, context, &text))
}

fn read_search_result(mut fields: Fields<'_>) -> Result<String, ApiError> {
    let source = fields.need_str("source")?;
    let title = fields.need_str("title")?;
    let path = fields.at("content");
    let text = read_texts(&path, fields.need("content")?)?.join("\n");
    refuse_citations(&mut fields)?;
    fields.accept(&["cache_control"]);
    fields.done()?;
    Ok(format!("<search_result>\nTitle: {title}\nSource: {source}\n{text}\n</search_result>"))
}

fn refuse_citations(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    let Some(value) = fields.get("citations") else { return Ok(()) };
    Fields::new(fields.at("citations"), value)?.refuse("enabled", NO_CITATIONS)
}

/// A string that must not be empty.
fn named(fields: &mut Fields<'_>, name: &'static str) -> Result<String, ApiError> {
    match fields.need_str(name)? {
        "" => Err(invalid(&fields.at(name), "The string must not be empty.")),
        text => Ok(text.to_owned()),
    }
}
