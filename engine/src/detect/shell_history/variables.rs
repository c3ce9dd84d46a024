//! Reads the shell variables that control the history.

use panoptes_decoders::user::bash::{
    self, BashHashTable, Bucket, CONTEXT_TABLE, Variable, has_option, ignores_spaces,
};
use panoptes_decoders::user::bash_patterns::ignores_everything;

use super::history_path::HistoryFilePlace;
use super::memory::ProcessMemory;

/// Maximum length of a bucket's chain.
const CHAIN_MAX: usize = 8;
/// Number of bytes that a value must be shorter than to be kept.
pub(super) const VALUE_BYTES: usize = 192;
/// Number of bytes of a longer value that are read, once, to know what it decides.
pub(super) const LONG_BYTES: usize = 4096;

/// The variables' names, in order.
pub(super) const NAMES: [&[u8]; 7] = [
    b"HISTFILE",
    b"HISTSIZE",
    b"HISTFILESIZE",
    b"HISTCONTROL",
    b"HISTIGNORE",
    b"SHELLOPTS",
    b"BASHOPTS",
];
pub(super) const FILE: usize = 0;
pub(super) const SIZE: usize = 1;
pub(super) const FILE_SIZE: usize = 2;
pub(super) const CONTROL: usize = 3;
pub(super) const IGNORE: usize = 4;
pub(super) const OPTIONS: usize = 5;
pub(super) const MORE_OPTIONS: usize = 6;

/// Value of a variable, as far as it is known.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum VariableValue {
    #[default]
    Unknown,
    /// There is no variable of that name, or it has no value.
    Unset,
    Set(ShortText),
    /// A longer value, and whether it disables the history ([`disables`]).
    Long(bool),
}

/// A short text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ShortText {
    bytes: [u8; VALUE_BYTES],
    length: u16,
}

impl ShortText {
    /// `None` if the text is too long.
    pub(super) fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; VALUE_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        (text.len() < VALUE_BYTES).then_some(Self { bytes, length: text.len() as u16 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or(&[])
    }
}

impl VariableValue {
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Set(text) => Some(text.bytes()),
            Self::Unset | Self::Unknown | Self::Long(_) => None,
        }
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        ShortText::new(text.as_bytes()).map_or(Self::Unknown, Self::Set)
    }
}

/// The values of all variables.
pub(super) type VariableValues = [VariableValue; NAMES.len()];

/// The table of the variables of a context.
fn table(memory: &mut ProcessMemory<'_>, context: u64) -> Option<BashHashTable> {
    let table = memory.word(context.wrapping_add(CONTEXT_TABLE))?;
    BashHashTable::parse(memory.read(table, BashHashTable::BYTES)?)
}

/// Reads the variables of `context`, the shell's global one. Counts down `patterns_left` for long
/// patterns; without any, these are unknown.
pub(super) fn read(
    memory: &mut ProcessMemory<'_>,
    context: u64,
    patterns_left: &mut u32,
) -> VariableValues {
    let mut values = VariableValues::default();
    let Some(table) = table(memory, context) else { return values };
    memory.clear();
    for name in NAMES {
        memory.push(table.slot(name), 8);
    }
    memory.run();
    // The next address to read for each variable, 0 at the end of its chain.
    let mut next: [Option<u64>; NAMES.len()] =
        core::array::from_fn(|at| Some(u64::from_le_bytes(memory.object(at)?.try_into().ok()?)));
    let mut long = [None; NAMES.len()];
    for _ in 0..CHAIN_MAX {
        let buckets = read_all(memory, &next, Bucket::BYTES, Bucket::parse);
        let data = buckets.map(|bucket| bucket.map(|bucket| bucket.data));
        let variables = read_all(memory, &data, Variable::BYTES, Variable::parse);
        memory.clear();
        for variable in variables {
            let variable = variable.unwrap_or_default();
            memory.push_text(variable.name, 16);
            memory.push_text(variable.value, VALUE_BYTES as u64);
        }
        memory.run();
        let mut goes_on = false;
        for (at, name) in NAMES.iter().enumerate() {
            let Some(place) = next[at] else { continue };
            if values[at] != VariableValue::Unknown {
                continue;
            }
            if place == 0 {
                values[at] = VariableValue::Unset;
                continue;
            }
            next[at] = None;
            let Some((bucket, variable)) = buckets[at].zip(variables[at]) else { continue };
            let mut room = [0; VALUE_BYTES];
            let own = text(memory, at * 4, 16, &mut room);
            if bucket.hash != bash::hash(name) || own.is_some_and(|own| own != *name) {
                next[at] = Some(bucket.next);
                goes_on = true;
                continue;
            }
            if own.is_some() {
                values[at] = value(memory, at * 4 + 2, &variable);
                long[at] = is_long(memory, at * 4 + 2, &variable).then_some(variable.value);
            }
        }
        if !goes_on {
            break;
        }
    }
    for (at, address) in long.into_iter().enumerate() {
        if at == IGNORE && address.is_some() {
            if *patterns_left == 0 {
                values[at] = VariableValue::Unknown;
                continue;
            }
            *patterns_left -= 1;
        }
        if let Some(address) = address {
            values[at] = read_long(memory, at, address);
        }
    }
    values
}

