//! Reads a shell's list of commands out of its memory.

use panoptes_decoders::source::MemorySource;
use panoptes_decoders::user::bash::{BashHistoryEntry, ENTRY_BYTES};
use panoptes_tables::{HashKey, room};

use super::changes::KEPT_MAX;
use super::locate::{ShellLayout, ShellVerdict, locate, locate_readline};
use super::memory::ProcessMemory;
use super::structure::CHUNK_BYTES;
use super::texts::{TEXTS, texts_of};
use super::words::{ShellGlobal, ShellGlobals};
use super::{ShellKind, python, ring};
use crate::address::{MemoryReader, ReaderSizes};
use crate::page_cache::FileReader;
use crate::walk::{Kernel, MmRow, Snapshot};

/// Maximum length of a list; longer ones are not trusted.
const LENGTH_MAX: u32 = 1 << 20;
/// Maximum number of commands that are counted in a list without a symbol for its length.
const COUNTED_MAX: u32 = 1 << 16;
/// Maximum number of bytes of remembered commands: of one list, and of all lists.
const REMEMBERED_MAX: (usize, usize) = (16 << 20, 64 << 20);
/// Maximum number of pointers of one chunk of variables whose targets are checked.
pub(super) const POINTERS_MAX: usize = 3072;
/// Room for the longest text that is not a command.
pub(super) const TEXT_ROOM_MIN: usize = 64;

/// Room for one batch: small objects, and a chunk of variables or texts.
pub(super) const fn arena_bytes(objects: usize, limit: u64) -> usize {
    objects * 48 + CHUNK_BYTES as usize + 2 * TEXTS * (limit as usize + TEXT_ROOM_MIN)
}

/// Scratch space for one list.
#[derive(Debug)]
pub(super) struct HistoryListScratch {
    entries: Vec<BashHistoryEntry>,
    pub(super) keys: Vec<u32>,
}

impl HistoryListScratch {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: room::list(capacity), keys: room::list(capacity) }
    }
}

/// Reads the last entries of the list that `words` point to and returns its length. Returns `None`
/// if the list is inconsistent, for example while bash changes it. The entries are counted if there
/// is no symbol for their number.
pub(super) fn read(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    (key, is_counted): (HashKey, bool),
    scratch: &mut HistoryListScratch,
) -> Option<u32> {
    let length = if is_counted {
        count(memory, words.pointer(ShellGlobal::TheHistory).unwrap_or(0))?
    } else {
        u32::try_from(words.int(ShellGlobal::Length)?).ok()?
    };
    let kept = (length as usize).min(KEPT_MAX);
    read_range(memory, words, (length - kept as u32, kept), key, scratch)?;
    Some(length)
}

/// Counts the commands of a list up to its null pointer. Behind that, removed entries may be left.
fn count(memory: &mut ProcessMemory<'_>, array: u64) -> Option<u32> {
    if array == 0 {
        return Some(0);
    }
    let mut first = 0;
    while first < COUNTED_MAX {
        let chunk = array.wrapping_add(u64::from(first) * 8);
        // The memory behind the array may not be mapped.
        let mut end = None;
        let mut read = 0;
        for slots in [512_u32, 32, 1] {
            if let Some(bytes) = memory.read(chunk, u64::from(slots) * 8) {
                end = bytes.chunks_exact(8).position(|word| word == [0; 8]);
                read = slots;
                break;
            }
        }
        match end {
            Some(end) => return Some(first + end as u32),
            None if read == 0 => return None,
            None => first += read,
        }
    }
    None
}

