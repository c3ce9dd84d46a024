//! Strings from arbitrary bytes that a watched machine uses as names.
//!
//! The output is always valid UTF-8 in valid JSON: each byte that is not UTF-8 becomes U+FFFD,
//! control characters (C0, DEL, C1) and characters that split or reorder lines are escaped, and a
//! string is cut at the limit on a character boundary. The limit counts the bytes of the value,
//! after U+FFFD was inserted and before escaping, so the reader's string never has more than
//! `string_length` bytes.

use super::clean::{copy_clean, special_bytes};
use super::digits::{DIGITS_ROOM, HEX, write_digits};
use super::{Full, JsonWriter};

/// Bytes that the watched machine treats as text: a name, a path, a reason. They need not be UTF-8.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text<'a> {
    pieces: Pieces<'a>,
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
enum Pieces<'a> {
    One(&'a [u8]),
    Several(&'a [&'a [u8]]),
    Numbered(&'static str, u64),
}

impl Default for Pieces<'_> {
    fn default() -> Self {
        Self::One(b"")
    }
}

impl<'a> Text<'a> {
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { pieces: Pieces::One(bytes), cut: false }
    }

    /// The beginning of a longer text: the record will have `truncated`.
    pub const fn cut(bytes: &'a [u8]) -> Self {
        Self { pieces: Pieces::One(bytes), cut: true }
    }

    /// Several pieces that form one text: the components of a path, a name and ` (deleted)`.
    pub const fn pieces(pieces: &'a [&'a [u8]]) -> Self {
        Self { pieces: Pieces::Several(pieces), cut: false }
    }

    /// A copy of its bytes, for another thread. It allocates.
    pub fn to_bytes(self) -> Vec<u8> {
        match self.pieces {
            Pieces::One(bytes) => bytes.to_vec(),
            Pieces::Several(pieces) => pieces.concat(),
            Pieces::Numbered(kind, number) => format!("{kind}:[{number}]").into_bytes(),
        }
    }

    /// `socket:[13731]`, as /proc names objects that have a number and no path.
    pub const fn numbered(kind: &'static str, number: u64) -> Self {
        Self { pieces: Pieces::Numbered(kind, number), cut: false }
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::new(bytes)
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl JsonWriter<'_> {
    /// A string, quoted, escaped and cut.
    #[expect(clippy::inline_always, reason = "the length of `before` is known only to the callers")]
    #[inline(always)]
    pub fn text(&mut self, before: &str, text: &Text<'_>) -> Result<(), Full> {
        if let Pieces::One(bytes) = text.pieces
            && !text.cut
            && self.plain_text(before, bytes)
        {
            return Ok(());
        }
        self.any_text(before, text)
    }

    fn any_text(&mut self, before: &str, text: &Text<'_>) -> Result<(), Full> {
        if text.cut {
            self.set_truncated();
        }
        let limit = self.limits().string_length;
        if let Pieces::Numbered(kind, number) = text.pieces
            && kind.len() + NUMBER_BYTES_MAX <= limit
        {
            return self.numbered(before, kind, number);
        }
        self.raw(before.as_bytes())?;
        self.raw(b"\"")?;
        match text.pieces {
            Pieces::One(bytes) => {
                self.escaped(whole_characters(bytes, text.cut), limit)?;
            }
            Pieces::Several(pieces) => self.pieces(pieces, limit)?,
            Pieces::Numbered(kind, number) => {
                let mut digits = [0; DIGITS_ROOM];
                let count = write_digits(&mut digits, number);
                self.pieces(&[kind.as_bytes(), b":[", &digits[..count], b"]"], limit)?;
            }
        }
        self.raw(b"\"")
    }

    /// Writes the insides of strings, one after the other, as far as `budget` lasts.
    fn pieces(&mut self, pieces: &[&[u8]], mut budget: usize) -> Result<(), Full> {
        for piece in pieces {
            match self.escaped(piece, budget)? {
                Some(left) => budget = left,
                None => break,
            }
        }
        Ok(())
    }

    /// Writes the inside of a string. Returns how much of `budget` is left, or `None` when the
    /// string had to be cut.
    #[inline]
    pub(super) fn escaped(&mut self, bytes: &[u8], budget: usize) -> Result<Option<usize>, Full> {
        let start = self.length();
        if bytes.len() <= budget
            && let Ok(room) = self.claim(bytes.len())
            && copy_clean(bytes, room)
        {
            return Ok(Some(budget - bytes.len()));
        }
        self.length = start;
        self.by_character(bytes, budget)
    }

    /// The same, for what may have characters that need care, or more of them than `budget`.
    fn by_character(&mut self, bytes: &[u8], mut budget: usize) -> Result<Option<usize>, Full> {
        let mut at = 0;
        loop {
            let run = clean_prefix(&bytes[at..]);
            let take = run.min(budget);
            self.raw(&bytes[at..at + take])?;
            at += take;
            budget -= take;
            if take < run {
                self.set_truncated();
                return Ok(None);
            }
            if at == bytes.len() {
                return Ok(Some(budget));
            }
            let character = Character::at(&bytes[at..]);
            if character.value_bytes() > budget {
                self.set_truncated();
                return Ok(None);
            }
            budget -= character.value_bytes();
            at += self.character(character)?;
        }
    }

    /// Writes one character that needs care. Returns how many bytes of the input it used.
    fn character(&mut self, character: Character<'_>) -> Result<usize, Full> {
        match character {
            Character::Ascii(byte) => {
                let short = match byte {
                    b'"' => b"\\\"",
                    b'\\' => b"\\\\",
                    b'\n' => b"\\n",
                    b'\r' => b"\\r",
                    b'\t' => b"\\t",
                    0x08 => b"\\b",
                    0x0c => b"\\f",
                    _ => return self.unicode_escape(byte.into()).map(|()| 1),
                };
                self.raw(short).map(|()| 1)
            }
            Character::Valid(sequence) => {
                match unsafe_code_point(sequence) {
                    Some(code) => self.unicode_escape(code)?,
                    None => self.raw(sequence)?,
                }
                Ok(sequence.len())
            }
            Character::Invalid => self.raw("\u{fffd}".as_bytes()).map(|()| 1),
        }
    }

    /// `\u001b`.
    fn unicode_escape(&mut self, code: u16) -> Result<(), Full> {
        self.raw(b"\\u")?;
        self.raw(code.to_be_bytes().map(|byte| HEX[usize::from(byte)]).as_flattened())
    }
}

