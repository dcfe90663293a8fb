//! Aligned memory: activations, packed weights, the KV cache.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use bytemuck::Zeroable;
use millrace_backend::BackendError;

/// A cache line: the widest vector and an AMX tile row.
const ALIGN: usize = 64;
/// From this size on, memory comes straight from the kernel, in huge pages if it can.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// A zeroed array, aligned to 64 bytes. Large ones are mapped lazily: untouched pages cost nothing.
pub(crate) struct Region<T> {
    start: NonNull<T>,
    len: usize,
    source: Source,
}

enum Source {
    Empty,
    Heap(Layout),
    /// Address and length of a private mapping.
    #[cfg(target_os = "linux")]
    Mapped(*mut libc::c_void, usize),
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
            return Self::mapped(len, bytes).ok_or_else(|| failed(bytes));
        }
        let layout = Layout::from_size_align(bytes, ALIGN).map_err(|_| failed(bytes))?;
        // SAFETY: the layout has a size above zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| failed(bytes))?;
        Ok(Self { start: start.cast(), len, source: Source::Heap(layout) })
    }

    #[cfg(target_os = "linux")]
    fn mapped(len: usize, bytes: usize) -> Option<Self> {
        // Room to start at a huge page's boundary; what is cut off is never touched.
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
        Some(Self { start: NonNull::new(start.cast())?, len, source: Source::Mapped(base, whole) })
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
        if let Source::Mapped(..) = self.source {
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
            match self.source {
                Source::Empty => {}
                Source::Heap(layout) => dealloc(self.start.as_ptr().cast(), layout),
                #[cfg(target_os = "linux")]
                Source::Mapped(base, whole) => {
                    libc::munmap(base, whole);
                }
            }
        }
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
}
