//! Who may change what the server does.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use millrace_api::{ApiError, ErrorKind};

/// The other end of a request's connection; an extension of every request that came through a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Headers by which a proxy tells for whom it asks. What it forwards doesn't come from this machine.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Lets a request pass that comes from this machine.
///
/// # Errors
/// A 401 for all others.
pub(super) fn require_admin(peer: Option<Peer>, headers: &HeaderMap) -> Result<(), ApiError> {
    let is_near = peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback());
    if is_near && !FORWARDED.iter().any(|name| headers.contains_key(*name)) {
        return Ok(());
    }
    let message = "This is for the server's operator: ask from the machine that it runs on.";
    Err(ApiError::new(ErrorKind::Unauthorized, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may() {
        let from = |address: &str| Some(Peer(format!("{address}:5").parse().unwrap()));
        let none = HeaderMap::new();
        for near in ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]"] {
            assert!(require_admin(from(near), &none).is_ok(), "{near}");
        }
        for far in ["192.168.0.1", "[2001:db8::1]", "[::ffff:10.0.0.1]", "0.0.0.0"] {
            assert!(require_admin(from(far), &none).is_err(), "{far}");
        }
        assert!(require_admin(None, &none).is_err());
        let mut forwarded = HeaderMap::new();
        forwarded.insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
        assert!(require_admin(from("127.0.0.1"), &forwarded).is_err());
    }
}
