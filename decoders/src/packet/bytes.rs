//! The bytes of a frame, read from its front, and big-endian numbers.

/// The part of a frame that is not decoded yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameRemainder<'a> {
    /// The captured bytes of it.
    pub(crate) bytes: &'a [u8],
    /// Its length in bytes on the wire.
    pub(crate) length: u32,
}

impl<'a> FrameRemainder<'a> {
    /// Skips `count` bytes; `None` if the capture ends before.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.bytes = self.bytes.get(count..)?;
        self.length = self.length.saturating_sub(count as u32);
        Some(())
    }

    /// Takes an array from the front; `None` if the capture ends within it.
    #[inline]
    pub(crate) fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, bytes) = self.bytes.split_first_chunk()?;
        self.bytes = bytes;
        self.length = self.length.saturating_sub(N as u32);
        Some(head)
    }

    /// The array at the front, which stays there.
    #[inline]
    pub(crate) fn peek<const N: usize>(&self) -> Option<&'a [u8; N]> {
        self.bytes.first_chunk()
    }
}

/// The big-endian number at an offset; `None` behind the end.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The big-endian number at an offset; `None` behind the end.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
