//! What an administrator sees and does.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use millrace_api::ApiError;
use serde_json::{Value, json};

use super::requests::cancelled;
use crate::{
    ServedModel,
    http::{App, reply::Failure},
    process,
};

/// `GET /v1/status`: every request, and how full queue, cache and memory are.
pub(crate) async fn status(State(app): State<Arc<App>>) -> Json<Value> {
    let requests = app.service.status().await;
    let models: Vec<Value> = app.service.models().ready().iter().map(|loaded| model(loaded)).collect();
    Json(json!({
        "object": "status",
        "version": env!("CARGO_PKG_VERSION"),
        "draining": app.service.is_draining(),
        "uptime_seconds": app.started.elapsed().as_secs(),
        "memory": {"resident_bytes": process::resident_bytes()},
        "models": models,
        "requests": requests,
    }))
}

/// `GET /v1/cache/stats`.
pub(crate) async fn cache_stats(State(app): State<Arc<App>>) -> Json<Value> {
    let models = app.service.models().ready();
    let stats = models.iter().map(|model| json!({"model": model.name(), "cache": cache(model)}));
    Json(json!({"object": "cache.stats", "data": stats.collect::<Vec<_>>()}))
}

/// `DELETE /v1/cache/prefix`: forgets the cached prefixes that no request uses, of the model in the query or of all.
pub(crate) async fn drop_prefixes(
    State(app): State<Arc<App>>,
    query: Query<Vec<(String, String)>>,
) -> Result<Json<Value>, Failure> {
    let wanted = query.0.iter().find(|(name, _)| name == "model").map(|(_, model)| model.as_str());
    let models = app.service.models();
    let names = wanted.map(|name| models.names(Some(name))).transpose()?;
    let mut dropped = Vec::new();
    for model in models.ready().into_iter().filter(|model| names.is_none_or(|n| n == model.parts.names)) {
        let blocks = model.engine.drop_cache().await;
        let blocks = blocks.ok_or_else(|| ApiError::unavailable("The engine is not running.", 5))?;
        dropped.push(json!({"model": model.name(), "blocks": blocks}));
    }
    Ok(Json(json!({"object": "cache.dropped", "data": dropped})))
}

/// `POST /v1/requests/{id}/cancel`: ends a request, whosever it is.
pub(crate) async fn cancel_any(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    cancelled(&app, &id)
}

fn model(model: &ServedModel) -> Value {
    let stats = model.engine.stats();
    json!({
        "model": model.name(),
        "device": model.engine.info().device,
        "alive": stats.alive,
        "running": stats.running,
        "waiting": stats.waiting,
        "max_queued": model.engine.info().max_queued,
        "max_model_len": model.engine.info().max_model_len,
        "cache": cache(model),
    })
}

/// Blocks and hits of one model's KV cache.
fn cache(model: &ServedModel) -> Value {
    let (stats, info) = (model.engine.stats(), model.engine.info());
    json!({
        "prefix_caching": info.prefix_caching,
        "block_tokens": info.block_size,
        "blocks": stats.blocks_total,
        "blocks_in_use": stats.blocks_in_use,
        "blocks_cached": stats.blocks_cached,
        "queried_tokens": stats.prefix_queries,
        "hit_tokens": stats.prefix_hits,
        "preemptions": stats.preemptions,
    })
}
