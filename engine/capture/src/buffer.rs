//! A buffer over a reader.

use std::io::{ErrorKind, Read, Result};

/// Bytes that one read asks for at most, and so the most that can be looked at in one piece.
const BYTES: usize = 1 << 20;

/// Reads large blocks, and shows what comes next in one piece.
pub(crate) struct Buffer {
    reader: Box<dyn Read + Send>,
    bytes: Box<[u8]>,
    begin: usize,
    end: usize,
    /// Offset in the file of the first byte that was not taken.
    offset: u64,
    has_ended: bool,
}

impl Buffer {
    pub(crate) fn new(reader: Box<dyn Read + Send>) -> Self {
        let bytes = vec![0; BYTES].into_boxed_slice();
        Self { reader, bytes, begin: 0, end: 0, offset: 0, has_ended: false }
    }

    /// Offset in the file of what comes next.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Makes sure that `count` bytes are there, at most the buffer's size; `false` if the file
    /// ends before.
    #[inline]
    pub(crate) fn has(&mut self, count: usize) -> Result<bool> {
        if self.end - self.begin >= count { Ok(true) } else { self.fill(count) }
    }

    /// The bytes that are there.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.begin..self.end]
    }

    /// Goes behind bytes that are there.
    #[inline]
    pub(crate) fn pass(&mut self, count: usize) {
        self.begin += count.min(self.end - self.begin);
        self.offset += count as u64;
    }

    /// The last bytes that were passed.
    #[inline]
    pub(crate) fn passed(&self, count: usize) -> &[u8] {
        &self.bytes[self.begin.saturating_sub(count)..self.begin]
    }

    #[cold]
    fn fill(&mut self, count: usize) -> Result<bool> {
        if count > self.bytes.len() {
            return Ok(false);
        }
        self.bytes.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        while self.end < count && !self.has_ended {
            match self.reader.read(&mut self.bytes[self.end..]) {
                Ok(0) => self.has_ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.end >= count)
    }
}

/// Shows no content.
impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("offset", &self.offset).finish_non_exhaustive()
    }
}
