//! Aligned memory: activations, packed weights, the KV cache.
//!
//! Where the system has huge pages, memory that is read from end to end again and again lies in them: reading 4-bit weights
//! of 1 to 2 MB from small pages takes a tenth longer (`docs/performance.md`).

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
#[cfg(target_os = "linux")]
use std::sync::Arc;

use bytemuck::Zeroable;
use millrace_backend::BackendError;

/// A cache line: the widest vector and an AMX tile row.
const ALIGN: usize = 64;
/// From this size on, memory comes straight from the kernel, in huge pages if it can.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// What an [`Arena`] takes at a time.
#[cfg(target_os = "linux")]
const CHUNK: usize = 32 << 20;

/// A zeroed array, aligned to 64 bytes. Large ones are mapped lazily: untouched pages cost nothing.
pub(crate) struct Region<T> {
    start: NonNull<T>,
    len: usize,
    source: Source,
}

enum Source {
    Empty,
    Heap(Layout),
    /// A part of a mapping, which lives as long as the last of its regions.
    #[cfg(target_os = "linux")]
    Mapped {
        _lives: Arc<Mapping>,
    },
}

/// A private mapping: its address and length.
#[cfg(target_os = "linux")]
struct Mapping(*mut libc::c_void, usize);

// SAFETY: a mapping is only an address range; what lies in it belongs to regions.
#[cfg(target_os = "linux")]
unsafe impl Send for Mapping {}
// SAFETY: as above.
#[cfg(target_os = "linux")]
unsafe impl Sync for Mapping {}

#[cfg(target_os = "linux")]
impl Mapping {
    /// At least `bytes`, and where they start: at a huge page's boundary.
    fn new(bytes: usize) -> Option<(Arc<Self>, NonNull<u8>)> {
        // Room to start at a boundary; what is cut off is never touched.
        let whole = bytes.checked_add(HUGE)?;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), whole, access, kind, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let offset = base.align_offset(HUGE);
        // SAFETY: offset < HUGE, so start .. start + bytes lies in the mapping; the advice is a hint and may fail.
        let start = unsafe {
            let start = base.add(offset);
            libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
            start
        };
        Some((Arc::new(Self(base, whole)), NonNull::new(start.cast())?))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and no region is left in it.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

// SAFETY: a region owns its memory like a Vec does.
unsafe impl<T: Send> Send for Region<T> {}
// SAFETY: shared access gives out shared slices only.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T: Copy + Zeroable> Region<T> {
    /// A region without memory.
    pub(crate) fn empty() -> Self {
        Self { start: NonNull::dangling(), len: 0, source: Source::Empty }
    }

    /// `len` zeroed elements; `what` names them in the error.
    pub(crate) fn zeroed(len: usize, what: &'static str) -> Result<Self, BackendError> {
        if len == 0 {
            return Ok(Self::empty());
        }
        let failed = |bytes| BackendError::OutOfMemory { device: "cpu", bytes, what };
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| failed(usize::MAX))?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE {
            let (mapping, start) = Mapping::new(bytes).ok_or_else(|| failed(bytes))?;
            return Ok(Self { start: start.cast(), len, source: Source::Mapped { _lives: mapping } });
        }
        let layout = Layout::from_size_align(bytes, ALIGN).map_err(|_| failed(bytes))?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| failed(bytes))?;
        Ok(Self { start: start.cast(), len, source: Source::Heap(layout) })
    }

    /// Makes room for at least `len` elements. Contents are lost when it grows.
    pub(crate) fn reserve(&mut self, len: usize, what: &'static str) -> Result<(), BackendError> {
        if len > self.len {
            // Free the old one first: the peak is one copy.
            *self = Self::empty();
            *self = Self::zeroed(len, what)?;
        }
        Ok(())
    }
}

