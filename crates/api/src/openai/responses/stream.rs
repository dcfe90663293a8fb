//! Writes an answer: what stands so far, and the events that tell of it.

use std::collections::HashMap;

use millrace_types::Usage;
use serde_json::{Value, json};

use super::{
    events::{At, Events, OfArguments, OfDelta, OfItem, OfPart, OfResponse, OfText},
    ids::ResponseId,
    mcp_stream::Running,
    reasoning::seal,
    types::{
        FunctionCall, InputTokensDetails, Item, ItemStatus, Message, OutputTokensDetails, Part, Reasoning,
        Response, Role, Status, UsageBody, error_value,
    },
    validate::{Request, Show},
};
use crate::{
    ApiError, ChatEvent, Delta, End, EndReason, Frame, Part as Piece,
    openai::{body::TokenFormat, chat::token_logprobs},
};

/// Puts an answer together as it comes. One item is open at a time.
#[derive(Debug)]
pub struct Assembler {
    pub(super) id: ResponseId,
    pub(super) response: Response,
    show: Show,
    /// Namespace and name of the functions that the model knows by a longer name.
    namespaces: HashMap<String, (String, String)>,
    pub(super) events: Events,
    open: Option<Kind>,
    /// Calls that the server runs, by their number.
    pub(super) server_calls: HashMap<usize, Running>,
    /// White space that may be the beginning of a message. Between other items it is the model's layout.
    pub(super) held: String,
    /// Scores of tokens whose text hasn't come yet.
    scores: Vec<Value>,
    reasoning_tokens: usize,
    /// A call did not come to its end, although the model went on or ended its answer.
    broken: bool,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    Call,
}

impl Assembler {
    /// An answer with nothing in it yet. `created` is in seconds since 1970.
    pub(super) fn new(request: &Request, id: &ResponseId, created: u64, model: &str) -> Self {
        let status = if request.delivery.background { Status::Queued } else { Status::InProgress };
        let response = Response {
            id: id.name(),
            object: "response",
            created_at: created,
            status,
            completed_at: None,
            error: None,
            incomplete_details: None,
            model: model.to_owned(),
            output: Vec::new(),
            usage: None,
            asked: request.echo.clone(),
        };
        Self {
            id: id.clone(),
            response,
            show: request.show,
            namespaces: request.prompt.offer.namespaces.clone(),
            events: Events::new(request.delivery.stream),
            open: None,
            server_calls: HashMap::new(),
            held: String::new(),
            scores: Vec::new(),
            reasoning_tokens: 0,
            broken: false,
            end: End { reason: EndReason::Abort, stop: None },
        }
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.response.status
    }

    /// As it stands.
    pub fn response(&self) -> Value {
        serde_json::to_value(&self.response).unwrap_or_default()
    }

    /// The events of its beginning; none if the client wants no stream.
    pub fn begin(&mut self) -> Vec<Frame> {
        self.tell("response.created");
        if self.response.status == Status::Queued {
            self.tell("response.queued");
        }
        self.events.take()
    }

    /// Takes what happens next, at `now` seconds since 1970; gives the events that tell of it.
    pub fn push(&mut self, event: ChatEvent, now: u64) -> Vec<Frame> {
        match event {
            ChatEvent::Start(_) => {
                self.response.status = Status::InProgress;
                self.tell("response.in_progress");
            }
            ChatEvent::Delta(delta) => self.delta(*delta),
            ChatEvent::Done(usage) => self.done(&usage, now),
            ChatEvent::Error(error) => self.fail(&error),
        }
        self.events.take()
    }

    fn delta(&mut self, delta: Delta) {
        self.score(&delta);
        for news in delta.server_calls {
            self.server_call(news);
        }
        for piece in delta.parts {
            match piece {
                Piece::Text(text) => self.text(&text),
                Piece::Reasoning(text) => self.reasoning(&text),
                Piece::ToolCall { id, name, .. } => self.call(id, name),
                Piece::ToolArguments { delta, .. } => self.arguments(&delta),
                Piece::ToolCallEnd { complete, .. } => {
                    self.broken |= !complete;
                    self.scores.clear();
                    self.close(if complete { ItemStatus::Completed } else { ItemStatus::Incomplete });
                }
            }
        }
        if let Some(end) = delta.end {
            self.end = end;
        }
    }

