//! One scan: breadth first, in rounds, from a kernel's roots to a [`Snapshot`].
//!
//! A scan reads all tasks, then everything they point to, then everything those point to, and so
//! on. Each round is one batch for the [`MemoryReader`], so the number of batches follows the
//! levels, not the objects. `scan` has the order; each file beside this one has the rounds of one
//! entity.
//!
//! Not here: deciding what is reported. From one scan to the next, the walk remembers where to
//! look: network interfaces with the ages of their namespaces, run queues, and tasks that no list
//! shows. It keeps all rows if no task has run since they were read (`idle`).

mod bpf;
mod bpf_attach;
mod bpf_helpers;
mod bpf_links;
mod bpf_pins;
mod bpf_rows;
mod bpf_symbols;
mod bpf_walk;
mod budget;
mod capability_sets;
mod carry_over;
mod cgroups;
mod command_lines;
mod connections;
mod container_rows;
mod containers;
mod copied;
mod descriptors;
mod ended_tasks;
mod fair_share;
mod fd_slices;
mod files;
mod idr;
mod interfaces;
mod kernel;
mod losses;
mod machine;
mod machine_row;
mod memory;
mod module_details;
mod module_loaders;
mod module_rows;
mod module_seeds;
mod module_views;
mod modules;
mod moved_descriptors;
mod names;
mod places;
mod port_set;
mod processes;
mod queries;
mod queues;
mod ring_rows;
mod rings;
mod scan;
mod snapshot;
mod socket_recheck;
mod sockets;
mod special_files;
mod stability;
mod tables;
mod task_shares;
mod tasks;
mod tcp_socks;
mod tears;
mod terminals;
#[cfg(test)]
pub(crate) mod tests;
mod texts;
mod udp_ports;
mod unchanged_machine;
mod unchanged_processes;
mod user_namespaces;
mod views;
mod young_nets;

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{PackedLayout, View};
use panoptes_decoders::paging::KernelSpace;
use panoptes_decoders::source::MemorySource;

pub(crate) use bpf::{push_bpf_marks, take_bpf_marks};
pub use bpf_rows::{
    BPF_LINKS_MAX, BPF_MAPS_MAX, BPF_PROGRAMS_MAX, BpfHelpers, BpfLinkRow, BpfMapRow,
    BpfProgramRow, BpfScan, BpfTarget, bpf_view,
};
pub use budget::{Budget, DeferredWork};
pub use capability_sets::{CapabilitySet, CapabilitySetId, CapabilitySets};
pub use carry_over::WalkCheckpoint;
pub use copied::MemoryCopyMode;
pub(crate) use descriptors::TABLE_MAX;
pub use kernel::{BpfRoots, Kernel, Roots};
pub use losses::{Losses, ScanPart};
pub use machine_row::{BpfMarks, Machine, ModuleMarks};
pub use module_rows::{
    MODULES_MAX, ModuleBuildId, ModuleLoader, ModuleRow, ModuleScan, ModuleSection, ModuleViews,
    module_view,
};
pub(crate) use modules::{module_layouts, push_module_marks, take_module_marks};
pub use port_set::{PortSet, UdpPorts};
pub(crate) use queries::user;
pub use ring_rows::{QueueRow, RING_SLOT, RingRow, number_of, slot_of};
pub use snapshot::{
    CgroupRow, ConnectionRow, ContainerRow, CssSetRow, CssStateRow, DentryRow, DescriptorRow,
    FileRow, FilesRow, HostName, Index, InodeRow, InterfaceRow, KernfsRow, MmRow, MountRow,
    NameKind, NameRow, NetRow, PathRef, ProcessRow, Rows, SocketRow, Span, SuperBlockRow,
    TerminalRow, ThreadRow, UserGroupIds, UserNamespaceRow, Views, VmaRow, view,
};
pub use stability::TaskFate;
pub use tables::Snapshot;
pub(crate) use tables::TERMINALS_MAX;
pub use tcp_socks::UNREAD_DEVICE;
pub use terminals::is_terminal;

