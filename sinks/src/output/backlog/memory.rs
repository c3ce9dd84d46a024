//! Blocks of memory with entries, allocated once.

/// Length of a block, and maximum length of an entry with its head.
pub(super) const BLOCK_BYTES: usize = 64 * 1024;

/// Sequence, stamp and length before each entry.
pub(super) const HEAD_BYTES: usize = 8 + 8 + 4;

/// An entry of a backlog.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'b> {
    /// Later entries have higher numbers.
    pub sequence: u64,
    /// What was passed with it, such as a time.
    pub stamp: u64,
    pub bytes: &'b [u8],
}

/// All blocks of a backlog.
#[derive(Debug)]
pub(super) struct Blocks {
    bytes: Box<[u8]>,
    filled: Box<[Filled]>,
    free: Vec<u32>,
}

/// How much of a block is in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    pub(super) length: usize,
    /// Entries that are not confirmed.
    pub(super) entries: usize,
}

impl Blocks {
    pub(super) fn new(count: usize) -> Self {
        Self {
            bytes: vec![0; count * BLOCK_BYTES].into_boxed_slice(),
            filled: vec![Filled::default(); count].into_boxed_slice(),
            free: (0..count as u32).collect(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.filled.len()
    }

    pub(super) fn take_free(&mut self) -> Option<u32> {
        self.free.pop()
    }

    /// Empties a block for others to take; returns what was in it.
    pub(super) fn release(&mut self, block: u32) -> Filled {
        self.free.push(block);
        std::mem::take(&mut self.filled[block as usize])
    }

    pub(super) fn length(&self, block: u32) -> usize {
        self.filled[block as usize].length
    }

    /// Adds an entry, for which there must be room, to a block. It is passed in pieces.
    pub(super) fn push(&mut self, block: u32, sequence: u64, stamp: u64, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let filled = &mut self.filled[block as usize];
        let start = block as usize * BLOCK_BYTES + filled.length;
        filled.length += HEAD_BYTES + length;
        filled.entries += 1;
        debug_assert!(filled.length <= BLOCK_BYTES);
        let mut rest = &mut self.bytes[start..start + HEAD_BYTES + length];
        let head: [&[u8]; 3] =
            [&sequence.to_le_bytes(), &stamp.to_le_bytes(), &(length as u32).to_le_bytes()];
        for piece in head.iter().chain(pieces) {
            let (room, after) = rest.split_at_mut(piece.len());
            room.copy_from_slice(piece);
            rest = after;
        }
    }

    /// The entry at this place of a block, if there is one.
    pub(super) fn entry(&self, block: u32, offset: usize) -> Option<Entry<'_>> {
        let start = block as usize * BLOCK_BYTES;
        let bytes = &self.bytes[start + offset..start + self.length(block)];
        let (sequence, bytes) = bytes.split_first_chunk()?;
        let (stamp, bytes) = bytes.split_first_chunk()?;
        let (length, bytes) = bytes.split_first_chunk()?;
        Some(Entry {
            sequence: u64::from_le_bytes(*sequence),
            stamp: u64::from_le_bytes(*stamp),
            bytes: bytes.get(..u32::from_le_bytes(*length) as usize)?,
        })
    }

    /// Counts an entry of a block as confirmed; returns how many are not.
    pub(super) fn confirm(&mut self, block: u32) -> usize {
        let filled = &mut self.filled[block as usize];
        filled.entries -= 1;
        filled.entries
    }
}
