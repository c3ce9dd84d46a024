//! Dumps: a machine's memory as tools write it to a file.
//!
//! [`lime`], [`elf`], [`xen`], [`vmware`] and [`raw_ranges`] store memory uncompressed: they become
//! segments of a [`super::MappedMemory`]. [`kdump`], [`avml`] and [`qemu`] store it in blocks, most
//! of them compressed: they become an index over [`blocks`], which has a cache of fixed size. All
//! numbers in the headers are untrusted: each is checked against the file before anything is
//! allocated or read.
//!
//! Memory that a dump lacks (it was cut short, or pages were left out when it was made) is read as
//! not backed. It is counted when the dump is opened, and reported: [`Lacks`].
//!
//! A further format needs a file here, its magic number in [`super::format`], and its line in
//! `from_dump` (open.rs).

use std::fmt;
use std::ops::Range;

use panoptes_decoders::source::PAGE_BYTES;

use super::Segment;

pub(super) mod avml;
mod blocks;
mod bytes;
mod cache;
mod codec;
pub(super) mod elf;
pub(super) mod kdump;
mod kdump_header;
pub(super) mod lime;
#[cfg(test)]
mod mutations;
pub(super) mod qemu;
pub(super) mod raw_ranges;
mod tail;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
pub(super) mod vmware;
pub(super) mod xen;

pub(super) use blocks::BlockDump;
pub(super) use bytes::DumpBytes;

/// Largest number of segments of memory in one dump. QEMU writes one for each run of pages that a
/// guest's page tables map alike, and a large guest has millions of those.
const SEGMENTS_MAX: usize = 1 << 24;

/// Longest digest that LiME appends to a dump over TCP, as text (SHA-512). More bytes behind a dump
/// are a sign of damage.
const DIGEST_BYTES: u64 = 128;

/// Largest number of separate regions. Later regions are joined; reads in the gaps between them
/// still give not backed.
const REGIONS_MAX: usize = 1 << 16;

/// What a dump lacks of the memory that its headers describe, in bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lacks {
    /// Past the end of the file: the copy, or the dump, was cut short.
    pub cut_short: u64,
    /// Left out by the tool that made the dump.
    pub left_out: u64,
    /// Not written, because writing failed when the dump was made.
    pub skipped: u64,
    /// Bytes of the file between ranges of memory: a header is damaged.
    pub lost: u64,
    /// Whether the dump is marked as unfinished, or ends within the header of a range of memory.
    pub unfinished: bool,
    /// Bytes of the file behind the dump, other than zeros; they are ignored.
    pub trailing: u64,
    /// What was assumed about the addresses of memory, because the dump does not state it.
    pub assumption: Option<&'static str>,
    /// Why the user's regions of memory are not used.
    pub unused_regions: Option<&'static str>,
}

impl Lacks {
    /// Whether the dump lacks nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the dump was written and copied to its end.
    pub fn is_finished(&self) -> bool {
        !self.unfinished && self.cut_short == 0
    }

    /// Whether memory is missing by accident, not by choice.
    pub fn is_damage(&self) -> bool {
        let missing = [self.cut_short, self.skipped, self.lost];
        self.unfinished
            || self.trailing > DIGEST_BYTES
            || missing.into_iter().any(|bytes| bytes > 0)
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = |bytes: u64| bytes.div_ceil(1024);
        let mut parts = Vec::new();
        if self.cut_short > 0 {
            let kib = kib(self.cut_short);
            parts.push(format!("{kib} KiB of memory are missing: the file was cut short"));
        }
        if self.unfinished {
            parts.push("it was not written or copied to its end".to_owned());
        }
        if self.left_out > 0 {
            let kib = kib(self.left_out);
            parts.push(format!("{kib} KiB of memory were left out when it was made"));
        }
        if self.skipped > 0 {
            let kib = kib(self.skipped);
            parts.push(format!("{kib} KiB of memory are missing: writing failed when it was made"));
        }
        if self.lost > 0 {
            let kib = kib(self.lost);
            parts.push(format!("{kib} KiB of the file belong to no range: a header is damaged"));
        }
        if self.trailing > 0 {
            let (bytes, s) = (self.trailing, if self.trailing == 1 { "" } else { "s" });
            parts.push(format!("the last {bytes} byte{s} of the file are no part of it (ignored)"));
        }
        parts.extend(self.assumption.map(str::to_owned));
        let unused = self.unused_regions;
        parts.extend(unused.map(|why| format!("memory_regions_path is not used: {why}")));
        f.write_str(&parts.join("; "))
    }
}

