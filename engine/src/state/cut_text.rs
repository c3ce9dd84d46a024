//! The beginning of a name that is longer than its share, with a hash of all of it.
//!
//! The hash tells apart names with the same beginning, and shows that the name is cut: `~` and 16
//! hexadecimal digits end it. A guest can make names that look like that; a record with such a name
//! is no proof that the name was cut.

use arrayvec::ArrayVec;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the hash, and of the sign before it.
const HASH_BYTES: usize = 17;
/// Bytes to which a name can be cut and still has a beginning.
pub(super) const CUT_BYTES_MIN: usize = 24;
/// Bytes of the longest name that is cut.
const CUT_BYTES_MAX: usize = 256;

/// A name that is cut.
#[derive(Clone, Debug)]
pub(super) struct CutText(ArrayVec<u8, CUT_BYTES_MAX>);

impl CutText {
    /// Cuts a name to `longest` bytes, at least a hash. A shorter one stays as it is.
    pub(super) fn new(text: &[u8], longest: usize) -> Self {
        let longest = longest.clamp(HASH_BYTES, CUT_BYTES_MAX);
        let mut cut = ArrayVec::new();
        if text.len() <= longest {
            cut.extend(text.iter().copied());
            return Self(cut);
        }
        let mut start = longest - HASH_BYTES;
        // Not in the middle of a character.
        while start > 0 && text[start] & 0xc0 == 0x80 {
            start -= 1;
        }
        cut.extend(text[..start].iter().copied());
        cut.push(b'~');
        let hash = xxh3_64(text);
        let digit = |place: u32| b"0123456789abcdef"[(hash >> (60 - place * 4) & 0xf) as usize];
        cut.extend((0..16).map(digit));
        Self(cut)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_the_same_beginning_differ_and_are_marked() {
        let name = |last: &str| format!("/{}{last}", "a".repeat(100)).into_bytes();
        let cut = |last: &str| CutText::new(&name(last), 40).bytes().to_vec();
        assert_eq!(cut("b").len(), 40);
        assert_eq!(cut("b")[..24], *b"/aaaaaaaaaaaaaaaaaaaaaa~");
        assert_ne!(cut("b"), cut("c"));
        assert_eq!(CutText::new(b"/usr/bin/bash", 40).bytes(), b"/usr/bin/bash");
        assert_eq!(CutText::new(&name("b"), 0).bytes().len(), HASH_BYTES);
        let wide = "\u{20ac}".repeat(50);
        let text = CutText::new(wide.as_bytes(), 40);
        assert!(core::str::from_utf8(text.bytes()).is_ok());
    }
}
