//! [`Buffer`]: the bytes of a capture, read ahead into memory that never grows.

use std::io::{self, ErrorKind, Read};

use crate::frame::SkippedCounts;

/// Memory of a buffer. The largest record that must be whole in it is a block of pcapng.
pub(crate) const CAPTURE_BUFFER_BYTES: usize = 1 << 20;
/// Bytes read at once: what is read should still be in the processor's cache when it is parsed.
const READ_BYTES: usize = 64 << 10;

/// A reader of any kind, with memory in front.
pub(crate) struct Buffer {
    reader: Box<dyn Read + Send>,
    memory: Box<[u8]>,
    /// Where the bytes begin that were read and not consumed.
    start: usize,
    /// Where they end.
    end: usize,
    /// Offset in the capture of the first byte of the memory.
    base: u64,
    is_ended: bool,
    is_cut: bool,
}

impl Buffer {
    pub(crate) fn new(reader: Box<dyn Read + Send>) -> Self {
        let memory = vec![0; CAPTURE_BUFFER_BYTES].into_boxed_slice();
        Self { reader, memory, start: 0, end: 0, base: 0, is_ended: false, is_cut: false }
    }

    /// The bytes that were read and not consumed.
    #[inline]
    pub(crate) fn window(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// Offset in the capture of the first byte of the window.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Whether the window has `count` bytes; reads until it has, or the capture ends. `count` is
    /// at most the size of the memory.
    #[inline]
    pub(crate) fn has(&mut self, count: usize) -> io::Result<bool> {
        if self.end - self.start >= count { Ok(true) } else { self.fill(count) }
    }

    /// Consumes `count` bytes of the window, or all if it has fewer. Returns where they begin in
    /// the memory; they stay there until more is read.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) -> usize {
        let at = self.start;
        self.start = (at + count).min(self.end);
        at
    }

    /// Bytes of the memory, which were consumed before; empty if they are outside of it.
    #[inline]
    pub(crate) fn consumed(&self, start: usize, length: usize) -> &[u8] {
        self.memory.get(start..start + length).unwrap_or_default()
    }

    /// Skips any number of bytes. If the capture ends before, what it had is counted as cut off.
    pub(crate) fn skip(&mut self, count: u64, skipped: &mut SkippedCounts) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            if !self.has(1)? {
                skipped.cut_bytes += count - left;
                break;
            }
            let step = left.min(self.window().len() as u64);
            self.consume(step as usize);
            left -= step;
        }
        Ok(())
    }

    /// Consumes what is left at the end of the capture: the beginning of a record, or nothing.
    #[cold]
    pub(crate) fn cut(&mut self, skipped: &mut SkippedCounts) {
        skipped.cut_bytes += self.window().len() as u64;
        self.start = self.end;
    }

    /// Reads on behind an end: the reader has more.
    pub(crate) fn go_on(&mut self) {
        self.is_ended = false;
    }

    /// Whether the compressed data ended too early.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    #[cold]
    #[inline(never)]
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        debug_assert!(count <= CAPTURE_BUFFER_BYTES, "callers check lengths");
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.start = 0;
        }
        while self.end < count && !self.is_ended {
            let room = self.end..(self.end + READ_BYTES).min(CAPTURE_BUFFER_BYTES);
            match self.reader.read(&mut self.memory[room]) {
                Ok(0) => self.is_ended = true,
                Ok(read) => self.end = (self.end + read).min(CAPTURE_BUFFER_BYTES),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_early_end(&error) => {
                    self.is_cut = true;
                    self.is_ended = true;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(self.end >= count)
    }
}

/// Whether a decoder reports that its input ended too early. Some wrap the error of their input.
fn is_early_end(error: &io::Error) -> bool {
    let mut next = Some(error as &(dyn std::error::Error + 'static));
    while let Some(error) = next {
        let inner = error.downcast_ref::<io::Error>();
        if inner.is_some_and(|error| error.kind() == ErrorKind::UnexpectedEof) {
            return true;
        }
        next = match inner.and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Trickle;

    #[test]
    fn bytes_stay_in_order_across_refills() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let mut buffer = Buffer::new(Box::new(Trickle::new(bytes.clone(), &[300_000, 7, 1])));
        let (mut at, mut skipped) = (0, SkippedCounts::default());
        while buffer.has(1000).unwrap() {
            assert_eq!(buffer.offset(), at as u64);
            assert_eq!(buffer.window()[..1000], bytes[at..at + 1000]);
            let start = buffer.consume(900);
            assert_eq!(buffer.consumed(start, 900), &bytes[at..at + 900]);
            at += 900;
        }
        assert_eq!(buffer.window(), &bytes[at..]);
        buffer.cut(&mut skipped);
        assert_eq!(skipped.cut_bytes, (bytes.len() - at) as u64);
        assert!(!buffer.has(1).unwrap());
    }

    #[test]
    fn skipping_past_the_end_is_counted() {
        let mut buffer = Buffer::new(Box::new(&[1_u8; 100][..]));
        let mut skipped = SkippedCounts::default();
        buffer.skip(40, &mut skipped).unwrap();
        assert_eq!((buffer.offset(), skipped.cut_bytes), (40, 0));
        buffer.skip(u64::MAX, &mut skipped).unwrap();
        assert_eq!((buffer.offset(), skipped.cut_bytes), (100, 60));
    }

    #[test]
    fn wrapped_ends_are_found() {
        let end = || io::Error::from(ErrorKind::UnexpectedEof);
        assert!(is_early_end(&end()));
        assert!(is_early_end(&io::Error::other(end())));
        assert!(!is_early_end(&io::Error::other("a checksum is wrong")));
    }
}
