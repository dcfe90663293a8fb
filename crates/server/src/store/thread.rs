//! The thread that owns the database.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use redb::Error;
use tokio::sync::{mpsc, oneshot};

use super::{
    StoreConfig, caught,
    db::{Bounds, Db, Done, Op},
};
use crate::metrics::StoreMetrics;

/// Most requests of one transaction.
const BATCH: usize = 256;

/// A request and whom to tell.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) op: Op,
    pub(super) reply: oneshot::Sender<Result<Done, String>>,
}

/// The database with all that is needed to open it again.
pub(super) struct Worker {
    path: Option<PathBuf>,
    bounds: Bounds,
    /// `None` after a failure: a database that has failed once stays closed, so the next request opens it anew.
    db: Option<Db>,
    metrics: Arc<StoreMetrics>,
}

impl Worker {
    pub(super) fn open(config: StoreConfig, metrics: Arc<StoreMetrics>) -> Result<Self, Error> {
        let bounds = Bounds {
            max_bytes: config.max_bytes,
            ttl_micros: u64::try_from(config.ttl.as_micros()).unwrap_or(u64::MAX),
        };
        let mut worker = Self { path: config.path, bounds, db: None, metrics };
        worker.work(&[])?;
        Ok(worker)
    }

    /// Works until nobody is left to ask.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let (mut ops, mut replies) = (vec![first.op], vec![first.reply]);
            while ops.len() < BATCH
                && let Ok(next) = queue.try_recv()
            {
                ops.push(next.op);
                replies.push(next.reply);
            }
            match caught(|| self.work(&ops)) {
                Ok(done) => {
                    // Whoever has left doesn't listen.
                    replies.into_iter().zip(done).for_each(|(reply, done)| drop(reply.send(Ok(done))));
                }
                Err(error) => {
                    self.db = None;
                    let reason = error.to_string();
                    replies.into_iter().for_each(|reply| drop(reply.send(Err(reason.clone()))));
                }
            }
        }
    }

    fn work(&mut self, ops: &[Op]) -> Result<Vec<Done>, Error> {
        let mut db = match self.db.take() {
            Some(db) => db,
            None => Db::open(self.path.as_deref(), self.bounds, now_micros())?,
        };
        let done = db.apply(ops, now_micros())?;
        self.metrics.note(db.take_news().map(|totals| (totals.entries, totals.bytes, totals.evicted)));
        self.db = Some(db);
        Ok(done)
    }
}

/// Microseconds since 1970.
fn now_micros() -> u64 {
    // A clock before 1970 or far beyond is no reason to fail a request.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
