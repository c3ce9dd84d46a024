//! Blocks of memory with entries, allocated once.

use std::hint::black_box;

use panoptes_records::record::RECORD_BYTES_MAX;
use xxhash_rust::xxh3::Xxh3Default;

/// Length of a block, and maximum length of an entry with its head.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Sequence, stamp, length and check before each entry.
pub(super) const HEAD_BYTES: usize = CHECK_AT + 4;
/// A hash of all the rest of an entry, for the way over a disk.
const CHECK_AT: usize = 8 + 8 + 4;
const _: () = assert!(HEAD_BYTES + RECORD_BYTES_MAX <= BLOCK_BYTES, "a block holds any record");

/// The smallest page of any machine.
const SMALLEST_PAGE_BYTES: usize = 4096;

/// An entry of a backlog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BacklogEntry<'b> {
    /// Later entries have higher numbers.
    pub sequence: u64,
    /// What was passed with it, such as a time.
    pub stamp: u64,
    pub bytes: &'b [u8],
}

/// The memory of a backlog.
#[derive(Debug)]
pub(super) struct BacklogMemory {
    bytes: Box<[u8]>,
    free: Vec<BacklogSlot>,
}

/// The number of a block of memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct BacklogSlot(u32);

impl BacklogMemory {
    /// Has all of its pages: the writer must not wait for the kernel to find them when a receiver
    /// goes away, which takes seconds on a virtual machine whose host has taken free memory back.
    pub(super) fn new(slots: usize) -> Self {
        let mut bytes = vec![0; slots * BLOCK_BYTES].into_boxed_slice();
        for byte in bytes.iter_mut().step_by(SMALLEST_PAGE_BYTES) {
            *byte = black_box(0);
        }
        Self { bytes, free: (0..slots as u32).map(BacklogSlot).collect() }
    }

    pub(super) fn slots(&self) -> usize {
        self.bytes.len() / BLOCK_BYTES
    }

    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    pub(super) fn take(&mut self) -> Option<BacklogSlot> {
        self.free.pop()
    }

    pub(super) fn release(&mut self, slot: BacklogSlot) {
        debug_assert!(!self.free.contains(&slot));
        self.free.push(slot);
    }

    pub(super) fn bytes(&self, slot: BacklogSlot) -> &[u8] {
        &self.bytes[slot.0 as usize * BLOCK_BYTES..][..BLOCK_BYTES]
    }

    pub(super) fn bytes_mut(&mut self, slot: BacklogSlot) -> &mut [u8] {
        &mut self.bytes[slot.0 as usize * BLOCK_BYTES..][..BLOCK_BYTES]
    }

    /// Writes an entry, for which there must be room, at a place of a block. It is passed in
    /// pieces.
    pub(super) fn write(
        &mut self,
        slot: BacklogSlot,
        offset: usize,
        head: (u64, u64),
        pieces: &[&[u8]],
    ) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut rest = &mut self.bytes_mut(slot)[offset..offset + HEAD_BYTES + length];
        let (sequence, stamp) = (head.0.to_le_bytes(), head.1.to_le_bytes());
        let head: [&[u8]; 4] = [&sequence, &stamp, &(length as u32).to_le_bytes(), &[0; 4]];
        for piece in head.iter().chain(pieces) {
            let (room, after) = rest.split_at_mut(piece.len());
            room.copy_from_slice(piece);
            rest = after;
        }
    }

    /// The entry at a place before the end of a block.
    pub(super) fn entry(&self, slot: BacklogSlot, offset: usize) -> Option<BacklogEntry<'_>> {
        entry_at(&self.bytes(slot)[offset..])
    }

    /// Adds the checks of the entries in a part of a block; returns its bytes.
    pub(super) fn seal(&mut self, slot: BacklogSlot, start: usize, end: usize) -> &[u8] {
        let bytes = &mut self.bytes_mut(slot)[start..end];
        let mut offset = 0;
        while let Some(length) = entry_at(&bytes[offset..]).map(|entry| entry.bytes.len()) {
            let end = offset + HEAD_BYTES + length;
            let check = check(&bytes[offset..end]);
            bytes[offset + CHECK_AT..offset + HEAD_BYTES].copy_from_slice(&check);
            offset = end;
        }
        bytes
    }
}

fn entry_at(bytes: &[u8]) -> Option<BacklogEntry<'_>> {
    let (sequence, bytes) = bytes.split_first_chunk()?;
    let (stamp, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let bytes = bytes.get(HEAD_BYTES - CHECK_AT..)?;
    Some(BacklogEntry {
        sequence: u64::from_le_bytes(*sequence),
        stamp: u64::from_le_bytes(*stamp),
        bytes: bytes.get(..u32::from_le_bytes(*length) as usize)?,
    })
}

/// The check of an entry, whose head and bytes these are.
fn check(bytes: &[u8]) -> [u8; 4] {
    let mut hash = Xxh3Default::new();
    hash.update(&bytes[..CHECK_AT]);
    hash.update(&bytes[HEAD_BYTES..]);
    (hash.digest() as u32).to_le_bytes()
}

/// Moves up to `count` entries, from the sequence `first` on, to the start of a file's bytes: those
/// before a damaged one. Returns their number and their length.
pub(super) fn keep_whole(bytes: &mut [u8], first: u64, count: usize) -> (usize, usize) {
    let (mut entries, mut start, mut end) = (0, 0, 0);
    let mut expected = 0;
    while let Some(entry) = entry_at(&bytes[end..]).filter(|_| entries < count) {
        let sequence = entry.sequence;
        let next = end + HEAD_BYTES + entry.bytes.len();
        let checked = &bytes[end..next];
        if sequence < expected || check(checked) != checked[CHECK_AT..HEAD_BYTES] {
            break;
        }
        expected = sequence.saturating_add(1);
        end = next;
        if sequence < first {
            start = end;
        } else {
            entries += 1;
        }
    }
    bytes.copy_within(start..end, 0);
    (entries, end - start)
}
