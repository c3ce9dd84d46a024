//! The result of one scan: facts in rows that refer to each other by [`Index`].
//!
//! All rows are allocated at start. A row that does not fit is counted in [`Rows::dropped`], and
//! references to it are `None`, as those to an object that does not exist or cannot be read.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU32;
use core::ops::Range;

use super::capability_sets::CapabilitySetId;
pub use super::container_rows::{ContainerRow, HostName};
pub use super::sockets::SocketRow;
use super::stability::TaskFate;
pub use super::terminals::TerminalRow;
use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::cgroup::SUBSYS_MAX;
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::mount::MountLinks;
use panoptes_decoders::kernel::net_device::MAC_BYTES;
use panoptes_decoders::kernel::sock::{Endpoints, TcpCounters};
use panoptes_decoders::kernel::super_block::Filesystem;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_tables::AddressedRows;
pub use panoptes_tables::{Index, Rows, Span};

/// Makes a row of the object at an address.
macro_rules! rows_of_objects {
    ($($row:ident)+) => {$(
        impl From<KernelVa> for $row {
            fn from(address: KernelVa) -> Self {
                Self { address, ..Self::default() }
            }
        }
    )+};
}

rows_of_objects! {
    CgroupRow CssSetRow CssStateRow FileRow InodeRow KernfsRow MountRow NetRow SuperBlockRow
    TerminalRow UserNamespaceRow
}

impl From<KernelVa> for DentryRow {
    fn from(address: KernelVa) -> Self {
        Self { name: DirectoryEntry { address, ..DirectoryEntry::default() }, ..Self::default() }
    }
}

/// The row of the object at an address, which is added if it is new and there is room.
pub(super) fn row_at<Row: From<KernelVa>>(
    rows: &mut AddressedRows<Row>,
    address: KernelVa,
) -> Option<Index<Row>> {
    rows.row_of(address.0, || address.into())
}

/// The views that show a thread, as bits.
pub mod view {
    /// Its `struct pid` is in the pid IDR.
    pub const IDR: u16 = 1;
    /// The task list (processes only).
    pub const TASK_LIST: u16 = 1 << 1;
    /// Its thread group's list.
    pub const THREAD_GROUP: u16 = 1 << 2;
    /// The list of tasks of its `struct pid`.
    pub const PID_LIST: u16 = 1 << 3;
    /// A list of children (processes only).
    pub const CHILDREN: u16 = 1 << 4;
    /// The list of tasks of a `css_set`.
    pub const CONTROL_GROUP: u16 = 1 << 5;
    /// The list of a process group (processes only).
    pub const PROCESS_GROUP: u16 = 1 << 6;
    /// The list of a session (processes only).
    pub const SESSION: u16 = 1 << 7;
    /// A run queue, in this scan or, as long as no list shows the task, in an earlier one.
    pub const RUN_QUEUE: u16 = 1 << 8;
    /// Another task names it as its parent or leader; only noted if neither the IDR nor the task
    /// list shows it.
    pub const NAMED: u16 = 1 << 9;
    /// It is still where the previous scan found it; only noted if neither the IDR nor the task
    /// list shows it.
    pub const REMEMBERED: u16 = 1 << 10;
    /// Not a view: its own list of children was followed to its end.
    pub(in crate::walk) const CHILDREN_CLOSED: u16 = 1 << 15;
    /// The views that show every process from its creation to its end.
    pub const CERTAIN: u16 = IDR | TASK_LIST | THREAD_GROUP | PID_LIST | CHILDREN;
}

/// A set of views: bits of [`view`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Views(pub u16);

impl Views {
    pub const NONE: Self = Self(0);

    /// Whether the set has no view.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The views in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set has one of these [`view`]s.
    pub const fn has(self, views: u16) -> bool {
        self.0 & views != 0
    }
}

/// One thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRow {
    /// Decoded `task_struct`.
    pub task: Task,
    /// The views that show it: bits of [`view`].
    pub views: u16,
    /// Whether the kernel counts more threads of its process than the scan has. Only the first
    /// thread has it.
    pub lacks_threads: bool,
    pub process: Option<Index<ProcessRow>>,
    /// Its descriptor table.
    pub files: Option<Index<FilesRow>>,
}

