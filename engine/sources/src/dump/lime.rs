//! LiME dumps and uncompressed AVML dumps: each range of memory follows a header of 32 bytes.
//!
//! The header (LiME's lime.h, version 1): magic `EMiL`, version, first address, last address
//! (included), eight bytes reserved; all little endian.
//!
//! Where a header is due but missing, the next one may have come too early: LiME leaves out the
//! rest of a range after a write error (main.c, `write_range`). It is searched from the beginning
//! of the last range on. Guest memory can imitate a header, so none is searched while each header
//! is in its place, nor if only a digest or zeros are behind. A header counts only if its range is
//! behind the others, and all ranges from it on end exactly where the file does. A guest does not
//! know that place.

use std::collections::HashSet;

use panoptes_decoders::layout::{u32_at, u64_at};

use super::bytes::DumpBytes;
use super::tail::{bytes_behind, find};
use super::{DIGEST_BYTES, DumpProblem, DumpedRange, SEGMENTS_MAX, Segments};

/// Size of a LiME or AVML header in bytes.
pub(super) const HEADER_BYTES: u64 = 32;

/// First bytes of a LiME header: magic and version.
const LIME: [u8; 8] = *b"EMiL\x01\0\0\0";

/// Maximum number of headers that are searched: each costs a pass over a range.
const SEARCHES_MAX: u32 = 64;

/// Maximum number of headers that all searches of a dump read.
const STEPS_MAX: usize = 1 << 20;

/// The parsed header of a range of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeHeader {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// What a dump has at an offset.
#[derive(Clone, Copy, Debug)]
pub(super) enum RangeHeaderLookup {
    Header(RangeHeader),
    /// The end of the file, also within a header.
    End,
    /// Bytes that are no header.
    Other,
}

impl RangeHeader {
    /// Reads the header at an offset.
    pub(super) fn read(
        file: &DumpBytes,
        at: u64,
        magic: [u8; 4],
        version: u32,
    ) -> Result<RangeHeaderLookup, DumpProblem> {
        let mut header = [0; HEADER_BYTES as usize];
        if at.saturating_add(HEADER_BYTES) > file.len() || !file.read(at, &mut header) {
            return Ok(RangeHeaderLookup::End);
        }
        let found = u32_at(&header, 4);
        if at == 0 && header.starts_with(&magic) && found != version {
            return Err(DumpProblem::Version { found, known: version });
        }
        if !header.starts_with(&magic) || found != version {
            return Ok(RangeHeaderLookup::Other);
        }
        let range = Self::parse(&header);
        let range = range.ok_or(DumpProblem::Header("a range of memory ends before it begins"))?;
        Ok(RangeHeaderLookup::Header(range))
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let (start, last) = (u64_at(header, 8), u64_at(header, 16));
        let bytes = last.checked_sub(start)?.checked_add(1)?;
        Some(Self { start, bytes })
    }
}

/// Whether the file ends within the header at an offset, so the size of the missing range is
/// unknown.
pub(super) fn is_cut(file: &DumpBytes, at: u64) -> bool {
    at < file.len() && file.len() - at < HEADER_BYTES
}

/// Reads which memory is where in the file.
pub(crate) fn read(file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let mut pieces: Vec<DumpedRange> = Vec::new();
    let (mut at, mut trailing, mut skipped, mut lost) = (0, 0, 0, 0);
    let mut searches_left = SEARCHES_MAX;
    let mut search = RangeHeaderSearch { file, failures: HashSet::new() };
    loop {
        let header = match RangeHeader::read(file, at, *b"EMiL", 1)? {
            RangeHeaderLookup::Header(header) => header,
            RangeHeaderLookup::End if at <= file.len() => break,
            RangeHeaderLookup::End | RangeHeaderLookup::Other => {
                let behind = bytes_behind(file, at);
                let is_beyond = at > file.len();
                let early = match pieces.last() {
                    Some(last) if searches_left > 0 && (is_beyond || behind > DIGEST_BYTES) => {
                        search.early_header(last)
                    }
                    _ => None,
                };
                let (Some(early), Some(last)) = (early, pieces.last_mut()) else {
                    trailing = behind;
                    // If the last range was cut short, its end stays behind the file's.
                    at = at.max(file.len());
                    break;
                };
                searches_left -= 1;
                skipped += last.bytes.saturating_sub(early - last.offset);
                lost += early.saturating_sub(at);
                last.filed = last.bytes.min(early - last.offset);
                at = early;
                continue;
            }
        };
        let offset = at + HEADER_BYTES;
        let RangeHeader { start, bytes } = header;
        pieces.push(DumpedRange { start, bytes, offset, filed: bytes });
        if pieces.len() > SEGMENTS_MAX {
            return Err(DumpProblem::TooLarge("ranges of memory"));
        }
        match offset.checked_add(bytes) {
            Some(next) => at = next,
            None => break,
        }
    }
    let (segments, regions, mut lacks) = super::segments(pieces, file.len());
    lacks.unfinished = is_cut(file, at);
    lacks.trailing = trailing;
    lacks.skipped = skipped;
    lacks.lost = lost;
    lacks.left_out = lacks.left_out.saturating_sub(skipped);
    if segments.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    Ok((segments, regions, lacks))
}

/// The search for headers that are not where they are due.
struct RangeHeaderSearch<'f> {
    file: &'f DumpBytes,
    /// Offsets of headers from which the ranges do not lead to the end of the file.
    failures: HashSet<u64>,
}

impl RangeHeaderSearch<'_> {
    /// The offset of the first header behind the beginning of the last range, from which all ranges
    /// lead to the end of the file.
    fn early_header(&mut self, last: &DumpedRange) -> Option<u64> {
        let end = last.start.checked_add(last.bytes)?;
        let (file, bytes) = (self.file, HEADER_BYTES as usize);
        find(file, last.offset..file.len(), LIME, bytes, |at, header| {
            let reserved = u64_at(header, 24);
            reserved == 0
                && RangeHeader::parse(header).is_some_and(|range| range.start >= end)
                && self.leads_to_the_end(at)
        })
    }

    /// Whether the header at an offset, and those behind it, have ascending ranges up to exactly
    /// the end of the file. Reads no header twice that did not: a guest may write any number.
    fn leads_to_the_end(&mut self, mut at: u64) -> bool {
        let mut chain = Vec::new();
        let mut memory = 0;
        while !self.failures.contains(&at) && self.failures.len() + chain.len() < STEPS_MAX {
            let Ok(RangeHeaderLookup::Header(range)) =
                RangeHeader::read(self.file, at, *b"EMiL", 1)
            else {
                break;
            };
            let next = at.checked_add(HEADER_BYTES).and_then(|at| at.checked_add(range.bytes));
            let Some(next) = next.filter(|_| range.start >= memory) else { break };
            if next == self.file.len() {
                return true;
            }
            chain.push(at);
            memory = range.start.saturating_add(range.bytes);
            at = next;
        }
        self.failures.extend(chain);
        false
    }
}
