//! The data structures in which zsh keeps its history and its parameters (zsh 5.0 to 5.9: `struct
//! histent`, `struct hashtable`, `struct param` in Src/zsh.h; hist.c; hashtable.c), on
//! little-endian 64-bit machines.
//!
//! The history is a ring: `hist_ring` points to the newest [`ZshHistoryEntry`], `up` leads to the
//! one before it, and the oldest one leads back to the newest. While a line is being edited, the
//! newest entry is the variable `curline`. Parameters are in a hash table by name
//! ([`ZshHashTable`], [`Parameter`]).

use super::bash::is_plausible;
use super::{u32_at, u64_at};

/// `struct histent`: one command of the history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ZshHistoryEntry {
    /// `char *node.nam`, with zsh's encoding ([`unmetafy`]); 0 in a new `curline`.
    pub line: u64,
    /// `node.flags`
    flags: u32,
    /// The entry before it.
    pub up: u64,
    /// The entry after it.
    pub down: u64,
    /// `stim`: when it began, in seconds since 1970.
    pub start_s: i64,
    /// `histnum`
    pub number: i64,
}

impl ZshHistoryEntry {
    /// Size in bytes.
    pub const BYTES: u64 = 88;

    /// Parses an entry; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let entry = Self {
            line: u64_at(bytes, 8)?,
            flags: u32_at(bytes, 16)?,
            up: u64_at(bytes, 24)?,
            down: u64_at(bytes, 32)?,
            start_s: u64_at(bytes, 48)? as i64,
            number: u64_at(bytes, 80)? as i64,
        };
        let is_sound = is_plausible(entry.up)
            && is_plausible(entry.down)
            && (entry.line == 0 || is_plausible(entry.line));
        is_sound.then_some(entry)
    }

    /// Whether it was typed into this shell, and not read from a file.
    pub const fn is_typed(&self) -> bool {
        // `HIST_READ`, `HIST_FOREIGN`
        self.flags & (0x4 | 0x10) == 0
    }
}

/// Removes zsh's encoding of some bytes from a text: `Meta` and the byte with a bit inverted
/// (`unmetafy`, utils.c). Returns the length without it.
pub fn unmetafy(text: &mut [u8]) -> usize {
    const META: u8 = 0x83;
    let mut length = 0;
    let mut is_meta = false;
    for at in 0..text.len() {
        let Some(&byte) = text.get(at) else { break };
        if byte == META && !is_meta {
            is_meta = true;
            continue;
        }
        if let Some(to) = text.get_mut(length) {
            *to = if is_meta { byte ^ 0x20 } else { byte };
            length += 1;
        }
        is_meta = false;
    }
    length
}

/// `struct hashtable`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ZshHashTable {
    /// `HashNode *nodes`
    pub nodes: u64,
    /// `int hsize`
    pub size: u32,
}

impl ZshHashTable {
    /// Number of bytes of it that are read.
    pub const BYTES: u64 = 16;

    /// Parses a table; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let table = Self { size: u32_at(bytes, 0)?, nodes: u64_at(bytes, 8)? };
        ((1..=1 << 24).contains(&table.size) && is_plausible(table.nodes)).then_some(table)
    }

    /// Address of the pointer to the first node of a name.
    pub fn slot(&self, name: &[u8]) -> u64 {
        let slot = hash(name).checked_rem(self.size).unwrap_or(0);
        self.nodes.wrapping_add(u64::from(slot) * 8)
    }
}

/// Hash of a name (`hasher`, hashtable.c).
pub fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0, |hash: u32, &byte| hash.wrapping_mul(33).wrapping_add(byte.into()))
}

/// `struct param`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Parameter {
    /// The next node of its chain, or 0.
    pub next: u64,
    /// `char *node.nam`
    pub name: u64,
    /// `char *u.str`, with zsh's encoding; 0 without a value.
    pub value: u64,
    /// Whether its value is a text.
    pub is_text: bool,
}

impl Parameter {
    /// Number of bytes of it that are read.
    pub const BYTES: u64 = 32;

