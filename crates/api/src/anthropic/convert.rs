//! The neutral request.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::{
    ids,
    stream::MessageEncoder,
    types::{Block, Conversation, Message, Options, Request, Role, Thinking},
};
use crate::{ApiError, Call, ChatInput, GenerationOptions, GenerationRequest, Input, MaxTokensDefault};

/// A whole request.
pub(super) fn to_call(request: Request, request_id: &str) -> Result<Call, ApiError> {
    let Request { model, conversation, options } = request;
    let encoder = MessageEncoder::new(&options, request_id);
    let stream = options.stream;
    let request =
        GenerationRequest { model: Some(model), input: to_input(conversation), options: to_options(options) };
    Ok(Call { request, encoder: Box::new(encoder), stream })
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
        thinking,
        effort,
    } = conversation;
    let prefilled = messages.last().is_some_and(|last| last.role == Role::Assistant);
    Input::Chat(Box::new(ChatInput {
        messages: to_messages(&system, messages),
        tools,
        strict_tools,
        tool_choice,
        parallel_tool_calls,
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
    for message in messages {
        for block in message.blocks {
            history.add(message.role, block);
        }
    }
    history.finish()
}

/// Messages that are being put together.
#[derive(Default)]
struct History {
    messages: Vec<Value>,
    /// The last message and its role, as long as it may grow.
    open: Option<(&'static str, Map<String, Value>)>,
    /// The tool of each call.
    tools: HashMap<String, String>,
}

impl History {
    fn add(&mut self, role: Role, block: Block) {
        match (role, block) {
            (Role::User, Block::Text(text)) => self.add_text("user", &text),
            (Role::System, Block::Text(text)) => self.add_text("system", &text),
            (Role::Assistant, Block::Text(text)) => self.add_text("assistant", &text),
            (_, Block::Thinking(text)) => {
                let message = self.message("assistant");
                append(message, "reasoning_content", &text);
            }
            (_, Block::RedactedThinking) => {}
            (_, Block::ToolUse { id, name, input }) => self.add_call(ids::restore(id), name, input),
            (_, Block::ToolResult { id, text }) => self.add_result(&ids::restore(id), &text),
        }
    }

    fn add_text(&mut self, role: &'static str, text: &str) {
        let message = self.message(role);
        append(message, "content", text);
    }

    /// Arguments are JSON in a string, as with OpenAI; for templates that want an object it is parsed later.
    fn add_call(&mut self, id: String, name: String, input: Map<String, Value>) {
        let arguments = Value::Object(input).to_string();
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        self.tools.insert(id, name);
        let message = self.message("assistant");
        match message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            Some(calls) => calls.push(call),
            None => drop(message.insert("tool_calls".into(), json!([call]))),
        }
    }

    /// Each result is a message of its own; some templates want the tool's name in it.
    fn add_result(&mut self, id: &str, text: &str) {
        let name = self.tools.get(id).cloned().unwrap_or_default();
        self.close();
        self.messages.push(json!({"role": "tool", "tool_call_id": id, "name": name, "content": text}));
    }

    /// The open message if it is this role's, or a new one.
    fn message(&mut self, role: &'static str) -> &mut Map<String, Value> {
        if self.open.as_ref().is_some_and(|(open, _)| *open != role) {
            self.close();
        }
        let new = || {
            let fields = [("role", role), ("content", "")];
            (role, fields.map(|(name, text)| (name.to_owned(), text.into())).into_iter().collect())
        };
        &mut self.open.get_or_insert_with(new).1
    }

    fn close(&mut self) {
        self.messages.extend(self.open.take().map(|(_, message)| Value::Object(message)));
    }

    fn finish(mut self) -> Vec<Value> {
        self.close();
        self.messages
    }
}

/// Adds to a text field, after a line break if there is something already.
fn append(message: &mut Map<String, Value>, field: &str, text: &str) {
    match message.get_mut(field) {
        Some(Value::String(before)) if !before.is_empty() => {
            before.push('\n');
            before.push_str(text);
        }
        _ => drop(message.insert(field.to_owned(), text.into())),
    }
}