impl<T> Region<T> {
    /// Takes the memory now instead of page by page on first use. A system that can't do so in advance is no error.
    pub(crate) fn commit(&self) {
        #[cfg(target_os = "linux")]
        if let Source::Mapped { .. } = self.source {
            // SAFETY: the range is ours, and populating changes no contents.
            unsafe {
                let bytes = self.len * size_of::<T>();
                libc::madvise(self.start.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE);
            }
        }
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `start` holds `len` initialised elements (dangling only if len is 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Region<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and we are borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Default for Region<T> {
    fn default() -> Self {
        Self { start: NonNull::dangling(), len: 0, source: Source::Empty }
    }
}

impl<T> Drop for Region<T> {
    fn drop(&mut self) {
        // SAFETY: memory is given back the way it came, once.
        unsafe {
            match &self.source {
                Source::Empty => {}
                Source::Heap(layout) => dealloc(self.start.as_ptr().cast(), *layout),
                #[cfg(target_os = "linux")]
                Source::Mapped { .. } => {}
            }
        }
    }
}

/// Regions side by side, so that those smaller than a huge page, and the ends of others, lie in huge pages too. Memory is
/// given back when all regions of a chunk are gone.
#[derive(Default)]
pub(crate) struct Arena {
    /// The last chunk: what is left of it starts here and has so many bytes.
    #[cfg(target_os = "linux")]
    chunk: Option<(Arc<Mapping>, NonNull<u8>, usize)>,
}

// SAFETY: the pointer is to memory that no region has.
unsafe impl Send for Arena {}

impl Arena {
    /// As [`Region::zeroed`].
    #[cfg(target_os = "linux")]
    pub(crate) fn zeroed<T: Copy + Zeroable>(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<Region<T>, BackendError> {
        let bytes = len.saturating_mul(size_of::<T>()).checked_next_multiple_of(ALIGN).unwrap_or(usize::MAX);
        if bytes == 0 || bytes > CHUNK / 2 {
            return Region::zeroed(len, what);
        }
        let (mapping, start, left) = match self.chunk.take() {
            Some(chunk) if chunk.2 >= bytes => chunk,
            _ => {
                let failed = BackendError::OutOfMemory { device: "cpu", bytes, what };
                let (mapping, start) = Mapping::new(CHUNK).ok_or(failed)?;
                (mapping, start, CHUNK)
            }
        };
        // SAFETY: at least `bytes` of the chunk are left.
        let rest = unsafe { start.add(bytes) };
        self.chunk = Some((mapping.clone(), rest, left - bytes));
        Ok(Region { start: start.cast(), len, source: Source::Mapped { _lives: mapping } })
    }

    /// As [`Region::zeroed`].
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn zeroed<T: Copy + Zeroable>(
        &mut self,
        len: usize,
        what: &'static str,
    ) -> Result<Region<T>, BackendError> {
        Region::zeroed(len, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_writable() {
        for len in [1usize, 100, 1 << 20] {
            let mut region = Region::<f32>::zeroed(len, "a test").unwrap();
            assert_eq!(region.as_ptr() as usize % ALIGN, 0);
            assert!(region.iter().all(|x| *x == 0.0));
            region[len - 1] = 1.0;
            assert_eq!(region[len - 1], 1.0);
        }
    }

    #[test]
    fn an_impossible_size_is_an_error() {
        assert!(Region::<f32>::zeroed(usize::MAX / 2, "a test").is_err());
        assert!(Region::<f32>::zeroed(1 << 60, "a test").is_err());
    }

    #[test]
    fn committing_keeps_contents() {
        for len in [100usize, 3 << 20] {
            let mut region = Region::<u8>::zeroed(len, "a test").unwrap();
            region[len / 2] = 9;
            region.commit();
            assert!(region.iter().enumerate().all(|(index, x)| *x == if index == len / 2 { 9 } else { 0 }));
        }
    }

    #[test]
    fn reserve_keeps_what_is_large_enough() {
        let mut region = Region::<u8>::zeroed(100, "a test").unwrap();
        region[5] = 7;
        region.reserve(50, "a test").unwrap();
        assert_eq!((region[5], region.len()), (7, 100));
        region.reserve(5 << 20, "a test").unwrap();
        assert!(region.iter().all(|x| *x == 0));
    }

    #[test]
    fn regions_of_an_arena_are_apart_and_outlive_it() {
        let mut arena = Arena::default();
        // Many small ones over several chunks, one that is larger than a chunk, and nothing.
        let sizes = [1, 100, 3 << 20, 40 << 20, 12 << 20, 12 << 20, 12 << 20, 0, 5];
        let mut regions: Vec<Region<u8>> =
            sizes.iter().map(|size| arena.zeroed(*size, "a test").unwrap()).collect();
        drop(arena);
        for (region, size) in regions.iter_mut().zip(sizes) {
            assert_eq!(region.len(), size);
            assert!(size == 0 || region.as_ptr().addr().is_multiple_of(ALIGN));
            assert!(region.iter().all(|byte| *byte == 0));
            region.fill(7);
        }
        regions.truncate(2);
        assert!(regions.iter().all(|region| region.iter().all(|byte| *byte == 7)));
        assert!(Arena::default().zeroed::<f32>(usize::MAX / 2, "a test").is_err());
    }
}
