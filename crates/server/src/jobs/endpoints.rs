//! The routes that requests of a batch may go to. A further one is a further line in the table.

use std::{future::Future, pin::Pin, sync::Arc};

use millrace_api::{ApiError, Call, EndReason, Limits, PoolingRequest, ReplyHead, openai, openai::pooling};
use millrace_engine::BACKGROUND;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    agent::{self, Answer},
    documents,
    http::{App, answer_pooling, answer_response},
    model::unix_time,
};

/// One route.
pub(super) struct Endpoint {
    /// Its path.
    pub(super) path: &'static str,
    /// Answers a request's body; it can be cancelled under the name.
    pub(super) run: fn(Arc<App>, Value, String) -> Running,
}

type Running = Pin<Box<dyn Future<Output = Result<Done, ApiError>> + Send>>;

const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/v1/chat/completions",
        run: |app, body, name| Box::pin(text(app, body, name, "chatcmpl-", openai::chat::parse)),
    },
    Endpoint {
        path: "/v1/completions",
        run: |app, body, name| Box::pin(text(app, body, name, "cmpl-", openai::completions::parse)),
    },
    Endpoint { path: "/v1/responses", run: |app, body, name| Box::pin(response(app, body, name)) },
    Endpoint {
        path: "/v1/embeddings",
        run: |app, body, name| Box::pin(pooled(app, body, name, "embd-", pooling::parse_embeddings)),
    },
    Endpoint {
        path: "/v1/rerank",
        run: |app, body, name| Box::pin(pooled(app, body, name, "rerank-", pooling::parse_rerank)),
    },
    Endpoint {
        path: "/v1/score",
        run: |app, body, name| Box::pin(pooled(app, body, name, "score-", pooling::parse_score)),
    },
];

/// An answer.
pub(super) struct Done {
    /// Its body, as JSON in one line.
    pub(super) body: String,
    /// Whether it was broken off.
    pub(super) aborted: bool,
    /// As long as this lives, the server doesn't stop.
    pub(super) hold: Box<dyn Send>,
}

/// The paths of all endpoints.
pub(crate) fn paths() -> Vec<&'static str> {
    ENDPOINTS.iter().map(|endpoint| endpoint.path).collect()
}

/// The endpoint with this path.
pub(super) fn find(path: &str) -> Option<&'static Endpoint> {
    ENDPOINTS.iter().find(|endpoint| endpoint.path == path)
}

async fn text(
    app: Arc<App>,
    body: Value,
    name: String,
    prefix: &str,
    parse: fn(&Value, &Limits) -> Result<Call, ApiError>,
) -> Result<Done, ApiError> {
    let limits = app.config.limits.clone();
    let body = documents::fill(&app, body).await?;
    let mut call = app.service.offload().run(usize::MAX, move || parse(&body, &limits)).await?;
    if call.stream {
        return Err(ApiError::invalid("stream", "`stream` has no meaning here. Leave it out."));
    }
    call.request.options.priority = BACKGROUND;
    let id = format!("{prefix}{}", Uuid::new_v4().simple());
    let asked = call.request.model.clone();
    let Answer { model, mut events } = agent::answer(&app, call.request, vec![id.clone(), name]).await?;
    let answer = agent::collect(&mut events).await?;
    let head = ReplyHead { id, created: unix_time(), model: asked.unwrap_or(model) };
    let aborted = answer.choices.iter().any(|choice| choice.end.reason == EndReason::Abort);
    Ok(Done { body: call.encoder.body(&head, answer).to_string(), aborted, hold: Box::new(events) })
}

async fn pooled(
    app: Arc<App>,
    body: Value,
    name: String,
    prefix: &str,
    parse: fn(&Value, &Limits) -> Result<PoolingRequest, ApiError>,
) -> Result<Done, ApiError> {
    let limits = app.config.limits.clone();
    let mut request = app.service.offload().run(usize::MAX, move || parse(&body, &limits)).await?;
    request.call.options.priority = BACKGROUND;
    let body = answer_pooling(&app, request, prefix, name).await?;
    // Nothing is lost if the server stops before the answer is kept: the request is run again.
    Ok(Done { body, aborted: false, hold: Box::new(()) })
}

async fn response(app: Arc<App>, body: Value, name: String) -> Result<Done, ApiError> {
    let (body, hold) = answer_response(&app, body, name, BACKGROUND).await?;
    Ok(Done { aborted: body["status"] == "cancelled", body: body.to_string(), hold })
}
