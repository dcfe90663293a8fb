//! Answers in which the server runs tools itself: the model speaks, its calls of MCP tools are run, their results are
//! shown to it, and it speaks again, until it has said all, calls a tool of the client's, or a limit is reached.
//!
//! To a vendor's encoder it is one answer: one stream of neutral events, the calls as
//! [`ServerCallNews`](millrace_api::ServerCallNews), usage summed over the rounds.

mod approved;
mod choose;
mod rounds;
mod servers;
mod turn;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use millrace_api::{ApiError, ChatEvent, Collected, Collector, GenerationRequest, Input, ServerTools};

use crate::http::App;

/// Bounds on one answer, whatever its request asks for.
#[derive(Debug, Clone)]
pub(crate) struct AgentLimits {
    /// Time from the first round after which no further calls are run.
    time: Duration,
    /// Bytes of all results together.
    output_bytes: usize,
    /// Calls of one round that are run; the model is told about the others.
    calls_per_round: usize,
    /// Calls that run at a time.
    concurrent_calls: usize,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(600),
            output_bytes: 1 << 20,
            calls_per_round: 32,
            concurrent_calls: 8,
        }
    }
}

/// A running answer, with or without tools of the server's own.
pub(crate) struct Answer {
    /// The name of the model that answers.
    pub(crate) model: String,
    /// Dropping it aborts what runs.
    pub(crate) events: BoxStream<'static, ChatEvent>,
}

/// Runs a request. Under each of `names` it can be cancelled.
///
/// # Errors
/// As [`Service::generate`](crate::Service::generate), and a 4xx or 503 if the tools that are wanted can't be had.
pub(crate) async fn answer(
    app: &Arc<App>,
    mut request: GenerationRequest,
    names: Vec<String>,
) -> Result<Answer, ApiError> {
    let Some(wanted) = server_tools(&mut request) else {
        let generation = app.service.generate(request, names).await?;
        let model = generation.model().name().to_owned();
        return Ok(Answer { model, events: generation.into_stream().boxed() });
    };
    rounds::start(app.clone(), request, &wanted, names).await
}

/// The collected stream.
///
/// # Errors
/// The one that it ends with.
pub(crate) async fn collect(events: &mut BoxStream<'static, ChatEvent>) -> Result<Collected, ApiError> {
    let mut collector = Collector::default();
    while let Some(event) = events.next().await {
        if let Some(answer) = collector.push(event)? {
            return Ok(answer);
        }
    }
    Err(ApiError::internal("The answer has no end."))
}

fn server_tools(request: &mut GenerationRequest) -> Option<ServerTools> {
    match &mut request.input {
        Input::Chat(chat) => chat.server_tools.take(),
        Input::Prompts { .. } => None,
    }
}
