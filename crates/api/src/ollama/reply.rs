//! Lines of an answer. A whole answer is its lines put together.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::{ApiError, ChatEvent, Delta, End, EndReason, Part, Scored, TokenText};

/// Makes the lines of one answer.
#[derive(Debug)]
pub struct Lines {
    kind: Kind,
    model: String,
    logprobs: bool,
    /// A call whose arguments are still coming: id, function, JSON text.
    call: Option<(String, String, String)>,
    calls: usize,
    /// When the first token came.
    first: Option<Duration>,
    end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chat,
    Generate,
}

/// When things happened, counted from the arrival of the request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// The model was there after this.
    pub load: Duration,
    /// Now.
    pub now: Duration,
    /// Now, in seconds since 1970.
    pub unix: u64,
}

/// What one line says.
#[derive(Debug, Clone, Default, PartialEq)]
struct Line {
    text: String,
    thinking: String,
    calls: Vec<Value>,
    logprobs: Vec<Value>,
}

impl Lines {
    pub(super) fn chat(model: &str, logprobs: bool) -> Self {
        Self::new(Kind::Chat, model, logprobs)
    }

    pub(super) fn generate(model: &str, logprobs: bool) -> Self {
        Self::new(Kind::Generate, model, logprobs)
    }

    fn new(kind: Kind, model: &str, logprobs: bool) -> Self {
        Self { kind, model: model.to_owned(), logprobs, call: None, calls: 0, first: None, end: None }
    }

    /// The line for an event, if there is something to say.
    pub fn line(&mut self, event: ChatEvent, times: &Times) -> Option<Value> {
        match event {
            ChatEvent::Start(_) => None,
            ChatEvent::Delta(delta) => {
                let line = self.take(*delta, times);
                (line != Line::default()).then(|| self.show(line, times))
            }
            ChatEvent::Done(usage) => {
                let first = self.first.unwrap_or(times.now);
                let reason = self.end.take().map_or("stop", |end| done_reason(end.reason));
                let mut last = self.done(reason, times);
                let more = [
                    ("prompt_eval_count", usage.prompt_tokens as u64),
                    ("prompt_eval_duration", nanos(first.saturating_sub(times.load))),
                    ("eval_count", usage.completion_tokens as u64),
                    ("eval_duration", nanos(times.now.saturating_sub(first))),
                ];
                if let Value::Object(fields) = &mut last {
                    fields.extend(more.map(|(name, value)| (name.to_owned(), value.into())));
                }
                Some(last)
            }
            ChatEvent::Error(error) => Some(super::error_body(&error)),
        }
    }

    /// The only line of a request that generates nothing: `load` or `unload`.
    pub fn done(&self, reason: &str, times: &Times) -> Value {
        let mut last = self.show(Line::default(), times);
        if let Value::Object(fields) = &mut last {
            fields.insert("done".into(), true.into());
            fields.insert("done_reason".into(), reason.into());
            fields.insert("total_duration".into(), nanos(times.now).into());
            fields.insert("load_duration".into(), nanos(times.load).into());
        }
        last
    }

    /// All lines as one answer.
    ///
    /// # Errors
    /// The error that ended the stream.
    pub fn whole(&self, lines: Vec<Value>) -> Result<Value, ApiError> {
        let mut whole = Line::default();
        let mut last = None;
        for line in lines {
            let says = if self.kind == Kind::Chat { &line["message"] } else { &line };
            let text = |name: &str| says[name].as_str().unwrap_or_default();
            whole.text += text(self.text_field());
            whole.thinking += text("thinking");
            whole.calls.extend(says["tool_calls"].as_array().into_iter().flatten().cloned());
            whole.logprobs.extend(line["logprobs"].as_array().into_iter().flatten().cloned());
            last = Some(line);
        }
        let Some(Value::Object(last)) = last.filter(|line| line["done"] == true) else {
            return Err(ApiError::internal("The answer has no end."));
        };
        let mut answer = self.fields(whole, &last["created_at"]);
        for (name, value) in last {
            if name != "message" && name != "response" {
                answer.insert(name, value);
            }
        }
        Ok(Value::Object(answer))
    }

    fn take(&mut self, delta: Delta, times: &Times) -> Line {
        if !delta.token_ids.is_empty() {
            self.first.get_or_insert(times.now);
        }
        if delta.end.is_some() {
            self.end = delta.end;
        }
        let mut line = Line::default();
        for part in delta.parts {
            match part {
                Part::Text(text) => line.text += &text,
                Part::Reasoning(text) => line.thinking += &text,
                Part::ToolCall { id, name, .. } => self.call = Some((id, name, String::new())),
                Part::ToolArguments { delta, .. } => {
                    if let Some((_, _, arguments)) = &mut self.call {
                        arguments.push_str(&delta);
                    }
                }
                // A call that broke off must not be run, and this API has no other way to say so.
                Part::ToolCallEnd { complete, .. } => {
                    let call = self.call.take().filter(|_| complete);
                    line.calls.extend(call.map(|call| self.show_call(call)));
                }
            }
        }
        if self.logprobs {
            line.logprobs = delta.logprobs.iter().map(show_score).collect();
        }
        line
    }

