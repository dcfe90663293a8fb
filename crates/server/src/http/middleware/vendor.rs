//! Errors in the shape that the client's vendor gives them, wherever they were made.

use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, anthropic, ollama};

use super::RequestName;

/// Anthropic's name for the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// The header that every client of Anthropic's API sends.
const VERSION: &str = "anthropic-version";

/// The root of Anthropic's API. Whatever lies under it is theirs, header or not.
const MESSAGES: &str = "/v1/messages";

/// The root of Ollama's API.
const OLLAMA: &str = "/api/";

/// Gives Ollama's clients their errors, and Anthropic's clients their header and their errors. Errors come out of
/// handlers and layers in OpenAI's shape, with the [`ApiError`] beside it.
pub(crate) async fn vendor(request: Request, next: Next) -> Response {
    let name = request.extensions().get::<RequestName>().map(|name| name.0.clone()).unwrap_or_default();
    let theirs = is_anthropic(&request);
    let is_ollama = request.uri().path().starts_with(OLLAMA);
    let response = next.run(request).await;
    if is_ollama {
        return plain(response);
    }
    if theirs { dress(response, &name) } else { response }
}

/// Whether a request is of Anthropic's API.
pub(super) fn is_anthropic(request: &Request) -> bool {
    let path = request.uri().path();
    path.strip_prefix(MESSAGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || speaks_anthropic(request.headers())
}

/// Whether a client expects Anthropic's answers where both vendors have the same path.
pub(crate) fn speaks_anthropic(headers: &HeaderMap) -> bool {
    headers.contains_key(VERSION)
}

/// Ollama's error body; its status codes are ours.
fn plain(response: Response) -> Response {
    let (mut parts, mut body) = response.into_parts();
    if let Some(error) = parts.extensions.remove::<ApiError>() {
        body = Json(ollama::error_body(&error)).into_response().into_body();
    }
    Response::from_parts(parts, body)
}

fn dress(response: Response, name: &str) -> Response {
    let (mut parts, mut body) = response.into_parts();
    if let Some(error) = parts.extensions.remove::<ApiError>() {
        parts.status = StatusCode::from_u16(anthropic::status(&error)).unwrap_or(parts.status);
        body = Json(anthropic::error_body(&error, name)).into_response().into_body();
    }
    if let Ok(value) = HeaderValue::from_str(name) {
        parts.headers.insert(REQUEST_ID, value);
    }
    Response::from_parts(parts, body)
}