/// The code point of a character beyond ASCII that is escaped: a control character, a separator of
/// lines or paragraphs, which some readers take for the end of a line, or a control of the writing
/// direction, which reorders the text after it on a screen (Unicode Standard Annex #9, 2).
const fn unsafe_code_point(sequence: &[u8]) -> Option<u16> {
    let code = match *sequence {
        [0xc2, low @ 0x80..=0x9f] => low as u16,
        [0xd8, 0x9c] => 0x061c,
        [0xe2, 0x80, low @ (0x8e | 0x8f | 0xa8..=0xae)] => 0x2000 | (low & 0x3f) as u16,
        [0xe2, 0x81, low @ 0xa6..=0xa9] => 0x2040 | (low & 0x3f) as u16,
        _ => return None,
    };
    Some(code)
}

/// `:[18446744073709551615]`
const NUMBER_BYTES_MAX: usize = 23;

/// One character of a text, or a byte that is not UTF-8.
#[derive(Clone, Copy, Debug)]
enum Character<'a> {
    /// One byte below 0x80.
    Ascii(u8),
    /// A valid sequence of two to four bytes.
    Valid(&'a [u8]),
    /// A byte that is part of no valid sequence.
    Invalid,
}

impl<'a> Character<'a> {
    /// The character at the start of `bytes`, which must not be empty.
    fn at(bytes: &'a [u8]) -> Self {
        let length = match bytes[0] {
            byte @ 0..=0x7f => return Self::Ascii(byte),
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => return Self::Invalid,
        };
        match bytes.get(..length) {
            Some(sequence) if std::str::from_utf8(sequence).is_ok() => Self::Valid(sequence),
            _ => Self::Invalid,
        }
    }

