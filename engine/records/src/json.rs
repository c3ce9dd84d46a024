//! Writes JSON into a caller's slice: no allocation, no formatting machinery, all or nothing.
//!
//! [`JsonWriter`] is a cursor over `&mut [u8]`. Output that does not fit gives [`Full`], and the
//! caller discards the whole attempt: half a record is never kept. [`fit`] tries again with shorter
//! lists and strings, so a record with a long list still goes out, marked `"truncated":true`.
//!
//! An object is written comma first: every key comes as `,"name":`, and the brace overwrites the
//! first comma when the object is closed. So keys are constant fragments, and no branch asks
//! whether a field is the first. A key and its value are written as one piece where that is
//! possible (`scalar.rs`): where a piece begins is known only when the one before it is complete,
//! so their number is what a record costs.
//!
//! `read.rs` reads what was written here, and nothing else. Start at [`JsonWriter::object`] and
//! `text.rs`.

pub mod address;
mod base64;
mod clean;
pub mod command_line;
pub(crate) mod digits;
pub mod read;
mod scalar;
pub mod shorten;
pub mod text;
pub mod time;

use crate::dialect::Dialect;
use crate::redact::Redactor;
use time::Day;

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
    /// The day of the last time.
    day: Day,
}

impl<'b> JsonWriter<'b> {
    /// Starts at the beginning of `out`.
    pub fn new(out: &'b mut [u8], limits: Limits) -> Self {
        let (dialect, day) = (Dialect::Panoptes, Day::default());
        Self { out, length: 0, limits, truncated: false, dialect, redactor: None, day }
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
        self.boolean(",\"truncated\":", true)
    }

    /// Makes an object of the array that began at `start` and was just written.
    pub(crate) fn replace_brackets(&mut self, start: usize) {
        self.out[start] = b'{';
        self.out[self.length - 1] = b'}';
    }

    /// An array. `write` writes an element, comma first. When the array grows over the limit, the
    /// element that did it is written again with short strings; if that does not help, it and all
    /// after it are left out.
    pub fn list<T: Copy>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let (start, limits) = (self.length, self.limits);
        if limits.list_bytes == usize::MAX {
            for item in items {
                write(self, item)?;
            }
            return self.close_list(start);
        }
        // A list in a list gets a part only, or its first element would already be over the outer
        // one's limit.
        self.limits.list_bytes = limits.list_bytes / 4;
        'items: for item in items {
            let (before, truncated) = (self.length, self.truncated);
            for string_length in [limits.string_length, limits.list_bytes / STRINGS_OF_ELEMENT] {
                (self.length, self.truncated) = (before, truncated);
                self.limits.string_length = string_length.min(limits.string_length);
                match write(self, item) {
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
        self.close_list(start)
    }

    /// Ends the list whose first comma is at `start`.
    #[inline]
    fn close_list(&mut self, start: usize) -> Result<(), Full> {
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
    fit_redacted(out, limits, cut_from, None, &mut Day::default(), write)
}

/// The same for what has arguments, shell commands and times. `day` is that of the last time.
pub(crate) fn fit_redacted(
    out: &mut [u8],
    limits: Limits,
    cut_from: usize,
    mut redactor: Option<&mut Redactor>,
    day: &mut Day,
    mut write: impl FnMut(&mut JsonWriter<'_>) -> Result<(), Full>,
) -> Result<usize, Full> {
    let mut writer = JsonWriter::new(out, limits);
    (writer.redactor, writer.day) = (redactor.as_deref_mut(), *day);
    if write(&mut writer).is_ok() {
        *day = writer.day;
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