use self::bpf_walk::BpfWalk;
use self::budget::{BudgetMeter, RowRotation};
use self::ended_tasks::TaskPlaces;
use self::modules::ModuleWalk;
use self::rings::{RingSlot, Rings};
use self::socket_recheck::KeptSockets;
use self::special_files::HeldFiles;
use self::unchanged_machine::Idle;
use self::unchanged_processes::PreviousProcesses;
use self::views::Hints;
use self::young_nets::{DueNet, NetAge};
use crate::address::{MemoryReader, ReaderSizes};
use crate::limits::Limits;
use panoptes_tables::{AddressMap, HashKey, room};

/// Which entities a scan reads; it always reads processes and threads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent choices, one a kind")]
pub struct Scope {
    pub files: bool,
    /// Memory areas.
    pub memory: bool,
    pub connections: bool,
    pub interfaces: bool,
    /// Arguments, which are in the memory of processes themselves.
    pub command_lines: bool,
    /// The ports of all UDP sockets.
    pub udp_ports: bool,
    /// Kernel modules.
    pub modules: bool,
    /// Their users, and their sections, for which [`Walker::with_sections`] makes room. Only lines
    /// of a scan have them.
    pub module_details: bool,
    /// Programs, maps and links of eBPF.
    pub bpf: bool,
}

impl Scope {
    /// All that `panoptes watch` reports. It needs no ports of UDP, and no users and sections of
    /// modules.
    pub const ALL: Self = Self {
        files: true,
        memory: true,
        connections: true,
        interfaces: true,
        command_lines: true,
        udp_ports: false,
        modules: true,
        module_details: false,
        bpf: true,
    };
    /// Processes and threads, without their arguments.
    pub const LEAST: Self = Self {
        files: false,
        memory: false,
        connections: false,
        interfaces: false,
        command_lines: false,
        udp_ports: false,
        modules: false,
        module_details: false,
        bpf: false,
    };
}

/// Why there is no snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScanError {
    /// `init_task` cannot be read: the machine is gone, or it runs another kernel.
    #[error("the kernel's init_task cannot be read any more: has the machine stopped or rebooted?")]
    NoInitTask,
    /// No process was found. Every running machine has processes, so this is an error.
    #[error("no process was found in this memory, which cannot be right")]
    NoProcess,
    /// Process 1 is gone, which no running kernel survives.
    #[error("process 1 cannot be found any more: has the machine stopped or rebooted?")]
    NoFirstProcess,
    /// Process 1 is not the same as before: the machine has rebooted.
    #[error("process 1 began at another time than before: the machine has rebooted")]
    OtherBoot,
    /// The kernel has counted fewer forks than before: this is an earlier time of the same boot.
    #[error("the machine was put back to an earlier time")]
    WentBack,
    /// The scan was given up ([`Budget::unless`]).
    #[error("the scan was stopped on request")]
    Stopped,
}

/// Scans a kernel. Owns everything that a scan writes to, allocated once. Several systems may share
/// a walker, each with what is [`WalkCheckpoint`] of it.
#[derive(Debug)]
pub struct Walker {
    pub(crate) reader: MemoryReader,
    pub(crate) snapshot: Snapshot,
    /// Every `struct pid` of the IDR.
    pids: AddressMap,
    /// The addresses visited in a round.
    visited: AddressMap,
    scratch: WalkScratch,
    hints: Hints,
    idle: Idle,
    places: TaskPlaces,
    resting: PreviousProcesses,
    may_be_light: bool,
    /// The system that is scanned, and its scans since watching began.
    system: u64,
    scans: u64,
    /// Scans since all interfaces were read; 0 if this one reads them.
    interface_age: u32,
    /// Number of scans, which may wrap: other owners of namespaces come first in each.
    owner_turn: u32,
    modules: ModuleWalk,
    bpf: BpfWalk,
    /// One entry a network namespace.
    net_ages: Vec<NetAge>,
    /// Used slots of the large tables of rings.
    ring_slots: Vec<RingSlot>,
    net_key: HashKey,
    /// For hashes of paths.
    path_key: HashKey,
}