    /// Keeps the scores of tokens that aren't reasoning until their text comes.
    fn score(&mut self, delta: &Delta) {
        let reasoning = delta.reasoning_tokens.saturating_sub(self.reasoning_tokens);
        self.reasoning_tokens = delta.reasoning_tokens;
        if self.show.logprobs && self.open != Some(Kind::Call) {
            let scored = delta.logprobs.get(reasoning..).unwrap_or_default();
            let format = TokenFormat { ids: false, as_ids: false };
            self.scores.extend(token_logprobs(scored, format).map(|token| json!(token)));
        }
    }

    fn text(&mut self, text: &str) {
        let blank = text.trim().is_empty();
        self.held.push_str(text);
        if self.open == Some(Kind::Message) || !blank {
            self.say_held();
        }
    }

    fn say_held(&mut self) {
        let more = std::mem::take(&mut self.held);
        self.enter(Kind::Message);
        let scores = std::mem::take(&mut self.scores);
        let index = self.index();
        let Some(Item::Message(message)) = self.response.output.last_mut() else { return };
        let Some(Part::OutputText { text, logprobs, .. }) = message.content.last_mut() else { return };
        text.push_str(&more);
        let of = OfDelta { at: At::content(&message.id, index), delta: &more, logprobs: Some(&scores) };
        self.events.add("response.output_text.delta", &of);
        logprobs.extend(scores);
    }

    fn reasoning(&mut self, more: &str) {
        self.enter(Kind::Reasoning);
        let index = self.index();
        let Some(Item::Reasoning(item)) = self.response.output.last_mut() else { return };
        if let Some(Part::SummaryText { text }) = item.summary.last_mut() {
            text.push_str(more);
            let of = OfDelta { at: At::summary(&item.id, index), delta: more, logprobs: None };
            self.events.add("response.reasoning_summary_text.delta", &of);
        }
        if let Some(Part::ReasoningText { text }) = item.content.last_mut() {
            text.push_str(more);
            let of = OfDelta { at: At::content(&item.id, index), delta: more, logprobs: None };
            self.events.add("response.reasoning_text.delta", &of);
        }
    }

    fn call(&mut self, call_id: String, name: String) {
        self.scores.clear();
        let (namespace, name) = match self.namespaces.get(&name) {
            Some((namespace, name)) => (Some(namespace.clone()), name.clone()),
            None => (None, name),
        };
        self.begin_item(Kind::Call, |id| {
            let (status, arguments) = (ItemStatus::InProgress, String::new());
            Item::FunctionCall(FunctionCall { id, status, call_id, namespace, name, arguments })
        });
    }

    fn arguments(&mut self, delta: &str) {
        let index = self.index();
        let Some(Item::FunctionCall(call)) = self.response.output.last_mut() else { return };
        call.arguments.push_str(delta);
        let of = OfDelta { at: At::item(&call.id, index), delta, logprobs: None };
        self.events.add("response.function_call_arguments.delta", &of);
    }

    /// Goes on with an open message or reasoning, or begins one.
    fn enter(&mut self, kind: Kind) {
        if self.open == Some(kind) {
            return;
        }
        let summary = self.show.summary;
        self.begin_item(kind, |id| match kind {
            Kind::Reasoning => Item::Reasoning(Reasoning {
                id,
                status: ItemStatus::InProgress,
                summary: Vec::new(),
                content: Vec::new(),
                encrypted_content: None,
            }),
            _ => Item::Message(Message {
                id,
                status: ItemStatus::InProgress,
                role: Role::Assistant,
                content: Vec::new(),
            }),
        });
        let index = self.index();
        match self.response.output.last_mut() {
            Some(Item::Reasoning(item)) => {
                if summary {
                    let part = Part::SummaryText { text: String::new() };
                    let of = OfPart { at: At::summary(&item.id, index), part: &part };
                    self.events.add("response.reasoning_summary_part.added", &of);
                    item.summary.push(part);
                }
                let part = Part::ReasoningText { text: String::new() };
                self.events.add(
                    "response.content_part.added",
                    &OfPart { at: At::content(&item.id, index), part: &part },
                );
                item.content.push(part);
            }
            Some(Item::Message(item)) => {
                let part = Part::output_text(String::new());
                self.events.add(
                    "response.content_part.added",
                    &OfPart { at: At::content(&item.id, index), part: &part },
                );
                item.content.push(part);
            }
            _ => {}
        }
    }

