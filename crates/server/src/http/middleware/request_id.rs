//! `X-Request-Id`: the client's own, or a new one; always in the response.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest name that a client may give.
const MAX_LEN: usize = 128;

/// The request's name, for handlers and logs.
#[derive(Debug, Clone)]
pub(crate) struct RequestName(pub(crate) String);

/// Names every request.
pub(crate) async fn request_id(mut request: Request, next: Next) -> Response {
    let name = clients_own(request.headers()).unwrap_or_else(|| Uuid::new_v4().to_string());
    request.extensions_mut().insert(RequestName(name.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&name) {
        response.headers_mut().insert(HEADER, value);
    }
    response
}

/// A name that can go into logs and paths as it is; others are replaced.
fn clients_own(headers: &HeaderMap) -> Option<String> {
    let name = headers.get(HEADER)?.to_str().ok()?;
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.:".contains(&c);
    ((1..=MAX_LEN).contains(&name.len()) && name.bytes().all(plain)).then(|| name.to_owned())
}
