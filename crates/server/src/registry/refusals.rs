//! What clients are told when a model isn't there.

use std::time::Instant;

use millrace_api::ApiError;
use millrace_engine::SubmitError;

use super::table::{Failure, Slot};

/// Seconds after which a client may try again while the server goes down and, perhaps, another one comes up.
const RETRY_CLOSING: u32 = 10;

/// The same when too many wait for a model.
const RETRY_CROWDED: u32 = 5;

pub(super) fn closing() -> ApiError {
    ApiError::unavailable(SubmitError::Draining.to_string(), RETRY_CLOSING)
}

pub(super) fn crowded(name: &str) -> ApiError {
    let message =
        format!("Too many requests wait for the model `{name}` to be loaded. Please try again later.");
    ApiError::unavailable(message, RETRY_CROWDED)
}

pub(super) fn failed(name: &str, failure: &Failure, now: Instant) -> ApiError {
    let seconds = failure.retry_at.saturating_duration_since(now).as_secs_f64().ceil();
    let reason = failure.reason.trim_end_matches('.');
    ApiError::unavailable(format!("The model `{name}` can't be loaded: {reason}."), seconds as u32)
}

pub(super) fn fixed(name: &str) -> ApiError {
    ApiError::bad_request(format!(
        "The model `{name}` can't be unloaded: this server couldn't load it again."
    ))
}

pub(super) fn busy_loading(name: &str) -> ApiError {
    ApiError::unavailable(format!("The model `{name}` is being loaded; unload it when it is there."), 1)
}

/// A model that the budget has no room for, whoever else is unloaded.
pub(super) fn too_big<M, W>(slot: &Slot<M, W>, budget: u64, pinned: u64) -> ApiError {
    let memory = slot.plan.as_ref().map(|plan| plan.memory).unwrap_or_default();
    let needs = format!(
        "The model `{}` needs {} of memory (weights {}, KV cache {}, activations {}), but",
        slot.name,
        show(memory.total()),
        show(memory.weights),
        show(memory.kv),
        show(memory.activations),
    );
    if memory.total() > budget {
        let message = format!(
            "{needs} the memory budget is {}. Give it a smaller KV cache, or the server a larger budget.",
            show(budget)
        );
        return ApiError::invalid("model", message);
    }
    let left = show(budget.saturating_sub(pinned));
    let message = format!("{needs} pinned models leave {left} of the memory budget of {}.", show(budget));
    ApiError::unavailable(message, RETRY_CROWDED)
}

/// Bytes for people.
fn show(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}
