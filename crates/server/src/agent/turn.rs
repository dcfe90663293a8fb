//! What the model says in one round, told apart into the client's part and ours.

use millrace_api::{CallApproval, ChatEvent, Delta, End, EndReason, Part, ServerCallNews};
use millrace_mcp::Tool;
use millrace_types::Usage;
use serde_json::{Map, Value, json};

use super::choose::Chosen;

/// What earlier rounds have brought to the answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) usage: Usage,
    pub(super) reasoning_tokens: usize,
    /// Calls that the server runs.
    pub(super) server_calls: usize,
    /// Calls that the client gets.
    pub(super) client_calls: usize,
}

/// One round so far.
#[derive(Debug, Default)]
pub(super) struct Turn {
    text: String,
    reasoning: String,
    calls: Vec<Call>,
    reasoning_tokens: usize,
    end: Option<End>,
}

/// A call of this round.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Its number in the answer, among those of its kind.
    pub(super) index: usize,
    /// `None`: the client's.
    pub(super) tool: Option<Tool>,
    /// The client has to approve it first.
    asked: bool,
    pub(super) id: String,
    /// As the model wrote it.
    name: String,
    pub(super) arguments: String,
    complete: bool,
}

impl Turn {
    /// Takes news of the round; gives the news of the answer, in which nothing ends yet. `ours`: the server runs
    /// the calls of its tools; if not, the client gets them, under their full names.
    pub(super) fn take(
        &mut self,
        delta: Delta,
        chosen: &Chosen,
        ours: bool,
        before: Totals,
    ) -> Vec<ChatEvent> {
        let Delta { parts, end, .. } = &delta;
        self.end = end.clone().or(self.end.take());
        self.reasoning_tokens = delta.reasoning_tokens;
        let parts = parts.clone();
        let mut split = Split::new(delta, before);
        for part in parts {
            match part {
                Part::Text(ref text) => {
                    self.text.push_str(text);
                    split.part(part);
                }
                Part::Reasoning(ref text) => {
                    self.reasoning.push_str(text);
                    split.part(part);
                }
                Part::ToolCall { id, name, .. } => self.begin(id, name, chosen, ours, before, &mut split),
                Part::ToolArguments { index, delta } => {
                    let Some(call) = self.calls.get_mut(index) else { continue };
                    call.arguments.push_str(&delta);
                    match call.tool {
                        Some(_) => split.news(ServerCallNews::Arguments { index: call.index, delta }),
                        None => split.part(Part::ToolArguments { index: call.index, delta }),
                    }
                }
                Part::ToolCallEnd { index, complete } => {
                    let Some(call) = self.calls.get_mut(index) else { continue };
                    call.complete = complete;
                    match call.tool {
                        Some(_) if complete => split.news(ServerCallNews::Complete { index: call.index }),
                        Some(_) => split.news(ServerCallNews::Result {
                            index: call.index,
                            output: "The call broke off and was not run.".into(),
                            is_error: true,
                        }),
                        None => split.part(Part::ToolCallEnd { index: call.index, complete }),
                    }
                }
            }
        }
        split.finish()
    }

    fn begin(
        &mut self,
        id: String,
        name: String,
        chosen: &Chosen,
        ours: bool,
        before: Totals,
        split: &mut Split,
    ) {
        let found = chosen.find(&name).cloned();
        let shown = found.as_ref().map_or_else(|| name.clone(), |tool| tool.name.clone());
        let tool = found.filter(|_| ours);
        let earlier = self.calls.iter().filter(|call| call.tool.is_some() == tool.is_some()).count();
        let index = earlier + if tool.is_some() { before.server_calls } else { before.client_calls };
        let asked = tool.as_ref().is_some_and(|tool| chosen.asks(tool));
        match &tool {
            Some(tool) => split.news(ServerCallNews::Begin {
                index,
                id: id.clone(),
                server: tool.server.clone(),
                name: shown,
                own_name: tool.own_name.clone(),
                approval: if asked { CallApproval::Wanted } else { CallApproval::NotNeeded },
            }),
            None => split.part(Part::ToolCall { index, id: id.clone(), name: shown }),
        }
        self.calls.push(Call { index, tool, asked, id, name, arguments: String::new(), complete: false });
    }

