//! Rows: programs, the files that they run, and pairs of both that are open.

use panoptes_decoders::address::KernelVa;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::ENDED_NS;
use super::shipped::Applied;
use super::verdict::Role;
use crate::page_cache::FileIdentity;
use crate::state::kept::KeptProcess;
use crate::state::process::ProcessKey;
use crate::state::strings::StringId;
use crate::state::table::{Key, Row, RowId};

/// The end of a program's list of items.
pub(super) const NO_ITEM: u32 = u32::MAX;
/// What follows the path of a file that was unlinked (`d_path`, fs/d_path.c).
const DELETED: &[u8] = b" (deleted)";

/// One program in one process: a process that calls exec has another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ProgramKey {
    pub(super) process: ProcessKey,
    /// `self_exec_id`
    pub(super) exec: u32,
}

impl Key for ProgramKey {
    fn hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.process.start_boottime.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.process.process_id.to_le_bytes());
        bytes[12..].copy_from_slice(&self.exec.to_le_bytes());
        xxh3_64_with_seed(&bytes, seed)
    }
}

/// What is known of one program.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub(super) struct Program {
    pub(super) key: ProgramKey,
    /// Its own, by which its items are found: row numbers are used again.
    pub(super) serial: u32,
    /// The state's version of its areas when they were last looked at.
    pub(super) areas: u64,
    /// When it is looked at again although nothing has changed, because something found no room, or its script was not open.
    pub(super) again: Option<u32>,
    /// In how many scans its script was looked for and not found.
    pub(super) script_scans: u8,
    pub(super) first_item: u32,
    /// How many of its files are open.
    pub(super) open: u32,
    pub(super) kept: KeptProcess,
    /// Its arguments as they were when it was first looked at: programs write over them. All of them, or nothing.
    pub(super) line: Option<StringId>,
    /// Where in its memory they begin: at another address after each exec, and at the same after a fork.
    pub(super) arguments: u64,
    /// The serial of whom it comes from by forks, if its parent is not known to be that.
    pub(super) relative: Option<u32>,
    /// The file that it executes.
    pub(super) executable: Option<FileIdentity>,
    /// What ran in the same process before.
    pub(super) before: Option<FileIdentity>,
    /// What its parent runs.
    pub(super) parent: Option<FileIdentity>,
    /// What applies to it.
    pub(super) applied: Applied,
    /// Whether it is in a container and sees that one's files.
    pub(super) is_inside: bool,
    /// Whether its parent is outside of that container.
    pub(super) is_from_outside: bool,
    /// Whether it is the first process of a container that runs that one's own files.
    pub(super) is_entrypoint: bool,
    /// Whether the container's runtime was seen in the same process just before, so that nothing came between.
    pub(super) saw_runtime: bool,
    /// Whether it is in a container and what it executes is not that one's.
    pub(super) runs_outside: bool,
    /// Whether it ran when we came.
    pub(super) was_there: bool,
    pub(super) is_gone: bool,
    pub(super) since_ns: i64,
}

impl Row for Program {
    type Key = ProgramKey;

    fn key(&self) -> ProgramKey {
        self.key
    }
}

impl Program {
    /// Whether it has ended long enough ago to be forgotten with all that is open.
    pub(super) fn is_over(&self, now_ns: i64) -> bool {
        self.is_gone && now_ns.saturating_sub(self.since_ns) > ENDED_NS
    }
}

/// A file of a program by what does not change while it is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ItemKey {
    /// The program's.
    pub(super) serial: u32,
    /// `struct inode *`
    pub(super) inode: KernelVa,
    pub(super) number: u64,
}

impl Key for ItemKey {
    fn hash(&self, seed: u64) -> u64 {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.inode.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..].copy_from_slice(&self.serial.to_le_bytes());
        xxh3_64_with_seed(&bytes, seed)
    }
}

/// A file of a program that was looked at.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: ItemKey,
    /// The next one of the program.
    pub(super) next: u32,
    /// Whether nothing is decided about it yet.
    pub(super) is_open: bool,
    /// Whether it was told of.
    pub(super) is_told: bool,
    /// What it was by then: another one of these may have another content.
    pub(super) version: Version,
}

/// When a file was changed last, and its size.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Version {
    change_time_ns: i64,
    modify_time_ns: i64,
    size: u64,
}

impl From<&FileIdentity> for Version {
    fn from(file: &FileIdentity) -> Self {
        let &FileIdentity { change_time_ns, modify_time_ns, size, .. } = file;
        Self { change_time_ns, modify_time_ns, size }
    }
}

impl Row for Item {
    type Key = ItemKey;

    fn key(&self) -> ItemKey {
        self.key
    }
}

/// A file of a program about which nothing is decided yet.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
pub(super) struct Waiting {
    pub(super) program: RowId,
    pub(super) identity: FileIdentity,
    pub(super) role: Role,
    /// As /proc shows it.
    pub(super) path: Option<StringId>,
    pub(super) is_deleted: bool,
    pub(super) is_memfd: bool,
    pub(super) is_main_executable: bool,
    /// Whether it was decided about before, and has changed since.
    pub(super) again: bool,
    /// Whether what applies outside of containers applies, although its process is in one.
    pub(super) by_system: bool,
    pub(super) since_ns: i64,
    pub(super) since_scan: u32,
    /// The scan in which it is looked at again.
    pub(super) due: u32,
}

impl Waiting {
    /// How much of its name is the path.
    pub(super) fn path_length(&self, name: &[u8]) -> usize {
        if self.is_deleted {
            name.strip_suffix(DELETED).map_or(name.len(), <[u8]>::len)
        } else {
            name.len()
        }
    }
}
