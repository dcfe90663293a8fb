//! The states of all models: a planner with no clock, no threads and no models of its own. The registry asks it what
//! to do next and tells it what has become of that.

mod room;
mod slot;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use millrace_api::ApiError;

use super::{
    refusals,
    source::{LoadError, ModelPlan},
};
use room::Room;
pub(super) use slot::{Failure, Keep, Slot, State, Up};

/// Requests that may wait for one model to be loaded.
const MAX_WAITING: usize = 4096;

/// Pause after a first failure to load; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// All models. `M` is a loaded model, `W` somebody who waits for one.
pub(super) struct Table<M, W> {
    pub(super) slots: Vec<Slot<M, W>>,
    /// Who is to be loaded, in order.
    queue: VecDeque<usize>,
    /// Bytes that all loaded models together may take.
    budget: Option<u64>,
    closing: bool,
    /// For whoever waited; to be delivered by the caller.
    answers: Vec<(W, Answer<M>)>,
    /// Whether there may be something new to do.
    changed: bool,
}

/// What becomes of a wait.
pub(super) enum Answer<M> {
    /// The model of this slot, with a lease that is already counted.
    Ready(usize, M),
    /// There will be none.
    Refused(ApiError),
}

/// What is to be done next, outside of the table.
pub(super) enum Step<M> {
    /// Work out what a model takes; then [`Table::planned`].
    Plan(usize),
    /// Load a model; then [`Table::loaded`].
    Load(usize, ModelPlan),
    /// End a model; then [`Table::unloaded`].
    Unload(usize, Up<M>),
    /// Nothing until something changes or this moment comes.
    Sleep(Option<Instant>),
    /// Nothing any more.
    End,
}

/// The way to a model.
pub(super) enum Acquired<M> {
    Ready(M),
    /// The waiter gets an [`Answer`].
    Waiting,
    Refused(ApiError),
}

impl<M: Clone, W> Table<M, W> {
    pub(super) fn new(slots: Vec<Slot<M, W>>, budget: Option<u64>) -> Self {
        let mut table = Self {
            slots,
            queue: VecDeque::new(),
            budget,
            closing: false,
            answers: Vec::new(),
            changed: false,
        };
        for index in 0..table.slots.len() {
            if table.slots[index].residence.at_start && matches!(table.slots[index].state, State::Unloaded) {
                table.enqueue(index);
            }
        }
        table
    }

    /// A model for one request: at once if it is there, else after its load.
    pub(super) fn acquire(&mut self, index: usize, now: Instant, waiter: impl FnOnce() -> W) -> Acquired<M> {
        let closing = self.closing;
        let slot = &mut self.slots[index];
        match &slot.state {
            // While closing, its engine says so itself.
            State::Ready(up) => {
                slot.leases += 1;
                return Acquired::Ready(up.model.clone());
            }
            _ if closing => return Acquired::Refused(refusals::closing()),
            State::Failed(failure) if now < failure.retry_at => {
                return Acquired::Refused(refusals::failed(&slot.name, failure, now));
            }
            _ if slot.waiters.len() >= MAX_WAITING => {
                return Acquired::Refused(refusals::crowded(&slot.name));
            }
            _ => slot.waiters.push(waiter()),
        }
        self.enqueue(index);
        Acquired::Waiting
    }

    /// A lease more on a model that somebody holds a lease on.
    pub(super) fn share(&mut self, index: usize) {
        self.slots[index].leases += 1;
    }

    /// The end of a lease.
    pub(super) fn release(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        slot.leases = slot.leases.saturating_sub(1);
        slot.last_used = now;
        let leaves = slot.leases == 0 && slot.idle_limit().is_some_and(|limit| limit.is_zero());
        if leaves {
            self.drain(index);
        }
        self.changed |= matches!(self.slots[index].state, State::Draining(_));
    }

    /// Loads a model that nobody asks for yet, even if it failed a moment ago.
    pub(super) fn load(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let State::Failed(_) = slot.state {
            slot.state = State::Unloaded;
        }
        self.enqueue(index);
    }

    /// Unloads a model once its requests are done.
    ///
    /// # Errors
    /// It can't be unloaded, or is being loaded.
    pub(super) fn unload(&mut self, index: usize) -> Result<(), ApiError> {
        let slot = &mut self.slots[index];
        match slot.state {
            _ if !slot.reloadable => return Err(refusals::fixed(&slot.name)),
            State::Queued | State::Loading => return Err(refusals::busy_loading(&slot.name)),
            State::Failed(_) => slot.state = State::Unloaded,
            _ => self.drain(index),
        }
        Ok(())
    }

    /// Says how long a model stays when it is idle, instead of what its settings say. Pinned models stay anyway.
    pub(super) fn keep(&mut self, index: usize, keep: Keep) {
        let slot = &mut self.slots[index];
        slot.keep = Some(keep);
        let leaves = slot.leases == 0 && slot.idle_limit().is_some_and(|limit| limit.is_zero());
        if leaves {
            self.drain(index);
        }
        self.changed = true;
    }

