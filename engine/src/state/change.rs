//! The changes that the state reports between two scans.
//!
//! Changes are facts only; the policy decides which ones become records, and how severe they are.

use core::cell::Cell;

use panoptes_decoders::address::KernelVa;

use super::area::AreaBefore;
use super::bpf_facts::{BpfLinkFacts, BpfProgramFacts};
use super::connection::Connection;
use super::container::{Container, Containers};
use super::coverage::Births;
use super::ended::EndedOwner;
use super::facts::{AreaFacts, DescriptorFacts, ThreadFacts};
use super::holders::Holder;
use super::mapped_files::MappedFiles;
use super::module_facts::{ModuleChange, ModuleFacts};
use super::process::Process;
use super::thresholds::ExceededThreshold;
use crate::limits::Limit;
use crate::time::{Now, RealTime};
use crate::walk::{ModuleViews, Snapshot, Views};
use panoptes_tables::{Strings, Tag};

/// The context of a change.
#[derive(Clone, Copy, Debug)]
pub struct ScanContext<'a> {
    /// The scan that showed the change.
    pub snapshot: &'a Snapshot,
    /// The tracked containers.
    pub containers: &'a Containers,
    /// The strings that rows refer to.
    pub strings: &'a Strings,
    /// Time of the scan.
    pub now: Now,
}

/// Receives changes, in the order in which they were found.
pub trait Changes {
    /// Called once for each change.
    fn change(&mut self, cx: &ScanContext<'_>, change: &Change<'_>);
}

impl<F: FnMut(&ScanContext<'_>, &Change<'_>)> Changes for F {
    fn change(&mut self, cx: &ScanContext<'_>, change: &Change<'_>) {
        self(cx, change);
    }
}

