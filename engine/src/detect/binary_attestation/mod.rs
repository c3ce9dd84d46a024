//! Checks whether the programs that run are those that were shipped.
//!
//! [`crate::shipped`] is the index of files that may run. It is built from SBOMs at start, and
//! queries allocate nothing. [`verdict`] has the rules; it is a pure function of what is known of a
//! file. [`BinaryAttestation`] tracks the programs (one per process and exec) and every file that a
//! process has mapped executable.
//!
//! * Processes that exist when watching starts are checked too.
//! * Each pair of program and file is decided, and reported, once. It is checked again only if the
//!   file is written to and the program's areas change after that. Files that a fork inherits were
//!   checked in the parent.
//! * Files are hashed between scans ([`crate::page_cache::Contents`]). Until a file's content is
//!   known, its pair waits with the data that its record needs, even if the process ends meanwhile.
//!   Pairs with partly known content stay open while the process runs, and are checked less and
//!   less often.
//! * A process is checked again when the state reports that its areas have changed. A scan without
//!   changes costs one comparison per process.
//!
//! Each program has a share of the room ([`fair_share`]). What it maps beyond that is not checked,
//! and is counted with its process. So are programs of which no content becomes known.
//!
//! A file below another root than its process (a container's runtime before it has entered the
//! container) is checked against what applies outside of containers.
//!
//! Not here: reading SBOMs (`panoptes-sbom`), hashing ([`crate::page_cache`]), and the wording
//! of records (`policy`). Start reading at [`Detector::update`].

pub mod arguments;
mod fair_share;
mod first_processes;
mod forks;
mod look;
mod program;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::{Acceptance, Detector, DetectorContext, DetectorSetup, Finding, Findings};
use crate::container_config::Images;
use crate::limits::Limits;
use crate::loss::{GapKind, GapLoss, Loss, StopTallies};
use crate::page_cache::{ContentFormat, FileIdentity, HashOutcome, Hashes};
use crate::path::PathBuffer;
use crate::state::facts::ProcessFacts;
use crate::state::process::Process;
use crate::state::{MachineState, ScanContext};
use crate::time::{Monotonic, RealTime};
use panoptes_tables::{HashKey, Index, RowId, ScanNumber, StringRoom, Strings, Table, room};

use crate::shipped::ProcessSubjects;
use fair_share::ProgramShares;
use first_processes::FirstProcesses;
use forks::Relatives;
use program::{Item, NO_ITEM, TrackedProgram, UndecidedFile, UndecidedFileState};
use verdict::{AttestationQuestion, AttestationVerdict, Basis, Deviation, FileFault, Role};

pub use crate::page_cache::ContentSource;
pub use crate::shipped::{ShippedBuilder, ShippedFile, ShippedFiles, ShippedSubject};

/// How long to wait for hashes when a finding is possible without them.
const FINDING_HASHES_NS: i64 = 2_000_000_000;
/// How long a running program may have no known content until that is counted, and then until that
/// is asked again.
const UNJUDGED_NS: i64 = 5_000_000_000;
/// How long an ended process is kept while one of its pairs is open.
const ENDED_NS: i64 = 60_000_000_000;
/// The number of the first scan.
const FIRST_SCAN: ScanNumber = ScanNumber(1);
/// Maximum number of descriptors per scan among which scripts are searched for.
const SCRIPT_STEPS_MAX: u32 = 1 << 18;
/// Number of names that each program has room for: its executable, directory, command line and
/// container.
const NAMES: usize = 4;
/// Maximum number of scans between two checks of an open pair.
const REST_SCANS_MAX: u32 = 64;

/// A program, library or script that runs and was not shipped like this.
#[derive(Clone, Copy, Debug)]
pub struct Alert<'a> {
    pub shipped: &'a ShippedFiles,
    /// The subjects of `shipped` that apply to the process.
    pub applied: &'a ProcessSubjects,
    pub finding: Deviation,
    pub role: Role,
    /// The process as it was when the file was first seen in it.
    pub process: ProcessFacts<'a>,
    /// Hashes of its executable, where they are known.
    pub process_hashes: Option<Hashes>,
    pub file: FileFacts<'a>,
    /// When the file was first seen in the process.
    pub since_ns: RealTime,
}

