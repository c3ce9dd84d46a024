//! What people type into bash: each command once, and how a shell's history was cleared or switched off.
//!
//! A bash is known by what its file exports or, where it is linked statically, by the shape of its memory ([`structure`]), never
//! by its name ([`locate`]); that is found out once a file, a few files a
//! scan. Of each bash a handful of words is read in every scan ([`words`]), all of them in one batch. Only when these have
//! changed its list is read ([`changes`] says what became of it), and its variables ([`variables`]).
//!
//! * What was in the list when we came, or was read from a file, is not told of.
//! * A command is told of when all its lines were read, before it has run.
//! * What a fork takes over is its parent's: until it calls exec, it is not looked at.
//! * What rests on something being gone or off is told when two scans have shown it; it is told of once, and again only
//!   when it was otherwise in between. That a history is off is told whenever it began.
//! * Shells into which nobody types (scripts) keep none, and are silent.
//!
//! What bash forgets before a scan sees it, nobody knows: what was typed after `set +o history`, or with a space before it
//! where `HISTCONTROL` says so. Other shells are not known.
//!
//! Not here: words (`policy`). Start reading at [`History::update`].

mod changes;
mod list;
mod locate;
mod look;
mod memory;
mod shell;
mod structure;
mod variables;
mod words;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::source::MemorySource;

use crate::address::{Reader, ReaderSizes};
use crate::limits::Limits;
use crate::page_cache::{FileIdentity, FileReader};
use crate::state::facts::{ProcessFacts, executable_of};
use crate::state::process::{Process, ProcessKey};
use crate::state::strings::Strings;
use crate::state::table::RowId;
use crate::state::{Scene, State};
use crate::walk::{Kernel, MmRow, ProcessRow, Snapshot};

use changes::KEPT_MAX;
use locate::{Found, Verdict, locate};
use memory::Memory;
use shell::{Shell, Ways};
use structure::Pointers;
use variables::Values;
use words::{Word, Words};

pub use changes::Clearing;
pub use list::{Remembered, remembered};
pub use shell::Way;

/// Most shells that are watched at a time; of more nothing is told.
const SHELLS_MAX: usize = 256;
/// Files that were looked at, whether they are a bash.
const FILES_MAX: usize = 1024;
/// So many files are looked at in one scan.
const FILES_A_SCAN: u32 = 4;
/// So many lists are read in one scan; the others have to wait for the next.
const LISTS_A_SCAN: u32 = 16;
/// A program of which not all could be read is looked at again after so many scans, and after twice as many each time.
const LATER_SCANS: u32 = 4;
/// So often that is doubled, of a program that may be a bash: its library is not mapped yet, or pages of its file are not in
/// memory.
const LATER_DOUBLINGS: u8 = 6;
/// And of one that has nothing that a bash has.
const SILENT_DOUBLINGS: u8 = 6;
/// A file is taken for no bash when so many processes of it had nothing in their memory that one has: a single one may be slow
/// or stopped.
const SILENT_PROCESSES: u8 = 4;
/// A program that exports nothing is looked at so often before it is taken for something else: it may not have begun yet.
const SILENT_ATTEMPTS: u8 = 16;
/// A list for which there is no symbol is looked for after so many scans, until something was typed.
const SEARCH_SCANS: u32 = 4;
/// A shell without symbols has read its file when it was ready for so many scans.
const READY_SCANS: u8 = 4;
/// Most commands of a shell without symbols that may have been typed from one scan to the next.
const TYPED_MAX: usize = 8;
/// For so many scans after a command its shell's variables are looked at in each.
const BUSY_SCANS: u32 = 4;
/// So often they are looked at where nothing is typed: a script that the shell reads may change them.
const VARIABLES_EVERY_SCANS: u32 = 64;
/// A shell that was not seen for so many scans has gone.
const GONE_SCANS: u32 = 64;
/// A command that cannot be read in so many scans is left out.
const TRIES_MAX: u8 = 8;
/// A list that cannot be read in so many scans is read again only when it changes.
const UNREAD_MAX: u8 = 64;
/// So many memories are searched for a list in one scan.
const SEARCHES_A_SCAN: u32 = 2;
/// A command whose text wants more lines is told of as it is after so many scans: what looks unfinished need not be.
const WAIT_SCANS: u32 = 512;
/// Most commands of one shell that are told of in one scan.
const COMMANDS_A_SCAN: usize = 64;

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Command<'a> {
    /// As it was typed.
    pub line: &'a [u8],
    /// When, by bash's own word, in seconds since 1970.
    pub time_s: Option<i64>,
}

/// What a shell did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What<'a> {
    /// A command was typed.
    Executed(Command<'a>),
    /// Commands were taken out of its history.
    Cleared(Clearing),
    /// It keeps no history.
    Disabled {
        /// How.
        way: Way,
        /// Whether it was otherwise before, while it was watched.
        was_on: bool,
    },
}

