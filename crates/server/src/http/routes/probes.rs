//! What load balancers, orchestrators and monitoring ask.

use std::sync::Arc;

use axum::{Json, extract::State, http::header::CONTENT_TYPE, response::IntoResponse};
use millrace_api::ApiError;
use serde_json::{Value, json};

use crate::{
    http::{App, reply::Failure},
    metrics::scrape,
};

/// `GET /health`, `GET /ping`: whether the engines are alive.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Result<Json<Value>, Failure> {
    if app.service.is_alive() {
        Ok(Json(json!({"status": "ok"})))
    } else {
        Err(Failure(ApiError::unavailable("The engine is not running.", 5)))
    }
}

/// `GET /ready`: whether new requests are taken, and the models that are to be there at start have been loaded.
pub(crate) async fn ready(state: State<Arc<App>>) -> Result<Json<Value>, Failure> {
    if state.service.is_draining() {
        return Err(Failure(ApiError::unavailable("The server is shutting down.", 5)));
    }
    if state.service.is_asleep() {
        return Err(Failure(ApiError::unavailable("The server is asleep.", 5)));
    }
    if let Some(model) = state.service.models().awaited() {
        let (name, state) = (model.name(), model.state.name());
        let message = format!("The model `{name}` is to be there and isn't: it is {state}.");
        return Err(Failure(ApiError::unavailable(message, 5)));
    }
    health(state).await
}

/// `GET /version`.
pub(crate) async fn version() -> Json<Value> {
    Json(json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /load`: requests in the house.
pub(crate) async fn load(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({"server_load": app.service.active_requests()}))
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (responses, files) = (app.responses.metrics(), app.jobs.files().metrics());
    let tools = app.mcp.as_ref().map(|manager| manager.servers()).unwrap_or_default();
    let text = scrape(app.service.models(), &app.metrics, responses, files, &app.keys.all(), &tools);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
