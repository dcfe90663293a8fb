//! The text of PDF files.
//!
//! Files come from strangers, so everything here is bounded: bytes that come out of compressed streams, objects that
//! are read, pages, characters, depths. Nothing is read before it is needed, and what is broken is left out.
//!
//! `file` finds the objects of a file, `lexer` and `object` read one, `filters` decompress its stream. `pages` walks the
//! tree of pages; `interpret` runs a page's drawing operators as far as text goes; `font`, `cmap` and `encoding` tell which
//! characters its codes are, and `layout` puts them into lines. Names and rules are those of ISO 32000-1.
//!
//! Pictures of text (scans) have no text, and encrypted files aren't opened.
//!
//! Why not a library: `pdf-extract`, and `lopdf` below it, have no bounds on objects and text among their settings, which
//! a server that strangers send files to can't do without. Others weren't tried.

mod budget;
mod cmap;
mod encoding;
mod error;
mod file;
mod filters;
mod font;
mod geometry;
mod interpret;
mod layout;
mod lexer;
mod object;
mod pages;
mod widths;

pub use budget::Limits;
pub use error::PdfError;

use budget::Budget;
use file::File;
use interpret::Interpreter;

/// Whether these bytes are a PDF file: its mark stands within the first 1,024 bytes.
pub fn is_pdf(bytes: &[u8]) -> bool {
    bytes.get(..bytes.len().min(1024)).is_some_and(|head| head.windows(5).any(|five| five == b"%PDF-"))
}

/// The text of a file, in the order in which its pages draw it: a line for each line, pages with an empty line between
/// them.
///
/// # Errors
/// If it is no PDF, is encrypted, has no text, or goes beyond a limit.
pub fn text(bytes: &[u8], limits: &Limits) -> Result<String, PdfError> {
    if !is_pdf(bytes) {
        return Err(PdfError::NotPdf);
    }
    let budget = Budget::new(limits, bytes.len());
    let file = File::open(bytes, &budget)?;
    let pages = pages::list(&file, limits.max_pages)?;
    let mut interpreter = Interpreter::new(&file, limits.max_chars);
    for page in &pages {
        interpreter.page(page)?;
    }
    interpreter.finish()
}