/// Something to tell of a shell.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'a> {
    /// The shell.
    pub process: ProcessFacts<'a>,
    /// What it did.
    pub what: What<'a>,
    /// The last command that is known of it.
    pub last: Option<Command<'a>>,
    /// When it was first seen, in nanoseconds since 1970.
    pub since_ns: i64,
    /// In how many scans it was seen.
    pub scans: u32,
}

/// Whoever is told.
pub trait Findings {
    /// A shell did something.
    fn found(&mut self, scene: &Scene<'_>, finding: &Finding<'_>);
}

impl<F: FnMut(&Scene<'_>, &Finding<'_>)> Findings for F {
    fn found(&mut self, scene: &Scene<'_>, finding: &Finding<'_>) {
        self(scene, finding);
    }
}

/// What is known of a process's program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Program {
    /// Nothing yet; it is looked at from this scan on.
    #[default]
    Unknown,
    /// It could not be read well enough; again at this scan.
    Later(u32),
    /// No bash, or not its own yet.
    Other,
    /// A bash: the index of its shell.
    Bash(u32),
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    process: Option<ProcessKey>,
    self_exec_id: u32,
    mm: KernelVa,
    /// Whether what was typed before the first look is news.
    is_new: bool,
    /// How often its program was looked at.
    attempts: u8,
    /// Whether it is a shell for which there was no room.
    is_refused: bool,
    program: Program,
}

/// What is known of a file.
#[derive(Clone, Debug)]
struct KnownFile {
    file: FileIdentity,
    found: Option<Found>,
    /// Of how many processes nothing was found that a bash has. As long as these are too few, more are looked at.
    silent: u8,
}

/// All shells of one machine.
#[derive(Debug)]
pub struct History {
    wanted: bool,
    report_existing: bool,
    /// By the number of a process's row.
    looked: Box<[Looked]>,
    shells: Vec<Option<Shell>>,
    /// Of each shell the keys of its list.
    keys: Box<[u32]>,
    /// What files are: the newest take the place of the oldest.
    files: Vec<KnownFile>,
    next_file: usize,
    /// The row that had to wait in the last scan: the next begins there.
    first_row: u32,
    strings: Strings,
    reader: Reader,
    file_reader: FileReader,
    list: list::Scratch,
    text: Vec<u8>,
    pointers: Pointers,
    text_bytes: u64,
    key: u64,
    scan: u32,
    refused: u64,
}

impl History {
    /// Allocates for `limits`, if it is `wanted`. `key` is random and secret from the guests.
    pub fn new(limits: &Limits, wanted: bool, report_existing: bool, key: u64) -> Self {
        let shells = if wanted { SHELLS_MAX.min(limits.processes as usize) } else { 0 };
        let processes = if wanted { limits.processes as usize } else { 0 };
        let objects = (shells * Word::COUNT).max(list::POINTERS_MAX);
        let text_bytes = u64::from(limits.string_length) + 1;
        let arena_bytes = list::arena_bytes(objects, text_bytes);
        let sizes = ReaderSizes { objects, arena_bytes, walks: objects * 4 };
        let nothing = ReaderSizes { objects: 0, arena_bytes: 0, walks: 1 };
        Self {
            wanted,
            report_existing,
            looked: vec![Looked::default(); processes].into_boxed_slice(),
            shells: vec![None; shells],
            keys: vec![0; shells * KEPT_MAX].into_boxed_slice(),
            files: Vec::with_capacity(if wanted { FILES_MAX } else { 0 }),
            next_file: 0,
            first_row: 0,
            strings: Strings::new(shells * 256 + 64 * 1024, key.rotate_left(9)),
            reader: Reader::new(if wanted { sizes } else { nothing }),
            file_reader: FileReader::new(),
            list: list::Scratch::new(if wanted { KEPT_MAX } else { 0 }),
            text: Vec::with_capacity((text_bytes as usize).max(list::TEXT_ROOM_MIN)),
            pointers: Pointers::new(if wanted { list::POINTERS_MAX } else { 0 }),
            text_bytes,
            key,
            scan: 0,
            refused: 0,
        }
    }

