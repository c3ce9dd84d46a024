//! [`DumpBytes`]: the bytes of a dump by offset, also of a dump that was written for a pipe.
//!
//! A *flattened* dump (makedumpfile's `-F`, and QEMU's kdump formats up to 8.1) is a page that
//! begins with `makedumpfile`, then pieces in any order, each behind its offset and its size, big
//! endian. An offset of −1 ends it. If pieces overlap, the later one counts. An index restores the
//! order here; `makedumpfile -R` makes a copy for that.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::source::ReadOutcome;

use super::DumpProblem;
use crate::pieces::{answer_pieces, read_at_most};

/// First bytes of a flattened dump, padded with zeros to 16 (makedumpfile.h:
/// MAKEDUMPFILE_SIGNATURE).
pub(crate) const FLATTENED: [u8; 16] = *b"makedumpfile\0\0\0\0";

/// Bytes before the first piece (makedumpfile.h: MAX_SIZE_MDF_HEADER).
const FLATTENED_HEADER_BYTES: u64 = 4096;
const PIECE_HEADER_BYTES: u64 = 16;

/// Most pieces: 384 MiB of index, for a dump of 256 GiB as QEMU cuts it (16 KiB a piece).
const PIECES_MAX: usize = 1 << 24;

/// Largest number of overlaps. Writers rewrite only a few headers, but in a hostile dump each piece
/// could overlap all others.
const OVERLAPS_MAX: usize = 1 << 20;

/// Number of bytes read at once when piece headers are read: several headers if pieces are small.
const READ_AHEAD_BYTES: usize = 1 << 16;

/// A piece of a flattened dump.
#[derive(Clone, Copy, Debug)]
struct FlattenedPiece {
    offset: u64,
    bytes: u64,
    file_offset: u64,
}

/// The bytes of a dump by offset.
#[derive(Debug)]
pub(crate) struct DumpBytes {
    file: File,
    bytes: u64,
    /// In order and without overlaps; `None` if the file is not flattened.
    pieces: Option<Vec<FlattenedPiece>>,
    /// Whether a flattened dump has its end marker.
    ended: bool,
}

impl DumpBytes {
    /// Uses an open file of `bytes` bytes. Indexes its pieces if it begins as a flattened dump
    /// does.
    pub(crate) fn new(file: File, bytes: u64) -> Result<Self, DumpProblem> {
        let mut source = Self { file, bytes, pieces: None, ended: true };
        let mut magic = [0; 16];
        if source.read(0, &mut magic) && magic == FLATTENED {
            source.put_in_order()?;
        }
        Ok(source)
    }

    /// Number of bytes; for a flattened dump, the offset at which its last piece ends.
    pub(crate) fn len(&self) -> u64 {
        match &self.pieces {
            None => self.bytes,
            Some(pieces) => pieces.last().map_or(0, |piece| piece.offset + piece.bytes),
        }
    }

    /// Whether the dump is complete: a flattened one has its end marker.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The underlying file.
    pub(crate) fn into_file(self) -> File {
        self.file
    }

    /// Reads the bytes at an offset; `false` unless all of them exist. Allocates nothing.
    pub(crate) fn read(&self, offset: u64, target: &mut [u8]) -> bool {
        let Some(pieces) = &self.pieces else { return self.read_file(offset, target) };
        let outcome = answer_pieces(offset, target, |at, target| {
            let next = pieces.partition_point(|piece| piece.offset <= at);
            let piece = pieces[next.checked_sub(1).ok_or(ReadOutcome::Failed)?];
            let inside = at - piece.offset;
            let left = piece.bytes.checked_sub(inside).filter(|left| *left > 0);
            let left = usize::try_from(left.ok_or(ReadOutcome::Failed)?).unwrap_or(usize::MAX);
            let length = target.len().min(left);
            let is_read = self.read_file(piece.file_offset + inside, &mut target[..length]);
            is_read.then_some(length).ok_or(ReadOutcome::Failed)
        });
        outcome == ReadOutcome::Read
    }

    fn read_file(&self, offset: u64, target: &mut [u8]) -> bool {
        // The sum cannot wrap unnoticed: `read_at` refuses offsets beyond i64.
        i64::try_from(offset).is_ok() && self.file.read_exact_at(target, offset).is_ok()
    }

    fn put_in_order(&mut self) -> Result<(), DumpProblem> {
        let mut pieces = Vec::new();
        let mut at = FLATTENED_HEADER_BYTES;
        self.ended = false;
        let mut window = Window { file: &self.file, start: 0, bytes: Vec::new() };
        let mut headers = 0;
        while at.saturating_add(PIECE_HEADER_BYTES) <= self.bytes {
            let Some([offset, size]) = window.numbers(at) else { break };
            if offset == -1 && size == -1 {
                self.ended = true;
                break;
            }
            // No writer writes an empty piece, and a sparse file could have any number of them.
            let (Ok(offset), Ok(size @ 1..)) = (u64::try_from(offset), u64::try_from(size)) else {
                return Err(DumpProblem::Header("a piece has an invalid offset or size"));
            };
            headers += 1;
            if headers > PIECES_MAX {
                return Err(DumpProblem::TooLarge("pieces; rearrange it with makedumpfile -R"));
            }
            let file_offset = at + PIECE_HEADER_BYTES;
            let bytes = size.min(self.bytes - file_offset);
            if bytes > 0 {
                if offset.checked_add(bytes).is_none_or(|end| i64::try_from(end).is_err()) {
                    return Err(DumpProblem::Header("a piece has an invalid offset or size"));
                }
                pieces.push(FlattenedPiece { offset, bytes, file_offset });
            }
            match file_offset.checked_add(size) {
                Some(next) if next <= self.bytes => at = next,
                _ => break,
            }
        }
        let pieces = in_order(pieces).ok_or(DumpProblem::TooLarge(
            "overlapping pieces; rearrange it with makedumpfile -R",
        ))?;
        self.pieces = Some(pieces);
        Ok(())
    }
}

