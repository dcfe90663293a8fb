//! Text from a file or from standard input.

use std::fs::File;
use std::io::Read;

use anyhow::{Context, Result, ensure};

/// Reads a text of at most `limit` bytes from the file at `path`; `-` is standard input.
pub(crate) fn read(path: &str, limit: u64) -> Result<String> {
    if path == "-" {
        return bounded(std::io::stdin().lock(), "standard input", limit);
    }
    let file = File::open(path).with_context(|| format!("{path} cannot be opened"))?;
    bounded(file, path, limit)
}

fn bounded(reader: impl Read, name: &str, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).with_context(|| format!("{name} cannot be read"))?;
    ensure!(bytes.len() as u64 <= limit, "{name} is longer than {limit} bytes");
    String::from_utf8(bytes).map_err(|error| {
        anyhow::anyhow!("{name} is not UTF-8 text (byte {})", error.utf8_error().valid_up_to())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_utf8() {
        assert_eq!(bounded("abc".as_bytes(), "x", 3).unwrap(), "abc");
        assert_eq!(bounded("abcd".as_bytes(), "x", 3).unwrap_err().to_string(), "x is longer than 3 bytes");
        let error = bounded(&b"ab\xff"[..], "x", 9).unwrap_err().to_string();
        assert_eq!(error, "x is not UTF-8 text (byte 2)");
        assert!(read("/no/such/file", 9).unwrap_err().to_string().contains("/no/such/file"));
    }
}
