//! Files whose content may have changed: checked when a descriptor that can write to a regular file
//! closes.
//!
//! The state reports which descriptors have closed, and what their files were when they were first
//! seen ([`Change::WriterClosed`]). This module decides whether the content may have changed:
//!
//! * A file counts as open while its `struct file` exists, under another descriptor, in another
//!   process, or mapped: a child that inherits a descriptor does not cause a check when it ends.
//!   The closing waits until the file is closed, with the file's first known state, because a shell
//!   moves its descriptors. It waits for the file and not for another closing: what holds the file
//!   last may be a mapping, or a descriptor that no scan has tracked.
//! * What was written is reported once, although the processes that share the open file end one
//!   after the other ([`merge`]).
//! * The inode is read again after the closing. The content may have changed if the size or the
//!   modification time differs from when the descriptor was first seen, or if the file was modified
//!   between that scan and the one before. Changes of nothing but the change time are none here.
//!   Permissions are compared by the file's path ([`paths`]).
//! * Writes to files of proc, sysfs, control groups and similar filesystems are commands to the
//!   kernel and change no content.
//! * A file without a name is deleted with its last descriptor and is not reported.
//! * Whether it matters is decided once, when its content has changed ([`rules`]). Others are only
//!   reported if the configuration asks for them.
//! * The record names the file as it is named now ([`names`]): many programs write a file beside
//!   another, and rename it.
//! * The record has the hashes of the file as it is now. The wait for them is limited.
//!
//! For files that are open when watching starts, changes count from then on. A descriptor that is
//! opened and closed between two scans is not seen. What it has written is found by the file's path
//! ([`paths`]), if the file matters, as are files that are put in the place of others.
//!
//! Not here: hashing ([`crate::page_cache`]) and the wording of the record (`policy`).

mod capabilities;
mod closing;
mod cut;
mod explained;
pub mod important;
mod matters;
mod nameless;
mod names;
mod naming;
pub mod packages;
pub mod paths;
mod permissions;
pub mod rules;
#[cfg(test)]
mod tests;
mod unseen;

use std::sync::Arc;

use panoptes_decoders::kernel::inode::Attributes;
use panoptes_records::activities::{Activity, Severity};

use self::capabilities::CapableProcesses;
use self::closing::{ClosedDescriptor, ClosingStage, ReportedFileVersion, merge};
use self::explained::ReportedContent;
use self::nameless::Nameless;
use self::naming::NameReads;
use self::packages::Packages;
use self::paths::{Paths, RecordedChanges};
use self::rules::ContentRules;
use super::{Acceptance, Detector, DetectorContext, DetectorRules, DetectorSetup, Findings};
use crate::address::{MemoryReader, ReaderSizes};
use crate::limits::Limits;
use crate::loss::{GapKind, GapLoss, Loss};
use crate::page_cache::{ContentSource, Hashes, MachineMemory, Partial};
use crate::shipped::ShippedFiles;
use crate::state::facts::{DescriptorFacts, FileName, ProcessFacts};
use crate::state::{Change, FileAtOpen, MachineState, ScanContext};
use crate::time::{Now, RealTime};
use crate::walk::Snapshot;
use panoptes_tables::{HashKey, RecentList, StringRoom, Strings, Tag, room};

