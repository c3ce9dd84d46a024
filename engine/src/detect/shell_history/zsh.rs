//! zsh's parameters that control its history, as the variables of a bash.
//!
//! A zsh is recognised by the symbols that it exports to its modules. Parameters and the list are
//! those of the prompt only while no function runs (`locallevel` is 0): functions have parameters
//! and lists of their own.

use panoptes_decoders::user::zsh::{Parameter, ZshHashTable, as_list, unmetafy};

use super::memory::ProcessMemory;
use super::variables::{
    CONTROL, FILE, FILE_SIZE, IGNORE, LONG_BYTES, MORE_OPTIONS, SIZE, ShortText, VALUE_BYTES,
    VariableValue, VariableValues, disables,
};
use super::words::{ShellGlobal, ShellGlobals};

/// Maximum length of a slot's chain of parameters.
const CHAIN_MAX: usize = 16;
/// Number of bytes of a parameter's name that are read: one more than the longest name has, and the
/// NUL.
const PARAMETER_NAME_BYTES: usize = 16;

/// Whether no function runs.
pub(super) fn is_at_prompt(words: &ShellGlobals) -> bool {
    words.int(ShellGlobal::LEVEL) == Some(0)
}

/// The values that control the history, in the places of those of bash. Counts down
/// `patterns_left` for long patterns; without any, these are unknown.
pub(super) fn values(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    patterns_left: &mut u32,
) -> VariableValues {
    let mut values = VariableValues::default();
    let table = words.pointer(ShellGlobal::PARAMETERS);
    let table = table
        .and_then(|table| memory.read(table, ZshHashTable::BYTES))
        .and_then(ZshHashTable::parse);
    let Some(table) = table else { return values };
    for (at, name) in [(FILE, &b"HISTFILE"[..]), (IGNORE, b"HISTORY_IGNORE")] {
        values[at] = match find(memory, &table, name) {
            ZshParameter::Text(place) => value(memory, at, place, patterns_left),
            ZshParameter::Other(value) => value,
        };
    }
    // `histsizesetfn` (params.c): the list always keeps one command.
    values[SIZE] = size(words.number(ShellGlobal::SIZE), 1);
    // Without a file, nothing depends on the number of commands that it keeps.
    values[FILE_SIZE] = match values[FILE] {
        VariableValue::Unset => VariableValue::Unset,
        _ => size(words.number(ShellGlobal::SAVED), 0),
    };
    values[CONTROL] = VariableValue::Unset;
    values[MORE_OPTIONS] = VariableValue::Unset;
    values
}

/// The value of a size: `0` if it is at most `least`.
fn size(size: Option<i64>, least: i64) -> VariableValue {
    let text = size.map(|size| if size <= least { &b"0"[..] } else { b"1" });
    text.and_then(ShortText::new).map_or(VariableValue::Unknown, VariableValue::Set)
}

/// The patterns of `HISTORY_IGNORE` as those of bash's `HISTIGNORE`.
fn list(pattern: &[u8]) -> VariableValue {
    let mut room = [0; VALUE_BYTES];
    let list = as_list(pattern, &mut room);
    list.and_then(ShortText::new).map_or(VariableValue::Unset, VariableValue::Set)
}

/// A long text of the variable `at`, of which `is_whole` tells whether its end is known.
fn long(at: usize, text: &[u8], is_whole: bool) -> VariableValue {
    if at != IGNORE {
        return VariableValue::Long(disables(at, text, is_whole));
    }
    let mut room = [0; LONG_BYTES];
    let list = as_list(text, &mut room).filter(|_| is_whole);
    list.map_or(VariableValue::Unset, |list| VariableValue::Long(disables(at, list, true)))
}

/// A parameter that was searched.
enum ZshParameter {
    /// The address of its text.
    Text(u64),
    Other(VariableValue),
}

fn find(memory: &mut ProcessMemory<'_>, table: &ZshHashTable, name: &[u8]) -> ZshParameter {
    let Some(mut at) = memory.word(table.slot(name)) else {
        return ZshParameter::Other(VariableValue::Unknown);
    };
    for _ in 0..CHAIN_MAX {
        if at == 0 {
            return ZshParameter::Other(VariableValue::Unset);
        }
        let parameter = memory.read(at, Parameter::BYTES).and_then(Parameter::parse);
        let Some(parameter) = parameter else { break };
        let mut room = [0; PARAMETER_NAME_BYTES];
        let Some((own, _)) = text(memory, parameter.name, &mut room) else { break };
        if own == name {
            return match parameter {
                Parameter { is_text: false, .. } => ZshParameter::Other(VariableValue::Unknown),
                Parameter { value: 0, .. } => ZshParameter::Other(VariableValue::Unset),
                Parameter { value, .. } => ZshParameter::Text(value),
            };
        }
        at = parameter.next;
    }
    ZshParameter::Other(VariableValue::Unknown)
}

