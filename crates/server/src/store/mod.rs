//! Keeps named bytes for a while: in memory, or in a file that survives the process.
//!
//! Everything happens on one thread of its own, which owns the database and takes requests through a channel; whatever
//! waits is done in one transaction, so that many writers cost one disk flush. The database is `redb`: a file that is
//! whole after every commit, whatever kills the process, in plain Rust. Without a path the same database lives in memory.
//!
//! What can't be written is lost with a warning and a count, and costs no request its answer.

mod db;
mod open;
mod solid;
mod thread;

use std::{path::PathBuf, sync::Arc, time::Duration};

use millrace_api::ApiError;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{ServerError, metrics::StoreMetrics};
use db::{Done, Op, Range};
pub(crate) use open::{caught, open};
use thread::{Command, Worker};

/// Requests that may wait; what is beyond them isn't kept, because the disk can't keep up.
const QUEUE: usize = 1024;

/// How long an answer waits for its disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// Seconds after which a client may try again.
const RETRY: u32 = 5;

/// Where things are kept, how much and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// A file; `None` keeps everything in memory.
    pub path: Option<PathBuf>,
    /// Most bytes of content, names included; beyond it the oldest goes. 0 keeps nothing.
    pub max_bytes: u64,
    /// How long things are kept.
    pub ttl: Duration,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self { path: None, max_bytes: 256 << 20, ttl: Duration::from_secs(30 * 24 * 3600) }
    }
}

/// A handle; the store ends with its last one.
#[derive(Debug, Clone)]
pub struct Store {
    commands: mpsc::Sender<Command>,
    metrics: Arc<StoreMetrics>,
    /// Whether anything is to be kept at all.
    keeps: bool,
}

impl Store {
    /// Opens the store. A file that is damaged is put aside, and a new one begun.
    ///
    /// # Errors
    /// If the file can't be used at all: no permission, no room, or another process has it.
    pub fn open(config: StoreConfig) -> Result<Self, ServerError> {
        let metrics = Arc::new(StoreMetrics::default());
        let (path, keeps) = (config.path.clone().unwrap_or_default(), config.max_bytes > 0);
        let refused = |reason: String| ServerError::Store {
            flag: "--response-store",
            path: path.display().to_string(),
            reason,
        };
        let worker = Worker::open(config, metrics.clone()).map_err(|error| refused(error.to_string()))?;
        let (commands, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("millrace-store".into())
            .spawn(move || worker.run(queue))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { commands, metrics, keeps })
    }

    /// A store in memory, with the default bounds.
    pub fn in_memory() -> Self {
        Self::open(StoreConfig::default()).unwrap_or_else(|error| {
            tracing::warn!("{error}; nothing will be stored");
            Self { commands: mpsc::channel(1).0, metrics: Arc::default(), keeps: false }
        })
    }