/// How long a record waits for hashes.
const HASHES_NS: i64 = 2_000_000_000;
/// Maximum number of closings of one scan, beside [`OPEN_MAX`]. Of the users with most, and of
/// their processes with most, further ones are not checked: what they wrote is found by the files'
/// paths, if these matter.
const WAITING_MAX: usize = 896;
/// Maximum number of closings that wait for their files to close. Of the users with most, and of
/// their processes with most, further ones are not checked.
const OPEN_MAX: usize = 1216;
/// Number of consecutive scans without an open file after which it is closed: one scan may not read
/// the table of the process that has it open.
const ABSENT_SCANS: u8 = 3;
/// Number of scans after its closing in which a change waits for other closings of its file. Those
/// that share an open file often end together, and a scan may miss one that just ends.
const SETTLED_SCANS: u8 = 2;
/// How long a file that scans do not show counts as open while they leave something for the next.
const LEFT_NS: i64 = 10_000_000_000;
/// How long a file may keep a temporary name: `visudo` asks its user what to do with a mistake.
const TEMPORARY_NS: i64 = 10_000_000_000;
/// Number of closings of files with temporary names that wait. The oldest ones make room: what
/// their files are renamed to is found by its path.
const TEMPORARY_MAX: usize = 64;
/// Number of closings that a machine with few descriptors, and one with many, has room for.
const CLOSINGS_MIN: usize = 512;
const CLOSINGS_MAX: usize = WAITING_MAX + OPEN_MAX;
const _: () = assert!(CLOSINGS_MIN < CLOSINGS_MAX);
/// Number of names for which each closing has room: two of the file, and four of its process.
const NAMES: usize = 6;
/// Number of reported changes that are remembered: a process that had the file open too may end
/// later.
const REPORTED_MAX: usize = 256;
/// The bits of a mode with which someone may execute a file.
const ANY_EXECUTE: u16 = 0o111;
/// Number of inodes that are read in one batch.
const INODES: usize = 64;

/// A file whose content may have changed while it was open.
#[derive(Clone, Copy, Debug)]
pub struct ContentChange<'a> {
    /// The process that closed it, as it was then.
    pub process: ProcessFacts<'a>,
    /// The descriptor, with the file as it is now.
    pub descriptor: DescriptorFacts<'a>,
    /// The path by which it was opened, if it has another one now.
    pub previous: Option<&'a [u8]>,
    /// The file as it was when the descriptor was first seen.
    pub opened: FileAtOpen,
    /// Hashes of the file as it is now, if all of it is known.
    pub hashes: Option<Hashes>,
    /// How much of it is in memory, if not all of it.
    pub partial: Option<Partial>,
    /// When the closing was seen.
    pub since_ns: RealTime,
    /// Whether it changes what will run, or who may enter.
    pub matters: bool,
    /// The severity that the configuration sets for this file.
    pub severity: Option<Severity>,
}

/// Tracks closed descriptors until their files are checked.
#[derive(Debug)]
pub struct FileContent {
    wanted: bool,
    rules: Arc<ContentRules>,
    shipped: Arc<ShippedFiles>,
    closings: Vec<ClosedDescriptor>,
    /// The last reported changes.
    reported: RecentList<ReportedFileVersion>,
    /// What needs no record of a changed path: the last changes of files that matter that were
    /// reported, or are in a package manager's event.
    explained: RecentList<ReportedContent>,
    strings: Strings,
    packages: Packages,
    paths: Paths,
    nameless: Nameless,
    looked: CapableProcesses,
    reader: MemoryReader,
    /// Whether a change waits for what this scan left.
    waits: bool,
    /// The closings that found no room.
    lost: Loss,
}

impl FileContent {
    /// Allocates for `limits`, including the reader. Unless it is `wanted`, records nothing.
    pub fn new(limits: &Limits, wanted: bool, key: HashKey) -> Self {
        Self { reader: reader(), ..Self::without_reader(limits, (wanted, false), key) }
    }

