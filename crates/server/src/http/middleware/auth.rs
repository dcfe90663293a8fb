//! API keys: `Authorization: Bearer …` or `x-api-key: …`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, ErrorKind};

use super::{access::KeyName, deadline, rate, vendor::is_anthropic};
use crate::{
    http::{App, reply::Failure},
    keys::{Caller, Key},
};

/// Lets a request pass if there are no keys, or if it presents one that has requests left. Answers tell the holder of a
/// limited key what is left.
pub(crate) async fn auth(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let known = identify(&app, request.headers())
        .and_then(|key| deadline::time_limit(request.headers()).map(|time_limit| (key, time_limit)));
    let (key, time_limit) = match known {
        Ok(known) => known,
        Err(error) => return Failure(error).into_response(),
    };
    let caller = Caller::new(key.clone(), time_limit);
    let Some(key) = key else { return caller.scope(next.run(request)).await };
    let anthropic = is_anthropic(&request);
    let mut response = match count(&key, request.method()) {
        Ok(()) => caller.scope(next.run(request)).await,
        Err(error) => Failure(error).into_response(),
    };
    response.extensions_mut().insert(KeyName(key.name().to_owned()));
    rate::tell(&key, anthropic, response.headers_mut());
    response
}

/// The key that a request presents; `None` if the server has no keys.
///
/// # Errors
/// A 401 if it presents none that opens the server.
pub(super) fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Arc<Key>>, ApiError> {
    if app.keys.is_empty() {
        return Ok(None);
    }
    let key = presented(headers).find_map(|key| app.keys.find(key));
    key.map(Some).ok_or_else(|| {
        let message = "Unauthorized: send a valid key as `Authorization: Bearer KEY` or `x-api-key: KEY`.";
        ApiError::new(ErrorKind::Unauthorized, message)
    })
}

/// Only requests that ask for work count: a list of models is free.
fn count(key: &Key, method: &Method) -> Result<(), ApiError> {
    if *method == Method::POST { key.take_request() } else { Ok(()) }
}

/// The keys in the headers; the scheme's name may be written in any case.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let plain = headers.get("x-api-key").map(|value| value.as_bytes());
    bearer.into_iter().chain(plain)
}