    /// Parses a parameter; `None` if it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        // `PM_ARRAY`, `PM_INTEGER`, `PM_EFLOAT`, `PM_FFLOAT`, `PM_HASHED`; `PM_NAMEREF`.
        const NO_TEXT: u32 = 0x1f | 1 << 30;
        let (next, name, value) = (u64_at(bytes, 0)?, u64_at(bytes, 8)?, u64_at(bytes, 24)?);
        let is_text = u32_at(bytes, 16)? & NO_TEXT == 0;
        let is_sound = is_plausible(name)
            && (next == 0 || is_plausible(next))
            && (!is_text || value == 0 || is_plausible(value));
        is_sound.then_some(Self { next, name, value, is_text })
    }
}

/// Writes the alternatives of `HISTORY_IGNORE` as a list in the format of bash's `HISTIGNORE`, and
/// returns the list. zsh has one pattern, often of alternatives in parentheses: `(ls|cd *)`. Those
/// with an operator that bash does not have are left out: the others match at least as much as the
/// list. `None` if none is left, if one is not complete, or if the list has no room.
pub fn as_list<'a>(pattern: &[u8], room: &'a mut [u8]) -> Option<&'a [u8]> {
    let inner = pattern.strip_prefix(b"(").and_then(|rest| rest.strip_suffix(b")"));
    let length = inner.and_then(|inner| write_list(inner, room));
    let length = length.or_else(|| write_list(pattern, room))?;
    room.get(..length)
}

/// Writes the alternatives of a pattern; returns the length of the list.
fn write_list(pattern: &[u8], room: &mut [u8]) -> Option<usize> {
    let is_other = |byte: &u8| {
        matches!(byte, b'|' | b'(' | b')' | b'<' | b'#' | b'~' | b'^' | b':' | b'&' | b'\\')
    };
    let (mut rest, mut length) = (Some(pattern), None);
    while let Some(alternatives) = rest {
        let (alternative, behind) = alternatives.split_at_checked(first_length(alternatives)?)?;
        rest = behind.split_first().map(|(_, behind)| behind);
        if alternative.iter().any(is_other) {
            continue;
        }
        let begin = match length {
            Some(end) => {
                *room.get_mut(end)? = b':';
                end + 1
            }
            None => 0,
        };
        let end = begin + alternative.len();
        room.get_mut(begin..end)?.copy_from_slice(alternative);
        length = Some(end);
    }
    length
}

/// The length of a pattern's first alternative; `None` if something in it is not closed, or is
/// closed and was not begun.
fn first_length(pattern: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = pattern.get(at) {
        match byte {
            b'|' if depth == 0 => return Some(at),
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b'\\' => at += 1,
            b'[' => at += brackets_end(pattern.get(at..)?)?,
            _ => {}
        }
        at += 1;
    }
    (depth == 0).then_some(pattern.len())
}

