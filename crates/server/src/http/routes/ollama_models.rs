//! Ollama's API: what it says of models, and what it would do with them.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use millrace_api::{
    ApiError, ErrorKind,
    ollama::{
        VERSION, error_body,
        models::{Described, Tag},
        parse_name, parse_stream,
    },
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ollama::{ndjson, registered};
use crate::{
    ModelReport, ModelState, Registry,
    http::{App, body, reply::Failure},
    model::unix_time,
};

/// What "never" is where a date is needed: a hundred years, in seconds.
const NEVER: u64 = 100 * 365 * 86_400;

/// `GET /`. Clients ask whether anybody is there.
pub(crate) async fn root() -> &'static str {
    "Millrace is running"
}

/// `GET /api/version`.
pub(crate) async fn ollama_version() -> Json<Value> {
    Json(json!({"version": VERSION}))
}

/// `GET /api/tags`: all models. An alias is a model of its own to these clients.
pub(crate) async fn tags(State(app): State<Arc<App>>) -> Json<Value> {
    let reports = app.service.reports();
    let tags = reports.iter().flat_map(|report| {
        report
            .names
            .iter()
            .map(|name| Described { name: name.clone(), ..describe(report) }.tag(digest(report)))
    });
    Json(json!({"models": tags.collect::<Vec<Tag>>()}))
}

/// `GET /api/ps`: the models that are in memory.
pub(crate) async fn ps(State(app): State<Arc<App>>) -> Json<Value> {
    let reports = app.service.reports();
    let is_there = |report: &&ModelReport| matches!(report.state, ModelState::Ready | ModelState::Draining);
    let running = reports.iter().filter(is_there).map(|report| {
        let left = report.expires_in.map_or(NEVER, |time| time.as_secs());
        describe(report).running(digest(report), report.bytes_in_memory(), unix_time() + left)
    });
    Json(json!({"models": running.collect::<Vec<Tag>>()}))
}

/// `POST /api/show`.
pub(crate) async fn show(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Failure> {
    let name = body::read_any(&app, request, parse_name).await?;
    let models = app.service.models();
    let name = registered(models, &name);
    app.service.check_model(Some(&name))?;
    let report = models.report(&name)?;
    let template = models.template(&name).unwrap_or_default();
    Ok(Json(Described { name, template, ..describe(&report) }.show()))
}

/// `POST /api/pull`: a model that the server knows is made ready; others it can't get.
pub(crate) async fn pull(State(app): State<Arc<App>>, request: Request) -> Result<Response, Failure> {
    let read = |body: &Value| Ok((parse_name(body)?, parse_stream(body)?));
    let (asked, lines) = body::read_any(&app, request, read).await?;
    let models = app.service.models().clone();
    let name = registered(&models, &asked);
    if !models.knows(&name) {
        let message =
            "This server serves the models that it was started with: name this one in its file of models.";
        let error =
            ApiError::new(ErrorKind::NotFound, format!("`{}` can't be pulled. {message}", short(&asked)));
        return Err(Failure(error));
    }
    app.service.check_model(Some(&name))?;
    if !lines {
        fetch(&models, &name).await?;
        return Ok(Json(json!({"status": "success"})).into_response());
    }
    let begin = json!({"status": format!("pulling {name}")});
    let end = async move {
        match fetch(&models, &name).await {
            Ok(()) => json!({"status": "success"}),
            Err(error) => error_body(&error),
        }
    };
    let lines = stream::iter([begin]).chain(stream::once(end));
    Ok(ndjson(Body::from_stream(lines.map(|line| Ok::<_, Infallible>(format!("{line}\n"))))))
}

/// Has a model's files here. Of one that was looked at, they are.
async fn fetch(models: &Registry, name: &str) -> Result<(), ApiError> {
    if models.report(name)?.max_model_len.is_none() {
        drop(models.load(name).await?);
    }
    Ok(())
}

/// `/api/create`, `/api/copy`, `/api/push`, `/api/delete`, `/api/blobs/…`.
pub(crate) async fn fixed_models() -> Failure {
    let message =
        "This server's models are those that it was started with: they can't be changed through this API.";
    Failure(ApiError::bad_request(message))
}

fn describe(report: &ModelReport) -> Described {
    let details = report.details.clone().unwrap_or_default();
    let capabilities = report.abilities.unwrap_or_default().names();
    Described {
        name: report.name().to_owned(),
        root: report.root.clone(),
        since: report.created,
        size: report.memory.map_or(0, |memory| memory.weights),
        family: details.family,
        parameters: details.parameters,
        quantization: details.quantization,
        context: report.max_model_len,
        shape: [details.hidden, details.layers, details.vocab],
        // "Chat" is no capability there: every model has it.
        capabilities: capabilities.into_iter().filter(|name| *name != "chat").collect(),
        template: String::new(),
    }
}

/// Stands for the content of a model: clients use it to tell models apart.
fn digest(report: &ModelReport) -> String {
    let details = report.details.clone().unwrap_or_default();
    let text = format!("{}\n{}\n{}", report.root, details.parameters, details.quantization);
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn short(name: &str) -> String {
    name.chars().take(200).collect()
}
