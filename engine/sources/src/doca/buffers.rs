//! [`Arena`]: the memory that a device writes to.
//!
//! Registering memory with a device takes a system call and pins pages, so it is done once, for
//! this arena. Bytes are then copied from it: some hundred bytes a request, cheap next to the
//! microsecond of a DMA copy. The arena of `read_batch` could not stay registered: its owner may
//! move or free it between two batches. Copies for several requests have to be split anyway.
#![allow(unsafe_code, reason = "memory that a device writes to: mmap, and raw copies out of it")]

use std::ptr::{self, NonNull};

/// Page-aligned memory, excluded from core dumps because it holds memory of the watched machine.
#[derive(Debug)]
pub(super) struct Arena {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the process, not to a thread, and this is its only owner.
unsafe impl Send for Arena {}

impl Arena {
    /// Allocates the arena; `None` if that fails.
    pub(super) fn new(bytes: usize) -> Option<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: no address is asked for, so nothing is replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, access, kind, -1, 0) };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED)?;
        // SAFETY: the range was just mapped; the advice changes no content.
        unsafe { libc::madvise(start.as_ptr().cast(), bytes, libc::MADV_DONTDUMP) };
        Some(Self { start, bytes })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies the bytes at `offset` to `target`. They are meaningless unless the device has
    /// finished writing them.
    #[inline]
    pub(super) fn copy(&self, offset: usize, target: &mut [u8]) {
        assert!(offset <= self.bytes && target.len() <= self.bytes - offset, "inside the arena");
        // SAFETY: both ranges are valid for this length, as just tested, and no slice overlaps this
        // private mapping: no reference into the arena exists anywhere.
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
        // SAFETY: the range came from mmap with this length, and no device has it registered any
        // more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
