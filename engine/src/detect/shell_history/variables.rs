//! Reads the shell variables that control the history.

use panoptes_decoders::user::bash::{self, Bucket, CONTEXT_TABLE, Table, Variable};

use super::memory::Memory;

/// Maximum length of a bucket's chain.
const CHAIN_MAX: usize = 8;
/// Number of bytes of a value that are kept. A longer value decides nothing.
pub(super) const VALUE_BYTES: usize = 128;

/// The variables' names, in order.
pub(super) const NAMES: [&[u8]; 6] =
    [b"HISTFILE", b"HISTSIZE", b"HISTFILESIZE", b"HISTCONTROL", b"HISTIGNORE", b"SHELLOPTS"];
pub(super) const FILE: usize = 0;
pub(super) const SIZE: usize = 1;
pub(super) const FILE_SIZE: usize = 2;
pub(super) const CONTROL: usize = 3;
pub(super) const IGNORE: usize = 4;
pub(super) const OPTIONS: usize = 5;

/// What is known of a variable.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Value {
    #[default]
    Unknown,
    /// There is no variable of that name, or it has no value.
    Unset,
    Set(Text),
}

/// A short text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Text {
    bytes: [u8; VALUE_BYTES],
    length: u8,
}

impl Text {
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; VALUE_BYTES];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { bytes, length: text.len() as u8 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or(&[])
    }
}

impl Value {
    pub(super) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Set(text) => Some(text.bytes()),
            Self::Unset | Self::Unknown => None,
        }
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Text::new(text.as_bytes()).map_or(Self::Unknown, Self::Set)
    }
}

/// The values of all variables.
pub(super) type Values = [Value; NAMES.len()];

/// Reads the variables of `context`, the shell's global one.
pub(super) fn read(memory: &mut Memory<'_>, context: u64) -> Values {
    let mut values = Values::default();
    let table = memory.word(context.wrapping_add(CONTEXT_TABLE));
    let table = table.and_then(|table| memory.read(table, Table::BYTES)).and_then(Table::parse);
    let Some(table) = table else { return values };
    memory.clear();
    for name in NAMES {
        memory.push(table.slot(name), 8);
    }
    memory.run();
    // The next address to read for each variable, 0 at the end of its chain.
    let mut next: [Option<u64>; NAMES.len()] =
        core::array::from_fn(|at| Some(u64::from_le_bytes(memory.object(at)?.try_into().ok()?)));
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
            if values[at] != Value::Unknown {
                continue;
            }
            if place == 0 {
                values[at] = Value::Unset;
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
            if own.is_none() {
                continue;
            }
            values[at] = if variable.is_invisible || variable.value == 0 {
                Value::Unset
            } else if variable.is_no_text {
                Value::Unknown
            } else {
                text(memory, at * 4 + 2, VALUE_BYTES, &mut room)
                    .and_then(Text::new)
                    .map_or(Value::Unknown, Value::Set)
            };
        }
        if !goes_on {
            break;
        }
    }
    values
}

/// Reads an object at each address that is known and not 0.
fn read_all<T>(
    memory: &mut Memory<'_>,
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

/// A text that was read in two pieces, if its end was read.
fn text<'a>(
    memory: &Memory<'_>,
    index: usize,
    limit: usize,
    room: &'a mut [u8; VALUE_BYTES],
) -> Option<&'a [u8]> {
    let mut length = 0;
    for piece in [index, index + 1] {
        let bytes = memory.object(piece)?;
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        let into = room.get_mut(length..length + bytes.len())?;
        into.copy_from_slice(bytes);
        length += bytes.len();
        if end.is_some() {
            return room.get(..length);
        }
        if length >= limit {
            break;
        }
    }
    None
}

/// Parses a value as a number.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    str::from_utf8(text).ok()?.trim().parse().ok()
}
