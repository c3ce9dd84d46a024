//! Names in DNS messages.

use core::fmt;

/// Maximum length in bytes of a name in a message (RFC 1035 §2.3.4).
const NAME_LENGTH_MAX: usize = 255;
/// Maximum length in bytes of a name as text: 250 bytes in four labels, each byte as `\DDD`, and
/// three points.
pub const NAME_TEXT_MAX: usize = 1003;
/// Maximum number of pointers that are followed in a name. A name has no more labels than this.
const POINTERS_MAX: u32 = 127;

/// A name at a place of a message.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct DomainName<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> DomainName<'a> {
    pub(super) const fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    /// The labels from the first one to the one below the root.
    pub const fn labels(self) -> Labels<'a> {
        Labels { name: self, lowest: self.at, length: 1, pointers: 0, is_wrong: false }
    }

    /// Where what follows the name begins; `None` if the name is not whole. Pointers are not
    /// followed.
    pub(super) fn end(self) -> Option<usize> {
        let mut at = self.at;
        // Each turn takes a byte at least, and a name is short.
        while at - self.at < NAME_LENGTH_MAX {
            match *self.message.get(at)? {
                0 => return Some(at + 1),
                length @ 1..=63 => at += 1 + usize::from(length),
                0xc0.. => return self.message.get(at + 1).map(|_| at + 2),
                _ => return None,
            }
        }
        None
    }

    /// Writes the name as text: labels and points, without one at the end, and `.` for the root.
    ///
    /// A backslash is before each byte that has a meaning in zone files (RFC 1035 §5.1, RFC 4343
    /// §2.1). Other bytes than the printable ones of ASCII are `\DDD`. Letters stay as they are.
    ///
    /// Returns `None` if the name is wrong or longer than the buffer. One of [`NAME_TEXT_MAX`]
    /// bytes is always long enough.
    pub fn write(self, buffer: &mut [u8]) -> Option<&str> {
        let mut text = DnsNameText { buffer, length: 0 };
        let mut labels = self.labels();
        for label in labels.by_ref() {
            if text.length > 0 {
                text.push(b'.')?;
            }
            label.iter().try_for_each(|&byte| text.push_escaped(byte))?;
        }
        if labels.is_wrong {
            return None;
        }
        if text.length == 0 {
            text.push(b'.')?;
        }
        core::str::from_utf8(text.buffer.get(..text.length)?).ok()
    }
}

impl fmt::Debug for DomainName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; NAME_TEXT_MAX];
        f.write_str(self.write(&mut buffer).unwrap_or("(wrong)"))
    }
}

/// The labels of a name.
///
/// Each pointer must lead to a place before all that the name had until then (RFC 1035 §4.1.4), so
/// that there is an end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Labels<'a> {
    /// The rest of the name, from the next label on.
    name: DomainName<'a>,
    /// Pointers lead to lower places only.
    lowest: usize,
    /// Length in bytes of the labels until now, with the root.
    length: usize,
    pointers: u32,
    /// The name did not end with the root.
    is_wrong: bool,
}

impl<'a> Labels<'a> {
    /// The next label; the root is an empty one.
    fn read(&mut self) -> Option<&'a [u8]> {
        loop {
            let bytes = self.name.message.get(self.name.at..)?;
            let (&first, rest) = bytes.split_first()?;
            match first {
                0..=63 => {
                    let label = rest.get(..usize::from(first))?;
                    self.name.at += 1 + label.len();
                    self.length += if label.is_empty() { 0 } else { 1 + label.len() };
                    return (self.length <= NAME_LENGTH_MAX).then_some(label);
                }
                0xc0.. => {
                    let to = usize::from(first & 0x3f) << 8 | usize::from(*rest.first()?);
                    if to >= self.lowest || self.pointers >= POINTERS_MAX {
                        return None;
                    }
                    self.pointers += 1;
                    (self.name.at, self.lowest) = (to, to);
                }
                _ => return None,
            }
        }
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let label = self.read();
        self.is_wrong |= label.is_none();
        // Behind the root nothing is read again.
        if label.is_none_or(<[u8]>::is_empty) {
            self.name.message = &[];
        }
        label.filter(|label| !label.is_empty())
    }
}

/// Text that grows in a buffer.
struct DnsNameText<'a> {
    buffer: &'a mut [u8],
    length: usize,
}

impl DnsNameText<'_> {
    fn push(&mut self, byte: u8) -> Option<()> {
        *self.buffer.get_mut(self.length)? = byte;
        self.length += 1;
        Some(())
    }

    fn push_escaped(&mut self, byte: u8) -> Option<()> {
        match byte {
            b'"' | b'$' | b'(' | b')' | b'.' | b';' | b'@' | b'\\' => {
                self.push(b'\\')?;
                self.push(byte)
            }
            b'!'..=b'~' => self.push(byte),
            _ => {
                let digits = [byte / 100, byte / 10 % 10, byte % 10];
                self.push(b'\\')?;
                digits.iter().try_for_each(|digit| self.push(b'0' + digit))
            }
        }
    }
}
