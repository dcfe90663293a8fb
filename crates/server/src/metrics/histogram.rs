//! A histogram that takes no lock: one atomic add per bucket and one for the sum.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Sums are kept in billionths, so that seconds keep their nanoseconds and one integer add is enough.
/// The sum wraps after 580 years of observed time.
const SCALE: f64 = 1e9;

/// Counts of observations up to each bound, and their sum.
#[derive(Debug)]
pub(crate) struct Histogram {
    /// Upper bounds, ascending; `+Inf` is implied.
    bounds: Box<[f64]>,
    /// One more than bounds; not cumulative.
    counts: Box<[AtomicU64]>,
    /// For values measured in seconds.
    scaled_sum: AtomicU64,
    /// For counts, which would soon overflow the scaled sum.
    whole_sum: AtomicU64,
}

/// What a scrape shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot<'a> {
    /// Upper bounds.
    pub(crate) bounds: &'a [f64],
    /// One more than bounds; not cumulative.
    pub(crate) counts: Vec<u64>,
    /// Sum of all observations.
    pub(crate) sum: f64,
}

impl Histogram {
    pub(crate) fn new(bounds: &[f64]) -> Self {
        Self {
            bounds: bounds.into(),
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            scaled_sum: AtomicU64::new(0),
            whole_sum: AtomicU64::new(0),
        }
    }

    /// Notes a span of time, in seconds.
    pub(crate) fn observe_time(&self, time: Duration) {
        self.count(time.as_secs_f64());
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.scaled_sum.fetch_add(nanos, Relaxed);
    }

    /// Notes a number of things.
    pub(crate) fn observe_count(&self, count: usize) {
        self.count(count as f64);
        self.whole_sum.fetch_add(count as u64, Relaxed);
    }

    fn count(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            bounds: &self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.scaled_sum.load(Relaxed) as f64 / SCALE + self.whole_sum.load(Relaxed) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_the_rest_is_infinite() {
        let histogram = Histogram::new(&[1.0, 5.0]);
        for count in [0, 1, 2, 5, 6, 100] {
            histogram.observe_count(count);
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [2, 2, 2]);
        assert_eq!(snapshot.sum, 114.0);
    }

    #[test]
    fn times_are_in_seconds() {
        let histogram = Histogram::new(&[0.01]);
        histogram.observe_time(Duration::from_millis(10));
        histogram.observe_time(Duration::from_millis(1500));
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.counts, [1, 1]);
        assert!((snapshot.sum - 1.51).abs() < 1e-9);
    }
}
