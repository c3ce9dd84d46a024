//! Reads zsh's list of commands out of its memory: a ring of entries, of which the newest are read.
//!
//! Each entry leads to the one before it, so every step is a read of its own. A scan goes back from
//! the newest entry to the first that an earlier scan has kept, at most [`RING_MAX`] entries.

use arrayvec::ArrayVec;
use panoptes_decoders::user::bash;
use panoptes_decoders::user::zsh::{ZshHistoryEntry, unmetafy};
use panoptes_tables::HashKey;

use super::memory::ProcessMemory;
use super::texts::{TEXTS, texts_of};
use super::words::{ShellGlobal, ShellGlobals};

/// Maximum number of entries that one scan reads of one ring.
pub(super) const RING_MAX: usize = 64;
/// Number of entries of a ring that are kept. More than one, because zsh removes the last command
/// or puts another in its place (`HIST_IGNORE_SPACE`, `HIST_IGNORE_DUPS`).
pub(super) const RING_KEPT: usize = 8;
/// Maximum number of entries of one ring that are shown.
const REMEMBERED_MAX: usize = 1 << 16;

/// A command of a ring.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RingCommand {
    /// One number for the entry, what it points to, and its time.
    pub(super) key: u32,
    /// Its number in the history.
    pub(super) number: i64,
    /// When it began, in seconds since 1970.
    pub(super) time_s: i64,
    /// Address of its line.
    pub(super) line: u64,
    /// Whether it was typed into this shell, and not read from a file.
    pub(super) is_typed: bool,
}

/// The newest commands of a ring.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct HistoryRing {
    /// Newest first.
    pub(super) entries: ArrayVec<RingCommand, RING_MAX>,
    /// Index of the kept key behind which they are, and the number of its command; `None` if none
    /// of the kept was met.
    pub(super) met: Option<(usize, i64)>,
}

/// Steps through a ring, newest first.
struct Steps {
    first: u64,
    at: u64,
    /// The entry after `at`.
    below: Option<u64>,
    /// The place of the line that is being edited.
    edited: u64,
    number: Option<i64>,
}

impl Steps {
    fn new(words: &ShellGlobals, edited: u64) -> Option<Self> {
        let first = words.pointer(ShellGlobal::RING)?;
        Some(Self { first, at: first, below: None, edited, number: None })
    }

    /// The next command; `Ok(None)` at the end. An error if the ring is inconsistent, for example
    /// while zsh changes it.
    fn next(
        &mut self,
        memory: &mut ProcessMemory<'_>,
        key: HashKey,
    ) -> Result<Option<RingCommand>, ()> {
        // The line that is being edited, and a command.
        for _ in 0..2 {
            let at = self.at;
            if at == 0 || at == self.first && self.below.is_some() {
                return Ok(None);
            }
            let entry = memory
                .read(at, ZshHistoryEntry::BYTES)
                .and_then(ZshHistoryEntry::parse)
                .ok_or(())?;
            let is_linked = self.below.is_none_or(|below| entry.down == below);
            let is_older = self.number.is_none_or(|number| entry.number < number);
            if !is_linked || !is_older {
                return Err(());
            }
            (self.below, self.at, self.number) = (Some(at), entry.up, Some(entry.number));
            if at == self.edited {
                continue;
            }
            if !bash::is_plausible(entry.line) {
                return Err(());
            }
            let key = key.hash_numbers([at, entry.line, entry.start_s as u64]) as u32;
            let (number, time_s, line) = (entry.number, entry.start_s, entry.line);
            let is_typed = entry.is_typed();
            return Ok(Some(RingCommand { key, number, time_s, line, is_typed }));
        }
        Ok(None)
    }
}

/// Reads the commands behind the last of `kept`. Returns `None` if the ring cannot be read now.
/// `edited` is the place of the line that is being edited.
pub(super) fn read(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    edited: u64,
    key: HashKey,
    kept: &[u32],
) -> Option<HistoryRing> {
    let mut steps = Steps::new(words, edited)?;
    let mut ring = HistoryRing::default();
    while !ring.entries.is_full() {
        let Some(entry) = steps.next(memory, key).ok()? else { break };
        let met = kept.iter().rposition(|&key| key == entry.key);
        ring.met = met.map(|met| (met, entry.number));
        if ring.met.is_some() {
            break;
        }
        ring.entries.push(entry);
    }
    Some(ring)
}

/// Reads the texts of up to 16 commands and passes each with its index to `out`. Stops at the
/// first that could not be read and returns the number read.
pub(super) fn texts(
    memory: &mut ProcessMemory<'_>,
    commands: &[RingCommand],
    limit: u64,
    text: &mut Vec<u8>,
    mut out: impl FnMut(usize, &[u8]),
) -> usize {
    let entry = |command: &RingCommand| bash::BashHistoryEntry { line: command.line, timestamp: 0 };
    let entries: ArrayVec<bash::BashHistoryEntry, TEXTS> =
        commands.iter().map(entry).take(TEXTS).collect();
    let mut index = 0;
    texts_of(memory, &entries, limit, text, |text, _| {
        let length = unmetafy(text);
        out(index, text.get(..length).unwrap_or(&[]));
        index += 1;
    })
}

/// Passes each command of a ring with its time to `take`, oldest first, until that returns `false`.
/// Returns the number of commands that could not be read. Collects them in `commands`.
pub(super) fn each(
    memory: &mut ProcessMemory<'_>,
    words: &ShellGlobals,
    edited: u64,
    (limit, text): (u64, &mut Vec<u8>),
    commands: &mut Vec<RingCommand>,
    take: &mut dyn FnMut(&[u8], Option<i64>) -> bool,
) -> u64 {
    let Some(mut steps) = Steps::new(words, edited) else { return 1 };
    commands.clear();
    let mut lost = 0;
    while commands.len() < REMEMBERED_MAX {
        match steps.next(memory, HashKey::new(0)) {
            Ok(Some(command)) => commands.push(command),
            Ok(None) => break,
            Err(()) => {
                lost += 1;
                break;
            }
        }
    }
    commands.reverse();
    let (mut at, mut goes_on) = (0, true);
    while at < commands.len() && goes_on {
        let part = &commands[at..];
        let read = texts(memory, part, limit, text, |index, line| {
            goes_on = goes_on && take(line, part.get(index).map(|command| command.time_s));
        });
        // An unreadable command must not hide those behind it.
        lost += u64::from(read == 0);
        at += read.max(1);
    }
    lost
}
