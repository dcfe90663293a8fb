//! Pauses between attempts.

use std::time::Duration;

use crate::McpLimits;

/// Doubles from the first pause to the longest one.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    healthy_after: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(limits: &McpLimits) -> Self {
        Self {
            first: limits.backoff_first,
            most: limits.backoff_most,
            healthy_after: limits.healthy_after,
            failures: 0,
        }
    }

    /// The pause after a failure that came `up` after the server was ready; zero if it never was.
    pub(crate) fn pause(&mut self, up: Duration) -> Duration {
        if up >= self.healthy_after {
            self.failures = 0;
        }
        let factor = 2u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.first.saturating_mul(factor).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_start_over_after_good_times() {
        let mut backoff = Backoff::new(&McpLimits::default());
        let mut seconds = |up: u64| backoff.pause(Duration::from_secs(up)).as_secs();
        assert_eq!([0; 8].map(&mut seconds), [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!([59, 60, 0].map(&mut seconds), [60, 1, 2]);
        for _ in 0..100 {
            assert!(seconds(0) <= 60);
        }
    }
}
