//! Which web pages may call the API.

use axum::http::HeaderValue;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use crate::ServerError;

/// No origin, some, or `*` for all. A page never gets to send cookies, so `*` exposes nothing but the server itself.
pub(crate) fn cors(origins: &[String]) -> Result<CorsLayer, ServerError> {
    let layer = CorsLayer::new();
    if origins.is_empty() {
        return Ok(layer);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().map(|origin| parse(origin)).collect::<Result<Vec<_>, _>>()?)
    };
    Ok(layer.allow_origin(allowed).allow_methods(Any).allow_headers(Any).expose_headers(Any))
}

fn parse(origin: &str) -> Result<HeaderValue, ServerError> {
    let refused = || ServerError::Origin { origin: origin.to_owned() };
    if !origin.contains("://") || origin.ends_with('/') {
        return Err(refused());
    }
    origin.parse().map_err(|_| refused())
}
