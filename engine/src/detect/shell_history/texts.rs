//! Reads the texts of commands, some in one batch.

use panoptes_decoders::user::bash::{self, BashHistoryEntry, TIMESTAMP_BYTES};

use super::memory::ProcessMemory;

/// Number of texts that are read in one batch.
pub(super) const TEXTS: usize = 16;

/// Reads the texts of the first [`TEXTS`] of `entries` and passes each with its time to `out`.
/// Stops at the first that could not be read and returns the number read. Longer texts are cut at
/// `limit` bytes.
pub(super) fn texts_of(
    memory: &mut ProcessMemory<'_>,
    entries: &[BashHistoryEntry],
    limit: u64,
    text: &mut Vec<u8>,
    mut out: impl FnMut(&mut [u8], Option<i64>),
) -> usize {
    let entries = &entries[..entries.len().min(TEXTS)];
    memory.clear();
    for entry in entries {
        // The first byte is not part of the number.
        memory.push_text(entry.timestamp.wrapping_add(1), TIMESTAMP_BYTES - 1);
        memory.push_text(entry.line, limit);
    }
    memory.run();
    for (at, entry) in entries.iter().enumerate() {
        let mut time = None;
        if entry.timestamp != 0 {
            if !memory.text(at * 4, TIMESTAMP_BYTES - 1, text) {
                return at;
            }
            text.push(0);
            time = bash::seconds(text);
        }
        if !memory.text(at * 4 + 2, limit, text) {
            return at;
        }
        out(text, time);
    }
    entries.len()
}
