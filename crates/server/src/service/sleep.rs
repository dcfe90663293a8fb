//! Sleep: the models leave the memory, the server stays.

use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_api::ApiError;

use super::Service;

/// Seconds after which a client may try again; somebody has to wake the server first.
const RETRY: u32 = 10;

/// Whether the server sleeps, and what is to be there when it wakes.
#[derive(Debug, Default)]
pub(super) struct Sleep(Mutex<Option<Vec<String>>>);

/// How deep a sleep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// No requests; the models stay in memory.
    Light,
    /// The models leave the memory.
    Deep,
}

/// What becomes of running requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Running {
    /// They are broken off.
    Abort,
    /// They finish first.
    Wait,
}

impl Sleep {
    pub(super) fn is_asleep(&self) -> bool {
        self.lock().is_some()
    }

    /// Refuses a request while the server sleeps.
    pub(super) fn check(&self) -> Result<(), ApiError> {
        if !self.is_asleep() {
            return Ok(());
        }
        let message = "The server is asleep. An administrator wakes it with POST /wake_up.";
        Err(ApiError::unavailable(message, RETRY))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<String>>> {
        // Replaced as a whole, so a poisoned lock still guards a sound state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// Whether requests are refused until somebody wakes the server.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep.is_asleep()
    }

    /// Takes no more requests, and waits until the running ones are gone and, if the sleep is deep, all models have left
    /// the memory.
    ///
    /// # Errors
    /// A model can't be unloaded, or is being loaded; the server is awake then.
    pub(crate) async fn fall_asleep(&self, depth: Depth, running: Running) -> Result<(), ApiError> {
        let ready = self.models.ready();
        let names: Vec<String> = match depth {
            Depth::Light => Vec::new(),
            Depth::Deep => ready.iter().map(|model| model.name().to_owned()).collect(),
        };
        // The leases on them must be gone before they can be unloaded.
        drop(ready);
        self.sleep.lock().get_or_insert_default().extend(names.iter().cloned());
        if running == Running::Abort {
            self.active.abort_all();
        }
        for name in &names {
            if let Err(error) = self.models.unload(name).await {
                self.sleep.lock().take();
                return Err(error);
            }
        }
        if depth == Depth::Light {
            self.active.idle().await;
        }
        Ok(())
    }

    /// Loads the models that were there before, and takes requests again.
    ///
    /// # Errors
    /// A model can't be loaded; the server sleeps on.
    pub(crate) async fn wake(&self) -> Result<(), ApiError> {
        let names = self.sleep.lock().clone().unwrap_or_default();
        for name in names {
            self.models.load(&name).await?;
        }
        self.sleep.lock().take();
        Ok(())
    }
}
