//! Reads all blobs of one of rpm's own databases, `Packages.db` (SUSE), without a lock and without
//! changes.
//!
//! Format (lib/backend/ndb/rpmpkg.c of rpm): a header of 32 bytes, slots of 16 bytes behind it to
//! the end of a number of pages, and blobs anywhere behind those, in blocks of 16 bytes. A slot
//! names its blob's number, first block and number of blocks. All numbers are little-endian. Every
//! slot is read once, and blobs have no more blocks than the file, so the work is bounded by its
//! size.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use adler2::adler32_slice;

use super::{BLOB_BYTES_MAX, reading};
use crate::error::SbomError;

/// First bytes of a database, of a slot, of a blob, and of what ends a blob.
const MAGIC: &[u8; 4] = b"RpmP";
const SLOT_MAGIC: &[u8; 4] = b"Slot";
const BLOB_MAGIC: &[u8; 4] = b"BlbS";
const END_MAGIC: &[u8; 4] = b"BlbE";
const VERSION: u32 = 0;

const NDB_HEADER_BYTES: usize = 32;
/// Slots are in pages of this size, and the header is in the place of the first two.
const NDB_PAGE_BYTES: usize = 4096;
const SLOT_BYTES: usize = 16;
const BLOCK_BYTES: u64 = 16;
const _: () = {
    assert!(NDB_HEADER_BYTES == 2 * SLOT_BYTES);
    assert!(NDB_PAGE_BYTES.is_multiple_of(SLOT_BYTES), "no slot is in two pages");
    assert!((NDB_PAGE_BYTES as u64).is_multiple_of(BLOCK_BYTES), "blobs begin behind a page");
};
const BLOB_HEADER_BYTES: usize = 16;
const BLOB_END_BYTES: usize = 12;

/// Where a blob is.
#[derive(Clone, Copy)]
struct NdbSlot {
    number: u32,
    first_block: u32,
    blocks: u32,
}

fn damaged(what: &str) -> SbomError {
    SbomError::content(format!("is a damaged ndb database: {what}"))
}

/// The number at an index, counted in numbers.
fn number(bytes: &[u8], index: usize) -> u32 {
    let (numbers, _) = bytes.as_chunks();
    numbers.get(index).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Calls `blob` with each blob, until that fails.
pub(super) fn blobs(
    file: &File,
    blob: &mut dyn FnMut(&[u8]) -> Result<(), SbomError>,
) -> Result<(), SbomError> {
    let mut header = [0; NDB_HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(|_| damaged("it has no header"))?;
    if !header.starts_with(MAGIC) {
        return Err(damaged("it has another magic"));
    }
    if number(&header, 1) != VERSION {
        return Err(damaged("it has another version than any of rpm's"));
    }
    let file_blocks = file.metadata().map_err(reading)?.len() / BLOCK_BYTES;
    let pages = number(&header, 3);
    let first_block = u64::from(pages) * (NDB_PAGE_BYTES as u64 / BLOCK_BYTES);
    if pages == 0 || first_block > file_blocks {
        return Err(damaged("it has fewer pages than its header says"));
    }
    let mut blocks_left = file_blocks - first_block;
    let mut seen = HashSet::new();
    let mut page = vec![0; NDB_PAGE_BYTES];
    let mut bytes = Vec::new();
    for index in 0..u64::from(pages) {
        file.read_exact_at(&mut page, index * NDB_PAGE_BYTES as u64).map_err(reading)?;
        let begin = if index == 0 { NDB_HEADER_BYTES } else { 0 };
        for slot in page[begin..].chunks_exact(SLOT_BYTES) {
            if !slot.starts_with(SLOT_MAGIC) {
                return Err(damaged("a slot has another magic"));
            }
            let [number, first, blocks] = [1, 2, 3].map(|index| number(slot, index));
            if first == 0 {
                // It is free.
                continue;
            }
            let slot = NdbSlot { number, first_block: first, blocks };
            let end = u64::from(first) + u64::from(blocks);
            if number == 0 || u64::from(first) < first_block || end > file_blocks {
                return Err(damaged("a slot has no number, or blocks outside the file"));
            }
            if !seen.insert(number) {
                return Err(damaged("two slots have one number"));
            }
            let left = blocks_left.checked_sub(blocks.into());
            blocks_left = left.ok_or_else(|| damaged("its blobs are larger than the file"))?;
            blob(content(file, slot, &mut bytes)?)?;
        }
    }
    Ok(())
}

/// Reads a blob: a header, the content, zeros, and an end.
fn content<'b>(file: &File, slot: NdbSlot, bytes: &'b mut Vec<u8>) -> Result<&'b [u8], SbomError> {
    let size = u64::from(slot.blocks) * BLOCK_BYTES;
    if size > BLOB_BYTES_MAX {
        return Err(damaged("a blob is larger than any of rpm's"));
    }
    bytes.resize(size as usize, 0);
    let at = u64::from(slot.first_block) * BLOCK_BYTES;
    file.read_exact_at(bytes, at).map_err(reading)?;
    let cut = || damaged("a blob is too small");
    let end_at = bytes.len().checked_sub(BLOB_END_BYTES).ok_or_else(cut)?;
    let (rest, end) = bytes.split_at(end_at);
    let (header, data) = rest.split_at_checked(BLOB_HEADER_BYTES).ok_or_else(cut)?;
    let length = number(header, 3) as usize;
    let has_magics = header.starts_with(BLOB_MAGIC) && end.ends_with(END_MAGIC);
    if !has_magics || number(header, 1) != slot.number || number(end, 1) as usize != length {
        return Err(damaged("a blob is not that of its slot"));
    }
    // Adler-32 (RFC 1950, 8.2).
    if number(end, 0) != adler32_slice(rest) {
        return Err(damaged("a blob has another checksum"));
    }
    data.get(..length).ok_or_else(cut)
}

#[cfg(test)]
pub(super) mod tests;
