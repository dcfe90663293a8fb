//! Keeps uploaded files and batches, with the results that come line by line: in memory, or in a file of its own that
//! survives the process.
//!
//! As in [`store`](crate::store), one thread owns the database. What clients put here is never thrown out to make room:
//! when the store is full, it takes no more.

mod batches;
mod db;
mod tables;
mod thread;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use millrace_api::{
    ApiError, ErrorKind,
    openai::{
        batches::{BatchRecord, End},
        files::FileRecord,
        paging::ListQuery,
    },
};
use redb::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use uuid::Uuid;

use crate::{ServerError, StoreConfig, metrics::StoreMetrics, model::unix_time};
use db::Db;
use thread::{Command, Worker};

pub(crate) use batches::{Ordered, Pending, Unrun, request_id};
pub(crate) use db::{Deletion, Page, Room};

/// Requests that may wait for the thread; each may hold a megabyte.
const QUEUE: usize = 64;

/// How long a request waits for the disk. Deleting a large file, or ending a large batch, takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds after which a client may try again.
const RETRY: u32 = 5;

/// A handle; the store ends with its last one.
#[derive(Debug, Clone)]
pub struct FileStore {
    commands: mpsc::Sender<Command>,
    metrics: Arc<StoreMetrics>,
    /// How long things are kept, in seconds.
    ttl: u64,
}

impl FileStore {
    /// Opens the store. A file that is damaged is put aside, and a new one begun.
    ///
    /// # Errors
    /// If the file can't be used at all: no permission, no room, or another process has it.
    pub fn open(config: &StoreConfig) -> Result<Self, ServerError> {
        let metrics = Arc::new(StoreMetrics::default());
        let path = config.path.clone().unwrap_or_default().display().to_string();
        let refused =
            |reason: String| ServerError::Store { flag: "--file-store", path: path.clone(), reason };
        let worker = Worker::open(config, metrics.clone()).map_err(|error| refused(error.to_string()))?;
        let (commands, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("millrace-files".into())
            .spawn(move || worker.run(queue))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { commands, metrics, ttl: config.ttl.as_secs() })
    }

    /// A store in memory, with the default bounds.
    pub fn in_memory() -> Self {
        Self::open(&StoreConfig::default()).unwrap_or_else(|error| {
            tracing::warn!("{error}; no files will be taken");
            Self { commands: mpsc::channel(1).0, metrics: Arc::default(), ttl: 0 }
        })
    }

    pub(crate) fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// When what is put here now is forgotten, if the client asks for nothing shorter; Unix time in seconds.
    pub(crate) fn expiry(&self, now: u64, asked: Option<u64>) -> u64 {
        now.saturating_add(asked.unwrap_or(self.ttl).min(self.ttl))
    }

    /// Keeps lines of a file that isn't known yet; the first one is number `first`.
    pub(crate) async fn append(&self, file: &str, first: u32, lines: Vec<Vec<u8>>) -> Result<Room, ApiError> {
        let file = file.to_owned();
        self.ask(move |db| db.append(&file, first, &lines)).await
    }

    /// Makes a file known whose lines are all there.
    pub(crate) async fn finish(&self, file: FileRecord) -> Result<Room, ApiError> {
        self.ask(move |db| db.finish(&file)).await
    }

    /// Forgets the lines of a file that was never finished. Doesn't wait for it: what is missed because the store is
    /// overloaded is forgotten at the next start.
    pub(crate) fn discard(&self, file: String) {
        let _ = self.commands.try_send(Box::new(move |db| db.discard(&file)));
    }

    pub(crate) async fn file(&self, owner: &str, id: &str) -> Result<FileRecord, ApiError> {
        let (own, name) = (owner.to_owned(), id.to_owned());
        let found = self.ask(move |db| db.file(&own, &name, unix_time())).await?;
        found.ok_or_else(|| no_file(id))
    }

    pub(crate) async fn files(&self, owner: &str, query: ListQuery) -> Result<Page<FileRecord>, ApiError> {
        let owner = owner.to_owned();
        self.ask(move |db| db.files(&owner, &query, unix_time())).await
    }

    pub(crate) async fn delete(&self, owner: &str, id: &str) -> Result<Deletion, ApiError> {
        let (owner, id) = (owner.to_owned(), id.to_owned());
        self.ask(move |db| db.delete(&owner, &id, unix_time())).await
    }

