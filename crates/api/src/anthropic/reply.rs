//! Pieces of an answer to content blocks.

use millrace_types::Usage;

use super::{
    ids, partial,
    types::{BlockDelta, ContentBlock, EndBody, OutputTokensDetails, UsageBody},
};
use crate::{CallApproval, End, EndReason, Part, ServerCall, ServerCallNews, StopCause};

/// The `signature` of every thinking block. Nothing is signed: thinking that comes back is believed.
pub(super) const SIGNATURE: &str = "millrace";

/// What happens to the blocks of an answer. One is open at a time, and they are numbered from 0.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A block begins; its text, thinking or input is empty.
    Open(usize, ContentBlock),
    /// More of the open block.
    Grow(usize, BlockDelta),
    /// It ends.
    Close(usize),
}

/// Puts pieces into blocks as they come.
#[derive(Debug)]
pub(super) struct Blocks {
    show_thinking: bool,
    /// Blocks begun so far.
    count: usize,
    open: Option<Kind>,
    /// White space that may be the beginning of a text block. Between other blocks it is the model's layout: a block
    /// of nothing else would be refused when it is sent back.
    held: String,
    /// Whether a call came to its end.
    called: bool,
    /// Whether the server has run a call.
    ran: bool,
    /// Ids of the server's calls.
    server_calls: Vec<String>,
    /// Whether a call did not: the model ended its answer, or went on with something else, inside of it.
    broken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Tool,
    ServerTool,
}

/// The id of a call that the server runs, as clients know such ids.
fn server_call_id(id: String) -> String {
    format!("mcptoolu_{}", ids::escape(id))
}

impl Blocks {
    pub(super) fn new(show_thinking: bool) -> Self {
        Self {
            show_thinking,
            count: 0,
            open: None,
            held: String::new(),
            called: false,
            ran: false,
            server_calls: Vec::new(),
            broken: false,
        }
    }

    /// Takes the next piece.
    pub(super) fn push(&mut self, part: Part, steps: &mut Vec<Step>) {
        match part {
            Part::Text(text) => self.push_text(&text, steps),
            Part::Reasoning(thinking) => {
                let empty = ContentBlock::Thinking { thinking: String::new(), signature: "" };
                self.enter(Kind::Thinking, empty, steps);
                if self.show_thinking {
                    steps.push(self.grow(BlockDelta::Thinking { thinking }));
                }
            }
            Part::ToolCall { id, name, .. } => {
                // Two calls in a row are two blocks.
                self.close(steps);
                let (id, input) = (ids::escape(id), serde_json::Map::new());
                self.enter(Kind::Tool, ContentBlock::ToolUse { id, name, input }, steps);
            }
            Part::ToolArguments { delta, .. } => {
                steps.push(self.grow(BlockDelta::InputJson { partial_json: delta }));
            }
            Part::ToolCallEnd { complete, .. } => {
                self.called |= complete;
                self.broken |= !complete;
                self.close(steps);
            }
        }
    }

    /// Takes news of a call that the server runs.
    pub(super) fn push_server_call(&mut self, news: ServerCallNews, steps: &mut Vec<Step>) {
        match news {
            ServerCallNews::Listed { .. } => {}
            ServerCallNews::Begin { id, server, own_name, .. } => {
                self.close(steps);
                let id = server_call_id(id);
                self.server_calls.push(id.clone());
                let input = serde_json::Map::new();
                let block = ContentBlock::McpToolUse { id, name: own_name, server_name: server, input };
                self.enter(Kind::ServerTool, block, steps);
            }
            ServerCallNews::Arguments { delta, .. } => {
                if self.open == Some(Kind::ServerTool) {
                    steps.push(self.grow(BlockDelta::InputJson { partial_json: delta }));
                }
            }
            ServerCallNews::Complete { .. } => self.close(steps),
            ServerCallNews::Result { index, output, is_error } => {
                self.close(steps);
                self.ran = true;
                let tool_use_id = self.server_calls.get(index).cloned().unwrap_or_default();
                let content = vec![ContentBlock::Text { text: output }];
                let block = ContentBlock::McpToolResult { tool_use_id, is_error, content };
                self.enter(Kind::ServerTool, block, steps);
                self.close(steps);
            }
        }
    }

    /// Ends the last block. White space is shown after all if it is the whole answer.
    pub(super) fn finish(&mut self, steps: &mut Vec<Step>) {
        if self.count == 0 && !self.held.is_empty() {
            self.show_held(steps);
        }
        self.close(steps);
    }

    fn push_text(&mut self, text: &str, steps: &mut Vec<Step>) {
        // What is held already is blank, and may be long.
        let blank = text.trim().is_empty();
        self.held.push_str(text);
        if self.open == Some(Kind::Text) || !blank {
            self.show_held(steps);
        }
    }

    fn show_held(&mut self, steps: &mut Vec<Step>) {
        let text = std::mem::take(&mut self.held);
        self.enter(Kind::Text, ContentBlock::Text { text: String::new() }, steps);
        if !text.is_empty() {
            steps.push(self.grow(BlockDelta::Text { text }));
        }
    }

    /// Goes on with an open block of this kind, or begins `empty`.
    fn enter(&mut self, kind: Kind, empty: ContentBlock, steps: &mut Vec<Step>) {
        if self.open == Some(kind) {
            return;
        }
        self.close(steps);
        self.held.clear();
        steps.push(Step::Open(self.count, empty));
        self.count += 1;
        self.open = Some(kind);
    }

