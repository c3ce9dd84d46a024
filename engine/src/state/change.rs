//! What the state says of the difference between two scans.
//!
//! Facts only: which of these is worth a record, and how severe it is, the policy decides.

use super::connection::Connection;
use super::facts::{AreaFacts, DescriptorFacts, ThreadFacts};
use super::holders::Holder;
use super::process::Process;
use super::strings::Strings;
use crate::walk::Snapshot;

/// What a change is told against.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// The scan that showed it.
    pub snapshot: &'a Snapshot,
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
    /// One view of the kernel's processes shows a process that another, as whole, does not.
    ProcessHidden {
        /// The process.
        process: &'a Process,
        /// Where it is missing.
        from: HiddenFrom,
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
        /// `VM_*` as they were.
        before: u64,
    },
    /// A connection is there that was not.
    ConnectionCreated(ConnectionChange<'a>),
    /// A connection has gone, its TIME_WAIT too.
    ConnectionTerminated(ConnectionChange<'a>),
    /// A connection is in another state.
    ConnectionStateChanged(ConnectionChange<'a>),
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

/// Which view does not show a process that another shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HiddenFrom {
    /// It is in the pid IDR and not in the task list, which closes.
    TaskList,
    /// It is in the task list and not in the pid IDR, which was read whole.
    PidIdr,
    /// It is in neither; its threads led to it.
    Both,
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
    /// Bytes of names.
    Strings,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Processes,
        Self::Threads,
        Self::Descriptors,
        Self::Areas,
        Self::Connections,
        Self::Strings,
    ];
}