/// Reads the entries of `wanted` commands, starting at `first`. They end the list or are
/// [`KEPT_MAX`].
fn read_range(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    (first, wanted): (u32, usize),
    key: HashKey,
    scratch: &mut HistoryListScratch,
) -> Option<()> {
    let HistoryListScratch { entries, keys } = scratch;
    entries.clear();
    keys.clear();
    if wanted == 0 {
        return Some(());
    }
    let array = words.pointer(ShellGlobal::TheHistory)?;
    if first.checked_add(wanted as u32)? > LENGTH_MAX || wanted > KEPT_MAX {
        return None;
    }
    // A null pointer follows the last entry.
    let start = array.wrapping_add(u64::from(first) * 8);
    let mut places = [0_u64; KEPT_MAX + 1];
    let bytes = memory.read(start, (wanted as u64 + 1) * 8)?;
    for (place, bytes) in places.iter_mut().zip(bytes.chunks_exact(8)) {
        *place = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    let is_end = words
        .int(ShellGlobal::Length)
        .is_none_or(|length| length as usize == first as usize + wanted);
    if is_end && places[wanted] != 0 || is_being_shifted(&places[..wanted]) {
        return None;
    }
    memory.clear();
    for &place in &places[..wanted] {
        memory.push(place, ENTRY_BYTES);
    }
    memory.run();
    for (index, &place) in places[..wanted].iter().enumerate() {
        let entry = BashHistoryEntry::parse(memory.object(index)?)?;
        entries.push(entry);
        keys.push(key.hash_numbers([place, entry.line, entry.timestamp]) as u32);
    }
    Some(())
}

/// Whether bash is moving the pointers of a list towards its beginning, one by one.
/// `stifle_history` (readline's history.c) does so when `HISTSIZE` shrinks, `remove_history`, and
/// `add_history` to a full list. Until the length is set, entries are there twice or missing.
fn is_being_shifted(places: &[u64]) -> bool {
    let mut sorted = [0; KEPT_MAX];
    let Some(sorted) = sorted.get_mut(..places.len()) else { return true };
    sorted.copy_from_slice(places);
    sorted.sort_unstable();
    sorted.first() == Some(&0) || sorted.windows(2).any(|pair| pair[0] == pair[1])
}

/// Reads the texts of up to [`TEXTS`] entries and passes each with its time to `out`. Stops at the
/// first that could not be read and returns the number read. Longer texts are cut at `limit` bytes.
pub(super) fn texts(
    memory: &mut ProcessMemory<'_>,
    scratch: &HistoryListScratch,
    range: core::ops::Range<usize>,
    limit: u64,
    text: &mut Vec<u8>,
    mut out: impl FnMut(&[u8], Option<i64>),
) -> usize {
    let entries = scratch.entries.get(range).unwrap_or(&[]);
    texts_of(memory, entries, limit, text, |text, time| out(text, time))
}

/// A command in a shell's history list.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HistoryCommand {
    /// The shell's tgid.
    pub process_id: u32,
    /// As it was typed.
    pub line: Vec<u8>,
    /// When it was typed according to bash, in seconds since 1970.
    pub time_s: Option<i64>,
}

/// Reads the lists of all shells of a scan, by process, oldest command first. Also returns the
/// number of lists that could not be read completely. Allocates.
pub fn remembered(
    source: &mut dyn MemorySource,
    kernel: &Kernel,
    snapshot: &Snapshot,
    limit: usize,
) -> (Vec<HistoryCommand>, u64) {
    let limit = limit as u64 + 1;
    let objects = POINTERS_MAX.max(2 * KEPT_MAX);
    let arena_bytes = arena_bytes(objects, limit);
    let mut reader = MemoryReader::new(ReaderSizes { objects, arena_bytes, walks: objects * 4 });
    let mut files = FileReader::new();
    let mut scratch = HistoryListScratch::new(KEPT_MAX);
    let mut text = room::list((limit as usize).max(TEXT_ROOM_MIN));
    let mut pointers = room::list(POINTERS_MAX);
    let mut commands = Vec::new();
    let (mut found, mut lost) = (Vec::new(), 0);
    let mut room = REMEMBERED_MAX.1;
    for &index in snapshot.by_pid.iter() {
        let Some(process) = snapshot.processes.at(index) else { continue };
        let Some(leader) = snapshot.leader(process) else { continue };
        let Some(mm) = snapshot.mms.at(process.mm) else { continue };
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        let mut memory = ProcessMemory { source: &mut *source, reader: &mut reader, kernel, root };
        let program = match locate(&mut memory, &mut files, (snapshot, mm), &mut pointers) {
            Ok(ShellVerdict::Shell(program)) => program,
            _ => match of_library(&mut memory, &mut files, (snapshot, mm)) {
                Some(program) => program,
                None => continue,
            },
        };
        let Some(places) = program.place(snapshot, mm) else { continue };
        memory.clear();
        ShellGlobals::push(&mut memory, &places);
        memory.run();
        let words = ShellGlobals::decode(|at| memory.object(at));
        let is_zsh = program.kind() == ShellKind::Zsh;
        if !words.is_set(ShellGlobal::Interactive, true) {
            continue;
        }
        let length = match words.int(ShellGlobal::Length) {
            Some(length) => u32::try_from(length).ok(),
            None => count(&mut memory, words.pointer(ShellGlobal::TheHistory).unwrap_or(0)),
        };
        let length = length.unwrap_or(0).min(LENGTH_MAX);
        let own_room = room.min(REMEMBERED_MAX.0);
        let mut left = Some(own_room);
        let process_id = leader.task.tgid;
        let take = &mut |line: &[u8], time_s| {
            left = left.and_then(|left| left.checked_sub(size_of(line)));
            if left.is_some() {
                found.push(HistoryCommand { process_id, line: line.to_vec(), time_s });
            }
            left.is_some()
        };
        lost += if is_zsh {
            let edited = places[ShellGlobal::EDITED as usize];
            ring::each(&mut memory, &words, edited, (limit, &mut text), &mut commands, take)
        } else {
            each_text(&mut memory, &words, length, limit, (&mut scratch, &mut text), take)
        };
        lost += u64::from(left.is_none());
        room -= own_room - left.unwrap_or(0);
    }
    (found, lost)
}

