//! Answers that are JSON.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, ErrorKind, openai::error_body};
use serde_json::Value;

/// An error as a response, in OpenAI's shape unless [`vendor`](super::middleware::vendor) finds another client.
#[derive(Debug)]
pub(super) struct Failure(pub(super) ApiError);

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = error_body(&self.0);
        failure(&self.0, body)
    }
}

/// An error with the body that its vendor gives it.
pub(super) fn failure(error: &ApiError, body: Value) -> Response {
    if error.kind == ErrorKind::Internal {
        tracing::error!("{error}");
    }
    let status = StatusCode::from_u16(error.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(body)).into_response();
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(error.clone());
    response
}
