//! zsh's parameters that control its history, as the variables of a bash.
//!
//! A zsh is recognised by the symbols that it exports to its modules. Parameters and the list are
//! those of the prompt only while no function runs (`locallevel` is 0): functions have parameters
//! and lists of their own.

use panoptes_decoders::user::zsh::{Parameter, Table, as_list, unmetafy};

use super::memory::Memory;
use super::variables::{
    CONTROL, FILE, FILE_SIZE, IGNORE, MORE_OPTIONS, SIZE, Text, VALUE_BYTES, Value, Values,
};
use super::words::{Word, Words};

/// Maximum length of a slot's chain of parameters.
const CHAIN_MAX: usize = 16;
/// Number of bytes of a parameter's name that are read: one more than the longest name has, and the
/// NUL.
const NAME_BYTES: u64 = 16;

/// Whether no function runs.
pub(super) fn is_at_prompt(words: &Words) -> bool {
    words.int(Word::LEVEL) == Some(0)
}

/// The values that control the history, in the places of those of bash.
pub(super) fn values(memory: &mut Memory<'_>, words: &Words) -> Values {
    let mut values = Values::default();
    let table = words.pointer(Word::PARAMETERS);
    let table = table.and_then(|table| memory.read(table, Table::BYTES)).and_then(Table::parse);
    let Some(table) = table else { return values };
    values[FILE] = value(memory, &table, b"HISTFILE");
    values[IGNORE] = list(&value(memory, &table, b"HISTORY_IGNORE"));
    // `histsizesetfn` (params.c): the list always keeps one command.
    values[SIZE] = size(words.number(Word::SIZE), 1);
    // Without a file, nothing depends on the number of commands that it keeps.
    values[FILE_SIZE] = match values[FILE] {
        Value::Unset => Value::Unset,
        _ => size(words.number(Word::SAVED), 0),
    };
    values[CONTROL] = Value::Unset;
    values[MORE_OPTIONS] = Value::Unset;
    values
}

/// The value of a size: `0` if it is at most `least`.
fn size(size: Option<i64>, least: i64) -> Value {
    let text = size.map(|size| if size <= least { &b"0"[..] } else { b"1" });
    text.and_then(Text::new).map_or(Value::Unknown, Value::Set)
}

/// The patterns of `HISTORY_IGNORE` as those of bash's `HISTIGNORE`.
fn list(pattern: &Value) -> Value {
    let mut room = [0; VALUE_BYTES];
    match pattern {
        Value::Set(text) => {
            let list = as_list(text.bytes(), &mut room);
            list.and_then(Text::new).map_or(Value::Unset, Value::Set)
        }
        other => *other,
    }
}

/// The value of a parameter.
fn value(memory: &mut Memory<'_>, table: &Table, name: &[u8]) -> Value {
    let Some(mut at) = memory.word(table.slot(name)) else { return Value::Unknown };
    for _ in 0..CHAIN_MAX {
        if at == 0 {
            return Value::Unset;
        }
        let parameter = memory.read(at, Parameter::BYTES).and_then(Parameter::parse);
        let Some(parameter) = parameter else { return Value::Unknown };
        let mut room = [0; VALUE_BYTES];
        let own = text(memory, parameter.name, NAME_BYTES, &mut room);
        if own.is_none() {
            return Value::Unknown;
        }
        if own == Some(name) {
            return match parameter {
                Parameter { is_text: false, .. } => Value::Unknown,
                Parameter { value: 0, .. } => Value::Unset,
                Parameter { value, .. } => {
                    let text = text(memory, value, VALUE_BYTES as u64, &mut room);
                    text.and_then(Text::new).map_or(Value::Unknown, Value::Set)
                }
            };
        }
        at = parameter.next;
    }
    Value::Unknown
}

/// The text at an address, up to its NUL or `limit` bytes, without zsh's encoding.
fn text<'a>(
    memory: &mut Memory<'_>,
    address: u64,
    limit: u64,
    room: &'a mut [u8; VALUE_BYTES],
) -> Option<&'a [u8]> {
    memory.clear();
    memory.push_text(address, limit);
    memory.run();
    let mut length = 0;
    let mut is_whole = false;
    for piece in [0, 1] {
        let Some(bytes) = memory.object(piece) else { break };
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        room.get_mut(length..length + bytes.len())?.copy_from_slice(bytes);
        length += bytes.len();
        is_whole = end.is_some() || length as u64 == limit;
        if is_whole {
            break;
        }
    }
    let text = room.get_mut(..length).filter(|_| is_whole)?;
    let length = unmetafy(text);
    text.get(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_keep_nothing_are_zero() {
        assert_eq!(size(Some(1), 1), Value::of("0"));
        assert_eq!(size(Some(2), 1), Value::of("1"));
        assert_eq!(size(Some(0), 0), Value::of("0"));
        assert_eq!(size(Some(1), 0), Value::of("1"));
        assert_eq!(size(Some(1 << 32), 0), Value::of("1"));
        assert_eq!(size(None, 0), Value::Unknown);
    }

    #[test]
    fn a_pattern_that_cannot_be_judged_disables_nothing() {
        assert_eq!(list(&Value::of("(*)")), Value::of("*"));
        assert_eq!(list(&Value::of("(ls|cd)")), Value::of("ls:cd"));
        assert_eq!(list(&Value::of("^ls")), Value::Unset);
        assert_eq!(list(&Value::Unset), Value::Unset);
        assert_eq!(list(&Value::Unknown), Value::Unknown);
    }
}
