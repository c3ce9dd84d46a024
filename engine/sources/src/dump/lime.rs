//! LiME dumps and uncompressed AVML dumps: each range of memory follows a header of 32 bytes.
//!
//! The header (LiME's lime.h, version 1): magic `EMiL`, version, first address, last address
//! (included), eight bytes reserved; all little endian.

use panoptes_decoders::layout::{u32_at, u64_at};

use super::bytes::DumpBytes;
use super::{DumpProblem, Piece, SEGMENTS_MAX, Segments};

/// Size of a LiME or AVML header in bytes.
pub(super) const HEADER_BYTES: u64 = 32;

/// The parsed header of a range of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) start: u64,
    pub(super) bytes: u64,
}

impl Header {
    /// Reads the header at an offset; `None` at the end of the file.
    pub(super) fn read(
        file: &DumpBytes,
        at: u64,
        magic: [u8; 4],
        version: u32,
    ) -> Result<Option<Self>, DumpProblem> {
        let mut header = [0; HEADER_BYTES as usize];
        if at.saturating_add(HEADER_BYTES) > file.len() || !file.read(at, &mut header) {
            return Ok(None);
        }
        if !header.starts_with(&magic) || u32_at(&header, 4) != version {
            return Err(DumpProblem::Header("a range of memory does not begin with its header"));
        }
        let (start, last) = (u64_at(&header, 8), u64_at(&header, 16));
        let bytes = last.checked_sub(start).and_then(|bytes| bytes.checked_add(1));
        let bytes = bytes.ok_or(DumpProblem::Header("a range of memory ends before it begins"))?;
        Ok(Some(Self { start, bytes }))
    }
}

/// Whether the file ends within the header at an offset, so the size of the missing range is
/// unknown.
pub(super) fn is_cut(file: &DumpBytes, at: u64) -> bool {
    at < file.len() && file.len() - at < HEADER_BYTES
}

/// Reads which memory is where in the file.
pub(crate) fn read(file: &DumpBytes) -> Result<Segments, DumpProblem> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(header) = Header::read(file, at, *b"EMiL", 1)? {
        let offset = at + HEADER_BYTES;
        pieces.push(Piece {
            start: header.start,
            bytes: header.bytes,
            offset,
            filed: header.bytes,
        });
        if pieces.len() > SEGMENTS_MAX {
            return Err(DumpProblem::TooLarge("ranges of memory"));
        }
        match offset.checked_add(header.bytes) {
            Some(next) => at = next,
            None => break,
        }
    }
    let (segments, regions, mut lacks) = super::segments(pieces, file.len());
    lacks.unfinished = is_cut(file, at);
    if segments.is_empty() {
        return Err(DumpProblem::NoMemory);
    }
    Ok((segments, regions, lacks))
}
