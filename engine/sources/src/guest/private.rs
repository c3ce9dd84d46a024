//! Private memory of a process, read with `process_vm_readv` in batches.
//!
//! A page that the guest has never touched is not read: the kernel would map its zero page and
//! allocate page tables. /proc/PID/pagemap shows which pages exist. A page once known to exist can
//! always be read: if it is freed later, reading it costs only the zero page.
//!
//! The system call takes the process id. The id of a process that has ended can be given to another
//! process, whose memory would then be read. So each batch begins and ends with a look at the
//! process's pidfd: if it has not ended after the reads, they were all from it. Whether it executes
//! another program now is checked between scans ([`super::GuestMemory::refresh`]).
//!
//! A read may wait without end, so [`super::super::timed`] has a thread for it.
#![allow(unsafe_code, reason = "process_vm_readv")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};

use super::super::pages::BitSet;
use super::super::pieces::{answer_pieces, read_at_most};
use super::super::sigbus;
use super::process::Alive;

/// Largest number of pieces in one call (UIO_MAXIOV, include/uapi/linux/uio.h).
const PIECES_MAX: usize = 1024;
/// Number of entries of pagemap that are read at once.
const ASKED_PAGES: usize = 4096;
/// Bits of an entry of pagemap: present, or swapped out (Documentation/admin-guide/mm/pagemap.rst).
const IS_THERE: u64 = 1 << 63 | 1 << 62;
/// Size of an entry of pagemap in bytes.
const ENTRY_BYTES: usize = 8;
/// An address that no process has. Reading it always fails; the error shows whether the caller has
/// the permission to read the process.
const NOWHERE: u64 = 0xffff_8000_0000_0000;

/// A range of physical memory in a process.
#[derive(Debug)]
pub(super) struct PrivateRange {
    pub(super) physical: Range<u64>,
    /// First address in the process.
    pub(super) address: u64,
    /// Content of untouched pages: a file that is mapped privately, and the offset in it. `None`
    /// for zeros.
    pub(super) file: Option<(File, u64)>,
}

/// Private memory of a process; see the module.
#[derive(Debug)]
pub(super) struct PrivateMemory {
    pid: libc::pid_t,
    alive: Alive,
    pagemap: File,
    /// Page size of the host, the unit of pagemap.
    page_bytes: u64,
    pieces: Vec<PrivateRange>,
    /// For each piece the bit of its first page in `known`.
    firsts: Vec<usize>,
    regions: Vec<Range<u64>>,
    /// The pages known to exist.
    pub(super) known: BitSet,
    vectors: Vectors,
    entries: Vec<u8>,
    /// Whether the kernel has refused all access during this batch.
    refused: bool,
}

/// The vectors of one call: sources, targets, and the requests that they belong to.
#[derive(Debug)]
struct Vectors {
    local: Vec<libc::iovec>,
    remote: Vec<libc::iovec>,
    requests: Vec<u32>,
}

// SAFETY: the pointers in it are made and used within one call of `read_batch`. Between calls they
// are never followed.
unsafe impl Send for Vectors {}

impl Vectors {
    fn new() -> Self {
        Self {
            local: Vec::with_capacity(PIECES_MAX),
            remote: Vec::with_capacity(PIECES_MAX),
            requests: Vec::with_capacity(PIECES_MAX),
        }
    }

    fn clear(&mut self) {
        self.local.clear();
        self.remote.clear();
        self.requests.clear();
    }
}

impl PrivateMemory {
    /// Opens the memory of process `pid`. `pieces` are in order of physical addresses and do not
    /// overlap; `alive` and `pagemap` are those of the process.
    pub(super) fn new(
        pid: u32,
        alive: Alive,
        pagemap: File,
        pieces: Vec<PrivateRange>,
    ) -> io::Result<Self> {
        let page_bytes = sigbus::page_bytes()? as u64;
        Ok(Self::with_pages(process_number(pid)?, alive, pagemap, pieces, page_bytes))
    }

    pub(super) fn with_pages(
        pid: libc::pid_t,
        alive: Alive,
        pagemap: File,
        pieces: Vec<PrivateRange>,
        page_bytes: u64,
    ) -> Self {
        let mut pages = 0_usize;
        let firsts = pieces
            .iter()
            .map(|piece| {
                let first = pages;
                let bytes = piece.physical.end - piece.physical.start;
                let end = piece.address.saturating_add(bytes).div_ceil(page_bytes);
                pages += (end - piece.address / page_bytes) as usize;
                first
            })
            .collect();
        Self {
            pid,
            alive,
            pagemap,
            page_bytes,
            firsts,
            regions: pieces.iter().map(|piece| piece.physical.clone()).collect(),
            pieces,
            known: BitSet::new(pages),
            vectors: Vectors::new(),
            entries: vec![0; ASKED_PAGES * ENTRY_BYTES],
            refused: false,
        }
    }

