//! A file whose room is really there.
//!
//! A file can be made longer than its disk has room for; the room is then missing when it is written to, in the middle of
//! a commit, and again when the database is opened anew. So room is taken when the file grows, and a full disk is an error
//! there, where nothing has happened yet.

use std::{fs::File, io, ops::Bound};

use redb::{BackendError, DatabaseError, StorageBackend, backends::FileBackend};

/// A database's file.
#[derive(Debug)]
pub(super) struct SolidFile {
    inner: FileBackend,
    /// The same open file.
    file: File,
}

impl SolidFile {
    pub(super) fn new(file: File) -> Result<Self, DatabaseError> {
        Ok(Self { file: file.try_clone()?, inner: FileBackend::new(file)? })
    }
}

impl StorageBackend for SolidFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let before = self.inner.len()?;
        if let Err(error) = take_room(&self.file, before, len) {
            // What could be taken of it is given back.
            let _ = self.inner.set_len(before);
            return Err(error);
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// Takes the room between the two lengths from the disk. File systems that can't promise any are taken at their word.
#[cfg(target_os = "linux")]
fn take_room(file: &File, before: u64, len: u64) -> io::Result<()> {
    use rustix::{
        fs::{FallocateFlags, fallocate},
        io::Errno,
    };
    if len <= before {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, before, len - before) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        result => result.map_err(io::Error::from),
    }
}

#[cfg(not(target_os = "linux"))]
fn take_room(_: &File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_a_file_grows_by_is_taken_from_the_disk() {
        let file = tempfile::tempfile().unwrap();
        let seen = file.try_clone().unwrap();
        let solid = SolidFile::new(file).unwrap();
        solid.set_len(1 << 20).unwrap();
        let metadata = seen.metadata().unwrap();
        assert_eq!(metadata.len(), 1 << 20);
        // A file with holes has none of its blocks.
        assert!(metadata.blocks() * 512 >= 1 << 20, "{} blocks", metadata.blocks());
        let mut bytes = [1; 16];
        solid.read(1 << 19, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 16]);
        solid.set_len(4096).unwrap();
        assert_eq!((solid.len().unwrap(), seen.metadata().unwrap().len()), (4096, 4096));
    }

    #[test]
    fn what_is_not_to_be_had_leaves_the_file_as_it_was() {
        let solid = SolidFile::new(tempfile::tempfile().unwrap()).unwrap();
        solid.set_len(4096).unwrap();
        solid.write(0, b"here").unwrap();
        // More than any disk has.
        assert!(solid.set_len(1 << 60).is_err());
        let mut bytes = [0; 4];
        solid.read(0, &mut bytes).unwrap();
        assert_eq!((solid.len().unwrap(), &bytes), (4096, b"here"));
    }
}
