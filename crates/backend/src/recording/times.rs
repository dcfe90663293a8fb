//! What each kind of operation takes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A kind of operation: those of a kind cost about the same in steps of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Op {
    /// The method's name.
    pub name: &'static str,
    /// Output and input features of the weights, if it has any.
    pub weights: Option<[usize; 2]>,
    /// Of a step with tokens of prompts.
    pub prompts: bool,
}

/// The operations of a kind so far.
#[derive(Debug, Clone, Copy)]
pub struct OpTime {
    /// The kind.
    pub op: Op,
    /// How many there were.
    pub calls: u64,
    /// What they took together.
    pub time: Duration,
}

/// What the operations of all steps have taken, by kind, in the order in which the kinds first came. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct OpTimes(Arc<Mutex<Vec<OpTime>>>);

impl OpTimes {
    pub(super) fn add(&self, op: Op, time: Duration) {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kinds.iter_mut().find(|kind| kind.op == op) {
            Some(kind) => {
                kind.calls += 1;
                kind.time += time;
            }
            None => kinds.push(OpTime { op, calls: 1, time }),
        }
    }

    /// Everything so far; counting begins anew.
    pub fn take(&self) -> Vec<OpTime> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
