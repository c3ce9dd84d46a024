//! Numbers, words and the like, each with what stands before it: a key, a comma or nothing.
//!
//! `before` is a constant and needs no escapes. A copy of a few bytes is fast where the compiler
//! knows how many they are, so the copy of `before` is inlined into the callers; what writes the
//! value is not. Values are written straight to the output. A processor copies what was just put
//! together elsewhere, byte by byte, only after all of it has reached the cache.
#![expect(clippy::inline_always, reason = "the length of `before` is known only to the callers")]

use super::clean::{copy_any, copy_clean, load_few};
use super::digits::{DIGITS_ROOM, HEX, write_digits};
use super::{Full, JsonWriter};

impl JsonWriter<'_> {
    /// Writes `before`, and returns the next `N` bytes of the output, to be filled by the caller.
    #[inline(always)]
    pub(crate) fn after<const N: usize>(&mut self, before: &str) -> Result<&mut [u8; N], Full> {
        self.after_slice(before, N)?.first_chunk_mut().ok_or(Full)
    }

    /// The same for a number of bytes that only the value knows.
    #[inline(always)]
    pub(super) fn after_slice(&mut self, before: &str, count: usize) -> Result<&mut [u8], Full> {
        let (target, room) = self.claim(before.len() + count)?.split_at_mut(before.len());
        target.copy_from_slice(before.as_bytes());
        Ok(room)
    }

    /// Writes `before` and what `write` writes to the beginning of the room: as many bytes as it
    /// returns. If it returns `None`, or if there is less room, nothing is written; returns whether
    /// something was.
    #[inline(always)]
    pub(super) fn after_some<const N: usize>(
        &mut self,
        before: &str,
        write: impl FnOnce(&mut [u8; N]) -> Option<usize>,
    ) -> bool {
        let start = self.length;
        let count = self.after(before).ok().and_then(write);
        self.length = start + count.map_or(0, |count| before.len() + count);
        count.is_some()
    }

    /// A decimal number.
    #[inline(always)]
    pub fn number(&mut self, before: &str, value: u64) -> Result<(), Full> {
        if self.after_some(before, |room| Some(write_digits(room, value))) {
            return Ok(());
        }
        self.last_number(before, value)
    }

    /// A number with less room left than the longest one takes.
    #[cold]
    fn last_number(&mut self, before: &str, value: u64) -> Result<(), Full> {
        let mut digits = [0; DIGITS_ROOM];
        let count = write_digits(&mut digits, value);
        self.raw(before.as_bytes())?;
        self.raw(&digits[..count])
    }

    /// The value of a field that is a number.
    #[inline(always)]
    pub fn integer(&mut self, before: &str, value: u64) -> Result<(), Full> {
        if self.dialect.is_foreign() {
            return self.quoted_number(before, value);
        }
        self.number(before, value)
    }

    #[cold]
    fn quoted_number(&mut self, before: &str, value: u64) -> Result<(), Full> {
        self.raw(before.as_bytes())?;
        self.number("\"", value)?;
        self.raw(b"\"")
    }

    /// The value of a field that is true or false.
    #[inline(always)]
    pub fn boolean(&mut self, before: &str, value: bool) -> Result<(), Full> {
        let word = if value { "true" } else { "false" };
        if self.dialect.is_foreign() {
            return self.word(before, word);
        }
        copy_any(word.as_bytes(), self.after_slice(before, word.len())?);
        Ok(())
    }

    /// A quoted word that needs no escapes.
    #[inline(always)]
    pub fn word(&mut self, before: &str, word: &str) -> Result<(), Full> {
        debug_assert!(
            word.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
        );
        copy_word(word.as_bytes(), self.after_slice(before, word.len() + 2)?);
        Ok(())
    }

    /// Writes a string whole that needs neither escapes nor a cut, quoted. Returns whether it was
    /// one; if not, nothing is written.
    #[inline(always)]
    pub(super) fn plain_text(&mut self, before: &str, bytes: &[u8]) -> bool {
        let start = self.length;
        if bytes.len() <= self.limits.string_length
            && let Ok(room) = self.after_slice(before, bytes.len() + 2)
            && copy_quoted(bytes, room)
        {
            return true;
        }
        self.length = start;
        false
    }

    /// `"259:1"`.
    #[inline(always)]
    pub(crate) fn pair(&mut self, before: &str, first: u32, second: u32) -> Result<(), Full> {
        if self.after_some(before, |room| Some(write_pair(room, first, second))) {
            return Ok(());
        }
        self.last_pair(before, first, second)
    }

    /// The same with less room left than the longest pair takes.
    #[cold]
    fn last_pair(&mut self, before: &str, first: u32, second: u32) -> Result<(), Full> {
        let mut text = [0; PAIR_ROOM];
        let length = write_pair(&mut text, first, second);
        self.raw(before.as_bytes())?;
        self.raw(&text[..length])
    }

    /// `"socket:[13731]"`, whole whatever the limit.
    #[inline(always)]
    pub(crate) fn numbered(&mut self, before: &str, kind: &str, number: u64) -> Result<(), Full> {
        if self.after_some(before, |room| write_numbered(room, kind, number)) {
            return Ok(());
        }
        self.last_numbered(before, kind, number)
    }

    /// The same with little room left, or with a long word.
    #[cold]
    fn last_numbered(&mut self, before: &str, kind: &str, number: u64) -> Result<(), Full> {
        self.raw(before.as_bytes())?;
        self.raw(b"\"")?;
        self.raw(kind.as_bytes())?;
        self.number(":[", number)?;
        self.raw(b"]\"")
    }

    /// `"0x7f1c2a000000"`.
    #[inline(always)]
    pub fn hex_address(&mut self, before: &str, value: u64) -> Result<(), Full> {
        if self.after_some(before, |room| Some(write_hex_address(room, value))) {
            return Ok(());
        }
        self.last_hex_address(before, value)
    }

    /// The same with less room left than the longest address takes.
    #[cold]
    fn last_hex_address(&mut self, before: &str, value: u64) -> Result<(), Full> {
        let mut text = [0; ADDRESS_ROOM];
        let length = write_hex_address(&mut text, value);
        self.raw(before.as_bytes())?;
        self.raw(&text[..length])
    }

    /// Lower-case hex of some bytes, quoted.
    pub fn hex_bytes(&mut self, before: &str, bytes: &[u8]) -> Result<(), Full> {
        let room = self.after_slice(before, 2 * bytes.len() + 2)?;
        if let [first, room @ .., last] = room {
            (*first, *last) = (b'"', b'"');
            for (pair, byte) in room.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&HEX[usize::from(*byte)]);
            }
        }
        Ok(())
    }
}