    /// Allocates for `limits`; each scan needs a reader ([`Detector::exchange`]). Whether closings
    /// are wanted, and changed paths.
    pub fn without_reader(
        limits: &Limits,
        (closings_wanted, paths_wanted): (bool, bool),
        key: HashKey,
    ) -> Self {
        // Not all that is open closes at once.
        let closings = (limits.file_descriptors as usize / 4).clamp(CLOSINGS_MIN, CLOSINGS_MAX);
        let bytes = (CLOSINGS_MAX * 256).min(limits.processes as usize * 512);
        Self {
            wanted: closings_wanted || paths_wanted,
            rules: Arc::default(),
            shipped: Arc::default(),
            closings: room::list(closings),
            reported: RecentList::new(REPORTED_MAX),
            explained: RecentList::new(REPORTED_MAX),
            strings: Strings::new(
                StringRoom {
                    bytes: bytes.max(64 * 1024) + Strings::room_for_cut(closings / 2) * 5 / 4,
                    strings: closings * NAMES + packages::STRINGS + paths::STRINGS,
                },
                key.derive("written: strings"),
            ),
            packages: Packages::new(),
            paths: Paths::new(limits, paths_wanted, key),
            nameless: Nameless::new(),
            looked: CapableProcesses::new(),
            reader: MemoryReader::default(),
            waits: false,
            lost: Loss::new(),
        }
    }
}

/// Notes that a closing stands for the change of its file: a changed path is no second record.
fn explain(
    explained: &mut RecentList<ReportedContent>,
    paths: &mut Paths,
    closing: &ClosedDescriptor,
    name: Option<&[u8]>,
) {
    // What a package manager writes is in its event, whatever it is named in the end.
    let path = name.filter(|_| closing.manager.is_none()).map(|path| paths.hash(path));
    explained::note(explained, closing.explanation(path));
    // In a container the same path names another file.
    if let Some(path) = name.filter(|_| !closing.process.is_contained()) {
        paths.note(path, &closing.attributes);
    }
}

/// Whether the names in memory are read, if these activities are reported.
fn reads_paths(is_enabled: &dyn Fn(Activity) -> bool) -> bool {
    is_enabled(Activity::FileContentChange) || is_enabled(Activity::FilePermissionsChanged)
}

fn recorded(is_enabled: &dyn Fn(Activity) -> bool) -> RecordedChanges {
    RecordedChanges {
        closings: is_enabled(Activity::FileDescriptorFileContentChange),
        paths: is_enabled(Activity::FileContentChange),
    }
}

/// The reader of the inodes of closed files.
fn reader() -> MemoryReader {
    MemoryReader::new(ReaderSizes {
        objects: INODES,
        arena_bytes: INODES * 1024,
        walks: INODES * 8,
    })
}

impl Detector for FileContent {
    type Scratch = MemoryReader;

