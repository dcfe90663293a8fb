//! Items to the neutral request.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    ids,
    items::Input,
    mcp::{Approvals, check_approvals, server_tools},
    record::Record,
    tools::joined,
    types::{Item, ItemStatus, Message, Part, Role},
    validate::PromptBody,
};
use crate::{
    ApiError, ChatInput, ErrorKind, GenerationOptions, GenerationRequest, Limits, error::shorten,
    fields::invalid, history::History, openai::tokenize::TokenizeCall,
};

/// A conversation as the model will see it: what earlier answers hold, then the request's own input.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub(super) prompt: PromptBody,
    pub(super) options: GenerationOptions,
    items: Vec<Item>,
    /// Where the request's own input begins.
    own: usize,
}

impl PromptBody {
    /// The answer that the request goes on from.
    pub fn previous(&self) -> Option<&str> {
        self.previous.as_deref()
    }

    /// Ids of the answers whose items the input refers to.
    ///
    /// # Errors
    /// A 404 for an id that this server can't have given out.
    pub fn referenced(&self) -> Result<HashSet<String>, ApiError> {
        let references = self.input.iter().filter_map(|input| match input {
            Input::Reference(id) => Some(ids::response_of(id).ok_or_else(|| unknown_item(id))),
            Input::Item(_) => None,
        });
        references.collect()
    }

    /// The whole conversation. `context` are the answers that it goes on from, the oldest first; `referenced` those that
    /// its input refers to.
    ///
    /// # Errors
    /// A 400 if it is too big or a result has no call, a 404 for an item that isn't there.
    pub fn join(
        mut self,
        options: GenerationOptions,
        context: Vec<Record>,
        referenced: &[Record],
        limits: &Limits,
    ) -> Result<Conversation, ApiError> {
        let mut items: Vec<Item> = context.into_iter().flat_map(Record::into_items).collect();
        let own = items.len();
        for input in std::mem::take(&mut self.input) {
            items.push(match input {
                Input::Item(item) => item,
                Input::Reference(id) => {
                    let found = referenced.iter().find_map(|record| record.item(&id));
                    found.ok_or_else(|| unknown_item(&id))?
                }
            });
        }
        check_size(&items, self.instructions.as_deref(), limits)?;
        check_calls(&items)?;
        check_approvals(&items, &self.offer.servers)?;
        Ok(Conversation { prompt: self, options, items, own })
    }
}

impl Conversation {
    /// The request's own input.
    pub(super) fn input(&self) -> &[Item] {
        &self.items[self.own..]
    }

    /// Whether the oldest items may be left out, and how many at most.
    pub fn droppable(&self) -> usize {
        if self.prompt.truncate { self.items.len().saturating_sub(1) } else { 0 }
    }

    /// Tokens to keep free for the answer if the oldest items are left out, out of a context of `max_model_len`.
    pub fn reserve(&self, max_model_len: usize) -> usize {
        match self.options.max_tokens_default {
            crate::MaxTokensDefault::Fixed(tokens) => tokens.clamp(1, (max_model_len / 2).max(1)),
            crate::MaxTokensDefault::RestOfContext => 1,
        }
    }

    /// The request without its `dropped` oldest items.
    pub fn request(&self, dropped: usize) -> GenerationRequest {
        GenerationRequest {
            model: self.prompt.model.clone(),
            input: self.chat(dropped),
            options: self.options.clone(),
        }
    }

    /// The same, to be counted only.
    pub fn count(&self, dropped: usize) -> TokenizeCall {
        TokenizeCall { model: self.prompt.model.clone(), input: self.chat(dropped), return_token_strs: false }
    }

    fn chat(&self, dropped: usize) -> crate::Input {
        let PromptBody { instructions, offer, parallel_tool_calls, kwargs, .. } = &self.prompt;
        crate::Input::Chat(Box::new(ChatInput {
            messages: to_messages(instructions.as_deref(), &self.items[dropped.min(self.items.len())..]),
            tools: offer.tools.clone(),
            strict_tools: offer.strict.clone(),
            tool_choice: offer.choice.clone(),
            parallel_tool_calls: *parallel_tool_calls,
            server_tools: server_tools(
                &offer.servers,
                offer.server_choice.as_ref(),
                &self.items,
                self.prompt.max_calls,
            ),
            add_generation_prompt: true,
            template_kwargs: kwargs.clone(),
            ..ChatInput::default()
        }))
    }
}

