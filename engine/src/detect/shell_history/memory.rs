//! Reads one process's memory a few bytes at a time: for what is done once per program or command.

use panoptes_decoders::address::{PhysicalAddress, UserVa};
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::address::MemoryReader;
use crate::page_cache::MachineMemory;
use crate::walk::Kernel;

/// The memory of one process.
pub(super) struct ProcessMemory<'a> {
    pub(super) source: &'a mut dyn MemorySource,
    pub(super) reader: &'a mut MemoryReader,
    pub(super) kernel: &'a Kernel,
    /// Physical address of its top page table.
    pub(super) root: PhysicalAddress,
}

impl<'a> ProcessMemory<'a> {
    /// The memory of the process with this top page table, read by `reader`.
    pub(super) fn of(
        machine: &'a mut MachineMemory<'_>,
        reader: &'a mut MemoryReader,
        root: PhysicalAddress,
    ) -> Self {
        Self { source: machine.source, reader, kernel: machine.kernel, root }
    }

    /// The memory of the process's machine.
    pub(super) fn machine(&mut self) -> MachineMemory<'_> {
        MachineMemory { source: self.source, kernel: self.kernel }
    }

    /// Reads `length` bytes; `None` if not all of them are in memory.
    pub(super) fn read(&mut self, address: u64, length: u64) -> Option<&[u8]> {
        self.reader.clear();
        self.push(address, length);
        self.run();
        self.object(0)
    }

    /// Reads a 64-bit number.
    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        Some(u64::from_le_bytes(self.read(address, 8)?.try_into().ok()?))
    }

    /// Starts a batch.
    pub(super) fn clear(&mut self) {
        self.reader.clear();
    }

    /// Adds bytes to the batch. Bytes without room in it count as not in memory.
    pub(super) fn push(&mut self, address: u64, length: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let address = UserVa(address);
        let _ = self.reader.push_user(self.kernel.space.levels, self.root, address, length);
    }

    /// Adds a text of at most `limit` bytes: two objects, because the page behind it may not be
    /// mapped.
    pub(super) fn push_text(&mut self, address: u64, limit: u64) {
        let first = (PAGE_BYTES - address % PAGE_BYTES).min(limit);
        self.push(address, first);
        match limit - first {
            0 => self.push(u64::MAX, 1),
            rest => self.push(address.wrapping_add(first), rest),
        }
    }

    pub(super) fn run(&mut self) {
        self.reader.run(&mut self.source, self.kernel.space.levels);
    }

    /// The bytes of an object of the batch.
    pub(super) fn object(&self, index: usize) -> Option<&[u8]> {
        self.reader.object(index)
    }

    /// Copies the text that [`ProcessMemory::push_text`] added as objects `index` and the next into
    /// `out`, up to its NUL. Returns `false` if neither a NUL nor `limit` bytes are in memory.
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
