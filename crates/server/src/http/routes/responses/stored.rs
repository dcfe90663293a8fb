//! Answers that are there already.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
};
use millrace_api::{
    ApiError,
    openai::responses::{Deleted, ItemsPage, ItemsQuery, Record},
};
use serde_json::Value;

use super::owner;
use crate::http::{App, reply::Failure, sse};

type Shared = State<Arc<App>>;
type Pairs = Query<Vec<(String, String)>>;

/// `GET /v1/responses/{id}`: as it stands, or with `stream=true` its events.
pub(crate) async fn retrieve(
    State(app): Shared,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Response, Failure> {
    let owner = owner();
    let query = RetrieveQuery::read(pairs)?;
    let live = app.responses.live(&id, &owner);
    if !query.stream {
        let response = match live {
            Some(live) => live.response(),
            None => settled(app.responses.record(&app.service, &id, &owner).await?),
        };
        return Ok(Json(response).into_response());
    }
    match live.filter(|live| live.streams()) {
        Some(live) => Ok(sse::respond(&app, live.events(query.from), None)),
        None => {
            app.responses.record(&app.service, &id, &owner).await?;
            let message = "Only responses that were made with both `background` and `stream` can be streamed again, and \
                           only until some time after their end. Leave `stream` out.";
            Err(Failure(ApiError::invalid("stream", message)))
        }
    }
}

/// `DELETE /v1/responses/{id}`.
pub(crate) async fn delete(State(app): Shared, Path(id): Path<String>) -> Result<Json<Deleted>, Failure> {
    let owner = owner();
    app.responses.delete(&app.service, &id, &owner).await?;
    Ok(Json(Deleted::new(id)))
}

/// `POST /v1/responses/{id}/cancel`: ends an answer in the background. One that is cancelled already stays so.
pub(crate) async fn cancel(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let owner = owner();
    if let Some(live) = app.responses.live(&id, &owner).filter(|live| !live.status().is_final()) {
        app.service.abort(&id);
        live.ended().await;
    }
    let record = app.responses.record(&app.service, &id, &owner).await?;
    if !record.is_background() {
        let message = "Only responses that were made with `background` can be cancelled.";
        return Err(Failure(ApiError::bad_request(message)));
    }
    let response = settled(record);
    match response["status"].as_str() {
        Some("cancelled") => Ok(Json(response)),
        status => {
            let status = status.unwrap_or_default();
            Err(Failure(ApiError::bad_request(format!("Cannot cancel a response that is {status}."))))
        }
    }
}

/// `GET /v1/responses/{id}/input_items`.
pub(crate) async fn input_items(
    State(app): Shared,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<ItemsPage>, Failure> {
    let owner = owner();
    let query = ItemsQuery::read(pairs)?;
    let record = app.responses.record(&app.service, &id, &owner).await?;
    Ok(Json(ItemsPage::new(&record, &query)?))
}

/// A stored answer that nobody is writing any more.
fn settled(record: Record) -> Value {
    if record.is_final() { record.into_response() } else { record.into_lost_response() }
}

/// How an answer is to be shown.
#[derive(Debug, Default, PartialEq, Eq)]
struct RetrieveQuery {
    stream: bool,
    /// The first event's number.
    from: usize,
}

impl RetrieveQuery {
    fn read(pairs: Vec<(String, String)>) -> Result<Self, ApiError> {
        let mut query = Self::default();
        let mut after = None;
        for (name, value) in pairs {
            match name.as_str() {
                "stream" => query.stream = flag(&name, &value)?,
                "starting_after" => {
                    let number: usize = value.parse().map_err(|_| {
                        ApiError::invalid(
                            "starting_after",
                            "`starting_after` must be the number of an event.",
                        )
                    })?;
                    after = Some(number);
                }
                "include_obfuscation" if !flag(&name, &value)? => {}
                "include_obfuscation" => {
                    let message = "Streams are not obfuscated here. Leave it out.";
                    return Err(ApiError::invalid("include_obfuscation", message));
                }
                // What was asked for when the answer was made is in it.
                "include" | "include[]" => {}
                _ => {
                    let name: String = name.chars().take(80).collect();
                    return Err(ApiError::invalid(&name, format!("There is no parameter `{name}`.")));
                }
            }
        }
        if after.is_some() && !query.stream {
            return Err(ApiError::invalid("starting_after", "`starting_after` needs `stream=true`."));
        }
        query.from = after.map_or(0, |number| number.saturating_add(1));
        Ok(query)
    }
}

fn flag(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(ApiError::invalid(name, format!("`{name}` must be true or false."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_strictly() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            RetrieveQuery::read(pairs.collect()).map_err(|error| error.param.unwrap_or_default())
        };
        assert_eq!(read(&[]), Ok(RetrieveQuery::default()));
        let resumed = RetrieveQuery { stream: true, from: 8 };
        assert_eq!(read(&[("stream", "true"), ("starting_after", "7"), ("include[]", "x")]), Ok(resumed));
        for (pairs, param) in [
            (&[("stream", "yes")][..], "stream"),
            (&[("starting_after", "7")], "starting_after"),
            (&[("stream", "true"), ("starting_after", "-1")], "starting_after"),
            (&[("include_obfuscation", "true")], "include_obfuscation"),
            (&[("other", "1")], "other"),
        ] {
            assert_eq!(read(pairs), Err(param.to_owned()));
        }
    }
}