    /// No new loads; whoever waits is refused.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.changed = true;
        self.queue.clear();
        for index in 0..self.slots.len() {
            if matches!(self.slots[index].state, State::Queued) {
                self.slots[index].state = State::Unloaded;
            }
            self.refuse_waiters(index, &refusals::closing());
        }
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant) -> Step<M> {
        self.changed = false;
        if self.closing {
            return Step::End;
        }
        self.drain_idle(now);
        loop {
            if let Some((index, up)) = self.take_drained() {
                return Step::Unload(index, up);
            }
            let Some(&index) = self.queue.front() else { return Step::Sleep(self.next_expiry(now)) };
            let Some(plan) = self.slots[index].plan.clone() else { return Step::Plan(index) };
            match self.make_room(index, plan.memory.total()) {
                Room::Free => {
                    self.queue.pop_front();
                    self.slots[index].state = State::Loading;
                    return Step::Load(index, plan);
                }
                // Idle ones can go at once; for the others their last request gives the word.
                Room::Soon if self.any_drained() => {}
                Room::Soon => return self.pass(plan.memory.total(), now),
                Room::Never(error) => {
                    self.queue.pop_front();
                    self.slots[index].state = State::Unloaded;
                    self.refuse_waiters(index, &error);
                }
            }
        }
    }

    /// What to do while the first in line, which takes `first` bytes, waits for busy models to go: load another one that
    /// fits beside those, and also beside the first in line when they are gone.
    fn pass(&mut self, first: u64, now: Instant) -> Step<M> {
        let budget = self.budget.unwrap_or(u64::MAX);
        let stays = |slot: &&Slot<M, W>| matches!(slot.state, State::Loading | State::Ready(_));
        let staying: u64 = self.slots.iter().filter(stays).map(Slot::bytes).sum();
        let used = self.used();
        for place in 1..self.queue.len() {
            let index = self.queue[place];
            let Some(plan) = self.slots[index].plan.clone() else { return Step::Plan(index) };
            let need = plan.memory.total();
            let now_there = used.saturating_add(need);
            let then_there = staying.saturating_add(first).saturating_add(need);
            if now_there.max(then_there) <= budget {
                self.queue.remove(place);
                self.slots[index].state = State::Loading;
                return Step::Load(index, plan);
            }
        }
        Step::Sleep(self.next_expiry(now))
    }

    /// What a model takes, or why it can't be used.
    pub(super) fn planned(&mut self, index: usize, plan: Result<ModelPlan, LoadError>, now: Instant) {
        match plan {
            Ok(plan) => self.slots[index].plan = Some(plan),
            Err(error) => {
                self.queue.retain(|queued| *queued != index);
                self.fail(index, error, now);
            }
        }
    }

    /// The end of a load. Gives the model back if nobody wants it any more.
    pub(super) fn loaded(
        &mut self,
        index: usize,
        loaded: Result<Up<M>, LoadError>,
        now: Instant,
    ) -> Option<Up<M>> {
        let up = match loaded {
            Ok(up) if self.closing => {
                self.slots[index].state = State::Unloaded;
                return Some(up);
            }
            Ok(up) => up,
            Err(error) => {
                // Its files may be others by the next time.
                self.slots[index].plan = None;
                self.fail(index, error, now);
                return None;
            }
        };
        let slot = &mut self.slots[index];
        let model = up.model.clone();
        slot.failures = 0;
        slot.was_ready = true;
        slot.last_used = now;
        slot.leases += slot.waiters.len();
        slot.state = State::Ready(up);
        let waiters = std::mem::take(&mut slot.waiters);
        self.answers.extend(waiters.into_iter().map(|waiter| (waiter, Answer::Ready(index, model.clone()))));
        None
    }

    /// The end of an unload.
    pub(super) fn unloaded(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.state = State::Unloaded;
        slot.unloads += 1;
        slot.keep = None;
        if !slot.waiters.is_empty() {
            self.enqueue(index);
        }
    }

    /// Takes out what is loaded, for the end of the process.
    pub(super) fn take_all(&mut self) -> Vec<Up<M>> {
        let take = |slot: &mut Slot<M, W>| match std::mem::replace(&mut slot.state, State::Unloaded) {
            State::Ready(up) | State::Draining(up) => Some(up),
            other => {
                slot.state = other;
                None
            }
        };
        self.slots.iter_mut().filter_map(take).collect()
    }

    pub(super) fn take_answers(&mut self) -> Vec<(W, Answer<M>)> {
        std::mem::take(&mut self.answers)
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn budget(&self) -> Option<u64> {
        self.budget
    }

    fn enqueue(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if matches!(slot.state, State::Unloaded | State::Failed(_)) && !self.closing {
            slot.state = State::Queued;
            self.queue.push_back(index);
            self.changed = true;
        }
    }

    fn fail(&mut self, index: usize, error: LoadError, now: Instant) {
        let slot = &mut self.slots[index];
        let pause = FIRST_PAUSE.saturating_mul(1 << slot.failures.min(8)).min(LONGEST_PAUSE);
        slot.failures = slot.failures.saturating_add(1);
        let failure = Failure { reason: error.0, retry_at: now + pause };
        let refusal = refusals::failed(&slot.name, &failure, now);
        slot.state = State::Failed(failure);
        self.refuse_waiters(index, &refusal);
    }

    fn refuse_waiters(&mut self, index: usize, error: &ApiError) {
        let waiters = std::mem::take(&mut self.slots[index].waiters);
        self.answers.extend(waiters.into_iter().map(|waiter| (waiter, Answer::Refused(error.clone()))));
    }
}