    fn grow(&self, delta: BlockDelta) -> Step {
        Step::Grow(self.count.saturating_sub(1), delta)
    }

    fn close(&mut self, steps: &mut Vec<Step>) {
        let Some(kind) = self.open.take() else { return };
        if kind == Kind::Thinking {
            steps.push(self.grow(BlockDelta::Signature { signature: SIGNATURE }));
        }
        steps.push(Step::Close(self.count.saturating_sub(1)));
    }

    /// `stop_reason` and `stop_sequence`. `asked` is `max_tokens`.
    pub(super) fn end(&self, end: &End, asked: usize, usage: &Usage) -> EndBody {
        let reason = |stop_reason| EndBody { stop_reason: Some(stop_reason), stop_sequence: None };
        match (end.reason, &end.stop) {
            (EndReason::Stop, Some(StopCause::Text(text))) => {
                EndBody { stop_sequence: Some(text.clone()), ..reason("stop_sequence") }
            }
            // Clients take the other reasons of an answer that ended by itself as leave to run all of its calls.
            (EndReason::Stop, _) if self.broken => reason("max_tokens"),
            (EndReason::Stop, _) if self.called => reason("tool_use"),
            (EndReason::Stop, _) => reason("end_turn"),
            // A limit on the calls that the server runs: the client may send all back, and the model goes on.
            (EndReason::Length, _) if usage.completion_tokens < asked && self.ran => reason("pause_turn"),
            (EndReason::Length, _) if usage.completion_tokens < asked => {
                reason("model_context_window_exceeded")
            }
            (EndReason::Length, _) => reason("max_tokens"),
            // Cancelled: what is there may be sent back to go on with.
            (EndReason::Abort, _) => reason("pause_turn"),
        }
    }
}

/// All blocks of a whole answer, and its end.
pub(super) fn whole(
    parts: Vec<Part>,
    server_calls: Vec<ServerCall>,
    show_thinking: bool,
    end: &End,
    asked: usize,
    usage: &Usage,
) -> (Vec<ContentBlock>, EndBody) {
    let mut blocks = Blocks::new(show_thinking);
    let mut steps = Vec::new();
    let mut calls = rounds(server_calls).into_iter().peekable();
    for (place, part) in parts.into_iter().enumerate() {
        while let Some((_, news)) = calls.next_if(|(after, _)| *after <= place) {
            blocks.push_server_call(news, &mut steps);
        }
        blocks.push(part, &mut steps);
    }
    calls.for_each(|(_, news)| blocks.push_server_call(news, &mut steps));
    blocks.finish(&mut steps);
    (fold(steps), blocks.end(end, asked, usage))
}

/// The news of whole calls, as they came: the calls of a round, then their results; each with how many parts of the answer
/// came before it.
fn rounds(calls: Vec<ServerCall>) -> Vec<(usize, ServerCallNews)> {
    let mut news = Vec::new();
    let mut results: Vec<(usize, ServerCallNews)> = Vec::new();
    let mut round = 0;
    for (index, call) in calls.into_iter().enumerate() {
        if call.round != round {
            news.append(&mut results);
            round = call.round;
        }
        let after = call.after_parts;
        let begin = ServerCallNews::Begin {
            index,
            id: call.id,
            server: call.server,
            name: call.name,
            own_name: call.own_name,
            approval: CallApproval::NotNeeded,
        };
        news.push((after, begin));
        news.push((after, ServerCallNews::Arguments { index, delta: call.arguments }));
        news.push((after, ServerCallNews::Complete { index }));
        if let Some(output) = call.output {
            results.push((after, ServerCallNews::Result { index, output, is_error: call.is_error }));
        }
    }
    news.extend(results);
    news
}

/// What a client makes of the steps.
fn fold(steps: Vec<Step>) -> Vec<ContentBlock> {
    let mut content: Vec<ContentBlock> = Vec::new();
    let mut json = String::new();
    for step in steps {
        match (step, content.last_mut()) {
            (Step::Open(_, block), _) => content.push(block),
            (Step::Grow(_, BlockDelta::Text { text: more }), Some(ContentBlock::Text { text })) => {
                text.push_str(&more);
            }
            (
                Step::Grow(_, BlockDelta::Thinking { thinking: more }),
                Some(ContentBlock::Thinking { thinking, .. }),
            ) => thinking.push_str(&more),
            (
                Step::Grow(_, BlockDelta::Signature { signature: whole }),
                Some(ContentBlock::Thinking { signature, .. }),
            ) => *signature = whole,
            (Step::Grow(_, BlockDelta::InputJson { partial_json }), _) => json.push_str(&partial_json),
            (
                Step::Close(_),
                Some(ContentBlock::ToolUse { input, .. } | ContentBlock::McpToolUse { input, .. }),
            ) => {
                *input = partial::object(&std::mem::take(&mut json));
            }
            _ => {}
        }
    }
    content
}

/// `usage`. Of the prompt's computed tokens `stored` are cached now.
pub(super) fn usage_body(usage: &Usage, stored: usize, thinking_tokens: usize) -> UsageBody {
    let computed = usage.prompt_tokens.saturating_sub(usage.cached_tokens);
    UsageBody {
        input_tokens: computed.saturating_sub(stored),
        cache_creation_input_tokens: stored.min(computed),
        cache_read_input_tokens: usage.cached_tokens,
        output_tokens: usage.completion_tokens,
        output_tokens_details: OutputTokensDetails { thinking_tokens },
    }
}