    pub(crate) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// What is kept under this name.
    ///
    /// # Errors
    /// A 503 if the store can't be read now.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, ApiError> {
        match self.ask(Op::Get(name.to_owned())).await {
            Ok(Done::Found(bytes)) => Ok(bytes),
            Ok(_) => Ok(None),
            Err(reason) => Err(self.unusable(&reason)),
        }
    }

    /// Keeps bytes under a name, in place of what was there. When this returns they are on the disk, or a warning is in
    /// the log.
    pub(crate) async fn put(&self, name: &str, bytes: Vec<u8>) {
        if !self.keeps {
            return;
        }
        let size = bytes.len();
        let failure = match self.ask(Op::Put(name.to_owned(), bytes)).await {
            Ok(Done::TooLarge) => format!("its {size} bytes are more than the store holds"),
            Ok(_) => return,
            Err(reason) => reason,
        };
        self.metrics.failed();
        tracing::warn!("`{name}` could not be stored: {failure}");
    }

    /// Forgets a name; says whether there was anything.
    ///
    /// # Errors
    /// A 503 if the store can't be written now.
    pub(crate) async fn delete(&self, name: &str) -> Result<bool, ApiError> {
        match self.ask(Op::Delete(name.to_owned())).await {
            Ok(done) => Ok(matches!(done, Done::Deleted(true))),
            Err(reason) => Err(self.unusable(&reason)),
        }
    }

    /// What is kept under names that begin alike, in the order of names, from behind `from` on; about a megabyte at a
    /// time, and nothing behind the last one.
    ///
    /// # Errors
    /// A 503 if the store can't be read now.
    pub(crate) async fn page(
        &self,
        prefix: &str,
        from: Option<String>,
        descending: bool,
    ) -> Result<Vec<(String, Vec<u8>)>, ApiError> {
        match self.ask(Op::Page(Range { from, prefix: prefix.to_owned(), descending })).await {
            Ok(Done::Page(page)) => Ok(page),
            Ok(_) => Ok(Vec::new()),
            Err(reason) => Err(self.unusable(&reason)),
        }
    }

    fn unusable(&self, reason: &str) -> ApiError {
        self.metrics.failed();
        tracing::warn!("the response store can't be used: {reason}");
        ApiError::unavailable("The response store can't be used at the moment. Try again later.", RETRY)
    }

    async fn ask(&self, op: Op) -> Result<Done, String> {
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command { op, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "too many requests are waiting for it".to_owned(),
            mpsc::error::TrySendError::Closed(_) => "it is not running".to_owned(),
        })?;
        match timeout(PATIENCE, answer).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err("it is not running".to_owned()),
            Err(_) => Err(format!("it gave no answer within {} seconds", PATIENCE.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path, max_bytes: u64) -> Store {
        Store::open(StoreConfig { path: Some(path.to_owned()), max_bytes, ..StoreConfig::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_file_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = open(&path, 1 << 20);
        store.put("a", b"one".to_vec()).await;
        store.put("a", b"two".to_vec()).await;
        store.put("b", b"three".to_vec()).await;
        assert!(store.delete("b").await.unwrap());
        assert!(!store.delete("b").await.unwrap());
        let copy = folder.path().join("copy.redb");
        // A copy of the file at this moment is what a killed process leaves.
        std::fs::copy(&path, &copy).unwrap();
        for store in [open(&copy, 1 << 20), store] {
            assert_eq!(store.get("a").await.unwrap().as_deref(), Some(&b"two"[..]));
            assert_eq!(store.get("b").await.unwrap(), None);
            assert_eq!(store.metrics().entries(), 1);
        }
    }

    #[tokio::test]
    async fn a_second_process_is_refused_and_a_damaged_file_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        let store = open(&path, 1 << 20);
        store.put("a", b"one".to_vec()).await;
        let second = Store::open(StoreConfig { path: Some(path.clone()), ..StoreConfig::default() });
        assert!(second.unwrap_err().to_string().contains("store.redb"));
        let damaged = folder.path().join("damaged.redb");
        std::fs::write(&damaged, b"not a database, but long enough to be taken for one".repeat(200)).unwrap();
        let fresh = open(&damaged, 1 << 20);
        assert_eq!(fresh.get("a").await.unwrap(), None);
        fresh.put("a", b"new".to_vec()).await;
        assert_eq!(fresh.get("a").await.unwrap().as_deref(), Some(&b"new"[..]));
        assert!(folder.path().join("damaged.redb.damaged").is_file());
    }

    #[tokio::test]
    async fn the_oldest_goes_and_what_is_too_large_is_not_kept() {
        let store = Store::open(StoreConfig { max_bytes: 100, ..StoreConfig::default() }).unwrap();
        for name in ["a", "b", "c"] {
            store.put(name, vec![0; 40]).await;
        }
        assert_eq!(store.get("a").await.unwrap(), None);
        assert_eq!(store.get("c").await.unwrap().map(|bytes| bytes.len()), Some(40));
        store.put("d", vec![0; 101]).await;
        assert_eq!((store.metrics().entries(), store.metrics().failures()), (2, 1));
        store.put("b", vec![0; 1]).await;
        assert_eq!(store.metrics().bytes(), 41 + 2);
    }
}
