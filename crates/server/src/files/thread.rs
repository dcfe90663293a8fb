//! The thread that owns the database.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
};

use redb::Error;
use tokio::sync::mpsc;

use super::db::Db;
use crate::{StoreConfig, metrics::StoreMetrics, model::unix_time};

/// What is to be done; it tells whoever asked.
pub(super) type Command = Box<dyn FnOnce(&mut Db) -> Result<(), Error> + Send>;

/// The database with all that is needed to open it again.
pub(super) struct Worker {
    path: Option<PathBuf>,
    max_bytes: u64,
    ttl: u64,
    /// `None` after a failure: a database that has failed once stays closed, so the next request opens it anew.
    db: Option<Db>,
    metrics: Arc<StoreMetrics>,
}

impl Worker {
    pub(super) fn open(config: &StoreConfig, metrics: Arc<StoreMetrics>) -> Result<Self, Error> {
        let (max_bytes, ttl) = (config.max_bytes, config.ttl.as_secs());
        let mut worker = Self { path: config.path.clone(), max_bytes, ttl, db: None, metrics };
        worker.work(Box::new(|_| Ok(())))?;
        Ok(worker)
    }

    /// Works until nobody is left to ask.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(command) = queue.blocking_recv() {
            // A damaged file may make the database panic; that must cost no more than an error does.
            let result = catch_unwind(AssertUnwindSafe(|| self.work(command)));
            let result = result.unwrap_or_else(|_| Err(Error::Corrupted("the database gave up".into())));
            if let Err(error) = result {
                self.db = None;
                tracing::warn!("the file store can't be used: {error}");
            }
        }
    }

    fn work(&mut self, command: Command) -> Result<(), Error> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(self.path.as_deref(), self.max_bytes)?,
        };
        db.tidy(unix_time(), self.ttl)?;
        command(&mut db)?;
        if let Some((entries, bytes)) = db.take_news() {
            self.metrics.note(Some((entries, bytes, 0)));
        }
        self.db = Some(db);
        Ok(())
    }
}