impl ThreadRow {
    pub fn new(task: Task) -> Self {
        Self { task, ..Self::default() }
    }
}

/// A file's path: a mount and a name on it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PathRef {
    pub mount: Option<Index<MountRow>>,
    pub dentry: Option<Index<DentryRow>>,
}

/// User and group ids of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UserGroupIds {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
}

/// One process: a thread group, represented by its leader.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRow {
    pub leader: Index<ThreadRow>,
    pub parent_pid: u32,
    /// User and group ids, if they could be read.
    pub ids: Option<UserGroupIds>,
    /// The user who made its user namespace, or the outermost one around it; if that is unknown,
    /// its own. `None`: root, who made the first one.
    pub namespace_maker: Option<NonZeroU32>,
    /// The number of its owner, among whom rows of a scan are divided.
    pub owner: u32,
    /// Number of the pid namespace, or 0.
    pub pid_namespace: u32,
    /// Number of the mount namespace, or 0.
    pub mount_namespace: u32,
    /// Network namespace.
    pub net: Option<Index<NetRow>>,
    /// `struct uts_namespace *`
    pub uts_namespace: KernelVa,
    pub container: Option<Index<ContainerRow>>,
    /// Whether the container is known; if so, `None` means that it is in no container.
    pub container_known: bool,
    pub cwd: PathRef,
    /// Its address space.
    pub mm: Option<Index<MmRow>>,
    /// Its leader's control groups.
    pub css_set: Option<Index<CssSetRow>>,
    /// Its leader's descriptor table, or another thread's if the leader has ended.
    pub files: Option<Index<FilesRow>>,
    /// CPU time of its ended threads, in nanoseconds.
    pub ended_runtime_ns: u64,
    /// CPU time of its living threads, in nanoseconds.
    pub threads_runtime_ns: u64,
    /// Its threads in [`super::Snapshot::by_tid`], ascending by thread id.
    pub threads: Span<Index<ThreadRow>>,
    /// Whether its leader, program and address space were unchanged at the end of the scan, so that
    /// the data about them is consistent.
    pub stable: bool,
    /// What the end of the scan showed of its leader.
    pub fate: TaskFate,
    /// Whether its leader had the same descriptor table at the end of the scan.
    pub files_stable: bool,
    /// First entry of its signal's list of threads, if readable: the address of a `thread_node`.
    pub first_thread: Option<KernelVa>,
    /// First entry of its `struct pid`'s list of tasks, if readable: the address of its
    /// `pid_links`.
    pub first_of_pid: Option<KernelVa>,
    /// Views that must show it, were read completely and do not show it: [`view`].
    pub missing: Views,
    /// Views that must show it but were not read completely in this scan.
    pub unknown: Views,
}

impl ProcessRow {
    pub const fn new(leader: Index<ThreadRow>) -> Self {
        Self {
            leader,
            parent_pid: 0,
            ids: None,
            namespace_maker: None,
            owner: 0,
            pid_namespace: 0,
            mount_namespace: 0,
            net: None,
            uts_namespace: KernelVa::NULL,
            container: None,
            container_known: false,
            cwd: PathRef { mount: None, dentry: None },
            mm: None,
            css_set: None,
            files: None,
            ended_runtime_ns: 0,
            threads_runtime_ns: 0,
            threads: Span::new(0, 0),
            stable: true,
            fate: TaskFate::Lives,
            files_stable: true,
            first_thread: None,
            first_of_pid: None,
            missing: Views::NONE,
            unknown: Views::NONE,
        }
    }
}

/// One descriptor table, which several processes may share.
#[derive(Clone, Debug, Default)]
pub struct FilesRow {
    /// `struct files_struct *`
    pub address: KernelVa,
    /// `struct fdtable *`
    pub table: KernelVa,
    /// Capacity of the table in descriptors, bounded.
    pub max_fds: u32,
    /// `struct file **`
    pub fd: KernelVa,
    /// `unsigned long *`
    pub open_fds: KernelVa,
    /// `unsigned long *`
    pub close_on_exec: KernelVa,
    /// Its descriptors, ascending.
    pub descriptors: Span<DescriptorRow>,
    /// Its threads, in [`super::Snapshot::files_threads`], ascending.
    pub threads: Span<u32>,
    /// Number of processes that have it as their own.
    pub processes: u32,
    /// Whether all its descriptors are in the rows.
    pub complete: bool,
    /// Number of its descriptors for which there were no rows.
    pub dropped: u32,
    /// The first process that leads to it, and whether a light scan reads only its first slots.
    pub process: Option<Index<ProcessRow>>,
    pub rests: bool,
    /// Number of descriptors that it may have in the rows.
    pub most: u32,
    /// Slots that the scan has although the table is not complete: those before this one, and a
    /// range of others.
    pub first_slots: u32,
    pub more_slots: Range<u32>,
}

