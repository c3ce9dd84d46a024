//! Commands typed into bash, zsh and Python, each once, and how a shell's history was cleared or
//! switched off.
//!
//! A bash is recognised by what its file exports or, where it is linked statically, by the shape of
//! its memory ([`structure`]), never by its name ([`locate`]). A zsh is recognised by what its file
//! exports, and its list is a ring ([`ring`]). A Python is recognised by the files
//! that it has mapped ([`python`]). Each file is checked once, a few files per scan. Every scan
//! reads a handful of words of each shell ([`words`]), all of them in one batch. Only when these
//! have changed are its list ([`changes`] compares it with the last one) and its variables
//! ([`variables`]) read.
//!
//! * Commands that were in the list when watching started, or were read from a file, are not
//!   reported.
//! * A command is reported when all its lines were read, before it has run.
//! * A forked process is ignored until it calls exec: its history is its parent's.
//! * A cleared list or a switched-off history is reported when two scans have shown it. It is
//!   reported again only if it was otherwise in between. A history that is off is reported even if
//!   it was off when watching started.
//! * Shells that read no typed input (scripts) keep no history and are not reported.
//!
//! Panoptes does not see what bash forgets before a scan: commands typed after `set +o history`, or
//! with a space in front where `HISTCONTROL` excludes those. Other shells are not supported.
//!
//! Not here: the wording of records (`policy`). Start reading at [`Detector::update`].

mod changes;
mod commands;
mod folder;
mod history_file;
mod history_path;
mod list;
mod locate;
mod look;
mod memory;
mod places;
mod plan;
mod programs;
mod python;
mod ring;
mod ring_commands;
mod ring_plan;
mod shell;
mod structure;
mod texts;
mod variables;
mod words;
mod zsh;

use panoptes_decoders::address::KernelVa;
use panoptes_records::activities::Activity;

use super::{Detector, DetectorContext, DetectorSetup};
use crate::address::{MemoryReader, ReaderSizes};
use crate::limits::Limits;
use crate::loss::{GapKind, Loss};
use crate::page_cache::{ContentSource, FileIdentity, FileReader};
use crate::state::MachineState;
use crate::state::facts::ProcessFacts;
use crate::state::process::ProcessKey;
use crate::time::RealTime;
use panoptes_tables::{HashKey, OwnerCounts, RecentList, ScanNumber, StringRoom, Strings, room};

use changes::KEPT_MAX;
use folder::FolderSearch;
use locate::ShellLayout;
use shell::Shell;
use structure::Pointer;
use words::ShellGlobal;

pub use changes::HistoryClearing;
pub use list::{HistoryCommand, remembered};
pub use shell::DisableMethod;

