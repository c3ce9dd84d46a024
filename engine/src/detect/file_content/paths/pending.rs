//! Changed paths that wait: for the closing of a descriptor that explains them, and for hashes.

use core::fmt;

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::file::FMODE_WRITE;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_records::activities::Severity;
use panoptes_tables::{StringId, Strings};

use super::super::HASHES_NS;
use super::super::explained::ReportedContent;
use super::super::important::pattern_number;
use super::known::{DentryPlace, OwnerId, PathTarget};
use super::{PENDING_MAX, Paths, is_set_id};
use crate::page_cache::{
    Asker, ContentFacts, ContentSource, FileIdentity, HashOutcome, Hashes, Partial,
};
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, Now, RealTime};
use crate::walk::Snapshot;

/// Number of scans, and time, in which a descriptor that was open may show, or its closing.
const SETTLED_SCANS: u8 = 4;
const SETTLED_NS: i64 = 150_000_000;
/// How long a file that is open for writing is awaited. Its closing reports it later.
const OPEN_NS: i64 = 10_000_000_000;
/// So many new names in one folder at a time are one record.
pub(in super::super) const TOGETHER_MIN: usize = 16;
/// Number of other names that such a record lists.
pub const NAMES_MAX: usize = 128;
const _: () = assert!(TOGETHER_MIN <= NAMES_MAX, "one record lists the least of them");

/// A path that names another content than before.
#[derive(Clone, Copy, Debug)]
pub struct PathChange<'a> {
    pub path: &'a [u8],
    /// The path by which the file was found first, if it was renamed since.
    pub previous: Option<&'a [u8]>,
    /// What it names now.
    pub attributes: Attributes,
    /// Device of its filesystem, as the kernel encodes it.
    pub device: u32,
    /// What the path named before: inode number, size and modification time; `None` if it was not
    /// known.
    pub before: Option<PreviousTarget>,
    /// Hashes of the file as it is now, if all of it is known.
    pub hashes: Option<Hashes>,
    /// How much of it is in memory, if not all of it.
    pub partial: Option<Partial>,
    /// When the change was seen.
    pub since_ns: RealTime,
    /// The severity that the configuration sets for this file.
    pub severity: Option<Severity>,
    /// Further new names in its folder, of files of the same type.
    pub others: NewNames<'a>,
    /// How it has lost its content, if it is the history of a shell.
    pub history: Option<HistoryLoss>,
}

/// How a shell's history has lost its content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HistoryLoss {
    Emptied,
    Linked,
    /// A folder, a FIFO, a device or a socket has its name.
    Replaced,
    Removed,
}

/// New names in one folder.
#[derive(Clone, Copy, Default)]
pub struct NewNames<'a> {
    pub count: usize,
    /// The paths of the first ones, up to [`NAMES_MAX`].
    pub paths: &'a [StringId],
    /// Where the paths are.
    pub strings: Option<&'a Strings>,
}

impl fmt::Debug for NewNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewNames").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What a path named before.
#[derive(Clone, Copy, Debug)]
pub struct PreviousTarget {
    pub number: u64,
    pub size: u64,
    pub modify_time_ns: i64,
    /// Whether it was the same file.
    pub is_same_file: bool,
    /// Hashes, if they are known by chance.
    pub hashes: Option<Hashes>,
}

/// A change that waits.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(in super::super) struct PendingPathChange {
    pub(in super::super) path: StringId,
    /// The path by which it was found first, if it was renamed since.
    previous: Option<StringId>,
    /// The hash of its path, and that of its folder's path.
    pub(super) path_hash: u64,
    folder: u64,
    pub(super) place: DentryPlace,
    /// `struct dentry *` of its folder; null if it is not known.
    pub(super) parent: KernelVa,
    pub(super) inode: KernelVa,
    pub(super) attributes: Attributes,
    pub(super) before: Option<PathTarget>,
    hashes_before: Option<Hashes>,
    since: Now,
    /// When its inode and its name were read last.
    pub(super) read: Monotonic,
    /// Whether the last two reads gave the same name.
    pub(super) is_named: bool,
    pub(super) scans: u8,
    pub(super) device: Option<u32>,
    /// Whether its filesystem is an image that is never written: nobody has changed permissions.
    pub(super) is_on_image: bool,
    manager: Option<ProcessKey>,
    /// The pattern by which its path matters ([`pattern_number`]).
    pub(super) pattern: u16,
    /// The capabilities that the program has given to a process.
    pub(super) capabilities: u64,
    /// The user whose own file it is; none for files of root and of the system.
    pub(super) user: Option<u32>,
    /// Whether the last scan showed a descriptor that can write its file.
    is_open: bool,
    pub(super) is_over: bool,
    /// Whether it is over for another reason than that its file is gone.
    pub(super) has_ended: bool,
    /// Whether it is a shell's history without content.
    pub(super) is_history: bool,
    /// Whether nothing explains it: it is to be reported.
    is_due: bool,
    /// Whether the content has changed; if not, permissions or the owner have.
    pub(super) is_content: bool,
    /// The owner of the file, and permissions and owner that were reported of it.
    pub(super) owner: OwnerId,
    pub(super) reported: Option<(u16, OwnerId)>,
}

