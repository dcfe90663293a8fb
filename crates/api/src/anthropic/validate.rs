//! Reads bodies: types, ranges, and the rules between fields and messages.

use std::collections::{HashMap, HashSet};

use millrace_grammar::{Source, Whitespace};
use serde_json::{Value, json};

use super::{
    blocks::{read_content, read_texts},
    caching::is_marked,
    fields::{Fields, invalid},
    mcp::{read_servers, take_toolsets},
    tools::{read_choice, read_tools},
    types::{Block, Conversation, Message, Options, Request, Role, Thinking},
};
use crate::{
    ApiError, Limits, Structure, ToolChoice, documents, json::object_chars, openai::chat::check_schema,
};

/// Least `thinking.budget_tokens`.
const MIN_BUDGET: i64 = 1024;

/// Most content blocks of a request.
const MAX_BLOCKS: usize = 1 << 16;

/// Accepted without effect: they name the caller, choose a price, or ask for economies that this server makes or
/// doesn't need to make.
const HINTS: &[&str] = &[
    "cache_control",
    "context_management",
    "diagnostics",
    "inference_geo",
    "user_profile_id",
    "workspace_id",
    "billing_policy",
    "fallback_credit_token",
];

/// Fields that ask for what isn't here, and what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("container", "There are no containers on this server. Leave it out."),
    ("compaction", "This server doesn't compact conversations. Shorten the messages."),
    ("fallbacks", "This server falls back to no other model. Leave it out."),
    ("thread", "This server stores no threads. Send all messages."),
];

/// The head of the line in which Claude Code counts its calls, before the system prompt. It differs in every request, so
/// it would keep any prompt from being found in the cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// Reads a body of `/v1/messages`.
///
/// # Errors
/// A 400 that names the field, for the first rule that is broken.
pub(super) fn read_request(body: &Value, limits: &Limits) -> Result<Request, ApiError> {
    documents::check_count(body)?;
    let mut fields = Fields::new(String::new(), body)?;
    fields.need("max_tokens")?;
    let (model, conversation, options) = read_body(&mut fields, limits)?;
    fields.done()?;
    let options = Options { cache_marked: is_marked(body)?, ..options };
    Ok(Request { model, conversation, options })
}

/// Reads a body of `/v1/messages/count_tokens`.
///
/// # Errors
/// As in [`read_request`].
pub(super) fn read_count(body: &Value, limits: &Limits) -> Result<(String, Conversation), ApiError> {
    documents::check_count(body)?;
    let mut fields = Fields::new(String::new(), body)?;
    let (model, conversation, _) = read_body(&mut fields, limits)?;
    fields.done()?;
    is_marked(body)?;
    Ok((model, conversation))
}

/// Names of the fields that a body may have, those included that are refused.
pub(super) fn field_names() -> Vec<&'static str> {
    // Every field is asked for, whatever the body holds, as long as nothing is wrong with it.
    let body = json!({"model": "", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]});
    let Ok(mut fields) = Fields::new(String::new(), &body) else { return Vec::new() };
    match read_body(&mut fields, &Limits::default()) {
        Ok(_) => fields.known(),
        Err(_) => Vec::new(),
    }
}

fn read_body(fields: &mut Fields<'_>, limits: &Limits) -> Result<(String, Conversation, Options), ApiError> {
    let model = fields.need_str("model")?.to_owned();
    let max_tokens = at_least(fields, "max_tokens", 1)?;
    let thinking = read_thinking(fields, max_tokens)?;
    let options = read_options(fields, limits, max_tokens, thinking)?;
    let conversation = read_conversation(fields, limits, thinking)?;
    read_hints(fields)?;
    Ok((model, conversation, options))
}

fn read_options(
    fields: &mut Fields<'_>,
    limits: &Limits,
    max_tokens: Option<i64>,
    thinking: Thinking,
) -> Result<Options, ApiError> {
    Ok(Options {
        max_tokens: max_tokens.and_then(|max| usize::try_from(max).ok()).unwrap_or(1),
        temperature: share(fields, "temperature")?,
        // 0 keeps the most likely token alone, and so does the smallest share that the sampler takes.
        top_p: share(fields, "top_p")?.map(|p| p.max(f64::from(f32::MIN_POSITIVE))),
        top_k: at_least(fields, "top_k", 0)?,
        stop_sequences: read_stops(fields, limits)?,
        stream: fields.bool("stream")?.unwrap_or(false),
        structure: read_format(fields, limits)?,
        show_thinking: thinking.shown,
        thinking_budget: thinking.budget,
        cache_marked: false,
    })
}

