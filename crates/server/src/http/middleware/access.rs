//! One log line and one observation per exchange. Neither prompts nor keys nor query strings are logged.

use std::{sync::Arc, time::Instant};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, header::CONTENT_TYPE},
    middleware::Next,
    response::Response,
};
use futures::StreamExt;

use super::RequestName;
use crate::http::App;

/// The name of the caller's key; an extension of answers.
#[derive(Debug, Clone)]
pub(super) struct KeyName(pub(super) String);

/// Observes an exchange until the end of its response; a stream ends when its last event is out or the client left.
pub(crate) async fn access(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let name = request.extensions().get::<RequestName>().map(|name| name.0.clone());
    let mut exchange = Exchange {
        app,
        handler: route.unwrap_or_else(|| "none".into()),
        method: method_name(request.method()),
        name: name.unwrap_or_default(),
        key: None,
        start: Instant::now(),
        // What is logged if the client leaves before there is an answer (nginx's number for it).
        status: 499,
    };
    let response = next.run(request).await;
    exchange.status = response.status().as_u16();
    exchange.key = response.extensions().get::<KeyName>().map(|key| key.0.clone());
    if is_stream(&response) { attach(response, exchange) } else { response }
}

/// Ties the exchange's end to the end of the body.
fn attach(response: Response, exchange: Exchange) -> Response {
    let (parts, body) = response.into_parts();
    let tied = body.into_data_stream().inspect(move |_| {
        let _held_until_the_stream_is_dropped = &exchange;
    });
    Response::from_parts(parts, Body::from_stream(tied))
}

/// Reports when dropped.
struct Exchange {
    app: Arc<App>,
    handler: String,
    method: &'static str,
    name: String,
    /// The name of the caller's key.
    key: Option<String>,
    start: Instant,
    status: u16,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Self { handler, method, name, status, key, .. } = self;
        let elapsed = self.start.elapsed();
        self.app.metrics.observe(handler, method, *status, elapsed);
        let millis = elapsed.as_millis();
        let key = key.as_deref();
        tracing::info!(target: "millrace::access", method, handler, status, millis, request_id = name, key);
    }
}

fn is_stream(response: &Response) -> bool {
    let streams = [&b"text/event-stream"[..], b"application/x-ndjson"];
    let is_one = |value: &HeaderValue| streams.iter().any(|kind| value.as_bytes().starts_with(kind));
    response.headers().get(CONTENT_TYPE).is_some_and(is_one)
}

/// A label out of a fixed set.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}
