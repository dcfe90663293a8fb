//! Time limits in headers.

use std::time::Duration;

use axum::http::HeaderMap;
use millrace_api::ApiError;

/// Seconds, with or without a fraction, as the field `timeout` of a body has them.
const SECONDS: &str = "x-request-timeout";

/// Milliseconds; Envoy, and what is built on it, tells a server so how long it will wait.
const ENVOY_MILLIS: &str = "x-envoy-expected-rq-timeout-ms";

/// A week: a longer limit is a mistake in the unit.
const LONGEST: Duration = Duration::from_secs(604_800);

/// The time limit that the headers set; the shorter one, if both do. The one of `X-Stainless-Timeout`, which the
/// vendors' own clients send, is no limit on a request: such a client goes on waiting as long as something comes.
///
/// # Errors
/// A 400 for what is no time.
pub(super) fn time_limit(headers: &HeaderMap) -> Result<Option<Duration>, ApiError> {
    let seconds = read(headers, SECONDS, 1.0, "a number of seconds above 0 and up to 604800")?;
    let millis = read(headers, ENVOY_MILLIS, 1e-3, "a number of milliseconds above 0 and up to 604800000")?;
    Ok(seconds.into_iter().chain(millis).min())
}

fn read(headers: &HeaderMap, name: &str, unit: f64, what: &str) -> Result<Option<Duration>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    let limit = number.and_then(|number| Duration::try_from_secs_f64(number * unit).ok());
    match limit.filter(|limit| !limit.is_zero() && *limit <= LONGEST) {
        Some(limit) => Ok(Some(limit)),
        None => Err(ApiError::bad_request(format!("The header `{name}` must be {what}."))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(pairs: &[(&'static str, &'static str)]) -> Result<Option<Duration>, ApiError> {
        time_limit(
            &pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(),
        )
    }

    #[test]
    fn the_shorter_limit_counts() {
        let millis = |millis| Some(Duration::from_millis(millis));
        assert_eq!(limit(&[]).unwrap(), None);
        assert_eq!(limit(&[(SECONDS, "1.5")]).unwrap(), millis(1500));
        assert_eq!(limit(&[(SECONDS, "2"), (ENVOY_MILLIS, "250")]).unwrap(), millis(250));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for value in ["", "0", "-1", "x", "nan", "inf", "1e9", "1s"] {
            assert!(limit(&[(SECONDS, value)]).unwrap_err().message.contains(SECONDS), "{value}");
        }
    }
}