/// Lists that the rounds fill and read. None has a meaning after its round.
#[derive(Debug)]
struct WalkScratch {
    addresses: Vec<KernelVa>,
    /// The next level, where there are levels.
    more: Vec<KernelVa>,
    /// Every `struct pid`, and the expected numbers of their tasks.
    pids: Vec<KernelVa>,
    numbers: Vec<u32>,
    leaders: Vec<Index<ThreadRow>>,
    /// Leaders whose lists of threads lead to a task without a row, and the links to it.
    groups: Reads<ThreadRow>,
    buckets: Vec<connections::Buckets>,
    /// Addresses of the mount namespace of each process, and of its number in its pid namespace.
    mount_namespaces: Vec<KernelVa>,
    pid_numbers: Vec<KernelVa>,
    /// User namespace of each process, and the outermost of the pid namespaces around it below the
    /// first one. The latter is null for a process of the first one.
    user_namespaces: Vec<KernelVa>,
    outer_pid_namespaces: Vec<KernelVa>,
    /// Processes in nested pid namespaces, with their numbers in the outer ones. At the end of a
    /// scan, processes that moved, with their address spaces by then.
    nested: Reads<ProcessRow>,
    /// What the end of a scan reads once more: leaders that have another name by then, and threads
    /// with descriptor tables of their own.
    renamed: Reads<ThreadRow>,
    own_tables: Reads<ThreadRow>,
    /// Network namespace of each process, and the mount and the name of its working directory.
    nets: Vec<KernelVa>,
    directories: Vec<(KernelVa, KernelVa)>,
    ipc_namespaces: queues::IpcNamespaces,
    queues: Vec<KernelVa>,
    /// Areas, or roots of their trees, with their address spaces.
    areas: Reads<MmRow>,
    more_areas: Reads<MmRow>,
    nodes: Vec<memory::PendingMapleNode>,
    more_nodes: Vec<memory::PendingMapleNode>,
    /// Address spaces whose areas are read.
    spaces: Vec<Index<MmRow>>,
    /// The orders in which address spaces and descriptor tables are read.
    space_turn: RowRotation,
    table_turn: RowRotation,
    /// The slot at which the first table of the turn began.
    resumed_slot: u32,
    slices: Vec<fd_slices::Slice>,
    checked_slots: Vec<moved_descriptors::CheckedSlots>,
    checked_tables: Vec<Index<FilesRow>>,
    /// Descriptor tables and address spaces with their owners, if rows are divided among these.
    owned_tables: Vec<fair_share::OwnedRow<FilesRow>>,
    owned_spaces: Vec<fair_share::OwnedRow<MmRow>>,
    shares: fair_share::TableShares,
    task_shares: task_shares::TaskShares,
    /// Number of rows of open files that every scan reads (executables, standard input, output and
    /// error), and the number with those of all descriptors.
    first_files: usize,
    descriptor_files: usize,
    backed: Vec<Index<FileRow>>,
    /// Files, and what may be the paths that users know them by.
    user_paths: Vec<(Index<FileRow>, PathRef)>,
    places: Vec<(places::SnapshotRow, KernelVa)>,
    long_names: Vec<(Index<DentryRow>, KernelVa, u32)>,
    /// Names that were changing when they were read.
    torn: Vec<Index<DentryRow>>,
    /// Inodes that the kernel was about to make when they were read, and files whose sockets have
    /// other files.
    blank_inodes: Vec<Index<InodeRow>>,
    torn_files: Vec<Index<FileRow>>,
    /// Names, with the addresses of their texts.
    texts: Reads<NameRow>,
    inodes: Reads<InodeRow>,
    /// First process that leads to each inode.
    inode_processes: Vec<fair_share::Leads>,
    connections: tcp_socks::TcpSockLists,
    connection_order: Vec<connections::SortKey>,
    /// From the last scan of the same system, if that keeps its rows.
    kept_sockets: KeptSockets,
    sockets: HeldFiles,
    terminals: HeldFiles,
    rings: Rings,
    /// Network namespaces of the last scan, and those whose interfaces are read.
    net_ages: Vec<NetAge>,
    due_nets: Vec<DueNet>,
}