    /// How the round ended, as the engine has it.
    pub(super) fn end(&self) -> End {
        self.end.clone().unwrap_or(End { reason: EndReason::Abort, stop: None })
    }

    /// The calls that the server has to run.
    pub(super) fn to_run(&self) -> Vec<Call> {
        let ended_well = self.end().reason == EndReason::Stop;
        let runs = |call: &&Call| ended_well && call.complete && call.tool.is_some() && !call.asked;
        self.calls.iter().filter(runs).cloned().collect()
    }

    /// Whether the client has to do something before the model can go on.
    pub(super) fn calls_client(&self) -> bool {
        self.calls.iter().any(|call| call.tool.is_none() || call.asked)
    }

    /// The totals after this round, of which `usage` tells all.
    pub(super) fn totals(&self, before: Totals, usage: Usage) -> Totals {
        let ours = self.calls.iter().filter(|call| call.tool.is_some()).count();
        Totals {
            usage: sum(before.usage, usage),
            reasoning_tokens: before.reasoning_tokens + self.reasoning_tokens,
            server_calls: before.server_calls + ours,
            client_calls: before.client_calls + self.calls.len() - ours,
        }
    }

    /// The round as messages of the conversation; `outputs` are the results of [`to_run`](Self::to_run), in order.
    pub(super) fn messages(&self, outputs: &[String]) -> Vec<Value> {
        let run = self.to_run();
        let call = |call: &Call| {
            // In the model's own words: what it said is in the prefix cache.
            let function = json!({"name": call.name, "arguments": call.arguments});
            json!({"id": call.id, "type": "function", "function": function})
        };
        let mut said = json!({"role": "assistant", "content": self.text});
        if !self.reasoning.is_empty() {
            said["reasoning_content"] = self.reasoning.clone().into();
        }
        said["tool_calls"] = run.iter().map(call).collect();
        let result = |(call, output): (&Call, &String)| json!({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": output});
        std::iter::once(said).chain(run.iter().zip(outputs).map(result)).collect()
    }
}

/// Arguments, if they are an object. A call without any has an empty one.
pub(super) fn object(arguments: &str) -> Option<Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(Map::new());
    }
    serde_json::from_str(arguments).ok()
}

/// Counts of two rounds together.
fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        prompt_tokens: a.prompt_tokens + b.prompt_tokens,
        cached_tokens: a.cached_tokens + b.cached_tokens,
        completion_tokens: a.completion_tokens + b.completion_tokens,
    }
}

/// Cuts a delta into deltas that hold either parts or news of calls, in the order in which they were said.
struct Split {
    done: Vec<Delta>,
    open: Delta,
}

impl Split {
    fn new(delta: Delta, before: Totals) -> Self {
        let open = Delta {
            parts: Vec::new(),
            end: None,
            usage: sum(before.usage, delta.usage),
            reasoning_tokens: before.reasoning_tokens + delta.reasoning_tokens,
            ..delta
        };
        Self { done: Vec::new(), open }
    }

    fn part(&mut self, part: Part) {
        if !self.open.server_calls.is_empty() {
            self.cut();
        }
        self.open.parts.push(part);
    }

    fn news(&mut self, news: ServerCallNews) {
        if !self.open.parts.is_empty() {
            self.cut();
        }
        self.open.server_calls.push(news);
    }

    fn cut(&mut self) {
        let next = Delta {
            choice: self.open.choice,
            usage: self.open.usage,
            reasoning_tokens: self.open.reasoning_tokens,
            ..Delta::default()
        };
        self.done.push(std::mem::replace(&mut self.open, next));
    }

    fn finish(mut self) -> Vec<ChatEvent> {
        self.done.push(self.open);
        self.done.into_iter().map(|delta| ChatEvent::Delta(Box::new(delta))).collect()
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
