//! What was said so far.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Messages in OpenAI's shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conversation {
    messages: Vec<Value>,
}

impl Conversation {
    /// A conversation under instructions, if there are any.
    pub(crate) fn new(system: Option<&str>) -> Self {
        let system = system.filter(|text| !text.is_empty());
        Self { messages: system.map(|text| message("system", text)).into_iter().collect() }
    }

    /// Forgets everything but the instructions.
    pub(crate) fn reset(&mut self) {
        self.messages.retain(|message| message["role"] == "system");
    }

    pub(crate) fn user(&mut self, text: &str) {
        self.messages.push(message("user", text));
    }

    pub(crate) fn assistant(&mut self, text: &str) {
        self.messages.push(message("assistant", text));
    }

    /// Takes back a question that got no answer.
    pub(crate) fn take_back(&mut self) {
        if self.messages.last().is_some_and(|message| message["role"] == "user") {
            self.messages.pop();
        }
    }

    pub(crate) fn messages(&self) -> &[Value] {
        &self.messages
    }

    /// Writes it as the body of a request, which a server takes as it is.
    pub(crate) fn save(&self, file: &Path, model: &str) -> Result<()> {
        let body = json!({"model": model, "messages": self.messages});
        let text = serde_json::to_string_pretty(&body).context("the conversation is no JSON")?;
        std::fs::write(file, text + "\n").with_context(|| format!("{} cannot be written", file.display()))
    }
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_keeps_its_instructions() {
        let mut talk = Conversation::new(Some("Be brief."));
        talk.user("a");
        talk.assistant("b");
        talk.user("c");
        talk.take_back();
        talk.take_back();
        assert_eq!(talk.messages().len(), 3);
        talk.reset();
        assert_eq!(talk.messages(), [message("system", "Be brief.")]);
        assert!(Conversation::new(Some("")).messages().is_empty());
    }

    #[test]
    fn what_is_saved_is_a_request() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut talk = Conversation::new(None);
        talk.user("a");
        talk.save(file.path(), "m").unwrap();
        let body: Value = serde_json::from_str(&std::fs::read_to_string(file.path()).unwrap()).unwrap();
        assert_eq!(body, json!({"model": "m", "messages": [{"role": "user", "content": "a"}]}));
        let error = talk.save(Path::new("/no/such/folder/x"), "m").unwrap_err();
        assert!(error.to_string().contains("/no/such/folder/x cannot be written"));
    }
}
