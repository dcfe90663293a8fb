//! What became of a server's calls, for metrics.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Upper bounds of the buckets that calls are counted in by their time, in seconds.
pub const CALL_SECONDS_BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The tool said that it failed.
    ToolError,
    /// There was no result: the server is down, too slow, or refused the call.
    Failed,
}

/// Counts since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallStats {
    /// Calls with a result.
    pub ok: u64,
    /// Calls whose result is an error of the tool.
    pub tool_errors: u64,
    /// Calls without a result.
    pub failed: u64,
    /// The time of all of them.
    pub time: Duration,
    /// Calls by how long they took: one entry more than [`CALL_SECONDS_BUCKETS`], not cumulative.
    pub buckets: Vec<u64>,
}

/// Where calls are counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    outcomes: [AtomicU64; 3],
    nanos: AtomicU64,
    buckets: [AtomicU64; CALL_SECONDS_BUCKETS.len() + 1],
}

impl Counts {
    pub(crate) fn note(&self, outcome: Outcome, took: Duration) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        let bucket = CALL_SECONDS_BUCKETS.partition_point(|bound| *bound < took.as_secs_f64());
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> CallStats {
        let [ok, tool_errors, failed] = [0, 1, 2].map(|index: usize| self.outcomes[index].load(Relaxed));
        CallStats {
            ok,
            tool_errors,
            failed,
            time: Duration::from_nanos(self.nanos.load(Relaxed)),
            buckets: self.buckets.iter().map(|count| count.load(Relaxed)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_end_and_time() {
        let counts = Counts::default();
        counts.note(Outcome::Ok, Duration::from_millis(10));
        counts.note(Outcome::ToolError, Duration::from_millis(11));
        counts.note(Outcome::Failed, Duration::from_secs(100));
        let stats = counts.stats();
        assert_eq!((stats.ok, stats.tool_errors, stats.failed), (1, 1, 1));
        assert_eq!(stats.time, Duration::from_millis(100_021));
        assert_eq!(stats.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
    }
}