/// Copies a string to `room` and quotes it. Returns whether no byte of it needs care.
fn copy_quoted(bytes: &[u8], room: &mut [u8]) -> bool {
    let [first, room @ .., last] = room else { return false };
    (*first, *last) = (b'"', b'"');
    copy_clean(bytes, room)
}

/// The same for a word, which is short and needs no escapes.
fn copy_word(word: &[u8], room: &mut [u8]) {
    if let [first, room @ .., last] = room {
        (*first, *last) = (b'"', b'"');
        copy_any(word, room);
    }
}

/// Room for two numbers of 32 bits, with what is between and around them.
const PAIR_ROOM: usize = 2 * DIGITS_ROOM;

/// Writes `"259:1"` and returns the length. What follows it is undefined.
fn write_pair(room: &mut [u8; PAIR_ROOM], first: u32, second: u32) -> usize {
    room[0] = b'"';
    let mut length = 1;
    for (number, end) in [(first, b':'), (second, b'"')] {
        if let Some(digits) = room[length..].first_chunk_mut() {
            length += write_digits(digits, number.into());
        }
        room[length] = end;
        length += 1;
    }
    length
}

/// Room for the longest address.
const ADDRESS_ROOM: usize = 20;

/// Writes `"0x7f1c2a000000"` and returns the length. What follows it is undefined.
fn write_hex_address(room: &mut [u8; ADDRESS_ROOM], value: u64) -> usize {
    let zeros = (value | 1).leading_zeros() as usize / 4;
    // Without leading zeros, but for one if their number is odd, which the prefix then overwrites.
    let bytes = (value << (zeros / 2 * 8)).to_be_bytes();
    let start = 3 - zeros % 2;
    for (pair, byte) in room[start..start + 16].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&HEX[usize::from(byte)]);
    }
    room[..3].copy_from_slice(b"\"0x");
    room[19 - zeros] = b'"';
    20 - zeros
}

