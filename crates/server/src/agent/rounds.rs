//! The loop: a round of the model, the calls that it makes, and the next round.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, Buffered, Iter, iter, unfold},
};
use millrace_api::{
    ApiError, Approval, ChatEvent, ChatInput, Delta, End, EndReason, GenerationRequest, Input,
    MaxTokensDefault, ServerCallNews, ServerTools, ToolChoice,
};
use tokio::{select, time::timeout};

use super::{
    AgentLimits, Answer, approved,
    choose::{Chosen, choose},
    servers::Servers,
    turn::{Call, Totals, Turn, object},
};
use crate::{Generation, http::App, keys::Caller, service::ActiveGuard};

/// One answer in several rounds. Dropping it aborts what the model says and cancels the calls that run.
struct AgentLoop {
    app: Arc<App>,
    /// Grows by a round's messages.
    request: GenerationRequest,
    servers: Servers,
    chosen: Chosen,
    /// Whether the server runs calls; if not, the client gets them.
    ours: bool,
    rounds_left: usize,
    /// Calls that may still be run.
    calls_left: usize,
    /// What the client is told before the model speaks.
    opening: Vec<ServerCallNews>,
    limits: AgentLimits,
    output_left: usize,
    begin: Instant,
    /// When the request's own time is over.
    deadline: Option<Instant>,
    totals: Totals,
    phase: Phase,
    ready: VecDeque<ChatEvent>,
    guard: ActiveGuard,
    /// For whom the model is asked in later rounds, which run outside of the handler.
    caller: Caller,
}

enum Phase {
    Speaking { generation: Generation, turn: Turn },
    Running { turn: Turn, calls: Vec<Call>, results: Running, outputs: Vec<String> },
    Ended,
}

/// The results of a round's calls, in their order; several run at a time.
type Running = Buffered<Iter<std::vec::IntoIter<BoxFuture<'static, Said>>>>;

/// What a call came to: text for the model, and whether it is an error.
pub(super) type Said = (String, bool);

/// Starts the first round.
///
/// # Errors
/// If the tools can't be had, or the model can't be asked.
pub(super) async fn start(
    app: Arc<App>,
    mut request: GenerationRequest,
    wanted: &ServerTools,
    names: Vec<String>,
) -> Result<Answer, ApiError> {
    if request.options.n != 1 {
        return Err(ApiError::invalid("n", "With `mcp`, a request has one answer: `n` must be 1."));
    }
    let servers = Servers::of(&app, wanted).await?;
    let mut chosen = choose(&servers, wanted, chat(&mut request)?, &app.config.limits)?;
    let begin = Instant::now();
    let time = request.options.time_limit().or(app.config.request_timeout);
    let guard = app.service.enter(names, request.model.as_deref());
    let caller = Caller::current();
    let limits = AgentLimits::default();
    let mut opening = chosen.take_lists();
    let news = approved::run(&servers, &chosen, wanted, chat(&mut request)?, &limits).await;
    let approved = wanted.approved.len();
    opening.extend(news);
    // Its own entry in the table has no names: the guard's has them, for the whole answer.
    let generation = app.service.generate(request.clone(), Vec::new()).await?;
    let model = generation.model().name().to_owned();
    let state = AgentLoop {
        request,
        servers,
        chosen,
        ours: wanted.approval == Approval::Never,
        rounds_left: wanted.max_rounds,
        calls_left: wanted.max_calls.unwrap_or(usize::MAX),
        opening,
        output_left: limits.output_bytes,
        limits,
        begin,
        deadline: time.and_then(|time| begin.checked_add(time)),
        totals: Totals { server_calls: approved, ..Totals::default() },
        phase: Phase::Speaking { generation, turn: Turn::default() },
        ready: VecDeque::new(),
        guard,
        caller,
        app,
    };
    Ok(Answer { model, events: events(state) })
}

fn events(state: AgentLoop) -> BoxStream<'static, ChatEvent> {
    unfold(state, |mut state| async move { Some((state.next().await?, state)) }).boxed()
}

