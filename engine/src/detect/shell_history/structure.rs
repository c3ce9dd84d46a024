//! Finds a bash's variables by the shape of its memory, for programs that export nothing
//! (statically linked ones).
//!
//! Two variables are enough, both pointers. `global_variables` leads to a hash table with a
//! variable `SHELLOPTS`, whose value is a list of options. `the_history` leads to pointers to
//! entries whose times are a hash sign and digits; there are no entries before a command was typed.

use arrayvec::ArrayVec;
use panoptes_decoders::source::PAGE_BYTES;
use panoptes_decoders::user::bash::{
    self, BashHashTable, BashHistoryEntry, ENTRY_BYTES, TIMESTAMP_BYTES,
};

use super::memory::ProcessMemory;
use super::variables::{self, OPTIONS};
use crate::page_cache::MissingPage;

/// Maximum number of bytes of data that are searched. bash has 150 KB.
pub(super) const DATA_BYTES_MAX: u64 = 512 << 10;
/// Number of bytes that are searched at a time.
pub(super) const CHUNK_BYTES: u64 = 64 << 10;
/// Number of bytes that are read at a pointer's target: a `VAR_CONTEXT`.
const HEAD_BYTES: u64 = 40;
const _: () = {
    assert!(DATA_BYTES_MAX.is_multiple_of(CHUNK_BYTES), "all chunks are whole");
    assert!(HEAD_BYTES < CHUNK_BYTES, "a chunk holds a target");
};
/// Maximum number of contexts whose variables are checked.
const CONTEXTS_MAX: usize = 16;
/// Maximum number of lists whose first entry is checked.
const LISTS_MAX: usize = 256;

/// The addresses of the two pointers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Shape {
    pub(super) variables: Option<u64>,
    pub(super) history: Option<u64>,
}

/// The address of a pointer, and its value.
pub(super) type Pointer = (u64, u64);

/// Searches `length` bytes of data from `start` on.
pub(super) fn search(
    memory: &mut ProcessMemory<'_>,
    (start, length): (u64, u64),
    pointers: &mut Vec<Pointer>,
) -> Result<Shape, MissingPage> {
    let mut shape = Shape::default();
    let end = start.checked_add(length.min(DATA_BYTES_MAX)).ok_or(MissingPage)?;
    let mut at = start & !7;
    while at < end && (shape.variables.is_none() || shape.history.is_none()) {
        let chunk = CHUNK_BYTES.min(end - at);
        collect(memory, (at, chunk), (start, end), pointers);
        look(memory, pointers, &mut shape);
        at += chunk;
    }
    Ok(shape)
}

/// Collects the words that may point to allocated memory. Pages that are not in memory have none.
fn collect(
    memory: &mut ProcessMemory<'_>,
    (start, length): (u64, u64),
    (first, end): (u64, u64),
    pointers: &mut Vec<Pointer>,
) {
    pointers.clear();
    memory.clear();
    let mut at = start;
    while at < start + length {
        let piece = (PAGE_BYTES - at % PAGE_BYTES).min(start + length - at);
        memory.push(at, piece);
        at += piece;
    }
    memory.run();
    let (mut at, mut object) = (start, 0);
    while at < start + length {
        let piece = (PAGE_BYTES - at % PAGE_BYTES).min(start + length - at);
        let bytes = memory.object(object).unwrap_or(&[]);
        for (offset, word) in (0..).step_by(8).zip(bytes.chunks_exact(8)) {
            let value = u64::from_le_bytes(word.try_into().unwrap_or_default());
            let may_be = value % 8 == 0
                && bash::is_plausible(value)
                && !(first..end).contains(&value)
                && pointers.len() < pointers.capacity();
            if may_be {
                pointers.push((at + offset, value));
            }
        }
        at += piece;
        object += 1;
    }
}

/// Checks the pointers' targets.
fn look(memory: &mut ProcessMemory<'_>, pointers: &[Pointer], shape: &mut Shape) {
    // The global context has no name, and there is no context above or below it.
    let is_context = |head: [u64; 5]| head[..4] == [0; 4] && bash::is_plausible(head[4]);
    let contexts: ArrayVec<Pointer, CONTEXTS_MAX> = heads(memory, pointers)
        .filter_map(|(pointer, head)| is_context(head).then_some(pointer))
        .take(CONTEXTS_MAX)
        .collect();
    if shape.variables.is_none() {
        let global = contexts.iter().find(|&&(_, context)| is_global(memory, context));
        shape.variables = global.map(|&(place, _)| place);
    }
    if shape.history.is_some() {
        return;
    }
    let is_entries = |first: u64| first.is_multiple_of(8) && bash::is_plausible(first);
    let lists: ArrayVec<Pointer, LISTS_MAX> = heads(memory, pointers)
        .filter_map(|((place, _), head)| is_entries(head[0]).then_some((place, head[0])))
        .take(LISTS_MAX)
        .collect();
    let list = lists.iter().find(|&&(_, entry)| is_entry(memory, entry));
    shape.history = list.map(|&(place, _)| place);
}

/// Reads the beginning of each pointer's target. Those that are not in memory are left out.
fn heads(
    memory: &mut ProcessMemory<'_>,
    pointers: &[Pointer],
) -> impl Iterator<Item = (Pointer, [u64; 5])> {
    memory.clear();
    for &(_, value) in pointers {
        memory.push(value, HEAD_BYTES);
    }
    memory.run();
    let memory = &*memory;
    pointers.iter().enumerate().filter_map(move |(index, &pointer)| {
        let mut head = [0; 5];
        for (word, bytes) in head.iter_mut().zip(memory.object(index)?.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some((pointer, head))
    })
}

/// Whether a context holds a shell's global variables.
fn is_global(memory: &mut ProcessMemory<'_>, context: u64) -> bool {
    let table = memory.word(context.wrapping_add(bash::CONTEXT_TABLE));
    let table = table
        .and_then(|table| memory.read(table, BashHashTable::BYTES))
        .and_then(BashHashTable::parse);
    table.is_some() && variables::read(memory, context, &mut 0)[OPTIONS].text().is_some()
}

/// Whether an object is a history entry, by the format of its time.
fn is_entry(memory: &mut ProcessMemory<'_>, place: u64) -> bool {
    let entry = memory.read(place, ENTRY_BYTES).and_then(BashHistoryEntry::parse);
    let Some(entry) = entry.filter(|entry| entry.timestamp != 0) else { return false };
    memory.clear();
    memory.push_text(entry.timestamp, TIMESTAMP_BYTES);
    memory.run();
    let mut text = [0; TIMESTAMP_BYTES as usize];
    let bytes = memory.object(0).unwrap_or(&[]);
    text[..bytes.len()].copy_from_slice(bytes);
    // `#` and a date of this century.
    bash::timestamp(&text).is_some_and(|time| (946_684_800..4_102_444_800).contains(&time))
}