/// One difference between two scans.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A process is new.
    ProcessCreated(&'a Process),
    /// A process runs another program.
    ProcessExecuted {
        process: &'a Process,
        /// Path of the previous program, if a scan saw that.
        before: Option<&'a [u8]>,
        /// What the kernel and the loader have mapped for the new one.
        mapped: MappedFiles<'a>,
    },
    /// A process has ended.
    ProcessTerminated(&'a Process),
    /// A process has ended, and nothing has collected its exit code for a while.
    ProcessZombie(&'a Process),
    /// A process is missing from kernel views that must show every process.
    ProcessHidden {
        process: &'a Process,
        /// Complete views that must show it but do not.
        missing: Views,
        shown: Views,
        /// Number of consecutive scans in which these views hid the process.
        scans: u32,
        /// When the first of these scans was.
        since_ns: RealTime,
        /// Whether that was reported; the next scan reports it again otherwise. True unless a
        /// receiver sets it.
        is_accepted: &'a Cell<bool>,
    },
    /// A thread other than its process's leader is new.
    ThreadCreated { process: &'a Process, thread: ThreadFacts },
    /// Such a thread has ended, but its process has not.
    ThreadTerminated { process: &'a Process, thread: ThreadFacts },
    /// A descriptor is new.
    DescriptorOpened { process: &'a Process, descriptor: DescriptorFacts<'a> },
    /// A descriptor of a process that has not ended was closed, or leads elsewhere.
    DescriptorClosed {
        process: &'a Process,
        /// The descriptor as it was last seen.
        descriptor: DescriptorFacts<'a>,
    },
    /// A descriptor that can write a regular file was closed, or its process has ended. Other
    /// descriptors may still have the file open.
    WriterClosed {
        process: &'a Process,
        /// The descriptor as it was last seen.
        descriptor: DescriptorFacts<'a>,
        /// `struct file *`, of its inode.
        file: Tag<2>,
        /// `struct inode *`
        inode: KernelVa,
        /// The file when the descriptor was first seen.
        opened: FileAtOpen,
    },
    /// Memory was mapped where nothing of the kind was.
    AreaMapped { process: &'a Process, area: AreaFacts<'a> },
    /// Nothing is left of an area, but its process and address space still exist.
    AreaUnmapped {
        process: &'a Process,
        /// The area as it was last seen.
        area: AreaFacts<'a>,
    },
    /// An area's permissions have changed.
    AreaPermissionsChanged {
        process: &'a Process,
        /// The area as it is now.
        area: AreaFacts<'a>,
        /// The area, or a part of it, as it was.
        before: AreaBefore,
    },
    /// A connection is new.
    ConnectionCreated(ConnectionChange<'a>),
    /// A connection has ended, including its TIME_WAIT.
    ConnectionTerminated(ConnectionChange<'a>),
    /// A connection changed its state.
    ConnectionStateChanged(ConnectionChange<'a>),
    /// A connection exceeded a threshold for the first time.
    ConnectionExceeded { change: ConnectionChange<'a>, exceeded: ExceededThreshold },
    /// A connection is open; reported once in each period.
    ConnectionStatus(ConnectionChange<'a>),
    /// A container is new.
    ContainerStarted {
        container: &'a Container,
        /// Its first process, if that is tracked.
        process: Option<&'a Process>,
    },
    /// A container has no living process any more.
    ContainerTerminated {
        /// The container as it was last seen.
        container: &'a Container,
    },
    /// A kernel module was loaded.
    ModuleLoaded {
        module: &'a ModuleFacts,
        /// The process that loads it, if a scan saw only one that loads modules.
        process: Option<&'a Process>,
    },
    /// No view has a kernel module any more.
    ModuleUnloaded {
        /// The module as it was last seen.
        module: &'a ModuleFacts,
        /// The process that unloads it, if a scan saw only one that unloads modules.
        process: Option<&'a Process>,
    },
    /// A loaded kernel module is not as it was.
    ModuleChanged { module: &'a ModuleFacts, before: &'a ModuleFacts, what: ModuleChange },
    /// A kernel module is missing from views that must show it.
    ModuleHidden {
        module: &'a ModuleFacts,
        /// Complete views that must show it but did not in these reads.
        missing: ModuleViews,
        shown: ModuleViews,
        /// Number of consecutive reads of modules in which these views hid it.
        scans: u32,
        /// When the first of these reads was.
        since_ns: RealTime,
        /// Whether that was reported; the next read reports it again otherwise. True unless a
        /// receiver sets it.
        is_accepted: &'a Cell<bool>,
    },
    /// A program of eBPF was loaded.
    BpfProgramLoaded {
        program: &'a BpfProgramFacts,
        /// A process that has a descriptor of it, or of a link to it.
        process: Option<&'a Process>,
    },
    /// No view has a program of eBPF any more.
    BpfProgramUnloaded {
        /// The program as it was last seen.
        program: &'a BpfProgramFacts,
    },
    /// A link attaches a program of eBPF.
    BpfProgramAttached {
        link: &'a BpfLinkFacts,
        /// `None` if the scan does not show it.
        program: Option<&'a BpfProgramFacts>,
        /// A process that has a descriptor of the link, or of the program.
        process: Option<&'a Process>,
    },
    /// A link attaches a program of eBPF no more.
    BpfProgramDetached {
        /// The link as it was last seen.
        link: &'a BpfLinkFacts,
        /// Its program, if that is still tracked.
        program: Option<&'a BpfProgramFacts>,
    },
    /// The kernel's IDR lacks a program of eBPF that has references.
    BpfProgramHidden {
        program: &'a BpfProgramFacts,
        process: Option<&'a Process>,
        /// Number of consecutive reads in which the IDR lacked it.
        scans: u32,
        /// When the first of these reads was.
        since_ns: RealTime,
        /// Whether that was reported; the next read reports it again otherwise. True unless a
        /// receiver sets it.
        is_accepted: &'a Cell<bool>,
    },
    /// A program of eBPF calls helpers that change what others see or do.
    BpfProgramDangerous {
        program: &'a BpfProgramFacts,
        process: Option<&'a Process>,
        /// The same.
        is_accepted: &'a Cell<bool>,
    },
    /// Scans missed processes or threads that lived only between two scans.
    BirthsMissed(Births),
    /// A table is full.
    LimitReached {
        limit: Limit,
        /// Capacity of the table.
        capacity: u64,
        /// Entries that found no room in this scan.
        untracked: u64,
    },
    /// A table has room again.
    LimitCleared {
        limit: Limit,
        /// Capacity of the table.
        capacity: u64,
    },
}

impl Change<'_> {
    /// The process that has changed its own descriptors or areas, which is running then.
    pub const fn maker(&self) -> Option<&Process> {
        match self {
            Self::DescriptorOpened { process, .. }
            | Self::DescriptorClosed { process, .. }
            | Self::AreaMapped { process, .. }
            | Self::AreaUnmapped { process, .. }
            | Self::AreaPermissionsChanged { process, .. } => Some(process),
            _ => None,
        }
    }

    /// Whether only a task can have made it, in the moment in which it became visible.
    pub const fn is_made_by_tasks(&self) -> bool {
        matches!(
            self,
            Self::ProcessCreated(_)
                | Self::ProcessExecuted { .. }
                | Self::ProcessTerminated(_)
                | Self::ProcessHidden { .. }
                | Self::ThreadCreated { .. }
                | Self::ThreadTerminated { .. }
                | Self::DescriptorOpened { .. }
                | Self::DescriptorClosed { .. }
                | Self::AreaMapped { .. }
                | Self::AreaUnmapped { .. }
                | Self::AreaPermissionsChanged { .. }
        )
    }
}

/// A file as it was when a descriptor of it was first seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileAtOpen {
    /// Size in bytes.
    pub size: u64,
    /// Time of the last modification, in nanoseconds since 1970.
    pub modify_time_ns: i64,
    /// Whether that was after the previous scan, in which the descriptor was not open yet: so the
    /// file was written after it was opened, or just before.
    pub written: bool,
}

/// A connection and its holders.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionChange<'a> {
    pub connection: &'a Connection,
    /// Its owner, if that is tracked and alive.
    pub process: Option<&'a Process>,
    /// Its owner, if that has ended and there is room for what was known of it.
    pub ended: Option<&'a EndedOwner>,
    /// The owner's descriptor, if that is open.
    pub descriptor: Option<DescriptorFacts<'a>>,
    /// All holders by this scan, the owner first.
    pub holders: &'a [Holder],
}
