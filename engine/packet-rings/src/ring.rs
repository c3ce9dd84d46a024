//! The ring of blocks that the kernel fills with packets (TPACKET_V3).
//!
//! A block belongs to the kernel or to us: its status states to whom. The kernel writes packets
//! into a block of its own until the block is full or its time is over, and passes it on. It does
//! not touch the block again before [`BlockRing::release`] (`net/packet/af_packet.c`:
//! `prb_close_block`, `prb_open_block`).
#![allow(unsafe_code, reason = "mmap, and memory that is shared with the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use panoptes_decoders::source::CACHE_LINE_BYTES;

/// Offset of the status in a block (`struct tpacket_hdr_v1` in `include/uapi/linux/if_packet.h`).
const STATUS_OFFSET: usize = 8;
/// Smallest block: what is before the packets of a block, and a page at least.
const BLOCK_BYTES_MIN: usize = 4096;
/// Lines that hold the headers of the kernel and the first headers of a packet.
const PREFETCH_LINES: usize = 3;

/// A ring of blocks, and the place in it.
#[derive(Debug)]
pub(crate) struct BlockRing {
    /// `blocks * block_bytes` bytes of the kernel.
    memory: NonNull<u8>,
    block_bytes: usize,
    blocks: usize,
    /// The block that is read, or will be.
    current: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and this is its only owner.
unsafe impl Send for BlockRing {}

impl BlockRing {
    /// Maps the ring that a socket was given: `blocks` blocks of `block_bytes`.
    pub(crate) fn new(socket: &impl AsFd, blocks: usize, block_bytes: usize) -> io::Result<Self> {
        let bytes = blocks.checked_mul(block_bytes).filter(|_| block_bytes >= BLOCK_BYTES_MIN);
        let bytes = bytes.ok_or(io::ErrorKind::InvalidInput)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let socket = socket.as_fd().as_raw_fd();
        // SAFETY: no address is asked for, so nothing is replaced; the kernel checks that the
        // length is that of the socket's ring.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), bytes, access, libc::MAP_SHARED, socket, 0) };
        let memory = NonNull::new(memory.cast::<u8>()).filter(|_| memory != libc::MAP_FAILED);
        let memory = memory.ok_or_else(io::Error::last_os_error)?;
        let ring = Self { memory, block_bytes, blocks, current: 0 };
        // A core of this program needs no packets. Refusal does no other harm.
        // SAFETY: the range was mapped above; the advice changes no content.
        unsafe { libc::madvise(memory.as_ptr().cast(), bytes, libc::MADV_DONTDUMP) };
        Ok(ring)
    }

    fn status(&self) -> &AtomicU32 {
        // SAFETY: `current` is below `blocks`, and a block is longer than this offset, so the
        // address is within the mapping. It is aligned: blocks are whole pages. The kernel writes
        // the status as one word, and Rust code only through this function and, as bytes of a block
        // that is ours, in `block`, whose borrow excludes this one.
        unsafe {
            let status = self.memory.add(self.current * self.block_bytes + STATUS_OFFSET);
            AtomicU32::from_ptr(status.cast().as_ptr())
        }
    }

    /// The bytes of the current block if it is ours, and `None` while the kernel fills it.
    #[inline]
    pub(crate) fn block(&mut self) -> Option<&mut [u8]> {
        // Acquire: the packets were written before the status.
        if self.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block is within the mapping, as in `status`. It is ours, so the kernel does
        // not write to it before `release`, which needs this borrow to have ended.
        Some(unsafe {
            let start = self.memory.add(self.current * self.block_bytes);
            std::slice::from_raw_parts_mut(start.as_ptr(), self.block_bytes)
        })
    }

    /// Returns the current block to the kernel and moves to the next one.
    pub(crate) fn release(&mut self) {
        // Release: all reads of the packets come before it.
        self.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.current = (self.current + 1) % self.blocks;
    }
}

/// Asks the CPU to fetch some lines of its cache, from this place on.
#[inline]
pub(crate) fn prefetch(bytes: &[u8], at: usize) {
    for line in 0..PREFETCH_LINES {
        if let Some(byte) = bytes.get(at.wrapping_add(line * CACHE_LINE_BYTES)) {
            prefetch_line(byte);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and a prefetch has no effect that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

// Elsewhere the intrinsic is not stable.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_address: *const u8) {}

impl Drop for BlockRing {
    fn drop(&mut self) {
        let bytes = self.blocks * self.block_bytes;
        // SAFETY: the range came from mmap with this very length, and nothing borrows it any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), bytes) };
    }
}
