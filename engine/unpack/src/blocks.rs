//! Formats with blocks that are unpacked as a whole.

use std::io::{self, Read};

/// Unpacks one block after the other.
pub(crate) trait Unpack {
    /// Replaces `block` by the next one; `false` at the end.
    fn next_block(&mut self, block: &mut Vec<u8>) -> io::Result<bool>;
}

/// Reads the bytes of all blocks.
pub(crate) struct BlockReader<U> {
    input: U,
    block: Vec<u8>,
    at: usize,
    has_ended: bool,
}

impl<U: Unpack> BlockReader<U> {
    pub(crate) fn new(input: U) -> Self {
        Self { input, block: Vec::new(), at: 0, has_ended: false }
    }
}

impl<U: Unpack> Read for BlockReader<U> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            self.at = 0;
            self.block.clear();
            // What follows the last block is not read.
            self.has_ended = self.has_ended || !self.input.next_block(&mut self.block)?;
            if self.has_ended {
                return Ok(0);
            }
        }
        let rest = self.block.get(self.at..).unwrap_or(&[]);
        let count = rest.len().min(target.len());
        target[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
