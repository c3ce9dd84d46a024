//! The tables of a [`Snapshot`]: one list, from which its fields, its memory, its emptying and its
//! counts of dropped rows are made.

use core::num::NonZeroU64;

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::{AddressedRows, HashKey, Rows};

use super::bpf_rows::BpfScan;
use super::budget::DeferredWork;
use super::capability_sets::CapabilitySets;
use super::copied::MemoryCopyMode;
use super::losses::Losses;
use super::machine_row::Machine;
use super::module_rows::ModuleScan;
use super::port_set::UdpPorts;
use super::ring_rows::{QUEUES_MAX, QueueRow, RINGS_MAX, RingRow};
use super::snapshot::{
    CgroupRow, ConnectionRow, ContainerRow, CssSetRow, CssStateRow, DentryRow, DescriptorRow,
    FileRow, FilesRow, Index, InodeRow, InterfaceRow, KernfsRow, MmRow, MountRow, NameRow, NetRow,
    ProcessRow, SocketRow, SuperBlockRow, TerminalRow, ThreadRow, UserNamespaceRow, VmaRow,
};
use crate::address::ReadCost;
use crate::limits::Limits;

/// Maximum number of sets of control groups beside those of each process.
const CSS_SETS_MAX: usize = 8192;
/// Maximum number of control groups, and of each kind of structure that leads to them.
const CGROUPS_MAX: usize = 32_768;
const MOUNTS_MAX: usize = 32_768;
const SUPER_BLOCKS_MAX: usize = 16_384;
const NAMES_MAX: usize = 4096;
pub(super) const NETS_MAX: usize = 4096;
/// Maximum number of user namespaces. Processes in further ones count for their own users.
const USER_NAMESPACES_MAX: usize = 4096;
/// Maximum number of terminals in one scan. Nobody but root can fill the table for others: the
/// kernel makes at most 4096 pseudoterminals (`kernel.pty.max`), each with two ends.
pub(crate) const TERMINALS_MAX: usize = 16_384;
/// Maximum number of ended processes of one scan.
const ENDED_TASKS_MAX: usize = 256;
/// Maximum number of network interfaces of all namespaces together.
pub(super) const INTERFACES_MAX: usize = 256;

