//! Loading and unloading by hand.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use millrace_api::{ApiError, read};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Abilities, ModelReport,
    http::{App, body, reply::Failure},
};

/// `GET /v1/admin/models`: where each model is, what it takes and who uses it.
pub(crate) async fn admin_models(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.service.models();
    let reports = models.reports();
    let used: u64 = reports.iter().map(ModelReport::bytes_in_memory).sum();
    Json(json!({
        "object": "list",
        "memory_budget": models.budget(),
        "memory_used": used,
        "data": reports.iter().map(describe).collect::<Vec<_>>(),
    }))
}

/// `POST /v1/admin/models/load`: answers when the model is there. A client that leaves doesn't stop the load.
pub(crate) async fn load_model(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let name = asked(&app, request).await?;
    let models = app.service.models();
    drop(models.load(&name).await?);
    Ok(Json(describe(&models.report(&name)?)))
}

/// `POST /v1/admin/models/unload`: answers when the model's requests are done and its memory is given back.
pub(crate) async fn unload_model(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let name = asked(&app, request).await?;
    let models = app.service.models();
    models.unload(&name).await?;
    Ok(Json(describe(&models.report(&name)?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    model: String,
}

async fn asked(app: &App, request: Request) -> Result<String, ApiError> {
    body::read(app, request, |body| read::<Asked>(body).map(|asked| asked.model)).await
}

fn describe(model: &ModelReport) -> Value {
    let memory = model.memory.map(|memory| {
        json!({
            "weights": memory.weights,
            "kv_cache": memory.kv,
            "activations": memory.activations,
            "total": memory.total(),
        })
    });
    json!({
        "id": model.name(),
        "names": model.names,
        "root": model.root,
        "state": model.state.name(),
        "reason": model.reason,
        "pinned": model.pinned,
        "memory": memory,
        "in_flight": model.in_flight,
        "waiting": model.waiting,
        "idle_seconds": model.unused_for.as_secs_f64(),
        "expires_in_seconds": model.expires_in.map(|time| time.as_secs_f64()),
        "max_model_len": model.max_model_len,
        "capabilities": model.abilities.map(Abilities::names),
    })
}
