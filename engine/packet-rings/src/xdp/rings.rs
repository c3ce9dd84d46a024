//! The memory of an AF_XDP socket: chunks for frames, and two rings that pass them to and fro.
//!
//! A chunk whose number is in the fill ring belongs to the kernel, which puts a frame into it. The
//! receive ring then has the place of the frame, and the chunk is ours until [`Rings::renew`]
//! returns it (`Documentation/networking/af_xdp.rst`). There are as many chunks as places in each
//! ring, so neither ring can overflow.
#![allow(unsafe_code, reason = "mmap, and memory that is shared with the kernel")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size,
    set_xdp_umem_reg, xdp_mmap_offsets,
};
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_UMEM_PGOFF_FILL_RING, XdpRingOffset, XdpUmemReg, XdpUmemRegFlags,
};

use super::program::STAMP_BYTES;
use crate::ring::prefetch;

/// Length of a chunk: a page, the longest that every driver takes.
pub(super) const CHUNK_BYTES: usize = 4096;
/// The completion ring is for what is sent; the kernel wants one.
const COMPLETIONS: u32 = 2;
/// Number of frames beyond the next one whose memory is fetched, as in `block`.
const FRAMES_AHEAD: u32 = 3;

/// A received frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct XdpFrame<'a> {
    /// What the program wrote in front of it; 0 if it could not.
    pub(super) stamp_ns: u64,
    pub(super) bytes: &'a [u8],
}

/// The chunks and rings of a socket.
#[derive(Debug)]
pub(super) struct Rings {
    chunks: RingMapping,
    received: XdpRing,
    fill: XdpRing,
    /// Number of chunks, a power of two.
    count: u32,
    /// Descriptors of the receive ring, by numbers that never begin anew: those before `returned`
    /// are the kernel's again, those before `next` were read, and those before `end` are known.
    returned: u32,
    next: u32,
    end: u32,
}

impl Rings {
    /// Gives a socket that is not bound yet so many chunks. `count` must be a power of two.
    pub(super) fn new(socket: &impl AsFd, count: u32) -> io::Result<Self> {
        let socket = socket.as_fd();
        let chunks = RingMapping::of_own(count as usize * CHUNK_BYTES)?;
        let registration = XdpUmemReg {
            addr: chunks.start.as_ptr() as u64,
            len: chunks.bytes as u64,
            chunk_size: CHUNK_BYTES as u32,
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        };
        set_xdp_umem_reg(socket, registration)?;
        set_xdp_umem_fill_ring_size(socket, count)?;
        set_xdp_umem_completion_ring_size(socket, COMPLETIONS)?;
        set_xdp_rx_ring_size(socket, count)?;
        let offsets = xdp_mmap_offsets(socket)?;
        let entry_bytes = size_of::<libc::xdp_desc>();
        let received = XdpRing::new(socket, XDP_PGOFF_RX_RING, &offsets.rx, count, entry_bytes)?;
        let entry_bytes = size_of::<u64>();
        let fill = XdpRing::new(socket, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, count, entry_bytes)?;
        let rings = Self { chunks, received, fill, count, returned: 0, next: 0, end: 0 };
        for number in 0..count {
            rings.give(number, u64::from(number) * CHUNK_BYTES as u64);
        }
        rings.fill.word(rings.fill.producer).store(count, Ordering::Release);
        Ok(rings)
    }

    /// Writes the place of a chunk into the fill ring, where the kernel will look for it.
    fn give(&self, number: u32, place: u64) {
        let at = (number & (self.count - 1)) as usize;
        // SAFETY: `at` is below the number of entries, and `XdpRing::new` has checked that they are
        // within the mapping and aligned. The kernel reads an entry only once the producer's number
        // is beyond it, which is stored later; Rust code reads none.
        unsafe {
            self.fill.mapping.start.add(self.fill.entries).cast::<u64>().add(at).write(place);
        };
    }

    /// Place and length of a frame in the chunks.
    fn descriptor(&self, number: u32) -> (usize, usize) {
        let at = (number & (self.count - 1)) as usize;
        // SAFETY: `at` is below the number of entries, and `XdpRing::new` has checked that they are
        // within the mapping and aligned. The kernel has written this entry: it is before `end`. It
        // does not write it again before `renew` returns it.
        let entry = unsafe {
            let entries = self.received.mapping.start.add(self.received.entries);
            entries.cast::<libc::xdp_desc>().add(at).read()
        };
        (entry.addr as usize, entry.len as usize)
    }