macro_rules! tables {
    ($limits:ident; $($(#[$doc:meta])* $name:ident: $table:ident<$row:ty> = $capacity:expr;)*) => {
        /// The result of one scan.
        #[derive(Debug)]
        pub struct Snapshot {
            pub machine: Machine,
            /// Whether no task has run since the last scan of the same system began, by the
            /// kernel's counts.
            pub has_rested: bool,
            /// Whether the rows are those of that scan, for this reason.
            pub is_kept: bool,
            /// Whether a task has run since then, by these counts, as far as the scan has asked.
            pub has_run: bool,
            /// Whether the scan came so soon after another one that it does not count where a
            /// number of scans stands for a time.
            pub is_early: bool,
            /// Whether the scan has left what processes have that rest.
            pub is_light: bool,
            /// Whether the memory is a copy, and which one.
            pub copied: MemoryCopyMode,
            $($(#[$doc])* pub $name: $table<$row>,)*
            /// Network interfaces. Not every scan reads them; until then, those of an earlier scan.
            pub interfaces: Rows<InterfaceRow>,
            /// Kernel modules. Not every scan reads them; the others have none.
            pub modules: ModuleScan,
            /// Programs, maps and links of eBPF. Not every scan reads them; the others have none.
            pub bpf: BpfScan,
            /// The capabilities of processes that are not root.
            pub capability_sets: CapabilitySets,
            /// The ports of all UDP sockets, if the scan reads them.
            pub udp_ports: UdpPorts,
            /// Whether the task list was followed all around, so that absence from it is
            /// meaningful.
            pub task_list_closed: bool,
            /// Whether the pid IDR was read completely.
            pub idr_complete: bool,
            /// Whether memory is a copy in which processes of containers may be missing.
            pub lacks_members: bool,
            /// Number of processes that some views show and others lack, as those of a process do
            /// that began or ended while the copy was made.
            pub torn: u32,
            /// Number of tables and chains of TCP sockets that were not followed to their ends, so
            /// that absence from them is not meaningful.
            pub connections_cut: u32,
            /// Whether chains of TCP sockets take turns, because not all have room in a scan.
            pub chains_in_turn: bool,
            /// Number of times that all chains had their turn before this scan; it may wrap.
            pub chains_round: u32,
            /// Differs from that of the last scan, unless the rows of TCP sockets are the same. It
            /// means nothing if the other rows are not kept.
            pub connections_version: u64,
            /// What the scan left for the next one.
            pub left: DeferredWork,
            /// What the scan has read.
            pub work: ReadCost,
            /// Objects that could not be read or did not fit.
            pub losses: Losses,
        }

        impl Snapshot {
            /// An empty snapshot that no guest fills: it has no secret key.
            pub fn empty(limits: &Limits) -> Self {
                Self::new(limits, HashKey::new(0))
            }

            /// Allocates for `limits`. The guest must not know `key`.
            pub(super) fn new($limits: &Limits, key: HashKey) -> Self {
                Self {
                    machine: Machine::default(),
                    has_rested: false,
                    is_kept: false,
                    has_run: false,
                    is_early: false,
                    is_light: false,
                    copied: MemoryCopyMode::No,
                    $($name: tables!(@new $table, $capacity, key.derive(stringify!($name))),)*
                    interfaces: Rows::with_capacity(INTERFACES_MAX),
                    modules: ModuleScan::default(),
                    bpf: BpfScan::default(),
                    capability_sets: CapabilitySets::default(),
                    udp_ports: UdpPorts::default(),
                    task_list_closed: false,
                    idr_complete: false,
                    lacks_members: false,
                    torn: 0,
                    connections_cut: 0,
                    chains_in_turn: false,
                    chains_round: 0,
                    connections_version: 0,
                    left: DeferredWork::default(),
                    work: ReadCost::default(),
                    losses: Losses::default(),
                }
            }

            /// Removes all rows but the interfaces.
            pub fn clear(&mut self) {
                $(self.$name.clear();)*
                self.modules.clear();
                self.bpf.clear();
                self.capability_sets.clear();
                self.udp_ports.clear();
                self.task_list_closed = false;
                self.idr_complete = false;
                self.lacks_members = false;
                self.torn = 0;
                self.connections_cut = 0;
                self.chains_in_turn = false;
                self.left = DeferredWork::default();
                self.work = ReadCost::default();
                self.losses = Losses::default();
            }

            /// How often the scan counts where a number of scans stands for a time: 1, or 0.
            pub(crate) const fn counts(&self) -> u8 {
                !self.is_early as u8
            }

            /// Whether the scan left more than what processes have that rest.
            pub fn is_partial(&self) -> bool {
                self.left.total() > u64::from(self.left.of_resting)
            }

            /// Number of rows of all tables.
            pub(crate) fn count_rows(&self) -> u64 {
                0 $(+ self.$name.len() as u64)*
            }

            /// Admits as many rows as `limits` allow, as far as there is room.
            pub(super) fn admit(&mut self, $limits: &Limits) {
                $(self.$name.set_capacity($capacity);)*
            }

            /// Adds the rows that did not fit to what the rounds themselves dropped.
            pub(super) fn count_dropped(&mut self) {
                let others = [self.interfaces.dropped, self.capability_sets.dropped];
                for dropped in [$(self.$name.dropped,)*].into_iter().chain(others) {
                    self.losses.dropped = self.losses.dropped.saturating_add(dropped);
                }
            }
        }
    };
    (@new AddressedRows, $capacity:expr, $key:expr) => { AddressedRows::new($capacity, $key) };
    (@new Rows, $capacity:expr, $key:expr) => { Rows::with_capacity($capacity) };
}

tables! { limits;
    /// Threads, including leaders.
    threads: AddressedRows<ThreadRow> = limits.threads_seen_max();
    /// Processes, oldest first.
    processes: Rows<ProcessRow> = limits.processes_seen_max();
    /// Hash of each process's threads and their run times; `None` if one of them can run.
    runs: Rows<Option<NonZeroU64>> = limits.processes_seen_max();
    /// Whether each process has not run since the last scan.
    rests: Rows<bool> = limits.processes_seen_max();
    /// Whether, in addition, the last scan left what the process has.
    left_before: Rows<bool> = limits.processes_seen_max();
    /// [`Snapshot::processes`], by process id.
    by_pid: Rows<Index<ProcessRow>> = limits.processes_seen_max();
    /// [`Snapshot::threads`], by process id and thread id; without `init_task`.
    by_tid: Rows<Index<ThreadRow>> = limits.threads_seen_max();
    files_structs: AddressedRows<FilesRow> = limits.processes_seen_max();
    /// Thread ids, grouped by table of descriptors.
    files_threads: Rows<u32> = limits.threads_seen_max();
    /// Descriptors, grouped by table; behind them the slots of rings, grouped by ring.
    descriptors: Rows<DescriptorRow> = limits.file_descriptors_seen_max();
    /// Rings of io_uring.
    rings: AddressedRows<RingRow> = RINGS_MAX;
    /// [`Snapshot::rings`], by table of descriptors.
    rings_by_table: Rows<Index<RingRow>> = RINGS_MAX;
    /// System V message queues that processes have used. Light scans have none.
    queues: Rows<QueueRow> = QUEUES_MAX;
    mms: AddressedRows<MmRow> = limits.processes_seen_max();
    /// Areas, grouped by address space.
    vmas: Rows<VmaRow> = limits.vmas_seen_max();
    files: AddressedRows<FileRow> = limits.files_seen_max();
    inodes: AddressedRows<InodeRow> = limits.files_seen_max();
    /// Names in directories: one for each file, and the directories above them.
    dentries: AddressedRows<DentryRow> = limits.files_seen_max() + limits.files_seen_max() / 4;
    mounts: AddressedRows<MountRow> = MOUNTS_MAX;
    super_blocks: AddressedRows<SuperBlockRow> = SUPER_BLOCKS_MAX;
    /// Names of areas, namespaces and buffers.
    names: AddressedRows<NameRow> = NAMES_MAX;
    /// Sets of control groups of tasks.
    css_sets: AddressedRows<CssSetRow> = limits.processes_seen_max() + CSS_SETS_MAX;
    /// Controllers' states in control groups.
    css_states: AddressedRows<CssStateRow> = CGROUPS_MAX;
    cgroups: AddressedRows<CgroupRow> = CGROUPS_MAX;
    /// Directories of control groups.
    kernfs_nodes: AddressedRows<KernfsRow> = CGROUPS_MAX;
    /// Containers, including enclosing ones; found by a hash of the path of their control group.
    containers: AddressedRows<ContainerRow> = limits.containers_seen_max();
    /// Network namespaces; the initial one first.
    nets: AddressedRows<NetRow> = NETS_MAX;
    /// User namespaces other than that of process 1, with those around them.
    user_namespaces: AddressedRows<UserNamespaceRow> = USER_NAMESPACES_MAX;
    /// TCP sockets.
    connections: Rows<ConnectionRow> = limits.connections_seen_max();
    /// Sockets that descriptors lead to, of every family.
    sockets: Rows<SocketRow> = limits.files_seen_max();
    /// Terminals that descriptors lead to, and their other ends.
    terminals: AddressedRows<TerminalRow> = TERMINALS_MAX;
    /// Tasks that have ended, in memory that the kernel has not used again. They are in no list.
    ended: Rows<Task> = ENDED_TASKS_MAX;
    /// Long names, command lines and other texts.
    bytes: Rows<u8> = limits.processes_seen_max() * 256 + (4 << 20);
}

// A busy machine has a million of these rows: what they need more, the processor's cache lacks.
const _: () = {
    assert!(size_of::<ThreadRow>() <= 256 && size_of::<ProcessRow>() <= 144);
    assert!(size_of::<DescriptorRow>() <= 12 && size_of::<FileRow>() <= 88);
    assert!(size_of::<InodeRow>() <= 96 && size_of::<DentryRow>() <= 112);
    assert!(size_of::<VmaRow>() <= 64 && size_of::<ConnectionRow>() <= 144);
};