impl AgentLoop {
    async fn next(&mut self) -> Option<ChatEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let cancelled = self.guard.cancelled();
            match std::mem::replace(&mut self.phase, Phase::Ended) {
                Phase::Ended => return None,
                Phase::Speaking { generation, turn } => self.listen(generation, turn).await,
                Phase::Running { turn, calls, results, outputs } => select! {
                    biased;
                    () = cancelled => self.finish(End { reason: EndReason::Abort, stop: None }),
                    () = self.collect(turn, calls, results, outputs) => {}
                },
            }
        }
    }

    /// Takes the next news of the model.
    async fn listen(&mut self, mut generation: Generation, mut turn: Turn) {
        let cancelled = self.guard.cancelled();
        let event = select! {
            biased;
            () = cancelled => return self.finish(End { reason: EndReason::Abort, stop: None }),
            event = generation.next() => event,
        };
        match event {
            Some(ChatEvent::Start(start)) => {
                if self.totals.usage.prompt_tokens == 0 {
                    self.ready.push_back(ChatEvent::Start(start));
                    let server_calls = std::mem::take(&mut self.opening);
                    if !server_calls.is_empty() {
                        let delta = Delta { server_calls, ..self.delta() };
                        self.ready.push_back(ChatEvent::Delta(Box::new(delta)));
                    }
                }
            }
            Some(ChatEvent::Delta(delta)) => {
                self.ready.extend(turn.take(*delta, &self.chosen, self.ours, self.totals));
            }
            Some(ChatEvent::Done(usage)) => {
                self.totals = turn.totals(self.totals, usage);
                return self.act(turn);
            }
            Some(ChatEvent::Error(error)) => return self.ready.push_back(ChatEvent::Error(error)),
            None => {
                let error = ApiError::internal("The answer has no end.");
                return self.ready.push_back(ChatEvent::Error(error));
            }
        }
        self.phase = Phase::Speaking { generation, turn };
    }

    /// The model has spoken: runs its calls, or ends the answer.
    fn act(&mut self, turn: Turn) {
        let calls = turn.to_run();
        if calls.is_empty() {
            return self.finish(turn.end());
        }
        if let Some(limit) = self.limit() {
            for call in &calls {
                self.tell(call, format!("The call was not run: {limit}."), true);
            }
            return self.finish(End { reason: EndReason::Length, stop: None });
        }
        self.rounds_left -= 1;
        let time = self.time_left();
        let running: Vec<BoxFuture<'static, Said>> = calls
            .iter()
            .enumerate()
            .map(|(place, call)| {
                let allowed = place < self.limits.calls_per_round.min(self.calls_left);
                run(self.servers.clone(), call.clone(), time, allowed).boxed()
            })
            .collect();
        self.calls_left = self.calls_left.saturating_sub(calls.len());
        let results = iter(running).buffered(self.limits.concurrent_calls);
        self.phase = Phase::Running { turn, calls, results, outputs: Vec::new() };
    }

    /// Takes the next result; after the last one the model goes on.
    async fn collect(
        &mut self,
        turn: Turn,
        calls: Vec<Call>,
        mut results: Running,
        mut outputs: Vec<String>,
    ) {
        if let Some((output, is_error)) = results.next().await {
            let output = self.within_bounds(output);
            if let Some(call) = calls.get(outputs.len()) {
                self.tell(call, output.clone(), is_error);
            }
            outputs.push(output);
            self.phase = Phase::Running { turn, calls, results, outputs };
            return;
        }
        if turn.calls_client() {
            return self.finish(turn.end());
        }
        match self.next_round(&turn, &outputs).await {
            Ok(Some(generation)) => self.phase = Phase::Speaking { generation, turn: Turn::default() },
            Ok(None) => self.finish(End { reason: EndReason::Length, stop: None }),
            Err(error) => self.ready.push_back(ChatEvent::Error(error)),
        }
    }

    /// Asks the model again, with what it said and got; `None` if it has no tokens left to answer with.
    async fn next_round(&mut self, turn: &Turn, outputs: &[String]) -> Result<Option<Generation>, ApiError> {
        let conversation = chat(&mut self.request)?;
        conversation.messages.extend(turn.messages(outputs));
        if matches!(conversation.tool_choice, ToolChoice::Required | ToolChoice::Named(_)) {
            // It has called; to force it again and again would leave it no word for the answer.
            conversation.tool_choice = ToolChoice::Auto;
        }
        let mut request = self.request.clone();
        let options = &mut request.options;
        let used = i64::try_from(self.totals.usage.completion_tokens).unwrap_or(i64::MAX);
        options.max_tokens = options.max_tokens.map(|most| most - used);
        if options.max_tokens.is_some_and(|left| left <= 0) {
            return Ok(None);
        }
        if let MaxTokensDefault::Fixed(most) = &mut options.max_tokens_default {
            *most = most.saturating_sub(self.totals.usage.completion_tokens);
            if *most == 0 {
                return Ok(None);
            }
        }
        // These were about the first prompt and the first words.
        (options.min_tokens, options.prompt_logprobs) = (0, None);
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ApiError::timeout());
            }
            options.timeout = Some(left.as_secs_f64());
        }
        let generation = self.app.service.generate(request, Vec::new());
        self.caller.clone().scope(generation).await.map(Some)
    }

    /// Which limit forbids further calls.
    fn limit(&self) -> Option<&'static str> {
        if self.rounds_left == 0 {
            Some("the answer has had as many rounds as `mcp.max_rounds` allows")
        } else if self.time_left().is_zero() {
            Some("the time for this answer is over")
        } else if self.output_left == 0 {
            Some("the results of this answer are as large as they may be")
        } else {
            None
        }
    }

    fn time_left(&self) -> Duration {
        let left = self.limits.time.saturating_sub(self.begin.elapsed());
        let deadline = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        deadline.map_or(left, |deadline| deadline.min(left))
    }

    fn within_bounds(&mut self, mut output: String) -> String {
        if output.len() > self.output_left {
            output.truncate(output.floor_char_boundary(self.output_left));
            output.push_str("\n[cut off: the results of this answer are as large as they may be]");
            self.output_left = 0;
        } else {
            self.output_left -= output.len();
        }
        output
    }

    fn tell(&mut self, call: &Call, output: String, is_error: bool) {
        let news = ServerCallNews::Result { index: call.index, output, is_error };
        let delta = Delta { server_calls: vec![news], ..self.delta() };
        self.ready.push_back(ChatEvent::Delta(Box::new(delta)));
    }

    fn finish(&mut self, end: End) {
        let last = Delta { end: Some(end), ..self.delta() };
        self.ready.extend([ChatEvent::Delta(Box::new(last)), ChatEvent::Done(self.totals.usage)]);
    }

    fn delta(&self) -> Delta {
        let Totals { usage, reasoning_tokens, .. } = self.totals;
        Delta { usage, reasoning_tokens, ..Delta::default() }
    }
}

