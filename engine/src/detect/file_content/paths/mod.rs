//! Paths that matter and whose files have changed, by descriptors that no scan has seen, or by
//! another name: a rename, a link, a mount.
//!
//! A [`Sweep`] goes through the names that the kernel keeps in memory, and [`KnownPaths`] has what
//! each path named when it was last seen:
//!
//! * Same file, other size or modification time: its content was written.
//! * Another file, which was changed or got a name since watching started: the path was given to
//!   it.
//! * An unknown path is new if its file was written since watching started, or got this name since
//!   then: the folder was changed at the file's change time. A name that moves from a known path to
//!   an unknown one is no change.
//!
//! What a descriptor's closing reports, or a package manager has written, is no second record:
//! changes wait a few scans for that, and for hashes. Of permissions and owners, the same table has
//! what they were ([`permissions`]).
//!
//! Names that do not exist may delay a sweep: then known names are read by their addresses
//! ([`Direct`]), and what is seen late is a gap ([`SweepDelay`]).
//!
//! Not here: files of containers, and names that nothing keeps in memory.

mod climb;
mod direct;
mod folders;
mod histories;
mod known;
mod late;
mod mounts;
mod pending;
mod permissions;
mod programs;
mod renamed;
mod reported_access;
mod sweep;
#[cfg(test)]
pub(super) mod tests;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inode::mode;
use panoptes_tables::{HashKey, Strings, room};

use self::climb::climb;
pub(super) use self::climb::{CLIMBS_AT_ONCE, Climb};
use self::direct::Direct;
use self::folders::is_in_homes;
pub(super) use self::folders::{Matter, matter};
use self::histories::Removals;
pub use self::known::FileOwner;
use self::known::{DentryPlace, KnownPaths, PathTarget};
use self::late::SweepDelay;
pub use self::pending::{HistoryLoss, NAMES_MAX, NewNames, PathChange, PreviousTarget};
pub(super) use self::pending::{PathChangeStep, PendingPathChange, TOGETHER_MIN};
pub use self::permissions::{AccessBefore, GrantedAccess, PermissionChange, is_set_id, set_ids};
use self::permissions::{SweptNameOutcome, as_reported};
use self::reported_access::ReportedAccess;
use self::sweep::{Sweep, SweepProgress, SweptName};
use super::explained::ReportedContent;
use super::important::{is_unimportant, pattern_number};
use super::rules::{ChangedFile, ContentRules};
use super::{ANY_EXECUTE, important};
use crate::address::MemoryReader;
use crate::limits::Limits;
use crate::loss::Loss;
use crate::page_cache::MachineMemory;
use crate::shipped::ShippedFiles;
use crate::state::facts::InodeFacts;
use crate::time::{Monotonic, Now};
use crate::walk::Snapshot;

/// Time between the beginnings of two sweeps, at least.
const SWEEP_EVERY_NS: i64 = 400_000_000;
/// Time after which a sweep ends because known names are not where they were, at least.
const NEWS_NS: i64 = 2_000_000_000;
/// Number of paths that a large machine has room for, and a small one.
const KNOWN_MAX: usize = 11_000;
const KNOWN_MIN: usize = 2048;
/// Number of changes that wait at a time. Further ones are found by the next sweep.
pub(super) const PENDING_MAX: usize = 256;
/// Number of changes of users' own files that wait at a time, and those of one user.
const PENDING_OF_USERS_MAX: usize = PENDING_MAX / 2;
const PENDING_OF_USER_MAX: usize = PENDING_MAX / 8;
/// Number of unknown paths in one scan whose files are searched under other paths, as far as these
/// may have them.
const SEARCHES_MAX: usize = 4;
/// Time between the change of a file's name and that of its folder.
const NAMED_NS: i64 = 50_000_000;
/// A step of the machine's clock by more than this is no correction.
const CLOCK_STEP_NS: i64 = 500_000_000;
/// How long a package manager's event waits for a sweep that began after it ended, and for what
/// that finds.
const SWEEP_WAIT_NS: i64 = 30_000_000_000;
/// A machine that was watched before its process 1 ran a program has started when no new name came
/// for this long, or when process 1 sees another root.
const STARTED_NS: i64 = 120_000_000_000;
/// It has started in any case this long after its process 1 ran a program: a process that keeps
/// making names does not hide behind the start.
const STARTED_MAX_NS: i64 = 900_000_000_000;
const _: () = {
    assert!(KNOWN_MIN < KNOWN_MAX && STARTED_NS < STARTED_MAX_NS);
    assert!(SWEEP_EVERY_NS < NEWS_NS, "a sweep begins before another one is ended early");
};
/// Number of strings that waiting changes need: of each its path, and the one before a rename. And
/// the paths of histories that were removed.
pub(super) const STRINGS: usize = 2 * PENDING_MAX + histories::REMOVED_MAX;
/// Number of mounts of one filesystem by which a path is searched.
const MOUNTS_OF_ONE: usize = 4;