/// Room for most of what [`JsonWriter::numbered`] writes: a quote, a word and what follows it, the
/// number and its end.
const NUMBERED_ROOM: usize = 1 + 8 + DIGITS_ROOM + 2;

/// Returns the length; `None` if the word is too long for the room.
fn write_numbered(room: &mut [u8; NUMBERED_ROOM], kind: &str, number: u64) -> Option<usize> {
    let length = kind.len();
    if length > 6 {
        return None;
    }
    let word = load_few(kind.as_bytes()) | u64::from(u16::from_le_bytes(*b":[")) << (8 * length);
    room[0] = b'"';
    room[1..9].copy_from_slice(&word.to_le_bytes());
    let digits = &mut room[length + 3..];
    let count = write_digits(digits.first_chunk_mut()?, number);
    digits[count..count + 2].copy_from_slice(b"]\"");
    Some(length + count + 5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Limits;
    use crate::json::address::MacAddress;
    use crate::json::command_line::CommandLine;
    use crate::json::text::Text;
    use crate::json::time::Timestamp;

    type Write<'a> = &'a dyn Fn(&mut JsonWriter<'_>) -> Result<(), Full>;

    /// Checks what is written, with much room and with just enough, and that less is not enough.
    fn check(expected: &str, write: Write<'_>) {
        let length = expected.len();
        for room in [length + 256, length + 1, length] {
            let mut out = vec![0; room];
            let mut writer = JsonWriter::new(&mut out, Limits::new(1024));
            assert_eq!(write(&mut writer), Ok(()), "{expected} in {room} bytes");
            let written = writer.length();
            assert_eq!(std::str::from_utf8(&out[..written]), Ok(expected), "in {room} bytes");
        }
        for room in 0..length {
            let mut out = vec![0; room];
            let mut writer = JsonWriter::new(&mut out, Limits::new(1024));
            assert_eq!(write(&mut writer), Err(Full), "{expected} in {room} bytes");
        }
    }

    #[test]
    fn values_need_no_more_room_than_they_take() {
        check(",\"a\":true", &|out| out.boolean(",\"a\":", true));
        check(",\"a\":\"b (c)\"", &|out| out.word(",\"a\":", "b (c)"));
        check("\"\"", &|out| out.word("", ""));
        check(",\"a\":\"0:4294967295\"", &|out| out.pair(",\"a\":", 0, u32::MAX));
        check("\"4294967295:4294967295\"", &|out| out.pair("", u32::MAX, u32::MAX));
        check("\"0x0\"", &|out| out.hex_address("", 0));
        check(",\"0x7f1c2a000000\"", &|out| out.hex_address(",", 0x7f1c_2a00_0000));
        check(",\"00fe10\"", &|out| out.hex_bytes(",", &[0, 0xfe, 0x10]));
        check(",\"0a:00:27:00:00:f1\"", &|out| {
            out.mac_address(",", MacAddress([10, 0, 0x27, 0, 0, 0xf1]))
        });
        check(",\"10.0.2.15\"", &|out| out.ip_address(",", [10, 0, 2, 15].into()));
        check(",\"fe80::1:20\"", &|out| {
            out.ip_address(",", [0xfe80, 0, 0, 0, 0, 0, 1, 0x20].into())
        });
        check(",\"1970-01-02T00:00:00.000000009+00:00\"", &|out| {
            out.timestamp(",", Timestamp::from_ns(86_400_000_000_009))
        });
        check(",\"a\":\"bash\"", &|out| out.text(",\"a\":", &"bash".into()));
        check("\"a\\nb\"", &|out| out.text("", &"a\nb".into()));
        check("\"socket:[7]\"", &|out| out.text("", &Text::numbered("socket", 7)));
        check(",\"a b \",[\"a\",\"b\",\"\"]", &|out| {
            out.command_line(",", &CommandLine::new(b"a\0b\0\0"), ",")
        });
    }

    proptest! {
        #[test]
        fn numbers_are_written_as_the_standard_library_does(number: u64, shift in 0..64) {
            let number = number >> shift;
            check(&format!("\"{number:#x}\""), &|out| out.hex_address("", number));
            check(&format!(",\"a\":{number}"), &|out| out.integer(",\"a\":", number));
            for kind in ["net", "a_word_that_is_longer_than_the_usual_room_for_it"] {
                check(&format!(",\"{kind}:[{number}]\""), &|out| out.numbered(",", kind, number));
            }
        }
    }
}