impl FilesRow {
    /// Whether the scan has none of its slots.
    pub fn is_unknown(&self) -> bool {
        !self.complete && self.first_slots == 0 && self.more_slots.is_empty()
    }

    /// Whether the scan has a slot, so that absence from it is meaningful.
    pub fn has_slot(&self, index: u32) -> bool {
        self.complete || index < self.first_slots || self.more_slots.contains(&index)
    }

    /// Whether there were rows for only some of its descriptors.
    pub const fn is_cut(&self) -> bool {
        self.dropped > 0
    }

    /// Whether this scan and the ones right before it have every slot, which they shared.
    pub fn ends_a_round(&self) -> bool {
        self.complete || self.more_slots.end >= self.max_fds && !self.more_slots.is_empty()
    }
}

/// One descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescriptorRow {
    pub index: u32,
    /// The open file.
    pub file: Option<Index<FileRow>>,
    /// Whether it closes on exec.
    pub close_on_exec: bool,
    /// Whether that could not be read.
    pub close_on_exec_unknown: bool,
    /// Whether it led elsewhere after its file was read, so that this scan has no data about it.
    pub moved: bool,
}

/// One address space, which several processes may share.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct MmRow {
    /// `struct mm_struct *`
    pub address: KernelVa,
    /// Top page table.
    pub pgd: KernelVa,
    /// Root of the maple tree; zero where the kernel has none.
    pub ma_root: u64,
    /// The area at the root of the red-black tree, on kernels without maple trees.
    pub mm_rb: KernelVa,
    /// The executable's open file.
    pub exe_file: Option<Index<FileRow>>,
    /// `struct file *` of the executable.
    pub exe_address: KernelVa,
    /// Number of areas by the kernel's count.
    pub map_count: u32,
    /// Address range of the arguments.
    pub arguments: Range<u64>,
    /// Address range of the environment.
    pub environment: Range<u64>,
    /// Address range of the heap.
    pub heap: Range<u64>,
    /// An address in the initial stack.
    pub start_stack: u64,
    /// `MM_CONTEXT_*` bits.
    pub context_flags: u64,
    /// Its number: each new address space has a higher one. Zero where the kernel gives none.
    pub ctx_id: u64,
    /// Its areas, ascending.
    pub vmas: Span<VmaRow>,
    /// The command line, in [`super::Snapshot::bytes`]; empty if there is none.
    pub command_line: Span<u8>,
    /// Whether the command line could be read.
    pub has_command_line: bool,
    /// Whether only its beginning was read: the rest is not resident, or not mapped.
    pub command_line_cut: bool,
    /// Number of bytes that its command line may have.
    pub line_bytes: u32,
    /// Whether all its areas are in the rows.
    pub complete: bool,
    /// Whether the scan left its areas, or some of their files; of these, what a light scan leaves.
    pub left: bool,
    pub rests: bool,
    /// Number of areas and nodes of its tree that were listed.
    pub listed: u32,
    /// Number of further areas that it may have in the rows.
    pub areas_left: u32,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Capabilities of that process, if it is not root, in [`super::Snapshot::capability_sets`].
    pub capabilities: CapabilitySetId,
}

impl MmRow {
    /// Whether /proc shows the vsyscall page among its areas: `MM_CONTEXT_HAS_VSYSCALL`
    /// (arch/x86/include/asm/mmu.h), which 64-bit programs have.
    pub const fn has_gate(&self) -> bool {
        self.context_flags & 2 != 0
    }
}

