//! Text: patterns with `*` and `?`, and bytes as hexadecimal digits.
//!
//! Both work on bytes, without allocating: names and paths on Linux need not be UTF-8. Brackets and
//! lists of shells are plain characters here.

use core::fmt;

/// Whether a pattern matches all of `text`: `*` stands for any bytes, `?` for one. The number of
/// steps is at most the product of both lengths.
pub fn matches_glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut text_at) = (0, 0);
    // Where the pattern continues behind its last `*`, and where the text does that this matches.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(text_at) {
        match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, text_at));
            }
            Some(&expected) if expected == b'?' || expected == byte => {
                at += 1;
                text_at += 1;
            }
            _ => {
                let Some((behind, end)) = star else { return false };
                (at, text_at) = (behind, end + 1);
                star = Some((behind, end + 1));
            }
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

/// Shows bytes as lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    /// The definition, as a recursion.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, _) => text.is_empty(),
            (Some((b'*', rest)), None) => model(rest, text),
            (Some((b'*', rest)), Some((_, shorter))) => {
                model(rest, text) || model(pattern, shorter)
            }
            (Some((b'?', rest)), Some((_, shorter))) => model(rest, shorter),
            (Some((a, rest)), Some((b, shorter))) => a == b && model(rest, shorter),
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_match_by_their_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches_glob(pattern, text), model(pattern, text));
        }
    }

    #[test]
    fn a_pattern_of_many_stars_ends_soon() {
        let pattern: String = core::iter::repeat_n("*a", 500).collect();
        assert!(!matches_glob(pattern.as_bytes(), &[b'b'; 10_000]));
    }

    #[test]
    fn digits_have_two_places() {
        assert_eq!(Hex(&[0, 0x0f, 0xa5]).to_string(), "000fa5");
        assert_eq!(Hex(&[]).to_string(), "");
    }
}
