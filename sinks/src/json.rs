//! Writes JSON into a caller's slice: no allocation, no formatting machinery, all or nothing.
//!
//! [`JsonWriter`] is a cursor over `&mut [u8]`. Output that does not fit gives [`Full`], and the
//! caller discards the whole attempt: half a record is never kept. [`fit`] tries again with shorter
//! lists and strings, so a record with a long list still goes out, marked `"truncated":true`.
//!
//! An object is written comma first: every key comes as `,"name":`, and the brace overwrites the
//! first comma when the object is closed. So keys are constant fragments, and no branch asks
//! whether a field is the first.
//!
//! `read.rs` reads what was written here, and nothing else. Start at [`JsonWriter::object`] and
//! `text.rs`.

pub mod address;
pub mod command_line;
pub mod read;
pub mod shorten;
pub mod text;
pub mod time;

use crate::dialect::Dialect;
use crate::redact::Redactor;

/// The output slice is too small. Nothing of the attempt counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no room for the record")]
pub struct Full;

/// Maximum lengths of values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a string's value: UTF-8, before JSON's escapes. Longer ones are cut on a character
    /// boundary.
    pub string_length: usize,
    /// Bytes of a whole list as written. Longer ones lose their last elements.
    pub list_bytes: usize,
}

impl Limits {
    /// Strings of at most `string_length` bytes, lists as long as the record has room for.
    pub const fn new(string_length: usize) -> Self {
        Self { string_length, list_bytes: usize::MAX }
    }
}

/// A cursor over the output.
#[derive(Debug)]
pub struct JsonWriter<'b> {
    out: &'b mut [u8],
    length: usize,
    limits: Limits,
    /// Something in the object being written has been cut.
    truncated: bool,
    dialect: Dialect,
    /// Finds what is replaced in arguments and shell commands.
    redactor: Option<&'b mut Redactor>,
}

impl<'b> JsonWriter<'b> {
    /// Starts at the beginning of `out`.
    pub const fn new(out: &'b mut [u8], limits: Limits) -> Self {
        let dialect = Dialect::Panoptes;
        Self { out, length: 0, limits, truncated: false, dialect, redactor: None }
    }

    #[inline]
    fn redactor(&mut self) -> Option<&mut Redactor> {
        self.redactor.as_deref_mut()
    }

    /// Writes in this dialect from now on.
    pub(crate) const fn set_dialect(&mut self, dialect: Dialect) {
        self.dialect = dialect;
    }

    #[inline]
    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Number of bytes written.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Whether something was cut since the innermost open object began.
    pub const fn truncated(&self) -> bool {
        self.truncated
    }

    /// Marks the object being written as cut.
    pub(crate) const fn set_truncated(&mut self) {
        self.truncated = true;
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.claim(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Writes what is there once more: if lists are cut at all, those in it most.
    pub(crate) fn repeated(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let limits = self.limits;
        if limits.list_bytes != usize::MAX {
            self.limits.list_bytes = limits.list_bytes / 8;
        }
        let result = write(self);
        self.limits = limits;
        result
    }

    /// The next `count` bytes of the output, to be filled by the caller.
    #[inline]
    fn claim(&mut self, count: usize) -> Result<&mut [u8], Full> {
        let end = self.length + count;
        let Some(room) = self.out.get_mut(self.length..end) else {
            return Err(Full);
        };
        self.length = end;
        Ok(room)
    }

    /// A decimal number.
    #[inline]
    pub fn number(&mut self, value: u64) -> Result<(), Full> {
        let room = self.claim(decimal_length(value))?;
        write_decimal(room, value);
        Ok(())
    }

    /// The value of a field that is a number.
    #[inline]
    pub fn integer(&mut self, value: u64) -> Result<(), Full> {
        if self.dialect.is_foreign() {
            return self.quoted_number(value);
        }
        self.number(value)
    }

    #[cold]
    fn quoted_number(&mut self, value: u64) -> Result<(), Full> {
        self.raw(b"\"")?;
        self.number(value)?;
        self.raw(b"\"")
    }

    /// The value of a field that is true or false.
    #[inline]
    pub fn boolean(&mut self, value: bool) -> Result<(), Full> {
        if self.dialect.is_foreign() {
            return self.quoted_boolean(value);
        }
        self.raw(if value { b"true" } else { b"false" })
    }

    #[cold]
    fn quoted_boolean(&mut self, value: bool) -> Result<(), Full> {
        self.word(if value { "true" } else { "false" })
    }

    /// `"0x7f1c2a000000"`.
    pub fn hex_address(&mut self, value: u64) -> Result<(), Full> {
        self.raw(b"\"0x")?;
        let digits = ((64 - value.leading_zeros()).div_ceil(4)).max(1) as usize;
        for (index, digit) in self.claim(digits)?.iter_mut().enumerate() {
            *digit = HEX[(value >> (4 * (digits - 1 - index))) as usize & 15];
        }
        self.raw(b"\"")
    }

    /// Lower-case hex of some bytes, without quotes.
    pub fn hex_bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let room = self.claim(2 * bytes.len())?;
        for (pair, byte) in room.chunks_exact_mut(2).zip(bytes) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Ok(())
    }

    /// An object whose fields `write` appends comma first, and `"truncated":true` after them when
    /// any was cut.
    #[inline]
    pub fn object(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let outer = std::mem::replace(&mut self.truncated, false);
        let start = self.length;
        write(self)?;
        self.close_object(start)?;
        self.truncated = outer;
        Ok(())
    }

    /// Ends the object whose first comma is at `start`.
    #[inline]
    pub(crate) fn close_object(&mut self, start: usize) -> Result<(), Full> {
        if self.truncated {
            self.mark_truncated()?;
        }
        if self.length == start {
            return self.raw(b"{}");
        }
        self.out[start] = b'{';
        self.raw(b"}")
    }

    #[cold]
    fn mark_truncated(&mut self) -> Result<(), Full> {
        self.raw(b",\"truncated\":")?;
        self.boolean(true)
    }

    /// A quoted word that needs no escapes.
    #[inline]
    pub(crate) fn word(&mut self, word: &str) -> Result<(), Full> {
        debug_assert!(
            word.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
        );
        self.raw(b"\"")?;
        self.raw(word.as_bytes())?;
        self.raw(b"\"")
    }

    /// Makes an object of the array that began at `start` and was just written.
    pub(crate) fn replace_brackets(&mut self, start: usize) {
        self.out[start] = b'{';
        self.out[self.length - 1] = b'}';
    }

    /// An array. When it grows over the limit, the element that did it is written again with short
    /// strings; if that does not help, it and all after it are left out.
    pub fn list<T: Copy>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let (start, limits) = (self.length, self.limits);
        // A list in a list gets a part only, or its first element would already be over the outer
        // one's limit.
        self.limits.list_bytes = limits.list_bytes / 4;
        'items: for item in items {
            let (before, truncated) = (self.length, self.truncated);
            for string_length in [limits.string_length, limits.list_bytes / STRINGS_OF_ELEMENT] {
                (self.length, self.truncated) = (before, truncated);
                self.limits.string_length = string_length.min(limits.string_length);
                match self.raw(b",").and_then(|()| write(self, item)) {
                    Ok(()) if self.length - start <= limits.list_bytes => continue 'items,
                    // Without room for it, an element is over a limit that is no longer than that.
                    Err(Full) if self.out.len() - start < limits.list_bytes => return Err(Full),
                    Ok(()) | Err(Full) => {}
                }
            }
            self.length = before;
            self.truncated = true;
            break;
        }
        self.limits = limits;
        if self.length == start {
            return self.raw(b"[]");
        }
        self.out[start] = b'[';
        self.raw(b"]")
    }
}