    /// How many shells, or commands, found no room.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Looks at all shells of the scan that the state has just taken in. Allocates nothing.
    pub fn update<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scene: &Scene<'_>,
        state: &State,
        out: &mut dyn Findings,
    ) {
        if !self.wanted {
            return;
        }
        self.scan = self.scan.wrapping_add(1);
        self.reader.forget_translations();
        let mut files_left = FILES_A_SCAN;
        let first = std::mem::take(&mut self.first_row);
        let (later, sooner) = (state.processes(), state.processes());
        let in_turn =
            later.filter(|(id, _)| id.0 >= first).chain(sooner.take_while(|(id, _)| id.0 < first));
        for (id, process) in in_turn {
            self.look_at(source, kernel, scene.snapshot, id, process, &mut files_left);
        }
        self.read_words(source, kernel);
        self.read_shells(source, kernel, scene, state, out);
    }

    /// Finds out whether a process is a bash, unless that is known.
    fn look_at<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        snapshot: &Snapshot,
        id: RowId,
        process: &Process,
        files_left: &mut u32,
    ) {
        let Some(row) = snapshot.processes.at(process.row()) else { return };
        let Some(leader) = snapshot.leader(row) else { return };
        let Some(mm) = snapshot.mms.at(row.mm) else { return };
        let task = &leader.task;
        let Some(looked) = self.looked.get_mut(id.0 as usize) else { return };
        let before = *looked;
        let is_known = before.process == Some(process.key);
        let is_same =
            is_known && before.self_exec_id == task.self_exec_id && before.mm == mm.address;
        if !is_same {
            if !row.stable {
                // What belongs to what is not known; the next scan begins anew.
                return;
            }
            // What ended before may have left its place to another.
            if let Program::Bash(at) = before.program
                && is_of(&self.shells, at, before.process)
            {
                forget(&mut self.shells, &mut self.strings, at);
            }
            *looked = Looked {
                process: Some(process.key),
                self_exec_id: task.self_exec_id,
                mm: mm.address,
                is_new: self.report_existing || is_known || !process.was_there(),
                attempts: 0,
                is_refused: false,
                program: if task.is_fork() { Program::Other } else { Program::Unknown },
            };
        }
        match looked.program {
            Program::Other => return,
            Program::Later(due) if (due.wrapping_sub(self.scan) as i32) > 0 => return,
            Program::Bash(at) => {
                match self.shells.get_mut(at as usize) {
                    Some(Some(shell)) if shell.process == process.key => {
                        if row.stable && task.exit_state == 0 {
                            shell.seen = self.scan;
                            shell.root = kernel.space.linear(mm.pgd).unwrap_or_default();
                        }
                        return;
                    }
                    // It was not seen for long. What it remembers by now may have been told.
                    _ => {
                        looked.program = Program::Unknown;
                        looked.is_new = false;
                    }
                }
            }
            Program::Unknown | Program::Later(_) => {}
        }
        if !row.stable {
            return;
        }
        let how = (looked.is_new, looked.attempts);
        let program =
            self.find_out(source, kernel, snapshot, (row, mm), (id, process), how, files_left);
        if let (Some(program), Some(looked)) = (program, self.looked.get_mut(id.0 as usize)) {
            looked.program = program;
            looked.attempts = looked.attempts.saturating_add(1);
        }
    }

    /// What a program is; `None` where that has to wait for the next scan.
    #[expect(clippy::too_many_arguments, reason = "a step of its only caller")]
    fn find_out<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        snapshot: &Snapshot,
        (row, mm): (&ProcessRow, &MmRow),
        (id, process): (RowId, &Process),
        (is_new, attempts): (bool, u8),
        files_left: &mut u32,
    ) -> Option<Program> {
        let after = |scans| Program::Later(self.scan.wrapping_add(scans));
        let later = after(wait_after(attempts, LATER_DOUBLINGS));
        let Some(file) = executable_of(snapshot, row) else { return Some(later) };
        let root = kernel.space.linear(mm.pgd).unwrap_or_default();
        let known = self.files.iter().find(|known| known.file == file && known.is_certain());
        let known = known.map(|known| known.found);
        let found = match known {
            Some(found) => found,
            None if *files_left == 0 => {
                if self.first_row == 0 {
                    self.first_row = id.0;
                }
                return None;
            }
            None => {
                *files_left -= 1;
                let reader = &mut self.reader;
                let mut memory = Memory { source, reader, space: &kernel.space, root };
                let (files, pointers) = (&mut self.file_reader, &mut self.pointers);
                let found = match locate(&mut memory, files, kernel, (snapshot, mm), pointers) {
                    Verdict::Later => return Some(later),
                    Verdict::Silent if attempts < SILENT_ATTEMPTS => {
                        return Some(after(wait_after(attempts, SILENT_DOUBLINGS)));
                    }
                    Verdict::Silent => {
                        self.note_silent(file);
                        return Some(Program::Other);
                    }
                    Verdict::Other => None,
                    Verdict::Bash(found) => Some(found),
                };
                if found.as_ref().is_none_or(Found::is_whole) {
                    self.keep(KnownFile { file, found, silent: 0 });
                }
                found
            }
        };
        let Some(found) = found else { return Some(Program::Other) };
        let Some(places) = found.place(snapshot, mm) else { return Some(later) };
        let Some(at) = self.free_place() else {
            if let Some(looked) = self.looked.get_mut(id.0 as usize)
                && !std::mem::replace(&mut looked.is_refused, true)
            {
                self.refused += 1;
            }
            return Some(later);
        };
        self.shells[at] = Some(Shell {
            row: id,
            process: process.key,
            places,
            data: found.data(snapshot, mm),
            is_interactive: false,
            ready_scans: 0,
            is_new,
            seen: self.scan,
            root,
            words: Words::default(),
            is_changed: false,
            known: None,
            again: true,
            tries: 0,
            unread: 0,
            waits_since: None,
            busy_until: self.scan.wrapping_add(BUSY_SCANS),
            values: Values::default(),
            ways: Ways::default(),
            ways_since_ns: 0,
            told: Ways::default(),
            was_on: Ways::default(),
            cleared: None,
            last: None,
        });
        Some(Program::Bash(at as u32))
    }

    /// A place for a shell: where there is none, that of one that has gone, or that nobody types into.
    fn free_place(&mut self) -> Option<usize> {
        if let Some(at) = self.shells.iter().position(Option::is_none) {
            return Some(at);
        }
        let scan = self.scan;
        let at = self
            .shells
            .iter()
            .position(|shell| shell.as_ref().is_some_and(|shell| scan.wrapping_sub(shell.seen) > 1))
            .or_else(|| {
                self.shells.iter().position(|shell| shell.as_ref().is_some_and(Shell::is_idle))
            })?;
        let (row, process, is_known) = self.shells[at]
            .as_ref()
            .map(|shell| (shell.row, shell.process, shell.known.is_some()))?;
        if let Some(looked) = self.looked.get_mut(row.0 as usize)
            && looked.process == Some(process)
        {
            // It may be typed into later on, if it has only just begun.
            let wait = wait_after(looked.attempts, SILENT_DOUBLINGS);
            looked.program = Program::Later(scan.wrapping_add(wait));
            looked.is_new &= !is_known;
        }
        forget(&mut self.shells, &mut self.strings, at as u32);
        Some(at)
    }

    /// Counts a process of a file in whose memory there is nothing that a bash has.
    fn note_silent(&mut self, file: FileIdentity) {
        match self.files.iter_mut().find(|known| known.file == file) {
            Some(known) => known.silent = known.silent.saturating_add(1),
            None => self.keep(KnownFile { file, found: None, silent: 1 }),
        }
    }

    fn keep(&mut self, known: KnownFile) {
        if let Some(place) = self.files.iter_mut().find(|old| old.file == known.file) {
            *place = known;
        } else if self.files.len() < self.files.capacity() {
            self.files.push(known);
        } else if let Some(place) = self.files.get_mut(self.next_file) {
            *place = known;
            self.next_file = (self.next_file + 1) % FILES_MAX;
        }
    }
}

