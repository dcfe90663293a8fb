//! What the engine would get: prompts as tokens, parameters after all defaults. Nothing is run.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Query, Request, State},
    response::{IntoResponse, Response},
};
use millrace_api::{
    ApiError, Call, ErrorKind, Limits,
    openai::{self, render::rendered},
};
use serde_json::{Map, Value};

use crate::http::{
    App, body,
    middleware::RequestName,
    reply::{Failure, tell_ignored},
};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;

/// `POST /v1/chat/completions/render`.
pub(crate) async fn render_chat(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    // A conversation is one prompt.
    render(&app, &name, request, openai::chat::parse, |prompts| {
        prompts.into_iter().next().unwrap_or_default()
    })
    .await
}

/// `POST /v1/completions/render`: a list with an entry for each prompt.
pub(crate) async fn render_completion(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    render(&app, &name, request, openai::completions::parse, Value::from).await
}

async fn render(
    app: &App,
    name: &RequestName,
    request: Request,
    parse: fn(&Value, &Limits) -> Result<Call, ApiError>,
    show_all: fn(Vec<Value>) -> Value,
) -> Result<Response, Failure> {
    let limits = app.config.limits.clone();
    let call = body::read(app, request, move |body| parse(body, &limits)).await?;
    let (options, stream) = (call.request.options.clone(), call.stream);
    let model = match &call.request.model {
        Some(model) => model.clone(),
        None => app.service.models().names(None)?.first().cloned().unwrap_or_default(),
    };
    let prompts = app.service.render(call.request).await?;
    let show =
        |(tokens, sampling): &(Vec<u32>, _)| rendered(&name.0, &model, stream, &options, tokens, sampling);
    let mut response = Json(show_all(prompts.iter().map(show).collect())).into_response();
    tell_ignored(&call.ignored, &mut response);
    Ok(response)
}

/// `GET /tokenizer_info`: only if the server was told so, because a template may be nobody's business.
pub(crate) async fn tokenizer_info(
    State(app): Shared,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Map<String, Value>>, Failure> {
    if !app.config.tokenizer_info {
        let message =
            "The server doesn't tell about its tokenizer. Start it with --enable-tokenizer-info-endpoint.";
        return Err(Failure(ApiError::new(ErrorKind::NotFound, message)));
    }
    let model = pairs.iter().find(|(name, _)| name == "model").map(|(_, model)| model.as_str());
    Ok(Json(app.service.tokenizer_info(model).await?))
}
