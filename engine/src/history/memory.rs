//! One process's memory, read a few bytes at a time: for what is done once a program, or once a command.

use panoptes_decoders::address::{PhysicalAddress, UserVa};
use panoptes_decoders::paging::KernelSpace;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::address::Reader;

/// The memory of one process.
pub(super) struct Memory<'a, S> {
    pub(super) source: &'a mut S,
    pub(super) reader: &'a mut Reader,
    pub(super) space: &'a KernelSpace,
    /// Its top page table.
    pub(super) root: PhysicalAddress,
}

impl<S: MemorySource> Memory<'_, S> {
    /// Reads so many bytes; `None` where not all of them are in memory.
    pub(super) fn read(&mut self, address: u64, length: u64) -> Option<&[u8]> {
        self.reader.clear();
        self.push(address, length);
        self.run();
        self.object(0)
    }

    /// Reads a number of eight bytes.
    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.read(address, 8)?.try_into().ok()?))
    }

    /// Begins a batch.
    pub(super) fn clear(&mut self) {
        self.reader.clear();
    }

    /// Adds bytes to the batch. What has no room is as if it were not in memory.
    pub(super) fn push(&mut self, address: u64, length: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let address = UserVa(address);
        let _ = self.reader.push_user(self.space.levels, self.root, address, length);
    }

    /// Adds a text of at most `limit` bytes: two objects, because the page behind it need not be there.
    pub(super) fn push_text(&mut self, address: u64, limit: u64) {
        let first = (PAGE_BYTES - address % PAGE_BYTES).min(limit);
        self.push(address, first);
        match limit - first {
            0 => self.push(u64::MAX, 1),
            rest => self.push(address.wrapping_add(first), rest),
        }
    }

    /// Reads the batch.
    pub(super) fn run(&mut self) {
        self.reader.run(self.source, self.space.levels);
    }

    /// The bytes of an object of the batch.
    pub(super) fn object(&self, index: usize) -> Option<&[u8]> {
        self.reader.object(index)
    }

    /// Copies the text that [`Memory::push_text`] added as objects `index` and the next into `out`, as far as its NUL;
    /// `false` where that is not in memory and less than `limit` bytes are.
    pub(super) fn text(&self, index: usize, limit: u64, out: &mut Vec<u8>) -> bool {
        out.clear();
        for piece in [index, index + 1] {
            let Some(bytes) = self.object(piece) else { break };
            let end = bytes.iter().position(|&byte| byte == 0);
            let room = out.capacity() - out.len();
            let length = end.unwrap_or(bytes.len()).min(room);
            out.extend_from_slice(&bytes[..length]);
            if end.is_some() {
                return true;
            }
        }
        out.len() as u64 == limit.min(out.capacity() as u64)
    }
}