/// Maximum number of shells that are watched at a time. Of the users with most, further ones are
/// not reported.
const SHELLS_MAX: usize = 256;
/// Maximum number of files whose answer to "is it a shell?" is kept.
const FILES_MAX: usize = 1024;
/// Maximum number of files that one scan checks.
const FILES_A_SCAN: u32 = 4;
/// Maximum number of lists that one scan reads; the others wait for the next scan.
const LISTS_A_SCAN: u32 = 16;
/// Maximum number of areas in which one scan searches for a Python's library.
const AREAS_A_SCAN: u32 = 4096;
/// A program that could not be read completely is checked again after this many scans. The number
/// doubles each time.
const LATER_SCANS: u32 = 4;
/// Maximum number of doublings for a program that may be a bash: its library may not be mapped yet,
/// or pages of its file are not in memory.
const LATER_DOUBLINGS: u8 = 6;
/// Maximum number of doublings for a program that may load a library with a history.
const MODULES_DOUBLINGS: u8 = 8;
/// Maximum number of doublings for a program without any sign of a bash.
const UNMATCHED_DOUBLINGS: u8 = 6;
/// Number of processes without any sign of a bash after which their file is not a bash. A single
/// process may be slow or stopped.
const UNMATCHED_PROCESSES: u8 = 4;
/// Number of checks after which a program without exports is not a bash: it may not have started
/// yet.
const UNMATCHED_ATTEMPTS: u8 = 16;
/// Number of scans between two searches for a list without a symbol, until a command was typed.
const SEARCH_SCANS: u32 = 4;
/// A shell without symbols has read its history file when it was ready in this many scans.
const READY_SCANS: u8 = 4;
/// Maximum number of commands that may be typed between two scans into a shell without symbols.
const TYPED_MAX: usize = 8;
/// Number of scans after a command in each of which the shell's variables are read.
const BUSY_SCANS: u32 = 4;
/// Number of scans between two reads of an idle shell's variables: a script that the shell reads
/// may change them.
const VARIABLES_EVERY_SCANS: u32 = 64;
/// A shell is removed when this many scans have not seen it.
const GONE_SCANS: u32 = 64;
/// A command that this many scans could not read is left out.
const TRIES_MAX: u8 = 8;
/// A list that this many scans could not read is read again when it changes, and now and then.
const UNREAD_MAX: u8 = 64;
/// Maximum number of memories that one scan searches for a list.
const SEARCHES_A_SCAN: u32 = 2;
/// A command whose text seems unfinished is reported as it is after this many scans.
const WAIT_SCANS: u32 = 512;
/// Maximum number of values of `HISTIGNORE` that one scan tries; the others wait.
const PATTERNS_A_SCAN: u32 = 4;
/// Maximum number of commands of one shell that one scan reports.
const COMMANDS_A_SCAN: usize = 64;

/// The activities about histories of shells. If none of them is reported, no history is read.
pub const ACTIVITIES: [Activity; 3] =
    [Activity::ShellCommandExecuted, Activity::ShellHistoryCleared, Activity::ShellHistoryDisabled];

/// A program with a history.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ShellKind {
    #[default]
    Bash,
    Zsh,
    /// The prompt of Python, with readline.
    Python,
}

impl ShellKind {
    /// Its name, as sentences have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Python => "Python",
        }
    }
}

/// A command that was typed into a shell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TypedCommand<'a> {
    /// As it was typed.
    pub line: &'a [u8],
    /// When it was typed according to the shell, in seconds since 1970.
    pub time_s: Option<i64>,
}

/// An event in a shell's history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HistoryChange<'a> {
    /// A command was typed.
    Executed(TypedCommand<'a>),
    /// Commands were removed from the history.
    Cleared(HistoryClearing),
    /// The shell keeps no history.
    Disabled {
        way: DisableMethod,
        /// Whether the history was on before, while the shell was watched.
        was_on: bool,
        /// The value of the variable that decides it; empty if it is long, or if none does.
        value: &'a [u8],
    },
}

/// An event in a shell's history, with what a record needs.
#[derive(Clone, Copy, Debug)]
pub struct HistoryEvent<'a> {
    pub process: ProcessFacts<'a>,
    pub kind: ShellKind,
    pub change: HistoryChange<'a>,
    /// The shell's last known command.
    pub last: Option<TypedCommand<'a>>,
    /// When the event was first seen.
    pub since_ns: RealTime,
    /// Number of scans that have shown it.
    pub scans: u32,
}

/// Result of the check of a process's program.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum CheckedProgram {
    #[default]
    Unknown,
    /// It could not be read well enough; it is checked again at this scan.
    Later(ScanNumber),
    /// A fork that has not called exec, or a program that is linked statically and no bash.
    Other,
    /// No shell so far. It may load a library with a history: its areas are searched at this scan.
    Modules(ScanNumber),
    /// Index of its shell.
    Shell(u32),
}

/// State of checking one process.
#[derive(Clone, Copy, Debug, Default)]
struct ProcessCheck {
    process: Option<ProcessKey>,
    self_exec_id: u32,
    mm: KernelVa,
    /// Whether commands typed before the first check are reported.
    is_new: bool,
    /// Number of checks of its program.
    attempts: u8,
    /// Whether it is a shell for which there was no room.
    is_refused: bool,
    program: CheckedProgram,
}

