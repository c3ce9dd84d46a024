//! [`Order`]: numbers in either byte order.

/// The byte order of a file or of a section.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    /// The 16-bit number at an index; zero if it is outside of the bytes.
    #[inline]
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(array(bytes, at)),
            Self::Big => u16::from_be_bytes(array(bytes, at)),
        }
    }

    /// The 32-bit number at an index; zero if it is outside of the bytes.
    #[inline]
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(array(bytes, at)),
            Self::Big => u32::from_be_bytes(array(bytes, at)),
        }
    }

    /// The 64-bit number at an index; zero if it is outside of the bytes.
    #[inline]
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(array(bytes, at)),
            Self::Big => u64::from_be_bytes(array(bytes, at)),
        }
    }
}

#[inline]
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    debug_assert!(found.is_some(), "callers check lengths");
    found.copied().unwrap_or([0; N])
}

/// Nanoseconds since 1970 of seconds and nanoseconds, at most 2^32 microseconds of them.
#[inline]
pub(crate) fn nanoseconds(seconds: u32, more_ns: u64) -> i64 {
    // 2^32 s are 4.3e18 ns: there is room for the rest.
    i64::from(seconds) * 1_000_000_000 + more_ns as i64
}
