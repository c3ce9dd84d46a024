//! The beginning of a name that is longer than its share, with a hash of all of it.
//!
//! The hash tells apart names with the same beginning, and shows that the name is cut: `~` and 16
//! hexadecimal digits end it. A guest can make names that look like that; a record with such a name
//! is no proof that the name was cut.

use xxhash_rust::xxh3::xxh3_64;

/// Bytes of the hash, and of the sign before it.
const HASH_BYTES: usize = 17;
/// Bytes to which a name can be cut and still has a beginning.
pub const CUT_BYTES_MIN: usize = 24;
/// Bytes of the longest name that is cut.
const CUT_BYTES_MAX: usize = 256;
/// Bytes of a character in UTF-8 after its first.
const MORE_BYTES_MAX: usize = 3;

/// A name that is cut.
#[derive(Clone, Debug)]
pub struct CutText {
    bytes: [u8; CUT_BYTES_MAX],
    length: usize,
}

impl CutText {
    /// Cuts a name to `longest` bytes, at least a hash. A shorter one stays as it is, if it has no
    /// more than 256 bytes.
    pub fn new(text: &[u8], longest: usize) -> Self {
        let longest = longest.clamp(HASH_BYTES, CUT_BYTES_MAX);
        let mut cut = Self { bytes: [0; CUT_BYTES_MAX], length: 0 };
        if text.len() <= longest {
            cut.push(text);
            return cut;
        }
        cut.push(&text[..whole_characters(text, longest - HASH_BYTES)]);
        // Not the key of a table: the name is reported.
        let hash = xxh3_64(text);
        let digit = |place: usize| b"0123456789abcdef"[(hash >> (60 - place * 4) & 0xf) as usize];
        cut.push(b"~");
        cut.push(&core::array::from_fn::<u8, 16, _>(digit));
        cut
    }

    /// Cuts a text to `longest` bytes, at most 256, and adds no hash: that of a command line would
    /// help to guess a secret in it.
    pub fn beginning(text: &[u8], longest: usize) -> Self {
        let longest = longest.min(CUT_BYTES_MAX);
        let mut cut = Self { bytes: [0; CUT_BYTES_MAX], length: 0 };
        cut.push(text.get(..longest).unwrap_or(text));
        cut
    }

    /// Adds bytes, for which there is room.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        self.bytes[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The largest length up to `most` that ends no text inside a character. Bytes that are no UTF-8
/// have no characters.
fn whole_characters(text: &[u8], most: usize) -> usize {
    let is_inside = |at: &usize| text[*at] & 0xc0 == 0x80;
    let least = most.saturating_sub(MORE_BYTES_MAX);
    (least..=most).rev().find(|at| !is_inside(at)).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert_eq!(CutText::beginning(&name("b"), 40).bytes(), &name("b")[..40]);
        assert_eq!(CutText::beginning(b"/usr/bin/bash", 40).bytes(), b"/usr/bin/bash");
        assert_eq!(CutText::beginning(&[1; 300], 300).bytes().len(), CUT_BYTES_MAX);
    }

    #[test]
    fn no_character_is_split() {
        for wide in ["\u{e9}", "\u{20ac}", "\u{1f512}"] {
            let text = wide.repeat(200);
            for longest in HASH_BYTES..=CUT_BYTES_MAX {
                let cut = CutText::new(text.as_bytes(), longest);
                let (start, _) = cut.bytes().split_at(cut.bytes().len() - HASH_BYTES);
                let expected = (longest - HASH_BYTES) / wide.len();
                assert_eq!(core::str::from_utf8(start), Ok(&text[..expected * wide.len()]));
            }
        }
        // Bytes that are no text keep their beginning.
        assert_eq!(CutText::new(&[0x80; 100], 40).bytes()[..23], [0x80; 23]);
    }

    proptest! {
        #[test]
        fn a_cut_name_begins_like_the_whole_one(
            text in proptest::collection::vec(any::<u8>(), 0..600), longest in 0..400_usize
        ) {
            let cut = CutText::new(&text, longest);
            let cut = cut.bytes();
            let most = longest.clamp(HASH_BYTES, CUT_BYTES_MAX);
            if text.len() <= most {
                prop_assert_eq!(cut, text);
            } else {
                prop_assert!(cut.len() <= most && cut.len() + MORE_BYTES_MAX >= most);
                prop_assert_eq!(&cut[..cut.len() - HASH_BYTES], &text[..cut.len() - HASH_BYTES]);
                prop_assert_eq!(cut[cut.len() - HASH_BYTES], b'~');
            }
        }
    }
}