    /// Ends what is open and begins an item.
    fn begin_item(&mut self, kind: Kind, item: impl FnOnce(String) -> Item) {
        self.close(ItemStatus::Completed);
        self.held.clear();
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
            Kind::Call => "fc",
        };
        let output_index = self.response.output.len();
        let item = item(self.id.output(prefix, output_index));
        self.events.add("response.output_item.added", &OfItem { output_index, item: &item });
        self.response.output.push(item);
        self.open = Some(kind);
    }

    /// Ends the open item.
    pub(super) fn close(&mut self, status: ItemStatus) {
        if self.open.take().is_none() {
            return;
        }
        let output_index = self.index();
        let Some(item) = self.response.output.last_mut() else { return };
        match item {
            Item::Message(message) => {
                message.status = status;
                end_parts(&mut self.events, &message.id, output_index, &message.content);
            }
            Item::Reasoning(reasoning) => {
                reasoning.status = status;
                end_parts(&mut self.events, &reasoning.id, output_index, &reasoning.summary);
                end_parts(&mut self.events, &reasoning.id, output_index, &reasoning.content);
                if self.show.encrypted {
                    let text = reasoning.content.iter().map(Part::text).collect::<String>();
                    reasoning.encrypted_content = Some(seal(&text));
                }
            }
            Item::FunctionCall(call) => {
                call.status = status;
                let FunctionCall { id, name, arguments, .. } = call;
                let of = OfArguments { at: At::item(id, output_index), name, arguments };
                self.events.add("response.function_call_arguments.done", &of);
            }
            // Answers hold none of the first, and the others are never open.
            _ => {}
        }
        self.events.add("response.output_item.done", &OfItem { output_index, item });
    }

    fn done(&mut self, usage: &Usage, now: u64) {
        // White space is shown after all if it is the whole answer.
        if self.response.output.is_empty() && !self.held.is_empty() {
            self.say_held();
        }
        let (status, event) = match self.end.reason {
            // Clients take a completed answer as leave to run all of its calls.
            EndReason::Stop if !self.broken => (Status::Completed, "response.completed"),
            EndReason::Stop | EndReason::Length => (Status::Incomplete, "response.incomplete"),
            EndReason::Abort => (Status::Cancelled, "response.incomplete"),
        };
        let completed = status == Status::Completed;
        self.close(if completed { ItemStatus::Completed } else { ItemStatus::Incomplete });
        self.close_server_calls();
        self.response.status = status;
        self.response.completed_at = completed.then_some(now);
        self.response.incomplete_details =
            (status == Status::Incomplete).then(|| json!({"reason": "max_output_tokens"}));
        self.response.usage = Some(UsageBody {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens: self.reasoning_tokens },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        });
        self.tell(event);
    }

    fn fail(&mut self, error: &ApiError) {
        self.close(ItemStatus::Incomplete);
        self.close_server_calls();
        self.response.status = Status::Failed;
        self.response.error = Some(error_value(error));
        self.tell("response.failed");
    }

    fn tell(&mut self, event: &'static str) {
        self.events.add(event, &OfResponse { response: &self.response });
    }

    /// Of the open item.
    fn index(&self) -> usize {
        self.response.output.len().saturating_sub(1)
    }
}

/// Tells that the parts of an item are whole.
fn end_parts(events: &mut Events, id: &str, index: usize, parts: &[Part]) {
    for part in parts {
        let (text_done, part_done, at) = match part {
            Part::SummaryText { .. } => (
                "response.reasoning_summary_text.done",
                "response.reasoning_summary_part.done",
                At::summary(id, index),
            ),
            Part::ReasoningText { .. } => {
                ("response.reasoning_text.done", "response.content_part.done", At::content(id, index))
            }
            _ => ("response.output_text.done", "response.content_part.done", At::content(id, index)),
        };
        let logprobs = match part {
            Part::OutputText { logprobs, .. } => Some(logprobs.as_slice()),
            _ => None,
        };
        events.add(text_done, &OfText { at, text: part.text(), logprobs });
        events.add(part_done, &OfPart { at, part });
    }
}
