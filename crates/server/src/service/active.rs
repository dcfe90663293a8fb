//! Which requests are in the house: for cancelling by id, for `/load`, for draining.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use millrace_engine::EngineHandle;
use millrace_types::RequestId;
use tokio::sync::watch;

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
    /// In this engine. Empty as long as the request waits for its model or is prepared.
    sequences: Vec<(EngineHandle, RequestId)>,
    /// Set when it is cancelled, perhaps before it has sequences.
    cancel: watch::Sender<bool>,
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
    pub(crate) fn enter(&self, names: Vec<String>) -> ActiveGuard {
        let mut table = self.lock();
        let key = table.next_key;
        table.next_key += 1;
        for name in &names {
            table.by_name.entry(name.clone()).or_default().push(key);
        }
        let (cancel, cancelled) = watch::channel(false);
        table.entries.insert(key, Entry { names, sequences: Vec::new(), cancel });
        self.0.count.send_replace(table.entries.len());
        ActiveGuard { active: self.clone(), key, cancelled }
    }

    /// Aborts all sequences of all requests of this name; says how many requests that were.
    pub(crate) fn abort(&self, name: &str) -> usize {
        let mut table = self.lock();
        let Table { entries, by_name, .. } = &mut *table;
        let keys = by_name.get(name).map_or(&[][..], Vec::as_slice);
        for key in keys {
            if let Some(entry) = entries.get_mut(key) {
                entry.cancel.send_replace(true);
                entry.sequences.iter().for_each(|(engine, id)| engine.abort(*id));
            }
        }
        keys.len()
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
    pub(crate) fn assign(&self, engine: &EngineHandle, sequences: impl Iterator<Item = RequestId>) {
        let sequences: Vec<_> = sequences.map(|id| (engine.clone(), id)).collect();
        if let Some(entry) = self.active.lock().entries.get_mut(&self.key) {
            if *entry.cancel.borrow() {
                sequences.iter().for_each(|(engine, id)| engine.abort(*id));
            }
            entry.sequences = sequences;
        }
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.active.leave(self.key);
    }
}