/// How a process uses a file in which a history may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FileUse {
    Program,
    Library,
}

/// A known file in one use. A copy of bash that is mapped under a library's name is no library
/// readline, and a bash all the same.
#[derive(Clone, Debug)]
struct KnownFile {
    file: FileIdentity,
    used_as: FileUse,
    found: Option<ShellLayout>,
    /// Number of its processes without any sign of a bash. While there are too few, more are
    /// checked.
    unmatched: u8,
}

/// All shells of one machine.
#[derive(Debug)]
pub struct ShellHistory {
    wanted: bool,
    report_existing: bool,
    /// Checks of processes, by row number of the process.
    looked: Box<[ProcessCheck]>,
    shells: Box<[Option<Shell>]>,
    /// How many of them each user and container has; counted when they are all in use.
    groups: OwnerCounts,
    /// The keys of each shell's list.
    keys: Box<[u32]>,
    /// Known files: the newest replace the oldest.
    files: RecentList<KnownFile>,
    /// The row that had to wait in the last scan: the next scan starts there.
    first_row: u32,
    /// Number of areas that the present scan may still search.
    areas_left: u32,
    strings: Strings,
    reader: MemoryReader,
    file_reader: FileReader,
    list: list::HistoryListScratch,
    text: Vec<u8>,
    pointers: Vec<Pointer>,
    text_bytes: u64,
    /// The running search for the folder of a history file, and the process of its shell.
    search: Option<(ProcessKey, FolderSearch)>,
    key: HashKey,
    scan: ScanNumber,
    /// The shells and commands that found no room or could not be read.
    lost: Loss,
}

impl ShellHistory {
    /// Allocates for `limits` if `wanted`, including the reader.
    pub fn new(limits: &Limits, wanted: bool, report_existing: bool, key: HashKey) -> Self {
        let reader = if wanted { reader(limits) } else { MemoryReader::default() };
        Self { reader, ..Self::without_reader(limits, wanted, report_existing, key) }
    }

    /// Allocates for `limits` if `wanted`; each scan needs a reader ([`Detector::exchange`]).
    pub fn without_reader(
        limits: &Limits,
        wanted: bool,
        report_existing: bool,
        key: HashKey,
    ) -> Self {
        let shells = if wanted { SHELLS_MAX.min(limits.processes as usize) } else { 0 };
        let processes = if wanted { limits.processes as usize } else { 0 };
        let text_bytes = text_bytes(limits);
        Self {
            wanted,
            report_existing,
            looked: room::copies(ProcessCheck::default(), processes),
            shells: room::copies(None, shells),
            groups: OwnerCounts::new(shells, key.derive("history: groups")),
            keys: room::copies(0, shells * KEPT_MAX),
            files: RecentList::new(if wanted { FILES_MAX } else { 0 }),
            first_row: 0,
            areas_left: 0,
            strings: Strings::new(commands_room(shells), key.derive("history: strings")),
            reader: MemoryReader::default(),
            file_reader: FileReader::new(),
            list: list::HistoryListScratch::new(if wanted { KEPT_MAX } else { 0 }),
            text: room::list((text_bytes as usize).max(list::TEXT_ROOM_MIN)),
            pointers: room::list(if wanted { list::POINTERS_MAX } else { 0 }),
            text_bytes,
            search: None,
            key: key.derive("history: entries"),
            scan: ScanNumber::default(),
            lost: Loss::new(),
        }
    }
}

/// Room for the last command of each of so many shells, which is long in a few of them.
fn commands_room(shells: usize) -> StringRoom {
    StringRoom { bytes: shells * 256 + 64 * 1024, strings: shells }
}

/// Whether an activity of shell histories is reported.
fn is_wanted(is_enabled: &dyn Fn(Activity) -> bool) -> bool {
    ACTIVITIES.into_iter().any(is_enabled)
}

