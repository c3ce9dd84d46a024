//! A record that is being written.

use super::Version;

/// Writes big-endian numbers into a buffer. What does not fit makes the record fail at its end.
#[derive(Debug)]
pub(super) struct ArgusWordWriter<'a> {
    bytes: &'a mut [u8],
    length: usize,
    is_full: bool,
    version: Version,
}

impl<'a> ArgusWordWriter<'a> {
    pub(super) fn new(bytes: &'a mut [u8], version: Version) -> Self {
        Self { bytes, length: 0, is_full: false, version }
    }

    #[inline]
    pub(super) const fn version(&self) -> Version {
        self.version
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.length..self.length + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.length += bytes.len();
            }
            None => self.is_full = true,
        }
    }

    #[inline]
    pub(super) fn number(&mut self, number: u32) {
        self.bytes(&number.to_be_bytes());
    }

    #[inline]
    pub(super) fn long(&mut self, number: u64) {
        self.bytes(&number.to_be_bytes());
    }

    #[inline]
    pub(super) fn short(&mut self, number: u16) {
        self.bytes(&number.to_be_bytes());
    }

    /// Seconds and microseconds of a time in nanoseconds since 1970. In flow records of version 5,
    /// seconds and nanoseconds.
    #[inline]
    pub(super) fn time(&mut self, time_ns: i64) {
        let unit_ns = if self.version == Version::Five { 1 } else { 1000 };
        self.number(time_ns.div_euclid(1_000_000_000) as u32);
        self.number((time_ns.rem_euclid(1_000_000_000) / unit_ns) as u32);
    }

    /// Fills the last word with zeros.
    #[inline]
    pub(super) fn pad(&mut self) {
        while !self.length.is_multiple_of(4) {
            self.bytes(&[0]);
        }
    }

    /// The header of a part, whose length [`end`](Self::end) writes. Returns where it begins.
    #[inline]
    pub(super) fn begin(&mut self, kind: u8, subtype: u8, qualifier: u8) -> usize {
        let at = self.length;
        self.bytes(&[kind, subtype, qualifier, 0]);
        at
    }

    /// Ends a part: pads it and writes its length in words.
    #[inline]
    pub(super) fn end(&mut self, at: usize) {
        self.pad();
        let words = (self.length - at) / 4;
        if let Some(length) = self.bytes.get_mut(at + 3) {
            *length = words as u8;
        }
    }

    /// Ends the record: writes its length in words at its third byte. `None` if it did not fit.
    pub(super) fn finish(self) -> Option<usize> {
        let words = u16::try_from(self.length / 4).ok()?;
        if self.is_full {
            return None;
        }
        self.bytes.get_mut(2..4)?.copy_from_slice(&words.to_be_bytes());
        Some(self.length)
    }
}
