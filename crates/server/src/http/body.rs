//! Request bodies: JSON of bounded size that arrives in time.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, ORIGIN},
    },
};
use millrace_api::{ApiError, ErrorKind, file_ids, parse_body};
use serde_json::Value;
use tokio::time::timeout;

use super::{App, middleware::RequestName};
use crate::documents;

/// Most characters of a body that are logged.
const LOGGED: usize = 4096;

/// Reads a JSON body, puts files in the place of their ids, and hands it to `parse`; big bodies are parsed off the runtime.
pub(super) async fn read<T: Send + 'static>(
    app: &App,
    request: Request,
    parse: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if !is_json(&request) {
        let message = "Unsupported Media Type: Only 'application/json' is allowed";
        return Err(ApiError::bad_request(message));
    }
    read_json(app, request, parse).await
}

/// The same, whatever the body's type is said to be: many of Ollama's clients don't say it. Web pages have to, because
/// a browser sends other types to foreign servers without asking them first.
pub(super) async fn read_any<T: Send + 'static>(
    app: &App,
    request: Request,
    parse: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    if request.headers().contains_key(ORIGIN) {
        return read(app, request, parse).await;
    }
    read_json(app, request, parse).await
}

async fn read_json<T: Send + 'static>(
    app: &App,
    request: Request,
    parse: impl FnOnce(&Value) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let name = request.extensions().get::<RequestName>().map(|name| name.0.clone());
    let bytes = read_bytes(app, request).await?;
    if app.config.log_prompts {
        log(&bytes, name.as_deref().unwrap_or_default());
    }
    let (size, limits) = (bytes.len(), app.config.limits.clone());
    let first = move || {
        let body = parse_body(&bytes, &limits)?;
        if file_ids(&body).is_empty() { parse(&body).map(Ok) } else { Ok(Err((body, parse))) }
    };
    match app.service.offload().run(size, first).await? {
        Ok(parsed) => Ok(parsed),
        Err((body, parse)) => {
            let body = documents::fill(app, body).await?;
            app.service.offload().run(usize::MAX, move || parse(&body)).await
        }
    }
}

/// Only for operators who asked for it: a body holds what users write.
fn log(bytes: &[u8], name: &str) {
    let body: String = String::from_utf8_lossy(bytes).chars().take(LOGGED).collect();
    tracing::info!(target: "millrace::prompts", request_id = name, body);
}

async fn read_bytes(app: &App, request: Request) -> Result<Bytes, ApiError> {
    match timeout(app.config.body_timeout, Bytes::from_request(request, &())).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let most = app.config.limits.max_body_bytes;
            let message = format!("The request body is too large: at most {most} bytes are allowed.");
            Err(ApiError::new(ErrorKind::TooLarge, message))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("The request body ended early.")),
        Err(_) => Err(ApiError::new(ErrorKind::Timeout, "The request body did not arrive in time.")),
    }
}

fn is_json(request: &Request) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    essence.eq_ignore_ascii_case("application/json")
}
