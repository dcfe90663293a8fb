//! Who has to go: idle models when their time is up, and others when somebody needs their memory.

use std::time::Instant;

use millrace_api::ApiError;

use super::{Slot, State, Table, Up};
use crate::registry::refusals;

/// Whether a model can be loaded now.
pub(super) enum Room {
    Free,
    /// Others are on their way out.
    Soon,
    Never(ApiError),
}

impl<M, W> Table<M, W> {
    /// Bytes of all models that are in memory, or on their way in or out.
    pub(in super::super) fn used(&self) -> u64 {
        self.slots.iter().filter(|slot| slot.is_in_memory()).map(Slot::bytes).sum()
    }

    /// Lets no more requests to a model; it is unloaded when the running ones are done.
    pub(in super::super) fn drain(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if let State::Ready(_) = slot.state
            && slot.reloadable
            && let State::Ready(up) = std::mem::replace(&mut slot.state, State::Unloading)
        {
            slot.state = State::Draining(up);
            self.changed = true;
        }
    }

    pub(super) fn drain_idle(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            if self.slots[index].expiry(now).is_some_and(|expiry| expiry <= now) {
                self.drain(index);
            }
        }
    }

    /// When an idle model has to go at the earliest. A model in use is looked at again when it could have become idle
    /// and stayed so, so that the end of a request needs to wake nobody.
    pub(super) fn next_expiry(&self, now: Instant) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.expiry(now)).min()
    }

    pub(super) fn any_drained(&self) -> bool {
        self.slots.iter().any(Slot::is_drained)
    }

    pub(super) fn take_drained(&mut self) -> Option<(usize, Up<M>)> {
        let index = self.slots.iter().position(Slot::is_drained)?;
        match std::mem::replace(&mut self.slots[index].state, State::Unloading) {
            State::Draining(up) => Some((index, up)),
            _ => None,
        }
    }

    /// Whether `need` bytes fit the budget; if not, sends out whoever must go for it: idle models before busy ones,
    /// and those first that were used least recently.
    pub(super) fn make_room(&mut self, index: usize, need: u64) -> Room {
        let Some(budget) = self.budget else { return Room::Free };
        if self.used().saturating_add(need) <= budget {
            return Room::Free;
        }
        let there = |slot: &&Slot<M, W>| matches!(slot.state, State::Ready(_));
        let bytes_of = |pinned: bool| -> u64 {
            let slots = self.slots.iter().filter(there);
            slots.filter(|slot| pinned == slot.stays()).map(Slot::bytes).sum()
        };
        let (pinned, mut movable) = (bytes_of(true), bytes_of(false));
        if pinned.saturating_add(need) > budget {
            return Room::Never(refusals::too_big(&self.slots[index], budget, pinned));
        }
        let mut order: Vec<usize> =
            (0..self.slots.len()).filter(|at| there(&&self.slots[*at]) && !self.slots[*at].stays()).collect();
        order.sort_by_key(|at| (self.slots[*at].leases > 0, self.slots[*at].last_used));
        for victim in order {
            if pinned.saturating_add(movable).saturating_add(need) <= budget {
                break;
            }
            movable -= self.slots[victim].bytes();
            self.drain(victim);
        }
        Room::Soon
    }
}