/// The place of the bracket that closes the first one. In brackets no other operator counts.
fn brackets_end(pattern: &[u8]) -> Option<usize> {
    let mut at = if matches!(pattern.get(1)?, b'^' | b'!') { 2 } else { 1 };
    // At the beginning it is one of the characters.
    at += usize::from(*pattern.get(at)? == b']');
    loop {
        match pattern.get(at)? {
            b']' => return Some(at),
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let class = pattern.get(at + 2..)?;
                at += 3 + class.windows(2).position(|end| end == b":]")?;
            }
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// An entry as zsh 5.9 on x86-64 has it in memory.
    fn entry(flags: u64) -> Vec<u8> {
        let (up, down) = (0x55e8_c3cc_d750, 0x55e8_c3cc_cb80);
        let (start, end, words) = (1_795_947_888, 1_795_947_889, 0x55e8_c3cc_9000);
        let all = [0, 0x55e8_c3cc_9d20, flags, up, down, 0, start, end, words, 2, 3];
        all.iter().flat_map(|word: &u64| word.to_le_bytes()).collect()
    }

    #[test]
    fn an_entry_has_its_line_its_time_and_its_neighbours() {
        let parsed = ZshHistoryEntry::parse(&entry(0)).unwrap();
        let expected = ZshHistoryEntry {
            line: 0x55e8_c3cc_9d20,
            flags: 0,
            up: 0x55e8_c3cc_d750,
            down: 0x55e8_c3cc_cb80,
            start_s: 1_795_947_888,
            number: 3,
        };
        assert_eq!(parsed, expected);
        assert_eq!(ZshHistoryEntry::parse(&entry(0)[..87]), None);
        // A pointer that is none.
        let mut wrong = entry(0);
        wrong[31] = 0xff;
        assert_eq!(ZshHistoryEntry::parse(&wrong), None);
    }

    #[test]
    fn entries_of_a_file_and_of_other_shells_were_not_typed() {
        // `HIST_OLD | HIST_READ`; with `HIST_FOREIGN`.
        for flags in [0x6, 0x16, 0x10] {
            assert!(!ZshHistoryEntry::parse(&entry(flags)).unwrap().is_typed(), "{flags:#x}");
        }
        // `HIST_OLD`, `HIST_DUP`, `HIST_TMPSTORE`, `HIST_NOWRITE`
        for flags in [0, 0x2, 0x8, 0x20, 0x40] {
            assert!(ZshHistoryEntry::parse(&entry(flags)).unwrap().is_typed(), "{flags:#x}");
        }
    }

    #[test]
    fn encoded_bytes_are_decoded() {
        // zsh encodes 0x83 to 0xa2: in `’` (e2 80 99) the last byte.
        for (encoded, text) in [
            (&b"echo one"[..], &b"echo one"[..]),
            (b"\xe2\x80\x83\xb9", b"\xe2\x80\x99"),
            (b"\x83\xa3", b"\x83"),
            (b"\x83\xa3\x83\xa3", b"\x83\x83"),
            // Cut off.
            (b"a\x83", b"a"),
        ] {
            let mut bytes = encoded.to_vec();
            let length = unmetafy(&mut bytes);
            assert_eq!(&bytes[..length], text, "{encoded:x?}");
        }
    }

    #[test]
    fn names_are_in_their_slots() {
        let header = [&151_u32.to_le_bytes()[..], &[179, 0, 0, 0], &0x5000_u64.to_le_bytes()];
        let table = ZshHashTable::parse(&header.concat()).unwrap();
        // 'a' is 97, and 'b' is 98: 97 * 33 + 98 is 3299, which is 128 modulo 151.
        assert_eq!(table.slot(b"a"), 0x5000 + 97 * 8);
        assert_eq!(table.slot(b"ab"), 0x5000 + 128 * 8);
        assert_eq!(ZshHashTable::parse(&[0; 16]), None);
    }

    #[test]
    fn only_texts_have_a_text() {
        let parameter = |flags: u32, value: u64| {
            let words = [0, 0x5000, u64::from(flags), value];
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Parameter::parse(&bytes)
        };
        let text = Parameter { next: 0, name: 0x5000, value: 0x6000, is_text: true };
        assert_eq!(parameter(0, 0x6000), Some(text));
        // `PM_EXPORTED`
        assert_eq!(parameter(1 << 12, 0x6000), Some(text));
        assert_eq!(parameter(0, 7), None);
        // An integer, 7.
        assert_eq!(parameter(2, 7), Some(Parameter { value: 7, is_text: false, ..text }));
    }

    #[test]
    fn patterns_become_a_list() {
        let mut room = [0; 16];
        for (pattern, list) in [
            (&b"*"[..], Some(&b"*"[..])),
            (b"(*)", Some(b"*")),
            (b"(ls|cd *|?)", Some(b"ls:cd *:?")),
            (b"ls", Some(b"ls")),
            (b"(a|b)c", None),
            (b"^ls", None),
            (b"(a:b)", None),
            // As zsh 5.9 matches: `*` is an alternative of each.
            (b"ls|*", Some(b"ls:*")),
            (b"(*|^x)", Some(b"*")),
            (b"(*|x~y)", Some(b"*")),
            (b"(\\&|[bf]g|*)", Some(b"[bf]g:*")),
            (b"((a|b)|*)", Some(b"*")),
            // It is none of these, or inside parentheses.
            (b"(*)~x", None),
            (b"*~curl*", None),
            (b"(*|a)~(b)", None),
            (b"(a)|(*)", None),
            (b"[|*|]", None),
            (b"[[:x:]|*|]", None),
            (b"[]|*|]", None),
            (b"\\*", None),
            (b"a\\|*", None),
            // zsh takes no pattern that is not complete.
            (b"(*|[a)", None),
            (b"(*|(a)", None),
            (b"*|a)", None),
            (b"a very long pattern", None),
        ] {
            assert_eq!(as_list(pattern, &mut room), list, "{}", pattern.escape_ascii());
        }
    }
}
