//! Rows: programs, the files that they run, and pairs of both that are open.

use panoptes_decoders::address::KernelVa;

use super::verdict::Role;
use super::{ENDED_NS, FileFacts};
use crate::page_cache::{Asker, ContentFacts, ContentFormat, FileIdentity};
use crate::path::DELETED;
use crate::shipped::ProcessSubjects;
use crate::state::described::ProcessDescription;
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, Now};
use panoptes_tables::{HashKey, Index, Key, Row, RowId, ScanNumber, StringId};

/// Ends a program's list of items.
pub(super) const NO_ITEM: u32 = u32::MAX;

/// One program in one process: a process that calls exec has another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ProgramKey {
    pub(super) process: ProcessKey,
    /// `self_exec_id`
    pub(super) exec: u32,
}

impl Key for ProgramKey {
    fn hash(&self, key: HashKey) -> u64 {
        let ProcessKey { start_boottime, process_id } = self.process;
        key.hash_numbers([start_boottime, u64::from(process_id) << 32 | u64::from(self.exec)])
    }
}

/// Everything tracked of one program.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub(super) struct TrackedProgram {
    pub(super) key: ProgramKey,
    /// Key of its items, because row numbers are reused.
    pub(super) serial: u32,
    /// The state's version of its areas when they were last checked.
    pub(super) areas: u64,
    /// The scan in which it is checked again without a change, because something found no room or
    /// its script was not open.
    pub(super) again: Option<ScanNumber>,
    /// Number of scans in which its script was searched for and not found.
    pub(super) script_scans: u8,
    pub(super) first_item: u32,
    /// Number of its files, and of those that are open (not decided).
    pub(super) files: u32,
    pub(super) open: u32,
    /// Number of its files that found no room when it was last checked.
    pub(super) refused: u32,
    /// Owner of the program: its container or its user.
    pub(super) group: u64,
    pub(super) kept: ProcessDescription,
    /// Its arguments at the first check, complete or absent: programs overwrite them.
    pub(super) line: Option<StringId>,
    /// Address of its arguments: an exec changes it, a fork does not.
    pub(super) arguments: u64,
    /// Serial of the program that it was forked from, if that is not the known parent.
    pub(super) relative: Option<u32>,
    pub(super) executable: Option<FileIdentity>,
    /// Executable of the program that ran before in the same process.
    pub(super) before: Option<FileIdentity>,
    /// Executable of its parent.
    pub(super) parent: Option<FileIdentity>,
    pub(super) applied: ProcessSubjects,
    /// Whether it is in a container and sees the container's files.
    pub(super) is_inside: bool,
    /// Whether its parent is outside of that container.
    pub(super) is_from_outside: bool,
    /// Whether it is the first process of a container and runs the container's own files.
    pub(super) is_entrypoint: bool,
    /// Whether the container's runtime was seen right before in the same process, so that no other
    /// program ran in between.
    pub(super) saw_runtime: bool,
    /// Whether it is in a container and its executable is not the container's.
    pub(super) runs_outside: bool,
    /// Whether it ran when watching started.
    pub(super) preexisting: bool,
    pub(super) is_gone: bool,
    /// The last scan in which an alert about one of its libraries was not accepted.
    pub(super) put_off: Option<ScanNumber>,
    pub(super) since: Monotonic,
}

impl Row for TrackedProgram {
    type Key = ProgramKey;

    fn key(&self) -> ProgramKey {
        self.key
    }
}

impl TrackedProgram {
    /// On whose behalf the contents of its files are asked for.
    pub(super) fn asker(&self) -> Asker {
        Asker { process_id: self.key.process.process_id, group: self.group }
    }

    pub(super) const fn process_id(&self) -> u32 {
        self.key.process.process_id
    }

    /// Whether an alert about a file of it may be accepted in this scan. That of a library is
    /// refused if another one was.
    pub(super) fn may_alert(&self, role: Role, scan: ScanNumber) -> bool {
        role != Role::Library || self.put_off != Some(scan)
    }

    /// Whether it ended long enough ago to be removed with its open files.
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        self.is_gone && now.since(self.since) > ENDED_NS
    }
}

/// A file of a program, by attributes that do not change while the file exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ItemKey {
    pub(super) serial: u32,
    /// `struct inode *`
    pub(super) inode: KernelVa,
    pub(super) number: u64,
}

impl Key for ItemKey {
    #[inline]
    fn hash(&self, key: HashKey) -> u64 {
        key.hash_numbers([self.inode.0, self.number, self.serial.into()])
    }
}

