//! LiME dumps and uncompressed AVML dumps: each range of memory follows a header of 32 bytes.
//!
//! The header (LiME's lime.h, version 1): magic `EMiL`, version, first address, last address
//! (included), eight bytes reserved; all little endian.
//!
//! Where a header is due but missing, the next one may have come too early: LiME leaves out the
//! rest of a range after a write error (main.c, `write_range`). It is searched from the beginning
//! of the last range on. Guest memory can imitate a header, so only ranges behind the others count,
//! and none is searched while each header is in its place.

use panoptes_decoders::layout::{u32_at, u64_at};

use super::bytes::DumpBytes;
use super::trailing::{bytes_behind, find};
use super::{DumpProblem, Piece, SEGMENTS_MAX, Segments};

/// Size of a LiME or AVML header in bytes.
pub(super) const HEADER_BYTES: u64 = 32;

/// First bytes of a LiME header: magic and version.
const LIME: [u8; 8] = *b"EMiL\x01\0\0\0";

/// Maximum number of headers that are searched: each costs a pass over a range.
const SEARCHES_MAX: u32 = 64;

/// Maximum number of ranges behind a header that is searched.
const CHAIN_MAX: u32 = 1 << 16;

/// The parsed header of a range of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

/// What a dump has at an offset.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    Header(Header),
    /// The end of the file, also within a header.
    End,
    /// Bytes that are no header.
    Other,
}

impl Header {
    /// Reads the header at an offset.
    pub(super) fn read(
        file: &DumpBytes,
        at: u64,
        magic: [u8; 4],
        version: u32,
    ) -> Result<Next, DumpProblem> {
        let mut header = [0; HEADER_BYTES as usize];
        if at.saturating_add(HEADER_BYTES) > file.len() || !file.read(at, &mut header) {
            return Ok(Next::End);
        }
        if !header.starts_with(&magic) || u32_at(&header, 4) != version {
            return Ok(Next::Other);
        }
        let range = Self::parse(&header);
        let range = range.ok_or(DumpProblem::Header("a range of memory ends before it begins"))?;
        Ok(Next::Header(range))
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
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut at, mut trailing, mut skipped) = (0, 0, 0);
    let mut searches_left = SEARCHES_MAX;
    loop {
        let header = match Header::read(file, at, *b"EMiL", 1)? {
            Next::Header(header) => header,
            Next::End if at <= file.len() => break,
            next @ (Next::End | Next::Other) => {
                let is_beyond = matches!(next, Next::End);
                let early = match pieces.last() {
                    Some(last) if searches_left > 0 => early_header(file, last, is_beyond),
                    _ => None,
                };
                // The last range was cut short.
                if early.is_none() && is_beyond {
                    break;
                }
                let (Some(early), Some(last)) = (early, pieces.last_mut()) else {
                    trailing = bytes_behind(file, at);
                    at = file.len();
                    break;
                };
                searches_left -= 1;
                skipped += last.bytes.saturating_sub(early - last.offset);
                last.filed = last.bytes.min(early - last.offset);
                at = early;
                continue;
            }
        };
        let offset = at + HEADER_BYTES;
        let Header { start, bytes } = header;
        pieces.push(Piece { start, bytes, offset, filed: bytes });
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
    lacks.left_out = lacks.left_out.saturating_sub(skipped);
    if segments.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    Ok((segments, regions, lacks))
}

/// The offset of the first header behind the beginning of the last range. If that range ends behind
/// the file, the file may just have been cut; then all ranges from there on must end where the file
/// does.
fn early_header(file: &DumpBytes, last: &Piece, is_beyond: bool) -> Option<u64> {
    let end = last.start.checked_add(last.bytes)?;
    let bytes = HEADER_BYTES as usize;
    find(file, last.offset..file.len(), LIME, bytes, |at, header| {
        let reserved = u64_at(header, 24);
        reserved == 0
            && Header::parse(header).is_some_and(|range| range.start >= end)
            && is_followed(file, at, is_beyond)
    })
}

/// Whether the header at an offset is followed by another, or by the end of the file; `to_the_end`,
/// whether all that follow are.
fn is_followed(file: &DumpBytes, mut at: u64, to_the_end: bool) -> bool {
    for _ in 0..CHAIN_MAX {
        let Ok(Next::Header(range)) = Header::read(file, at, *b"EMiL", 1) else { return false };
        let next = at.checked_add(HEADER_BYTES).and_then(|at| at.checked_add(range.bytes));
        let Some(next) = next else { return false };
        if next == file.len() {
            return true;
        }
        if !to_the_end {
            return !matches!(Header::read(file, next, *b"EMiL", 1), Ok(Next::Other) | Err(_));
        }
        at = next;
    }
    false
}
