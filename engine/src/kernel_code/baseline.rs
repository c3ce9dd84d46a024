//! What the kernel's code and read-only data were when they were seen first, as hashes.

use core::ops::Range;

use panoptes_tables::{HashKey, room};

/// Maximum number of blocks of each.
pub(super) const BLOCKS_MAX: usize = 8192;
/// Least bytes of a block. Blocks are larger where there is more code.
const BLOCK_BYTES_MIN: u64 = 1024;

/// The hashes of one block of code.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct CodeBlock {
    /// All bytes, as they were seen last and were legal.
    pub(super) whole: u32,
    /// The bytes that nothing may change.
    pub(super) fixed: u32,
}

/// The hashes of one machine's kernel.
#[derive(Debug)]
pub(super) struct Baseline {
    /// Blocks of code, in the order of addresses.
    pub(super) code: Vec<CodeBlock>,
    /// Hashes of read-only data.
    pub(super) data: Vec<u32>,
    /// Secret from the machine.
    pub(super) key: HashKey,
}

impl Baseline {
    pub(super) fn new(key: HashKey) -> Self {
        Self { code: room::list(BLOCKS_MAX), data: room::list(BLOCKS_MAX), key }
    }
}

/// The hash of some bytes.
pub(super) fn hash_with(key: HashKey, bytes: &[u8]) -> u32 {
    key.hash(bytes) as u32
}

/// Bytes of code that are read and compared at once.
pub(super) const CODE_WINDOW_BYTES: usize = 1 << 20;
/// Bytes of a window before and behind these.
pub(super) const MARGIN: u64 = 8;
const WITH_MARGINS: usize = CODE_WINDOW_BYTES + 2 * MARGIN as usize;

/// A window of code, with a bit for each byte that may be patched.
#[derive(Debug)]
pub(super) struct CodeWindow {
    code: Box<[u8]>,
    masks: Box<[u64]>,
}

impl CodeWindow {
    pub(super) fn new() -> Self {
        Self {
            code: room::copies(0, WITH_MARGINS),
            masks: room::copies(0, WITH_MARGINS.div_ceil(64)),
        }
    }

    /// Takes the bytes and the masks, which [`Self::put`] returns.
    pub(super) fn take(&mut self) -> (Box<[u8]>, Box<[u64]>) {
        (core::mem::take(&mut self.code), core::mem::take(&mut self.masks))
    }

    pub(super) fn put(&mut self, code: Box<[u8]>, masks: Box<[u64]>) {
        (self.code, self.masks) = (code, masks);
    }

    /// The bytes in a range; fewer where there are none.
    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.code.get(range).unwrap_or(&[])
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.code.get(at).copied().unwrap_or(0)
    }

    /// Sets bytes from a place on.
    pub(super) fn set(&mut self, at: usize, bytes: &[u8]) {
        let to = self.code.get_mut(at..).unwrap_or(&mut []);
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Whether a byte may be patched.
    pub(super) fn is_masked(&self, at: usize) -> bool {
        self.masks.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 != 0)
    }
}

/// Bytes of a block, so that all blocks of so many bytes have room: a power of two.
pub(super) const fn block_bytes(bytes: u64) -> u64 {
    let mut block = BLOCK_BYTES_MIN;
    while bytes.div_ceil(block) > BLOCKS_MAX as u64 {
        block *= 2;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_with_the_code() {
        assert_eq!(block_bytes(1), 1024);
        assert_eq!(block_bytes(8 << 20), 1024);
        assert_eq!(block_bytes((8 << 20) + 1), 2048);
        assert_eq!(block_bytes(20 << 20), 4096);
    }
}