    const GAPS: &'static [GapKind] = &[
        GapKind::at_once(
            "content_changes",
            "closed files or set-uid programs were not checked: there were too many",
        ),
        GapKind::at_once(
            "paths",
            "folders are searched late, or not whole, for changed files: they have too many names",
        ),
    ];

    fn build(setup: &DetectorSetup<'_>) -> Self {
        let is_enabled = setup.rules.is_enabled;
        let recorded = recorded(is_enabled);
        let wanted = (recorded.closings, reads_paths(is_enabled));
        let mut files = Self {
            rules: Arc::clone(setup.rules.content_rules),
            shipped: Arc::clone(setup.shipped),
            ..Self::without_reader(setup.limits, wanted, setup.key)
        };
        files.paths.set_recorded(recorded);
        files
    }

    fn needs_memory(is_enabled: &dyn Fn(Activity) -> bool) -> bool {
        reads_paths(is_enabled)
    }

    /// Checks by these rules from now on. Changed paths are followed as they were wanted at start.
    fn set_rules(&mut self, rules: &DetectorRules<'_>) {
        let recorded = recorded(rules.is_enabled);
        self.wanted = recorded.closings || self.paths.is_wanted;
        self.paths.set_recorded(recorded);
        self.rules = Arc::clone(rules.content_rules);
    }

    /// Sets what should run: its files matter.
    fn set_shipped(&mut self, shipped: &Arc<ShippedFiles>) {
        self.shipped = Arc::clone(shipped);
    }

    fn scratch(_limits: &Limits) -> MemoryReader {
        reader()
    }

    fn exchange(&mut self, reader: &mut MemoryReader) {
        core::mem::swap(&mut self.reader, reader);
    }

    /// Records a change if it is the closing of a descriptor, or about a package manager.
    fn observe(&mut self, context: &mut DetectorContext<'_>, change: &Change<'_>) {
        if !self.wanted {
            return;
        }
        let snapshot = context.cx.snapshot;
        let (process, descriptor, file, inode, opened) = match *change {
            Change::WriterClosed { process, descriptor, file, inode, opened } => {
                (process, descriptor, file, inode, opened)
            }
            Change::DescriptorOpened { process, descriptor } => {
                // When it closes the file, its ancestors may have ended.
                if descriptor.writes_a_file() {
                    let (writer, now) = ((process, &descriptor), context.cx.now);
                    self.packages.manager_of_writer(snapshot, writer, now, &mut self.strings);
                    self.nameless.note(&descriptor, context.cx.now.monotonic);
                }
                return;
            }
            Change::ProcessCreated(process) | Change::ProcessExecuted { process, .. } => {
                self.note_capabilities(snapshot, process);
                return self.look_at_program(context.cx, process);
            }
            Change::ProcessTerminated(process) => {
                return self.packages.note_end(process.key, context.cx.now, &snapshot.machine);
            }
            _ => return,
        };
        let Some(attributes) = descriptor.inode else { return };
        if self.closings.len() == self.closings.capacity() {
            // The users with most make room, for more than one.
            self.cut(self.closings.capacity() * 3 / 4, |_| true);
        }
        if self.closings.len() == self.closings.capacity() {
            self.lost.add(1, Some(process.process_id()));
            return;
        }
        // Long names leave room for as many others.
        let others = self.closings.capacity() / 2;
        let described = process.described_at_close(descriptor.close_on_exec);
        let name = match descriptor.name {
            Some(FileName::Text(text)) => {
                self.strings.intern_leaving(text, others).or_else(|| self.strings.intern_cut(text))
            }
            _ => None,
        };
        let (writer, now) = ((process, &descriptor), context.cx.now);
        let manager = self.packages.manager_of_writer(snapshot, writer, now, &mut self.strings);
        self.closings.push(ClosedDescriptor {
            stage: ClosingStage::New,
            process: described.copy(context.cx.strings, &mut self.strings, others),
            index: descriptor.index,
            name,
            previous: None,
            naming: NameReads::default(),
            open: descriptor.open,
            close_on_exec: descriptor.close_on_exec,
            attributes,
            opened,
            file,
            inode,
            since: context.cx.now,
            is_open: false,
            closed_scans: 0,
            is_running: false,
            is_nameless_by_chance: self
                .nameless
                .is_by_chance(&descriptor, context.cx.now.monotonic),
            manager,
        });
    }

    /// Checks the scan's closings, and reports changed files whose hashes are known or whose wait
    /// is over.
    fn update(
        &mut self,
        context: &mut DetectorContext<'_>,
        _state: &MachineState,
        files: &mut dyn ContentSource,
    ) {
        self.check(context, files);
    }

    /// Reports changed files whose hashes are known or whose wait is over.
    fn settle(&mut self, context: &mut DetectorContext<'_>, files: &mut dyn ContentSource) {
        for closing in &mut self.closings {
            if let ClosingStage::TemporaryName { for_long } = closing.stage
                && closing.keeps_name(for_long && !self.rules.others, context.cx.now)
            {
                closing.stage = ClosingStage::of_unimportant(self.rules.others);
            }
        }
        // A descriptor that was open while its file changed tells more than one that was opened
        // just after the change, and stands for both.
        self.report_due(context, files, false);
        self.report_due(context, files, true);
        self.remove_over();
        let Self { packages, strings, closings, paths, .. } = self;
        let now = context.cx.now.monotonic;
        packages.report(context, strings, |manager, ended| {
            closings.iter().any(|closing| closing.manager == Some(manager))
                || paths.may_find_until(ended, now)
        });
    }

    /// Reports the changes that matter and still wait, as far as they are known.
    fn finish(
        &mut self,
        cx: &ScanContext<'_>,
        out: &mut dyn Findings,
        _state: &MachineState,
        files: &mut dyn ContentSource,
    ) -> u64 {
        self.report_rest(cx, out, files)
    }

    fn waits_for_all(&self) -> bool {
        self.waits
    }

    fn unchecked(&mut self) -> &mut Loss {
        &mut self.lost
    }

    fn losses<'a>(&'a mut self, visit: &mut dyn FnMut(GapLoss<'a>)) {
        visit((&mut self.lost).into());
        let (loss, folder) = self.paths.late();
        visit(GapLoss { folder, ..GapLoss::from(loss) });
    }
}