/// Messages in OpenAI's older shape. Reasoning, text and calls that follow each other are one message of the assistant.
/// Calls that broke off aren't shown, nor results whose call was left out.
fn to_messages(instructions: Option<&str>, items: &[Item]) -> Vec<Value> {
    let mut history = History::default();
    if let Some(instructions) = instructions {
        history.add_text("system", instructions);
    }
    let mut calls = HashSet::new();
    let approvals = Approvals::of(items);
    let mut before = None;
    for item in items {
        if begins_message(before, item) {
            history.close();
        }
        before = Some(item);
        match item {
            Item::Message(message) => history.add_text(message.role.name(), &text_of(message)),
            Item::Reasoning(reasoning) => {
                reasoning.content.iter().for_each(|part| history.add_reasoning(part.text()));
            }
            Item::FunctionCall(call) if call.status == ItemStatus::Incomplete => {}
            Item::FunctionCall(call) => {
                calls.insert(call.call_id.as_str());
                let name = call.namespace.as_ref().map(|namespace| joined(namespace, &call.name));
                let name = name.unwrap_or_else(|| call.name.clone());
                history.add_call(call.call_id.clone(), name, &call.arguments);
            }
            Item::FunctionCallOutput(output) if calls.contains(output.call_id.as_str()) => {
                history.add_result(&output.call_id, &output.output.text());
            }
            Item::FunctionCallOutput(_) => {}
            Item::McpCall(call) => {
                let Some(result) = call.output.as_ref().or(call.error.as_ref()) else { continue };
                history.add_call(call.id.clone(), joined(&call.server_label, &call.name), &call.arguments);
                history.add_result(&call.id, result);
            }
            Item::McpApprovalRequest(request) => {
                let Some(word) = approvals.word(request) else { continue };
                let name = joined(&request.server_label, &request.name);
                history.add_call(request.id.clone(), name, &request.arguments);
                if !word.approve {
                    let reason = word.reason.as_deref().unwrap_or("no reason was given");
                    history.add_result(&request.id, &format!("The user declined this call: {reason}."));
                }
            }
            // The server runs an approved call and adds its result.
            Item::McpApprovalResponse(_) | Item::McpListTools(_) => {}
        }
    }
    history.finish()
}

/// Whether an item can't join the assistant's open message, because templates show reasoning, text and calls in that
/// order.
fn begins_message(before: Option<&Item>, item: &Item) -> bool {
    let said = |item: &Item| matches!(item, Item::Message(Message { role: Role::Assistant, .. }));
    let called = matches!(before, Some(Item::FunctionCall(_)));
    match item {
        Item::Reasoning(_) => called || before.is_some_and(said),
        item => called && said(item),
    }
}

fn text_of(message: &Message) -> String {
    let texts: Vec<&str> = message.content.iter().map(Part::text).collect();
    texts.join("\n")
}

fn check_size(items: &[Item], instructions: Option<&str>, limits: &Limits) -> Result<(), ApiError> {
    if items.len() > limits.max_messages {
        let (most, count) = (limits.max_messages, items.len());
        let message = format!("The conversation has {count} items; at most {most} are allowed.");
        return Err(invalid("input", &message));
    }
    let chars =
        items.iter().map(Item::chars).sum::<usize>() + instructions.map_or(0, |text| text.chars().count());
    if chars > limits.max_prompt_chars {
        let most = limits.max_prompt_chars;
        let message = format!("The conversation holds {chars} characters; at most {most} are allowed.");
        return Err(invalid("input", &message));
    }
    Ok(())
}

/// A result belongs to a call before it.
fn check_calls(items: &[Item]) -> Result<(), ApiError> {
    let mut calls = HashSet::new();
    for item in items {
        match item {
            Item::FunctionCall(call) => drop(calls.insert(call.call_id.as_str())),
            Item::FunctionCallOutput(output) if !calls.contains(output.call_id.as_str()) => {
                let id = shorten(&output.call_id, 80);
                let message =
                    format!("There is no function_call for the function_call_output with call_id '{id}'.");
                return Err(invalid("input", &message));
            }
            _ => {}
        }
    }
    Ok(())
}

