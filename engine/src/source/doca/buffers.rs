//! [`Arena`]: where a device puts what it reads.
//!
//! Registering memory with a device takes a system call and pins pages, so it is done once, for this arena, and bytes
//! are copied on from it: some hundred bytes a request, next to the microsecond that a DMA copy takes. The arena
//! that the engine hands to `read_batch` could not stay registered, since it is its own and may move or go between two
//! batches; and what is read for several requests at once has to be taken apart anyhow.
#![allow(unsafe_code, reason = "memory that a device writes to: mmap, and raw copies out of it")]

use std::ptr::{self, NonNull};

/// Page-aligned memory of our own, left out of core dumps: it holds pieces of the watched machine.
#[derive(Debug)]
pub(super) struct Arena {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and this is its only owner.
unsafe impl Send for Arena {}

impl Arena {
    /// `None` if there is no such memory.
    pub(super) fn new(bytes: usize) -> Option<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: no address is asked for, so nothing is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED)?;
        // SAFETY: the range is ours; the advice changes no content.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTDUMP) };
        Some(Self { start, bytes })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies out what a device has put at `offset`; it must be done writing there, else the bytes mean nothing.
    #[inline]
    pub(super) fn copy(&self, offset: usize, target: &mut [u8]) {
        assert!(offset <= self.bytes && target.len() <= self.bytes - offset, "inside the arena");
        // SAFETY: both ranges are valid for this length, as just tested, and a slice of someone else's never
        // overlaps this private mapping. No reference into the arena exists anywhere.
        unsafe {
            ptr::copy_nonoverlapping(
                self.start.as_ptr().add(offset),
                target.as_mut_ptr(),
                target.len(),
            );
        }
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the range came from mmap with this very length, and no device knows of it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
