//! Sweeps over all physical memory, resumable: each call continues to the next match.
//!
//! There are two, with very different costs: [`PageBeginnings`] reads one cache line a page and
//! finds what the kernel puts at the beginning of a page; [`EveryByte`] reads everything.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::memmem;
use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES, ReadOutcome, ReadRequest};

/// Number of bytes read at the beginning of a page: an ELF note's header, its name and the text's
/// first word.
const BEGINNING_BYTES: u32 = 40;

/// Number of pages in a batch.
const BATCH_PAGES: usize = 4096;

/// Number of bytes in one read of a complete sweep.
const SWEEP_READ_BYTES: usize = 1 << 20;

/// Maximum length of a text to search for; it bounds the overlap of chunks.
const NEEDLE_BYTES_MAX: usize = 32;

/// Possible offsets of VMCOREINFO in a page: 0 for the kernel's data; after an ELF note's header of
/// 12 bytes and its padded name `VMCOREINFO` for the note (kernel/crash_core.c,
/// `update_vmcoreinfo_note`).
const VMCOREINFO_OFFSETS: [u64; 2] = [0, 24];

/// Finds pages with a text at their beginning or at the offset of a VMCOREINFO note.
#[derive(Debug)]
pub(crate) struct PageBeginnings {
    needle: &'static [u8],
    at: u64,
    requests: Vec<ReadRequest>,
    arena: Vec<u8>,
    found: VecDeque<PhysicalAddress>,
}

impl PageBeginnings {
    pub(crate) fn new(needle: &'static [u8]) -> Self {
        let arena = vec![0; BATCH_PAGES * BEGINNING_BYTES as usize];
        Self {
            needle,
            at: 0,
            requests: Vec::with_capacity(BATCH_PAGES),
            arena,
            found: VecDeque::new(),
        }
    }

    /// The next match; `None` at the end of memory.
    pub(crate) fn next(&mut self, source: &mut dyn MemorySource) -> Option<PhysicalAddress> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            self.requests.clear();
            while self.requests.len() < BATCH_PAGES {
                let Some(range) = source.next_data(PhysicalAddress(self.at)) else { break };
                let Some((start, end)) = advancing(&range, self.at) else { break };
                let mut page = start.next_multiple_of(PAGE_BYTES);
                while page < end && self.requests.len() < BATCH_PAGES {
                    let target = self.requests.len() as u32 * BEGINNING_BYTES;
                    self.requests.push(ReadRequest::new(
                        PhysicalAddress(page),
                        BEGINNING_BYTES,
                        target,
                    ));
                    page += PAGE_BYTES;
                }
                self.at = page.max(start + 1);
            }
            if self.requests.is_empty() {
                return None;
            }
            source.read_batch(&mut self.requests, &mut self.arena);
            for request in self.requests.iter().filter(|r| r.outcome == ReadOutcome::Read) {
                let Some(range) = request.target_range(self.arena.len()) else { continue };
                let bytes = &self.arena[range];
                for offset in VMCOREINFO_OFFSETS {
                    if bytes[offset as usize..].starts_with(self.needle) {
                        self.found.push_back(request.address.plus(offset));
                    }
                }
            }
        }
    }
}

/// Finds a text anywhere in physical memory.
pub(crate) struct EveryByte {
    finder: memmem::Finder<'static>,
    range: Range<u64>,
    at: u64,
    chunk: Chunk,
    found: VecDeque<PhysicalAddress>,
}

impl EveryByte {
    /// Searches for `needle` in a range of physical addresses.
    pub(crate) fn new(needle: &'static [u8], range: Range<u64>) -> Self {
        assert!(needle.len() <= NEEDLE_BYTES_MAX, "the overlap of chunks would be too small");
        Self {
            finder: memmem::Finder::new(needle),
            at: range.start,
            range,
            chunk: Chunk::new(),
            found: VecDeque::new(),
        }
    }

    /// The next match; `None` at the end of the range.
    pub(crate) fn next(&mut self, source: &mut dyn MemorySource) -> Option<PhysicalAddress> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(found);
            }
            let (start, bytes) = self.chunk.next(source, &mut self.at, self.range.end)?;
            let found = self.finder.find_iter(bytes).map(|offset| start + offset as u64);
            self.found.extend(found.map(PhysicalAddress));
            if bytes.len() == SWEEP_READ_BYTES {
                // Chunks overlap, because a text may cross the border. The overlap is shorter than
                // the text, so no match is found twice.
                self.at -= self.finder.needle().len() as u64 - 1;
            }
        }
    }
}

/// A buffer for reading memory in large pieces.
pub(crate) struct Chunk {
    bytes: Vec<u8>,
}

impl Chunk {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; SWEEP_READ_BYTES] }
    }

    /// Reads the next piece at or after `at` and below `end`, and moves `at` after it. Unreadable
    /// memory reads as zeros.
    pub(crate) fn next(
        &mut self,
        source: &mut dyn MemorySource,
        at: &mut u64,
        end: u64,
    ) -> Option<(u64, &[u8])> {
        let range = source.next_data(PhysicalAddress(*at))?;
        let (start, range_end) = advancing(&range, *at)?;
        let range_end = range_end.min(end);
        if start >= range_end {
            return None;
        }
        let length = (range_end - start).min(SWEEP_READ_BYTES as u64) as usize;
        *at = start + length as u64;
        let bytes = &mut self.bytes[..length];
        if !source.read_exact(PhysicalAddress(start), bytes) {
            read_pages(source, start, bytes);
        }
        Some((start, bytes))
    }
}

/// Reads page by page; unreadable memory reads as zeros.
fn read_pages(source: &mut dyn MemorySource, start: u64, bytes: &mut [u8]) {
    let end = start + bytes.len() as u64;
    let mut requests = Vec::new();
    let mut page = start;
    while page < end {
        let next = (page + 1).next_multiple_of(PAGE_BYTES).min(end);
        let target = (page - start) as u32;
        requests.push(ReadRequest::new(PhysicalAddress(page), (next - page) as u32, target));
        page = next;
    }
    source.read_batch(&mut requests, bytes);
    for request in requests.iter().filter(|request| request.outcome != ReadOutcome::Read) {
        if let Some(range) = request.target_range(bytes.len()) {
            bytes[range].fill(0);
        }
    }
}

/// The part of a source's range at or after `at`, if there is any: a source that does not advance
/// must not make the sweep endless.
fn advancing(range: &Range<u64>, at: u64) -> Option<(u64, u64)> {
    let start = range.start.max(at);
    // No machine has memory beyond 52 bits of address (Intel SDM vol. 3A §4.1.4).
    let end = range.end.min(1 << 52);
    (start < end).then_some((start, end))
}
