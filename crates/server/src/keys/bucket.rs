//! A token bucket: so much a minute, flowing in evenly, and at most a minute's worth kept.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Counts one thing (requests, or tokens) against a limit per minute.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// At least 1.
    per_minute: u64,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// What is left; below zero after more was used than there was.
    level: f64,
    at: Instant,
}

/// A bucket at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Units per minute.
    pub(crate) limit: u64,
    /// Whole units that are left.
    pub(crate) remaining: u64,
    /// Time until it is full again.
    pub(crate) reset: Duration,
}

/// Why nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Short {
    /// There will be enough after this time.
    Wait(Duration),
    /// There is never so much in it.
    Never,
}

impl Bucket {
    /// A full bucket of `per_minute` units; 0 counts as 1.
    pub(crate) fn new(per_minute: u64, now: Instant) -> Self {
        let per_minute = per_minute.max(1);
        Self { per_minute, state: Mutex::new(State { level: per_minute as f64, at: now }) }
    }

    /// A bucket of another size that goes on where this one stands: a new limit is no way to a fresh budget.
    pub(crate) fn resized(&self, per_minute: u64, now: Instant) -> Self {
        let used = self.per_minute as f64 - self.level(now);
        let bucket = Self::new(per_minute, now);
        bucket.lock().level -= used;
        bucket
    }

    /// Takes `amount` units, or nothing.
    pub(crate) fn take(&self, amount: u64, now: Instant) -> Result<(), Short> {
        if amount > self.per_minute {
            return Err(Short::Never);
        }
        let mut state = self.settled(now);
        let missing = amount as f64 - state.level;
        if missing > 0.0 {
            return Err(Short::Wait(self.time_for(missing)));
        }
        state.level -= amount as f64;
        Ok(())
    }

    /// Takes what was used already, even if that leaves less than nothing.
    pub(crate) fn charge(&self, amount: u64, now: Instant) {
        self.settled(now).level -= amount as f64;
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(&self, amount: u64, now: Instant) {
        let mut state = self.settled(now);
        state.level = (state.level + amount as f64).min(self.per_minute as f64);
    }

    /// How it stands.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        let level = self.level(now);
        let limit = self.per_minute;
        Standing { limit, remaining: level.max(0.0) as u64, reset: self.time_for(limit as f64 - level) }
    }

    fn level(&self, now: Instant) -> f64 {
        self.settled(now).level
    }

    /// The state with all that has flowed in until `now`.
    fn settled(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let elapsed = now.saturating_duration_since(state.at).as_secs_f64();
        let full = self.per_minute as f64;
        state.level = (state.level + elapsed * full / 60.0).min(full);
        state.at = state.at.max(now);
        state
    }

    fn time_for(&self, units: f64) -> Duration {
        // Bounded, because a duration can't hold every float.
        Duration::from_secs_f64((units * 60.0 / self.per_minute as f64).clamp(0.0, 1e9))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Two numbers that are written together: sound even if a holder panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn it_empties_and_fills_evenly() {
        let start = Instant::now();
        let bucket = Bucket::new(60, start);
        assert_eq!(bucket.take(60, start), Ok(()));
        let Err(Short::Wait(wait)) = bucket.take(3, start) else { panic!("taken") };
        assert!((wait.as_secs_f64() - 3.0).abs() < 1e-6);
        assert_eq!(bucket.take(2, after(start, 2.001)), Ok(()));
        assert_eq!(bucket.standing(after(start, 1e6)).remaining, 60, "never more than a minute's worth");
    }

    #[test]
    fn debt_is_paid_before_more_is_given() {
        let start = Instant::now();
        let bucket = Bucket::new(60, start);
        bucket.charge(90, start);
        assert_eq!(bucket.standing(start).remaining, 0);
        assert_eq!(bucket.standing(start).reset.as_secs(), 90);
        assert_eq!(bucket.take(1, after(start, 31.1)), Ok(()));
        bucket.give_back(1000, after(start, 31.2));
        assert_eq!(bucket.standing(after(start, 31.2)).remaining, 60);
    }

    #[test]
    fn what_never_fits_is_told_apart() {
        let start = Instant::now();
        assert_eq!(Bucket::new(10, start).take(11, start), Err(Short::Never));
    }

    #[test]
    fn a_new_limit_is_no_fresh_budget() {
        let start = Instant::now();
        let old = Bucket::new(100, start);
        assert_eq!(old.take(70, start), Ok(()));
        assert_eq!(old.resized(100, start).standing(start).remaining, 30);
        assert_eq!(old.resized(80, start).standing(start).remaining, 10);
        assert_eq!(old.resized(50, start).standing(start).remaining, 0);
    }
}
