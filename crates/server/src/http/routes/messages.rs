//! Anthropic's messages.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::Response,
};
use millrace_api::anthropic::{self, TokenCount};

use super::generate::generate;
use crate::http::{App, body, middleware::RequestName, reply::Failure};

/// `POST /v1/messages`.
pub(crate) async fn messages(
    State(app): State<Arc<App>>,
    Extension(name): Extension<RequestName>,
    request: Request,
) -> Result<Response, Failure> {
    let request_id = name.0.clone();
    generate(&app, name, request, "msg_", move |body, limits| anthropic::parse(body, limits, &request_id))
        .await
}

/// `POST /v1/messages/count_tokens`: what the same conversation costs as a prompt, told without running it.
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<TokenCount>, Failure> {
    let limits = app.config.limits.clone();
    let call = body::read(&app, request, move |body| anthropic::parse_count(body, &limits)).await?;
    let tokens = app.service.tokenize(call).await?;
    Ok(Json(TokenCount { input_tokens: tokens.count }))
}
