//! A conversation that comes in pieces, put together into messages in OpenAI's shape, because chat templates read that.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// Messages that are being put together. Neighbours of the same role become one.
#[derive(Default)]
pub(crate) struct History {
    messages: Vec<Value>,
    /// The last message and its role, as long as it may grow.
    open: Option<(&'static str, Map<String, Value>)>,
    /// The tool of each call.
    tools: HashMap<String, String>,
}

impl History {
    /// Text of any role; after a line break if that role has just spoken.
    pub(crate) fn add_text(&mut self, role: &'static str, text: &str) {
        let message = self.message(role);
        append(message, "content", text);
    }

    /// What the assistant thought.
    pub(crate) fn add_reasoning(&mut self, text: &str) {
        let message = self.message("assistant");
        append(message, "reasoning_content", text);
    }

    /// A call. Arguments are JSON in a string, as with OpenAI; for templates that want an object it is parsed later.
    pub(crate) fn add_call(&mut self, id: String, name: String, arguments: &str) {
        let call = json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        self.tools.insert(id, name);
        let message = self.message("assistant");
        match message.get_mut("tool_calls").and_then(Value::as_array_mut) {
            Some(calls) => calls.push(call),
            None => drop(message.insert("tool_calls".into(), json!([call]))),
        }
    }

    /// Each result is a message of its own; some templates want the tool's name in it.
    pub(crate) fn add_result(&mut self, id: &str, text: &str) {
        let name = self.tools.get(id).cloned().unwrap_or_default();
        self.close();
        self.messages.push(json!({"role": "tool", "tool_call_id": id, "name": name, "content": text}));
    }

    /// Ends the open message: what the same role says next is another one.
    pub(crate) fn close(&mut self) {
        self.messages.extend(self.open.take().map(|(_, message)| Value::Object(message)));
    }

    /// The messages.
    pub(crate) fn finish(mut self) -> Vec<Value> {
        self.close();
        self.messages
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
