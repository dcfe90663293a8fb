//! One request of a batch.

use std::{sync::Arc, time::Duration};

use millrace_api::{
    ApiError, ErrorKind,
    openai::{
        batches::{BatchLine, BatchRecord, result_line},
        error_body,
    },
};
use serde_json::Value;
use tokio::time::sleep;

use super::{PAUSE, endpoints};
use crate::{
    files::{Room, request_id},
    http::App,
    keys::Caller,
};

/// How often a request is tried again that the server had no room for.
const TRIES: u32 = 100;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Its result is kept.
    Kept,
    /// There is no room for its result.
    Full,
    /// The server stops; it is to be run again.
    Stopped,
    /// The key that ordered it doesn't open the server any more.
    Locked,
}

/// A result, before it is kept.
struct Outcome {
    status: u16,
    /// JSON in one line.
    body: String,
    /// See [`endpoints::Done`].
    hold: Option<Box<dyn Send>>,
}

/// Runs a request and keeps its result.
pub(super) async fn run(app: Arc<App>, batch: Arc<BatchRecord>, number: u32, line: Vec<u8>) -> Ended {
    let Some(caller) = caller(&app, &batch.owner) else { return Ended::Locked };
    let limits = &app.config.limits;
    let line = match BatchLine::read(number, &line, &batch.endpoint, limits) {
        Ok(Some(line)) => line,
        // It was read before the batch began.
        Ok(None) | Err(_) => BatchLine { custom_id: String::new(), body: Value::Null },
    };
    let id = request_id(&batch.id, number);
    let Some(outcome) = caller.scope(answer(&app, &batch.endpoint, line.body, &id)).await else {
        return Ended::Stopped;
    };
    let result = result_line(&id, &line.custom_id, outcome.status, &outcome.body);
    let room = loop {
        match app.jobs.files.record(&batch.id, number, outcome.status == 200, result.clone()).await {
            Ok(room) => break room,
            // What was computed is not thrown away because the disk has a bad moment.
            Err(_) => sleep(PAUSE).await,
        }
    };
    drop(outcome.hold);
    if room == Room::Full { Ended::Full } else { Ended::Kept }
}

/// On whose behalf a batch runs.
fn caller(app: &App, owner: &str) -> Option<Caller> {
    if owner.is_empty() {
        return Some(Caller::default());
    }
    app.keys.owned_by(owner).map(|key| Caller::new(Some(key), None))
}

/// Answers a request, if need be with patience; `None` if the server stops.
async fn answer(app: &Arc<App>, path: &str, body: Value, id: &str) -> Option<Outcome> {
    let mut tries = 0;
    loop {
        let result = match endpoints::find(path) {
            Some(endpoint) => (endpoint.run)(app.clone(), body.clone(), id.to_owned()).await,
            None => Err(ApiError::bad_request(format!("This server runs no batches of {path}."))),
        };
        let error = match result {
            Ok(done) if done.aborted && app.service.is_draining() => return None,
            Ok(done) => return Some(Outcome { status: 200, body: done.body, hold: Some(done.hold) }),
            Err(_) if app.service.is_draining() => return None,
            Err(error) => error,
        };
        // Nobody knows how long a server sleeps.
        tries += u32::from(!app.service.is_asleep());
        let again = match error.kind {
            // The batch's own time is the limit.
            ErrorKind::RateLimited => true,
            ErrorKind::Unavailable => tries < TRIES,
            _ => false,
        };
        if !again {
            return Some(Outcome {
                status: error.kind.status(),
                body: error_body(&error).to_string(),
                hold: None,
            });
        }
        sleep(Duration::from_secs(error.retry_after.unwrap_or(1).max(1).into())).await;
    }
}