/// One memory area.
#[derive(Clone, Copy, Debug, Default)]
pub struct VmaRow {
    /// Decoded `vm_area_struct`. The file offset is in pages of 4 KiB, whatever the kernel's page
    /// size.
    pub vma: Vma,
    /// The mapped file.
    pub file: Option<Index<FileRow>>,
    /// Its own name, if it has one (`[vdso]`, `[anon:…]`).
    pub name: Option<Index<NameRow>>,
    pub mm: Option<Index<MmRow>>,
    /// Whether something other than anonymous memory is behind it: a file, a driver, the kernel.
    pub has_ops: bool,
}

/// One open file.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileRow {
    /// `struct file *`
    pub address: KernelVa,
    pub open: OpenFile,
    pub inode: Option<Index<InodeRow>>,
    pub path: PathRef,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Whether an area maps it.
    pub mapped: bool,
    /// Its TCP connection.
    pub connection: Option<Index<ConnectionRow>>,
    pub socket: Option<Index<SocketRow>>,
    pub terminal: Option<Index<TerminalRow>>,
}

/// One inode.
#[derive(Clone, Copy, Debug, Default)]
pub struct InodeRow {
    /// `struct inode *`
    pub address: KernelVa,
    pub attributes: Attributes,
    /// Its filesystem.
    pub super_block: Option<Index<SuperBlockRow>>,
    /// The name from its filesystem: for a namespace the kind (`net`), for a buffer shared between
    /// devices the name that users gave it.
    pub own_name: Option<Index<NameRow>>,
}

impl InodeRow {
    /// Whether it was read. A living inode has a number, or at least permissions.
    pub const fn was_read(&self) -> bool {
        self.attributes.ino != 0 || self.attributes.mode != 0
    }
}

/// One filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuperBlockRow {
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// `struct super_block *`
    pub address: KernelVa,
    /// Whether it could be read.
    pub was_read: bool,
    pub filesystem: Filesystem,
}

/// Bytes of a name that fit the row itself.
pub(super) const NAME_INLINE_BYTES: usize = 40;

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct DentryRow {
    /// Decoded dentry.
    pub name: DirectoryEntry,
    /// The directory; a root refers to itself.
    pub parent: Option<Index<DentryRow>>,
    /// The name, if it is short.
    pub text: [u8; NAME_INLINE_BYTES],
    /// Start of the name in [`super::Snapshot::bytes`], if it is long.
    pub long: Option<Index<u8>>,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Whether the name could be read.
    pub readable: bool,
}

impl Default for DentryRow {
    fn default() -> Self {
        Self {
            name: DirectoryEntry::default(),
            parent: None,
            text: [0; NAME_INLINE_BYTES],
            long: None,
            process: None,
            readable: false,
        }
    }
}

/// One mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountRow {
    /// `struct mount *`
    pub address: KernelVa,
    /// Whether it could be read.
    pub was_read: bool,
    pub mounted: MountLinks,
    /// The dentry of its root.
    pub root: Option<Index<DentryRow>>,
    /// The mount that it is on; the top mount refers to itself.
    pub parent: Option<Index<Self>>,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// The dentry that it covers.
    pub mountpoint: Option<Index<DentryRow>>,
}

/// A short name: of a special mapping, an anonymous area, a kind of namespace, a buffer.
#[derive(Clone, Copy, Debug)]
pub struct NameRow {
    /// Address of the named object.
    pub address: KernelVa,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Kind of the named object.
    pub kind: NameKind,
    /// Length of the text in bytes.
    pub length: u8,
    pub text: [u8; 80],
    /// Whether the text was read. Some objects have an empty one.
    pub was_read: bool,
}

/// What a [`NameRow`] names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameKind {
    /// A special mapping: `[vdso]`.
    SpecialMapping,
    /// An area named by its process (`PR_SET_VMA_ANON_NAME`), without brackets.
    AnonVma,
    /// A kind of namespace: `net`.
    Namespace,
    /// A buffer shared between devices, by the name that its users gave it.
    DmaBuf,
}

impl NameRow {
    pub fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or(&[])
    }
}