/// The reason why a dump cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DumpProblem {
    #[error("it ends before its headers do: copy it again")]
    Headers,
    #[error("{0}: is it damaged?")]
    Header(&'static str),
    #[error("it holds no memory: was it cut short?")]
    NoMemory,
    #[error("its version is {found}; version {known} is read")]
    Version { found: u32, known: u32 },
    /// This kind of dump is not supported; the text says what to do.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The memory is compressed as a whole, from a byte on (counted from 1, as tail(1) does); `{}`
    /// stands for the file.
    #[error("its memory is compressed; unpack it: tail -c +{from} {{}} | {program} > memory.qevm")]
    Packed { from: u64, program: &'static str },
    /// The dump exceeds a limit; the text names it.
    #[error("it has too many {0}")]
    TooLarge(&'static str),
}

/// Which memory is where in a dump, the regions of memory, and what the dump lacks of them.
pub(super) type Segments = (Vec<Segment>, Vec<Range<u64>>, Lacks);

/// A piece of memory as a header describes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct DumpedRange {
    /// Physical address of the first byte.
    start: u64,
    bytes: u64,
    /// Offset in the file.
    offset: u64,
    /// Number of bytes that the file holds according to the header; the others were left out.
    filed: u64,
}

/// Sorts pieces so that each address occurs once, and cuts them at the end of the file. A range
/// that is described twice is the same memory: QEMU does that for memory that is mapped twice.
fn segments(mut pieces: Vec<DumpedRange>, file_bytes: u64) -> Segments {
    let mut lacks = Lacks::default();
    // The larger one in the file comes first of two pieces with the same start.
    pieces.sort_unstable_by_key(|piece| (piece.start, std::cmp::Reverse(piece.filed)));
    let mut segments: Vec<Segment> = Vec::new();
    let mut described: Vec<Range<u64>> = Vec::new();
    let mut end = 0;
    for piece in pieces {
        let (Some(stop), Some(_)) =
            (piece.start.checked_add(piece.bytes), piece.offset.checked_add(piece.filed))
        else {
            continue; // beyond the address space
        };
        described.push(piece.start..stop);
        let filed_stop = piece.start + piece.filed.min(piece.bytes);
        let start = piece.start.max(end);
        if start >= filed_stop {
            continue;
        }
        let offset = piece.offset + (start - piece.start);
        let here = (filed_stop - start).min(file_bytes.saturating_sub(offset));
        lacks.cut_short += filed_stop - start - here;
        end = filed_stop;
        if here == 0 {
            continue;
        }
        match segments.last_mut() {
            Some(last)
                if last.physical.end == start
                    && last.offset + (start - last.physical.start) == offset =>
            {
                last.physical.end += here;
            }
            _ => segments.push(Segment { physical: start..start + here, offset }),
        }
    }
    let regions = regions(described);
    let total = |ranges: &mut dyn Iterator<Item = &Range<u64>>| -> u64 {
        ranges.map(|range| range.end - range.start).sum()
    };
    let held = total(&mut segments.iter().map(|segment| &segment.physical)) + lacks.cut_short;
    lacks.left_out = total(&mut regions.exact.iter()).saturating_sub(held);
    (segments, regions.pages, lacks)
}

/// The ranges of memory that a dump describes.
struct Regions {
    /// As described.
    exact: Vec<Range<u64>>,
    /// Extended to whole pages.
    pages: Vec<Range<u64>>,
}

/// Joins ranges that touch; `described` is sorted by start.
fn regions(described: Vec<Range<u64>>) -> Regions {
    let mut exact: Vec<Range<u64>> = Vec::new();
    let mut pages: Vec<Range<u64>> = Vec::new();
    for range in described {
        join(&mut exact, range.clone(), usize::MAX);
        let start = range.start / PAGE_BYTES * PAGE_BYTES;
        let end = range.end.checked_next_multiple_of(PAGE_BYTES).unwrap_or(range.end);
        join(&mut pages, start..end, REGIONS_MAX);
    }
    Regions { exact, pages }
}

/// Appends a range that begins no earlier than the last one. Extends the last one instead if they
/// touch or there are `most` already.
fn join(ranges: &mut Vec<Range<u64>>, range: Range<u64>, most: usize) {
    let count = ranges.len();
    match ranges.last_mut() {
        Some(last) if range.start <= last.end || count >= most => {
            last.end = last.end.max(range.end);
        }
        _ => ranges.push(range),
    }
}
