//! The models of a process: which there are, which of them are in memory, and who uses them.
//!
//! [`Registry::lookup`] gives a [`Lease`] on a model, and loads it first if need be. The `table` decides what is
//! loaded and unloaded, and when; one thread (`manager`) does it.

mod history;
mod lease;
mod manager;
mod refusals;
mod report;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use millrace_api::ApiError;
use tokio::sync::{oneshot, watch};

use crate::{ServedModel, ServerError, model::unix_time};
use history::History;
pub(crate) use history::Sample;
pub use lease::Lease;
pub use report::{ModelReport, ModelState};
pub use source::{
    Abilities, LoadError, LoadedModel, MemoryNeed, ModelDetails, ModelEntry, ModelKind, ModelPlan,
    ModelSource, Residence, Stop,
};
use table::{Acquired, Answer, Slot, Table, Up};

/// Whoever waits for a load.
type Waiter = oneshot::Sender<Result<Lease, ApiError>>;

type Models = Table<Arc<ServedModel>, Waiter>;

/// All models. Looking one up by name happens here and nowhere else.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    /// Ends the manager with the last registry.
    _alive: Arc<Alive>,
}

/// What registry, leases and manager share.
struct Shared {
    table: Mutex<Models>,
    /// Wakes the manager.
    changed: Condvar,
    /// Tells when a model is unloaded.
    unloads: watch::Sender<()>,
    models: Vec<Known>,
    by_name: HashMap<String, usize>,
    /// Unix time in seconds.
    created: u64,
}

/// What is known of a model for good.
struct Known {
    names: Vec<String>,
    root: String,
    /// `None` for models that were there from the start and can't be loaded again.
    source: Option<Box<dyn ModelSource>>,
    history: History,
}

struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.with(Table::close);
    }
}

impl Registry {
    /// Models that are there already and stay, the default one first.
    pub fn new(models: Vec<Arc<ServedModel>>) -> Self {
        let now = Instant::now();
        let (known, slots) = models
            .into_iter()
            .map(|model| {
                let (names, root) = (model.parts.names.clone(), model.parts.root.clone());
                let known = Known { names, root, source: None, history: History::of(&model) };
                let name = known.name().to_owned();
                // Whoever made the engine ends it.
                let up = Up { model, stop: Box::new(|| true) };
                (known, Slot::fixed(name, up, now))
            })
            .unzip();
        Self::over(known, Table::new(slots, None))
    }

    /// Models that come and go, the default one first. Together they never take more than `budget` bytes. Those that
    /// are to be there at start are being loaded when this returns.
    ///
    /// # Errors
    /// The system refuses the thread that loads them.
    pub fn managed(entries: Vec<ModelEntry>, budget: Option<u64>) -> Result<Self, ServerError> {
        let now = Instant::now();
        let (known, slots) = entries
            .into_iter()
            .map(|entry| {
                let ModelEntry { names, root, source, plan, residence } = entry;
                let known = Known { names, root, source: Some(source), history: History::default() };
                let slot = Slot::new(known.name().to_owned(), residence, plan, now);
                (known, slot)
            })
            .unzip();
        let registry = Self::over(known, Table::new(slots, budget));
        manager::spawn(registry.shared.clone())?;
        Ok(registry)
    }

    fn over(models: Vec<Known>, table: Models) -> Self {
        let names = models.iter().enumerate().rev();
        let by_name = names.flat_map(|(at, known)| known.names.iter().map(move |name| (name.clone(), at)));
        let by_name = by_name.collect();
        let shared = Arc::new(Shared {
            table: Mutex::new(table),
            changed: Condvar::new(),
            unloads: watch::Sender::new(()),
            models,
            by_name,
            created: unix_time(),
        });
        Self { _alive: Arc::new(Alive(shared.clone())), shared }
    }

    /// The model of this name, or the first one if no name is given; loaded if it isn't there. Nobody who stops
    /// waiting stops the load.
    ///
    /// # Errors
    /// A 404 that names what was asked for. If the model can't be loaded: a 400 if it never can, else a 503.
    pub async fn lookup(&self, name: Option<&str>) -> Result<Lease, ApiError> {
        let index = self.find(name)?;
        self.acquire(index).await
    }

    /// Loads a model if it isn't there, even if it failed a moment ago.
    ///
    /// # Errors
    /// As in [`lookup`](Self::lookup).
    pub async fn load(&self, name: &str) -> Result<Lease, ApiError> {
        let index = self.find(Some(name))?;
        self.shared.with(|table| table.load(index));
        self.acquire(index).await
    }

    /// Unloads a model as soon as its running requests are done, and waits for that.
    ///
    /// # Errors
    /// A 404 for an unknown name, a 400 if it can't be loaded again, a 503 while it is being loaded.
    pub async fn unload(&self, name: &str) -> Result<(), ApiError> {
        let index = self.find(Some(name))?;
        let mut unloads = self.shared.unloads.subscribe();
        let before = self.shared.with(|table| {
            table.unload(index)?;
            let slot = &table.slots[index];
            Ok(slot.is_in_memory().then_some(slot.unloads))
        })?;
        let Some(before) = before else { return Ok(()) };
        let is_done =
            |_: &()| self.shared.with(|table| table.slots[index].unloads > before || table.is_closing());
        // The sender lives as long as `self`: the wait can't fail.
        let _ = unloads.wait_for(is_done).await;
        Ok(())
    }

    /// Says how long a model stays without requests, until it is unloaded the next time; `None` is for ever. Pinned
    /// models stay anyway.
    ///
    /// # Errors
    /// A 404 for an unknown name.
    pub fn keep(&self, name: Option<&str>, keep: Option<Duration>) -> Result<(), ApiError> {
        let index = self.find(name)?;
        self.shared.with(|table| table.keep(index, keep));
        Ok(())
    }