/// The value of the variable `at` whose text is at `place`.
fn value(
    memory: &mut ProcessMemory<'_>,
    at: usize,
    place: u64,
    patterns_left: &mut u32,
) -> VariableValue {
    let mut room = [0; VALUE_BYTES];
    match text(memory, place, &mut room) {
        Some((text, true)) if at == IGNORE => return list(text),
        Some((text, true)) => {
            return ShortText::new(text).map_or(VariableValue::Unknown, VariableValue::Set);
        }
        Some((_, false)) => {}
        None => return VariableValue::Unknown,
    }
    if at == IGNORE {
        let Some(left) = patterns_left.checked_sub(1) else { return VariableValue::Unknown };
        *patterns_left = left;
    }
    let mut room = [0; LONG_BYTES];
    let text = text(memory, place, &mut room);
    text.map_or(VariableValue::Unknown, |(text, is_whole)| long(at, text, is_whole))
}

/// The text at an address without zsh's encoding, and whether its NUL was met. A text without one
/// ends where the room does.
fn text<'a>(
    memory: &mut ProcessMemory<'_>,
    address: u64,
    room: &'a mut [u8],
) -> Option<(&'a [u8], bool)> {
    memory.clear();
    memory.push_text(address, room.len() as u64);
    memory.run();
    join([memory.object(0), memory.object(1)], room)
}

/// The text that two pieces have together, as far as they were read.
fn join<'a>(pieces: [Option<&[u8]>; 2], room: &'a mut [u8]) -> Option<(&'a [u8], bool)> {
    let (mut length, mut has_end) = (0, false);
    for bytes in pieces.into_iter().map_while(|piece| piece) {
        let end = bytes.iter().position(|&byte| byte == 0);
        let bytes = &bytes[..end.unwrap_or(bytes.len())];
        let Some(into) = room.get_mut(length..length + bytes.len()) else { break };
        into.copy_from_slice(bytes);
        length += bytes.len();
        has_end = end.is_some();
        if has_end {
            break;
        }
    }
    let is_full = length == room.len();
    let text = room.get_mut(..length).filter(|_| has_end || is_full)?;
    let length = unmetafy(text);
    Some((text.get(..length)?, has_end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_keep_nothing_are_zero() {
        assert_eq!(size(Some(1), 1), VariableValue::of("0"));
        assert_eq!(size(Some(2), 1), VariableValue::of("1"));
        assert_eq!(size(Some(0), 0), VariableValue::of("0"));
        assert_eq!(size(Some(1), 0), VariableValue::of("1"));
        assert_eq!(size(Some(1 << 32), 0), VariableValue::of("1"));
        assert_eq!(size(None, 0), VariableValue::Unknown);
    }

    #[test]
    fn a_pattern_that_cannot_be_judged_disables_nothing() {
        assert_eq!(list(b"(*)"), VariableValue::of("*"));
        assert_eq!(list(b"(ls|cd)"), VariableValue::of("ls:cd"));
        assert_eq!(list(b"^ls"), VariableValue::Unset);
    }

    #[test]
    fn a_long_value_decides_what_a_short_one_would() {
        let file = format!("{}dev/null", "/".repeat(300));
        assert_eq!(long(FILE, file.as_bytes(), true), VariableValue::Long(true));
        assert_eq!(
            long(FILE, file.as_bytes(), false),
            VariableValue::Long(true),
            "no such name is opened"
        );
        let file = format!("{}root/.histfile", "/".repeat(300));
        assert_eq!(long(FILE, file.as_bytes(), true), VariableValue::Long(false));
        let names = "ls|".repeat(200);
        let pattern = |end: &str| format!("({names}{end})");
        assert_eq!(long(IGNORE, pattern("*").as_bytes(), true), VariableValue::Long(true));
        assert_eq!(long(IGNORE, pattern("cd").as_bytes(), true), VariableValue::Long(false));
        assert_eq!(long(IGNORE, pattern("^x").as_bytes(), true), VariableValue::Long(false));
        assert_eq!(
            long(IGNORE, pattern("*").as_bytes(), false),
            VariableValue::Unset,
            "it continues"
        );
    }

    /// Encoded bytes make a text shorter than what was read of it.
    #[test]
    fn the_end_of_a_text_is_known_by_its_nul() {
        let text = |pieces, room: &mut [u8]| {
            join(pieces, room).map(|(text, has_end)| (text.to_vec(), has_end))
        };
        let room = &mut [0; 8];
        assert_eq!(text([Some(b"/a\0b"), Some(b"c")], room), Some((b"/a".to_vec(), true)));
        assert_eq!(text([Some(b"/a"), Some(b"b\0")], room), Some((b"/ab".to_vec(), true)));
        assert_eq!(text([Some(b"/a"), None], room), None, "the next page is not there");
        assert_eq!(text([None, Some(b"b\0")], room), None);
        // `/`, 0x99 as two bytes, and five letters of more.
        let cut = Some((b"/\x99abcde".to_vec(), false));
        assert_eq!(text([Some(b"/\x83\xb9abcde"), None], room), cut);
    }
}
