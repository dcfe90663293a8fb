//! Reading the hub's answers: addresses, headers and refusals.

use ureq::http::{HeaderMap, StatusCode, Uri, header};

use crate::WeightsError;

/// Why a request did not succeed.
pub(crate) enum Failure {
    /// Passing: a cut connection, a busy server. The text says what happened.
    Passing(String),
    /// Trying again would not help.
    Final(WeightsError),
}

impl From<WeightsError> for Failure {
    fn from(error: WeightsError) -> Self {
        Self::Final(error)
    }
}

/// A header as text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// An etag without its weakness mark and quotes.
pub(crate) fn etag(headers: &HeaderMap) -> Option<String> {
    let raw = text(headers, "x-linked-etag").or_else(|| text(headers, "etag"))?;
    Some(raw.trim_start_matches("W/").trim_matches('"').to_owned())
}

/// The size of the file itself; a redirect's own length doesn't count.
pub(crate) fn size(status: StatusCode, headers: &HeaderMap) -> Option<u64> {
    let own = || text(headers, "content-length").filter(|_| !status.is_redirection());
    text(headers, "x-linked-size").or_else(own)?.parse().ok()
}

/// Where a redirect leads, as a full address; `None` if it is none, or leads nowhere.
pub(crate) fn location(status: StatusCode, headers: &HeaderMap, base: &str) -> Option<String> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = text(headers, header::LOCATION.as_str())?;
    let uri: Uri = base.parse().ok()?;
    let (scheme, authority) = (uri.scheme_str()?, uri.authority()?);
    let full = if location.contains("://") {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    full.parse::<Uri>().ok().map(|_| full)
}

/// Scheme, host and port: a token belongs to one of these and goes to no other.
pub(crate) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host()?.to_ascii_lowercase();
    Some((scheme, host, uri.port_u16().unwrap_or(default_port)))
}

/// First byte and total size of a `Content-Range: bytes 10-99/100`.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let (range, total) = text(headers, "content-range")?.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn redirects_of_every_form() {
        let to = |location: &str| {
            super::location(StatusCode::FOUND, &headers(&[("location", location)]), "https://hub/a/b?c")
        };
        assert_eq!(to("https://cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(to("//cdn/x").as_deref(), Some("https://cdn/x"));
        assert_eq!(to("/x").as_deref(), Some("https://hub/x"));
        assert_eq!(to("x").as_deref(), Some("https://hub/a/x"));
        assert_eq!(to("ht tp://x"), None);
        assert_eq!(super::location(StatusCode::OK, &headers(&[("location", "/x")]), "https://hub/"), None);
    }

    #[test]
    fn origins_are_not_fooled() {
        let hub = origin("https://hub.co/x");
        assert_eq!(hub, origin("HTTPS://HUB.co:443/y"));
        for other in ["http://hub.co/", "https://hub.co:444/", "https://hub.co.evil/", "https://hub.co@evil/"]
        {
            assert_ne!(hub, origin(other), "{other}");
        }
        assert_eq!(origin("ftp://hub.co/"), None);
    }

    #[test]
    fn sizes_and_etags() {
        let plain = headers(&[("etag", "W/\"abc\""), ("content-length", "5")]);
        assert_eq!((etag(&plain).as_deref(), size(StatusCode::OK, &plain)), (Some("abc"), Some(5)));
        assert_eq!(size(StatusCode::FOUND, &plain), None);
        let linked = headers(&[
            ("etag", "x"),
            ("x-linked-etag", "\"def\""),
            ("x-linked-size", "7"),
            ("content-length", "5"),
        ]);
        assert_eq!((etag(&linked).as_deref(), size(StatusCode::FOUND, &linked)), (Some("def"), Some(7)));
        assert_eq!(content_range(&headers(&[("content-range", "bytes 10-99/100")])), Some((10, 100)));
        assert_eq!(content_range(&headers(&[("content-range", "bytes */100")])), None);
    }
}
