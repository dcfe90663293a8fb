//! How much one file may cost.

use std::cell::Cell;

use crate::PdfError;

/// Bounds on one file. All are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Pages.
    pub max_pages: usize,
    /// Characters of the text.
    pub max_chars: usize,
    /// Bytes that come out of compressed streams, whatever the file's own size.
    pub max_unpacked: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pages: 1000, max_chars: 8 << 20, max_unpacked: 64 << 20 }
    }
}

/// Bytes that even the smallest file may unpack to.
const LEAST: usize = 64 << 10;

/// Bytes that each byte of a file may unpack to. Text and tables compress to a tenth, fonts and pictures hardly.
const EXPANSION: usize = 30;

/// What is left to spend on a file. It grows with the file's size, so that many small files cost no more than a large one.
#[derive(Debug)]
pub(crate) struct Budget {
    unpacked: Cell<usize>,
    /// Objects and operators; each costs some tens of nanoseconds.
    work: Cell<usize>,
}

impl Budget {
    /// For a file of `size` bytes.
    pub(crate) fn new(limits: &Limits, size: usize) -> Self {
        let unpacked = size.saturating_mul(EXPANSION).max(LEAST).min(limits.max_unpacked);
        // An object and the space behind it have two bytes at the least.
        Self { unpacked: Cell::new(unpacked), work: Cell::new(unpacked / 2 + LEAST) }
    }

    /// Bytes that may still be unpacked.
    pub(crate) fn room(&self) -> usize {
        self.unpacked.get()
    }

    /// Takes bytes that were unpacked.
    pub(crate) fn unpack(&self, bytes: usize) -> Result<(), PdfError> {
        spend(&self.unpacked, bytes)
    }

    /// Takes the reading of some objects or operators.
    pub(crate) fn work(&self, units: usize) -> Result<(), PdfError> {
        spend(&self.work, units)
    }
}

fn spend(purse: &Cell<usize>, price: usize) -> Result<(), PdfError> {
    purse.set(purse.get().checked_sub(price).ok_or(PdfError::TooMuchData)?);
    Ok(())
}