/// What becomes of a change that has waited long enough.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum PathChangeStep {
    Waits,
    /// Something else reports it.
    Over,
    Report,
}

impl PendingPathChange {
    /// A change that is found now: the path with its hash and that of its folder, the place of its
    /// name, the file, and whether its content has changed.
    pub(super) fn new(
        (path, (path_hash, folder)): (StringId, (u64, u64)),
        (place, parent): (DentryPlace, KernelVa),
        (inode, attributes): (KernelVa, Attributes),
        (before, is_content): (Option<PathTarget>, bool),
        since: Now,
    ) -> Self {
        Self {
            path,
            previous: None,
            path_hash,
            folder,
            place,
            parent,
            inode,
            attributes,
            before,
            hashes_before: None,
            since,
            read: since.monotonic,
            is_named: false,
            scans: 0,
            device: None,
            is_on_image: false,
            manager: None,
            pattern: 0,
            capabilities: 0,
            user: None,
            is_open: false,
            is_over: false,
            has_ended: false,
            is_history: false,
            is_due: false,
            is_content,
            owner: OwnerId::default(),
            reported: None,
        }
    }

    /// Gives it another path, with its hash and that of its folder. The old one is remembered if
    /// the name itself has moved.
    pub(super) fn rename(
        &mut self,
        (path, (path_hash, folder)): (StringId, (u64, u64)),
        (place, parent): (DentryPlace, KernelVa),
        strings: &mut Strings,
    ) {
        let old = core::mem::replace(&mut self.path, path);
        if self.previous.is_none() && place.dentry == self.place.dentry {
            self.previous = Some(old);
        } else {
            strings.release(old);
        }
        self.pattern = pattern_number(strings.get(path));
        (self.path_hash, self.folder) = (path_hash, folder);
        (self.place, self.parent) = (place, parent);
        (self.is_named, self.is_history) = (false, false);
    }

    /// Sets whether it is to be reported.
    pub(in super::super) fn set_due(&mut self, is_due: bool) {
        self.is_due = is_due;
    }

    pub(in super::super) fn is_due(&self) -> bool {
        self.is_due && !self.is_over
    }