/// A file that runs.
#[derive(Clone, Copy, Debug)]
pub struct FileFacts<'a> {
    /// Path as /proc shows it, with ` (deleted)`.
    pub path: Option<&'a [u8]>,
    /// Device of its filesystem, as the kernel encodes it.
    pub device: u32,
    /// Inode number.
    pub number: u64,
    /// `st_ctim` in nanoseconds since 1970.
    pub change_time_ns: i64,
    pub size: u64,
    pub format: ContentFormat,
    /// Hashes of the content, where all of it is known.
    pub hashes: Option<Hashes>,
    pub is_main_executable: bool,
    /// Whether it is in no directory: a memfd.
    pub is_memfd: bool,
    pub is_deleted: bool,
}

/// Result of checking a pair of program and file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum FileDecision {
    /// Not decided yet.
    No,
    /// The file is as shipped, or its content will never be known.
    NoAlert,
    Alerted,
    /// It is a finding, whose alert is not accepted now.
    Refused,
}

/// Tracks which programs and files were checked and which are open.
#[derive(Debug)]
pub struct BinaryAttestation {
    shipped: Arc<ShippedFiles>,
    images: Images,
    /// What applies outside of containers.
    system: ProcessSubjects,
    programs: Table<TrackedProgram>,
    items: Table<Item>,
    waiting: Vec<UndecidedFile>,
    strings: Strings,
    buffer: PathBuffer,
    other_buffer: PathBuffer,
    scan: ScanNumber,
    serial: u32,
    relatives: Relatives,
    /// Number of descriptors left in this scan among which scripts are searched for.
    script_steps_left: u32,
    first_processes: FirstProcesses,
    shares: ProgramShares,
    /// Files that find no room.
    lost: Loss,
    /// Running programs of which no content is known, and the reasons, as long as there are some.
    unjudged: Loss,
    unjudged_stops: StopTallies<1>,
}

impl BinaryAttestation {
    /// Allocates for `limits`, or nothing if no SBOM was given.
    pub fn new(limits: &Limits, shipped: Arc<ShippedFiles>, images: Images, key: HashKey) -> Self {
        let is_asked = !shipped.is_empty();
        let room = |count: u32| if is_asked { count as usize } else { 0 };
        // Ended programs stay until their files are decided. Of the areas of most mapped files, one
        // in five is executable.
        let programs = room(limits.processes.saturating_mul(5) / 4 + 64);
        // Each program has room for its executable, whatever the limits.
        let items = room((limits.vmas / 5 + 1024).max(2 * programs as u32));
        // Most are decided soon. Those without room wait where they are.
        let waiting = room((limits.vmas / 16 + 1024).max(2 * programs as u32));
        Self {
            system: shipped.of_system(),
            shipped,
            images,
            programs: Table::new(programs, key.derive("attest: programs")),
            items: Table::without_scans(items, key.derive("attest: files")),
            waiting: room::list(waiting),
            strings: Strings::new(names_room(programs, waiting), key.derive("attest: strings")),
            buffer: PathBuffer::default(),
            other_buffer: PathBuffer::default(),
            scan: ScanNumber::default(),
            serial: 0,
            relatives: Relatives::new(programs, key),
            script_steps_left: 0,
            first_processes: FirstProcesses::new(room(limits.containers_seen_max() as u32), key),
            shares: ProgramShares::new(programs),
            lost: Loss::new(),
            unjudged: Loss::new(),
            unjudged_stops: StopTallies::default(),
        }
    }

    pub fn shipped(&self) -> &Arc<ShippedFiles> {
        &self.shipped
    }
}

