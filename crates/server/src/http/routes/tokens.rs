//! Text to tokens and back, as the models see it.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use millrace_api::openai::tokenize::{DetokenizeBody, TokenizeBody, parse_detokenize, parse_tokenize};

use crate::http::{App, body, reply::Failure};

/// `POST /tokenize`.
pub(crate) async fn tokenize(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<TokenizeBody>, Failure> {
    let limits = app.config.limits.clone();
    let call = body::read(&app, request, move |body| parse_tokenize(body, &limits)).await?;
    Ok(Json(app.service.tokenize(call).await?))
}

/// `POST /detokenize`.
pub(crate) async fn detokenize(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<DetokenizeBody>, Failure> {
    let call = body::read(&app, request, parse_detokenize).await?;
    Ok(Json(app.service.detokenize(call).await?))
}
