//! Rules of chat completions that concern no sampling.

use serde_json::{Map, Value};

use super::{TemplateBody, normalize, types::ChatBody};
use crate::{ApiError, ChatInput, Limits, ToolChoice, error::shorten};

/// Template variables that have their own request fields; a second way in would contradict the first.
const RESERVED_KWARGS: [&str; 7] = [
    "messages",
    "tools",
    "documents",
    "chat_template",
    "tokenize",
    "add_generation_prompt",
    "continue_final_message",
];

impl ChatBody {
    /// Rules between the fields of this body.
    pub(super) fn validate(&self) -> Result<(), ApiError> {
        let Some(top) = self.top_logprobs else { return Ok(()) };
        if top.0 < -1 {
            return Err(ApiError::invalid("top_logprobs", "`top_logprobs` must be a positive value or -1."));
        }
        if top.0 != 0 && self.logprobs != Some(true) {
            let message = "when using `top_logprobs`, `logprobs` must be set to true.";
            return Err(ApiError::invalid("top_logprobs", message));
        }
        Ok(())
    }

    /// Alternatives per token, if logprobs are wanted at all.
    pub(super) fn logprobs(&self) -> Option<i64> {
        (self.logprobs == Some(true)).then(|| self.top_logprobs.map_or(0, |top| top.0))
    }
}

/// Checks the conversation and gathers what the template sees.
///
/// # Errors
/// A 400 that names the field.
pub(crate) fn chat_input(body: TemplateBody, limits: &Limits) -> Result<ChatInput, ApiError> {
    let messages = body
        .messages
        .ok_or_else(|| ApiError::invalid("messages", "`messages` is required: a list of message objects."))?;
    let continue_final_message = body.continue_final_message.unwrap_or(false);
    if continue_final_message && body.add_generation_prompt == Some(true) {
        let message = "Cannot set both `continue_final_message` and `add_generation_prompt` to True.";
        return Err(ApiError::invalid("continue_final_message", message));
    }
    let mut kwargs = body.chat_template_kwargs.unwrap_or_default();
    check_kwargs(&kwargs)?;
    add_thinking(&mut kwargs, body.enable_thinking, body.reasoning_effort);
    Ok(ChatInput {
        messages: normalize(messages, limits)?,
        tools: usable_tools(body.tools, body.tool_choice.as_ref(), limits)?,
        tool_choice: ToolChoice::Auto,
        parallel_tool_calls: body.parallel_tool_calls.unwrap_or(true),
        documents: body.documents.unwrap_or_default(),
        add_generation_prompt: body.add_generation_prompt.unwrap_or(!continue_final_message),
        continue_final_message,
        template_kwargs: kwargs,
        add_special_tokens: body.add_special_tokens.unwrap_or(false),
        echo: false,
    })
}

fn check_kwargs(kwargs: &Map<String, Value>) -> Result<(), ApiError> {
    match RESERVED_KWARGS.iter().find(|name| kwargs.contains_key(**name)) {
        Some(name) => {
            let message = format!("chat_template_kwargs may not set `{name}`: it is a field of the request.");
            Err(ApiError::invalid("chat_template_kwargs", message))
        }
        None => Ok(()),
    }
}

/// The two ways to ask for thinking become template variables; what `chat_template_kwargs` says goes first.
fn add_thinking(kwargs: &mut Map<String, Value>, enable: Option<bool>, effort: Option<String>) {
    // Templates that know only a switch still understand "no effort".
    let enable = enable.or((effort.as_deref() == Some("none")).then_some(false));
    if let Some(enable) = enable {
        kwargs.entry("enable_thinking").or_insert(Value::Bool(enable));
    }
    if let Some(effort) = effort {
        kwargs.entry("reasoning_effort").or_insert(Value::String(effort));
    }
}

/// The tools that the template is to show: none if the model must not call any.
fn usable_tools(
    tools: Option<Vec<Value>>,
    choice: Option<&Value>,
    limits: &Limits,
) -> Result<Vec<Value>, ApiError> {
    let choice = choice.filter(|choice| !choice.is_null());
    let Some(tools) = tools else {
        return match choice {
            Some(choice) if choice != "none" => {
                Err(ApiError::invalid("tool_choice", "When using `tool_choice`, `tools` must be set."))
            }
            _ => Ok(Vec::new()),
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
        check_tool(index, tool)?;
    }
    Ok(if may_call(choice, &tools)? { tools } else { Vec::new() })
}

fn check_tool(index: usize, tool: &Value) -> Result<(), ApiError> {
    let at = |path: &str, message: String| Err(ApiError::invalid(format!("tools[{index}]{path}"), message));
    if tool.get("type").and_then(Value::as_str) != Some("function") {
        return at(".type", format!("`tools[{index}].type` must be \"function\"."));
    }
    let function = tool.get("function");
    if function.and_then(|f| f.get("name")).and_then(Value::as_str).is_none_or(str::is_empty) {
        return at(".function.name", format!("`tools[{index}].function.name` must be a non-empty string."));
    }
    match function.and_then(|f| f.get("parameters")) {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(_) => {
            let message = format!("`tools[{index}].function.parameters` must be a JSON schema object.");
            at(".function.parameters", message)
        }
    }
}

/// `auto` and `none` are honoured; what would need constrained output is refused.
fn may_call(choice: Option<&Value>, tools: &[Value]) -> Result<bool, ApiError> {
    let refuse = |message: String| Err(ApiError::invalid("tool_choice", message));
    match choice {
        None => Ok(true),
        Some(Value::String(kind)) if kind == "auto" => Ok(true),
        Some(Value::String(kind)) if kind == "none" => Ok(false),
        Some(Value::String(kind)) if kind == "required" => refuse(
            "`tool_choice` \"required\" is not supported by this server. Use \"auto\" or \"none\".".into(),
        ),
        Some(choice @ Value::Object(_)) => {
            let name = choice.pointer("/function/name");
            if !tools.iter().any(|tool| name.is_some() && tool.pointer("/function/name") == name) {
                return refuse(
                    "The tool specified in `tool_choice` does not match any of the specified `tools`".into(),
                );
            }
            refuse("A named `tool_choice` is not supported by this server. Use \"auto\" or \"none\".".into())
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
