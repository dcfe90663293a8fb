//! A conversation to its prompt.

use millrace_api::{ApiError, ChatInput};
use millrace_text::{ChatTemplate, TemplateInput, TextError};
use serde_json::{Value, json};

use super::{late_system, prepare::text_error};
use crate::ServedModel;

/// Renders a conversation with the model's template.
pub(super) fn render(model: &ServedModel, chat: &ChatInput) -> Result<String, ApiError> {
    let Some(template) = &model.parts.template else {
        return Err(text_error(&TextError::NoTemplate { name: "default".into() }));
    };
    let mut messages = chat.messages.clone();
    if !model.knows_developer {
        messages.iter_mut().for_each(developer_to_system);
    }
    if !model.knows_late_system {
        messages = late_system::fold(messages);
    }
    template.prepare_messages(&mut messages, model.formats.text_arguments);
    let input = TemplateInput {
        messages: &messages,
        tools: given(&chat.tools),
        documents: given(&chat.documents),
        add_generation_prompt: chat.add_generation_prompt,
        continue_final_message: chat.continue_final_message,
        kwargs: Some(&chat.template_kwargs),
        now: None,
    };
    template.render(&input).map_err(|error| text_error(&error))
}

/// To some templates an empty list is not the same as none.
fn given(list: &[Value]) -> Option<&[Value]> {
    (!list.is_empty()).then_some(list)
}

/// Whether a template shows what a `developer` message says. Tried out, because templates that don't know the role
/// either refuse it or, worse, leave the message out.
pub(crate) fn knows_developer(template: &ChatTemplate) -> bool {
    const TEXT: &str = "MILLRACE-PROBE";
    let messages = [json!({"role": "developer", "content": TEXT}), json!({"role": "user", "content": "x"})];
    let input =
        TemplateInput { messages: &messages, add_generation_prompt: true, ..TemplateInput::default() };
    template.render(&input).is_ok_and(|prompt| prompt.contains(TEXT))
}

/// OpenAI's newer name for the same thing.
fn developer_to_system(message: &mut Value) {
    if message["role"] == "developer" {
        message["role"] = "system".into();
    }
}