    /// Lines of a file from number `from` on, about a megabyte; none behind its end.
    pub(crate) async fn lines(&self, file: &str, from: u32) -> Result<Vec<(u32, Vec<u8>)>, ApiError> {
        let file = file.to_owned();
        self.ask(move |db| db.lines(&file, from)).await
    }

    /// All of a file.
    pub(crate) async fn content(&self, file: &str) -> Result<Vec<u8>, ApiError> {
        let (mut content, mut from) = (Vec::new(), 0);
        loop {
            let lines = self.lines(file, from).await?;
            let Some((last, _)) = lines.last() else { return Ok(content) };
            from = last.saturating_add(1);
            content.extend(lines.into_iter().flat_map(|(_, line)| line));
        }
    }

    pub(crate) async fn order(&self, batch: BatchRecord) -> Result<Ordered, ApiError> {
        self.ask(move |db| db.order(&batch)).await
    }

    pub(crate) async fn batch(&self, owner: &str, id: &str) -> Result<BatchRecord, ApiError> {
        let found = self.find_batch(id).await?;
        found.filter(|batch| batch.owner == owner).ok_or_else(|| no_batch(id))
    }

    /// A batch, whosever it is.
    pub(crate) async fn find_batch(&self, id: &str) -> Result<Option<BatchRecord>, ApiError> {
        let id = id.to_owned();
        self.ask(move |db| db.batch(&id)).await
    }

    pub(crate) async fn batches(&self, owner: &str, query: ListQuery) -> Result<Page<BatchRecord>, ApiError> {
        let owner = owner.to_owned();
        self.ask(move |db| db.batches(&owner, &query)).await
    }

    /// The ids of batches that have not ended, the oldest first.
    pub(crate) async fn open_batches(&self) -> Result<Vec<String>, ApiError> {
        self.ask(|db| db.open_batches()).await
    }

    /// Changes a batch, and returns it as it is then; `None` if there is none.
    pub(crate) async fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut BatchRecord) + Send + 'static,
    ) -> Result<Option<BatchRecord>, ApiError> {
        let id = id.to_owned();
        self.ask(move |db| db.change(&id, change)).await
    }

    /// Requests of a batch that have no result, from line `from` on.
    pub(crate) async fn pending(&self, batch: &str, from: u32) -> Result<Pending, ApiError> {
        let batch = batch.to_owned();
        self.ask(move |db| db.pending(&batch, from)).await
    }

    /// Keeps the result of a request.
    pub(crate) async fn record(
        &self,
        batch: &str,
        number: u32,
        succeeded: bool,
        line: Vec<u8>,
    ) -> Result<Room, ApiError> {
        let batch = batch.to_owned();
        self.ask(move |db| db.record(&batch, number, succeeded, &line)).await
    }

    /// Ends a batch; requests without a result get `unrun` for one.
    pub(crate) async fn end(&self, batch: &str, end: End, unrun: Option<Unrun>) -> Result<(), ApiError> {
        let (batch, ttl) = (batch.to_owned(), self.ttl);
        self.ask(move |db| db.end(&batch, end, unrun, unix_time(), ttl)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Db) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (reply, answer) = oneshot::channel();
        let command = move |db: &mut Db| {
            // Whoever has left doesn't listen. After a failure there is no answer, and the thread tells why.
            let _ = reply.send(work(db)?);
            Ok(())
        };
        let asked = async {
            self.commands.send(Box::new(command)).await.ok()?;
            answer.await.ok()
        };
        let answer = timeout(PATIENCE, asked).await.ok().flatten();
        answer.ok_or_else(|| {
            self.metrics.failed();
            let message = "The file store can't be used at the moment. Try again later.";
            ApiError::unavailable(message, RETRY)
        })
    }
}

/// A new id; those that are made later sort higher.
pub(crate) fn new_id(prefix: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let random = Uuid::new_v4().simple().to_string();
    format!("{prefix}{:014x}{}", since.as_micros() & ((1 << 56) - 1), &random[..18])
}

/// A 404 for a file.
pub(crate) fn no_file(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError {
        param: Some("id".into()),
        ..ApiError::new(ErrorKind::NotFound, format!("No such File object: {id}"))
    }
}

/// A 404 for a batch.
pub(crate) fn no_batch(id: &str) -> ApiError {
    let id: String = id.chars().take(100).collect();
    ApiError::new(ErrorKind::NotFound, format!("No batch found with id '{id}'."))
}

#[cfg(test)]
mod tests;