fn read_conversation(
    fields: &mut Fields<'_>,
    limits: &Limits,
    thinking: Thinking,
) -> Result<Conversation, ApiError> {
    let system = fields.get("system").map_or(Ok(Vec::new()), |system| read_texts("system", system))?;
    let system: Vec<String> = system.into_iter().filter_map(without_billing).collect();
    let mut messages = read_messages(fields, limits)?;
    drop_empty_prefill(&mut messages);
    check_contents(&messages)?;
    check_size(&system, &messages, limits)?;
    check_calls(&messages)?;
    let mut servers = read_servers(fields.list("mcp_servers")?.unwrap_or_default())?;
    let tools = take_toolsets(fields.list("tools")?.unwrap_or_default(), &mut servers)?;
    let (tools, strict_tools) = read_tools(&tools, limits)?;
    let (tool_choice, parallel_tool_calls) =
        read_choice(fields.get("tool_choice"), &tools, !servers.is_empty())?;
    if thinking.on && messages.last().is_some_and(Message::is_begun_answer) {
        let path = format!("messages.{}", messages.len() - 1);
        let message = "An answer that is begun can't be thought about: turn `thinking` off, or end with a user's message.";
        return Err(invalid(&path, message));
    }
    Ok(Conversation {
        system,
        messages,
        // As with OpenAI's `none`: what must not be called isn't shown.
        tools: if tool_choice == ToolChoice::None { Vec::new() } else { tools },
        servers: if tool_choice == ToolChoice::None { Vec::new() } else { servers },
        strict_tools,
        tool_choice,
        parallel_tool_calls,
        thinking,
        effort: read_effort(fields)?,
    })
}

/// A text of the system prompt without its line of that kind. Some clients send all texts as one, so the rest stays.
fn without_billing(text: String) -> Option<String> {
    if !text.starts_with(BILLING) {
        return Some(text);
    }
    let (_, rest) = text.split_once('\n')?;
    (!rest.trim().is_empty()).then(|| rest.to_owned())
}

