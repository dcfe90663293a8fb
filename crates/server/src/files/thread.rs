//! The thread that owns the database.

use std::{path::PathBuf, sync::Arc};

use redb::Error;
use tokio::sync::mpsc;

use super::db::Db;
use crate::{StoreConfig, metrics::StoreMetrics, model::unix_time, store::caught};

/// Seconds between two looks for what is too old.
const TIDY: u64 = 60;

/// What is to be done; it tells whoever asked.
pub(super) type Command = Box<dyn FnOnce(&mut Db) -> Result<(), Error> + Send>;

/// The database with all that is needed to open it again.
pub(super) struct Worker {
    path: Option<PathBuf>,
    max_bytes: u64,
    ttl: u64,
    /// `None` after a failure: a database that has failed once stays closed, so the next request opens it anew.
    db: Option<Db>,
    /// When that was, as Unix time in seconds.
    tidied_at: u64,
    metrics: Arc<StoreMetrics>,
}

impl Worker {
    pub(super) fn open(config: &StoreConfig, metrics: Arc<StoreMetrics>) -> Result<Self, Error> {
        let (max_bytes, ttl) = (config.max_bytes, config.ttl.as_secs());
        let mut worker = Self { path: config.path.clone(), max_bytes, ttl, db: None, tidied_at: 0, metrics };
        worker.work(Box::new(|_| Ok(())))?;
        Ok(worker)
    }

    /// Works until nobody is left to ask.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.blocking_recv() {
            if let Err(error) = caught(|| self.work(command)) {
                self.db = None;
                tracing::warn!("the file store can't be used: {error}");
            }
        }
    }

    fn work(&mut self, command: Command) -> Result<(), Error> {
        let mut db = self.tidied(unix_time())?;
        command(&mut db)?;
        if let Some((entries, bytes)) = db.take_news() {
            self.metrics.note(Some((entries, bytes, 0)));
        }
        self.db = Some(db);
        Ok(())
    }

    /// The database, from time to time without what is too old.
    fn tidied(&mut self, now: u64) -> Result<Db, Error> {
        let open = || Db::open(self.path.as_deref(), self.max_bytes);
        let mut db = self.db.take().map_or_else(open, Ok)?;
        if now < self.tidied_at.saturating_add(TIDY) {
            return Ok(db);
        }
        self.tidied_at = now;
        let Err(error) = db.tidy(now, self.ttl) else { return Ok(db) };
        tracing::warn!("what is too old stays in the file store for now: {error}");
        // What has failed is of no use, and has to be closed before it can be opened again.
        drop(db);
        open()
    }
}
