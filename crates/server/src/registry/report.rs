//! How models are doing, for clients and operators.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use millrace_api::openai::models::ModelCard;

use super::{
    Abilities, MemoryNeed, ModelDetails, Models, Shared,
    table::{Slot, State},
};

/// Where a model is between disk and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelState {
    /// Not in memory; its first use loads it.
    Unloaded,
    /// On its way, or waiting for its turn.
    Loading,
    /// Takes requests.
    Ready,
    /// Finishes its requests before it goes.
    Draining,
    /// Could not be loaded; tried again on its next use after a pause.
    Failed,
}

impl ModelState {
    /// As clients see it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Failed => "failed",
        }
    }
}

/// One model at one moment.
#[derive(Debug, Clone)]
pub struct ModelReport {
    /// Its names, the main one first.
    pub names: Vec<String>,
    /// Where its weights come from.
    pub root: String,
    /// Unix time in seconds since which it is offered.
    pub created: u64,
    /// Where it is.
    pub state: ModelState,
    /// Why it isn't there, if loading it failed.
    pub reason: Option<String>,
    /// Whether it is never unloaded to make room.
    pub pinned: bool,
    /// Bytes that it takes when loaded, if that is known.
    pub memory: Option<MemoryNeed>,
    /// Whether that memory is taken: it is loaded, or on its way in or out.
    pub in_memory: bool,
    /// Requests that use it.
    pub in_flight: usize,
    /// Requests that wait for it to be loaded.
    pub waiting: usize,
    /// Time since it was last used, or since the start of the process.
    pub unused_for: Duration,
    /// Time until it is unloaded if nobody uses it; `None` if it isn't loaded or stays.
    pub expires_in: Option<Duration>,
    /// Prompt and output together, in tokens, if that is known.
    pub max_model_len: Option<usize>,
    /// What clients may ask of it, if that is known.
    pub abilities: Option<Abilities>,
    /// What it is, if that is known.
    pub details: Option<ModelDetails>,
}

impl ModelReport {
    /// The main name.
    pub fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Bytes that it counts for now.
    pub fn bytes_in_memory(&self) -> u64 {
        self.memory.filter(|_| self.in_memory).map_or(0, |memory| memory.total())
    }

    /// One card per name.
    pub fn cards(&self) -> impl Iterator<Item = ModelCard> + '_ {
        self.names.iter().map(|name| ModelCard {
            state: Some(self.state.name()),
            capabilities: self.abilities.map(Abilities::names),
            ..ModelCard::new(name, &self.root, self.created, self.max_model_len)
        })
    }
}

pub(super) fn all(shared: &Arc<Shared>) -> Vec<ModelReport> {
    let now = Instant::now();
    shared.with(|table| (0..table.slots.len()).map(|index| report(shared, table, index, now)).collect())
}

pub(super) fn one(shared: &Arc<Shared>, index: usize) -> ModelReport {
    shared.with(|table| report(shared, table, index, Instant::now()))
}

fn report(shared: &Shared, table: &Models, index: usize, now: Instant) -> ModelReport {
    let (known, slot) = (&shared.models[index], &table.slots[index]);
    let (plan, model) = (slot.plan.as_ref(), slot.state.model());
    let unused_for = now.saturating_duration_since(slot.last_used);
    ModelReport {
        names: known.names.clone(),
        root: known.root.clone(),
        created: shared.created,
        state: state(slot),
        reason: match &slot.state {
            State::Failed(failure) => Some(failure.reason.clone()),
            _ => None,
        },
        pinned: slot.residence.pin,
        memory: plan.map(|plan| plan.memory),
        in_memory: slot.is_in_memory(),
        in_flight: slot.leases,
        waiting: slot.waiters.len(),
        unused_for,
        expires_in: match slot.state {
            State::Ready(_) => slot.idle_limit().map(|limit| limit.saturating_sub(unused_for)),
            _ => None,
        },
        // What an engine says goes before what was planned.
        max_model_len: model
            .map(|model| model.engine.info().max_model_len)
            .or_else(|| plan.map(|plan| plan.max_model_len)),
        abilities: model.map(|model| Abilities::of_loaded(model)).or_else(|| plan.map(|plan| plan.abilities)),
        details: plan.map(|plan| plan.details.clone()),
    }
}

fn state<M, W>(slot: &Slot<M, W>) -> ModelState {
    match slot.state {
        State::Unloaded => ModelState::Unloaded,
        State::Queued | State::Loading => ModelState::Loading,
        State::Ready(_) => ModelState::Ready,
        State::Draining(_) | State::Unloading => ModelState::Draining,
        State::Failed(_) => ModelState::Failed,
    }
}
