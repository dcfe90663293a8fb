//! Answers that outlive their request: stored ones, and those written in the background.
//!
//! Who asked is part of every look-up: another caller's answer is as good as none.

mod live;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millrace_api::{
    ApiError, ErrorKind, GenerationOptions, GenerationRequest, Limits,
    openai::responses::{Conversation, PromptBody, Record},
};

use crate::{Service, Store, metrics::StoreMetrics};

pub(crate) use live::Live;

/// Most answers that one request may go on from.
const MAX_CHAIN: usize = 1000;

/// Most bytes of stored answers that one request may bring up.
const MAX_CONTEXT_BYTES: usize = 64 << 20;

/// Bytes of events that are kept of ended answers, for clients that come back late.
const MAX_ENDED_BYTES: usize = 32 << 20;

/// The store, and the answers in the background.
#[derive(Debug)]
pub(crate) struct Responses {
    store: Store,
    live: Mutex<Background>,
}

/// Answers in the background by id.
#[derive(Debug, Default)]
struct Background {
    answers: HashMap<String, Arc<Live>>,
    /// Those that have ended, the oldest first, with the bytes of their events.
    ended: VecDeque<(String, usize)>,
    ended_bytes: usize,
}

impl Responses {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, live: Mutex::default() }
    }

    pub(crate) fn metrics(&self) -> &StoreMetrics {
        self.store.metrics()
    }

    /// A stored answer.
    ///
    /// # Errors
    /// A 404 if there is none for this caller.
    pub(crate) async fn record(&self, service: &Service, id: &str, owner: &str) -> Result<Record, ApiError> {
        self.read(service, id, owner).await?.map(|(record, _)| record).ok_or_else(|| not_found(id))
    }

    /// Stores an answer; a failure is logged and nothing more.
    pub(crate) async fn save(&self, id: &str, record: &Record) {
        match serde_json::to_vec(record) {
            Ok(bytes) => self.store.put(id, bytes).await,
            Err(error) => tracing::warn!("`{id}` could not be stored: {error}"),
        }
    }

    /// Forgets a stored answer, and ends its writing.
    ///
    /// # Errors
    /// As in [`record`](Self::record).
    pub(crate) async fn delete(&self, service: &Service, id: &str, owner: &str) -> Result<(), ApiError> {
        self.record(service, id, owner).await?;
        if let Some(live) = self.live(id, owner) {
            // Its last state must not be stored after this.
            service.abort(id);
            live.ended().await;
            self.lock().answers.remove(id);
        }
        if self.store.delete(id).await? { Ok(()) } else { Err(not_found(id)) }
    }

    /// An answer in the background, or one that was until lately.
    pub(crate) fn live(&self, id: &str, owner: &str) -> Option<Arc<Live>> {
        self.lock().answers.get(id).filter(|live| live.is_of(owner)).cloned()
    }

    /// Keeps an answer that is going to be written in the background.
    pub(crate) async fn begin(&self, live: &Arc<Live>) {
        self.lock().answers.insert(live.id().to_owned(), live.clone());
        self.save(live.id(), &live.record()).await;
    }

    /// Stores the last state of an answer in the background.
    pub(crate) async fn end(&self, live: &Live) {
        self.save(live.id(), &live.record()).await;
        self.lock().end(live);
        live.end();
    }

    /// A request's whole conversation: with the answers that it goes on from and the items that it refers to.
    ///
    /// # Errors
    /// A 404 for what isn't there for this caller, a 400 if it is too much.
    pub(crate) async fn join(
        &self,
        service: &Service,
        prompt: PromptBody,
        options: GenerationOptions,
        owner: &str,
        limits: &Limits,
    ) -> Result<Conversation, ApiError> {
        let mut budget = MAX_CONTEXT_BYTES;
        let mut context = Vec::new();
        let mut next = prompt.previous().map(str::to_owned);
        while let Some(id) = next {
            let record = self.earlier(service, &id, owner, &mut budget).await?;
            if context.len() == MAX_CHAIN {
                let message =
                    format!("At most {MAX_CHAIN} responses may follow each other. Send the items yourself.");
                return Err(ApiError::invalid("previous_response_id", message));
            }
            next = record.previous().map(str::to_owned);
            context.push(record);
        }
        context.reverse();
        let mut referenced = Vec::new();
        for id in prompt.referenced()? {
            if let Some((record, bytes)) = self.read(service, &id, owner).await? {
                budget = spend(budget, bytes)?;
                referenced.push(record);
            }
        }
        let (bytes, limits) = (MAX_CONTEXT_BYTES - budget, limits.clone());
        service.offload().run(bytes, move || prompt.join(options, context, &referenced, &limits)).await
    }

    /// An answer to go on from.
    async fn earlier(
        &self,
        service: &Service,
        id: &str,
        owner: &str,
        budget: &mut usize,
    ) -> Result<Record, ApiError> {
        let refused = |error: ApiError| ApiError { param: Some("previous_response_id".into()), ..error };
        if let Some(live) = self.live(id, owner) {
            if !live.status().is_final() {
                let message = format!("The response `{}` is still being written.", shown(id));
                return Err(refused(ApiError::bad_request(message)));
            }
            live.ended().await;
        }
        let found = self.read(service, id, owner).await?;
        let (record, bytes) = found.ok_or_else(|| {
            let message = format!("Previous response with id '{}' not found.", shown(id));
            refused(ApiError::new(ErrorKind::NotFound, message))
        })?;
        *budget = spend(*budget, bytes).map_err(refused)?;
        Ok(record)
    }

    /// A stored answer of this caller, and its bytes.
    async fn read(
        &self,
        service: &Service,
        id: &str,
        owner: &str,
    ) -> Result<Option<(Record, usize)>, ApiError> {
        let Some(bytes) = self.store.get(id).await? else { return Ok(None) };
        let size = bytes.len();
        let parse = move || match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                tracing::warn!("a stored response can't be read: {error}");
                Ok(None)
            }
        };
        let record = service.offload().run(size, parse).await?;
        Ok(record.filter(|record| record.is_of(owner)).map(|record| (record, size)))
    }

    fn lock(&self) -> MutexGuard<'_, Background> {
        // No method leaves the table half changed, so a poisoned lock still guards a sound one.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Background {
    /// Notes that an answer has ended. Only its events aren't in the store; if those of all ended answers take too much
    /// room, the oldest go.
    fn end(&mut self, live: &Live) {
        if !live.streams() {
            self.answers.remove(live.id());
            return;
        }
        let bytes = live.bytes();
        self.ended.push_back((live.id().to_owned(), bytes));
        self.ended_bytes += bytes;
        while self.ended_bytes > MAX_ENDED_BYTES
            && let Some((id, bytes)) = self.ended.pop_front()
        {
            self.answers.remove(&id);
            self.ended_bytes -= bytes;
        }
    }
}

