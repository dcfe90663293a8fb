//! Answers from a running server, Millrace or any other with OpenAI's API.

use std::io::{BufRead, BufReader, Read};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use millrace_api::Part;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, Receiver, Sender};
use ureq::{Agent, Body, http};

use super::answer::Piece;
use crate::args::{PromptArgs, Thinking};

/// Longest line of a stream and longest error body, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// Pieces that wait for the terminal; a stream that is faster is read more slowly.
const BUFFER: usize = 256;

/// A server and the model to ask there.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    /// Ends before `/v1`.
    base: String,
    api_key: Option<String>,
    pub(super) model: String,
}

/// An answer that a thread reads. Dropping it closes its connection, which ends the request.
pub(super) struct RemoteAnswer {
    pieces: Receiver<Piece>,
    /// Of this answer alone: it can only close all of its connections together.
    agent: Agent,
}

impl RemoteAnswer {
    /// The next piece.
    pub(super) async fn next(&mut self) -> Option<Piece> {
        self.pieces.recv().await
    }
}

impl Drop for RemoteAnswer {
    fn drop(&mut self) {
        // Also wakes the thread, which may be waiting for a server that says nothing.
        self.agent.clone().shutdown();
    }
}

impl Remote {
    /// Connects; without a model's name, takes the first that the server lists.
    pub(super) fn connect(url: &str, api_key: Option<&str>, model: Option<&str>) -> Result<Self> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            bail!("--url must begin with http:// or https://, such as http://127.0.0.1:8000");
        }
        let mut remote = Self { base, api_key: api_key.map(str::to_owned), model: String::new() };
        remote.model = match model {
            Some(model) => model.to_owned(),
            None => remote.first_model()?,
        };
        Ok(remote)
    }

    /// Asks for an answer.
    pub(super) fn ask(&self, messages: &[Value], prompting: &PromptArgs, seed: Option<u64>) -> RemoteAnswer {
        let (sender, pieces) = mpsc::channel(BUFFER);
        let (remote, body) = (self.clone(), self.body(messages, prompting, seed).to_string());
        let answer = RemoteAnswer { pieces, agent: new_agent() };
        let agent = answer.agent.clone();
        std::thread::spawn(move || {
            let last = match remote.stream(&agent, body, &sender) {
                Ok(reason) => Piece::End(reason),
                Err(error) => Piece::Failed(crate::one_sentence(&error)),
            };
            // Nobody listens any more: the answer was stopped.
            let _ = sender.blocking_send(last);
        });
        answer
    }

    fn body(&self, messages: &[Value], prompting: &PromptArgs, seed: Option<u64>) -> Value {
        let mut body = json!({"model": self.model, "messages": messages, "stream": true});
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                body[key] = value;
            }
        };
        set("temperature", prompting.temperature.map(Value::from));
        set("top_p", prompting.top_p.map(Value::from));
        set("max_tokens", prompting.max_tokens.map(Value::from));
        set("seed", seed.map(Value::from));
        let thinking = (prompting.thinking != Thinking::Auto).then_some(prompting.thinking == Thinking::On);
        set("chat_template_kwargs", thinking.map(|on| json!({"enable_thinking": on})));
        body
    }

    /// Sends the pieces of a stream; returns its finish reason.
    fn stream(&self, agent: &Agent, body: String, pieces: &Sender<Piece>) -> Result<String> {
        let request = self.authorized(http::Request::post(self.url("/v1/chat/completions")));
        let request = request.header("content-type", "application/json").body(body)?;
        let response = agent.run(request).with_context(|| self.unreachable())?;
        let mut reader = BufReader::new(checked(response)?.into_body().into_reader());
        let (mut reason, mut calls) = (String::new(), Calls::default());
        while let Some(data) = next_data(&mut reader)? {
            if data == "[DONE]" {
                return Ok(reason);
            }
            let chunk: Value =
                serde_json::from_str(&data).context("the server's stream is not valid JSON")?;
            if let Some(message) = error_message(&chunk) {
                bail!("{message}");
            }
            let choice = &chunk["choices"][0];
            for part in calls.parts(choice) {
                if pieces.blocking_send(Piece::Part(part)).is_err() {
                    return Ok(reason);
                }
            }
            if let Some(why) = choice["finish_reason"].as_str() {
                reason = why.to_owned();
            }
        }
        bail!("the server's stream ended in the middle of the answer")
    }

    fn first_model(&self) -> Result<String> {
        let request = self.authorized(http::Request::get(self.url("/v1/models"))).body(())?;
        let response = new_agent().run(request).with_context(|| self.unreachable())?;
        let list = read_json(checked(response)?.into_body())?;
        let id = list["data"][0]["id"].as_str().map(str::to_owned);
        id.ok_or_else(|| anyhow!("{} lists no models; name one", self.base))
    }

    fn authorized(&self, request: http::request::Builder) -> http::request::Builder {
        match &self.api_key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn unreachable(&self) -> String {
        format!("the server at {} cannot be reached", self.base)
    }
}

/// What a server's chunks say, as parts.
#[derive(Debug, Default)]
struct Calls {
    /// The call under way.
    open: Option<u64>,
}