impl WalkScratch {
    /// Allocates for what the tables of `snapshot` can hold.
    fn new(snapshot: &Snapshot, key: HashKey) -> Self {
        let (mms, vmas) = (snapshot.mms.capacity(), snapshot.vmas.capacity());
        let list = list_max(snapshot);
        Self {
            addresses: room::list(list),
            more: room::list(list),
            pids: room::list(list),
            numbers: room::list(list),
            leaders: room::list(snapshot.threads.capacity()),
            groups: Reads::with_capacity(snapshot.threads.capacity()),
            buckets: room::list(2 * snapshot.nets.capacity()),
            mount_namespaces: room::list(processes::CHUNK),
            pid_numbers: room::list(processes::CHUNK),
            user_namespaces: room::list(snapshot.processes.capacity()),
            outer_pid_namespaces: room::list(snapshot.processes.capacity()),
            nested: Reads::with_capacity(processes::CHUNK),
            renamed: Reads::with_capacity(processes::CHUNK),
            own_tables: Reads::with_capacity(processes::CHUNK),
            nets: room::list(snapshot.processes.capacity()),
            directories: room::list(snapshot.processes.capacity()),
            ipc_namespaces: queues::IpcNamespaces::new(),
            queues: room::list(queues::LISTED_MAX),
            areas: Reads::with_capacity(list),
            more_areas: Reads::with_capacity(list),
            nodes: room::list(vmas / 2 + mms),
            more_nodes: room::list(vmas / 2 + mms),
            spaces: room::list(mms),
            space_turn: RowRotation::default(),
            table_turn: RowRotation::default(),
            resumed_slot: 0,
            slices: room::list(descriptors::SLICES_MAX),
            checked_slots: room::list(descriptors::SLICES_MAX),
            checked_tables: room::list(snapshot.files_structs.capacity()),
            owned_tables: room::list(snapshot.files_structs.capacity()),
            owned_spaces: room::list(mms),
            shares: fair_share::TableShares::new(
                snapshot.processes.capacity(),
                key.derive("walk: users"),
            ),
            task_shares: task_shares::TaskShares::new(snapshot, list),
            first_files: 0,
            descriptor_files: 0,
            backed: room::list(files::USER_PATHS_MAX),
            user_paths: room::list(files::USER_PATHS_MAX),
            places: room::list(list),
            long_names: room::list(snapshot.dentries.capacity()),
            torn: room::list(files::TORN_MAX),
            blank_inodes: room::list(files::BLANK_MAX),
            torn_files: room::list(files::BLANK_MAX),
            texts: Reads::with_capacity(snapshot.names.capacity()),
            inodes: Reads::with_capacity(snapshot.inodes.capacity()),
            inode_processes: room::list(snapshot.inodes.capacity()),
            connections: tcp_socks::TcpSockLists::new(snapshot),
            connection_order: room::list(snapshot.connections.capacity()),
            kept_sockets: KeptSockets::with_capacity(snapshot.connections.capacity()),
            sockets: HeldFiles::with_capacity(snapshot.files.capacity()),
            terminals: HeldFiles::with_capacity(snapshot.terminals.capacity()),
            rings: Rings::new(),
            net_ages: room::list(snapshot.nets.capacity()),
            due_nets: room::list(snapshot.nets.capacity()),
        }
    }
}

/// Rows, and the address of what is read for each.
#[derive(Debug)]
struct Reads<Row> {
    rows: Vec<Index<Row>>,
    addresses: Vec<KernelVa>,
}

impl<Row> Reads<Row> {
    fn with_capacity(capacity: usize) -> Self {
        Self { rows: room::list(capacity), addresses: room::list(capacity) }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.addresses.clear();
    }

    fn has_room(&self) -> bool {
        self.rows.len() < self.rows.capacity()
    }

    fn push(&mut self, row: Index<Row>, address: KernelVa) {
        self.rows.push(row);
        self.addresses.push(address);
    }
}

/// Longest list of addresses that one round collects.
fn list_max(snapshot: &Snapshot) -> usize {
    let tables = [
        snapshot.dentries.capacity(),
        snapshot.vmas.capacity(),
        snapshot.threads.capacity(),
        snapshot.processes.capacity(),
        snapshot.connections.capacity(),
    ];
    tables.into_iter().fold(0, usize::max) + 8192
}

impl Walker {
    /// Allocates for `limits`.
    pub fn new(limits: &Limits, key: HashKey) -> Self {
        let snapshot = Snapshot::new(limits, key);
        Self {
            reader: MemoryReader::new(ReaderSizes::default()),
            pids: AddressMap::new(snapshot.threads.capacity(), key.derive("walk: pids")),
            visited: AddressMap::new(list_max(&snapshot), key.derive("walk: visited")),
            scratch: WalkScratch::new(&snapshot, key),
            hints: Hints::new(snapshot.processes.capacity()),
            idle: Idle::new(),
            places: TaskPlaces::new(),
            resting: PreviousProcesses::with_capacity(limits.processes as usize),
            may_be_light: false,
            system: 0,
            scans: 0,
            interface_age: 0,
            owner_turn: 0,
            modules: ModuleWalk::new(key),
            bpf: BpfWalk::new(key),
            net_ages: room::list(snapshot.nets.capacity()),
            ring_slots: room::list(rings::REMEMBERED_MAX),
            net_key: key.derive("walk: network namespaces"),
            path_key: key.derive("walk: paths of containers"),
            snapshot,
        }
    }

