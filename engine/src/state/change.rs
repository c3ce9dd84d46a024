//! What the state says of the difference between two scans.
//!
//! Facts only: which of these is worth a record, and how severe it is, the policy decides.

use panoptes_decoders::address::KernelVa;

use super::connection::Connection;
use super::container::{Container, Containers};
use super::coverage::Births;
use super::facts::{AreaFacts, DescriptorFacts, ThreadFacts};
use super::holders::Holder;
use super::measure::Exceeded;
use super::process::Process;
use super::strings::Strings;
use crate::walk::{Snapshot, Views};

/// What a change is told against.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The scan that showed it.
    pub snapshot: &'a Snapshot,
    /// The containers that processes are in.
    pub containers: &'a Containers,
    /// The names that rows refer to.
    pub strings: &'a Strings,
    /// When it was seen, in nanoseconds since 1970.
    pub now_ns: i64,
}

/// Whoever is told of changes, in the order in which they were found.
pub trait Changes {
    /// One thing has changed.
    fn change(&mut self, scene: &Scene<'_>, change: &Change<'_>);
}

impl<F: FnMut(&Scene<'_>, &Change<'_>)> Changes for F {
    fn change(&mut self, scene: &Scene<'_>, change: &Change<'_>) {
        self(scene, change);
    }
}

/// One difference between two scans.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A process is there that was not.
    ProcessCreated(&'a Process),
    /// A process has gone.
    ProcessTerminated(&'a Process),
    /// A process has ended and nobody has asked for its exit code, in `scans` scans in a row.
    ProcessZombie {
        /// The process.
        process: &'a Process,
        /// In how many.
        scans: u32,
    },
    /// A process is missing from views of the kernel's processes that show every one, as far as nobody takes it out.
    ProcessHidden {
        /// The process.
        process: &'a Process,
        /// Whole views that do not show it and should.
        missing: Views,
        /// Views that show it.
        shown: Views,
        /// In how many scans in a row.
        scans: u32,
        /// When the first of them was, in nanoseconds since 1970.
        since_ns: i64,
    },
    /// A thread that is not its process's first is there that was not.
    ThreadCreated {
        /// Its process.
        process: &'a Process,
        /// The thread.
        thread: ThreadFacts,
    },
    /// Such a thread has gone while its process goes on.
    ThreadTerminated {
        /// Its process.
        process: &'a Process,
        /// The thread.
        thread: ThreadFacts,
    },
    /// A descriptor is open that was not.
    DescriptorOpened {
        /// Its process.
        process: &'a Process,
        /// The descriptor.
        descriptor: DescriptorFacts<'a>,
    },
    /// A descriptor is closed, or leads elsewhere, while its process goes on.
    DescriptorClosed {
        /// Its process.
        process: &'a Process,
        /// The descriptor as it was last seen.
        descriptor: DescriptorFacts<'a>,
    },
    /// A descriptor by which a regular file can be written is closed, or its process has ended. The file may still be
    /// open by others.
    WriterClosed {
        /// Its process.
        process: &'a Process,
        /// The descriptor as it was last seen.
        descriptor: DescriptorFacts<'a>,
        /// `struct file *`
        file: KernelVa,
        /// `struct inode *`
        inode: KernelVa,
        /// The file when the descriptor was first seen.
        opened: Opened,
    },
    /// Memory is mapped where nothing of the kind was.
    AreaMapped {
        /// Its process.
        process: &'a Process,
        /// The area.
        area: AreaFacts<'a>,
    },
    /// Nothing is left of an area while its process and address space go on.
    AreaUnmapped {
        /// Its process.
        process: &'a Process,
        /// The area as it was last seen.
        area: AreaFacts<'a>,
    },
    /// An area's permissions have changed.
    AreaPermissionsChanged {
        /// Its process.
        process: &'a Process,
        /// The area as it is now.
        area: AreaFacts<'a>,
        /// The area, or what has become a part of it, as it was.
        before: AreaBefore,
    },
    /// A connection is there that was not.
    ConnectionCreated(ConnectionChange<'a>),
    /// A connection has gone, its TIME_WAIT too.
    ConnectionTerminated(ConnectionChange<'a>),
    /// A connection is in another state.
    ConnectionStateChanged(ConnectionChange<'a>),
    /// A connection has come to more than a threshold says, for the first time.
    ConnectionExceeded {
        /// The connection.
        change: ConnectionChange<'a>,
        /// Which threshold.
        exceeded: Exceeded,
    },
    /// A connection is open; told once in each period.
    ConnectionStatus(ConnectionChange<'a>),
    /// A container is there that was not.
    ContainerStarted {
        /// The container.
        container: &'a Container,
        /// Its first process, if that is tracked.
        process: Option<&'a Process>,
    },
    /// No living process is left in a container.
    ContainerTerminated {
        /// The container as it was last seen.
        container: &'a Container,
    },
    /// Of what was born since this was last told, not all was seen.
    BirthsMissed(Births),
    /// There is no more room in a table.
    LimitReached {
        /// Which.
        limit: Limit,
        /// How much fits.
        capacity: u64,
        /// How many found no room in this scan.
        untracked: u64,
    },
    /// There is room again.
    LimitCleared {
        /// Where.
        limit: Limit,
        /// How much fits.
        capacity: u64,
    },
}

/// What an area, or a part of one, was in the last scan.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AreaBefore {
    /// Where what has changed begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// `VM_*` as they were.
    pub flags: u64,
    /// `struct anon_vma *` as it was; null where it had no pages of its own.
    pub anon_vma: KernelVa,
    /// Whether anything of it could be executed at some time.
    pub was_executable: bool,
    /// Whether all of the area as it is now was there, in one piece or more.
    pub was_all_there: bool,
    /// Whether another part of a file was mapped there.
    pub had_other_part: bool,
}

/// A file as it was when a descriptor of it was first seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Opened {
    /// Its size in bytes.
    pub size: u64,
    /// When it was modified last, in nanoseconds since 1970.
    pub modify_time_ns: i64,
    /// Whether that was after the scan before, in which the descriptor was not open yet: so it was written after it was
    /// opened, or just before.
    pub written: bool,
}

/// A connection and who holds it.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionChange<'a> {
    /// The connection.
    pub connection: &'a Connection,
    /// Its owner, if that is tracked and alive.
    pub process: Option<&'a Process>,
    /// The owner's descriptor, if that is open.
    pub descriptor: Option<DescriptorFacts<'a>>,
    /// All who hold it by the scan, the owner first.
    pub holders: &'a [Holder],
}

/// What has a limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// `processes`
    Processes,
    /// `threads`
    Threads,
    /// `file_descriptors`
    Descriptors,
    /// `vmas`
    Areas,
    /// `connections`
    Connections,
    /// `containers`
    Containers,
    /// Bytes of names.
    Strings,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Processes,
        Self::Threads,
        Self::Descriptors,
        Self::Areas,
        Self::Connections,
        Self::Containers,
        Self::Strings,
    ];
}