impl Calls {
    /// The parts of one chunk's choice. A server says when a call begins and never when it ends: the next thing ends it,
    /// or the answer's end. That it was cut off there can only be told from the reason.
    fn parts(&mut self, choice: &Value) -> Vec<Part> {
        let (mut parts, delta) = (Vec::new(), &choice["delta"]);
        let text = |key: &str| delta[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        // Servers have one of these names for it, or both.
        parts.extend(text("reasoning_content").or_else(|| text("reasoning")).map(Part::Reasoning));
        parts.extend(text("content").map(Part::Text));
        if !parts.is_empty() {
            parts.splice(..0, self.close(true));
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            let number = call["index"].as_u64().unwrap_or_default();
            let index = usize::try_from(number).unwrap_or(usize::MAX);
            let text =
                |pointer: &str| call.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            if self.open != Some(number) {
                parts.extend(self.close(true));
                self.open = Some(number);
                parts.push(Part::ToolCall { index, id: text("/id"), name: text("/function/name") });
            }
            parts.push(Part::ToolArguments { index, delta: text("/function/arguments") });
        }
        if let Some(why) = choice["finish_reason"].as_str() {
            parts.extend(self.close(why == "tool_calls"));
        }
        parts
    }

    /// The end of the call under way, if there is one.
    fn close(&mut self, complete: bool) -> Option<Part> {
        let index = usize::try_from(self.open.take()?).unwrap_or(usize::MAX);
        Some(Part::ToolCallEnd { index, complete })
    }
}

fn new_agent() -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .build()
        .new_agent()
}

/// Turns a refusal into an error with the server's own words.
fn checked(response: http::Response<Body>) -> Result<http::Response<Body>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = read_json(response.into_body()).unwrap_or_default();
    let message = error_message(&body).unwrap_or_else(|| "it gives no reason".into());
    bail!("the server refused with status {}: {message}", status.as_u16())
}

/// The sentence of an error body in OpenAI's shape, or in that of other servers.
fn error_message(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    error.as_str().or_else(|| error["message"].as_str()).map(str::to_owned)
}

fn read_json(body: Body) -> Result<Value> {
    let mut text = Vec::new();
    body.into_reader().take(MAX_TEXT).read_to_end(&mut text).context("the server's answer cannot be read")?;
    serde_json::from_slice(&text).context("the server's answer is not valid JSON")
}

/// The next `data:` of a stream of server-sent events; `None` at its end. Comments and other fields are skipped.
fn next_data(reader: &mut impl BufRead) -> Result<Option<String>> {
    loop {
        let mut line = Vec::new();
        let read = reader.by_ref().take(MAX_TEXT).read_until(b'\n', &mut line);
        let read = read.context("the connection to the server broke")?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == MAX_TEXT {
            bail!("the server's stream has a line of more than {MAX_TEXT} bytes");
        }
        let line = String::from_utf8_lossy(&line);
        if let Some(data) = line.strip_prefix("data:") {
            return Ok(Some(data.trim().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_comments_skipped() {
        let mut stream: &[u8] = b": keep-alive\n\nevent: x\ndata: {\"a\": 1}\r\n\ndata:[DONE]\n\n";
        assert_eq!(next_data(&mut stream).unwrap().as_deref(), Some("{\"a\": 1}"));
        assert_eq!(next_data(&mut stream).unwrap().as_deref(), Some("[DONE]"));
        assert_eq!(next_data(&mut stream).unwrap(), None);
    }

    #[test]
    fn chunks_become_parts() {
        let call = |index: u64, name: Value, arguments: &str| json!({"tool_calls": [{"index": index, "function": {"name": name, "arguments": arguments}}]});
        let deltas = [
            json!({"role": "assistant", "content": ""}),
            json!({"reasoning": "Hm", "reasoning_content": "Hm"}),
            json!({"content": "So:"}),
            call(0, json!("f"), ""),
            call(0, Value::Null, "{}"),
            call(1, json!("g"), "{"),
        ];
        let parts = |finish: &str| {
            let mut calls = Calls::default();
            let mut parts = Vec::new();
            for delta in &deltas {
                parts.extend(calls.parts(&json!({"delta": delta, "finish_reason": null})));
            }
            parts.extend(calls.parts(&json!({"delta": {}, "finish_reason": finish})));
            parts
        };
        let begin = |index, name: &str| Part::ToolCall { index, id: String::new(), name: name.into() };
        let more = |index, delta: &str| Part::ToolArguments { index, delta: delta.into() };
        let end = |index| Part::ToolCallEnd { index, complete: true };
        let mut expected = [
            Part::Reasoning("Hm".into()),
            Part::Text("So:".into()),
            begin(0, "f"),
            more(0, ""),
            more(0, "{}"),
            end(0),
            begin(1, "g"),
            more(1, "{"),
            end(1),
        ];
        assert_eq!(parts("tool_calls"), expected);
        // The last call may lack its end.
        expected[8] = Part::ToolCallEnd { index: 1, complete: false };
        assert_eq!(parts("length"), expected);
    }

    #[test]
    fn errors_of_any_server_are_quoted() {
        assert_eq!(error_message(&json!({"error": {"message": "no"}})).as_deref(), Some("no"));
        assert_eq!(error_message(&json!({"error": "no"})).as_deref(), Some("no"));
        assert_eq!(error_message(&json!({"choices": []})), None);
    }

    #[test]
    fn an_address_needs_its_scheme() {
        assert!(
            Remote::connect("localhost:8000", None, Some("m")).unwrap_err().to_string().contains("http://")
        );
        let remote = Remote::connect("http://localhost:8000/v1/", None, Some("m")).unwrap();
        assert_eq!(remote.url("/v1/models"), "http://localhost:8000/v1/models");
    }
}