    /// How many bytes the character has in the reader's string.
    const fn value_bytes(self) -> usize {
        match self {
            Self::Ascii(_) => 1,
            Self::Valid(sequence) => sequence.len(),
            Self::Invalid => "\u{fffd}".len(),
        }
    }
}

/// Removes a torn character from the end of bytes that were cut at an arbitrary place.
fn whole_characters(bytes: &[u8], cut: bool) -> &[u8] {
    if !cut {
        return bytes;
    }
    for back in 1..=3.min(bytes.len()) {
        let tail = &bytes[bytes.len() - back..];
        match tail[0] {
            0x80..=0xbf => {}
            0xc2..=0xf4 => {
                // An error without a length means "more bytes are needed": the beginning of a valid
                // sequence.
                let torn = std::str::from_utf8(tail)
                    .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0);
                return if torn { &bytes[..bytes.len() - back] } else { bytes };
            }
            _ => return bytes,
        }
    }
    bytes
}

/// The number of leading bytes that need no care: printable ASCII but `"` and `\`.
#[inline]
pub(super) fn clean_prefix(bytes: &[u8]) -> usize {
    let (chunks, tail) = bytes.as_chunks::<8>();
    for (index, chunk) in chunks.iter().enumerate() {
        let flags = special_bytes(u64::from_le_bytes(*chunk));
        if flags != 0 {
            return index * 8 + flags.trailing_zeros() as usize / 8;
        }
    }
    if tail.is_empty() {
        return bytes.len();
    }
    if let Some(last) = bytes.last_chunk::<8>() {
        // Overlaps the bytes found clean above, so a flag can only be in the tail.
        let flags = special_bytes(u64::from_le_bytes(*last));
        return if flags == 0 {
            bytes.len()
        } else {
            bytes.len() - 8 + flags.trailing_zeros() as usize / 8
        };
    }
    tail.iter().position(|&byte| IS_SPECIAL[usize::from(byte)]).unwrap_or(tail.len())
}

