//! Ollama's API: embeddings.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension,
    extract::{Request, State},
    response::Response,
};
use millrace_api::{
    ApiError, Limits, PoolingAnswer,
    ollama::{EmbedCall, Times, embed_body, embeddings_body, parse_embed, parse_embeddings},
};
use serde_json::Value;

use super::{ollama::registered, pooling::json};
use crate::{
    http::{App, body, middleware::RequestName, reply::Failure},
    model::unix_time,
};

type Shared = State<Arc<App>>;
type Name = Extension<RequestName>;

/// `POST /api/embed`.
pub(crate) async fn ollama_embed(
    State(app): Shared,
    name: Name,
    request: Request,
) -> Result<Response, Failure> {
    let arrival = Instant::now();
    let (model, answer) = answer(&app, name, request, parse_embed).await?;
    // The model's load is part of the wait and isn't told apart.
    let times = Times { load: Duration::ZERO, now: arrival.elapsed(), unix: unix_time() };
    Ok(json(embed_body(&model, answer.as_ref(), &times)?))
}

/// `POST /api/embeddings`.
pub(crate) async fn ollama_embeddings(
    State(app): Shared,
    name: Name,
    request: Request,
) -> Result<Response, Failure> {
    let (_, answer) = answer(&app, name, request, parse_embeddings).await?;
    Ok(json(embeddings_body(answer.as_ref())?))
}

/// The answer, and the model's name as the client wrote it.
async fn answer(
    app: &App,
    Extension(name): Name,
    request: Request,
    parse: impl FnOnce(&Value, &Limits) -> Result<EmbedCall, ApiError> + Send + 'static,
) -> Result<(String, Option<PoolingAnswer>), ApiError> {
    let (limits, models) = (app.config.limits.clone(), app.service.models());
    let call = body::read_any(app, request, move |body| parse(body, &limits)).await?;
    let model = registered(models, &call.model);
    app.service.check_model(Some(&model))?;
    let answer = match call.work {
        Some(mut work) => {
            work.options.model = Some(model.clone());
            Some(app.service.pool(work, vec![name.0]).await?)
        }
        None => {
            drop(models.lookup(Some(&model)).await?);
            None
        }
    };
    if let Some(keep) = call.keep_alive {
        models.keep(Some(&model), keep.0)?;
    }
    Ok((call.model, answer))
}
