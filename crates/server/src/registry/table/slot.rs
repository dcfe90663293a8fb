//! One model's place in the table, and where it is between disk and memory.

use std::time::{Duration, Instant};

use super::super::source::{ModelPlan, Residence, Stop};

/// One model.
pub(in super::super) struct Slot<M, W> {
    pub(in super::super) name: String,
    pub(in super::super) residence: Residence,
    /// Whether it can be loaded again; if not, it stays.
    pub(in super::super) reloadable: bool,
    pub(in super::super) plan: Option<ModelPlan>,
    pub(in super::super) state: State<M>,
    pub(in super::super) waiters: Vec<W>,
    /// Requests that use it.
    pub(in super::super) leases: usize,
    pub(in super::super) last_used: Instant,
    /// What a client wants instead of `residence.idle_unload`, until the next unload.
    pub(in super::super) keep: Option<Keep>,
    /// How often it was unloaded.
    pub(in super::super) unloads: u64,
    /// Failed loads in a row.
    pub(super) failures: u32,
    /// Whether it was ever there.
    pub(in super::super) was_ready: bool,
}

/// How long an idle model stays; `None` is for ever.
pub(in super::super) type Keep = Option<Duration>;

/// Where a model is between disk and memory.
pub(in super::super) enum State<M> {
    Unloaded,
    /// Waits for its turn, or for memory.
    Queued,
    Loading,
    Ready(Up<M>),
    /// Takes no new requests; goes when the running ones are done.
    Draining(Up<M>),
    Unloading,
    Failed(Failure),
}

impl<M> State<M> {
    /// The model, while it takes requests or finishes them.
    pub(in super::super) fn model(&self) -> Option<&M> {
        match self {
            Self::Ready(up) | Self::Draining(up) => Some(&up.model),
            _ => None,
        }
    }
}

/// Why a model isn't there.
pub(in super::super) struct Failure {
    pub(in super::super) reason: String,
    pub(in super::super) retry_at: Instant,
}

/// A loaded model and how to end it.
pub(in super::super) struct Up<M> {
    pub(in super::super) model: M,
    pub(in super::super) stop: Stop,
}

impl<M, W> Slot<M, W> {
    pub(in super::super) fn new(
        name: String,
        residence: Residence,
        plan: Option<ModelPlan>,
        now: Instant,
    ) -> Self {
        Self {
            name,
            residence,
            reloadable: true,
            plan,
            state: State::Unloaded,
            waiters: Vec::new(),
            leases: 0,
            last_used: now,
            keep: None,
            unloads: 0,
            failures: 0,
            was_ready: false,
        }
    }

    /// A model that is there and stays.
    pub(in super::super) fn fixed(name: String, up: Up<M>, now: Instant) -> Self {
        let slot = Self::new(name, Residence::default(), None, now);
        Self { reloadable: false, was_ready: true, state: State::Ready(up), ..slot }
    }

    /// Bytes that it takes in memory.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.plan.as_ref().map_or(0, |plan| plan.memory.total())
    }

    /// How long it stays when idle.
    pub(in super::super) fn idle_limit(&self) -> Keep {
        if self.stays() { None } else { self.keep.unwrap_or(self.residence.idle_unload) }
    }

    pub(in super::super) fn is_in_memory(&self) -> bool {
        matches!(self.state, State::Loading | State::Ready(_) | State::Draining(_) | State::Unloading)
    }

    pub(super) fn stays(&self) -> bool {
        self.residence.pin || !self.reloadable
    }

    pub(super) fn is_drained(&self) -> bool {
        self.leases == 0 && matches!(self.state, State::Draining(_))
    }

    pub(super) fn expiry(&self, now: Instant) -> Option<Instant> {
        let State::Ready(_) = self.state else { return None };
        let limit = self.idle_limit()?;
        if self.leases > 0 {
            // Whoever stays for no time at all is sent out by its last lease.
            return (!limit.is_zero()).then(|| now.checked_add(limit)).flatten();
        }
        self.last_used.checked_add(limit)
    }
}