    pub(in super::super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether both are new names in one folder that matter for the same reason, of files of the
    /// same type. What is set-uid has a record of its own.
    pub(in super::super) fn is_beside(&self, other: &Self) -> bool {
        self.folder == other.folder
            && self.pattern == other.pattern
            && self.is_content
            && other.is_content
            && self.before.is_none()
            && other.before.is_none()
            && self.attributes.kind() == other.attributes.kind()
            && ![self, other].iter().any(|it| is_set_id(it.attributes.mode))
    }

    /// Whether it is no change at all, since its file is on a read-only image.
    pub(in super::super) fn is_of_image(&self) -> bool {
        self.is_on_image && !self.is_content
    }

    /// Whether its path named nothing before.
    pub(in super::super) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// Whether it is of the inode with that address and number.
    pub(super) fn is_of(&self, inode: (KernelVa, u64)) -> bool {
        (self.inode, self.attributes.ino) == inode
    }

    pub(super) fn has_manager(&self) -> bool {
        self.manager.is_some()
    }

    pub(in super::super) fn content(&self) -> ReportedContent {
        ReportedContent::of((self.inode, &self.attributes), self.path_hash)
    }

    pub(in super::super) fn change_time_ns(&self) -> i64 {
        self.attributes.ctime_ns
    }

    /// Whether its file is root's.
    pub(in super::super) fn is_roots(&self) -> bool {
        self.attributes.uid == 0
    }

    pub(in super::super) fn set_manager(&mut self, manager: ProcessKey) {
        self.manager = Some(manager);
    }

    /// Whether the content has changed; if not, permissions or the owner have.
    pub(in super::super) fn is_content(&self) -> bool {
        self.is_content
    }

    /// The path before a rename.
    pub(super) fn previous<'a>(&self, strings: &'a Strings) -> Option<&'a [u8]> {
        self.previous.map(|id| strings.get(id))
    }

    /// When it was found.
    pub(super) fn since(&self) -> RealTime {
        self.since.real
    }

    /// Ends it. Capabilities of a file whose content was new are a change of their own.
    pub(in super::super) fn end(&mut self) {
        if self.is_content && self.capabilities != 0 {
            (self.is_content, self.is_due) = (false, false);
            return;
        }
        (self.is_over, self.has_ended) = (true, true);
    }

    /// What a shell's history has lost its content by; none if it is no history.
    pub(in super::super) fn history(&self) -> Option<HistoryLoss> {
        let loss = match self.attributes.kind() {
            mode::S_IFREG => HistoryLoss::Emptied,
            mode::S_IFLNK => HistoryLoss::Linked,
            _ => HistoryLoss::Replaced,
        };
        self.is_history.then_some(loss)
    }

    /// Whether it is a shell's history that has content again.
    pub(in super::super) fn is_refilled(&self) -> bool {
        self.history() == Some(HistoryLoss::Emptied) && self.attributes.size > 0
    }

    fn age(&self, now: Now) -> i64 {
        now.monotonic.since(self.since.monotonic)
    }

    pub(in super::super) fn has_waited(&self, now: Now) -> bool {
        self.age(now) >= HASHES_NS
    }

    /// Whether descriptors that were open have shown by now, and its inode was read again and has
    /// the same name.
    pub(in super::super) fn is_settled(&self, now: Now) -> bool {
        self.scans >= SETTLED_SCANS
            && self.age(now) >= SETTLED_NS
            && self.device.is_some()
            && (self.is_named || self.has_waited(now))
    }

    /// Whether its inode and its name are to be read again.
    pub(super) fn needs_read(&self, now: Now) -> bool {
        self.scans >= SETTLED_SCANS && now.monotonic.since(self.read) >= SETTLED_NS
    }

    /// Whether it is to wait since the file is open for writing, or to end since it stays so. The
    /// closing of a history, which does not matter, reports nothing.
    pub(in super::super) fn step_while_open(&self, now: Now) -> Option<PathChangeStep> {
        let waits = self.age(now) < OPEN_NS;
        let step = if waits { PathChangeStep::Waits } else { PathChangeStep::Over };
        (self.is_open && (waits || !self.is_history)).then_some(step)
    }

    fn identity(&self) -> FileIdentity {
        let it = &self.attributes;
        FileIdentity {
            inode: self.inode,
            device: self.device.unwrap_or_default(),
            number: it.ino,
            change_time_ns: it.ctime_ns,
            modify_time_ns: it.mtime_ns,
            size: it.size,
        }
    }

    /// Returns what is known of the file as it is now. Asks for it if nothing is.
    pub(in super::super) fn ask(&mut self, files: &mut dyn ContentSource) -> Option<ContentFacts> {
        if let Some(before) = &self.before
            && before.number == self.attributes.ino
            && self.hashes_before.is_none()
        {
            let was = FileIdentity {
                change_time_ns: before.change_time_ns,
                modify_time_ns: before.modify_time_ns,
                size: before.size,
                ..self.identity()
            };
            self.hashes_before = files.known(&was).and_then(|content| content.hashes());
        }
        files.ask(&self.identity(), Asker::default())
    }

    /// Whether its content can be hashed at all.
    pub(in super::super) fn is_regular(&self) -> bool {
        self.attributes.kind() == mode::S_IFREG
    }

    /// The change, for its record.
    pub(in super::super) fn change<'a>(
        &self,
        strings: &'a Strings,
        known: Option<&ContentFacts>,
        severity: Option<Severity>,
    ) -> PathChange<'a> {
        let partial = known.and_then(|known| match known.outcome {
            HashOutcome::Partial(partial) => Some(partial),
            HashOutcome::Whole { .. } | HashOutcome::Nothing => None,
        });
        let is = PathTarget::of(&self.attributes);
        PathChange {
            path: strings.get(self.path),
            previous: self.previous(strings),
            attributes: self.attributes,
            device: self.device.unwrap_or_default(),
            before: self.before.map(|was| PreviousTarget {
                number: was.number,
                size: was.size,
                modify_time_ns: was.modify_time_ns,
                is_same_file: was.is_same_file(&is),
                hashes: self.hashes_before,
            }),
            hashes: known.and_then(ContentFacts::hashes),
            partial,
            since_ns: self.since(),
            severity,
            others: NewNames::default(),
            history: self.history(),
        }
    }
}

impl Paths {
    /// Notes which of the files are open for writing. The scan's files are searched once, and only
    /// if an inode of a change is in use.
    pub(super) fn find_open(&mut self, snapshot: &Snapshot) {
        let mut inodes = ArrayVec::<(KernelVa, usize), PENDING_MAX>::new();
        for (at, pending) in self.pending.iter_mut().enumerate() {
            pending.is_open = false;
            if snapshot.inodes.find(pending.inode.0).is_some() {
                inodes.push((pending.inode, at));
            }
        }
        inodes.sort_unstable();
        let is_in_use = !inodes.is_empty();
        for file in snapshot.files.iter().filter(|_| is_in_use) {
            if file.open.mode & FMODE_WRITE == 0 {
                continue;
            }
            let inode = file.open.inode;
            let first = inodes.partition_point(|(of, _)| *of < inode);
            for &(_, at) in inodes[first..].iter().take_while(|(of, _)| *of == inode) {
                self.pending[at].is_open = true;
            }
        }
    }

    pub(in super::super) fn remove_over(&mut self, strings: &mut Strings) {
        self.note_reported();
        let known = &mut self.known;
        self.pending.retain(|pending| {
            if pending.is_over {
                if pending.is_history && pending.has_ended {
                    // It counts again when it has content.
                    known.forget_path(strings.get(pending.path));
                }
                let paths = [Some(pending.path), pending.previous];
                paths.into_iter().flatten().for_each(|path| strings.release(path));
            }
            !pending.is_over
        });
    }
}
