//! Big-endian numbers from the front of a datagram.

/// Unread rest of a datagram, or of a part of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DatagramReader<'a> {
    bytes: &'a [u8],
}

impl<'a> DatagramReader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) const fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes an array from the front; `None` if the end is before.
    #[inline]
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*head)
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    #[inline]
    pub(super) fn short(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    /// Takes `count` bytes from the front; `None` if there are fewer.
    #[inline]
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(head)
    }

    /// Takes `count` bytes, or all if there are fewer. Also says whether there were enough.
    #[inline]
    pub(super) fn part(&mut self, count: usize) -> (DatagramReader<'a>, bool) {
        let (head, rest) = self.bytes.split_at(count.min(self.bytes.len()));
        self.bytes = rest;
        (DatagramReader::new(head), head.len() == count)
    }
}
