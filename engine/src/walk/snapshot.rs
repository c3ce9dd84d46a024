//! The result of one scan: facts in rows that refer to each other by index.
//!
//! All rows are allocated at start. A row that does not fit is counted in [`Rows::dropped`], and
//! references to it are [`NONE`].

use core::net::{Ipv4Addr, Ipv6Addr};
use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::cgroup::SUBSYS_MAX;
use panoptes_decoders::kernel::dentry::Name;
use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::mount::Mounted;
use panoptes_decoders::kernel::net_device::MAC_BYTES;
use panoptes_decoders::kernel::sock::{Counters, Endpoints};
use panoptes_decoders::kernel::super_block::Filesystem;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;

pub use super::containers::ContainerRow;
pub use super::ends::{SocketRow, TerminalRow};
pub use super::views::{Views, view};
pub use panoptes_tables::Rows;

/// An index that refers to nothing: the object does not exist, or could not be read.
pub const NONE: u32 = u32::MAX;

/// One thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRow {
    /// Decoded `task_struct`.
    pub task: Task,
    /// The views that show it: bits of [`view`].
    pub views: u16,
    /// Index of its process.
    pub process: u32,
    /// Index of its descriptor table.
    pub files: u32,
}

/// A file's path: a mount and a name on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathRef {
    pub mount: u32,
    pub dentry: u32,
}

impl Default for PathRef {
    fn default() -> Self {
        Self { mount: NONE, dentry: NONE }
    }
}

/// User and group ids of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
}

/// One process: a thread group, represented by its leader.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRow {
    /// Index of the leader's thread row.
    pub leader: u32,
    pub parent_pid: u32,
    /// User and group ids, if they could be read.
    pub ids: Option<Ids>,
    /// Number of the pid namespace, or 0.
    pub pid_namespace: u32,
    /// Number of the mount namespace, or 0.
    pub mount_namespace: u32,
    /// Number of the network namespace, or 0.
    pub network_namespace: u32,
    /// `struct uts_namespace *`
    pub uts_namespace: KernelVa,
    /// Index of the container that it is in.
    pub container: u32,
    /// Whether the container is known; if so, [`NONE`] means that it is in no container.
    pub container_known: bool,
    pub cwd: PathRef,
    /// Index of its address space.
    pub mm: u32,
    /// Index of its leader's control groups.
    pub css_set: u32,
    /// Index of its leader's descriptor table, or of another thread's if the leader has ended.
    pub files: u32,
    /// CPU time of its ended threads, in nanoseconds.
    pub ended_runtime_ns: u64,
    /// CPU time of its living threads, in nanoseconds.
    pub threads_runtime_ns: u64,
    /// Number of living threads.
    pub thread_count: u32,
    /// Whether its leader was unchanged at the end of the scan, so that the data is consistent.
    pub stable: bool,
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

impl Default for ProcessRow {
    fn default() -> Self {
        Self {
            leader: NONE,
            parent_pid: 0,
            ids: None,
            pid_namespace: 0,
            mount_namespace: 0,
            network_namespace: 0,
            uts_namespace: KernelVa::NULL,
            container: NONE,
            container_known: false,
            cwd: PathRef::default(),
            mm: NONE,
            css_set: NONE,
            files: NONE,
            ended_runtime_ns: 0,
            threads_runtime_ns: 0,
            thread_count: 0,
            stable: true,
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
    pub close_on_exec: KernelVa,
    /// Its descriptors, ascending.
    pub descriptors: Range<u32>,
    /// Its threads, as a range of [`Snapshot::files_threads`], ascending.
    pub threads: Range<u32>,
    /// Whether all its descriptors are in the rows.
    pub complete: bool,
}

/// One descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct DescriptorRow {
    pub index: u32,
    /// Index of the open file.
    pub file: u32,
    /// Whether it closes on exec.
    pub close_on_exec: bool,
    /// Whether it led elsewhere after its file was read, so that this scan has no data about it.
    pub moved: bool,
}

/// One address space, which several processes may share.
#[derive(Clone, Debug, Default)]
pub struct MmRow {
    /// `struct mm_struct *`
    pub address: KernelVa,
    /// Top page table.
    pub pgd: KernelVa,
    /// Root of the maple tree; zero where the kernel has none.
    pub ma_root: u64,
    /// The area at the root of the red-black tree, on kernels without maple trees.
    pub mm_rb: KernelVa,
    /// Index of the executable's open file.
    pub exe_file: u32,
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
    /// Its areas, ascending.
    pub vmas: Range<u32>,
    /// The command line, as a range of [`Snapshot::bytes`]; empty if there is none.
    pub command_line: Range<u32>,
    /// Whether the command line could be read.
    pub has_command_line: bool,
    /// Whether only its beginning was read: the rest is not resident, or not mapped.
    pub command_line_cut: bool,
    /// Whether all its areas are in the rows.
    pub complete: bool,
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
    /// Index of the mapped file.
    pub file: u32,
    /// Index of its own name, if it has one (`[vdso]`, `[anon:…]`).
    pub name: u32,
}

/// One open file.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileRow {
    /// `struct file *`
    pub address: KernelVa,
    pub open: OpenFile,
    /// Index of its inode.
    pub inode: u32,
    pub path: PathRef,
    /// Whether an area maps it.
    pub mapped: bool,
    /// Index of its TCP connection.
    pub connection: u32,
    /// Index of its socket.
    pub socket: u32,
    /// Index of its terminal.
    pub terminal: u32,
}

