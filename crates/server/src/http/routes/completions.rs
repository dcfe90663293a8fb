//! Chat completions that are stored.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use futures::{Stream, StreamExt, stream};
use millrace_api::{
    ChatEvent, Collector, Encoder, Frame, ReplyHead,
    openai::{
        chat::{CompletionsQuery, Question, completion_deleted, completions_page},
        paging::{ListBody, ListQuery},
    },
};
use serde_json::Value;

use super::generate::Events;
use crate::{
    http::{App, body, reply::Failure},
    keys::Caller,
};

type Shared = State<Arc<App>>;
type Pairs = Query<Vec<(String, String)>>;

/// A question whose answer is to be stored.
pub(super) struct Keeper {
    app: Arc<App>,
    owner: String,
    question: Question,
    request_id: String,
}

impl Keeper {
    pub(super) fn new(app: &Arc<App>, question: Question, request_id: String) -> Self {
        Self { app: app.clone(), owner: Caller::current().owner(), question, request_id }
    }

    /// Stores the answer.
    pub(super) async fn keep(self, completion: Value) {
        let stored = self.question.answered(completion, &self.request_id);
        self.app.completions.save(&self.owner, &stored).await;
    }

    /// The answer's frames. The last ones come when it is stored, so that a next request finds it.
    pub(super) fn frames(
        self,
        events: Events,
        head: ReplyHead,
        encoder: Box<dyn Encoder>,
    ) -> impl Stream<Item = Frame> + Send {
        let state = (events, encoder, head, Collector::default(), Some(self));
        let pieces =
            stream::unfold(state, |(mut events, mut encoder, head, mut collector, mut keeper)| async move {
                let event: ChatEvent = events.next().await?;
                if let Ok(Some(answer)) = collector.push(event.clone())
                    && let Some(keeper) = keeper.take()
                {
                    keeper.keep(encoder.body(&head, answer)).await;
                }
                let frames = encoder.frames(&head, event);
                Some((stream::iter(frames), (events, encoder, head, collector, keeper)))
            });
        pieces.flatten()
    }
}

/// `GET /v1/chat/completions`.
pub(crate) async fn list(State(app): Shared, Query(pairs): Pairs) -> Result<Json<ListBody<Value>>, Failure> {
    let query = CompletionsQuery::read(pairs)?;
    let (found, has_more) = app.completions.list(&app.service, &Caller::current().owner(), &query).await?;
    Ok(Json(completions_page(found, has_more)))
}

/// `GET /v1/chat/completions/{id}`.
pub(crate) async fn retrieve(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let found = app.completions.get(&app.service, &Caller::current().owner(), &id).await?;
    Ok(Json(found.into_object()))
}

/// `POST /v1/chat/completions/{id}`: other metadata.
pub(crate) async fn update(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Value>, Failure> {
    let owner = Caller::current().owner();
    let mut stored = app.completions.get(&app.service, &owner, &id).await?;
    let stored = body::read(&app, request, move |body| stored.update(body).map(|()| stored)).await?;
    app.completions.save(&owner, &stored).await;
    Ok(Json(stored.into_object()))
}

/// `DELETE /v1/chat/completions/{id}`.
pub(crate) async fn delete(State(app): Shared, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    app.completions.delete(&Caller::current().owner(), &id).await?;
    Ok(Json(completion_deleted(&id)))
}

/// `GET /v1/chat/completions/{id}/messages`.
pub(crate) async fn messages(
    State(app): Shared,
    Path(id): Path<String>,
    Query(pairs): Pairs,
) -> Result<Json<ListBody<Value>>, Failure> {
    let query = ListQuery::of_completions(pairs)?;
    let found = app.completions.get(&app.service, &Caller::current().owner(), &id).await?;
    Ok(Json(found.messages(&query)?))
}
