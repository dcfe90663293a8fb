//! Ollama's API: text. What it says of models is in [`ollama_models`](super::ollama_models).

use std::{
    convert::Infallible,
    future::{Future, ready},
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Request, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use millrace_api::{
    ApiError, ChatEvent, Limits,
    ollama::{self, Lines, Needs, OllamaCall, Times, models::resolve},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    Generation, ModelReport, Registry,
    http::{App, body, middleware::RequestName, reply::Failure},
    model::unix_time,
};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;

/// `POST /api/chat`.
pub(crate) async fn ollama_chat(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    answer(&app, name, request, |body, limits, _| ollama::parse_chat(body, limits)).await
}

/// `POST /api/generate`.
pub(crate) async fn ollama_generate(
    State(app): Shared,
    Extension(name): Name,
    request: Request,
) -> Result<Response, Failure> {
    let parse = |body: &Value, limits: &Limits, models: &Registry| {
        // Of a model that isn't known yet, the best is thought.
        let has_template = |name: &str| {
            let report = models.report(&registered(models, name)).ok();
            report.and_then(|report| report.abilities).is_none_or(|abilities| abilities.chat)
        };
        ollama::parse_generate(body, limits, has_template)
    };
    answer(&app, name, request, parse).await
}

async fn answer(
    app: &App,
    name: RequestName,
    request: Request,
    parse: impl FnOnce(&Value, &Limits, &Registry) -> Result<OllamaCall, ApiError> + Send + 'static,
) -> Result<Response, Failure> {
    let arrival = Instant::now();
    let models = app.service.models();
    let (limits, known) = (app.config.limits.clone(), models.clone());
    let call = body::read_any(app, request, move |body| parse(body, &limits, &known)).await?;
    let model = registered(models, &call.model);
    app.service.check_model(Some(&model))?;
    check(&models.report(&model)?, call.needs)?;
    let Some(mut work) = call.work else {
        return settle(app, &model, call.keep_alive, &call.lines, arrival).await;
    };
    work.model = Some(model.clone());
    let generation = app.service.generate(work, vec![name.0]).await?;
    if let Some(keep) = call.keep_alive {
        models.keep(Some(&model), keep.0)?;
    }
    let clock = Clock { arrival, load: generation.load_time() };
    match call.stream {
        true => Ok(stream(generation, call.lines, clock)),
        false => Ok(Json(whole(generation, call.lines, clock).await?).into_response()),
    }
}

/// The registry's name for a model, which Ollama's clients may write with a tag.
pub(super) fn registered(models: &Registry, name: &str) -> String {
    resolve(name, |name| models.knows(name))
}

fn check(model: &ModelReport, needs: Needs) -> Result<(), ApiError> {
    let Some(abilities) = model.abilities else { return Ok(()) };
    let lacks =
        [("tools", needs.tools && !abilities.tools), ("think", needs.thinking && !abilities.thinking)];
    match lacks.into_iter().find(|(_, lacks)| *lacks) {
        Some((field, _)) => {
            let what = if field == "tools" { "tools" } else { "thinking" };
            Err(ApiError::invalid(field, format!("The model `{}` does not support {what}.", model.name())))
        }
        None => Ok(()),
    }
}

/// A request without a prompt: it loads the model, or unloads it.
async fn settle(
    app: &App,
    model: &str,
    keep_alive: Option<ollama::KeepAlive>,
    lines: &Lines,
    arrival: Instant,
) -> Result<Response, Failure> {
    let models = app.service.models();
    if keep_alive.is_some_and(ollama::KeepAlive::is_zero) {
        models.keep(Some(model), Some(Duration::ZERO))?;
        let clock = Clock { arrival, load: Duration::ZERO };
        return Ok(Json(lines.done("unload", &clock.now())).into_response());
    }
    let lease = within(app.config.request_timeout, models.lookup(Some(model))).await?;
    let clock = Clock { arrival, load: arrival.elapsed() };
    if let Some(keep) = keep_alive {
        models.keep(Some(model), keep.0)?;
    }
    drop(lease);
    Ok(Json(lines.done("load", &clock.now())).into_response())
}

/// Waits no longer than `limit`.
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match limit {
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| Err(ApiError::timeout())),
        None => work.await,
    }
}

/// The client going away drops the generation, and with it the request.
fn stream(generation: Generation, mut lines: Lines, clock: Clock) -> Response {
    let lines = generation.into_stream().filter_map(move |event| ready(lines.line(event, &clock.now())));
    ndjson(Body::from_stream(lines.map(|line| Ok::<_, Infallible>(format!("{line}\n")))))
}

/// Lines of JSON as a response.
pub(super) fn ndjson(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

async fn whole(mut generation: Generation, mut lines: Lines, clock: Clock) -> Result<Value, ApiError> {
    let mut all = Vec::new();
    while let Some(event) = generation.next().await {
        if let ChatEvent::Error(error) = event {
            return Err(error);
        }
        all.extend(lines.line(event, &clock.now()));
    }
    lines.whole(all)
}

/// Tells the times of one request.
#[derive(Debug, Clone, Copy)]
struct Clock {
    arrival: Instant,
    load: Duration,
}

impl Clock {
    fn now(&self) -> Times {
        Times { load: self.load, now: self.arrival.elapsed(), unix: unix_time() }
    }
}