impl FileContent {
    /// Reports changes that are due: those that descriptors have seen, or those `from_before` their
    /// first sight.
    fn report_due(
        &mut self,
        context: &mut DetectorContext<'_>,
        files: &mut dyn ContentSource,
        from_before: bool,
    ) {
        for closing in &mut self.closings {
            let ClosingStage::Waiting { matters } = closing.stage else { continue };
            if closing.is_from_before() != from_before {
                continue;
            }
            let (now, has_waited) = (context.cx.now, closing.has_waited(context.cx.now));
            if let Some(manager) = closing.manager.filter(|_| matters) {
                match self.packages.is_trusted(manager, &self.shipped, files) {
                    Some(true) if closing.is_due(true, now) => {
                        self.packages.count(manager, closing.name, &mut self.strings);
                        closing.stage = ClosingStage::Over;
                        let name = closing.name.map(|id| self.strings.get(id));
                        explain(&mut self.explained, &mut self.paths, closing, name);
                        continue;
                    }
                    Some(true) => continue,
                    None if !has_waited => continue,
                    None | Some(false) => {}
                }
            }
            let known = files.ask(&closing.identity(), closing.asker());
            let awaits_name = matters && closing.awaits_name(now);
            if awaits_name || !closing.is_due(known.is_some(), now) {
                continue;
            }
            if closing.is_reported(&self.reported, &self.explained) {
                closing.stage = ClosingStage::Over;
                continue;
            }
            let name = closing.name.map(|id| self.strings.get(id));
            let weight = (matters, self.rules.severity(name));
            let (cx, strings) = (context.cx, &self.strings);
            let accepted = closing.report(strings, cx, context.out, known.as_ref(), weight);
            if accepted == Acceptance::No {
                continue;
            }
            closing.stage = ClosingStage::Over;
            if matters {
                explain(&mut self.explained, &mut self.paths, closing, name);
            }
            self.reported.push(closing.content());
        }
    }

    fn check(&mut self, context: &mut DetectorContext<'_>, files: &mut dyn ContentSource) {
        self.waits = false;
        for closing in &mut self.closings {
            let counts = context.cx.snapshot.counts();
            closing.closed_scans = closing.closed_scans.saturating_add(counts);
        }
        if self.closings.iter().any(ClosedDescriptor::awaits_close) {
            self.follow_files(context.cx.snapshot, context.cx.now);
            self.read_inodes(&mut context.memory);
        }
        self.read_names(&mut context.memory, (context.cx.now, &context.cx.snapshot.machine));
        if self.closings.iter().any(|closing| closing.stage == ClosingStage::Changed) {
            self.judge(context.cx.snapshot);
        }
        self.settle(context, files);
        self.look_at_capabilities(context);
        self.follow_paths(context, files);
    }

    fn report_rest(
        &mut self,
        cx: &ScanContext<'_>,
        out: &mut dyn Findings,
        files: &dyn ContentSource,
    ) -> u64 {
        let mut left = 0;
        for closing in &self.closings {
            let ClosingStage::Waiting { matters: true } = closing.stage else { continue };
            let is_reported = closing.is_reported(&self.reported, &self.explained);
            if closing.manager.is_some() || is_reported {
                continue;
            }
            let known = files.known(&closing.identity());
            let name = closing.name.map(|id| self.strings.get(id));
            let weight = (true, self.rules.severity(name));
            let accepted = closing.report(&self.strings, cx, out, known.as_ref(), weight);
            left += u64::from(accepted == Acceptance::No);
        }
        self.closings.clear();
        left
    }

