//! The bytes of one weights file: memory-mapped, or compiled into the program.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::{Result, WeightsError};

/// Read-only bytes of a whole file.
#[derive(Debug)]
pub(crate) enum FileBytes {
    Mapped(Mmap),
    Embedded(&'static [u8]),
}

impl FileBytes {
    /// Maps a file; pages are read when they are first used.
    #[allow(unsafe_code)]
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(WeightsError::io("open", path))?;
        let length = file.metadata().map_err(WeightsError::io("inspect", path))?;
        if !length.is_file() {
            return Err(WeightsError::bad_file(path.display().to_string(), "it is not a regular file"));
        }
        // SAFETY: the mapping is private and read-only, and this process never writes to model files. Another
        // program that truncates the file while it is mapped would end the process with SIGBUS; caches replace
        // files by rename, so a mapped one keeps its content.
        let map = unsafe { Mmap::map(&file) }.map_err(WeightsError::io("map", path))?;
        Ok(Self::Mapped(map))
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Embedded(bytes) => bytes,
        }
    }

    /// Tells the system that these bytes are not needed soon: their pages leave this process's resident memory.
    /// A later read is correct, it just comes from the page cache or the disk again.
    #[allow(unsafe_code)]
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self
            && !range.is_empty()
            && range.end <= map.len()
        {
            // SAFETY: the mapping is file-backed and never written to, so dropped pages are read from the file
            // again with the same content; slices into them stay valid.
            let result = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
            if let Err(error) = result {
                tracing::debug!(%error, "the system did not take pages back");
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