/// The reader of all shells' variables and of one shell's commands.
fn reader(limits: &Limits) -> MemoryReader {
    let shells = SHELLS_MAX.min(limits.processes as usize);
    let objects = (shells * ShellGlobal::COUNT).max(list::POINTERS_MAX);
    let arena_bytes = list::arena_bytes(objects, text_bytes(limits));
    MemoryReader::new(ReaderSizes { objects, arena_bytes, walks: objects * 4 })
}

/// Bytes of a command that are read: one more than a record has, to know whether it is cut.
fn text_bytes(limits: &Limits) -> u64 {
    u64::from(limits.string_length) + 1
}

impl Detector for ShellHistory {
    type Scratch = MemoryReader;

    const GAPS: &'static [GapKind] = &[GapKind::at_once(
        "shell_commands",
        "shells or shell commands did not fit or could not be read",
    )];

    fn build(setup: &DetectorSetup<'_>) -> Self {
        let wanted = is_wanted(setup.rules.is_enabled);
        Self::without_reader(setup.limits, wanted, setup.report_existing, setup.key)
    }

    fn needs_memory(is_enabled: &dyn Fn(Activity) -> bool) -> bool {
        is_wanted(is_enabled)
    }

    fn scratch(limits: &Limits) -> MemoryReader {
        reader(limits)
    }

    fn exchange(&mut self, reader: &mut MemoryReader) {
        std::mem::swap(&mut self.reader, reader);
    }

    /// Checks all shells of the scan.
    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        _files: &mut dyn ContentSource,
    ) {
        // Two scans must agree, and an early one may come in the middle of the same change.
        if !self.wanted || context.cx.snapshot.is_early {
            return;
        }
        self.scan = self.scan.next();
        self.lost.begin_scan();
        self.reader.forget_translations();
        let mut files_left = FILES_A_SCAN;
        self.areas_left = AREAS_A_SCAN;
        let first = std::mem::take(&mut self.first_row);
        let (later, sooner) = (state.processes(), state.processes());
        let in_turn =
            later.filter(|(id, _)| id.0 >= first).chain(sooner.take_while(|(id, _)| id.0 < first));
        for (id, process) in in_turn {
            let snapshot = context.cx.snapshot;
            self.check_process(&mut context.memory, snapshot, id, process, &mut files_left);
            self.count_refused(snapshot, id, process);
        }
        self.read_words(&mut context.memory);
        self.read_shells(context, state);
        self.search_folders(&mut context.memory);
        self.count_unread();
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }
}

impl ShellHistory {
    /// Counts the shells whose lists cannot be read.
    fn count_unread(&mut self) {
        let shells = self.shells.iter().flatten();
        for shell in shells.filter(|it| it.unread >= UNREAD_MAX && it.seen == self.scan) {
            self.lost.stand(1, Some(shell.process.process_id));
        }
    }
}

fn forget(shells: &mut [Option<Shell>], strings: &mut Strings, at: u32) {
    let shell = shells.get_mut(at as usize).and_then(Option::take);
    if let Some(last) = shell.and_then(|shell| shell.last) {
        strings.release(last.line);
    }
}

#[cfg(test)]
mod tests {
    use super::programs::wait_after;
    use super::*;
    use crate::detect::tests::Unreadable;
    use crate::detect::{Acceptance, Finding};
    use crate::page_cache::MachineMemory;
    use crate::state::ScanContext;
    use crate::state::facts::executable_of;
    use crate::state::tests::watch::Watch;
    use crate::state::tests::world::{FakeArea, FakeFile, FakeProcess, R, World, X};
    use crate::walk::Kernel;

    /// Two shells, of which nothing can be read, in a history that knows their file.
    struct Shells {
        history: ShellHistory,
        watch: Watch,
        world: World,
    }

