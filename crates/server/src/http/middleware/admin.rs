//! The way into the administration: from this machine, or with a key that has `admin: true`.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, Uri,
        header::{FORWARDED, HOST, ORIGIN, VIA},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use millrace_api::{ApiError, ErrorKind};

use super::auth::identify;
use crate::{
    http::{App, reply::Failure},
    keys::Caller,
    listen::Peer,
};

/// Headers that a proxy on this machine adds to requests from elsewhere.
const PROXIES: [&str; 5] =
    ["x-forwarded-for", "x-forwarded-host", "x-real-ip", "cf-connecting-ip", "x-envoy-external-address"];

/// Lets administrators pass.
pub(crate) async fn admin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    match administrator(&app, &request) {
        Ok(caller) => caller.scope(next.run(request)).await,
        Err(error) => Failure(error).into_response(),
    }
}

fn administrator(app: &App, request: &Request) -> Result<Caller, ApiError> {
    if is_local(request) {
        return Ok(Caller::local_admin());
    }
    match identify(app, request.headers())? {
        Some(key) if key.is_admin() => Ok(Caller::new(Some(key), None)),
        _ => {
            let message =
                "This needs a key with `admin: true`, or a direct connection from the server's own machine.";
            Err(ApiError::new(ErrorKind::Forbidden, message))
        }
    }
}

/// Whether a request was made on this machine, and by its user: not passed on by a proxy, and not made by a web page
/// from elsewhere that the user's browser shows.
fn is_local(request: &Request) -> bool {
    let headers = request.headers();
    let proxied = headers.contains_key(FORWARDED)
        || headers.contains_key(VIA)
        || PROXIES.iter().any(|name| headers.contains_key(*name));
    let here = match request.extensions().get::<Peer>() {
        Some(Peer::Tcp(address)) => address.to_canonical().is_loopback() && has_local_host(headers),
        Some(Peer::Unix) => true,
        None => false,
    };
    here && !proxied && is_same_origin(headers)
}

/// A page whose name was made to point at this machine (DNS rebinding) sends that name as `Host`.
fn has_local_host(headers: &HeaderMap) -> bool {
    let Some(authority) = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok()) else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<std::net::IpAddr>().is_ok()
}

/// Browsers send `Origin` with whatever a page may do to another site.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.parse::<Uri>().ok());
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    match (origin.as_ref().and_then(Uri::authority), host) {
        (Some(origin), Some(host)) => origin.as_str().eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn local(peer: Option<&str>, headers: &[(&str, &str)]) -> bool {
        let mut builder = Request::builder();
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(Body::empty()).unwrap();
        if let Some(peer) = peer {
            let peer = peer.parse().map_or(Peer::Unix, Peer::Tcp);
            request.extensions_mut().insert(peer);
        }
        is_local(&request)
    }

    #[test]
    fn only_direct_requests_of_this_machine_are_local() {
        let here = [("host", "localhost:8000")];
        for peer in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1", "unix"] {
            assert!(local(Some(peer), &here), "{peer}");
        }
        for peer in ["10.0.0.1", "::2", "0.0.0.0", "::ffff:10.0.0.1"] {
            assert!(!local(Some(peer), &here), "{peer}");
        }
        assert!(!local(None, &here));
        assert!(local(Some("unix"), &[]));
        assert!(local(Some("::1"), &[("host", "[::1]:8000")]));
    }

    #[test]
    fn proxies_and_foreign_pages_are_not() {
        for header in PROXIES.into_iter().chain(["forwarded", "via"]) {
            assert!(!local(Some("127.0.0.1"), &[("host", "localhost"), (header, "x")]), "{header}");
            assert!(!local(Some("unix"), &[(header, "x")]), "{header}");
        }
        for (host, origin, expected) in [
            ("localhost:8000", "http://localhost:8000", true),
            ("localhost:8000", "http://localhost:3000", false),
            ("localhost:8000", "https://evil.example", false),
            ("localhost:8000", "null", false),
            ("evil.example:8000", "http://evil.example:8000", false),
        ] {
            assert_eq!(
                local(Some("127.0.0.1"), &[("host", host), ("origin", origin)]),
                expected,
                "{host} {origin}"
            );
        }
        assert!(!local(Some("127.0.0.1"), &[("host", "evil.example")]));
        assert!(!local(Some("127.0.0.1"), &[]));
    }
}
