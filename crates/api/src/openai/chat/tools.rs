//! Checks the tools that a request offers, and what it wants done with them.

use millrace_grammar::is_deeper;
use serde_json::Value;

use crate::{ApiError, Limits, ToolChoice, error::shorten};

/// Longest name of a function, in characters, as OpenAI has it.
const MAX_NAME: usize = 64;

/// The tools that the template is to show (none if the model must not call any), and the choice.
///
/// # Errors
/// A 400 that names the field.
pub(super) fn offered(
    tools: Option<Vec<Value>>,
    choice: Option<&Value>,
    limits: &Limits,
) -> Result<(Vec<Value>, ToolChoice), ApiError> {
    let choice = choice.filter(|choice| !choice.is_null());
    let Some(tools) = tools else {
        return match choice {
            Some(choice) if choice != "none" => {
                Err(ApiError::invalid("tool_choice", "When using `tool_choice`, `tools` must be set."))
            }
            _ => Ok((Vec::new(), ToolChoice::None)),
        };
    };
    if tools.is_empty() {
        let message = "`tools` must not be an empty array. Either provide at least one tool or omit the field \
                       entirely.";
        return Err(ApiError::invalid("tools", message));
    }
    if tools.len() > limits.max_tools {
        let message = format!("`tools` may hold at most {} tools, got {}.", limits.max_tools, tools.len());
        return Err(ApiError::invalid("tools", message));
    }
    for (index, tool) in tools.iter().enumerate() {
        check_tool(&format!("tools[{index}]"), tool, limits)?;
    }
    let choice = tool_choice(choice, &tools)?;
    let shown = if choice == ToolChoice::None { Vec::new() } else { tools };
    Ok((shown, choice))
}

fn check_tool(path: &str, tool: &Value, limits: &Limits) -> Result<(), ApiError> {
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        let path = format!("{path}.type");
        return Err(ApiError::invalid(&path, format!("`{path}` must be \"function\".")));
    }
    let function = tool.get("function");
    let name = function.and_then(|f| f.get("name")).and_then(Value::as_str);
    check_name(&format!("{path}.function.name"), name.unwrap_or_default())?;
    let schema = function.and_then(|f| f.get("parameters")).unwrap_or(&Value::Null);
    check_schema(&format!("{path}.function.parameters"), schema, limits)
}

/// The tools whose arguments are to be held to their schema.
///
/// # Errors
/// A 400 for a `strict` that is neither true nor false.
pub(crate) fn strict_names(tools: &[Value]) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let function = &tool["function"];
        match &function["strict"] {
            Value::Null | Value::Bool(false) => {}
            Value::Bool(true) => names.extend(function["name"].as_str().map(str::to_owned)),
            _ => {
                let path = format!("tools[{index}].function.strict");
                return Err(ApiError::invalid(&path, format!("`{path}` must be true or false.")));
            }
        }
    }
    Ok(names)
}

/// Checks a function's name.
///
/// # Errors
/// A 400 that names the path.
pub(crate) fn check_name(path: &str, name: &str) -> Result<(), ApiError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(plain) {
        return Ok(());
    }
    let shown = shorten(name, 80);
    let message = format!(
        "`{path}` must be 1 to {MAX_NAME} letters, digits, underscores or dashes (a-z, A-Z, 0-9, _, -), got \
         \"{shown}\"."
    );
    Err(ApiError::invalid(path, message))
}

/// Checks a tool's schema against the limits.
///
/// # Errors
/// A 400 that names the path.
pub(crate) fn check_schema(path: &str, schema: &Value, limits: &Limits) -> Result<(), ApiError> {
    let refuse = |message: String| Err(ApiError::invalid(path, message));
    if !matches!(schema, Value::Null | Value::Object(_)) {
        return refuse(format!("`{path}` must be a JSON schema object."));
    }
    let most = limits.max_tool_schema_depth;
    if is_deeper(schema, most) {
        return refuse(format!("`{path}` is nested too deeply: at most {most} levels are allowed."));
    }
    let (bytes, most) = (schema.to_string().len(), limits.max_tool_schema_bytes);
    if bytes > most {
        return refuse(format!("`{path}` has {bytes} bytes as JSON; at most {most} are allowed."));
    }
    Ok(())
}

