//! The neutral request.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{
    ids, mcp,
    stream::MessageEncoder,
    types::{Block, Conversation, Message, Options, Request, Role, Thinking},
};
use crate::{
    ApiError, Call, ChatInput, GenerationOptions, GenerationRequest, Input, MaxTokensDefault,
    history::History,
};

/// A whole request.
pub(super) fn to_call(request: Request, request_id: &str) -> Result<Call, ApiError> {
    let Request { model, conversation, options } = request;
    let encoder = MessageEncoder::new(&options, request_id);
    let stream = options.stream;
    let request =
        GenerationRequest { model: Some(model), input: to_input(conversation), options: to_options(options) };
    // This API refuses what it doesn't know.
    Ok(Call { request, encoder: Box::new(encoder), stream, ignored: Vec::new() })
}

/// `max_tokens` is a bound: where the context ends before it, the answer does too.
fn to_options(options: Options) -> GenerationOptions {
    GenerationOptions {
        temperature: options.temperature,
        top_p: options.top_p,
        top_k: options.top_k,
        stop: options.stop_sequences,
        max_tokens_default: MaxTokensDefault::Fixed(options.max_tokens),
        structure: options.structure,
        thinking_token_budget: options.thinking_budget,
        // Models of other formats than Anthropic's own think, too.
        thinking_budget_is_a_wish: true,
        ..GenerationOptions::default()
    }
}

/// A conversation; if the assistant speaks last, it goes on with that message.
pub(super) fn to_input(conversation: Conversation) -> Input {
    let Conversation {
        system,
        messages,
        tools,
        strict_tools,
        tool_choice,
        parallel_tool_calls,
        servers,
        thinking,
        effort,
    } = conversation;
    let prefilled = messages.last().is_some_and(Message::is_begun_answer);
    Input::Chat(Box::new(ChatInput {
        messages: to_messages(&system, messages),
        tools,
        strict_tools,
        tool_choice,
        parallel_tool_calls,
        server_tools: mcp::server_tools(servers),
        add_generation_prompt: !prefilled,
        continue_final_message: prefilled,
        template_kwargs: kwargs(thinking, effort),
        ..ChatInput::default()
    }))
}

/// Who doesn't ask for thinking gets none, as far as the template can turn it off: programs written for this API
/// read the first block of such an answer as text. Templates call their switch by one name or the other.
fn kwargs(thinking: Thinking, effort: Option<&'static str>) -> Map<String, Value> {
    let switches = ["enable_thinking", "thinking"].map(|name| (name.to_owned(), Value::Bool(thinking.on)));
    let effort = effort.map(|effort| ("reasoning_effort".to_owned(), effort.into()));
    switches.into_iter().chain(effort).collect()
}

/// Messages in OpenAI's shape; neighbours of the same role become one.
fn to_messages(system: &[String], messages: Vec<Message>) -> Vec<Value> {
    let mut history = History::default();
    if !system.is_empty() {
        history.add_text("system", &system.join("\n"));
    }
    // A call of a server's that came to no result was never run, and the model isn't told of it.
    let is_result = |block: &Block| match block {
        Block::ServerToolResult { id, .. } => Some(id.clone()),
        _ => None,
    };
    let results: HashSet<String> =
        messages.iter().flat_map(|message| message.blocks.iter().filter_map(is_result)).collect();
    for message in messages {
        for block in message.blocks {
            if matches!(&block, Block::ServerToolUse { id, .. } if !results.contains(id)) {
                continue;
            }
            add(&mut history, message.role, block);
        }
    }
    history.finish()
}

fn add(history: &mut History, role: Role, block: Block) {
    match (role, block) {
        (Role::User, Block::Text(text)) => history.add_text("user", &text),
        (Role::System, Block::Text(text)) => history.add_text("system", &text),
        (Role::Assistant, Block::Text(text)) => history.add_text("assistant", &text),
        (_, Block::Thinking(text)) => history.add_reasoning(&text),
        (_, Block::RedactedThinking) => {}
        (_, Block::ToolUse { id, name, input }) => {
            history.add_call(ids::restore(id), name, &Value::Object(input).to_string());
        }
        (_, Block::ServerToolUse { id, server, name, input }) => {
            let input = Value::Object(input).to_string();
            history.add_call(ids::restore(id), format!("{server}__{name}"), &input);
        }
        (_, Block::ToolResult { id, text } | Block::ServerToolResult { id, text }) => {
            history.add_result(&ids::restore(id), &text);
        }
    }
}