    /// The result of the last scan.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Drops what earlier scans remembered, so that the next scan runs as if it were the first.
    pub fn forget(&mut self) {
        self.interface_age = 0;
        self.modules.known.forget();
        self.bpf.forget();
        self.net_ages.clear();
        self.ring_slots.clear();
        self.hints.forget();
        self.idle.forget();
        self.places.forget();
        self.resting.forget();
        self.snapshot.interfaces.clear();
    }

    fn clear(&mut self) {
        self.idle.begin();
        self.scans += 1;
        self.snapshot.clear();
        self.pids.clear();
        self.visited.clear();
        (self.scratch.space_turn, self.scratch.table_turn) =
            (RowRotation::default(), RowRotation::default());
        self.scratch.rings.clear();
        self.bpf.begin_scan();
        self.hints.begin_scan();
    }
}

/// The memory of the scanned machine, and how its kernel lays it out.
struct ScannedMemory<'a> {
    source: &'a mut dyn MemorySource,
    kernel: &'a Kernel,
    meter: BudgetMeter<'a>,
}

impl<'a> ScannedMemory<'a> {
    fn new(source: &'a mut dyn MemorySource, kernel: &'a Kernel, budget: Budget<'a>) -> Self {
        Self { source, kernel, meter: BudgetMeter::new(budget) }
    }

    /// Reads the objects of a batch. All reads of a scan are here, so they are counted here.
    fn run(&mut self, reader: &mut MemoryReader) {
        if self.meter.must_stop() {
            reader.fail_all();
            return;
        }
        let work = reader.run(self.source, self.kernel.space.levels);
        self.meter.add(work);
    }

    /// Whether a batch was not read because the scan must be given up. Nothing more is read then.
    fn is_stopped(&self) -> bool {
        self.meter.is_stopped()
    }

    /// Ends a scan that must be given up.
    fn goes_on(&mut self) -> Result<(), ScanError> {
        if self.meter.must_stop() { Err(ScanError::Stopped) } else { Ok(()) }
    }

    /// Reads one structure.
    fn read_one<'r>(
        &mut self,
        reader: &'r mut MemoryReader,
        address: KernelVa,
        packing: &PackedLayout,
    ) -> Option<View<'r>> {
        reader.clear();
        reader.push(&self.kernel.space, address, packing);
        self.run(reader);
        reader.object(0).map(View::new)
    }

    fn read_bytes<'r>(
        &mut self,
        reader: &'r mut MemoryReader,
        address: KernelVa,
        length: u32,
    ) -> Option<&'r [u8]> {
        reader.clear();
        reader.push_bytes(&self.kernel.space, address, length);
        self.run(reader);
        reader.object(0)
    }
}

/// Reads an object for each of `items`, in as few batches as the reader's size allows. `push` adds
/// an object to the batch. Calls `decode` with each index in `items` and the bytes, or `None` if
/// they cannot be read, or must not be any more.
fn fetch_each<Item>(
    reader: &mut MemoryReader,
    memory: &mut ScannedMemory<'_>,
    items: &[Item],
    push: impl Fn(&mut MemoryReader, &KernelSpace, &Item) -> Option<u32>,
    mut decode: impl FnMut(usize, Option<&[u8]>),
) {
    fetch_batches(reader, memory, items, push, |reader, batch| {
        for index in batch.clone() {
            decode(index, reader.and_then(|reader| reader.object(index - batch.start)));
        }
    });
}

