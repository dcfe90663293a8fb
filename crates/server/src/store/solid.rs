//! A file that owns the room it has.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Bound,
    path::Path,
};

use redb::{BackendError, StorageBackend, backends::FileBackend};
use rustix::fs::{FallocateFlags, fallocate};

/// redb's file, but for how it grows. A file that is only made longer gets its blocks when they are written; on a disk
/// that is full then, even opening the database again fails, which writes. Here the blocks are taken first: growing fails
/// if there is no room, and whatever the file has can be written.
#[derive(Debug)]
pub(super) struct SolidFile {
    /// The same file twice: [`FileBackend`] doesn't lend its own.
    file: File,
    backend: FileBackend,
}

impl SolidFile {
    /// Opens a file, or makes an empty one.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let backend = FileBackend::new(file.try_clone()?).map_err(io::Error::other)?;
        Ok(Self { file, backend })
    }
}

impl StorageBackend for SolidFile {
    fn set_len(&self, len: u64) -> io::Result<()> {
        let old = self.backend.len()?;
        if len > old {
            match fallocate(&self.file, FallocateFlags::empty(), old, len - old) {
                // A file system that can't: then as everywhere else.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                result => result?,
            }
        }
        self.backend.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.backend.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
