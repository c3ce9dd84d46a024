//! One scan: breadth first, in rounds, from a kernel's roots to a [`Snapshot`].
//!
//! A scan reads all tasks, then everything they point to, then everything those point to, and so
//! on. Each round is one batch for the [`Reader`], so the number of batches follows the levels, not
//! the objects. [`Walker::scan`] has the order; each file beside this one has the rounds of one
//! entity.
//!
//! Not here: deciding what is reported. From one scan to the next, the walk remembers only where to
//! look: network interfaces, run queues and tasks that no list shows.

mod cgroups;
mod connections;
mod containers;
mod descriptors;
mod empty;
mod ends;
mod files;
mod interfaces;
mod kernel;
mod lookups;
mod machine;
mod memory;
mod names;
mod processes;
mod snapshot;
mod tasks;
mod views;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::Packing;
use panoptes_decoders::source::MemorySource;

pub use containers::HOST_NAME_BYTES;
pub use kernel::{Kernel, Roots};
pub use snapshot::{
    AddressList, CgroupRow, ConnectionRow, ContainerRow, CssSetRow, CssStateRow, DentryRow,
    DescriptorRow, FileRow, FilesRow, Ids, InodeRow, InterfaceRow, KernfsRow, Losses, Machine,
    MmRow, MountRow, NONE, NameKind, NameRow, NetRow, PathRef, ProcessRow, Rows, Snapshot,
    SocketRow, SuperBlockRow, TerminalRow, ThreadRow, Views, VmaRow, view,
};

use self::views::Hints;
use crate::address::{Reader, ReaderSizes};
use crate::limits::Limits;
use panoptes_tables::{AddressMap, Insertion};

/// Which entities a scan reads; it always reads processes and threads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices, one a kind")]
pub struct Scope {
    pub files: bool,
    /// Memory areas.
    pub memory: bool,
    pub connections: bool,
    pub interfaces: bool,
}

impl Scope {
    pub const ALL: Self = Self { files: true, memory: true, connections: true, interfaces: true };
}

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ScanError {
    /// `init_task` cannot be read: the machine is gone, or it runs another kernel.
    NoInitTask,
    /// No process was found. Every running machine has processes, so this is an error.
    NoProcess,
    /// Process 1 is gone, which no running kernel survives.
    NoFirstProcess,
    /// Process 1 is not the same as before: the machine has rebooted.
    OtherBoot,
    /// The kernel has counted fewer forks than before: this is an earlier time of the same boot.
    WentBack,
}

impl core::fmt::Display for ScanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoInitTask => {
                "the kernel's init_task cannot be read any more: has the machine stopped or \
                 rebooted?"
            }
            Self::NoProcess => "no process was found in this memory, which cannot be right",
            Self::NoFirstProcess => {
                "process 1 cannot be found any more: has the machine stopped or rebooted?"
            }
            Self::WentBack => "the machine was put back to an earlier time",
            Self::OtherBoot => {
                "process 1 began at another time than before: the machine has rebooted"
            }
        })
    }
}

impl core::error::Error for ScanError {}

/// Scans a kernel. Owns everything that a scan writes to, allocated once.
#[derive(Debug)]
pub struct Walker {
    pub(crate) reader: Reader,
    pub(crate) snapshot: Snapshot,
    maps: Maps,
    scratch: Scratch,
    hints: Hints,
    interface_age: u32,
    /// Seed for hashes of paths: random, secret from the guests.
    seed: u64,
}

/// Maps from the addresses read in this scan to their rows.
#[derive(Debug)]
struct Maps {
    tasks: AddressMap,
    /// Every `struct pid` of the IDR.
    pids: AddressMap,
    mms: AddressMap,
    files_structs: AddressMap,
    files: AddressMap,
    inodes: AddressMap,
    dentries: AddressMap,
    mounts: AddressMap,
    super_blocks: AddressMap,
    names: AddressMap,
    nets: AddressMap,
    css_sets: AddressMap,
    css_states: AddressMap,
    cgroups: AddressMap,
    kernfs_nodes: AddressMap,
    containers: AddressMap,
    /// Set of the addresses visited in a round.
    visited: AddressMap,
}

/// Lists that one round passes to the next.
#[derive(Debug)]
struct Scratch {
    addresses: Vec<KernelVa>,
    more: Vec<KernelVa>,
    extra: Vec<KernelVa>,
    results: Vec<KernelVa>,
    owners: Vec<u32>,
    more_owners: Vec<u32>,
    groups: [Vec<KernelVa>; cgroups::KINDS],
    /// Names that were changing when they were read.
    torn: Vec<u32>,
    numbers: Vec<u32>,
    orphans: Vec<u32>,
    ends: ends::Ends,
    slices: Vec<descriptors::Slice>,
    /// Files, and what may be the paths that users know them by.
    user_paths: Vec<(u32, PathRef)>,
    nodes: Vec<memory::Node>,
    more_nodes: Vec<memory::Node>,
}

