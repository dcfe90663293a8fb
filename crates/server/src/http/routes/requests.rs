//! Running requests.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use millrace_api::{ApiError, ErrorKind};
use serde_json::{Value, json};

use crate::http::{App, reply::Failure};

/// `DELETE /v1/requests/{id}`: ends a request by the id of its answer (`chatcmpl-…`) or by its `X-Request-Id`.
/// Its client gets what there is, with the finish reason `abort`. A key ends its own requests only.
pub(crate) async fn cancel_request(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    cancelled(&app, &id)
}

/// Ends the requests of this name that the caller may end.
pub(super) fn cancelled(app: &App, id: &str) -> Result<Json<Value>, Failure> {
    match app.service.abort(id) {
        0 => {
            let id: String = id.chars().take(200).collect();
            let message = format!("There is no running request `{id}`.");
            Err(Failure(ApiError::new(ErrorKind::NotFound, message)))
        }
        requests => Ok(Json(json!({"id": id, "object": "request.cancelled", "requests": requests}))),
    }
}