/// Runs one call. Whatever goes wrong is told to the model, which may do better.
async fn run(servers: Servers, call: Call, time: Duration, allowed: bool) -> Said {
    let Some(tool) = &call.tool else { return not_here() };
    if !allowed {
        return ("The call was not run: there were too many.".into(), true);
    }
    run_tool(&servers, &tool.name, &call.arguments, time).await
}

pub(super) fn not_here() -> Said {
    ("The tool is not here.".into(), true)
}

/// Runs a tool by its full name.
pub(super) async fn run_tool(servers: &Servers, name: &str, arguments: &str, time: Duration) -> Said {
    let Some(arguments) = object(arguments) else {
        return ("The call was not run: its arguments are no JSON object.".into(), true);
    };
    match timeout(time, servers.call(name, arguments)).await {
        Ok(Ok(output)) => (output.text, output.is_error),
        Ok(Err(error)) => (format!("The call failed: {error}."), true),
        Err(_) => ("The call was not finished: the time for this answer is over.".into(), true),
    }
}

/// The conversation of a request.
fn chat(request: &mut GenerationRequest) -> Result<&mut ChatInput, ApiError> {
    match &mut request.input {
        Input::Chat(chat) if chat.continue_final_message => {
            let message = "`continue_final_message` and `mcp` don't go together; leave one of them out.";
            Err(ApiError::invalid("continue_final_message", message))
        }
        Input::Chat(chat) => Ok(chat),
        Input::Prompts { .. } => Err(ApiError::internal("Only conversations have tools.")),
    }
}
