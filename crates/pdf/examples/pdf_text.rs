//! Prints the text of PDF files: `cargo run -p millrace-pdf --example pdf_text FILE…`.

use std::io::Write;

use millrace_pdf::{Limits, text};

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for path in std::env::args_os().skip(1) {
        let shown = path.to_string_lossy();
        match text(&std::fs::read(&path)?, &Limits::default()) {
            Ok(text) => writeln!(out, "== {shown}\n{text}")?,
            Err(error) => writeln!(out, "== {shown}\n!! {error}")?,
        }
    }
    Ok(())
}
