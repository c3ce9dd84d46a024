//! [`MigrationStream`]: the bytes of a migration stream in order, big endian.

use crate::dump::DumpProblem;
use crate::dump::bytes::DumpBytes;

/// Number of bytes that are read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Why reading stops.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stop {
    /// The file ends.
    Cut,
    Problem(DumpProblem),
}

impl From<DumpProblem> for Stop {
    fn from(problem: DumpProblem) -> Self {
        Self::Problem(problem)
    }
}

/// Makes the error of bytes that no writer writes.
pub(super) const fn damage(what: &'static str) -> Stop {
    Stop::Problem(DumpProblem::Header(what))
}

/// A place in the stream.
pub(super) struct MigrationStream<'f> {
    file: &'f DumpBytes,
    at: u64,
    /// A part of the file, and the offset of its first byte.
    window: Vec<u8>,
    start: u64,
}

impl<'f> MigrationStream<'f> {
    pub(super) fn new(file: &'f DumpBytes, at: u64) -> Self {
        Self { file, at, window: Vec::new(), start: 0 }
    }

    /// Offset in the file of the next byte.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Continues at another offset.
    pub(super) fn go_to(&mut self, at: u64) {
        self.at = at;
    }

    /// The file, for bytes that are not in order.
    pub(super) fn file(&self) -> &'f DumpBytes {
        self.file
    }

    /// Passes bytes by; they must exist.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Stop> {
        let end = self.at.checked_add(bytes).filter(|end| *end <= self.file.len());
        self.at = end.ok_or(Stop::Cut)?;
        Ok(())
    }

    pub(super) fn number<const N: usize>(&mut self) -> Result<u64, Stop> {
        let value = self.next_number::<N>()?;
        self.at += N as u64;
        Ok(value)
    }

    /// The next number of `N` bytes, which stays the next.
    pub(super) fn next_number<const N: usize>(&mut self) -> Result<u64, Stop> {
        let bytes: [u8; N] = self.next_bytes(N)?.try_into().map_err(|_| Stop::Cut)?;
        Ok(bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A text behind its length in one byte.
    pub(super) fn name(&mut self) -> Result<Vec<u8>, Stop> {
        let length = self.number::<1>()?;
        self.text(length as usize)
    }

    /// A text of a known length.
    pub(super) fn text(&mut self, length: usize) -> Result<Vec<u8>, Stop> {
        let text = self.next_bytes(length)?.to_vec();
        self.at += length as u64;
        Ok(text)
    }

    /// The next bytes, which stay the next.
    fn next_bytes(&mut self, count: usize) -> Result<&[u8], Stop> {
        let end = self.at.checked_add(count as u64).ok_or(Stop::Cut)?;
        if self.at < self.start || end > self.start + self.window.len() as u64 {
            let left = self.file.len().saturating_sub(self.at);
            let length = left.min(WINDOW_BYTES.max(count) as u64) as usize;
            if length < count {
                return Err(Stop::Cut);
            }
            self.window.resize(length, 0);
            self.start = self.at;
            if !self.file.read(self.at, &mut self.window) {
                self.window.clear();
                return Err(Stop::Cut);
            }
        }
        let from = (self.at - self.start) as usize;
        Ok(&self.window[from..from + count])
    }
}
