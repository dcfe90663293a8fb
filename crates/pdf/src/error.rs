//! Why a file's text can't be had.

/// A refusal, in one sentence that the sender of the file may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PdfError {
    /// No mark of a PDF at its beginning.
    #[error("This is not a PDF file.")]
    NotPdf,
    /// Needs a password, or only says that it may not be copied from.
    #[error("The PDF file is encrypted. Save it without a password.")]
    Encrypted,
    /// No pages can be found.
    #[error("The PDF file is damaged: it has no pages that can be read.")]
    Damaged,
    /// More pages than are allowed.
    #[error("The PDF file has more than {0} pages. Send fewer at a time.")]
    TooManyPages(usize),
    /// More text than is allowed.
    #[error("The PDF file has more than {0} characters. Send fewer pages at a time.")]
    TooMuchText(usize),
    /// More to unpack or to read than a file of its size should have.
    #[error("The PDF file unpacks to far more than its size. Save it anew with fewer pages.")]
    TooMuchData,
    /// Pages without text.
    #[error("The PDF file has no text: its pages are pictures. Run character recognition over it first.")]
    NoText,
    /// Text in fonts of unknown characters.
    #[error(
        "The fonts of the PDF file don't tell which characters they show. Save it anew, or send its text."
    )]
    Unreadable,
}