fn read_messages(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<Message>, ApiError> {
    fields.need("messages")?;
    let list = fields.list("messages")?.unwrap_or_default();
    if list.is_empty() {
        return Err(invalid("messages", "At least one message is required."));
    }
    if list.len() > limits.max_messages {
        let message = format!("At most {} messages are allowed, got {}.", limits.max_messages, list.len());
        return Err(invalid("messages", &message));
    }
    let read = |(index, message)| {
        let mut fields = Fields::new(format!("messages.{index}"), message)?;
        fields.need("role")?;
        let role = match fields.one_of("role", &["user", "assistant", "system"])? {
            Some("assistant") => Role::Assistant,
            Some("system") => Role::System,
            _ => Role::User,
        };
        let blocks = read_content(&fields.at("content"), fields.need("content")?, role, limits)?;
        fields.done()?;
        Ok(Message { role, blocks })
    };
    list.iter().enumerate().map(read).collect()
}

/// An empty last message of the assistant begins no answer.
fn drop_empty_prefill(messages: &mut Vec<Message>) {
    let empty = |last: &Message| last.role == Role::Assistant && last.blocks.is_empty();
    if messages.len() > 1 && messages.last().is_some_and(empty) {
        messages.pop();
    }
}

fn check_contents(messages: &[Message]) -> Result<(), ApiError> {
    if let Some(index) = messages.iter().position(|message| message.blocks.is_empty()) {
        let message = "A message must have content, unless it is the assistant's and the last one.";
        return Err(invalid(&format!("messages.{index}.content"), message));
    }
    let Some(last) = messages.last().filter(|last| last.role == Role::Assistant) else { return Ok(()) };
    let path = format!("messages.{}.content", messages.len() - 1);
    match last.blocks.last() {
        Some(Block::Text(text)) if text.ends_with(char::is_whitespace) => {
            Err(invalid(&path, "The beginning of an answer must not end with white space."))
        }
        // A call without its result is `check_calls`'s.
        Some(Block::Text(_) | Block::ToolUse { .. } | Block::ServerToolResult { .. }) => Ok(()),
        _ => Err(invalid(&path, "The beginning of an answer must end with text.")),
    }
}

/// Each call is followed by its result in the user's next message, and each result follows its call. Ids tell the calls
/// of one turn apart; models that write them themselves use the same ones in the next turn.
fn check_calls(messages: &[Message]) -> Result<(), ApiError> {
    // The calls without a result, with their place among all calls.
    let mut open: HashMap<&str, usize> = HashMap::new();
    let mut calls = 0;
    let mut run = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        let path = format!("messages.{index}");
        for block in &message.blocks {
            match block {
                Block::ServerToolUse { id, .. } => drop(run.insert(id.as_str())),
                Block::ServerToolResult { id, .. } if !run.remove(id.as_str()) => {
                    let message =
                        format!("The mcp_tool_result for '{}' has no mcp_tool_use before it.", short(id));
                    return Err(invalid(&path, &message));
                }
                Block::ToolUse { id, .. } => {
                    calls += 1;
                    if open.insert(id, calls).is_some() {
                        let message = format!("Two open tool_use blocks have the id '{}'.", short(id));
                        return Err(invalid(&path, &message));
                    }
                }
                Block::ToolResult { id, .. } if open.remove(id.as_str()).is_none() => {
                    let message = format!(
                        "The tool_result for '{}' has no tool_use in the message before it.",
                        short(id)
                    );
                    return Err(invalid(&path, &message));
                }
                _ => {}
            }
        }
        let next = messages.get(index + 1).map(|next| next.role);
        let turn_ends = next != Some(message.role) && next != Some(Role::System);
        let answered = message.role == Role::User || next.is_none();
        if turn_ends
            && answered
            && let Some((id, _)) = open.iter().min_by_key(|(_, place)| **place)
        {
            let message = format!("The tool_use '{}' has no tool_result in the message after it.", short(id));
            return Err(invalid(&path, &message));
        }
    }
    Ok(())
}

fn check_size(system: &[String], messages: &[Message], limits: &Limits) -> Result<(), ApiError> {
    let blocks = messages.iter().map(|message| message.blocks.len()).sum::<usize>() + system.len();
    if blocks > MAX_BLOCKS {
        let message = format!("The messages hold {blocks} content blocks; at most {MAX_BLOCKS} are allowed.");
        return Err(invalid("messages", &message));
    }
    let texts = messages.iter().flat_map(|message| &message.blocks).map(|block| match block {
        Block::Text(text) | Block::Thinking(text) | Block::ToolResult { text, .. } => text.chars().count(),
        Block::ServerToolResult { text, .. } => text.chars().count(),
        Block::ToolUse { name, input, .. } | Block::ServerToolUse { name, input, .. } => {
            name.chars().count() + object_chars(input)
        }
        Block::RedactedThinking => 0,
    });
    let chars = texts.sum::<usize>() + system.iter().map(|text| text.chars().count()).sum::<usize>();
    let most = limits.max_prompt_chars;
    if chars > most {
        let message = format!("The messages hold {chars} characters together; at most {most} are allowed.");
        return Err(invalid("messages", &message));
    }
    Ok(())
}

fn read_thinking(fields: &mut Fields<'_>, max_tokens: Option<i64>) -> Result<Thinking, ApiError> {
    let Some(value) = fields.get("thinking") else {
        return Ok(Thinking { on: false, shown: true, budget: None });
    };
    let mut fields = Fields::new("thinking".into(), value)?;
    fields.need("type")?;
    let kind = fields.one_of("type", &["enabled", "disabled", "adaptive"])?;
    let shown = fields.one_of("display", &["summarized", "omitted"])? != Some("omitted");
    let mut budget = None;
    if kind == Some("enabled") {
        fields.need("budget_tokens")?;
        budget = at_least(&mut fields, "budget_tokens", MIN_BUDGET)?;
        if budget.zip(max_tokens).is_some_and(|(budget, max)| budget >= max) {
            return Err(invalid("thinking.budget_tokens", "The budget must be smaller than `max_tokens`."));
        }
    }
    fields.done()?;
    Ok(Thinking { on: kind != Some("disabled"), shown, budget })
}