    /// Whether there is a model of this name.
    pub fn knows(&self, name: &str) -> bool {
        self.shared.by_name.contains_key(name)
    }

    /// The names of the model of this name, or of the first one.
    ///
    /// # Errors
    /// A 404 that names what was asked for.
    pub(crate) fn names(&self, name: Option<&str>) -> Result<&[String], ApiError> {
        Ok(&self.shared.models[self.find(name)?].names)
    }

    /// How all models are doing.
    pub fn reports(&self) -> Vec<ModelReport> {
        report::all(&self.shared)
    }

    /// How a model is doing.
    ///
    /// # Errors
    /// A 404 for an unknown name.
    pub fn report(&self, name: &str) -> Result<ModelReport, ApiError> {
        let index = self.find(Some(name))?;
        Ok(report::one(&self.shared, index))
    }

    /// The source of a model's chat template, if the model is in memory and has one.
    pub fn template(&self, name: &str) -> Option<String> {
        let index = self.find(Some(name)).ok()?;
        let model = self.shared.with(|table| table.slots[index].state.model().cloned())?;
        model.parts.template.as_ref().map(|template| template.source().to_owned())
    }

    /// Bytes that all loaded models may take together, if that is bounded.
    pub fn budget(&self) -> Option<u64> {
        self.shared.with(|table| table.budget())
    }

    /// Whether all loaded models' engines run.
    pub fn is_alive(&self) -> bool {
        self.ready().iter().all(|model| model.engine.stats().alive)
    }

    /// The first model that is to be there at start and isn't yet.
    pub fn awaited(&self) -> Option<ModelReport> {
        let awaited = |slot: &Slot<_, _>| slot.residence.at_start && !slot.was_ready;
        let index = self.shared.with(|table| table.slots.iter().position(awaited))?;
        Some(report::one(&self.shared, index))
    }

    /// Whether new requests are refused because the process is stopping.
    pub fn is_draining(&self) -> bool {
        self.shared.with(|table| table.is_closing()) || self.ready().iter().any(|m| m.engine.is_draining())
    }

    /// No new requests and no more loads; running requests finish.
    pub fn drain(&self) {
        self.shared.with(Table::close);
        self.ready().iter().for_each(|model| model.engine.drain());
    }

    /// Aborts everything.
    pub fn shutdown(&self) {
        self.shared.with(Table::close);
        self.ready().iter().for_each(|model| model.engine.shutdown());
    }

    /// Ends all engines and waits for them, at the end of the process. False if one of them had failed.
    pub fn stop(&self) -> bool {
        self.shutdown();
        let mut sound = true;
        for up in self.shared.with(Table::take_all) {
            sound &= (up.stop)();
        }
        sound
    }

    /// Those that are in memory and take requests, or finish the ones that they have.
    pub(crate) fn ready(&self) -> Vec<Arc<ServedModel>> {
        self.shared.with(|table| table.slots.iter().filter_map(|slot| slot.state.model().cloned()).collect())
    }

    /// What metrics show of each model that was ever loaded.
    pub(crate) fn histories(&self) -> Vec<Sample> {
        let loaded = |table: &mut Models| {
            table.slots.iter().map(|slot| slot.state.model().cloned()).collect::<Vec<_>>()
        };
        let models = self.shared.models.iter().zip(self.shared.with(loaded));
        models.filter_map(|(known, model)| known.history.sample(known.name(), model.as_deref())).collect()
    }

    fn find(&self, name: Option<&str>) -> Result<usize, ApiError> {
        let found = match name {
            Some(name) => self.shared.by_name.get(name).copied(),
            None => (!self.shared.models.is_empty()).then_some(0),
        };
        found.ok_or_else(|| ApiError::model_not_found(name.unwrap_or("")))
    }

    async fn acquire(&self, index: usize) -> Result<Lease, ApiError> {
        let mut answer = None;
        let acquired = self.shared.with(|table| {
            if table.slots[index].state.model().is_some_and(|model| !model.engine.stats().alive) {
                // An engine that has failed is ended and started anew, where that can be done.
                table.drain(index);
            }
            table.acquire(index, Instant::now(), || {
                let (waiter, receiver) = oneshot::channel();
                answer = Some(receiver);
                waiter
            })
        });
        match acquired {
            Acquired::Ready(model) => Ok(Lease::counted(model, self.shared.clone(), index)),
            Acquired::Refused(error) => Err(error),
            Acquired::Waiting => match answer {
                Some(answer) => answer.await.unwrap_or_else(|_| Err(refusals::closing())),
                None => Err(refusals::closing()),
            },
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shared.models.iter().map(|known| &known.names)).finish()
    }
}

impl Known {
    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

impl Shared {
    /// Does something with the table; delivers what comes of it, and wakes the manager if there is news for it.
    fn with<T>(self: &Arc<Self>, work: impl FnOnce(&mut Models) -> T) -> T {
        let (result, answers, changed) = {
            let mut table = self.lock();
            let result = work(&mut table);
            (result, table.take_answers(), table.has_changed())
        };
        if changed {
            self.changed.notify_one();
        }
        // Without the lock: a lease that nobody waits for any more comes back at once.
        for (waiter, answer) in answers {
            let answer = match answer {
                Answer::Ready(index, model) => Ok(Lease::counted(model, self.clone(), index)),
                Answer::Refused(error) => Err(error),
            };
            // Whoever left doesn't need it.
            let _ = waiter.send(answer);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Models> {
        // No method leaves the table half changed, so a poisoned lock still guards a sound one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
