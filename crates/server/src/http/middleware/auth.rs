//! API keys: `Authorization: Bearer …` or `x-api-key: …`.

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header::AUTHORIZATION},
    middleware::Next,
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, ErrorKind};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::http::{App, reply::Failure};

/// The keys, as digests: all of one length, and no key in a memory dump.
pub(crate) struct ApiKeys(Vec<[u8; 32]>);

impl ApiKeys {
    pub(crate) fn new(keys: &[String]) -> Self {
        Self(keys.iter().map(|key| digest(key.as_bytes())).collect())
    }

    /// Compares with every key in constant time, whichever matches.
    fn accept(&self, presented: &[u8]) -> bool {
        let presented = digest(presented);
        self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&presented)).into()
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.0.len())
    }
}

/// Lets a request pass if there are no keys, or if it presents one.
pub(crate) async fn auth(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let keys = &app.keys;
    if keys.0.is_empty() || presented(request.headers()).any(|key| keys.accept(key)) {
        return next.run(request).await;
    }
    let message = "Unauthorized: send a valid key as `Authorization: Bearer KEY` or `x-api-key: KEY`.";
    Failure(ApiError::new(ErrorKind::Unauthorized, message)).into_response()
}

/// The keys in the headers; the scheme's name may be written in any case.
pub(crate) fn presented(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
    });
    let plain = headers.get("x-api-key").map(|value| value.as_bytes());
    bearer.into_iter().chain(plain)
}

fn digest(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_of_several_keys_is_accepted_and_nothing_else() {
        let keys = ApiKeys::new(&["one".into(), "two".into()]);
        assert!(keys.accept(b"one") && keys.accept(b"two"));
        for wrong in [&b"onet"[..], b"", b"on", b"One", b"one "] {
            assert!(!keys.accept(wrong));
        }
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");
    }
}
