//! An engine that follows a script: what it samples is decided by the test.

use std::{collections::HashMap, sync::Arc};

use millrace_engine::{Command, EngineHandle, EngineInfo, EnginePort, Inspection, RequestState, channel};
use millrace_types::{
    Finish, FinishReason, Request, RequestId, RequestOutput, TokenId, TokenLogprobs, Usage,
};
use tokio::{
    select,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::tokenizer::EOS;

/// What becomes of a request.
pub(crate) enum Plan {
    /// Tokens in chunks; then the end of sequence, unless `max_tokens` or a stop token comes first.
    Say(Vec<Vec<TokenId>>),
    /// Tokens, then an engine error.
    Fail(Vec<TokenId>, &'static str),
    /// The row of a text.
    Pool(Vec<f32>),
    /// Admitted, then nothing until the test says so.
    Hold,
    /// Not even admitted.
    Queue,
}

impl Plan {
    /// One byte per step.
    pub(crate) fn say(text: &str) -> Self {
        Self::Say(text.bytes().map(|b| vec![TokenId::from(b)]).collect())
    }

    /// All bytes in one step, as with speculation.
    pub(crate) fn say_at_once(text: &str) -> Self {
        Self::Say(vec![text.bytes().map(TokenId::from).collect()])
    }
}

/// What the engine saw.
#[derive(Debug)]
pub(crate) enum Seen {
    Submitted(Arc<Request>),
    Aborted(RequestId),
    Draining,
    Shutdown,
}

/// The test's side.
pub(crate) struct MockEngine {
    pub(crate) seen: UnboundedReceiver<Seen>,
    control: UnboundedSender<Control>,
}

enum Control {
    Output(RequestId, RequestOutput),
    Die,
}

impl MockEngine {
    /// The next submitted request.
    pub(crate) async fn submitted(&mut self) -> Arc<Request> {
        loop {
            if let Seen::Submitted(request) = self.seen.recv().await.expect("the engine is gone") {
                return request;
            }
        }
    }

    /// The next aborted one.
    pub(crate) async fn aborted(&mut self) -> RequestId {
        loop {
            if let Seen::Aborted(id) = self.seen.recv().await.expect("the engine is gone") {
                return id;
            }
        }
    }

    /// Lets a held request say something.
    pub(crate) fn say(&self, id: RequestId, text: &str) {
        let tokens: Vec<TokenId> = text.bytes().map(TokenId::from).collect();
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: tokens.len() };
        self.send(id, RequestOutput { tokens, usage, ..RequestOutput::default() });
    }

    /// Ends a held request.
    pub(crate) fn finish(&self, id: RequestId, reason: FinishReason) {
        self.send(id, ending(reason, None));
    }

    /// The engine thread ends without a word.
    pub(crate) fn die(&self) {
        self.control.send(Control::Die).unwrap();
    }

    fn send(&self, id: RequestId, output: RequestOutput) {
        self.control.send(Control::Output(id, output)).unwrap();
    }
}

/// Starts a scripted engine on the runtime.
pub(crate) fn start(
    info: EngineInfo,
    script: impl Fn(&Request) -> Plan + Send + 'static,
) -> (EngineHandle, MockEngine) {
    let (handle, port) = channel(info);
    let (seen_tx, seen) = unbounded_channel();
    let (control, commands) = unbounded_channel();
    tokio::spawn(run(port, script, seen_tx, commands));
    (handle, MockEngine { seen, control })
}

async fn run(
    mut port: EnginePort,
    script: impl Fn(&Request) -> Plan + Send + 'static,
    seen: UnboundedSender<Seen>,
    mut control: UnboundedReceiver<Control>,
) {
    let mut held: HashMap<RequestId, UnboundedSender<RequestOutput>> = HashMap::new();
    let mut draining = false;
    loop {
        if draining && held.is_empty() {
            return;
        }
        select! {
            command = port.commands.recv() => match command {
                Some(Command::Submit(request, outputs)) => {
                    let plan = script(&request);
                    let request = Arc::new(*request);
                    if !matches!(plan, Plan::Queue) {
                        port.queued.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
                    }
                    if matches!(plan, Plan::Hold | Plan::Queue) {
                        expire(&request, &outputs, matches!(plan, Plan::Queue));
                        held.insert(request.id, outputs);
                    } else {
                        perform(&request, plan, &outputs);
                    }
                    let _ = seen.send(Seen::Submitted(request));
                }
                Some(Command::Abort(id)) => {
                    if let Some(outputs) = held.remove(&id) {
                        let _ = outputs.send(ending(FinishReason::Abort, None));
                    }
                    let _ = seen.send(Seen::Aborted(id));
                }
                Some(Command::Inspect(reply)) => {
                    let _ = reply.send(inspection(&held));
                }
                Some(Command::DropCache(reply)) => {
                    let _ = reply.send(7);
                }
                Some(Command::Drain) => {
                    draining = true;
                    let _ = seen.send(Seen::Draining);
                }
                Some(Command::Shutdown) | None => {
                    for outputs in held.into_values() {
                        let _ = outputs.send(ending(FinishReason::Abort, None));
                    }
                    let _ = seen.send(Seen::Shutdown);
                    return;
                }
            },
            order = control.recv() => match order {
                Some(Control::Output(id, output)) => {
                    let last = output.finish.is_some();
                    if let Some(outputs) = held.get(&id) {
                        let _ = outputs.send(output);
                    }
                    if last {
                        held.remove(&id);
                    }
                }
                Some(Control::Die) | None => return,
            },
        }
    }
}

/// Held requests, of which all run.
fn inspection(held: &HashMap<RequestId, UnboundedSender<RequestOutput>>) -> Inspection {
    let state = |id: &RequestId| RequestState {
        id: *id,
        running: true,
        prompt_tokens: 1,
        cached_tokens: 0,
        computed_tokens: 1,
        generated_tokens: 2,
        preemptions: 0,
    };
    Inspection { requests: held.keys().map(state).collect(), cached_blocks: 0 }
}

/// Ends a held request when its deadline passes, or when it is still queued too late, as the real engine does.
fn expire(request: &Request, outputs: &UnboundedSender<RequestOutput>, queued: bool) {
    let end = |at: std::time::Instant, error: Option<String>| {
        let outputs = outputs.clone();
        tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let _ = outputs.send(RequestOutput { error, ..ending(FinishReason::Timeout, None) });
        });
    };
    if let Some(deadline) = request.deadline {
        end(deadline, None);
    }
    if let Some(start_by) = request.start_by.filter(|_| queued) {
        end(start_by, Some("The request waited too long for its turn.".into()));
    }
}