/// Templates know three efforts.
fn read_effort(fields: &mut Fields<'_>) -> Result<Option<&'static str>, ApiError> {
    let Some(value) = fields.get("output_config") else { return Ok(None) };
    let mut fields = Fields::new("output_config".into(), value)?;
    // Read with the options.
    fields.accept(&["format"]);
    let effort = fields.one_of("effort", &["low", "medium", "high", "xhigh", "max"])?;
    fields.accept(&["task_budget"]);
    fields.done()?;
    Ok(effort.map(|effort| match effort {
        "low" => "low",
        "medium" => "medium",
        _ => "high",
    }))
}

/// `output_config.format`, and what it was called before.
fn read_format(fields: &mut Fields<'_>, limits: &Limits) -> Result<Option<Structure>, ApiError> {
    let (old, new) =
        (fields.get("output_format"), fields.get("output_config").map(|config| &config["format"]));
    let new = new.filter(|format| !format.is_null());
    let (path, format) = match (old, new) {
        (None, None) => return Ok(None),
        (_, Some(format)) => ("output_config.format", format),
        (Some(format), None) => ("output_format", format),
    };
    let mut fields = Fields::new(path.into(), format)?;
    fields.need("type")?;
    fields.one_of("type", &["json_schema"])?;
    let schema = fields.need("schema")?;
    let param = fields.at("schema");
    check_schema(&param, schema, limits)?;
    fields.done()?;
    let source = Source::Json { schema: schema.clone(), whitespace: Whitespace::Flexible };
    let structure = Structure { source, param };
    structure.validate()?;
    Ok(Some(structure))
}

fn read_stops(fields: &mut Fields<'_>, limits: &Limits) -> Result<Vec<String>, ApiError> {
    let list = fields.list("stop_sequences")?.unwrap_or_default();
    if list.len() > limits.max_stop {
        let message = format!("At most {} stop sequences are allowed, got {}.", limits.max_stop, list.len());
        return Err(invalid("stop_sequences", &message));
    }
    let read = |(index, stop): (usize, &Value)| {
        let path = format!("stop_sequences.{index}");
        match stop.as_str() {
            None => Err(invalid(&path, "Input should be a string.")),
            Some(text) if text.trim().is_empty() => {
                Err(invalid(&path, "A stop sequence must hold more than white space."))
            }
            Some(text) if text.chars().nth(limits.max_stop_chars).is_some() => {
                let most = limits.max_stop_chars;
                Err(invalid(&path, &format!("A stop sequence may hold at most {most} characters.")))
            }
            Some(text) => Ok(text.to_owned()),
        }
    };
    list.iter().enumerate().map(read).collect()
}

fn read_hints(fields: &mut Fields<'_>) -> Result<(), ApiError> {
    if let Some(metadata) = fields.get("metadata") {
        let mut metadata = Fields::new("metadata".into(), metadata)?;
        metadata.str("user_id")?;
        metadata.done()?;
    }
    fields.one_of("service_tier", &["auto", "standard_only"])?;
    fields.one_of("speed", &["standard", "fast"])?;
    fields.accept(HINTS);
    REFUSED.iter().try_for_each(|(name, why)| fields.refuse(name, why))
}

/// A number from 0 to 1.
fn share(fields: &mut Fields<'_>, name: &'static str) -> Result<Option<f64>, ApiError> {
    let value = fields.number(name)?;
    match value.filter(|value| !(0.0..=1.0).contains(value)) {
        Some(value) => Err(invalid(&fields.at(name), &format!("The range is 0 to 1, got {value}."))),
        None => Ok(value),
    }
}

fn at_least(fields: &mut Fields<'_>, name: &'static str, least: i64) -> Result<Option<i64>, ApiError> {
    let value = fields.integer(name)?;
    match value.filter(|value| *value < least) {
        Some(value) => Err(invalid(&fields.at(name), &format!("Must be at least {least}, got {value}."))),
        None => Ok(value),
    }
}

fn short(text: &str) -> String {
    crate::error::shorten(text, 80)
}