/// One inode.
#[derive(Clone, Copy, Debug, Default)]
pub struct InodeRow {
    /// `struct inode *`
    pub address: KernelVa,
    pub attributes: Attributes,
    /// Index of its filesystem.
    pub super_block: u32,
    /// Index in [`Snapshot::names`] of the name from its filesystem: for a namespace the kind
    /// (`net`), for a buffer shared between devices the name that users gave it.
    pub own_name: u32,
}

/// One filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuperBlockRow {
    /// `struct super_block *`
    pub address: KernelVa,
    pub filesystem: Filesystem,
}

/// Bytes of a name that fit the row itself.
pub(super) const NAME_INLINE_BYTES: usize = 40;

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct DentryRow {
    /// Decoded dentry.
    pub name: Name,
    /// Index of the directory's row; a root refers to itself.
    pub parent: u32,
    /// The name, if it is short.
    pub text: [u8; NAME_INLINE_BYTES],
    /// Start of the name in [`Snapshot::bytes`], if it is long.
    pub long: u32,
    /// Whether the name could be read.
    pub readable: bool,
}

impl Default for DentryRow {
    fn default() -> Self {
        Self {
            name: Name::default(),
            parent: NONE,
            text: [0; NAME_INLINE_BYTES],
            long: NONE,
            readable: false,
        }
    }
}

/// One mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountRow {
    /// `struct mount *`
    pub address: KernelVa,
    pub mounted: Mounted,
    /// Index of the dentry of its root.
    pub root: u32,
    /// Index of the mount that it is on; the top mount refers to itself.
    pub parent: u32,
    /// Index of the dentry that it covers.
    pub mountpoint: u32,
}

/// A short name: of a special mapping, an anonymous area, a kind of namespace, a buffer.
#[derive(Clone, Copy, Debug)]
pub struct NameRow {
    /// Address of the named object.
    pub address: KernelVa,
    /// Kind of the named object.
    pub kind: NameKind,
    /// Length of the text in bytes.
    pub length: u8,
    pub text: [u8; 80],
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
#[derive(Clone, Debug)]
pub struct CssSetRow {
    /// `struct css_set *`
    pub address: KernelVa,
    /// Index of the control group in the version 2 hierarchy.
    pub unified: u32,
    /// By controller, the index of its state in a control group.
    pub states: [u32; SUBSYS_MAX],
    /// Index of the container that the groups belong to.
    pub container: u32,
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
#[derive(Clone, Copy, Debug)]
pub struct CssStateRow {
    /// `struct cgroup_subsys_state *`
    pub address: KernelVa,
    /// Index of the control group.
    pub cgroup: u32,
}

/// A control group.
#[derive(Clone, Copy, Debug)]
pub struct CgroupRow {
    /// `struct cgroup *`
    pub address: KernelVa,
    /// Index of its directory.
    pub node: u32,
}

/// The directory of a control group.
#[derive(Clone, Debug)]
pub struct KernfsRow {
    /// `struct kernfs_node *`
    pub address: KernelVa,
    /// Index of the parent directory.
    pub parent: u32,
    /// Address of its name.
    pub name: KernelVa,
    /// Its name, as a range of [`Snapshot::bytes`], if it could be read.
    pub text: Option<Range<u32>>,
}

impl Default for KernfsRow {
    fn default() -> Self {
        Self { address: KernelVa::NULL, parent: NONE, name: KernelVa::NULL, text: None }
    }
}

/// One network namespace.
#[derive(Clone, Copy, Debug, Default)]
pub struct NetRow {
    /// `struct net *`
    pub address: KernelVa,
    /// Its number, or 0 while unknown.
    pub inum: u32,
    /// `struct inet_hashinfo *`: the table of its TCP sockets.
    pub hashinfo: KernelVa,
    /// List link of its first network device.
    pub first_device: KernelVa,
}

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRow {
    /// `struct sock *`
    pub address: KernelVa,
    pub endpoints: Endpoints,
    /// Counters; sockets in TIME_WAIT and SYN_RECEIVED have none.
    pub counters: Option<Counters>,
    /// `struct file *` of its descriptor; null if no process holds it.
    pub file: KernelVa,
    /// Inode number of a socket without a file, or 0.
    pub inode: u64,
    /// Number of the device that its route leaves through, or 0.
    pub route_device: u32,
    /// Number of its network namespace, or 0.
    pub network_namespace: u32,
}

/// One network interface of the watched machine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InterfaceRow {
    /// Name, NUL-padded.
    pub name: [u8; 16],
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; MAC_BYTES],
    /// Length of `mac` in bytes: 0 or 6.
    pub mac_length: u8,
    pub ipv4: AddressList<Ipv4Addr>,
    pub ipv6: AddressList<Ipv6Addr>,
    /// Number of its network namespace.
    pub network_namespace: u32,
}