    impl Shells {
        fn new() -> Self {
            let bash = FakeFile::regular(0xffff_8885_0000_0000, 7, "bin/bash");
            let shell = |pid| FakeProcess {
                executable: Some(bash.clone()),
                ..FakeProcess::new(pid).with_area(FakeArea::of_file(0x1000, 0x2000, R | X, &bash))
            };
            Self {
                history: ShellHistory::new(&Limits::default(), true, false, HashKey::new(1)),
                watch: Watch::quiet(),
                world: World::default().with(FakeProcess::new(1)).with(shell(9)).with(shell(10)),
            }
        }

        /// The number of shells that are missed at present, and the processes to blame so far.
        fn scan(&mut self) -> (u64, Vec<u32>) {
            let Self { history, watch, world } = self;
            watch.scan(world);
            let row = watch.snapshot.process_by_pid(10);
            if let Some(file) = row.and_then(|row| executable_of(&watch.snapshot, row)) {
                let (used_as, found) = (FileUse::Program, Some(ShellLayout::default()));
                history.keep(KnownFile { file, used_as, found, unmatched: 0 });
            }
            let kernel = Kernel::default();
            let memory = MachineMemory { source: &mut Unreadable, kernel: &kernel };
            let cx = &watch.state.scan_context(&watch.snapshot, watch.now);
            let out = &mut |_: &ScanContext<'_>, _: &Finding<'_>| Acceptance::Yes;
            history.update(&mut DetectorContext { memory, cx, out }, &watch.state, &mut ());
            let lost = history.unchecked();
            assert!(lost.missed() <= 2, "no shell counts twice");
            (lost.standing(), lost.blamed().iter().map(|blamed| blamed.process_id).collect())
        }
    }

    /// A shell for which there was no room was counted once. The gap was over after 10 s, while the
    /// shell still ran.
    #[test]
    fn a_shell_without_room_is_counted_as_long_as_it_runs() {
        let mut shells = Shells::new();
        shells.history.shells = Box::default();
        for _ in 0..1000 {
            assert_eq!(shells.scan(), (2, vec![9, 10]));
        }
        shells.world.remove(9);
        shells.scan();
        assert_eq!(shells.scan().0, 1);
        shells.world.remove(10);
        shells.scan();
        assert_eq!(shells.scan().0, 0);
    }

    #[test]
    fn a_shell_whose_list_cannot_be_read_is_counted_as_long_as_it_runs() {
        let mut shells = Shells::new();
        assert_eq!(shells.scan(), (0, vec![]));
        let shell = shells.history.shells.iter_mut().flatten().next().unwrap();
        (shell.unread, shell.again) = (UNREAD_MAX, false);
        for _ in 0..100 {
            assert_eq!(shells.scan(), (1, vec![9]));
        }
        shells.world.remove(9);
        shells.scan();
        assert_eq!(shells.scan().0, 0);
    }

    #[test]
    fn one_process_without_signs_does_not_decide_for_its_file() {
        let mut history = ShellHistory::new(&Limits::default(), true, false, HashKey::new(1));
        let file = FileIdentity { number: 7, ..FileIdentity::default() };
        for process in 1..=UNMATCHED_PROCESSES {
            history.note_unmatched(file);
            assert_eq!(history.files.len(), 1);
            assert_eq!(history.files[0].is_certain(), process == UNMATCHED_PROCESSES);
        }
        let (used_as, found) = (FileUse::Program, Some(ShellLayout::default()));
        history.keep(KnownFile { file, used_as, found, unmatched: 0 });
        assert_eq!(history.files.len(), 1);
        assert!(history.files[0].is_certain());
    }

    #[test]
    fn unreadable_programs_are_checked_less_and_less_often() {
        assert_eq!(wait_after(0, UNMATCHED_DOUBLINGS), LATER_SCANS);
        assert_eq!(wait_after(3, UNMATCHED_DOUBLINGS), 8 * LATER_SCANS);
        assert_eq!(wait_after(u8::MAX, LATER_DOUBLINGS), LATER_SCANS << LATER_DOUBLINGS);
    }
}
