//! `tools` and `tool_choice`.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::fields::{Fields, invalid};
use crate::{ApiError, Limits, ToolChoice, error::shorten, openai::chat::check_schema};

/// Longest name of a tool.
const MAX_NAME: usize = 128;

/// Reads the tools, each with its place in the request, into OpenAI's shape, which templates know, and the names of the strict ones.
///
/// # Errors
/// A 400 with the path of the tool at fault.
pub(super) fn read_tools(
    tools: &[(usize, &Value)],
    limits: &Limits,
) -> Result<(Vec<Value>, Vec<String>), ApiError> {
    if tools.len() > limits.max_tools {
        let message = format!("At most {} tools are allowed, got {}.", limits.max_tools, tools.len());
        return Err(invalid("tools", &message));
    }
    let mut names = HashSet::new();
    let mut read = Vec::with_capacity(tools.len());
    let mut strict = Vec::new();
    for (index, tool) in tools {
        let mut fields = Fields::new(format!("tools.{index}"), tool)?;
        let name = read_name(&mut fields)?;
        if !names.insert(name) {
            return Err(invalid(&fields.at("name"), "Tool names must be unique."));
        }
        if fields.bool("strict")?.unwrap_or(false) {
            strict.push(name.to_owned());
        }
        read.push(read_tool(fields, name, limits)?);
    }
    Ok((read, strict))
}

fn read_name<'a>(fields: &mut Fields<'a>) -> Result<&'a str, ApiError> {
    match fields.str("type")? {
        None | Some("custom") => {}
        Some(other) => {
            let message = format!(
                "Tools of the type '{}' are Anthropic's own and don't exist here. Define a custom tool with a \
                 name, a description and an input_schema.",
                shorten(other, 60)
            );
            return Err(invalid(fields.path(), &message));
        }
    }
    let name = fields.need_str("name")?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(plain) {
        let message = format!("A tool's name has 1 to {MAX_NAME} of the characters a-z, A-Z, 0-9, _ and -.");
        return Err(invalid(&fields.at("name"), &message));
    }
    Ok(name)
}

fn read_tool(mut fields: Fields<'_>, name: &str, limits: &Limits) -> Result<Value, ApiError> {
    let mut function = Map::new();
    function.insert("name".into(), name.into());
    if let Some(description) = fields.str("description")? {
        function.insert("description".into(), description.into());
    }
    fields.need("input_schema")?;
    let schema = fields.object("input_schema")?.cloned().unwrap_or_default();
    if schema.get("type").is_none_or(|kind| kind != "object") {
        return Err(invalid(&fields.at("input_schema.type"), "Input should be 'object'."));
    }
    let schema = Value::Object(schema);
    check_schema(&fields.at("input_schema"), &schema, limits)?;
    function.insert("parameters".into(), schema);
    if let Some(examples) = fields.list("input_examples")?.filter(|list| !list.is_empty()) {
        function.insert("input_examples".into(), examples.to_vec().into());
    }
    fields
        .refuse("defer_loading", "There is no tool search here, so a deferred tool could never be used.")?;
    if fields.list("allowed_callers")?.is_some_and(|callers| !callers.iter().any(|caller| caller == "direct"))
    {
        return Err(invalid(&fields.at("allowed_callers"), "Only 'direct' calls exist here."));
    }
    // Inputs are always streamed as they come.
    fields.accept(&["cache_control", "eager_input_streaming"]);
    fields.done()?;
    Ok(json!({"type": "function", "function": function}))
}

/// Reads `tool_choice` into the neutral choice, and whether calls may be parallel. Whether calls can be forced in
/// the model's format is for the pipeline to say.
///
/// # Errors
/// A 400 for a choice that names no tool.
pub(super) fn read_choice(
    choice: Option<&Value>,
    tools: &[Value],
    has_servers: bool,
) -> Result<(ToolChoice, bool), ApiError> {
    let Some(choice) = choice else { return Ok((ToolChoice::Auto, true)) };
    let mut fields = Fields::new("tool_choice".into(), choice)?;
    fields.need("type")?;
    let kind = fields.one_of("type", &["auto", "any", "tool", "none"])?.unwrap_or_default();
    let parallel = !fields.bool("disable_parallel_tool_use")?.unwrap_or(false);
    let name = if kind == "tool" { Some(fields.need_str("name")?) } else { None };
    fields.done()?;
    if kind != "none" && tools.is_empty() && !has_servers {
        return Err(invalid("tool_choice", "A choice among tools needs `tools`."));
    }
    if let Some(name) = name.filter(|name| !tools.iter().any(|tool| tool["function"]["name"] == **name)) {
        let message = format!("There is no tool '{}' in `tools`.", shorten(name, 60));
        return Err(invalid("tool_choice.name", &message));
    }
    let choice = match kind {
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        _ => name.map_or(ToolChoice::Auto, |name| ToolChoice::Named(name.to_owned())),
    };
    Ok((choice, parallel))
}