/// What the paths that matter name.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) is_wanted: bool,
    sweep: Sweep,
    direct: Direct,
    late: SweepDelay,
    known: KnownPaths,
    reported: ReportedAccess,
    pending: Vec<PendingPathChange>,
    removals: Removals,
    /// Changes count from then on, by the machine's clock.
    start_ns: Option<i64>,
    /// The machine's calendar time minus its time since boot.
    boot_to_real_ns: Option<i64>,
    /// When the running sweep, or the last one, began.
    began: Monotonic,
    /// Whether it left a change to the next one.
    has_left: bool,
    /// Whether a sweep has ended, or nothing can be read.
    has_swept: bool,
    /// When the last complete one began that left nothing.
    complete: Option<Monotonic>,
    /// The start of the machine while it lasts; `None` at other times.
    starting: Option<MachineStart>,
    /// Which changes of contents give records.
    recorded: RecordedChanges,
}

/// Which changes of contents give records: those of closed descriptors, and those of paths. What
/// gives none shows no permissions either.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct RecordedChanges {
    pub closings: bool,
    pub paths: bool,
}

/// A start of a machine that was watched before its process 1 ran a program. The programs of its
/// initramfs make many new names, and none is a finding.
#[derive(Clone, Copy, Debug)]
struct MachineStart {
    /// When process 1 had not run a program yet.
    began: Monotonic,
    /// When the last new name came.
    last_name: Monotonic,
}

/// State and rules by which a found path is judged.
struct Judge<'a> {
    known: &'a mut KnownPaths,
    reported: &'a ReportedAccess,
    pending: &'a mut Vec<PendingPathChange>,
    removals: &'a mut Removals,
    strings: &'a mut Strings,
    rules: &'a ContentRules,
    shipped: &'a ShippedFiles,
    explained: &'a [ReportedContent],
    start_ns: i64,
    now: Now,
    now_ns: i64,
    searches_left: usize,
    has_left: &'a mut bool,
    starting: &'a mut Option<MachineStart>,
    recorded: RecordedChanges,
}

/// What a [`Judge`] needs from outside of [`Paths`].
struct PathContext<'a> {
    rules: &'a ContentRules,
    shipped: &'a ShippedFiles,
    explained: &'a [ReportedContent],
    strings: &'a mut Strings,
    /// Number of unknown paths whose files are searched under other paths.
    searches: usize,
}

impl Paths {
    /// Allocates for `limits`; unless they are wanted, almost nothing.
    pub(super) fn new(limits: &Limits, is_wanted: bool, key: HashKey) -> Self {
        let of_limits = (limits.file_descriptors as usize / 4).clamp(KNOWN_MIN, KNOWN_MAX);
        let capacity = if is_wanted { of_limits } else { 0 };
        Self {
            is_wanted,
            sweep: Sweep::new(),
            direct: Direct::default(),
            late: SweepDelay::new(),
            known: KnownPaths::new(capacity, key.derive("paths: known")),
            reported: ReportedAccess::new(key.derive("paths: access")),
            pending: room::list(PENDING_MAX),
            removals: Removals::default(),
            start_ns: None,
            boot_to_real_ns: None,
            began: Monotonic::default(),
            has_left: false,
            has_swept: false,
            complete: None,
            starting: None,
            recorded: RecordedChanges { closings: true, paths: true },
        }
    }

