//! Batches: ordered here, run by [`jobs`](crate::jobs).

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use millrace_api::{
    ApiError, ErrorKind,
    openai::{
        batches::{BatchRecord, parse},
        files::BATCH,
        paging::{ListBody, ListQuery},
    },
};
use serde_json::Value;

use crate::{
    files::{Ordered, new_id, no_batch},
    http::{App, body, reply::Failure},
    jobs::paths,
    keys::Caller,
    model::unix_time,
};

type Shared = State<Arc<App>>;

/// Seconds after which a client may try again while too many batches wait.
const RETRY: u32 = 60;

/// `POST /v1/batches`.
pub(crate) async fn create(State(app): Shared, request: Request) -> Result<Json<Value>, Failure> {
    let order = body::read(&app, request, |body| parse(body, &paths())).await?;
    let owner = Caller::current().owner();
    let store = app.jobs.files();
    let input = store.file(&owner, &order.input_file_id).await;
    let input = input.map_err(|error| ApiError {
        param: Some("input_file_id".into()),
        // The file is part of the request, and not what was asked for.
        kind: if error.kind == ErrorKind::NotFound { ErrorKind::BadRequest } else { error.kind },
        ..error
    })?;
    if input.purpose != BATCH {
        let message = format!("A batch can't be made of a file with the purpose '{}'.", input.purpose);
        return Err(Failure(ApiError::invalid("input_file_id", message)));
    }
    let ids = [new_id("batch_"), new_id("file-"), new_id("file-")];
    let batch = BatchRecord::new(ids, owner, order, unix_time());
    if store.order(batch.clone()).await? == Ordered::TooMany {
        let message = "Too many batches are waiting on this server. Try again later.";
        return Err(Failure(ApiError::unavailable(message, RETRY)));
    }
    app.jobs.tell();
    Ok(Json(batch.to_object()))
}

/// `GET /v1/batches`.
pub(crate) async fn list(
    State(app): Shared,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<ListBody<Value>>, Failure> {
    let query = ListQuery::of_batches(pairs)?;
    let page = app.jobs.files().batches(&Caller::current().owner(), query).await?;
    let batches = page.entries.iter().map(BatchRecord::to_object).collect();
    Ok(Json(ListBody::new(batches, |batch| batch["id"].as_str().unwrap_or_default(), page.has_more)))
}

/// `GET /v1/batches/{id}`.
pub(crate) async fn retrieve(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    Ok(Json(app.jobs.files().batch(&Caller::current().owner(), &id).await?.to_object()))
}

/// `POST /v1/batches/{id}/cancel`: what runs is broken off; what is done stays.
pub(crate) async fn cancel(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let batch = app.jobs.files().batch(&Caller::current().owner(), &id).await?;
    if batch.is_final() {
        let status = batch.to_object()["status"].as_str().unwrap_or_default().to_owned();
        return Err(Failure(ApiError::bad_request(format!("Cannot cancel a batch that is {status}."))));
    }
    let batch = app.jobs.files().change(&id, |batch| batch.cancel(unix_time())).await?;
    app.jobs.tell();
    Ok(Json(batch.ok_or_else(|| no_batch(&id))?.to_object()))
}
