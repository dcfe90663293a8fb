//! Which requests are in the house: for cancelling by id, for `/load` and `/v1/status`, for draining.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use millrace_engine::{EngineHandle, RequestState};
use millrace_types::RequestId;
use serde::Serialize;
use tokio::sync::watch;

use crate::{ServedModel, keys::Caller};

/// All requests between acceptance and the end of their stream.
#[derive(Debug, Clone)]
pub(crate) struct Active(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    next_key: u64,
    entries: HashMap<u64, Entry>,
    /// A name may stand for several requests: clients choose their `X-Request-Id`.
    by_name: HashMap<String, Vec<u64>>,
}

#[derive(Debug)]
struct Entry {
    names: Vec<String>,
    /// As it was asked for; once it runs, the model's own name.
    model: String,
    caller: Caller,
    arrival: Instant,
    /// In this engine. Empty as long as the request waits for its model or is prepared.
    sequences: Vec<(EngineHandle, RequestId)>,
    /// Set when it is cancelled, perhaps before it has sequences.
    cancel: watch::Sender<bool>,
}

/// One request, as `/v1/status` shows it. Its text is nobody's business.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RequestStatus {
    /// The answer's id.
    pub(crate) id: String,
    /// Its `X-Request-Id`.
    request_id: Option<String>,
    model: String,
    /// The name of the caller's key.
    key: Option<String>,
    /// `preparing` (template and tokenizer), `waiting`, `running`, or `finishing` (the client has yet to read the end).
    state: &'static str,
    age_seconds: f64,
    /// Prompts times `n`.
    sequences: usize,
    /// Of the first sequence that is still open, as are the cached ones.
    prompt_tokens: usize,
    cached_tokens: usize,
    /// Over all sequences that are still open: tokens whose KV is in the cache.
    computed_tokens: usize,
    /// The same for sampled tokens.
    generated_tokens: usize,
    preemptions: u32,
}

/// Keeps a request in the table until dropped.
#[derive(Debug)]
pub(crate) struct ActiveGuard {
    active: Active,
    key: u64,
    cancelled: watch::Receiver<bool>,
}

impl Active {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { table: Mutex::default(), count: watch::Sender::new(0) }))
    }

    /// Enters a request under all of its names, before anything is queued: a drain must not overlook it.
    pub(crate) fn enter(
        &self,
        names: Vec<String>,
        model: Option<&str>,
        caller: Caller,
        arrival: Instant,
    ) -> ActiveGuard {
        let mut table = self.lock();
        let key = table.next_key;
        table.next_key += 1;
        for name in &names {
            table.by_name.entry(name.clone()).or_default().push(key);
        }
        let (cancel, cancelled) = watch::channel(false);
        let model = model.unwrap_or_default().to_owned();
        let entry = Entry { names, model, caller, arrival, sequences: Vec::new(), cancel };
        table.entries.insert(key, entry);
        self.0.count.send_replace(table.entries.len());
        ActiveGuard { active: self.clone(), key, cancelled }
    }

    /// Aborts all sequences of all requests of this name that `caller` may touch; says how many requests that were.
    pub(crate) fn abort(&self, name: &str, caller: &Caller) -> usize {
        let mut table = self.lock();
        let Table { entries, by_name, .. } = &mut *table;
        let mut aborted = 0;
        for key in by_name.get(name).into_iter().flatten() {
            if let Some(entry) = entries.get_mut(key).filter(|entry| caller.rules(&entry.caller)) {
                entry.cancel.send_replace(true);
                entry.sequences.iter().for_each(|(engine, id)| engine.abort(*id));
                aborted += 1;
            }
        }
        aborted
    }

    /// Aborts all sequences of all requests.
    pub(crate) fn abort_all(&self) {
        for entry in self.lock().entries.values() {
            entry.cancel.send_replace(true);
            entry.sequences.iter().for_each(|(engine, id)| engine.abort(*id));
        }
    }

    /// All requests, oldest first. `states` has the engines' words by model and sequence.
    pub(crate) fn status(&self, states: &HashMap<(String, RequestId), RequestState>) -> Vec<RequestStatus> {
        let table = self.lock();
        let mut entries: Vec<_> = table.entries.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| **key);
        entries.into_iter().map(|(_, entry)| entry.status(states)).collect()
    }

    /// How many requests are in the house.
    pub(crate) fn count(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Waits until there are none.
    pub(crate) async fn idle(&self) {
        // The sender lives as long as `self`: the wait can't fail.
        let _ = self.0.count.subscribe().wait_for(|count| *count == 0).await;
    }

    fn leave(&self, key: u64) {
        let mut table = self.lock();
        if let Some(entry) = table.entries.remove(&key) {
            for name in entry.names {
                let now_unused = table.by_name.get_mut(&name).is_some_and(|keys| {
                    keys.retain(|other| *other != key);
                    keys.is_empty()
                });
                if now_unused {
                    table.by_name.remove(&name);
                }
            }
        }
        self.0.count.send_replace(table.entries.len());
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // No method leaves the table half changed, so a poisoned lock still guards a sound one.
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveGuard {
    /// Done when the request is cancelled.
    pub(crate) fn cancelled(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut cancelled = self.cancelled.clone();
        async move {
            // The entry and its sender live as long as the guard; without it, nobody is left to be told.
            let _ = cancelled.wait_for(|cancelled| *cancelled).await;
        }
    }

    /// Says which sequences the request has. If it was cancelled before, they are aborted at once.
    pub(crate) fn assign(&self, model: &ServedModel, sequences: impl Iterator<Item = RequestId>) {
        let sequences: Vec<_> = sequences.map(|id| (model.engine.clone(), id)).collect();
        if let Some(entry) = self.active.lock().entries.get_mut(&self.key) {
            if *entry.cancel.borrow() {
                sequences.iter().for_each(|(engine, id)| engine.abort(*id));
            }
            model.name().clone_into(&mut entry.model);
            entry.sequences = sequences;
        }
    }
}

impl Entry {
    fn status(&self, states: &HashMap<(String, RequestId), RequestState>) -> RequestStatus {
        let known = |(_, id): &(_, RequestId)| states.get(&(self.model.clone(), *id));
        let sequences: Vec<&RequestState> = self.sequences.iter().filter_map(known).collect();
        let state = match &*sequences {
            [] if self.sequences.is_empty() => "preparing",
            [] => "finishing",
            sequences if sequences.iter().any(|state| state.running) => "running",
            _ => "waiting",
        };
        RequestStatus {
            id: self.names.first().cloned().unwrap_or_default(),
            request_id: self.names.get(1).cloned(),
            model: self.model.clone(),
            key: self.caller.name().map(str::to_owned),
            state,
            age_seconds: self.arrival.elapsed().as_secs_f64(),
            sequences: self.sequences.len(),
            prompt_tokens: sequences.first().map_or(0, |state| state.prompt_tokens),
            cached_tokens: sequences.first().map_or(0, |state| state.cached_tokens),
            computed_tokens: sequences.iter().map(|state| state.computed_tokens).sum(),
            generated_tokens: sequences.iter().map(|state| state.generated_tokens).sum(),
            preemptions: sequences.iter().map(|state| state.preemptions).sum(),
        }
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.active.leave(self.key);
    }
}