/// Room for names: those of every program, cut if they are long, and as much for names of usual
/// length as programs and files have; many programs map the same files. Each program also has its
/// arguments, and each open file a path.
fn names_room(programs: usize, waiting: usize) -> StringRoom {
    let bytes = Strings::room_for_cut(programs * NAMES) + programs * 128 + waiting * 16;
    StringRoom { bytes: Strings::bytes_for(bytes), strings: programs * (NAMES + 1) + waiting }
}

impl Detector for BinaryAttestation {
    type Scratch = ();

    const GAPS: &'static [GapKind] = &[
        GapKind::at_once("binaries", "programs or libraries were not checked: there were too many"),
        GapKind::at_once(
            "unjudged",
            "running programs were not judged: nothing of their content is in memory",
        ),
    ];

    fn build(setup: &DetectorSetup<'_>) -> Self {
        let (shipped, images) = (Arc::clone(setup.shipped), setup.images.clone());
        Self::new(setup.limits, shipped, images, setup.key)
    }

    /// Sets the images of containers. Programs that are already tracked keep theirs.
    fn set_images(&mut self, images: &Images) {
        self.images = images.clone();
    }

    /// Checks everything new in the scan, and reports what can be decided.
    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        state: &MachineState,
        contents: &mut dyn ContentSource,
    ) {
        if self.shipped.is_empty() {
            return;
        }
        self.scan = self.scan.next();
        self.script_steps_left = SCRIPT_STEPS_MAX;
        self.lost.begin_scan();
        self.divide_room();
        for (id, process) in state.processes() {
            self.look_at(context.cx, state, id, process);
        }
        self.remove_ended(state);
        self.settle(context, contents);
    }

    /// Reports what can be decided by now, in the order in which it was found.
    fn settle(&mut self, context: &mut DetectorContext<'_>, contents: &mut dyn ContentSource) {
        self.unjudged.begin_scan();
        let mut kept = 0;
        for at in 0..self.waiting.len() {
            if !self.settle_one(at, context, contents) {
                self.count_unjudged(at);
                self.move_waiting(at, kept);
                kept += 1;
            }
        }
        self.waiting.truncate(kept);
        if self.unjudged.standing() == 0 {
            self.unjudged_stops.forget(0);
        }
    }

    fn finish(
        &mut self,
        cx: &ScanContext<'_>,
        out: &mut dyn Findings,
        _state: &MachineState,
        contents: &mut dyn ContentSource,
    ) -> u64 {
        let (mut left, mut is_full) = (0, false);
        for waiting in
            self.waiting.iter().filter(|waiting| waiting.standing == UndecidedFileState::Owed)
        {
            // The queue counts the first that it refuses.
            left += u64::from(is_full);
            if !is_full {
                let decided = self.decide(waiting, (cx, out), contents, true, &mut false);
                is_full = decided == FileDecision::Refused;
                left += u64::from(decided == FileDecision::No);
            }
        }
        left
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }

    fn losses<'a>(&'a mut self, visit: &mut dyn FnMut(GapLoss<'a>)) {
        visit((&mut self.lost).into());
        let stops = self.unjudged_stops.most_frequent::<1>(|_, _| Some("content of a program"));
        visit(GapLoss { stop: stops.first().copied(), ..GapLoss::from(&mut self.unjudged) });
    }
}

