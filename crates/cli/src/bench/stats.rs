//! Medians and percentiles.

use std::time::Duration;

use serde_json::{Value, json};

/// A sorted sample of numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Sample(Vec<f64>);

impl Sample {
    /// Numbers in any order; those that are no numbers are left out.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// Times in milliseconds.
    pub(super) fn millis(values: impl IntoIterator<Item = Duration>) -> Self {
        Self::new(values.into_iter().map(|d| d.as_secs_f64() * 1e3))
    }

    /// The value below which `percent` of the sample lies, interpolated between neighbours; 0 for an empty sample.
    pub(super) fn percentile(&self, percent: f64) -> f64 {
        let Some(last) = self.0.len().checked_sub(1) else { return 0.0 };
        let place = percent / 100.0 * last as f64;
        let (low, share) = (place.floor() as usize, place.fract());
        let at = |index: usize| self.0.get(index.min(last)).copied().unwrap_or_default();
        at(low) + (at(low + 1) - at(low)) * share
    }

    pub(super) fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// Median, p90, p99 and maximum, as a row of a table.
    pub(super) fn row(&self, name: &str, unit: &str) -> String {
        let values = [50.0, 90.0, 99.0, 100.0].map(|p| format!("{:>10.2}", self.percentile(p)));
        format!("{name:<26}{} {unit}", values.concat())
    }

    /// The head of a table of [`Sample::row`]s.
    pub(super) fn head() -> String {
        format!("{:<26}{:>10}{:>10}{:>10}{:>10}", "", "median", "p90", "p99", "max")
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "median": self.median(),
            "p90": self.percentile(90.0),
            "p99": self.percentile(99.0),
            "min": self.percentile(0.0),
            "max": self.percentile(100.0),
            "count": self.0.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate() {
        let sample = Sample::new([4.0, 1.0, 3.0, 2.0, f64::NAN]);
        assert_eq!((sample.percentile(0.0), sample.median(), sample.percentile(100.0)), (1.0, 2.5, 4.0));
        assert!((sample.percentile(90.0) - 3.7).abs() < 1e-9);
        assert_eq!(Sample::default().median(), 0.0);
        assert_eq!(Sample::new([7.0]).percentile(99.0), 7.0);
    }

    #[test]
    fn times_are_in_milliseconds() {
        assert_eq!(Sample::millis([Duration::from_millis(1500)]).median(), 1500.0);
    }
}
