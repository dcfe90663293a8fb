//! A panic in a handler costs its own request only.

use std::panic::AssertUnwindSafe;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use millrace_api::ApiError;

use crate::http::reply::Failure;

/// Turns a panic into a 500.
pub(crate) async fn panics(request: Request, next: Next) -> Response {
    // The handler's own state is gone after a panic; what is shared is atomics and channels.
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => Failure(ApiError::internal("The server hit an internal error.")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn, routing::get};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_a_500() {
        async fn handler() {
            panic!("as the test wants it");
        }
        let router = Router::new().route("/", get(handler)).layer(from_fn(panics));
        let response = TowerToHyperService::new(router).call(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), 500);
    }
}