/// The value of a variable whose text was read as objects `index` and the next.
fn value(memory: &ProcessMemory<'_>, index: usize, variable: &Variable) -> VariableValue {
    if variable.is_invisible || variable.value == 0 {
        return VariableValue::Unset;
    }
    let mut room = [0; VALUE_BYTES];
    let text = text(memory, index, VALUE_BYTES, &mut room).filter(|_| !variable.is_no_text);
    text.and_then(ShortText::new).map_or(VariableValue::Unknown, VariableValue::Set)
}

/// Whether a variable's text continues behind objects `index` and the next.
fn is_long(memory: &ProcessMemory<'_>, index: usize, variable: &Variable) -> bool {
    let mut room = [0; VALUE_BYTES];
    let is_text = variable.value != 0 && !variable.is_invisible && !variable.is_no_text;
    is_text && text(memory, index, VALUE_BYTES, &mut room).is_some_and(|it| it.len() == VALUE_BYTES)
}

/// Reads a long value of the variable `at`.
fn read_long(memory: &mut ProcessMemory<'_>, at: usize, address: u64) -> VariableValue {
    memory.clear();
    memory.push_text(address, LONG_BYTES as u64);
    memory.run();
    let mut room = [0; LONG_BYTES];
    let text = text(memory, 0, LONG_BYTES, &mut room);
    let disables = |text: &[u8]| disables(at, text, text.len() < LONG_BYTES);
    text.map_or(VariableValue::Unknown, |text| VariableValue::Long(disables(text)))
}

/// Whether a long value disables what its variable is about, or has the option that is asked for.
/// `is_whole`: whether its end is known.
pub(super) fn disables(at: usize, text: &[u8], is_whole: bool) -> bool {
    match at {
        FILE => HistoryFilePlace::of(text, is_whole) != HistoryFilePlace::Open,
        SIZE | FILE_SIZE => is_whole && number(text) == Some(0),
        CONTROL => ignores_spaces(text),
        IGNORE => ignores_everything(text, false) || ignores_everything(text, true),
        OPTIONS => has_option(text, b"history"),
        _ => has_option(text, b"extglob"),
    }
}

/// Reads an object at each address that is known and not 0.
fn read_all<T>(
    memory: &mut ProcessMemory<'_>,
    places: &[Option<u64>; NAMES.len()],
    bytes: u64,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> [Option<T>; NAMES.len()] {
    memory.clear();
    for place in places {
        memory.push(place.filter(|&place| place != 0).unwrap_or(u64::MAX), bytes);
    }
    memory.run();
    core::array::from_fn(|at| memory.object(at).and_then(&parse))
}

/// A text that was read in two pieces, if its end was read, or `limit` bytes of it.
fn text<'a>(
    memory: &ProcessMemory<'_>,
    index: usize,
    limit: usize,
    room: &'a mut [u8],
) -> Option<&'a [u8]> {
    let mut length = 0;
    for piece in [index, index + 1] {
        let bytes = memory.object(piece)?;
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        let into = room.get_mut(length..length + bytes.len())?;
        into.copy_from_slice(bytes);
        length += bytes.len();
        if end.is_some() || length >= limit {
            return room.get(..length);
        }
    }
    None
}

/// The number that bash takes a size for (`valid_number`, general.c; `sv_histsize`, variables.c):
/// decimal digits of 64 bits, cut to an `int`. Any other text changes nothing. Before the number
/// may be any space (`strtoimax`), behind it blanks (`legal_number`, general.c).
pub(super) fn number(text: &[u8]) -> Option<i32> {
    // `isspace` in the C locale.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let begin = text.iter().position(|byte| !is_space(byte))?;
    let end = text.iter().rposition(|byte| !matches!(byte, b' ' | b'\t'))?;
    let number: i64 = str::from_utf8(text.get(begin..=end)?).ok()?.parse().ok()?;
    Some(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_as_in_bash() {
        for zero in ["0", " 0 ", "00", "+0", "-0", "\n0\t ", "4294967296", "-4294967296"] {
            assert_eq!(number(zero.as_bytes()), Some(0), "{zero:?}");
        }
        for none in [
            "",
            " ",
            "0x0",
            "0 0",
            "zero",
            "0.0",
            "\u{a0}0",
            "- 0",
            "0\n",
            "+",
            "0,",
            "1e0",
            "9223372036854775808",
        ] {
            assert_eq!(number(none.as_bytes()), None, "{none:?}");
        }
        assert_eq!(number(b"100000"), Some(100_000));
        assert_eq!(number(b"-1"), Some(-1));
        assert_eq!(number(b"2147483648"), Some(i32::MIN));
    }

    #[test]
    fn a_long_value_decides_what_a_short_one_would() {
        let disables = |at, text: &[u8]| disables(at, text, text.len() < LONG_BYTES);
        let slashes = "/".repeat(300);
        assert!(disables(FILE, format!("{slashes}dev/null").as_bytes()));
        assert!(!disables(FILE, format!("{slashes}root/.x").as_bytes()));
        assert!(disables(FILE, "x".repeat(LONG_BYTES).as_bytes()));
        assert!(disables(SIZE, "0".repeat(300).as_bytes()));
        assert!(!disables(SIZE, "0".repeat(LONG_BYTES).as_bytes()));
        let names = "ls:".repeat(200);
        assert!(!disables(IGNORE, names.as_bytes()));
        assert!(disables(IGNORE, format!("{names}*").as_bytes()));
        assert!(disables(CONTROL, format!("{names}ignorespace").as_bytes()));
        assert!(disables(MORE_OPTIONS, format!("{names}extglob").as_bytes()));
    }
}