/// Runs `write` on all of `out`; when that is too small, again with ever shorter lists and strings.
///
/// Cutting starts only when `out` has `cut_from` bytes: with less, the caller can still pass more
/// room.
pub fn fit(
    out: &mut [u8],
    limits: Limits,
    cut_from: usize,
    write: impl FnMut(&mut JsonWriter<'_>) -> Result<(), Full>,
) -> Result<usize, Full> {
    fit_redacted(out, limits, cut_from, None, write)
}

/// The same for what has arguments or shell commands.
pub(crate) fn fit_redacted(
    out: &mut [u8],
    limits: Limits,
    cut_from: usize,
    mut redactor: Option<&mut Redactor>,
    mut write: impl FnMut(&mut JsonWriter<'_>) -> Result<(), Full>,
) -> Result<usize, Full> {
    let mut writer = JsonWriter::new(out, limits);
    writer.redactor = redactor.as_deref_mut();
    if write(&mut writer).is_ok() {
        return Ok(writer.length);
    }
    if out.len() < cut_from {
        return Err(Full);
    }
    for step in 1..=CUT_STEPS {
        let shorter = Limits {
            string_length: limits.string_length.min(out.len() >> step),
            list_bytes: limits.list_bytes.min(out.len() >> step),
        };
        let mut writer = JsonWriter::new(out, shorter);
        writer.redactor = redactor.as_deref_mut();
        if write(&mut writer).is_ok() {
            return Ok(writer.length);
        }
    }
    Err(Full)
}

/// Which part of a list's limit each string of an element has that would not fit otherwise: a
/// process of a reverse shell has ten, and a character takes up to six bytes.
const STRINGS_OF_ELEMENT: usize = 128;

/// After this many halvings, a string of a 31 KiB record has at most 15 bytes. What still does not
/// fit is no record.
const CUT_STEPS: u32 = 11;

pub(crate) const HEX: &[u8; 16] = b"0123456789abcdef";

/// `00` to `99`.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
    2021222324252627282930313233343536373839\
    4041424344454647484950515253545556575859\
    6061626364656667686970717273747576777879\
    8081828384858687888990919293949596979899";

/// The powers of ten that a `u64` can hold, for [`decimal_length`].
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

/// How many digits `value` has.
#[inline]
fn decimal_length(value: u64) -> usize {
    // 1233/4096 is log10(2) from below: the guess is right or one too small, and the table decides.
    let guess = (((64 - (value | 1).leading_zeros()) * 1233) >> 12) as usize;
    guess + usize::from(value >= POWERS[guess.min(19)]) + usize::from(value == 0)
}

/// Fills `room` with `value` in decimal, with leading zeros when it is longer than the number.
#[inline]
pub(crate) fn write_decimal(room: &mut [u8], mut value: u64) {
    let mut chunks = room.rchunks_exact_mut(2);
    for pair in &mut chunks {
        let two = (value % 100) as usize * 2;
        value /= 100;
        pair.copy_from_slice(&PAIRS[two..two + 2]);
    }
    if let [first] = chunks.into_remainder() {
        *first = b'0' + (value % 10) as u8;
    }
}
