//! `/v1/batches`: jobs of many requests, the lines of a file.
//!
//! [`parse`] reads an order, [`BatchRecord`] is what is kept of it, [`BatchLine`] one of its requests, and
//! [`result_line`] and [`unrun_line`] are what comes of one.

mod lines;
mod record;

use serde_json::{Map, Value};

use super::metadata::read_metadata;
use crate::{
    ApiError,
    fields::{Fields, invalid},
};

pub use lines::{BatchLine, LineError, result_line, unrun_line};
pub use record::{BatchRecord, Counts, End, State};

/// Longest id of a file, in characters.
const MAX_ID: usize = 100;

/// Bounds on `completion_window`, in seconds: up to 30 days.
const WINDOW: std::ops::RangeInclusive<u64> = 1..=2_592_000;

/// Bounds on `output_expires_after.seconds`: an hour and 30 days, as OpenAI has them.
const EXPIRES_AFTER: std::ops::RangeInclusive<u64> = 3600..=2_592_000;

/// What a client orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOrder {
    /// The file with the requests.
    pub input_file_id: String,
    /// The path that they all go to.
    pub endpoint: String,
    /// As the client wrote it, such as `24h`.
    pub completion_window: String,
    /// The same in seconds.
    pub window: u64,
    /// Told again in the answer.
    pub metadata: Map<String, Value>,
    /// Seconds after which the results are forgotten, if the client says so.
    pub output_expires_after: Option<u64>,
}

/// Reads the body of `POST /v1/batches`; `endpoints` are the paths that a batch may go to.
///
/// # Errors
/// A 400 that names the field.
pub fn parse(body: &Value, endpoints: &[&str]) -> Result<BatchOrder, ApiError> {
    let mut fields = Fields::new(String::new(), body)?;
    let input_file_id = fields.need_str("input_file_id")?;
    if input_file_id.chars().nth(MAX_ID).is_some() {
        return Err(invalid("input_file_id", "That is not the id of a file."));
    }
    let endpoint = fields.need_str("endpoint")?;
    if !endpoints.contains(&endpoint) {
        let message = format!("Batches can be made of requests to {}.", endpoints.join(", "));
        return Err(invalid("endpoint", &message));
    }
    let completion_window = fields.need_str("completion_window")?;
    let window = seconds(completion_window).filter(|window| WINDOW.contains(window)).ok_or_else(|| {
        let message = "Write a time from 1s to 30d as a number and s, m, h or d, such as '24h'.";
        invalid("completion_window", message)
    })?;
    let metadata = read_metadata(&mut fields)?.as_object().cloned().unwrap_or_default();
    let output_expires_after = output_expires_after(&mut fields)?;
    let order = BatchOrder {
        input_file_id: input_file_id.to_owned(),
        endpoint: endpoint.to_owned(),
        completion_window: completion_window.to_owned(),
        window,
        metadata,
        output_expires_after,
    };
    fields.done()?;
    Ok(order)
}

fn output_expires_after(fields: &mut Fields<'_>) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.get("output_expires_after") else { return Ok(None) };
    let mut own = Fields::new("output_expires_after".into(), value)?;
    own.need("anchor")?;
    own.one_of("anchor", &["created_at"])?;
    own.need("seconds")?;
    let seconds = own.integer("seconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let (least, most) = (EXPIRES_AFTER.start(), EXPIRES_AFTER.end());
    let seconds = seconds.filter(|seconds| EXPIRES_AFTER.contains(seconds)).ok_or_else(|| {
        invalid(&own.at("seconds"), &format!("Input should be a number from {least} to {most}."))
    })?;
    own.done()?;
    Ok(Some(seconds))
}

/// A time such as `24h`.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let is_plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_plain)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ENDPOINTS: &[&str] = &["/v1/chat/completions", "/v1/completions"];

    fn order(extra: &Value) -> Result<BatchOrder, String> {
        let mut body =
            json!({"input_file_id": "file-1", "endpoint": "/v1/completions", "completion_window": "24h"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        parse(&body, ENDPOINTS).map_err(|error| error.param.unwrap_or_default())
    }

    #[test]
    fn orders_are_read_strictly() {
        let read = order(&json!({"metadata": {"a": "b"}, "completion_window": "90m"})).unwrap();
        assert_eq!((read.window, read.metadata["a"].as_str()), (5400, Some("b")));
        let expiry = json!({"output_expires_after": {"anchor": "created_at", "seconds": 7200}});
        assert_eq!(order(&expiry).unwrap().output_expires_after, Some(7200));
        for (extra, param) in [
            (json!({"input_file_id": null}), "input_file_id"),
            (json!({"input_file_id": "x".repeat(101)}), "input_file_id"),
            (json!({"endpoint": "/v1/models"}), "endpoint"),
            (json!({"metadata": {"a": 1}}), "metadata"),
            (json!({"output_expires_after": {"anchor": "created_at"}}), "output_expires_after.seconds"),
            (
                json!({"output_expires_after": {"anchor": "created_at", "seconds": -1}}),
                "output_expires_after.seconds",
            ),
            (json!({"priority": 1}), "priority"),
        ] {
            assert_eq!(order(&extra), Err(param.to_owned()), "{extra}");
        }
        for window in ["", "h", "24", "0h", "+1h", "1.5h", "31d", "99999999999999999999h", "24H", "é"] {
            assert_eq!(order(&json!({"completion_window": window})), Err("completion_window".to_owned()));
        }
    }
}