    /// A frame that was received; `None` if it and its stamp are not within one chunk.
    #[inline]
    fn frame(&self, number: u32) -> Option<XdpFrame<'_>> {
        let (place, length) = self.descriptor(number);
        let start = (place % CHUNK_BYTES).checked_sub(STAMP_BYTES)?;
        let is_within = length <= CHUNK_BYTES - STAMP_BYTES - start && place < self.chunks.bytes;
        let (start, bytes) = is_within.then(|| (place - STAMP_BYTES, STAMP_BYTES + length))?;
        // SAFETY: the range is within one chunk, and that within the mapping. The kernel has handed
        // over the chunk, and writes to it only after `renew`, which needs this borrow to have
        // ended. Rust code never writes to chunks.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.chunks.start.add(start).as_ptr(), bytes) };
        let (stamp, bytes) = bytes.split_first_chunk()?;
        Some(XdpFrame { stamp_ns: u64::from_ne_bytes(*stamp), bytes })
    }

    /// The stamp of the next frame; `None` if no more are known.
    #[inline]
    pub(super) fn next_stamp(&self) -> Option<u64> {
        let is_known = self.next != self.end;
        is_known.then(|| self.frame(self.next).map_or(0, |received| received.stamp_ns))
    }

    /// Advances to the next frame, which must be known.
    #[inline]
    pub(super) fn advance(&mut self) {
        debug_assert!(self.next != self.end);
        let ahead = self.next.wrapping_add(FRAMES_AHEAD);
        if ahead.wrapping_sub(self.next) < self.end.wrapping_sub(self.next)
            && let Some(received) = self.frame(ahead)
        {
            prefetch(received.bytes, 0);
        }
        self.next = self.next.wrapping_add(1);
    }

    /// The frame that [`Self::advance`] moved to. `None` if the kernel gave a wrong place.
    #[inline]
    pub(super) fn current(&self) -> Option<XdpFrame<'_>> {
        let is_lent = self.next != self.returned;
        is_lent.then(|| self.frame(self.next.wrapping_sub(1))).flatten()
    }

    /// Returns the chunks of frames that were read, and looks for new frames: up to `most` are
    /// known then. Their number.
    pub(super) fn renew(&mut self, most: u32) -> u32 {
        if self.returned != self.next {
            let mut number = self.returned;
            while number != self.next {
                // The kernel takes any place in a chunk for the chunk.
                let (place, _) = self.descriptor(number);
                let chunk = place - place % CHUNK_BYTES;
                self.give(number.wrapping_add(self.count), chunk as u64);
                number = number.wrapping_add(1);
            }
            self.returned = self.next;
            // Release: all reads of the frames, and the new entries, come before it.
            let given = self.next.wrapping_add(self.count);
            self.fill.word(self.fill.producer).store(given, Ordering::Release);
            self.received.word(self.received.consumer).store(self.next, Ordering::Release);
        }
        // Acquire: the frames were written before the number.
        let end = self.received.word(self.received.producer).load(Ordering::Acquire);
        let known = end.wrapping_sub(self.next).min(self.count).min(most);
        self.end = self.next.wrapping_add(known);
        known
    }

    /// Whether the driver waits for a system call before it continues.
    pub(super) fn needs_wake(&self) -> bool {
        let flags = self.fill.word(self.fill.flags).load(Ordering::Relaxed);
        flags & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring: offsets of its numbers and entries in its memory.
#[derive(Debug)]
struct XdpRing {
    mapping: RingMapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
}

impl XdpRing {
    fn new(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        count: u32,
        entry_bytes: usize,
    ) -> io::Result<Self> {
        let entries = offsets.desc as usize;
        let bytes = entries + count as usize * entry_bytes;
        let mapping = RingMapping::of_socket(socket, page, bytes)?;
        // Flags are newer than the rings, and older than the way in which programs are attached.
        let flags = offsets.flags.ok_or(io::ErrorKind::Unsupported)?;
        let [producer, consumer, flags] =
            [offsets.producer, offsets.consumer, flags].map(|offset| offset as usize);
        let is_wrong = |offset: usize| !offset.is_multiple_of(4) || offset + 4 > bytes;
        if [producer, consumer, flags].into_iter().any(is_wrong) || !entries.is_multiple_of(8) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self { mapping, producer, consumer, flags, entries })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: the offset is one of the three that `new` has checked: aligned, and within the
        // mapping. The kernel and Rust code access these words as whole words only.
        unsafe { AtomicU32::from_ptr(self.mapping.start.add(offset).cast().as_ptr()) }
    }
}

/// Memory that is shared with the kernel.
#[derive(Debug)]
struct RingMapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and this is its only owner.
unsafe impl Send for RingMapping {}

impl RingMapping {
    /// Memory with zeros. It is shared, so that a fork does not part it from the kernel's.
    fn of_own(bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn of_socket(socket: BorrowedFd<'_>, page: u64, bytes: usize) -> io::Result<Self> {
        Self::new(bytes, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), page)
    }

    fn new(bytes: usize, flags: i32, descriptor: i32, offset: u64) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let offset = offset as libc::off_t;
        // SAFETY: no address is asked for, so nothing is replaced; the kernel checks that the
        // length is that of the socket's ring.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), bytes, access, flags, descriptor, offset) };
        let pointer = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let mapping = Self { start: pointer.ok_or_else(io::Error::last_os_error)?, bytes };
        // A core of this program needs no packets. Refusal does no other harm.
        // SAFETY: the range was mapped above; the advice changes no content.
        unsafe { libc::madvise(start, bytes, libc::MADV_DONTDUMP) };
        Ok(mapping)
    }
}

impl Drop for RingMapping {
    fn drop(&mut self) {
        // SAFETY: the range came from mmap with this very length, and nothing borrows it any more.
        // The kernel keeps the chunks of a socket until that is closed.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
