//! Keeps long computations off the async runtime's threads.

use std::{sync::Arc, thread::available_parallelism};

use millrace_api::ApiError;
use tokio::sync::Semaphore;

/// Bytes of input below which work is done in place: it takes well under a millisecond.
const IN_PLACE_BYTES: usize = 8 << 10;

/// Runs work in place if it is small, else on a blocking thread; at most one such thread per core, so that a burst
/// of long prompts neither takes the engine's cores nor holds all of its memory at once.
#[derive(Debug, Clone)]
pub(crate) struct Offload(Arc<Semaphore>);

impl Offload {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(available_parallelism().map_or(1, usize::from))))
    }

    /// Runs `work` on an input of `bytes` bytes.
    ///
    /// # Errors
    /// The work's own error, or a 500 if it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= IN_PLACE_BYTES {
            return work();
        }
        // Never closed, so the permit always comes. The thread holds it: if the client goes away in between,
        // the work still runs to its end and must still count.
        let permit = self.0.clone().acquire_owned().await.ok();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        task.await.unwrap_or_else(|_| Err(ApiError::internal("The request could not be prepared.")))
    }
}
