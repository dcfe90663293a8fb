//! `keep_alive`: a number of seconds, or a duration as Go writes it, such as `5m` or `1h30m`. Negative is for ever.

use std::time::Duration;

use serde_json::Value;

use crate::ApiError;

/// Longest time that is told from for ever.
const MAX_SECONDS: f64 = 10.0 * 365.0 * 86_400.0;

/// Go's units in seconds; longer names first where one begins like another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];

/// How long a model stays in memory after a request; `None` is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive(pub Option<Duration>);

impl KeepAlive {
    /// Whether the model is to go at once.
    pub fn is_zero(self) -> bool {
        self.0 == Some(Duration::ZERO)
    }

    /// Reads the field.
    ///
    /// # Errors
    /// A 400 if it is neither a number nor a duration.
    pub(super) fn read(value: Option<&Value>) -> Result<Option<Self>, ApiError> {
        let seconds = match value {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => seconds(text),
            Some(_) => None,
        };
        let seconds = seconds.filter(|seconds| seconds.is_finite()).ok_or_else(|| {
            let message =
                "`keep_alive` must be a number of seconds or a duration such as \"5m\"; -1 keeps the model.";
            ApiError::invalid("keep_alive", message)
        })?;
        let ends = (0.0..=MAX_SECONDS).contains(&seconds);
        Ok(Some(Self(ends.then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)))))
    }
}

fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Some(seconds);
    }
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (unit, factor) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit))?;
        total += number.parse::<f64>().ok()? * factor;
        rest = &tail[unit.len()..];
    }
    (!text.trim_start_matches(['-', '+']).is_empty()).then_some(sign * total)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ways_to_write_a_time() {
        let read = |value: Value| KeepAlive::read(Some(&value)).unwrap().map(|keep| keep.0);
        let some = |seconds: f64| Some(Some(Duration::from_secs_f64(seconds)));
        for (value, seconds) in [
            (json!(0), 0.0),
            (json!(90), 90.0),
            (json!("0"), 0.0),
            (json!("5m"), 300.0),
            (json!("1h30m"), 5400.0),
            (json!("1.5s"), 1.5),
            (json!("300ms"), 0.3),
        ] {
            assert_eq!(read(value.clone()), some(seconds), "{value}");
        }
        for forever in [json!(-1), json!("-1"), json!("-1m"), json!(1e300)] {
            assert_eq!(read(forever.clone()), Some(None), "{forever}");
        }
        assert_eq!(read(json!(null)), None);
        assert_eq!(read(json!("")), None);
        for bad in [
            json!("soon"),
            json!("5 m"),
            json!("m"),
            json!("-"),
            json!("5x"),
            json!(true),
            json!([]),
            json!("inf"),
        ] {
            assert!(KeepAlive::read(Some(&bad)).is_err(), "{bad}");
        }
    }
}
