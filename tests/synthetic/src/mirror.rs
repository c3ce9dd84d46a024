//! [`Mirror`]: a machine's memory in a file, for a program that maps the file as live memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use panoptes_decoders::source::PAGE_BYTES;

/// Repeats stores in a file, in their order. Consecutive stores to one page are written at once:
/// most of them fill a new object that nothing leads to yet.
#[derive(Debug)]
pub(crate) struct Mirror {
    file: File,
    /// Range of the memory that is not written yet; it does not cross a page.
    waiting: Range<usize>,
}

impl Mirror {
    /// Writes all of `memory` but pages of zeros to an empty file; nothing was stored from the byte
    /// `used` on.
    pub(crate) fn new(file: File, memory: &[u8], used: usize) -> io::Result<Self> {
        file.set_len(memory.len() as u64)?;
        let zeros = [0; PAGE_BYTES as usize];
        let pages = memory[..used.min(memory.len())].chunks(PAGE_BYTES as usize);
        for (number, page) in pages.enumerate() {
            if page != &zeros[..page.len()] {
                file.write_all_at(page, number as u64 * PAGE_BYTES)?;
            }
        }
        Ok(Self { file, waiting: 0..0 })
    }

    /// Repeats a store that `memory` already has.
    pub(crate) fn store(&mut self, memory: &[u8], range: Range<usize>) {
        let page = |at: usize| at as u64 / PAGE_BYTES;
        let is_same_page = !self.waiting.is_empty()
            && page(range.start) == page(self.waiting.start)
            && page(range.end.saturating_sub(1)) == page(self.waiting.start);
        if is_same_page {
            let start = self.waiting.start.min(range.start);
            self.waiting = start..self.waiting.end.max(range.end);
            return;
        }
        self.flush(memory);
        self.waiting = range;
        if page(self.waiting.start) != page(self.waiting.end.saturating_sub(1)) {
            self.flush(memory);
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self, memory: &[u8]) {
        let range = std::mem::take(&mut self.waiting);
        if !range.is_empty() {
            let written = self.file.write_all_at(&memory[range.clone()], range.start as u64);
            written.unwrap_or_else(|why| panic!("the mirror of a machine's memory: {why}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_same_bytes_after_each_flush() {
        let file = tempfile::tempfile().expect("a temporary file");
        let mut memory = vec![0_u8; 4 * PAGE_BYTES as usize];
        memory[5000] = 1;
        let mut mirror = Mirror::new(file.try_clone().expect("a second handle"), &memory, 16_384);
        let mirror = mirror.as_mut().expect("the file can be written");
        let mut rounds = 0;
        for (at, length) in [(10, 8), (20, 8), (4090, 12), (9000, 1), (8192, 4096), (0, 0)] {
            memory[at..at + length].fill(7);
            mirror.store(&memory, at..at + length);
            rounds += 1;
            if rounds % 2 == 0 {
                mirror.flush(&memory);
                let mut bytes = vec![9; memory.len()];
                file.read_exact_at(&mut bytes, 0).expect("the file is as long");
                assert!(bytes == memory, "after {rounds} stores");
            }
        }
    }

    #[test]
    fn stores_to_other_pages_are_written_in_their_order() {
        let file = tempfile::tempfile().expect("a temporary file");
        let mut memory = vec![0_u8; 2 * PAGE_BYTES as usize];
        let mut mirror = Mirror::new(file.try_clone().expect("a second handle"), &memory, 8192)
            .expect("the file can be written");
        memory[100] = 1;
        mirror.store(&memory, 100..101);
        memory[5000] = 2;
        mirror.store(&memory, 5000..5001);
        let byte = |at| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("the file is as long");
            byte[0]
        };
        assert_eq!((byte(100), byte(5000)), (1, 0));
        mirror.flush(&memory);
        assert_eq!(byte(5000), 2);
    }
}
