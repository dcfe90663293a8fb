//! Rules of chat completions that concern no sampling.

use serde_json::{Map, Value};

use super::{
    TemplateBody, normalize,
    tools::{offered, strict_names},
    types::ChatBody,
};
use crate::{ApiError, ChatInput, Limits};

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
    let (tools, tool_choice) = offered(body.tools, body.tool_choice.as_ref(), limits)?;
    let strict_tools = strict_names(&tools)?;
    Ok(ChatInput {
        messages: normalize(messages, limits)?,
        tools,
        strict_tools,
        tool_choice,
        parallel_tool_calls: body.parallel_tool_calls.unwrap_or(true),
        server_tools: None,
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
