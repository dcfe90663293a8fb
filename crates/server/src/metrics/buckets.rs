//! Bucket bounds; vLLM's, so that its dashboards read ours.

/// Seconds to the first token.
pub(super) const FIRST_TOKEN: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];

/// Seconds from token to token.
pub(super) const TOKEN: &[f64] = &[
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];

/// Seconds of a request or of one of its phases.
pub(super) const REQUEST: &[f64] = &[
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];

/// Seconds to compile a grammar.
pub(super) const COMPILE: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Choices per prompt.
pub(super) const CHOICES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0];

/// Times that something rare happened to a request.
pub(super) const EVENTS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0];

/// Seconds of an HTTP exchange.
pub(super) const HTTP: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];

/// 1, 2, 5, 10, … up to `most`.
pub(super) fn tokens(most: usize) -> Vec<f64> {
    let series = (0..).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.saturating_pow(power)));
    series.take_while(|bound| *bound <= most && *bound < usize::MAX / 10).map(|bound| bound as f64).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn token_buckets_stop_at_the_context() {
        assert_eq!(super::tokens(60), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        assert!(super::tokens(usize::MAX).len() < 70);
    }
}