/// Sorts pieces; where they overlap, the later one counts. `None` if there are more overlaps than
/// any writer makes.
fn in_order(mut pieces: Vec<FlattenedPiece>) -> Option<Vec<FlattenedPiece>> {
    let mut sorted = pieces.clone();
    sorted.sort_by_key(|piece| piece.offset);
    if sorted.windows(2).all(|pair| pair[0].offset + pair[0].bytes <= pair[1].offset) {
        return Some(sorted);
    }
    drop(sorted);
    let mut steps_left = OVERLAPS_MAX.saturating_add(pieces.len());
    // Only rewritten headers overlap. From the last piece to the first, each fills the remaining
    // gaps.
    let mut taken: BTreeMap<u64, FlattenedPiece> = BTreeMap::new();
    while let Some(piece) = pieces.pop() {
        let end = piece.offset + piece.bytes;
        let mut at = piece.offset;
        if let Some((_, before)) = taken.range(..=at).next_back() {
            at = at.max(before.offset + before.bytes);
        }
        while at < end {
            steps_left = steps_left.checked_sub(1)?;
            let next = taken.range(at..end).next().map(|(_, next)| (next.offset, next.bytes));
            let stop = next.map_or(end, |(offset, _)| offset);
            if stop > at {
                let file_offset = piece.file_offset + (at - piece.offset);
                taken.insert(at, FlattenedPiece { offset: at, bytes: stop - at, file_offset });
            }
            at = next.map_or(end, |(offset, bytes)| offset + bytes);
        }
    }
    Some(taken.into_values().collect())
}

/// A part of the file, read ahead.
struct Window<'f> {
    file: &'f File,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Two numbers at an offset, big endian.
    fn numbers(&mut self, at: u64) -> Option<[i64; 2]> {
        let here = |window: &Self| {
            let from = usize::try_from(at.checked_sub(window.start)?).ok()?;
            let bytes = window.bytes.get(from..from.checked_add(16)?)?;
            let (first, second) = bytes.split_at(8);
            Some([first, second].map(|bytes| bytes.try_into().map_or(0, i64::from_be_bytes)))
        };
        if let Some(numbers) = here(self) {
            return Some(numbers);
        }
        self.start = at;
        self.bytes.resize(READ_AHEAD_BYTES, 0);
        let filled = read_at_most(self.file, at, &mut self.bytes).ok()?;
        self.bytes.truncate(filled);
        here(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn flattened(pieces: &[(i64, i64)]) -> Vec<u8> {
        let mut flat = FLATTENED.to_vec();
        flat.resize(FLATTENED_HEADER_BYTES as usize, 0);
        for (offset, size) in pieces {
            flat.extend(offset.to_be_bytes());
            flat.extend(size.to_be_bytes());
            flat.resize(flat.len() + (*size).max(0) as usize, 1);
        }
        flat
    }

    fn problem(bytes: &[u8], length: u64) -> Option<DumpProblem> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(length).unwrap();
        DumpBytes::new(file, length).err()
    }

    #[test]
    fn empty_pieces_are_refused() {
        let odd = Some(DumpProblem::Header("a piece has an invalid offset or size"));
        let good = flattened(&[(0, 8), (8, 8), (-1, -1)]);
        assert_eq!(problem(&good, good.len() as u64), None);
        let bad = flattened(&[(0, 8), (8, 0), (-1, -1)]);
        assert_eq!(problem(&bad, bad.len() as u64), odd);
        // A hole of a tebibyte.
        assert_eq!(problem(&flattened(&[(0, 8)]), 1 << 40), odd);
    }

    #[test]
    fn overlapping_pieces_are_bounded() {
        let piece = |offset, bytes| FlattenedPiece { offset, bytes, file_offset: 0 };
        // Small separate pieces, written over large ones.
        let small = |count: u64| (0..count).map(move |at| piece(at * 2, 1));
        let large = |count: usize, bytes| std::iter::repeat_n(piece(0, bytes), count);
        let few: Vec<FlattenedPiece> = large(3, 2000).chain(small(1000)).collect();
        let ordered = in_order(few).unwrap();
        assert_eq!(ordered.iter().map(|piece| piece.bytes).sum::<u64>(), 2000);
        let many: Vec<FlattenedPiece> = large(1000, 20_000).chain(small(10_000)).collect();
        assert!(in_order(many).is_none());
    }
}