fn unknown_item(id: &str) -> ApiError {
    let message = format!("There is no item with the id '{}'.", shorten(id, 80));
    ApiError { param: Some("input".into()), ..ApiError::new(ErrorKind::NotFound, message) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::openai::responses::{ids::ResponseId, validate::read_request};

    fn conversation(body: &Value, context: Vec<Record>) -> Result<Conversation, ApiError> {
        let limits = Limits { max_prompt_chars: 200, ..Limits::default() };
        let request = read_request(body, &limits, &ResponseId::new("b".repeat(32)))?;
        request.prompt.join(request.options, context, &[], &limits)
    }

    fn messages(conversation: &Conversation, dropped: usize) -> Value {
        match conversation.request(dropped).input {
            crate::Input::Chat(chat) => chat.messages.into(),
            crate::Input::Prompts { .. } => panic!("a conversation"),
        }
    }

    fn turn() -> Value {
        json!([
            {"role": "user", "content": "sum?"},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "add"}]},
            {"role": "assistant", "content": "Let me see."},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{\"a\":1}"},
            {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "3"}]},
            {"role": "assistant", "content": "It is 3."},
            {"role": "user", "content": "Thanks."},
        ])
    }

    #[test]
    fn items_become_messages() {
        let whole = conversation(&json!({"instructions": "Be kind.", "input": turn()}), vec![]).unwrap();
        let function = json!({"name": "add", "arguments": "{\"a\":1}"});
        let call = json!({"id": "c1", "type": "function", "function": function});
        let expected = json!([
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "sum?"},
            {"role": "assistant", "content": "Let me see.", "reasoning_content": "add", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "name": "add", "content": "3"},
            {"role": "assistant", "content": "It is 3."},
            {"role": "user", "content": "Thanks."},
        ]);
        assert_eq!(messages(&whole, 0), expected);
        // A result goes with its call.
        let rest = json!([expected[0], expected[4], expected[5]]);
        assert_eq!(messages(&whole, 4), rest);
        assert_eq!((whole.droppable(), whole.input().len()), (0, 7));
        let truncated = conversation(&json!({"truncation": "auto", "input": turn()}), vec![]).unwrap();
        assert_eq!(truncated.droppable(), 6);
        assert_eq!(messages(&truncated, 99), json!([]));
    }

    #[test]
    fn what_comes_after_a_call_is_another_message() {
        let input = json!([
            {"role": "user", "content": "x"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "d", "name": "f", "arguments": "{", "status": "incomplete"},
            {"role": "assistant", "content": "a"},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "t"}]},
            {"role": "assistant", "content": "b"},
        ]);
        let got = messages(&conversation(&json!({"input": input}), vec![]).unwrap(), 0);
        assert_eq!(got.as_array().unwrap().len(), 4, "{got}");
        assert_eq!(got[1]["tool_calls"].as_array().unwrap().len(), 1);
        assert_eq!((&got[2]["content"], &got[3]["content"]), (&json!("a"), &json!("b")));
        assert_eq!(got[3]["reasoning_content"], "t");
    }

    #[test]
    fn earlier_answers_come_first_without_their_instructions() {
        let first = conversation(&json!({"instructions": "Old.", "input": "one"}), vec![]).unwrap();
        let output = json!([{"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [
            {"type": "output_text", "text": "two", "annotations": [], "logprobs": []}]}]);
        let record = Record::new("me", &first, json!({"status": "completed", "output": output}));
        let body = json!({"input": "three", "previous_response_id": "resp_1"});
        let second = conversation(&body, vec![record]).unwrap();
        let texts = [("user", "one"), ("assistant", "two"), ("user", "three")];
        let expected = texts.map(|(role, text)| json!({"role": role, "content": text}));
        assert_eq!(messages(&second, 0), json!(expected));
        assert_eq!(second.input().len(), 1);
    }

    #[test]
    fn results_need_calls_and_sizes_have_bounds() {
        let lost = json!({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]});
        assert!(conversation(&lost, vec![]).unwrap_err().message.contains("no function_call"));
        assert!(
            conversation(&json!({"input": "x".repeat(201)}), vec![]).unwrap_err().message.contains("201")
        );
        let reference = json!({"input": [{"type": "item_reference", "id": "msg_1"}]});
        assert_eq!(conversation(&reference, vec![]).unwrap_err().kind, ErrorKind::NotFound);
    }
}
