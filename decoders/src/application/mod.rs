//! Application protocols: what the first data bytes of a connection say about it.
//!
//! [`tls`] has the hellos of TLS and their fingerprint, [`dtls`] the fragments that carry them in
//! datagrams, [`dns`] messages, [`http`] the heads of HTTP/1, [`ssh`] the banner, [`quic`] the
//! headers that QUIC does not encrypt.
//!
//! A decoder takes the data of one TCP segment or one UDP datagram and gives views of it. It
//! reassembles nothing. Data may end anywhere: a decoder gives what it could read, and the result
//! says whether that is all.
//!
//! Every length comes from a stranger. Each function checks it, takes a bounded number of steps and
//! allocates nothing. Text from the network stays bytes: it need not be UTF-8, and may contain
//! control characters.

pub mod dns;
pub mod dtls;
pub mod http;
pub mod quic;
pub mod ssh;
pub mod tls;

/// Bytes that are read from the front. A function gives `None` if they end too early, and then
/// takes nothing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct WireReader<'a> {
    pub(crate) bytes: &'a [u8],
}

impl<'a> WireReader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*head)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(head)
    }

    /// Takes `length` bytes, or all if there are fewer.
    #[inline]
    pub(crate) fn take_up_to(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        head
    }

    /// Takes a vector behind its length of one byte.
    #[inline]
    pub(crate) fn vector8(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let length = ahead.u8()?;
        let vector = ahead.take(usize::from(length))?;
        *self = ahead;
        Some(vector)
    }

    /// Takes a vector behind its length of two bytes.
    #[inline]
    pub(crate) fn vector16(&mut self) -> Option<&'a [u8]> {
        let mut ahead = *self;
        let length = ahead.u16()?;
        let vector = ahead.take(usize::from(length))?;
        *self = ahead;
        Some(vector)
    }
}

/// Bytes without the spaces and tabs around them.
pub(crate) fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A line without its end, LF or CR LF, and what follows it; `None` if no line ends here.
pub(crate) fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}
