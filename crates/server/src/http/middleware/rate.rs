//! Headers that tell the holder of a limited key what is left, as OpenAI or as Anthropic names them.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use millrace_api::anthropic::models::rfc3339;

use crate::{
    keys::{Key, Standing},
    model::unix_time,
};

/// Names of `limit`, `remaining` and `reset` for one kind of unit.
type Names = [HeaderName; 3];

const OPENAI_REQUESTS: Names = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const OPENAI_TOKENS: Names = [
    HeaderName::from_static("x-ratelimit-limit-tokens"),
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
const ANTHROPIC_REQUESTS: Names = [
    HeaderName::from_static("anthropic-ratelimit-requests-limit"),
    HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
    HeaderName::from_static("anthropic-ratelimit-requests-reset"),
];
const ANTHROPIC_TOKENS: Names = [
    HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
    HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
    HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
];

/// Adds the headers for what is limited; none for a key without limits.
pub(super) fn tell(key: &Key, anthropic: bool, headers: &mut HeaderMap) {
    let (requests, tokens) = key.standing();
    let (request_names, token_names) =
        if anthropic { (ANTHROPIC_REQUESTS, ANTHROPIC_TOKENS) } else { (OPENAI_REQUESTS, OPENAI_TOKENS) };
    for (standing, names) in [(requests, request_names), (tokens, token_names)] {
        if let Some(standing) = standing {
            add(standing, names, anthropic, headers);
        }
    }
}

fn add(standing: Standing, [limit, remaining, reset]: Names, anthropic: bool, headers: &mut HeaderMap) {
    let full = if anthropic { date_after(standing.reset) } else { span(standing.reset) };
    headers.insert(limit, HeaderValue::from(standing.limit));
    headers.insert(remaining, HeaderValue::from(standing.remaining));
    if let Ok(full) = HeaderValue::from_str(&full) {
        headers.insert(reset, full);
    }
}

/// A time from now on, rounded up to a second.
fn date_after(time: Duration) -> String {
    rfc3339(unix_time() + time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// A span as OpenAI writes it: `120ms`, `7s`, `1m30s`.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => format!("{}ms", time.subsec_millis()),
        1..60 => format!("{seconds}s"),
        _ => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_openai_writes_them() {
        for (millis, text) in
            [(0, "0ms"), (120, "120ms"), (7_900, "7s"), (90_000, "1m30s"), (3_600_000, "60m0s")]
        {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }
}
