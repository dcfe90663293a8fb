//! Standard output, which may be closed at any time (`millrace doctor | head -1`).

use std::io::Write;

use anyhow::{Context, Result};

/// Prints a text at once, line end or not.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is closed")
}