    /// The index of the piece that holds a range, the range's address in the process, and the bits
    /// of its first and last page.
    #[inline]
    fn locate(&self, address: u64, bytes: u64) -> Option<(usize, u64, usize, usize)> {
        let index = self.pieces.iter().position(|piece| piece.physical.contains(&address))?;
        let piece = &self.pieces[index];
        if bytes > piece.physical.end - address {
            return None;
        }
        let offset = address - piece.physical.start;
        let remote = piece.address + offset;
        let bit_of = |remote: u64| {
            self.firsts[index]
                + (remote / self.page_bytes - piece.address / self.page_bytes) as usize
        };
        Some((index, remote, bit_of(remote), bit_of(remote + (bytes.max(1) - 1))))
    }

    /// Reads the entries of pagemap for a range of the process; returns whether all its pages
    /// exist.
    fn ask(&mut self, at: u64, first: usize, last: usize) -> io::Result<bool> {
        let mut all = true;
        let mut asked = 0;
        let pages = last - first + 1;
        while asked < pages {
            let count = (pages - asked).min(ASKED_PAGES);
            let entries = &mut self.entries[..count * ENTRY_BYTES];
            let page = at / self.page_bytes + asked as u64;
            self.pagemap.read_exact_at(entries, page * ENTRY_BYTES as u64)?;
            for (index, entry) in entries.chunks_exact(ENTRY_BYTES).enumerate() {
                if is_there(entry) {
                    self.known.insert(first + asked + index);
                } else {
                    all = false;
                }
            }
            asked += count;
        }
        Ok(all)
    }

    /// Reads a range page by page, because not all of its pages exist or it is not in one piece.
    #[cold]
    fn read_pieces(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        answer_pieces(address, target, |at, target| {
            let (index, remote, page, _) = self.locate(at, 1).ok_or(ReadOutcome::NotBacked)?;
            let in_page = self.page_bytes - remote % self.page_bytes;
            let in_piece = self.pieces[index].physical.end - at;
            let piece = in_page.min(in_piece).min(target.len() as u64) as usize;
            let bytes = &mut target[..piece];
            if !self.known.contains(page) {
                self.ask(remote, page, page).map_err(|_| ReadOutcome::Failed)?;
            }
            let is_read = if self.known.contains(page) {
                self.copy(remote, bytes)
            } else {
                self.untouched(index, at, bytes)
            };
            is_read.then_some(piece).ok_or(ReadOutcome::Failed)
        })
    }

    /// Fills in the content of a page that the process has not touched.
    fn untouched(&self, index: usize, at: u64, bytes: &mut [u8]) -> bool {
        bytes.fill(0);
        let piece = &self.pieces[index];
        let Some((file, offset)) = &piece.file else { return true };
        // Past the end of the file are zeros.
        read_at_most(file, offset + (at - piece.physical.start), bytes).is_ok()
    }

    /// Copies existing bytes out of the process.
    fn copy(&mut self, remote: u64, bytes: &mut [u8]) -> bool {
        let local = [libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }];
        let from = [libc::iovec { iov_base: remote as *mut _, iov_len: bytes.len() }];
        // SAFETY: the local piece is a slice that this borrows exclusively. The remote address is
        // no pointer of this process, and the kernel checks it.
        let copied = unsafe { transfer(self.pid, &local, &from) };
        self.refused |= copied < 0 && is_refused(&io::Error::last_os_error());
        copied == bytes.len() as isize
    }

    /// Answers all requests of a batch.
    fn read_all(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        self.vectors.clear();
        self.refused = false;
        let arena_bytes = arena.len();
        let mut start = arena.as_mut_ptr();
        for index in 0..requests.len() {
            let request = requests[index];
            let Some(target) = request.target_range(arena_bytes) else {
                requests[index].outcome = ReadOutcome::Failed;
                continue;
            };
            if target.is_empty() {
                requests[index].outcome = ReadOutcome::Read;
                continue;
            }
            if self.refused {
                requests[index].outcome = ReadOutcome::Failed;
                continue;
            }
            let address = request.address.0;
            let place = self.locate(address, u64::from(request.length));
            let ready = place.filter(|&(_, at, first, last)| {
                self.known.contains_all(first, last) || self.ask(at, first, last).unwrap_or(false)
            });
            let Some((_, remote, _, _)) = ready else {
                // The slow path borrows the arena, so perform the gathered reads into it first.
                self.flush(requests);
                requests[index].outcome = self.read_pieces(address, &mut arena[target]);
                start = arena.as_mut_ptr();
                continue;
            };
            self.vectors.local.push(libc::iovec {
                iov_base: start.wrapping_add(target.start).cast(),
                iov_len: target.len(),
            });
            self.vectors
                .remote
                .push(libc::iovec { iov_base: remote as *mut _, iov_len: target.len() });
            self.vectors.requests.push(index as u32);
            if self.vectors.requests.len() == PIECES_MAX {
                self.flush(requests);
            }
        }
        self.flush(requests);
    }

    /// Performs the reads that were gathered for these requests.
    fn flush(&mut self, requests: &mut [ReadRequest]) {
        let vectors = &self.vectors;
        let count = vectors.requests.len();
        let mut at = 0;
        while at < count {
            // SAFETY: every local piece is in the arena that `read_batch` borrows exclusively, as
            // tested by `target_range`; the kernel checks remote addresses.
            let copied = unsafe { transfer(self.pid, &vectors.local[at..], &vectors.remote[at..]) };
            // If the first piece fails, the call returns an error. If a later one fails, the call
            // stops before it.
            if copied < 0 && is_refused(&io::Error::last_os_error()) {
                self.refused = true;
                for request in &vectors.requests[at..] {
                    requests[*request as usize].outcome = ReadOutcome::Failed;
                }
                break;
            }
            let mut left = usize::try_from(copied).unwrap_or(0);
            while at < count && left >= vectors.local[at].iov_len {
                left -= vectors.local[at].iov_len;
                requests[vectors.requests[at] as usize].outcome = ReadOutcome::Read;
                at += 1;
            }
            if at < count {
                requests[vectors.requests[at] as usize].outcome = ReadOutcome::Failed;
                at += 1;
            }
        }
        self.vectors.clear();
    }
}

