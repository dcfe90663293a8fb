//! Batches: many requests in the background. They go the way of every request, but yield to whatever else there is.
//!
//! One task ([`run`]) watches for batches that have not ended, those of an earlier process included, and runs each in a
//! task of its own. All that is known of a batch is in the [`FileStore`]; what was done before a crash is done.

mod batch;
mod endpoints;
mod line;

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    select,
    sync::{Semaphore, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{FileStore, http::App};

pub(crate) use endpoints::paths;

/// Pause after which a store that failed is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Uploads at a time.
const UPLOADS: usize = 8;

/// The store of files and batches, and what those who work on it share.
#[derive(Debug)]
pub(crate) struct Jobs {
    files: FileStore,
    /// Tells that a batch was ordered or cancelled.
    news: watch::Sender<()>,
    /// A permit for each request that may run.
    slots: Arc<Semaphore>,
    /// A permit for each upload.
    uploads: Arc<Semaphore>,
}

impl Jobs {
    /// `concurrency` requests run at a time, of all batches together.
    pub(crate) fn new(files: FileStore, concurrency: usize) -> Self {
        Self {
            files,
            news: watch::Sender::new(()),
            slots: Arc::new(Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
        }
    }

    pub(crate) fn files(&self) -> &FileStore {
        &self.files
    }

    pub(crate) fn uploads(&self) -> &Arc<Semaphore> {
        &self.uploads
    }

    /// Says that a batch was ordered or cancelled.
    pub(crate) fn tell(&self) {
        self.news.send_replace(());
    }
}

/// Runs batches for as long as the server.
pub(crate) async fn run(app: Arc<App>) {
    let mut news = app.jobs.news.subscribe();
    let (mut running, mut known) = (JoinSet::new(), HashSet::new());
    loop {
        // Marked as seen before it is looked at: what comes in between wakes us up.
        news.borrow_and_update();
        match app.jobs.files.open_batches().await {
            Ok(batches) => {
                for id in batches {
                    if known.insert(id.clone()) {
                        running.spawn(batch::run(app.clone(), id));
                    }
                }
            }
            Err(_) => {
                sleep(PAUSE).await;
                continue;
            }
        }
        loop {
            select! {
                changed = news.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Some(ended) = running.join_next() => match ended {
                    Ok(id) => drop(known.remove(&id)),
                    Err(error) => tracing::error!("a batch was given up: {error}"),
                },
            }
        }
    }
}