    fn remove_over(&mut self) {
        let strings = &mut self.strings;
        self.closings.retain(|closing| {
            let stays = closing.stage != ClosingStage::Over;
            if !stays {
                closing.process.release(strings);
                let names = [closing.name, closing.previous];
                names.into_iter().flatten().for_each(|id| strings.release(id));
            }
            stays
        });
    }

    /// Finds out which of the files are still open or mapped. Of several closings of one file, one
    /// stays.
    fn follow_files(&mut self, snapshot: &Snapshot, now: Now) {
        self.closings.sort_unstable_by_key(ClosedDescriptor::order);
        self.find_open(snapshot);
        let mut open = 0;
        let mut rest = self.closings.as_mut_slice();
        while let Some(first) = rest.first() {
            let (file, is_open) = (first.open_file(), first.is_open);
            let count = rest.iter().take_while(|closing| closing.open_file() == file).count();
            let (same, others) = rest.split_at_mut(count);
            if let Some(closing) = merge(same, is_open) {
                let is_unknown = !snapshot.left.is_empty()
                    && now.monotonic.since(closing.since.monotonic) < LEFT_NS;
                if is_open || !is_unknown {
                    closing.follow(is_open, snapshot.counts(), now);
                } else {
                    self.waits |= closing.awaits_close();
                }
                open += usize::from(matches!(closing.stage, ClosingStage::Open { .. }));
            }
            rest = others;
        }
        if open > OPEN_MAX {
            self.cut(OPEN_MAX, |closing| matches!(closing.stage, ClosingStage::Open { .. }));
        }
    }

    /// Notes which of the sorted closings are of files that the scan shows: of each file the first
    /// one. The files are searched only if the inode of one of them is still in use.
    fn find_open(&mut self, snapshot: &Snapshot) {
        let inodes = &snapshot.inodes;
        let mut is_in_use = inodes.dropped > 0;
        for closing in &mut self.closings {
            closing.is_open = false;
            is_in_use |= closing.awaits_close() && inodes.find(closing.inode.0).is_some();
        }
        for row in snapshot.files.iter().filter(|row| is_in_use && !row.open.inode.is_null()) {
            let inode = row.open.inode;
            let mut at = self.closings.partition_point(|closing| closing.inode < inode);
            if self.closings.get(at).is_none_or(|closing| closing.inode != inode) {
                continue;
            }
            let file = (inode, Tag::of(row.address.0));
            at += self.closings[at..].partition_point(|closing| closing.open_file() < file);
            if let Some(closing) = self.closings.get_mut(at) {
                closing.is_open |= closing.open_file() == file;
            }
        }
    }

    /// Reads the inodes of closed files, and decides whether their content has changed.
    fn read_inodes(&mut self, memory: &mut MachineMemory<'_>) {
        let MachineMemory { source, kernel } = memory;
        let layout = &kernel.layouts.inode;
        self.reader.forget_translations();
        let mut done = 0;
        while done < self.closings.len() {
            self.reader.clear();
            let mut at = done;
            while let Some(closing) = self.closings.get(at) {
                if closing.stage == ClosingStage::Closed
                    && self.reader.push(&kernel.space, closing.inode, &layout.packing).is_none()
                {
                    break;
                }
                at += 1;
            }
            if !self.reader.is_empty() {
                self.reader.run(source, kernel.space.levels);
            }
            let mut object = 0;
            for closing in &mut self.closings[done..at] {
                if closing.stage == ClosingStage::Closed {
                    let bytes = self.reader.object(object);
                    closing.decide(bytes.map(|bytes| Attributes::decode(layout, bytes)));
                    object += 1;
                }
            }
            // An inode that has no room in an empty reader cannot be read.
            done = at.max(done + 1);
        }
    }
}
