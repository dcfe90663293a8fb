//! What the engine would get: prompts as tokens, parameters after all defaults. Nothing is run.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Query, Request, State},
};
use millrace_api::{
    ApiError, Call, ErrorKind, Limits,
    openai::{self, render::rendered},
};
use serde_json::{Map, Value};

use crate::http::{App, body, middleware::RequestName, reply::Failure};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;

/// `POST /v1/chat/completions/render`.
pub(crate) async fn render_chat(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let prompts = render(&app, &name, request, openai::chat::parse).await?;
    // A conversation is one prompt.
    Ok(Json(prompts.into_iter().next().unwrap_or_default()))
}

/// `POST /v1/completions/render`: a list with an entry for each prompt.
pub(crate) async fn render_completion(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Json<Vec<Value>>, Failure> {
    Ok(Json(render(&app, &name, request, openai::completions::parse).await?))
}

async fn render(
    app: &App,
    name: &RequestName,
    request: Request,
    parse: fn(&Value, &Limits) -> Result<Call, ApiError>,
) -> Result<Vec<Value>, ApiError> {
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
    Ok(prompts.iter().map(show).collect())
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
