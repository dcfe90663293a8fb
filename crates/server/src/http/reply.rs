//! Answers that are JSON.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, ErrorKind, openai::error_body};
use serde_json::Value;

/// Fields of a request that meant nothing.
const IGNORED: HeaderName = HeaderName::from_static("x-millrace-ignored-fields");

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

/// Says in a header which fields of the request meant nothing; names that can't stand in a header are left out.
pub(super) fn tell_ignored(ignored: &[String], response: &mut Response) {
    let plain = |name: &&String| name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
    let names: Vec<&str> = ignored.iter().filter(plain).map(String::as_str).collect();
    if let Some(value) = HeaderValue::from_str(&names.join(", ")).ok().filter(|value| !value.is_empty()) {
        response.headers_mut().insert(IGNORED, value);
    }
}