    /// Sets which changes of contents give records.
    pub(super) const fn set_recorded(&mut self, recorded: RecordedChanges) {
        self.recorded = recorded;
    }

    /// Whether the machine is starting: new names are no findings.
    pub(super) const fn is_starting(&self) -> bool {
        self.starting.is_some()
    }

    /// Sets whether the machine is starting.
    #[cfg(test)]
    pub(super) fn set_starting(&mut self, is_starting: bool) {
        let now = Monotonic::default();
        self.starting = is_starting.then_some(MachineStart { began: now, last_name: now });
    }

    #[cfg(test)]
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether changes until then, when a package manager ended, may still be found, or wait until
    /// it is decided whose they are.
    pub(super) fn may_find_until(&self, ended: Monotonic, now: Monotonic) -> bool {
        let is_swept = self.complete.is_some_and(|began| began.since(ended) > 0);
        let is_open = !is_swept || !self.pending.is_empty();
        self.is_wanted
            && (self.pending.iter().any(PendingPathChange::has_manager)
                || is_open && now.since(ended) < SWEEP_WAIT_NS)
    }

    /// Notes what a path names: a descriptor's closing has reported it.
    pub(super) fn note(&mut self, path: &[u8], inode: &InodeFacts) {
        if self.is_wanted {
            let named = self.known.named_of_facts(path, inode);
            let before = self.known.peek(self.known.hash(path));
            let noted = if self.recorded.closings { named } else { as_reported(named, before) };
            self.known.set(path, noted, None);
        }
    }

    /// The hash of a path.
    pub(super) fn hash(&self, path: &[u8]) -> u64 {
        self.known.hash(path)
    }

    /// What makes the hashes of paths.
    pub(super) fn hasher(&self) -> impl Fn(&[u8]) -> u64 + use<> {
        self.known.hasher()
    }

    /// Whether the mounts that process 1 sees are just being read.
    pub(super) fn reads_mounts(&self) -> bool {
        self.is_wanted && self.sweep.is_going_on() && !self.sweep.mounts().are_complete()
    }