impl Walker {
    /// Allocates for `limits`; `key` is random and secret from the guests.
    pub fn new(limits: &Limits, key: u64) -> Self {
        let threads = limits.threads_seen_max();
        let processes = limits.processes_seen_max();
        let vmas = limits.vmas_seen_max();
        let connections = limits.connections_seen_max();
        let files = limits.files_seen_max();
        let dentries = empty::dentries_max(limits);
        let list = dentries.max(vmas).max(threads).max(processes).max(connections) + 8192;
        let containers = limits.containers_seen_max();
        let css_sets = empty::css_sets_max(limits);
        let mut salt = key;
        let mut map = |capacity| {
            salt = salt.rotate_left(23).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ key;
            AddressMap::new(capacity, salt)
        };
        Self {
            reader: Reader::new(ReaderSizes::default()),
            maps: Maps {
                tasks: map(threads),
                pids: map(threads),
                mms: map(processes),
                files_structs: map(processes),
                files: map(files),
                inodes: map(files),
                dentries: map(dentries),
                mounts: map(8192),
                super_blocks: map(4096),
                names: map(4096),
                nets: map(4096),
                css_sets: map(css_sets),
                css_states: map(CGROUPS_MAX),
                cgroups: map(CGROUPS_MAX),
                kernfs_nodes: map(CGROUPS_MAX),
                containers: map(containers),
                visited: map(list),
            },
            snapshot: Snapshot::empty(limits),
            scratch: Scratch {
                addresses: Vec::with_capacity(list),
                more: Vec::with_capacity(list),
                extra: Vec::with_capacity(list),
                results: Vec::with_capacity(list),
                owners: Vec::with_capacity(list),
                more_owners: Vec::with_capacity(list),
                groups: core::array::from_fn(|_| Vec::with_capacity(CGROUPS_MAX)),
                torn: Vec::with_capacity(TORN_MAX),
                numbers: Vec::with_capacity(connections),
                orphans: Vec::with_capacity(connections),
                ends: ends::Ends::new(files),
                slices: Vec::with_capacity(descriptors::SLICES_MAX),
                user_paths: Vec::with_capacity(files::USER_PATHS_MAX),
                nodes: Vec::with_capacity(vmas / 2 + processes),
                more_nodes: Vec::with_capacity(vmas / 2 + processes),
            },
            hints: Hints::new(processes),
            interface_age: 0,
            seed: key.rotate_left(31),
        }
    }

    /// The result of the last scan.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Scans once, without allocating.
    pub fn scan<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        scope: Scope,
    ) -> Result<&Snapshot, ScanError> {
        self.clear();
        self.read_machine(source, kernel);
        self.read_tasks(source, kernel)?;
        self.group_threads();
        if self.snapshot.processes.is_empty() {
            return Err(ScanError::NoProcess);
        }
        self.read_processes(source, kernel);
        if scope.files || scope.connections {
            self.read_descriptors(source, kernel);
        }
        if scope.memory {
            self.read_areas(source, kernel);
            self.read_names(source, kernel);
        }
        self.read_files(source, kernel);
        if scope.connections {
            self.read_connections(source, kernel);
        }
        if scope.interfaces {
            // A device is found through the one before it, so a machine with many devices costs
            // many rounds. The first scan reads them, and then every `INTERFACES_EVERY_SCANS`-th.
            if self.interface_age == 0 {
                self.read_interfaces(source, kernel);
            }
            self.interface_age = (self.interface_age + 1) % INTERFACES_EVERY_SCANS;
        }
        self.follow_control_groups(kernel);
        self.check_descriptors(source, kernel);
        self.check_stability(source, kernel);
        self.find_run_queues(source, kernel);
        self.note_missing(kernel);
        self.count_losses();
        Ok(&self.snapshot)
    }

    /// Drops what earlier scans remembered, so that the next scan runs as if it were the first.
    pub fn forget(&mut self) {
        self.interface_age = 0;
        self.hints.forget();
        self.snapshot.interfaces.clear();
    }

    fn clear(&mut self) {
        let Snapshot {
            machine: _,
            threads,
            processes,
            by_pid,
            by_tid,
            files_structs,
            files_threads,
            descriptors,
            mms,
            vmas,
            files,
            inodes,
            dentries,
            mounts,
            super_blocks,
            names,
            nets,
            css_sets,
            css_states,
            cgroups,
            kernfs_nodes,
            containers,
            connections,
            sockets,
            terminals,
            interfaces: _,
            bytes,
            task_list_closed,
            idr_complete,
            losses,
        } = &mut self.snapshot;
        threads.clear();
        processes.clear();
        by_pid.clear();
        by_tid.clear();
        files_structs.clear();
        files_threads.clear();
        descriptors.clear();
        mms.clear();
        vmas.clear();
        files.clear();
        inodes.clear();
        dentries.clear();
        mounts.clear();
        super_blocks.clear();
        names.clear();
        nets.clear();
        css_sets.clear();
        css_states.clear();
        cgroups.clear();
        kernfs_nodes.clear();
        containers.clear();
        connections.clear();
        sockets.clear();
        terminals.clear();
        bytes.clear();
        *task_list_closed = false;
        *idr_complete = false;
        *losses = Losses::default();
        let maps = &mut self.maps;
        for map in [
            &mut maps.tasks,
            &mut maps.pids,
            &mut maps.mms,
            &mut maps.files_structs,
            &mut maps.files,
            &mut maps.inodes,
            &mut maps.dentries,
            &mut maps.mounts,
            &mut maps.super_blocks,
            &mut maps.names,
            &mut maps.nets,
            &mut maps.css_sets,
            &mut maps.css_states,
            &mut maps.cgroups,
            &mut maps.kernfs_nodes,
            &mut maps.containers,
            &mut maps.visited,
        ] {
            map.clear();
        }
        self.reader.forget_translations();
        self.hints.begin_scan();
    }

    fn count_losses(&mut self) {
        let snapshot = &mut self.snapshot;
        snapshot.losses.dropped = [
            snapshot.threads.dropped,
            snapshot.processes.dropped,
            snapshot.descriptors.dropped,
            snapshot.vmas.dropped,
            snapshot.files.dropped,
            snapshot.inodes.dropped,
            snapshot.dentries.dropped,
            snapshot.mounts.dropped,
            snapshot.super_blocks.dropped,
            snapshot.names.dropped,
            snapshot.nets.dropped,
            snapshot.css_sets.dropped,
            snapshot.css_states.dropped,
            snapshot.cgroups.dropped,
            snapshot.kernfs_nodes.dropped,
            snapshot.containers.dropped,
            snapshot.connections.dropped,
            snapshot.sockets.dropped,
            snapshot.terminals.dropped,
            snapshot.interfaces.dropped,
            snapshot.bytes.dropped,
        ]
        .iter()
        // Added to what the rounds themselves dropped.
        .fold(snapshot.losses.dropped, |sum, &dropped| sum.saturating_add(dropped));
    }
}