fn perform(request: &Request, plan: Plan, outputs: &UnboundedSender<RequestOutput>) {
    let mut run = Run::new(request);
    match plan {
        Plan::Fail(tokens, message) => {
            let _ = outputs.send(run.step(&tokens));
            let error = Some(message.to_owned());
            let _ = outputs.send(RequestOutput { error, ..ending(FinishReason::Error, None) });
        }
        Plan::Say(steps) => {
            for step in steps.into_iter().chain([vec![EOS]]) {
                let output = run.step(&step);
                let last = output.finish.is_some();
                let _ = outputs.send(output);
                if last {
                    return;
                }
            }
        }
        Plan::Pool(pooled) => {
            let output = RequestOutput { pooled, usage: run.usage, ..ending(FinishReason::Stop, None) };
            let _ = outputs.send(output);
        }
        Plan::Hold | Plan::Queue => unreachable!("held requests are not performed"),
    }
}

/// Counts, limits and scores of one scripted request.
struct Run<'a> {
    request: &'a Request,
    usage: Usage,
    first: bool,
}

impl<'a> Run<'a> {
    fn new(request: &'a Request) -> Self {
        let usage = Usage { prompt_tokens: request.prompt.len(), cached_tokens: 1, completion_tokens: 0 };
        Self { request, usage, first: true }
    }

    fn step(&mut self, tokens: &[TokenId]) -> RequestOutput {
        let sampling = &self.request.sampling;
        let mut output = RequestOutput::default();
        if std::mem::take(&mut self.first) {
            output.prompt_logprobs = sampling.prompt_logprobs.map(|count| self.prompt_scores(count));
        }
        if sampling.max_tokens == 0 {
            output.finish = Some(Finish { reason: FinishReason::Length, stop_token: None });
        }
        for token in tokens {
            if output.finish.is_some() {
                break;
            }
            self.usage.completion_tokens += 1;
            output.tokens.push(*token);
            output.logprobs.extend(sampling.logprobs.map(|count| score(*token, count)));
            output.finish = self.finish(*token);
        }
        output.usage = self.usage;
        output
    }

    fn finish(&self, token: TokenId) -> Option<Finish> {
        let sampling = &self.request.sampling;
        let finish = |reason, stop_token| Some(Finish { reason, stop_token });
        if sampling.eos_token_ids.contains(&token) {
            finish(FinishReason::Stop, None)
        } else if sampling.stop_token_ids.contains(&token) {
            finish(FinishReason::Stop, Some(token))
        } else if self.usage.completion_tokens >= sampling.max_tokens {
            finish(FinishReason::Length, None)
        } else {
            None
        }
    }

    fn prompt_scores(&self, count: usize) -> Vec<Option<TokenLogprobs>> {
        let scored = self.request.prompt.iter().skip(1).map(|token| Some(score(*token, count)));
        [None].into_iter().chain(scored).collect()
    }
}

/// The token is the second best; `!` always leads.
fn score(token: TokenId, count: usize) -> TokenLogprobs {
    let top = [(TokenId::from(b'!'), -0.25), (token, -1.5), (TokenId::from(b'?'), -2.0)];
    TokenLogprobs { token, logprob: -1.5, rank: 2, top: top.into_iter().take(count).collect() }
}

fn ending(reason: FinishReason, stop_token: Option<TokenId>) -> RequestOutput {
    RequestOutput { finish: Some(Finish { reason, stop_token }), ..RequestOutput::default() }
}
