//! The waiting sequences in order of admission.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

use crate::seq::Rank;

/// Waiting sequences by rank. A preempted sequence comes back under its old rank: under FCFS that is the front,
/// for only sequences that arrived earlier were admitted before it.
#[derive(Debug, Default)]
pub(crate) struct WaitingQueue {
    slots: BTreeMap<Rank, usize>,
}

impl WaitingQueue {
    pub(crate) fn insert(&mut self, rank: Rank, slot: usize) {
        self.slots.insert(rank, slot);
    }

    pub(crate) fn remove(&mut self, rank: &Rank) {
        self.slots.remove(rank);
    }

    /// The first sequence behind `cursor`, or the very first.
    pub(crate) fn after(&self, cursor: Option<Rank>) -> Option<(Rank, usize)> {
        let start = cursor.map_or(Unbounded, Excluded);
        self.slots.range((start, Unbounded)).next().map(|(rank, slot)| (*rank, *slot))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