/// Maximum number of names that one scan reads again because they were changing.
const TORN_MAX: usize = 4096;
/// Maximum number of sets of control groups: one for each container or service with processes.
const CSS_SETS_MAX: usize = 8192;
/// Maximum number of control groups, and of each kind of structure that leads to them.
const CGROUPS_MAX: usize = 32_768;

/// Number of scans for which the list of network interfaces is valid.
const INTERFACES_EVERY_SCANS: u32 = 128;

/// Reads the structure at each of `addresses`, in as few batches as the reader's size allows. Calls
/// `decode` with each index in `addresses` and the packed copy, or `None` if it cannot be read.
fn fetch<S: MemorySource>(
    reader: &mut Reader,
    source: &mut S,
    kernel: &Kernel,
    packing: &Packing,
    addresses: &[KernelVa],
    mut decode: impl FnMut(usize, Option<&[u8]>),
) {
    let mut done = 0;
    while done < addresses.len() {
        reader.clear();
        for &address in &addresses[done..] {
            if reader.push(&kernel.space, address, packing).is_none() {
                break;
            }
        }
        let count = reader.len();
        if count == 0 {
            // Larger than the whole arena: cannot happen with a bound layout.
            return;
        }
        reader.run(source, kernel.space.levels);
        for index in 0..count {
            decode(done + index, reader.object(index));
        }
        done += count;
    }
}

/// Reads structures of several kinds in the same batches. `groups` has packings and addresses;
/// `decode` gets the group, the index in it and the packed copy.
fn fetch_groups<S: MemorySource, const N: usize>(
    reader: &mut Reader,
    source: &mut S,
    kernel: &Kernel,
    groups: [(&Packing, &[KernelVa]); N],
    mut decode: impl FnMut(usize, usize, Option<&[u8]>),
) {
    let (mut group, mut index) = (0, 0);
    loop {
        reader.clear();
        let first = (group, index);
        'push: while group < N {
            let (packing, addresses) = groups[group];
            while index < addresses.len() {
                if reader.push(&kernel.space, addresses[index], packing).is_none() {
                    break 'push;
                }
                index += 1;
            }
            group += 1;
            index = 0;
        }
        if reader.is_empty() {
            return;
        }
        reader.run(source, kernel.space.levels);
        let (mut at_group, mut at) = first;
        for object in 0..reader.len() {
            while at == groups[at_group].1.len() {
                at_group += 1;
                at = 0;
            }
            decode(at_group, at, reader.object(object));
            at += 1;
        }
    }
}

/// Returns the index of the row of `address`, adding a row if there is none, or [`NONE`].
fn row_of<T>(
    map: &mut AddressMap,
    rows: &mut Rows<T>,
    address: KernelVa,
    row: impl FnOnce() -> T,
) -> u32 {
    if address.is_null() {
        return NONE;
    }
    match map.insert(address.0, rows.len() as u32) {
        Insertion::Old(index) => index,
        Insertion::New => rows.push(row()).unwrap_or(NONE),
        Insertion::Full => {
            rows.dropped = rows.dropped.saturating_add(1);
            NONE
        }
    }
}
