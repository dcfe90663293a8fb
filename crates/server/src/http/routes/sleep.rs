//! Sleep, as vLLM has it: the models leave the memory until somebody wakes the server.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
};
use millrace_api::ApiError;
use serde_json::{Value, json};

use crate::{
    http::{App, reply::Failure},
    service::{Depth, Running},
};

type Shared = State<Arc<App>>;
type Pairs = Query<Vec<(String, String)>>;

/// `POST /sleep`: with `level` 1 or 2 (the same here: weights come from where they came from) or 0, and `mode` `abort` or
/// `wait`. Answers when the memory is given back.
pub(crate) async fn sleep(State(app): Shared, Query(pairs): Pairs) -> Result<Json<Value>, Failure> {
    let (mut depth, mut running) = (Depth::Deep, Running::Abort);
    for (name, value) in &pairs {
        match (name.as_str(), value.as_str()) {
            ("level", "0") => depth = Depth::Light,
            ("level", "1" | "2") => depth = Depth::Deep,
            ("level", _) => return refuse("level", "`level` must be 0, 1 or 2."),
            ("mode", "abort") => running = Running::Abort,
            ("mode", "wait") => running = Running::Wait,
            ("mode", _) => return refuse("mode", "`mode` must be 'abort' or 'wait'."),
            _ => return unknown(name),
        }
    }
    app.service.fall_asleep(depth, running).await?;
    is_sleeping(State(app)).await
}

/// `POST /wake_up`: answers when the models are there again.
pub(crate) async fn wake_up(State(app): Shared, Query(pairs): Pairs) -> Result<Json<Value>, Failure> {
    let tags: Vec<&str> =
        pairs.iter().filter(|(name, _)| name == "tags").map(|(_, tag)| tag.as_str()).collect();
    if let Some((name, _)) = pairs.iter().find(|(name, _)| name != "tags") {
        return unknown(name);
    }
    if !tags.is_empty() && !["weights", "kv_cache"].iter().all(|part| tags.contains(part)) {
        return refuse("tags", "Weights and KV cache wake together. Leave `tags` out.");
    }
    app.service.wake().await?;
    is_sleeping(State(app)).await
}

/// `GET /is_sleeping`.
pub(crate) async fn is_sleeping(State(app): Shared) -> Result<Json<Value>, Failure> {
    Ok(Json(json!({"is_sleeping": app.service.is_asleep()})))
}

fn refuse(name: &str, why: &str) -> Result<Json<Value>, Failure> {
    Err(Failure(ApiError::invalid(name, why)))
}

fn unknown(name: &str) -> Result<Json<Value>, Failure> {
    let name: String = name.chars().take(80).collect();
    refuse(&name, &format!("There is no parameter `{name}`."))
}
