//! One answer that is written in the background.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, stream};
use millrace_api::{
    ChatEvent, Frame,
    openai::responses::{Assembler, Record, Status},
};
use serde_json::Value;
use tokio::sync::watch;

use crate::model::unix_time;

/// An answer as it stands, its events so far, and word of new ones.
#[derive(Debug)]
pub(crate) struct Live {
    id: String,
    owner: String,
    /// The question, with the answer as it was when it was put up.
    asked: Record,
    state: Mutex<State>,
    /// Whether all is said and stored.
    news: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    assembler: Assembler,
    /// All events, by their sequence number; empty if the client didn't ask for a stream.
    events: Vec<Frame>,
}

impl Live {
    /// An answer whose writing begins. `asked` has its question.
    pub(crate) fn new(id: String, owner: String, mut assembler: Assembler, asked: Record) -> Arc<Self> {
        let events = assembler.begin();
        let state = Mutex::new(State { assembler, events });
        Arc::new(Self { id, owner, asked, state, news: watch::Sender::new(false) })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn is_of(&self, owner: &str) -> bool {
        self.owner == owner
    }

    /// Takes what happens next; whether that was the end.
    pub(crate) fn push(&self, event: ChatEvent) -> bool {
        let ended = {
            let mut state = self.lock();
            let frames = state.assembler.push(event, unix_time());
            state.events.extend(frames);
            state.assembler.status().is_final()
        };
        self.news.send_modify(|_| ());
        ended
    }

    /// All is said and stored.
    pub(super) fn end(&self) {
        self.news.send_replace(true);
    }

    /// Waits until all is said and stored.
    pub(crate) async fn ended(&self) {
        // The sender lives as long as `self`: the wait can't fail.
        let _ = self.news.subscribe().wait_for(|ended| *ended).await;
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().assembler.status()
    }

    /// The answer as it stands.
    pub(crate) fn response(&self) -> Value {
        self.lock().assembler.response()
    }

    /// The same for the store.
    pub(super) fn record(&self) -> Record {
        self.asked.with_response(self.response())
    }

    /// Bytes of its events.
    pub(super) fn bytes(&self) -> usize {
        self.lock().events.iter().map(|frame| frame.data.len() + size_of::<Frame>()).sum::<usize>()
    }

    /// Whether its events are kept.
    pub(crate) fn streams(&self) -> bool {
        !self.lock().events.is_empty()
    }

    /// Its events from this number on, as they come.
    pub(crate) fn events(self: Arc<Self>, from: usize) -> impl Stream<Item = Frame> + Send {
        let news = self.news.subscribe();
        stream::unfold((self, news, from), |(live, mut news, next)| async move {
            loop {
                // Marked as seen before it is looked at: what comes in between wakes us up.
                news.borrow_and_update();
                let (event, last) = {
                    let state = live.lock();
                    (state.events.get(next).cloned(), state.assembler.status().is_final())
                };
                match event {
                    Some(event) => return Some((event, (live, news, next + 1))),
                    None if last => return None,
                    None => news.changed().await.ok()?,
                }
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // An answer that a panic left half written is still the best there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