impl BinaryAttestation {
    /// Decides about the pair at a position if it is time for that. Returns whether it is closed.
    fn settle_one(
        &mut self,
        at: usize,
        context: &mut DetectorContext<'_>,
        contents: &mut dyn ContentSource,
    ) -> bool {
        let Some(&waiting) = self.waiting.get(at) else { return false };
        let scan = self.scan;
        let program = self.programs.get(waiting.program);
        let may_alert = program.is_some_and(|program| program.may_alert(waiting.role, scan));
        let is_owed = waiting.standing == UndecidedFileState::Owed;
        // A finding is offered in each scan until another one of its program is not accepted. Its
        // file's content is asked for now and then, so that it stays known.
        if waiting.due.is_after(scan) && !(is_owed && may_alert) {
            return false;
        }
        // A new finding is offered in any case: it may be of another kind.
        let may_alert = may_alert || !is_owed;
        let mut is_lost = false;
        let (cx, out): (_, &mut dyn Findings) = (context.cx, &mut *context.out);
        let decided = self.decide(&waiting, (cx, out), contents, may_alert, &mut is_lost);
        if matches!(decided, FileDecision::NoAlert | FileDecision::Alerted) {
            if is_owed && decided == FileDecision::NoAlert {
                let process_id = self.programs.get(waiting.program).map(TrackedProgram::process_id);
                self.lost.add(1, process_id);
            }
            self.forget(&waiting, decided == FileDecision::Alerted);
            return true;
        }
        let is_refused = decided == FileDecision::Refused;
        let is_evicted = is_owed && !is_refused && !self.is_known(&waiting, contents);
        if let Some(program) = self.programs.get_mut(waiting.program) {
            if is_refused {
                program.put_off = Some(scan);
            } else if is_lost {
                // The identity may be outdated: removing or renaming a file changes its inode's
                // times.
                program.again = Some(scan);
            }
            if is_evicted {
                // The content was known and had to make room.
                self.lost.add(1, Some(program.process_id()));
            }
        }
        if !is_refused {
            self.judge_unjudged(at, &waiting, cx.now.monotonic, contents);
        }
        let age = scan.since(waiting.since_scan);
        let rest = if is_refused { REST_SCANS_MAX } else { (age / 8).clamp(1, REST_SCANS_MAX) };
        if let Some(kept) = self.waiting.get_mut(at) {
            kept.due = scan.after(rest);
            if is_refused {
                kept.standing = UndecidedFileState::Owed;
            } else if kept.standing == UndecidedFileState::Owed {
                kept.standing = UndecidedFileState::Open;
            }
        }
        false
    }

    /// Whether something is known of a file's content, if it may be of before a change of clocks.
    fn is_known(&self, waiting: &UndecidedFile, contents: &mut dyn ContentSource) -> bool {
        let program = self.programs.get(waiting.program);
        let asked = self.identity_of(waiting).zip(program);
        asked.is_some_and(|(file, program)| contents.ask_last(&file, program.asker()).is_some())
    }

    /// Moves an open pair to a position further in front.
    fn move_waiting(&mut self, from: usize, to: usize) {
        if from != to
            && let Some(&moved) = self.waiting.get(from)
            && let Some(item) = self.items.get_mut(moved.item)
        {
            item.waiting = Index::new(to);
            self.waiting[to] = moved;
        }
    }