    fn show_call(&mut self, (id, name, arguments): (String, String, String)) -> Value {
        let index = self.calls;
        self.calls += 1;
        let arguments = match serde_json::from_str::<Map<String, Value>>(&arguments) {
            Ok(arguments) => Value::Object(arguments),
            Err(_) => json!({"INVALID_JSON": arguments}),
        };
        json!({"id": id, "function": {"index": index, "name": name, "arguments": arguments}})
    }

    fn show(&self, line: Line, times: &Times) -> Value {
        let created = json!(super::models::rfc3339(times.unix));
        let mut fields = self.fields(line, &created);
        fields.insert("done".into(), false.into());
        Value::Object(fields)
    }

    fn fields(&self, line: Line, created: &Value) -> Map<String, Value> {
        let Line { text, thinking, calls, logprobs } = line;
        let mut says = Map::new();
        if self.kind == Kind::Chat {
            says.insert("role".into(), "assistant".into());
        }
        says.insert(self.text_field().into(), text.into());
        if !thinking.is_empty() {
            says.insert("thinking".into(), thinking.into());
        }
        if !calls.is_empty() {
            says.insert("tool_calls".into(), calls.into());
        }
        let mut fields = Map::new();
        fields.insert("model".into(), self.model.as_str().into());
        fields.insert("created_at".into(), created.clone());
        match self.kind {
            Kind::Chat => drop(fields.insert("message".into(), says.into())),
            Kind::Generate => fields.extend(says),
        }
        if !logprobs.is_empty() {
            fields.insert("logprobs".into(), logprobs.into());
        }
        fields
    }

    fn text_field(&self) -> &'static str {
        match self.kind {
            Kind::Chat => "content",
            Kind::Generate => "response",
        }
    }
}

fn done_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Stop => "stop",
        EndReason::Length => "length",
        EndReason::Abort => "abort",
    }
}

fn show_score(scored: &Scored) -> Value {
    let show = |token: &TokenText, logprob: Option<f32>| json!({"token": token.text(), "logprob": logprob, "bytes": token.bytes});
    let mut shown = show(&scored.token, scored.logprob);
    let top: Vec<Value> = scored.top.iter().map(|(token, logprob)| show(token, Some(*logprob))).collect();
    if !top.is_empty() {
        shown["top_logprobs"] = top.into();
    }
    shown
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use millrace_types::Usage;

    use super::*;

    fn delta(parts: Vec<Part>) -> ChatEvent {
        ChatEvent::Delta(Box::new(Delta { parts, token_ids: vec![1], ..Delta::default() }))
    }

    fn at(millis: u64) -> Times {
        Times { load: Duration::from_millis(1), now: Duration::from_millis(millis), unix: 0 }
    }

    fn events() -> Vec<ChatEvent> {
        let argument = |text: &str| Part::ToolArguments { index: 0, delta: text.into() };
        let end = End { reason: EndReason::Length, stop: None };
        vec![
            delta(vec![Part::Reasoning("hm".into())]),
            delta(vec![
                Part::Text("a".into()),
                Part::ToolCall { index: 0, id: "c".into(), name: "f".into() },
            ]),
            delta(vec![argument("{\"x\":")]),
            delta(vec![
                argument("1}"),
                Part::ToolCallEnd { index: 0, complete: true },
                Part::Text("b".into()),
            ]),
            delta(vec![Part::ToolCall { index: 1, id: "d".into(), name: "g".into() }]),
            delta(vec![Part::ToolCallEnd { index: 1, complete: false }]),
            ChatEvent::Delta(Box::new(Delta { end: Some(end), ..Delta::default() })),
            ChatEvent::Done(Usage { prompt_tokens: 3, cached_tokens: 0, completion_tokens: 6 }),
        ]
    }

    #[test]
    fn a_whole_answer_is_its_lines() {
        for mut lines in [Lines::chat("m", false), Lines::generate("m", false)] {
            let chat = lines.kind == Kind::Chat;
            let steps = events().into_iter().zip((5..).step_by(10));
            let all: Vec<Value> = steps.filter_map(|(event, now)| lines.line(event, &at(now))).collect();
            assert_eq!(all.len(), 4, "{all:?}");
            assert!(all[..3].iter().all(|line| line["done"] == false));
            let whole = lines.whole(all).unwrap();
            let says = if chat { &whole["message"] } else { &whole };
            assert_eq!(says[if chat { "content" } else { "response" }], "ab");
            assert_eq!(says["thinking"], "hm");
            let call = json!({"id": "c", "function": {"index": 0, "name": "f", "arguments": {"x": 1}}});
            assert_eq!(says["tool_calls"], json!([call]));
            assert_eq!((&whole["done"], &whole["done_reason"]), (&json!(true), &json!("length")));
            let figures =
                ["load_duration", "prompt_eval_duration", "eval_duration", "total_duration", "eval_count"];
            let figures = figures.map(|name| whole[name].as_u64().unwrap());
            assert_eq!(figures, [1_000_000, 4_000_000, 70_000_000, 75_000_000, 6]);
        }
    }

    #[test]
    fn an_error_is_a_line_and_no_answer() {
        let mut lines = Lines::chat("m", false);
        let line = lines.line(ChatEvent::Error(ApiError::timeout()), &at(1)).unwrap();
        assert!(line["error"].as_str().unwrap().contains("time limit"));
        assert!(lines.whole(vec![line]).is_err());
    }
}