/// `tool_choice` in its neutral form; whether calls can be forced in the model's format is for the pipeline to say.
fn tool_choice(choice: Option<&Value>, tools: &[Value]) -> Result<ToolChoice, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid("tool_choice", message));
    match choice {
        None => Ok(ToolChoice::Auto),
        Some(Value::String(kind)) if kind == "auto" => Ok(ToolChoice::Auto),
        Some(Value::String(kind)) if kind == "none" => Ok(ToolChoice::None),
        Some(Value::String(kind)) if kind == "required" => Ok(ToolChoice::Required),
        Some(choice @ Value::Object(_)) => {
            let name = choice.pointer("/function/name").and_then(Value::as_str);
            let offers = |tool: &Value| tool.pointer("/function/name").and_then(Value::as_str) == name;
            match name.filter(|_| tools.iter().any(offers)) {
                Some(name) => Ok(ToolChoice::Named(name.to_owned())),
                None => refuse(
                    "The tool specified in `tool_choice` does not match any of the specified `tools`".into(),
                ),
            }
        }
        Some(other) => {
            let shown = shorten(&other.to_string(), 80);
            refuse(format!(
                "Invalid value for `tool_choice`: {shown}! Only named tools, \"none\", \"auto\" or \"required\" \
                 are supported."
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tool(name: &str, parameters: &Value) -> Value {
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    }

    fn check(tool: Value) -> Result<(), String> {
        let limits =
            Limits { max_tool_schema_bytes: 60, max_tool_schema_depth: 3, max_tools: 1, ..Limits::default() };
        offered(Some(vec![tool]), None, &limits).map(|_| ()).map_err(|error| error.param.unwrap_or_default())
    }

    #[test]
    fn names_are_plain_and_short() {
        for name in ["f", "get_weather-2", &"x".repeat(64)] {
            assert_eq!(check(tool(name, &Value::Null)), Ok(()), "{name}");
        }
        for name in ["", "a b", "größe", "a.b", "a\n", &"x".repeat(65)] {
            assert_eq!(check(tool(name, &Value::Null)), Err("tools[0].function.name".into()), "{name}");
        }
    }

    #[test]
    fn schemas_have_bounds() {
        let wrong = Err("tools[0].function.parameters".into());
        assert_eq!(check(tool("f", &json!({"properties": {"a": {"type": "string"}}}))), Ok(()));
        assert_eq!(check(tool("f", &json!({"a": {"b": {"c": {}}}}))), wrong);
        assert_eq!(check(tool("f", &json!({"a": [[[]]]}))), wrong);
        assert_eq!(check(tool("f", &json!({"description": "x".repeat(60)}))), wrong);
        assert_eq!(check(tool("f", &json!([]))), wrong);
    }

    #[test]
    fn the_choice_is_read() {
        let limits = Limits::default();
        let read = |choice: &Value| {
            offered(Some(vec![tool("f", &Value::Null)]), Some(choice), &limits)
                .map(|(tools, choice)| (tools.len(), choice))
        };
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        assert_eq!(read(&Value::Null).unwrap(), (1, ToolChoice::Auto));
        assert_eq!(read(&json!("none")).unwrap(), (0, ToolChoice::None));
        assert_eq!(read(&json!("required")).unwrap(), (1, ToolChoice::Required));
        assert_eq!(read(&named("f")).unwrap(), (1, ToolChoice::Named("f".into())));
        assert!(read(&named("g")).is_err());
        assert!(read(&json!({})).is_err());
        assert!(read(&json!("maybe")).is_err());
    }
}
