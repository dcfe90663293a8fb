//! New answers.

use std::{collections::VecDeque, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures::{Stream, StreamExt, stream, stream::BoxStream};
use millrace_api::{
    ApiError, ChatEvent, Frame, GenerationOptions,
    openai::responses::{
        Assembler, Conversation, Record, ResponseId, ResponsesCall, TokenCount, parse, parse_count,
    },
};
use serde_json::Value;
use uuid::Uuid;

use super::owner;
use crate::{
    agent::{self, Answer},
    documents,
    http::{App, body, middleware::RequestName, reply::Failure, sse},
    model::unix_time,
    responses::{Live, fit},
};

/// `POST /v1/responses`.
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Extension(name): Extension<RequestName>,
    request: Request,
) -> Result<Response, Failure> {
    let id = new_id();
    let (limits, own) = (app.config.limits.clone(), id.clone());
    let call = body::read(&app, request, move |body| parse(body, &limits, &own)).await?;
    let writing = begin(&app, &call, &id, name.0, call.options().clone()).await?;
    Ok(match (call.in_background(), call.streams()) {
        (true, stream) => background(writing, owner(), stream).await,
        (false, true) => sse::respond(&app, writing.into_events(), None),
        (false, false) => {
            let mut writing = writing;
            Json(writing.whole().await?).into_response()
        }
    })
}

/// The answer to a request that didn't come over HTTP by itself, with what has to be kept until it is where it belongs:
/// as long as that lives, the server doesn't stop.
///
/// # Errors
/// As the route.
pub(crate) async fn answer(
    app: &Arc<App>,
    body: Value,
    name: String,
    priority: i32,
) -> Result<(Value, Box<dyn Send>), ApiError> {
    let id = new_id();
    let (limits, own) = (app.config.limits.clone(), id.clone());
    let body = documents::fill(app, body).await?;
    let call = app.service.offload().run(usize::MAX, move || parse(&body, &limits, &own)).await?;
    for (wanted, name) in [(call.streams(), "stream"), (call.in_background(), "background")] {
        if wanted {
            return Err(ApiError::invalid(name, format!("`{name}` has no meaning here. Leave it out.")));
        }
    }
    let options = GenerationOptions { priority, ..call.options().clone() };
    let mut writing = begin(app, &call, &id, name, options).await?;
    let answer = writing.whole().await?;
    Ok((answer, Box::new(writing)))
}

fn new_id() -> ResponseId {
    ResponseId::new(Uuid::new_v4().simple().to_string())
}

/// Joins the conversation and queues the request.
async fn begin(
    app: &Arc<App>,
    call: &ResponsesCall,
    id: &ResponseId,
    name: String,
    options: GenerationOptions,
) -> Result<Writing, ApiError> {
    let (owner, limits) = (owner(), &app.config.limits);
    let conversation =
        app.responses.join(&app.service, call.prompt().clone(), options, &owner, limits).await?;
    let asked = fit(&app.service, &conversation).await?;
    let named = asked.model.clone();
    let Answer { model, events } = agent::answer(app, asked, vec![id.name(), name]).await?;
    let model = named.unwrap_or(model);
    let assembler = call.assembler(id, unix_time(), &model);
    let record = call.stores().then(|| Record::new(&owner, &conversation, assembler.response()));
    // It may be large, and nobody needs it any more.
    drop::<Conversation>(conversation);
    Ok(Writing { app: app.clone(), id: id.name(), news: events, assembler, record })
}

/// `POST /v1/responses/input_tokens`: what the same question costs as a prompt, told without running it.
pub(crate) async fn input_tokens(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<TokenCount>, Failure> {
    let (owner, id) = (owner(), new_id());
    let limits = app.config.limits.clone();
    let prompt = body::read(&app, request, move |body| parse_count(body, &limits, &id)).await?;
    let (options, limits) = (GenerationOptions::default(), &app.config.limits);
    let conversation = app.responses.join(&app.service, prompt, options, &owner, limits).await?;
    let tokens = app.service.tokenize(conversation.count(0)).await?;
    Ok(Json(TokenCount::new(tokens.count)))
}

/// An answer being written for a client that waits.
struct Writing {
    app: Arc<App>,
    id: String,
    /// Kept until the answer is stored: as long as it lives, the server doesn't stop.
    news: BoxStream<'static, ChatEvent>,
    assembler: Assembler,
    /// The question, if the answer is to be stored.
    record: Option<Record>,
}

impl Writing {
    /// The collected stream. If the client leaves, this future is dropped, and the generation with it.
    async fn whole(&mut self) -> Result<Value, ApiError> {
        while let Some(event) = self.news.next().await {
            if let ChatEvent::Error(error) = event {
                return Err(error);
            }
            self.assembler.push(event, unix_time());
        }
        self.save().await;
        Ok(self.assembler.response())
    }

    /// The events. The last ones come when the answer is stored, so that a next request finds it.
    fn into_events(mut self) -> impl Stream<Item = Frame> + Send {
        let begin = VecDeque::from(self.assembler.begin());
        stream::unfold((self, begin), |(mut writing, mut ready)| async move {
            loop {
                if let Some(frame) = ready.pop_front() {
                    return Some((frame, (writing, ready)));
                }
                let event = writing.news.next().await?;
                ready.extend(writing.assembler.push(event, unix_time()));
                if writing.assembler.status().is_final() {
                    writing.save().await;
                }
            }
        })
    }

    async fn save(&mut self) {
        if let Some(record) = self.record.take() {
            let record = record.with_response(self.assembler.response());
            self.app.responses.save(&self.id, &record).await;
        }
    }
}

/// Lets the answer be written whether or not the client stays.
async fn background(writing: Writing, owner: String, stream: bool) -> Response {
    let Writing { app, id, mut news, assembler, record } = writing;
    let Some(record) = record else {
        // `parse` lets nothing into the background that isn't stored.
        return Failure(ApiError::internal("An answer in the background is not stored.")).into_response();
    };
    let live = Live::new(id, owner, assembler, record);
    app.responses.begin(&live).await;
    let answer = if stream {
        sse::respond(&app, live.clone().events(0), None)
    } else {
        Json(live.response()).into_response()
    };
    tokio::spawn(async move {
        while let Some(event) = news.next().await {
            live.push(event);
        }
        app.responses.end(&live).await;
    });
    answer
}