const IS_SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte < 0x20 || byte >= 0x7f || byte == 0x22 || byte == 0x5c;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Limits;

    fn write(text: &Text<'_>, string_length: usize) -> (String, bool) {
        let mut out = [0; 4096];
        let mut writer = JsonWriter::new(&mut out, Limits::new(string_length));
        writer.text("", text).unwrap();
        let (length, truncated) = (writer.length(), writer.truncated());
        (String::from_utf8(out[..length].to_vec()).unwrap(), truncated)
    }

    /// The expected string: the contract in its simplest form.
    fn model(bytes: &[u8], string_length: usize) -> String {
        let mut value = String::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let right = (1..=rest.len().min(4)).find_map(|n| std::str::from_utf8(&rest[..n]).ok());
            let next = right.unwrap_or("\u{fffd}");
            if value.len() + next.len() > string_length {
                break;
            }
            value.push_str(next);
            rest = &rest[right.map_or(1, str::len)..];
        }
        value
    }

    #[test]
    fn hostile_names_are_escaped() {
        let check = |bytes: &[u8], expected: &str| {
            assert_eq!(write(&Text::new(bytes), 1024).0, expected, "{bytes:x?}");
        };
        check(b"", r#""""#);
        check(b"bash", r#""bash""#);
        check(b"a\"b\\c\n\r\t\x08\x0c\x1b\x7f", r#""a\"b\\c\n\r\t\b\f\u001b\u007f""#);
        check(b"\xff\xfe", "\"\u{fffd}\u{fffd}\"");
        check(b"\xe2\x82A", "\"\u{fffd}\u{fffd}A\"");
        check(b"\xed\xa0\x80", "\"\u{fffd}\u{fffd}\u{fffd}\"");
        check("naïve \u{1f980}".as_bytes(), "\"naïve \u{1f980}\"");
        check("\u{85}".as_bytes(), r#""\u0085""#);
        check("a\u{2028}b\u{2029}".as_bytes(), r#""a\u2028b\u2029""#);
        check("\u{202e}gpj.exe".as_bytes(), r#""\u202egpj.exe""#);
    }

    /// Separators of lines, and all characters with the property `Bidi_Control` (`PropList.txt` of
    /// the Unicode Character Database).
    const REORDER_OR_SPLIT: [char; 14] = [
        '\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}',
        '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}', '\u{2069}',
    ];

    #[test]
    fn exactly_control_characters_and_those_that_reorder_or_split_lines_are_escaped() {
        for character in '\u{80}'..=char::MAX {
            let json = write(&Text::from(character.to_string().as_str()), 8).0;
            let is_escaped = character.is_control() || REORDER_OR_SPLIT.contains(&character);
            let expected = if is_escaped {
                format!("\"\\u{:04x}\"", u32::from(character))
            } else {
                format!("\"{character}\"")
            };
            assert_eq!(json, expected);
        }
    }

    #[test]
    fn an_escaped_character_counts_as_in_the_readers_string() {
        assert_eq!(write(&Text::from("a\u{202e}b"), 4), (r#""a\u202e""#.into(), true));
        assert_eq!(write(&Text::from("a\u{202e}b"), 3), (r#""a""#.into(), true));
    }

    #[test]
    fn a_string_is_cut_on_a_character_boundary_and_marked_truncated() {
        assert_eq!(write(&Text::from("äöü"), 5), ("\"äö\"".into(), true));
        assert_eq!(write(&Text::from("äöü"), 6), ("\"äöü\"".into(), false));
        assert_eq!(write(&Text::cut("äö\u{fc}".as_bytes().split_last().unwrap().1), 6).0, "\"äö\"");
        assert_eq!(write(&Text::cut(b"/usr/\xff"), 60), ("\"/usr/\u{fffd}\"".into(), true));
        assert_eq!(
            write(&Text::pieces(&[b"/tmp/x", b" (deleted)"]), 9),
            ("\"/tmp/x (d\"".into(), true)
        );
        assert_eq!(
            write(&Text::numbered("socket", 13_731), 64),
            ("\"socket:[13731]\"".into(), false)
        );
        assert_eq!(write(&Text::numbered("pipe", 0), 64).0, "\"pipe:[0]\"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_written_as_in_the_model(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            string_length in 0_usize..220,
        ) {
            let (json, truncated) = write(&Text::new(&bytes), string_length);
            let value: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&value, &model(&bytes, string_length));
            prop_assert!(value.len() <= string_length);
            prop_assert_eq!(truncated, value != model(&bytes, usize::MAX));
            prop_assert!(!json.chars().any(char::is_control));
        }

        #[test]
        fn no_text_splits_or_reorders_a_line(
            text in "[\u{61c}\u{200c}-\u{2010}\u{2027}-\u{2030}\u{2060}-\u{2070}a\u{85}]{0,40}",
        ) {
            let (json, _) = write(&Text::from(text.as_str()), 1024);
            let reorders = |one: char| one.is_control() || REORDER_OR_SPLIT.contains(&one);
            prop_assert!(!json.chars().any(reorders));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn mostly_clean_text_comes_back(text in "[ -~äß\n\"\\\\]{0,60}") {
            let (json, _) = write(&Text::from(text.as_str()), 1024);
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }

        #[test]
        fn the_clean_prefix_ends_at_the_first_special_byte(
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let special = bytes.iter().position(|&byte| IS_SPECIAL[usize::from(byte)]);
            let expected = special.unwrap_or(bytes.len());
            prop_assert_eq!(clean_prefix(&bytes), expected);
        }
    }
}
