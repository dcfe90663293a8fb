//! Forms with files (`multipart/form-data`, RFC 7578), read as they come: no more of one is in memory than a few chunks
//! of the body.

use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream, Bytes};
use futures::StreamExt;
use millrace_api::{ApiError, ErrorKind};
use tokio::time::timeout_at;

/// Most bytes of the headers of a part.
const MAX_HEADERS: usize = 8 << 10;

/// Longest boundary, as the standard has it.
const MAX_BOUNDARY: usize = 70;

/// Bytes a second that a form must come with, after the time that every body has: who sends less only holds a place.
const SLOWEST: u32 = 16 << 10;

/// What a part's headers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) filename: Option<String>,
}

/// A form that is being read.
pub(super) struct Multipart {
    body: BodyDataStream,
    /// What has come and isn't read yet.
    buffer: Vec<u8>,
    /// A line break, two hyphens and the boundary.
    delimiter: Vec<u8>,
    /// When the next chunk must have come; each one moves it by its bytes at [`SLOWEST`].
    deadline: Instant,
    /// Bytes that may still come.
    left: u64,
    most: u64,
    within_part: bool,
}

impl Multipart {
    /// The form in a body, of at most `most` bytes, of which some come within `patience`.
    ///
    /// # Errors
    /// A 400 if `content_type` is that of no form.
    pub(super) fn new(
        content_type: &str,
        body: Body,
        most: u64,
        patience: Duration,
    ) -> Result<Self, ApiError> {
        let boundary = boundary(content_type).ok_or_else(|| {
            ApiError::bad_request(
                "Unsupported Media Type: Only 'multipart/form-data' with a boundary is allowed",
            )
        })?;
        let delimiter = [b"\r\n--", boundary.as_bytes()].concat();
        // The first delimiter needs no line break before it.
        let buffer = b"\r\n".to_vec();
        let body = body.into_data_stream();
        // Whatever stands before the first delimiter means nothing; it is skipped like a part.
        let deadline = Instant::now() + patience;
        Ok(Self { body, buffer, delimiter, deadline, left: most, most, within_part: true })
    }

    /// The next part; what was not read of the one before is skipped.
    ///
    /// # Errors
    /// A 400 for what is no form, a 413 or 408 as for every body.
    pub(super) async fn part(&mut self) -> Result<Option<Part>, ApiError> {
        while self.chunk().await?.is_some() {}
        // Behind a delimiter: two hyphens at the end, else a line break and headers.
        while self.buffer.len() < 2 {
            self.more().await?;
        }
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            if self.buffer.len() > MAX_HEADERS {
                return Err(malformed("the headers of a part are too long"));
            }
            self.more().await?;
        };
        let headers: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
        self.within_part = true;
        part(&String::from_utf8_lossy(&headers)).map(Some).ok_or_else(|| malformed("a part has no name"))
    }

    /// More of this part; `None` at its end.
    ///
    /// # Errors
    /// As in [`part`](Self::part).
    pub(super) async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ApiError> {
        if !self.within_part {
            return Ok(None);
        }
        loop {
            if let Some(end) = find(&self.buffer, &self.delimiter) {
                if end > 0 {
                    return Ok(Some(self.buffer.drain(..end).collect()));
                }
                self.buffer.drain(..self.delimiter.len());
                self.within_part = false;
                return Ok(None);
            }
            // The last bytes may be the beginning of the delimiter.
            let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
            if sure > 0 {
                return Ok(Some(self.buffer.drain(..sure).collect()));
            }
            self.more().await?;
        }
    }

    /// The whole part as text.
    ///
    /// # Errors
    /// As in [`part`](Self::part), and a 400 if it has more than `most` bytes or isn't UTF-8.
    pub(super) async fn text(&mut self, most: usize) -> Result<String, ApiError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            bytes.extend(chunk);
            if bytes.len() > most {
                return Err(malformed("a field is too long"));
            }
        }
        String::from_utf8(bytes).map_err(|_| malformed("a field is not UTF-8"))
    }

    async fn more(&mut self) -> Result<(), ApiError> {
        let chunk: Bytes = match timeout_at(self.deadline.into(), self.body.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(Some(Err(_)) | None) => return Err(ApiError::bad_request("The request body ended early.")),
            Err(_) => {
                return Err(ApiError::new(ErrorKind::Timeout, "The request body did not arrive in time."));
            }
        };
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or_else(|| {
            let message = format!("The request body is too large: at most {} bytes are allowed.", self.most);
            ApiError::new(ErrorKind::TooLarge, message)
        })?;
        let bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
        self.deadline += Duration::from_secs(1) * bytes / SLOWEST;
        self.buffer.extend_from_slice(&chunk);
        Ok(())
    }
}