/// The places of a history in a library that a process has loaded.
fn of_library(
    memory: &mut ProcessMemory<'_>,
    files: &mut FileReader,
    (snapshot, mm): (&Snapshot, &MmRow),
) -> Option<ShellLayout> {
    let library = Some(python::library(snapshot, mm).0?);
    locate_readline(&mut memory.machine(), files, (snapshot, library)).ok().flatten()
}

/// Passes each command of a list of `length` to `take`, oldest first, until that returns `false`.
/// Returns the number of commands and parts of the list that could not be read.
fn each_text(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    length: u32,
    limit: u64,
    (scratch, text): (&mut HistoryListScratch, &mut Vec<u8>),
    take: &mut dyn FnMut(&[u8], Option<i64>) -> bool,
) -> u64 {
    let (mut first, mut lost) = (0, 0);
    let mut goes_on = true;
    while first < length && goes_on {
        let part = ((length - first) as usize).min(KEPT_MAX);
        if read_range(memory, words, (first, part), HashKey::new(0), scratch).is_none() {
            return lost + 1;
        }
        let mut at = 0;
        while at < part && goes_on {
            let read = texts(memory, scratch, at..part, limit, text, |line, time_s| {
                goes_on = goes_on && take(line, time_s);
            });
            if read == 0 {
                // An unreadable command must not hide those behind it.
                lost += 1;
                at += 1;
            }
            at += read;
        }
        first += part as u32;
    }
    lost
}

/// Approximate number of bytes to store a command.
const fn size_of(line: &[u8]) -> usize {
    line.len() + core::mem::size_of::<HistoryCommand>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves the entries from `from` on to `to` as readline does, and shows the list before each
    /// step and after the last.
    fn shift(list: &mut [u64], (from, to): (usize, usize), mut look: impl FnMut(&[u64])) {
        for step in 0..list.len() - from {
            look(list);
            list[to + step] = list[from + step];
        }
        look(list);
    }

    #[test]
    fn a_list_is_not_trusted_while_it_is_being_shifted() {
        for length in 1..12 {
            for from in 1..=length {
                for to in 0..from {
                    // The null pointer behind the last entry is moved along.
                    let mut list: Vec<u64> = (1..=length as u64).chain([0]).collect();
                    let mut steps = 0;
                    shift(&mut list, (from, to), |list| {
                        steps += 1;
                        let seen = is_being_shifted(&list[..length]);
                        assert_eq!(seen, steps > 1, "{list:?}, {from} to {to}");
                    });
                    assert_eq!(steps, length - from + 2);
                    assert!(!is_being_shifted(&list[..length - (from - to)]), "{list:?}");
                }
            }
        }
    }
}