/// How many of a conversation's oldest items have to be left out so that it fits the model's context.
///
/// # Errors
/// As in [`Service::tokenize`].
pub(crate) async fn fit(
    service: &Service,
    conversation: &Conversation,
) -> Result<GenerationRequest, ApiError> {
    // The least number that fits lies between these two, or nothing fits.
    let (mut least, mut most) = (0, conversation.droppable());
    let mut tried = 0;
    while least < most {
        let tokens = service.tokenize(conversation.count(tried)).await?;
        if tokens.count + conversation.reserve(tokens.max_model_len) <= tokens.max_model_len {
            most = tried;
        } else {
            least = tried + 1;
        }
        tried = least.midpoint(most);
    }
    Ok(conversation.request(least))
}

fn spend(budget: usize, bytes: usize) -> Result<usize, ApiError> {
    budget.checked_sub(bytes).ok_or_else(|| {
        let message = format!("The responses before this one have more than {MAX_CONTEXT_BYTES} bytes.");
        ApiError::bad_request(message)
    })
}

/// A 404 for an answer.
pub(crate) fn not_found(id: &str) -> ApiError {
    ApiError::new(ErrorKind::NotFound, format!("Response with id '{}' not found.", shown(id)))
}

/// An id from outside, cut to a length for messages.
fn shown(id: &str) -> String {
    id.chars().take(100).collect()
}