/// Reads an object for each of `items`, in as few batches as the reader's size allows. Calls
/// `take` with the indexes of each batch, and with the reader that has the objects, or `None` if
/// nothing must be read any more.
fn fetch_batches<Item>(
    reader: &mut MemoryReader,
    memory: &mut ScannedMemory<'_>,
    items: &[Item],
    push: impl Fn(&mut MemoryReader, &KernelSpace, &Item) -> Option<u32>,
    mut take: impl FnMut(Option<&MemoryReader>, Range<usize>),
) {
    let space = &memory.kernel.space;
    let mut done = 0;
    while done < items.len() {
        reader.clear();
        if !memory.is_stopped() {
            let mut left = items[done..].iter();
            while left.next().is_some_and(|item| push(reader, space, item).is_some()) {}
        }
        if reader.is_empty() {
            // Nothing must be read any more. An object that is larger than the whole arena cannot
            // occur with a bound layout.
            take(None, done..items.len());
            return;
        }
        memory.run(reader);
        let end = done + reader.len();
        take(Some(reader), done..end);
        done = end;
    }
}

/// Reads the structure at each of `addresses`, as [`fetch_each`] does.
fn fetch(
    reader: &mut MemoryReader,
    memory: &mut ScannedMemory<'_>,
    packing: &PackedLayout,
    addresses: &[KernelVa],
    decode: impl FnMut(usize, Option<&[u8]>),
) {
    let push =
        |reader: &mut MemoryReader, space: &_, &address: &_| reader.push(space, address, packing);
    fetch_each(reader, memory, addresses, push, decode);
}

/// Number of objects whose searches are begun before these objects are decoded.
const OBJECTS_AHEAD: usize = 32;

/// Calls `touch` for all items, some ahead of `take`. `touch` loads what `take` will search in a
/// large table. So the waits for memory of several searches overlap, which a search that depends
/// on the one before cannot.
#[inline]
fn each_ahead<Context>(
    context: &mut Context,
    count: usize,
    touch: impl Fn(&Context, usize) -> u32,
    mut take: impl FnMut(&mut Context, usize),
) {
    for start in (0..count).step_by(OBJECTS_AHEAD) {
        let window = start..count.min(start + OBJECTS_AHEAD);
        let touched = window.clone().fold(0, |sum, index| sum ^ touch(context, index));
        core::hint::black_box(touched);
        window.for_each(|index| take(context, index));
    }
}

/// Reads the structure at each of `addresses`, as [`fetch`] does. `decode` searches for addresses
/// in large tables, and `touch` loads the beginnings of these searches ([`each_ahead`]).
fn fetch_ahead<Context>(
    reader: &mut MemoryReader,
    memory: &mut ScannedMemory<'_>,
    packing: &PackedLayout,
    addresses: &[KernelVa],
    context: &mut Context,
    touch: impl Fn(&Context, &[u8]) -> u32,
    mut decode: impl FnMut(&mut Context, usize, Option<&[u8]>),
) {
    let push =
        |reader: &mut MemoryReader, space: &_, &address: &_| reader.push(space, address, packing);
    fetch_batches(reader, memory, addresses, push, |reader, batch| {
        let object = |index| reader.and_then(|reader| reader.object(index));
        let touch =
            |context: &Context, index| object(index).map_or(0, |bytes| touch(context, bytes));
        each_ahead(context, batch.len(), touch, |context, index| {
            decode(context, batch.start + index, object(index));
        });
    });
}

/// Reads structures of several kinds in the same batches. `groups` has kinds, packings and
/// addresses; `decode` gets the kind, the index in its group and the packed copy.
fn fetch_groups<Kind: Copy, const N: usize>(
    reader: &mut MemoryReader,
    memory: &mut ScannedMemory<'_>,
    groups: [(Kind, &PackedLayout, &[KernelVa]); N],
    mut decode: impl FnMut(Kind, usize, Option<&[u8]>),
) {
    let space = &memory.kernel.space;
    let (mut group, mut index) = (0, 0);
    loop {
        if memory.is_stopped() {
            for (kind, _, addresses) in &groups[group..] {
                (index..addresses.len()).for_each(|index| decode(*kind, index, None));
                index = 0;
            }
            return;
        }
        reader.clear();
        let first = (group, index);
        'push: while group < N {
            let (_, packing, addresses) = groups[group];
            while index < addresses.len() {
                if reader.push(space, addresses[index], packing).is_none() {
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
        memory.run(reader);
        let (mut at_group, mut at) = first;
        for object in 0..reader.len() {
            while at == groups[at_group].2.len() {
                at_group += 1;
                at = 0;
            }
            decode(groups[at_group].0, at, reader.object(object));
            at += 1;
        }
    }
}