/// Addresses of one family of one interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressList<T> {
    addresses: [Option<T>; 16],
    count: u8,
    /// Whether there were more addresses than fit.
    pub truncated: bool,
}

impl<T: Copy> Default for AddressList<T> {
    fn default() -> Self {
        Self { addresses: [None; 16], count: 0, truncated: false }
    }
}

impl<T: Copy> AddressList<T> {
    /// Adds an address, or sets `truncated` if the list is full.
    pub fn push(&mut self, address: T) {
        match self.addresses.get_mut(usize::from(self.count)) {
            Some(free) => {
                *free = Some(address);
                self.count += 1;
            }
            None => self.truncated = true,
        }
    }

    /// The addresses in the kernel's order.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.addresses.iter().flatten().copied()
    }
}

/// Numbers of objects that a scan could not read or had no room for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Objects that a list or table names but that could not be read.
    pub unreadable: u32,
    /// Lists or trees that did not end within their bound.
    pub unbounded: u32,
    pub dropped: u32,
    /// Attributes that are not resident (user memory swapped out or never touched).
    pub not_resident: u32,
}

/// Facts about the machine itself.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Host name, NUL-padded.
    pub hostname: [u8; 65],
    /// Calendar time minus time since boot, in nanoseconds, if known.
    pub boot_to_real_ns: Option<i64>,
    /// The machine's calendar time in seconds since 1970, if known.
    pub calendar_seconds: Option<i64>,
    /// Calendar time in nanoseconds since 1970, as of the last tick: the clock of file modification
    /// times (`tk_xtime`, kernel/time/timekeeping.c).
    pub calendar_ns: Option<i64>,
    /// A number that every tick changes, if known. It stands still while the machine is idle or
    /// stopped.
    pub ticks: Option<u64>,
    /// Rate of the processor's clock in kHz, if known.
    pub tsc_khz: Option<u32>,
    /// The kernel's random id of this boot; zeros until something in the guest reads it.
    pub boot_id: [u8; 16],
    /// Forks since boot, if known.
    pub total_forks: Option<u64>,
    /// The vsyscall page's area, if the kernel has one. /proc shows it in every process that
    /// [`MmRow::has_gate`].
    pub gate: Option<Vma>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            hostname: [0; 65],
            boot_to_real_ns: None,
            calendar_seconds: None,
            calendar_ns: None,
            ticks: None,
            tsc_khz: None,
            boot_id: [0; 16],
            total_forks: None,
            gate: None,
        }
    }
}

/// The result of one scan.
#[derive(Debug)]
pub struct Snapshot {
    pub machine: Machine,
    /// Threads, including leaders.
    pub threads: Rows<ThreadRow>,
    /// Processes, oldest first.
    pub processes: Rows<ProcessRow>,
    /// Indexes of [`Snapshot::processes`], by process id.
    pub by_pid: Rows<u32>,
    /// Indexes of [`Snapshot::threads`], by process id and thread id; without `init_task`.
    pub by_tid: Rows<u32>,
    pub files_structs: Rows<FilesRow>,
    /// Thread ids, grouped by table of descriptors.
    pub files_threads: Rows<u32>,
    /// Descriptors, grouped by table.
    pub descriptors: Rows<DescriptorRow>,
    pub mms: Rows<MmRow>,
    /// Areas, grouped by address space.
    pub vmas: Rows<VmaRow>,
    pub files: Rows<FileRow>,
    pub inodes: Rows<InodeRow>,
    /// Names in directories.
    pub dentries: Rows<DentryRow>,
    pub mounts: Rows<MountRow>,
    pub super_blocks: Rows<SuperBlockRow>,
    /// Names of areas, namespaces and buffers.
    pub names: Rows<NameRow>,
    /// Sets of control groups of tasks.
    pub css_sets: Rows<CssSetRow>,
    /// Controllers' states in control groups.
    pub css_states: Rows<CssStateRow>,
    pub cgroups: Rows<CgroupRow>,
    /// Directories of control groups.
    pub kernfs_nodes: Rows<KernfsRow>,
    /// Containers, including enclosing ones.
    pub containers: Rows<ContainerRow>,
    /// Network namespaces; the initial one first.
    pub nets: Rows<NetRow>,
    /// TCP sockets.
    pub connections: Rows<ConnectionRow>,
    /// Sockets that descriptors lead to, of every family.
    pub sockets: Rows<SocketRow>,
    /// Terminals that descriptors lead to, and their other ends.
    pub terminals: Rows<TerminalRow>,
    pub interfaces: Rows<InterfaceRow>,
    /// Long names, command lines and other texts.
    pub bytes: Rows<u8>,
    /// Whether the task list was followed all around, so that absence from it is meaningful.
    pub task_list_closed: bool,
    /// Whether the pid IDR was read completely.
    pub idr_complete: bool,
    /// Objects that could not be read or did not fit.
    pub losses: Losses,
}