/// Calls `process_vm_readv`.
///
/// # Safety
///
/// The local pieces must be writable memory that nothing else uses during the call; they may
/// overlap.
unsafe fn transfer(pid: libc::pid_t, local: &[libc::iovec], remote: &[libc::iovec]) -> isize {
    // SAFETY: the lengths are those of the slices, and the caller promises that the local pieces
    // are valid.
    unsafe {
        libc::process_vm_readv(
            pid,
            local.as_ptr(),
            local.len() as libc::c_ulong,
            remote.as_ptr(),
            remote.len() as libc::c_ulong,
            0,
        )
    }
}

/// Whether nothing of the process can be read: it has ended, or the permission is missing.
fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ESRCH | libc::ENOSYS))
}

fn process_number(pid: u32) -> io::Result<libc::pid_t> {
    libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))
}

/// Checks the permission to read the memory of a process. The kernel checks it before the addresses
/// (mm/process_vm_access.c, `process_vm_rw_core`), so no valid address is needed.
pub(super) fn probe(pid: u32) -> io::Result<()> {
    let mut byte = 0_u8;
    let local = [libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 }];
    let remote = [libc::iovec { iov_base: NOWHERE as *mut _, iov_len: 1 }];
    // SAFETY: the local piece is a local variable; the kernel checks the remote one.
    let copied = unsafe { transfer(process_number(pid)?, &local, &remote) };
    if copied >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT) => Ok(()),
        Some(libc::ESRCH) => Err(io::Error::from(io::ErrorKind::NotFound)),
        _ => Err(error),
    }
}

fn is_there(entry: &[u8]) -> bool {
    entry.try_into().is_ok_and(|bytes| u64::from_le_bytes(bytes) & IS_THERE != 0)
}

impl MachineSource for PrivateMemory {}

impl MemorySource for PrivateMemory {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        if !self.alive.has_ended() {
            self.read_all(requests, arena);
        }
        // The id may have passed to another process in between.
        if self.alive.has_ended() {
            for request in requests {
                request.outcome = ReadOutcome::Failed;
            }
        }
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }

    fn next_data(&mut self, from: PhysicalAddress) -> Option<Range<u64>> {
        for index in 0..self.pieces.len() {
            let PrivateRange { physical, address, file } = &self.pieces[index];
            if physical.end <= from.0 {
                continue;
            }
            let (start, end, base) = (physical.start, physical.end, *address);
            let mut at = from.0.max(start);
            if file.is_some() {
                return Some(at..end);
            }
            let page_bytes = self.page_bytes;
            // The physical address of a page of the process.
            let physical_of = |page: u64| start + (page * page_bytes).saturating_sub(base);
            let last = (base + (end - start)).div_ceil(page_bytes);
            while at < end {
                let page = (base + (at - start)) / page_bytes;
                let pages = (last - page).min(ASKED_PAGES as u64);
                let entries = &mut self.entries[..pages as usize * ENTRY_BYTES];
                let entry = page * ENTRY_BYTES as u64;
                if self.pagemap.read_exact_at(entries, entry).is_err() {
                    // The caller meets and reports the error when it reads this range.
                    return Some(at..end);
                }
                let mut there = entries.chunks_exact(ENTRY_BYTES).map(is_there);
                let Some(skipped) = there.position(|there| there) else {
                    at = physical_of(page + pages);
                    continue;
                };
                let count = 1 + there.take_while(|there| *there).count();
                let first = page + skipped as u64;
                let bit = self.firsts[index] + (first - base / page_bytes) as usize;
                self.known.insert_range(bit..bit + count);
                let data = physical_of(first).max(at)..physical_of(first + count as u64).min(end);
                return Some(data);
            }
        }
        None
    }
}
