//! Text: parse, run, and answer whole or as a stream.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{future::try_join_all, stream::BoxStream};
use millrace_api::{ApiError, Call, ChatEvent, Encoder, Limits, ReplyHead, openai};
use serde_json::Value;
use uuid::Uuid;

use super::completions::Keeper;
use crate::{
    agent::{self, Answer},
    files::new_id,
    http::{
        App, body,
        middleware::RequestName,
        reply::{Failure, failure, tell_ignored},
        sse,
    },
    model::unix_time,
};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;
pub(super) type Events = BoxStream<'static, ChatEvent>;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat_completions(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    let limits = app.config.limits.clone();
    let read = move |body: &Value| openai::chat::parse_storing(body, &limits);
    let (call, question) = body::read(&app, request, read).await?;
    let keeper = question.map(|question| Keeper::new(&app, question, name.0.clone()));
    // Stored ones are listed by their ids.
    answer(&app, name, call, new_id("chatcmpl-"), keeper).await
}

/// `POST /v1/completions`.
pub(crate) async fn completions(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    generate(&app, name, request, "cmpl-", openai::completions::parse).await
}

/// `POST /v1/chat/completions/batch`: all conversations at once, answered together. One that fails fails all.
pub(crate) async fn chat_list(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    let limits = app.config.limits.clone();
    let calls = body::read(&app, request, move |body| openai::chat::parse_list(body, &limits)).await?;
    let id = format!("chatcmpl-{}", Uuid::new_v4().simple());
    let asked = calls.first().and_then(|call| call.request.model.clone());
    // All have the same fields.
    let ignored = calls.first().map(|call| call.ignored.clone()).unwrap_or_default();
    let answers = calls.into_iter().map(async |call| {
        let Answer { model, mut events } =
            agent::answer(&app, call.request, vec![id.clone(), name.0.clone()]).await?;
        let answer = agent::collect(&mut events).await?;
        let head = ReplyHead { id: id.clone(), created: unix_time(), model };
        let body = call.encoder.body(&head, answer);
        Ok::<_, ApiError>((head, body))
    });
    let answers = try_join_all(answers).await?;
    let Some((head, _)) = answers.first() else {
        return Err(Failure(ApiError::internal("The list of answers is empty.")));
    };
    let head = ReplyHead { model: asked.unwrap_or_else(|| head.model.clone()), ..head.clone() };
    let bodies = answers.into_iter().map(|(_, body)| body).collect();
    let mut response = Json(openai::chat::join(&head, bodies)).into_response();
    tell_ignored(&ignored, &mut response);
    Ok(response)
}

/// Reads the body with `parse` and answers; the answer's id begins with `prefix`.
pub(super) async fn generate(
    app: &Arc<App>,
    name: RequestName,
    request: Request,
    prefix: &str,
    parse: impl FnOnce(&Value, &Limits) -> Result<Call, ApiError> + Send + 'static,
) -> Result<Response, Failure> {
    let limits = app.config.limits.clone();
    let call = body::read(app, request, move |body| parse(body, &limits)).await?;
    answer(app, name, call, format!("{prefix}{}", Uuid::new_v4().simple()), None).await
}

async fn answer(
    app: &Arc<App>,
    name: RequestName,
    call: Call,
    id: String,
    keeper: Option<Keeper>,
) -> Result<Response, Failure> {
    let asked = call.request.model.clone();
    let ignored = call.ignored;
    let Answer { model, events } = agent::answer(app, call.request, vec![id.clone(), name.0]).await?;
    let model = asked.unwrap_or(model);
    let head = ReplyHead { id, created: unix_time(), model };
    let mut response = match (call.stream, keeper) {
        (true, Some(keeper)) => sse::respond(app, keeper.frames(events, head, call.encoder), None),
        (true, None) => sse::events(app, events, head, call.encoder),
        (false, keeper) => whole(events, &head, call.encoder, keeper).await,
    };
    tell_ignored(&ignored, &mut response);
    Ok(response)
}

/// The collected stream. If the client leaves, this future is dropped, and the answer with it.
async fn whole(
    mut events: Events,
    head: &ReplyHead,
    encoder: Box<dyn Encoder>,
    keeper: Option<Keeper>,
) -> Response {
    let answer = match agent::collect(&mut events).await {
        Ok(answer) => answer,
        Err(error) => return failure(&error, encoder.error(&error)),
    };
    let body = encoder.body(head, answer);
    if let Some(keeper) = keeper {
        keeper.keep(body.clone()).await;
    }
    Json(body).into_response()
}