    /// Follows names up to their roots.
    pub(super) fn climb(
        &self,
        climbs: &mut [Climb],
        memory: (&mut MemoryReader, &mut MachineMemory<'_>),
    ) {
        climb(climbs, memory, &self.sweep);
    }

    /// Follows a name to the root of process 1: through the mount of that, and through those of the
    /// whole filesystem, whose root is given.
    pub(super) fn climb_from(
        &self,
        dentry: KernelVa,
        root: KernelVa,
        memory: (&mut MemoryReader, &mut MachineMemory<'_>),
    ) -> ArrayVec<Climb, MOUNTS_OF_ONE> {
        let first = self.sweep.root().mount;
        let others = self.sweep.mounts().of_root(root);
        let mounts = core::iter::once(first).filter(|first| !first.is_null()).chain(others);
        let mounts = mounts.take(MOUNTS_OF_ONE);
        let below = |mount| Climb::new(DentryPlace { mount, dentry });
        let mut climbs: ArrayVec<Climb, MOUNTS_OF_ONE> = mounts.map(below).collect();
        self.climb(&mut climbs, memory);
        climbs
    }

    /// Number of folders of which names are seen late or not at all, and the one with most names
    /// that do not exist.
    pub(super) fn late(&mut self) -> (&mut Loss, &[u8]) {
        self.late.parts()
    }

    /// Continues the sweep, and notes what has changed.
    pub(super) fn look(
        &mut self,
        (reader, memory): (&mut MemoryReader, &mut MachineMemory<'_>),
        (snapshot, now): (&Snapshot, Now),
        (rules, shipped): (&ContentRules, &ShippedFiles),
        explained: &[ReportedContent],
        strings: &mut Strings,
    ) {
        self.late.begin_scan(now.monotonic);
        self.follow_clock(snapshot);
        let init = snapshot.process_by_pid(1);
        let first = init.and_then(|process| snapshot.leader(process));
        let (Some(first), Some(start_ns)) = (first, self.start_ns) else { return };
        let Some(now_ns) = snapshot.machine.calendar_ns else { return };
        if init.is_some_and(|process| process.mm.is_none()) {
            // Process 1 has run no program yet: the kernel itself unpacks the initramfs.
            self.begin_anew(now_ns);
            let (began, last_name) = (now.monotonic, now.monotonic);
            self.starting = Some(MachineStart { began, last_name });
            return;
        }
        self.starting = self.starting.filter(|starting| {
            now.monotonic.since(starting.last_name) < STARTED_NS
                && now.monotonic.since(starting.began) < STARTED_MAX_NS
        });
        if !self.sweep.is_going_on() {
            if self.has_swept && now.monotonic.since(self.began) < SWEEP_EVERY_NS {
                return;
            }
            (self.began, self.has_left) = (now.monotonic, false);
            self.direct.begin_sweep();
            self.known.begin_sweep();
        }
        let by = PathContext { rules, shipped, explained, strings, searches: SEARCHES_MAX };
        let (sweep, direct, mut judge) = self.judge(by, (start_ns, now, now_ns));
        let found = &mut |found: &SweptName<'_>| judge.take(found);
        reader.forget_translations();
        let place = (first.task.fs, now_ns);
        let progress = sweep.go_on((reader, memory), place, &rules.include, found);
        if progress == SweepProgress::GoesOn && sweep.is_delayed() {
            let looked = direct.look((reader, memory), sweep, judge.known);
            direct.follow(looked, &mut judge);
        }
        self.follow(progress, now, now_ns);
    }

    /// What judges found paths, beside the names that are read. `start_ns`: changes count from then
    /// on; `now_ns`: the time, both by the machine's clock.
    fn judge<'a>(
        &'a mut self,
        PathContext { rules, shipped, explained, strings, searches }: PathContext<'a>,
        (start_ns, now, now_ns): (i64, Now, i64),
    ) -> (&'a mut Sweep, &'a mut Direct, Judge<'a>) {
        let judge = Judge {
            known: &mut self.known,
            reported: &self.reported,
            pending: &mut self.pending,
            removals: &mut self.removals,
            strings,
            rules,
            shipped,
            explained,
            start_ns,
            now,
            now_ns,
            searches_left: searches,
            has_left: &mut self.has_left,
            starting: &mut self.starting,
            recorded: self.recorded,
        };
        (&mut self.sweep, &mut self.direct, judge)
    }

    /// Follows what a scan's part of the sweep came to.
    fn follow(&mut self, progress: SweepProgress, now: Now, now_ns: i64) {
        match progress {
            SweepProgress::Complete => {
                self.has_swept = true;
                self.late.end_sweep(&self.sweep);
                if !self.has_left {
                    self.complete = Some(self.began);
                }
            }
            SweepProgress::OtherRoot => self.begin_anew(now_ns),
            SweepProgress::Nothing => self.has_swept = true,
            SweepProgress::GoesOn => {
                if self.direct.has_moved() && now.monotonic.since(self.began) >= NEWS_NS {
                    self.sweep.end();
                }
            }
        }
        self.late.count(&self.sweep);
    }

    /// Forgets all paths: process 1 sees another tree.
    fn begin_anew(&mut self, now_ns: i64) {
        self.known.forget();
        self.starting = None;
        self.start_ns = Some(now_ns);
    }

    /// Follows the machine's clock. After a step, changes count from then on: the times of older
    /// ones mean nothing.
    fn follow_clock(&mut self, snapshot: &Snapshot) {
        let machine = &snapshot.machine;
        let (Some(now_ns), Some(offset)) = (machine.calendar_ns, machine.boot_to_real_ns) else {
            return;
        };
        let before = self.boot_to_real_ns.replace(offset);
        let has_stepped = before
            .is_none_or(|before| before.saturating_sub(offset).saturating_abs() > CLOCK_STEP_NS);
        if has_stepped {
            self.start_ns = Some(now_ns);
        }
    }
}

impl Judge<'_> {
    /// Compares what a path names with what it named before.
    fn take(&mut self, found: &SweptName<'_>) {
        if self.is_history(found) {
            return self.take_history(found);
        }
        if found.attributes.kind() == mode::S_IFDIR {
            return self.take_folder(found);
        }
        let mut named = self.known.named(found.path, found.attributes);
        let before = self.known.get(found.path, found.place);
        if before.is_none() && !self.may_matter(found) && !is_set_id(named.permissions) {
            return;
        }
        let has_changed = match before {
            Some(before) => Some(self.has_changed(&before, found) && !self.is_of_start(&before)),
            None => self.is_new(found).map(|is_new| is_new && !self.is_starting()),
        };
        let outcome = match has_changed {
            None => SweptNameOutcome::Left,
            Some(true) if self.recorded.paths && self.matters(found) => {
                SweptNameOutcome::of_wait(self.wait(found, before, true))
            }
            Some(_) => self.judge_access(found, before, &named),
        };
        match outcome {
            SweptNameOutcome::Left => {
                *self.has_left = true;
                return;
            }
            SweptNameOutcome::Waits => named = as_reported(named, before),
            SweptNameOutcome::Nothing => {}
        }
        if before != Some(named) {
            self.known.set(found.path, named, Some(found.place));
        }
    }

    /// Notes a new name; returns whether the machine is starting.
    fn is_starting(&mut self) -> bool {
        let now = self.now.monotonic;
        self.starting.as_mut().map(|starting| starting.last_name = now).is_some()
    }

    /// Whether the machine is starting, and a file was written by what runs then.
    fn is_of_start(&self, before: &PathTarget) -> bool {
        self.starting.is_some() && before.change_time_ns > self.start_ns
    }

    /// Whether a file that is not known yet may matter.
    fn may_matter(&self, found: &SweptName<'_>) -> bool {
        match found.folder.map(|folder| folder.matter) {
            None => false,
            // What does not matter is new when it gets a name by which it does.
            Some(Matter::All) => !is_unimportant(found.path) || self.matters(found),
            Some(Matter::IfRun) => {
                let may_execute = found.attributes.mode & ANY_EXECUTE != 0;
                important::is_run(found.path, may_execute)
            }
            Some(Matter::ByName) => self.matters(found),
        }
    }

    fn matters(&self, found: &SweptName<'_>) -> bool {
        self.rules.matters(&ChangedFile {
            path: Some(found.path),
            may_execute: found.attributes.mode & ANY_EXECUTE != 0,
            is_shipped: self.shipped.has_path(false, found.path),
            ..ChangedFile::default()
        })
    }

    /// Whether a file was changed, or got this name, since watching started. Its change time says
    /// so: nobody can set it without the machine's clock.
    fn is_recent(&self, found: &SweptName<'_>) -> bool {
        let change = found.attributes.ctime_ns;
        change > self.start_ns && change <= self.now_ns.saturating_add(CLOCK_STEP_NS)
    }

    /// Whether a known path has other content.
    fn has_changed(&self, before: &PathTarget, found: &SweptName<'_>) -> bool {
        let named = PathTarget::of(found.attributes);
        let has_same_content = before.has_same_content(&named);
        // Filesystems without inode numbers of their own give new ones to old files.
        let is_other = !before.is_same_file(&named) && self.is_recent(found);
        !has_same_content || is_other
    }

    /// Whether an unknown path is new; `None` if only the next sweep can tell.
    fn is_new(&mut self, found: &SweptName<'_>) -> Option<bool> {
        let attributes = found.attributes;
        let Some(folder) = found.folder else { return Some(false) };
        if !self.is_recent(found) || attributes.size == 0 {
            return Some(false);
        }
        let change = attributes.ctime_ns;
        let is_written = attributes.mtime_ns > self.start_ns;
        if !is_written && change.saturating_add(NAMED_NS) > folder.begun_ns {
            // The folder's own time may be older than that.
            return None;
        }
        let since_change = folder.modify_time_ns.saturating_sub(change);
        if !is_written && since_change.saturating_abs() > NAMED_NS {
            return Some(false);
        }
        // An old name of a file whose new name is not known yet, or the other way round.
        let named = PathTarget::of(attributes);
        if !self.known.may_have(named.number) {
            return Some(true);
        }
        self.searches_left = self.searches_left.checked_sub(1)?;
        Some(!self.known.has_content(&named) || self.is_late_name(found))
    }

    /// Whether a file was reported under another name just before it got this one.
    fn is_late_name(&self, found: &SweptName<'_>) -> bool {
        let path = self.known.hash(found.path);
        let content = ReportedContent::of((found.inode, found.attributes), path);
        self.explained.iter().any(|reported| reported.is_late_name(&content))
    }

    /// Whether a change of the own file of this user may wait, too, or one of the system.
    fn has_room(&self, user: Option<u32>) -> bool {
        let of = |is_such: &dyn Fn(u32) -> bool| {
            self.pending.iter().filter(|it| it.user.is_some_and(is_such)).count()
        };
        self.pending.len() < self.pending.capacity()
            && user.is_none_or(|user| {
                of(&|_| true) < PENDING_OF_USERS_MAX && of(&|it| it == user) < PENDING_OF_USER_MAX
            })
    }

    /// The user whose own file a found one is: in a home, or in a folder that no sweep reads.
    fn user_of(&self, found: &SweptName<'_>) -> Option<u32> {
        let folder = &found.path[..memchr::memrchr(b'/', found.path).map_or(0, |at| at + 1)];
        let is_own = is_in_homes(found.path) || matter(folder, &self.rules.include).is_none();
        user_of(found.attributes.uid).filter(|_| is_own)
    }

    /// Lets a change wait for what explains it, of the content or of permissions; `false` if there
    /// is no room.
    fn wait(
        &mut self,
        found: &SweptName<'_>,
        before: Option<PathTarget>,
        is_content: bool,
    ) -> bool {
        let inode = (found.inode, found.attributes.ino);
        // A file that is renamed while its change waits: its last name counts.
        if let Some(same) = self.pending.iter_mut().find(|it| it.is_of(inode)) {
            same.is_content |= is_content;
            if self.strings.get(same.path) == found.path {
                return true;
            }
            let Some(path) = self.strings.intern(found.path) else { return false };
            let hashes = (self.known.hash(found.path), self.known.folder_hash(found.path));
            same.rename((path, hashes), (found.place, found.parent), self.strings);
            same.before = before.or(same.before);
            return true;
        }
        let user = self.user_of(found);
        if !self.has_room(user) {
            return false;
        }
        let Some(path) = self.strings.intern(found.path) else { return false };
        let attributes = *found.attributes;
        let hashes = (self.known.hash(found.path), self.known.folder_hash(found.path));
        let place = (found.place, found.parent);
        let file = (found.inode, attributes);
        let what = (before, is_content);
        let mut pending = PendingPathChange::new((path, hashes), place, file, what, self.now);
        pending.user = user;
        pending.pattern = pattern_number(found.path);
        self.pending.push(pending);
        true
    }
}

/// A user by the owner of a file; none for root. A user may have the ids of a block of 65,536
/// (subuid(5)), which counts as one.
fn user_of(uid: u32) -> Option<u32> {
    let block = uid >> 16;
    (uid != 0).then_some(if block == 0 { uid } else { u32::MAX - block })
}