impl KnownFile {
    /// Whether more processes of it need not be looked at.
    fn is_certain(&self) -> bool {
        self.found.is_some() || self.silent == 0 || self.silent >= SILENT_PROCESSES
    }
}

/// After how many scans a program is looked at again that was looked at so often in vain.
fn wait_after(attempts: u8, doublings: u8) -> u32 {
    LATER_SCANS << attempts.min(doublings)
}

/// Whether a place is still that of this process's shell.
fn is_of(shells: &[Option<Shell>], at: u32, process: Option<ProcessKey>) -> bool {
    let shell = shells.get(at as usize).and_then(Option::as_ref);
    shell.is_some_and(|shell| Some(shell.process) == process)
}

fn forget(shells: &mut [Option<Shell>], strings: &mut Strings, at: u32) {
    let shell = shells.get_mut(at as usize).and_then(Option::take);
    if let Some(last) = shell.and_then(|shell| shell.last) {
        strings.release(last.line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_silent_process_does_not_speak_for_its_file() {
        let mut history = History::new(&Limits::default(), true, false, 1);
        let file = FileIdentity { number: 7, ..FileIdentity::default() };
        for process in 1..=SILENT_PROCESSES {
            history.note_silent(file);
            assert_eq!(history.files.len(), 1);
            assert_eq!(history.files[0].is_certain(), process == SILENT_PROCESSES);
        }
        history.keep(KnownFile { file, found: Some(Found::default()), silent: 0 });
        assert_eq!(history.files.len(), 1);
        assert!(history.files[0].is_certain());
    }

    #[test]
    fn what_cannot_be_read_is_looked_at_ever_more_seldom() {
        assert_eq!(wait_after(0, SILENT_DOUBLINGS), LATER_SCANS);
        assert_eq!(wait_after(3, SILENT_DOUBLINGS), 8 * LATER_SCANS);
        assert_eq!(wait_after(u8::MAX, LATER_DOUBLINGS), LATER_SCANS << LATER_DOUBLINGS);
    }
}
