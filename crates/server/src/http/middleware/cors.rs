//! Which web pages may call the API.

use axum::http::{HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, Any, CorsLayer, ExposeHeaders};

use crate::{ServerConfig, ServerError};

/// Headers of answers that pages with credentials may read; others may read all.
const EXPOSED: [HeaderName; 9] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("request-id"),
    HeaderName::from_static("retry-after"),
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];

/// No origin, some, or `*` for all.
///
/// # Errors
/// What is no origin, method or header; credentials together with `*`.
pub(crate) fn cors(config: &ServerConfig) -> Result<CorsLayer, ServerError> {
    let layer = CorsLayer::new();
    if config.allowed_origins.is_empty() {
        return Ok(layer);
    }
    let credentials = config.allow_credentials;
    let origin = match listed(&config.allowed_origins) {
        None if credentials => return Err(ServerError::Credentials),
        None => AllowOrigin::any(),
        Some(origins) => AllowOrigin::list(origins.iter().map(|o| parse(o)).collect::<Result<Vec<_>, _>>()?),
    };
    // With credentials a plain `*` means nothing to a browser: what it asks for is repeated.
    let methods = match listed(&config.allowed_methods) {
        None if credentials => AllowMethods::mirror_request(),
        None => AllowMethods::any(),
        Some(methods) => AllowMethods::list(names::<Method>("--allowed-methods", methods)?),
    };
    let headers = match listed(&config.allowed_headers) {
        // A `*` would never mean `authorization`, which clients with a key send (Fetch standard, CORS-preflight fetch).
        None => AllowHeaders::mirror_request(),
        Some(headers) => AllowHeaders::list(names::<HeaderName>("--allowed-headers", headers)?),
    };
    let exposed = if credentials { ExposeHeaders::list(EXPOSED) } else { Any.into() };
    let layer = layer.allow_origin(origin).allow_methods(methods).allow_headers(headers);
    Ok(layer.expose_headers(exposed).allow_credentials(credentials))
}

/// The names in a list, unless it stands for everything.
fn listed(names: &[String]) -> Option<&[String]> {
    (!names.is_empty() && !names.iter().any(|name| name == "*")).then_some(names)
}

fn names<T: std::str::FromStr>(flag: &'static str, names: &[String]) -> Result<Vec<T>, ServerError> {
    let parse = |name: &String| name.parse().map_err(|_| ServerError::Cors { flag, name: name.clone() });
    names.iter().map(parse).collect()
}

fn parse(origin: &str) -> Result<HeaderValue, ServerError> {
    let refused = || ServerError::Origin { origin: origin.to_owned() };
    if !origin.contains("://") || origin.ends_with('/') {
        return Err(refused());
    }
    origin.parse().map_err(|_| refused())
}