fn malformed(what: &str) -> ApiError {
    ApiError::bad_request(format!("The form can't be read: {what}."))
}

/// Where `needle`, which begins with a carriage return, begins in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\r') {
        if bytes[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let boundary = parameter(parameters, "boundary")?;
    (1..=MAX_BOUNDARY).contains(&boundary.len()).then_some(boundary)
}

/// Reads the headers of a part.
fn part(headers: &str) -> Option<Part> {
    let value = headers.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    let (_, parameters) = value.split_once(';')?;
    Some(Part { name: parameter(parameters, "name")?, filename: parameter(parameters, "filename") })
}

/// One of `a=b; c="d"`.
fn parameter(parameters: &str, wanted: &str) -> Option<String> {
    let mut rest = parameters;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (value, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let (value, next) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), next)
            }
        };
        if name.trim_matches([' ', ';', '\t']).eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = next;
    }
}

/// The text up to the closing quote, and what follows.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    /// All parts of a body that comes in pieces of `size` bytes.
    async fn read(body: &[u8], size: usize) -> Result<Vec<(Part, Vec<u8>)>, ApiError> {
        let pieces: Vec<_> =
            body.chunks(size).map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect();
        let body = Body::from_stream(stream::iter(pieces));
        let patience = Duration::from_secs(5);
        let mut form = Multipart::new("multipart/form-data; boundary=\"X-y\"", body, 10_000, patience)?;
        let mut parts = Vec::new();
        while let Some(part) = form.part().await? {
            let mut content = Vec::new();
            while let Some(chunk) = form.chunk().await? {
                content.extend(chunk);
            }
            parts.push((part, content));
        }
        Ok(parts)
    }

    const FORM: &str = "--X-y\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
        --X-y\r\ncontent-disposition: form-data; name=file; filename=\"a\\\"b.jsonl\"\r\nContent-Type: x/y\r\n\r\n\
        {}\r\n--X\r\n\r\n--X-y--\r\n";

    #[tokio::test]
    async fn parts_are_the_same_however_the_body_is_cut() {
        for size in 1..FORM.len() {
            let parts = read(FORM.as_bytes(), size).await.unwrap();
            let purpose = Part { name: "purpose".into(), filename: None };
            let file = Part { name: "file".into(), filename: Some("a\"b.jsonl".into()) };
            assert_eq!(parts, [(purpose, b"batch".to_vec()), (file, b"{}\r\n--X\r\n".to_vec())], "{size}");
        }
    }

    #[tokio::test]
    async fn what_is_broken_or_too_much_is_refused() {
        for broken in [
            "",
            "--X-y",
            "--X-y\r\n\r\n\r\n--X-y--",
            "--X-y\r\nContent-Disposition: form-data; name=\"a\r\n\r\nx\r\n--X-y--",
            &FORM[..FORM.len() - 8],
        ] {
            assert_eq!(read(broken.as_bytes(), 7).await.unwrap_err().kind, ErrorKind::BadRequest, "{broken}");
        }
        let long = format!("--X-y\r\nA: {}", "b".repeat(9000));
        assert!(read(long.as_bytes(), 512).await.unwrap_err().message.contains("headers"));
        let large = "x".repeat(10_001);
        assert_eq!(read(large.as_bytes(), 512).await.unwrap_err().kind, ErrorKind::TooLarge);
        for kind in ["application/json", "multipart/form-data", "multipart/form-data; boundary="] {
            assert!(Multipart::new(kind, Body::empty(), 1, Duration::ZERO).is_err(), "{kind}");
        }
    }

    #[tokio::test]
    async fn what_stops_coming_is_given_up() {
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let kind = "multipart/form-data; boundary=B";
        let mut form = Multipart::new(kind, body, 9, Duration::ZERO).unwrap();
        assert_eq!(form.part().await.unwrap_err().kind, ErrorKind::Timeout);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in proptest::collection::vec(prop_oneof![
            Just(b"\r\n--X-y".to_vec()), Just(b"--X-y\r\n".to_vec()), Just(b"\r\n\r\n".to_vec()), Just(b"--".to_vec()),
            Just(b"content-disposition: form-data; name=a".to_vec()), Just(b"\"".to_vec()), Just(b"\\".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..9),
        ], 0..12), size in 1usize..20) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _ = runtime.block_on(read(&body.concat(), size));
        }
    }
}