    /// Decides about one pair if possible, and reports a finding if it `may_alert`. Sets `is_lost`
    /// if the file is not found under its known identity.
    fn decide(
        &self,
        waiting: &UndecidedFile,
        (cx, out): (&ScanContext<'_>, &mut dyn Findings),
        contents: &mut dyn ContentSource,
        may_alert: bool,
        is_lost: &mut bool,
    ) -> FileDecision {
        let Some(program) = self.programs.get(waiting.program) else {
            return FileDecision::NoAlert;
        };
        let now = cx.now.monotonic;
        let unless_over =
            || if program.is_over(now) { FileDecision::NoAlert } else { FileDecision::No };
        let asker = program.asker();
        let Some(identity) = self.identity_of(waiting) else { return FileDecision::NoAlert };
        let known = contents.ask(&identity, asker);
        *is_lost = known.is_some_and(|known| matches!(known.outcome, HashOutcome::Nothing));
        let mut hashes_of = |file: Option<FileIdentity>| contents.ask_last(&file?, asker)?.hashes();
        let name = waiting.path.map(|id| self.strings.get(id));
        let path = name.and_then(|name| waiting.path_in(name));
        let mut ran_before = ArrayVec::<Hashes, 2>::new();
        if waiting.is_memfd {
            ran_before
                .extend([program.before, program.parent].into_iter().filter_map(&mut hashes_of));
            // JIT compilers map shared memory executable too: without an ELF header it is no
            // library.
            let format = known.map(|known| known.format);
            match (waiting.role, format) {
                (Role::Library, Some(ContentFormat::Other)) => return FileDecision::NoAlert,
                (Role::Library, Some(ContentFormat::Unknown)) => return unless_over(),
                _ => {}
            }
        }
        let applied = if waiting.by_system { &self.system } else { &program.applied };
        let question = AttestationQuestion {
            shipped: &self.shipped,
            applied,
            role: waiting.role,
            path,
            is_memfd: waiting.is_memfd,
            size: identity.size,
            known: known.as_ref(),
            ran_before: &ran_before,
        };
        let (finding, is_last) = self.conclude(program, waiting, &question, now);
        let Some(finding) = finding else {
            return if is_last { FileDecision::NoAlert } else { unless_over() };
        };
        if !may_alert {
            return FileDecision::Refused;
        }
        let hashes = known.and_then(|known| known.hashes());
        let process_hashes =
            if waiting.is_main_executable { hashes } else { hashes_of(program.executable) };
        let alert = Alert {
            shipped: &self.shipped,
            applied,
            finding,
            role: waiting.role,
            process: program.kept.facts(&self.strings),
            process_hashes,
            file: waiting.file(&identity, name, known.as_ref()),
            since_ns: waiting.since.real,
        };
        match out.found(cx, &Finding::BinaryAttestation(&alert)) {
            Acceptance::Yes => FileDecision::Alerted,
            Acceptance::No => FileDecision::Refused,
        }
    }

    /// The latest identity of the file of an open pair.
    fn identity_of(&self, waiting: &UndecidedFile) -> Option<FileIdentity> {
        self.items.get(waiting.item).map(|item| item.identity(waiting.device))
    }

    /// Applies the rules to a pair. Returns what is reported, and whether nothing can change that.
    fn conclude(
        &self,
        program: &TrackedProgram,
        waiting: &UndecidedFile,
        question: &AttestationQuestion<'_>,
        now: Monotonic,
    ) -> (Option<Deviation>, bool) {
        let waited = now.since(waiting.since.monotonic) >= FINDING_HASHES_NS;
        match verdict::decide(question) {
            AttestationVerdict::Alert(Deviation { wrong: FileFault::Elsewhere { .. }, .. })
                if waiting.by_system && waiting.is_memfd && program.is_inside =>
            {
                // A container's runtime that is entering the container.
                (None, true)
            }
            // The file was at its place before: renaming a file changes its time too.
            AttestationVerdict::Alert(Deviation { wrong: FileFault::Elsewhere { .. }, .. })
                if waiting.again =>
            {
                (None, true)
            }
            AttestationVerdict::Alert(finding) => (Some(finding), true),
            AttestationVerdict::Fine => (self.arguments_of(program, waiting, question), true),
            AttestationVerdict::Open { otherwise } => (otherwise.filter(|_| waited), false),
        }
    }

    /// Checks the arguments of a program whose content and path are as shipped.
    fn arguments_of(
        &self,
        program: &TrackedProgram,
        waiting: &UndecidedFile,
        question: &AttestationQuestion<'_>,
    ) -> Option<Deviation> {
        // Programs may overwrite their arguments: only those present at the start of the program
        // count.
        if waiting.role != Role::Program || !waiting.is_main_executable || program.preexisting {
            return None;
        }
        let line = self.strings.get(program.line?);
        let wrong = |entrypoint| Deviation {
            wrong: FileFault::Arguments { entrypoint },
            basis: Basis::CommandLine,
        };
        let mut lists = question.intended_arguments().peekable();
        if lists.peek().is_some() && !arguments::is_among(line, lists) {
            return Some(wrong(false));
        }
        if !program.is_entrypoint || waiting.by_system {
            return None;
        }
        let mut entrypoints = self.shipped.entrypoints(&program.applied).peekable();
        // If the runtime was not seen right before, other programs may have run in between.
        let name = arguments::arguments(line).next().map(arguments::base_name);
        let is_its_own =
            |entrypoint| arguments::arguments(entrypoint).next().map(arguments::base_name) == name;
        if !program.saw_runtime && !entrypoints.clone().any(is_its_own) {
            return None;
        }
        let is_other = entrypoints.peek().is_some()
            && !entrypoints.any(|entrypoint| arguments::is_entrypoint(line, entrypoint));
        is_other.then(|| wrong(true))
    }

    /// Counts the files of running programs that find no room, and removes ended programs that have
    /// no open files.
    fn remove_ended(&mut self, state: &MachineState) {
        for number in 0..self.programs.end() {
            let id = RowId(number);
            let was_seen = self.programs.last_seen(id) == Some(self.scan);
            let Some(program) = self.programs.get_mut(id) else { continue };
            let is_its = |process: &Process| process.self_exec_id() == program.key.exec;
            let is_there = was_seen || state.missed(&program.key.process).is_some_and(is_its);
            program.is_gone = !is_there;
            if is_there {
                self.lost.stand(program.refused.into(), Some(program.key.process.process_id));
            }
            if !is_there && program.open == 0 {
                self.remove(id);
            }
        }
    }

    fn remove(&mut self, id: RowId) {
        let Some(program) = self.programs.remove(id) else { return };
        program.kept.release(&mut self.strings);
        if let Some(line) = program.line {
            self.strings.release(line);
        }
        let mut next = program.first_item;
        while next != NO_ITEM {
            let removed = self.items.remove(RowId(next));
            next = removed.map_or(NO_ITEM, |item| item.next);
        }
    }

    /// Removes an open pair from the list.
    fn take_waiting(&mut self, at: usize) {
        self.waiting.swap_remove(at);
        if let Some(moved) = self.waiting.get(at)
            && let Some(item) = self.items.get_mut(moved.item)
        {
            item.waiting = Index::new(at);
        }
    }

    /// Counts a running program if nothing was known of it when that was last asked.
    fn count_unjudged(&mut self, at: usize) {
        if let Some(waiting) = self.waiting.get(at)
            && waiting.standing == UndecidedFileState::Unjudged
            && let Some(program) = self.programs.get(waiting.program)
            && !program.is_gone
        {
            self.unjudged.stand(1, Some(program.key.process.process_id));
        }
    }

    /// Finds out now and then whether nothing is known of a running program.
    fn judge_unjudged(
        &mut self,
        at: usize,
        waiting: &UndecidedFile,
        now: Monotonic,
        contents: &mut dyn ContentSource,
    ) {
        let is_due = now.since(waiting.asked) >= UNJUDGED_NS;
        if waiting.role != Role::Program || !is_due {
            return;
        }
        let Some(program) = self.programs.get(waiting.program) else { return };
        let Some(identity) = self.identity_of(waiting) else { return };
        let known = contents.ask_last(&identity, program.asker()).map(|known| known.outcome);
        let is_unjudged = matches!(known, None | Some(HashOutcome::Nothing));
        if let Some(stop) = contents.stop_of(&identity).filter(|_| is_unjudged) {
            self.unjudged_stops.add(0, stop);
        }
        let Some(kept) = self.waiting.get_mut(at) else { return };
        kept.asked = now;
        kept.standing =
            if is_unjudged { UndecidedFileState::Unjudged } else { UndecidedFileState::Open };
    }

    /// Releases what a decided pair holds.
    fn forget(&mut self, waiting: &UndecidedFile, is_reported: bool) {
        if let Some(id) = waiting.path {
            self.strings.release(id);
        }
        let Some(program) = self.programs.get_mut(waiting.program) else { return };
        program.open = program.open.saturating_sub(1);
        if let Some(item) = self.items.get_mut(waiting.item) {
            item.waiting = None;
            item.is_reported |= is_reported;
        }
    }
}
