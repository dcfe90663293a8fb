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

use crate::{
    agent::{self, Answer},
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
type Events = BoxStream<'static, ChatEvent>;

/// `POST /v1/chat/completions`.
pub(crate) async fn chat_completions(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    generate(&app, name, request, "chatcmpl-", openai::chat::parse).await
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
) -> Result<Json<Value>, Failure> {
    let limits = app.config.limits.clone();
    let calls = body::read(&app, request, move |body| openai::chat::parse_list(body, &limits)).await?;
    let id = format!("chatcmpl-{}", Uuid::new_v4().simple());
    let asked = calls.first().and_then(|call| call.request.model.clone());
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
    Ok(Json(openai::chat::join(&head, bodies)))
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
    let id = format!("{prefix}{}", Uuid::new_v4().simple());
    let asked = call.request.model.clone();
    let ignored = call.ignored;
    let Answer { model, events } = agent::answer(app, call.request, vec![id.clone(), name.0]).await?;
    let model = asked.unwrap_or(model);
    let head = ReplyHead { id, created: unix_time(), model };
    let mut response = if call.stream {
        sse::events(app, events, head, call.encoder)
    } else {
        whole(events, &head, call.encoder).await
    };
    tell_ignored(&ignored, &mut response);
    Ok(response)
}

/// The collected stream. If the client leaves, this future is dropped, and the answer with it.
async fn whole(mut events: Events, head: &ReplyHead, encoder: Box<dyn Encoder>) -> Response {
    match agent::collect(&mut events).await {
        Ok(answer) => Json(encoder.body(head, answer)).into_response(),
        Err(error) => failure(&error, encoder.error(&error)),
    }
}
