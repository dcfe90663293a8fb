//! What is made of whole texts: embeddings, scores, classes.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, Limits, PoolingRequest, ReplyHead, openai::pooling};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    http::{
        App, body,
        middleware::RequestName,
        reply::{Failure, tell_ignored},
    },
    model::unix_time,
};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;

/// `POST /v1/embeddings`.
pub(crate) async fn embeddings(
    State(app): Shared,
    name: Name,
    request: Request,
) -> Result<Response, Failure> {
    read(&app, name, request, "embd-", pooling::parse_embeddings).await
}

/// `POST /rerank`, `/v1/rerank`, `/v2/rerank`.
pub(crate) async fn rerank(State(app): Shared, name: Name, request: Request) -> Result<Response, Failure> {
    read(&app, name, request, "rerank-", pooling::parse_rerank).await
}

/// `POST /score`, `/v1/score`.
pub(crate) async fn score(State(app): Shared, name: Name, request: Request) -> Result<Response, Failure> {
    read(&app, name, request, "score-", pooling::parse_score).await
}

/// `POST /classify`.
pub(crate) async fn classify(State(app): Shared, name: Name, request: Request) -> Result<Response, Failure> {
    read(&app, name, request, "classify-", pooling::parse_classify).await
}

/// `POST /pooling`.
pub(crate) async fn pool(State(app): Shared, name: Name, request: Request) -> Result<Response, Failure> {
    read(&app, name, request, "pool-", pooling::parse_pooling).await
}

/// Reads the body with `parse` and answers; the answer's id begins with `prefix`. If the client leaves, this future is
/// dropped, and the request with it.
async fn read(
    app: &App,
    Extension(name): Name,
    request: Request,
    prefix: &str,
    parse: impl FnOnce(&Value, &Limits) -> Result<PoolingRequest, ApiError> + Send + 'static,
) -> Result<Response, Failure> {
    let limits = app.config.limits.clone();
    let mut request = body::read(app, request, move |body| parse(body, &limits)).await?;
    let ignored = std::mem::take(&mut request.ignored);
    let mut response = json(answer(app, request, prefix, name.0).await?);
    tell_ignored(&ignored, &mut response);
    Ok(response)
}

/// The answer, as JSON; its id begins with `prefix`, and it can be cancelled under that and under `name`.
pub(crate) async fn answer(
    app: &App,
    request: PoolingRequest,
    prefix: &str,
    name: String,
) -> Result<String, ApiError> {
    let PoolingRequest { call, reply, .. } = request;
    let id = format!("{prefix}{}", Uuid::new_v4().simple());
    let asked = call.options.model.clone();
    let answer = app.service.pool(call, vec![id.clone(), name]).await?;
    let model = asked.unwrap_or_else(|| answer.model.clone());
    reply(&ReplyHead { id, created: unix_time(), model }, &answer)
}

/// Written JSON as a response.
pub(super) fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