/// The control groups of a task, one in each hierarchy. Tasks share them.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct CssSetRow {
    /// `struct css_set *`
    pub address: KernelVa,
    /// The first process that is in it.
    pub process: Option<Index<ProcessRow>>,
    /// The control group in the version 2 hierarchy.
    pub unified: Option<Index<CgroupRow>>,
    /// State of each controller in a control group.
    pub states: [Option<Index<CssStateRow>>; SUBSYS_MAX],
    /// Whether the state of a controller found no room.
    pub states_cut: bool,
    /// The container that the groups belong to.
    pub container: Option<Index<ContainerRow>>,
    /// Whether the container is known.
    pub known: bool,
    /// Whether a scanned task uses it; otherwise it was found only through the kernel's table.
    pub is_used: bool,
    /// First of its tasks: the address of a `cg_list`, or of the list head.
    pub first_task: KernelVa,
    /// First of the tasks that are being moved, in the same form.
    pub first_moving: KernelVa,
    /// Whether its lists of tasks could be followed to the end.
    pub closed: bool,
}

/// The state of one controller in a control group.
#[derive(Clone, Copy, Debug, Default)]
pub struct CssStateRow {
    /// `struct cgroup_subsys_state *`
    pub address: KernelVa,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// The control group.
    pub cgroup: Option<Index<CgroupRow>>,
}

/// A control group.
#[derive(Clone, Copy, Debug, Default)]
pub struct CgroupRow {
    /// `struct cgroup *`
    pub address: KernelVa,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Its directory.
    pub node: Option<Index<KernfsRow>>,
}

/// The directory of a control group.
#[derive(Clone, Debug, Default)]
pub struct KernfsRow {
    /// `struct kernfs_node *`
    pub address: KernelVa,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// The parent directory.
    pub parent: Option<Index<Self>>,
    /// Whether it is the root of a hierarchy. Any other directory without a parent here is one
    /// whose place is unknown.
    pub is_root: bool,
    /// Address of its name.
    pub name: KernelVa,
    /// Its name, in [`super::Snapshot::bytes`], if it could be read.
    pub text: Option<Span<u8>>,
    /// `struct kernfs_iattrs *`; null where root owns it.
    pub iattr: KernelVa,
    /// The user who owns it, if that could be read.
    pub owner: Option<u32>,
}

/// One network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetRow {
    /// `struct net *`
    pub address: KernelVa,
    /// The first process that leads to it.
    pub process: Option<Index<ProcessRow>>,
    /// Its number, or 0 while unknown.
    pub inum: u32,
    /// `struct inet_hashinfo *`: the table of its TCP sockets; and of its UDP sockets, since v6.2.
    pub hashinfo: KernelVa,
    pub udp_table: KernelVa,
    /// List links of its first and of its last network device.
    pub first_device: KernelVa,
    pub last_device: KernelVa,
    /// Whether some of its TCP sockets were left out, so that a missing one need not have ended.
    pub connections_cut: bool,
}

/// A user namespace other than that of process 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserNamespaceRow {
    /// `struct user_namespace *`
    pub address: KernelVa,
    /// `struct user_namespace *` in which it was made; null while unknown.
    pub parent: KernelVa,
    /// The user who made it.
    pub owner: u32,
}

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRow {
    /// `struct sock *`
    pub address: KernelVa,
    pub endpoints: Endpoints,
    /// Counters; sockets in TIME_WAIT and SYN_RECEIVED have none.
    pub counters: Option<TcpCounters>,
    /// `struct file *` of its descriptor; null if no process holds it.
    pub file: KernelVa,
    /// Inode number of a socket without a file, or 0.
    pub inode: u64,
    /// Number of the device that its route leaves through, 0, or [`super::UNREAD_DEVICE`].
    pub route_device: u32,
    /// Network namespace.
    pub net: Option<Index<NetRow>>,
}

impl ConnectionRow {
    /// The 4-tuple.
    pub(super) const fn tuple(&self) -> (&IpAddr, u16, &IpAddr, u16) {
        let ends = &self.endpoints;
        (&ends.source, ends.source_port, &ends.destination, ends.destination_port)
    }
}

/// One network interface of the watched machine.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InterfaceRow {
    /// Name, NUL-padded.
    pub name: [u8; 16],
    pub index: u32,
    /// Hardware address, if it has one of that length.
    pub mac: Option<[u8; MAC_BYTES]>,
    /// Its addresses in the kernel's order, as far as there is room.
    pub ipv4: ArrayVec<Ipv4Addr, 16>,
    pub ipv6: ArrayVec<Ipv6Addr, 16>,
    /// Number of its network namespace.
    pub network_namespace: u32,
}