/// A file of a program that was checked.
#[derive(Debug)]
pub(super) struct Item {
    // The fields of its key, which would need more room together.
    pub(super) serial: u32,
    pub(super) inode: KernelVa,
    pub(super) number: u64,
    /// Row of the program's next item.
    pub(super) next: u32,
    /// Where it waits if it is not decided yet: its position in
    /// [`super::BinaryAttestation::waiting`].
    pub(super) waiting: Option<Index<UndecidedFile>>,
    /// Whether it was reported.
    pub(super) is_reported: bool,
    /// Version when it was checked: with another version the content may differ. Of one that waits,
    /// the latest version.
    pub(super) version: Version,
}

const _: () = assert!(size_of::<Option<Item>>() == 56);

impl Item {
    /// A file of a program in this version, the first of its list before `next`.
    pub(super) const fn new(serial: u32, file: &FileIdentity, next: u32) -> Self {
        let &FileIdentity { inode, number, .. } = file;
        let version = Version::of(file);
        Self { serial, inode, number, next, waiting: None, is_reported: false, version }
    }

    /// Identity of the file on its device.
    pub(super) const fn identity(&self, device: u32) -> FileIdentity {
        let Version { change_time_ns, modify_time_ns, size } = self.version;
        let (inode, number) = (self.inode, self.number);
        FileIdentity { inode, device, number, change_time_ns, modify_time_ns, size }
    }
}

/// When a file was changed last, and its size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Version {
    change_time_ns: i64,
    modify_time_ns: i64,
    size: u64,
}

impl Version {
    /// No version: the file was never decided, or has made room for another.
    pub(super) const NONE: Self =
        Self { change_time_ns: i64::MIN, modify_time_ns: i64::MIN, size: u64::MAX };

    pub(super) const fn of(file: &FileIdentity) -> Self {
        let &FileIdentity { change_time_ns, modify_time_ns, size, .. } = file;
        Self { change_time_ns, modify_time_ns, size }
    }
}

impl Row for Item {
    type Key = ItemKey;

    fn key(&self) -> ItemKey {
        ItemKey { serial: self.serial, inode: self.inode, number: self.number }
    }
}

/// State of a file that is not decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UndecidedFileState {
    Open,
    /// It is a finding whose alert was not accepted yet.
    Owed,
    /// A program of which nothing was known when that was last asked.
    Unjudged,
}

/// A file of a program that is not decided yet.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub(super) struct UndecidedFile {
    pub(super) program: RowId,
    /// The file, in its latest version.
    pub(super) item: RowId,
    /// The file's device.
    pub(super) device: u32,
    pub(super) role: Role,
    /// Path as /proc shows it.
    pub(super) path: Option<StringId>,
    /// Whether that is only its beginning, for want of room.
    pub(super) is_path_cut: bool,
    pub(super) is_deleted: bool,
    pub(super) is_memfd: bool,
    pub(super) is_main_executable: bool,
    /// Whether it was decided before and has changed since.
    pub(super) again: bool,
    /// Whether the system's subjects apply although the process is in a container.
    pub(super) by_system: bool,
    pub(super) standing: UndecidedFileState,
    pub(super) since: Now,
    pub(super) since_scan: ScanNumber,
    /// When it was last asked whether anything is known of it as a program; at first, `since`.
    pub(super) asked: Monotonic,
    /// The scan in which it is checked next.
    pub(super) due: ScanNumber,
}

const _: () = assert!(size_of::<UndecidedFile>() == 56);

impl UndecidedFile {
    /// Its file, by what is known of the content.
    pub(super) fn file<'a>(
        &self,
        identity: &FileIdentity,
        path: Option<&'a [u8]>,
        known: Option<&ContentFacts>,
    ) -> FileFacts<'a> {
        FileFacts {
            path,
            device: identity.device,
            number: identity.number,
            change_time_ns: identity.change_time_ns,
            size: identity.size,
            format: known.map_or(ContentFormat::Unknown, |known| known.format),
            hashes: known.and_then(ContentFacts::hashes),
            is_main_executable: self.is_main_executable,
            is_memfd: self.is_memfd,
            is_deleted: self.is_deleted,
        }
    }

    /// The path in a name as /proc shows it, if all of it was kept.
    pub(super) fn path_in<'a>(&self, name: &'a [u8]) -> Option<&'a [u8]> {
        let path = name.strip_suffix(DELETED).filter(|_| self.is_deleted).unwrap_or(name);
        Some(path).filter(|_| !self.is_path_cut)
    }
}
