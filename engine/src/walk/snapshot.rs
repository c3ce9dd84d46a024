//! What one scan saw: facts in rows, referring to each other by index.
//!
//! All rows are allocated at start. A row that does not fit is counted in [`Rows::dropped`], and whatever
//! refers to it says [`NONE`].

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
pub use super::rows::Rows;
pub use super::views::{Views, view};

/// An index that refers to nothing: there is none, or it could not be read.
pub const NONE: u32 = u32::MAX;

/// One thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRow {
    /// What its `task_struct` says.
    pub task: Task,
    /// Where it was seen: [`view`].
    pub views: u16,
    /// Index of its process.
    pub process: u32,
    /// Index of its table of descriptors.
    pub files: u32,
}

/// A file's place: on which mount, under which name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathRef {
    /// Index of the mount.
    pub mount: u32,
    /// Index of the dentry.
    pub dentry: u32,
}

impl Default for PathRef {
    fn default() -> Self {
        Self { mount: NONE, dentry: NONE }
    }
}

/// Users and groups of a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Ids {
    /// Real user.
    pub uid: u32,
    /// Real group.
    pub gid: u32,
    /// Effective user.
    pub euid: u32,
    /// Effective group.
    pub egid: u32,
}

/// One process: a thread group, shown by its leader.
#[derive(Clone, Copy, Debug)]
pub struct ProcessRow {
    /// Index of the leader's thread row.
    pub leader: u32,
    /// Process id of the parent.
    pub parent_pid: u32,
    /// Users and groups, when they could be read.
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
    /// Whether that could be found out, so that none means none.
    pub container_known: bool,
    /// Current directory.
    pub cwd: PathRef,
    /// Index of its address space.
    pub mm: u32,
    /// Index of its leader's control groups.
    pub css_set: u32,
    /// Index of its leader's table of descriptors; of another thread's when the leader has ended.
    pub files: u32,
    /// Nanoseconds that its ended threads ran.
    pub ended_runtime_ns: u64,
    /// Nanoseconds that its living threads ran.
    pub threads_runtime_ns: u64,
    /// How many living threads were seen.
    pub thread_count: u32,
    /// Whether it was still the same at the end of the scan, so that what was read belongs together.
    pub stable: bool,
    /// First of its signal's list of threads, if that could be read: the address of its `thread_node`.
    pub first_thread: Option<KernelVa>,
    /// First of its `struct pid`'s list of tasks, if that could be read: the address of its `pid_links`.
    pub first_of_pid: Option<KernelVa>,
    /// Views that would show it if nobody had taken it out, that were whole, and that do not show it: [`view`].
    pub missing: Views,
    /// Views that would, of which this scan cannot say.
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

/// One table of descriptors, which several processes may share.
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
    /// Its number.
    pub index: u32,
    /// Index of the open file.
    pub file: u32,
    /// Whether it closes on exec.
    pub close_on_exec: bool,
    /// Whether it led elsewhere when its file had been read, so that nothing is known of it in this scan.
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
    /// The area at the root of the red-black tree, where the kernel has that instead.
    pub mm_rb: KernelVa,
    /// Index of the executable's open file.
    pub exe_file: u32,
    /// `struct file *` of the executable.
    pub exe_address: KernelVa,
    /// How many areas the kernel counts.
    pub map_count: u32,
    /// Where arguments begin and end.
    pub arguments: Range<u64>,
    /// Where the environment begins and ends.
    pub environment: Range<u64>,
    /// Where the heap begins and ends.
    pub heap: Range<u64>,
    /// An address in the initial stack.
    pub start_stack: u64,
    /// `MM_CONTEXT_*` bits.
    pub context_flags: u64,
    /// Its areas, ascending.
    pub vmas: Range<u32>,
    /// The command line, as a range of [`Snapshot::bytes`]; empty when there is none.
    pub command_line: Range<u32>,
    /// Whether the command line could be read.
    pub has_command_line: bool,
    /// Whether that is only its beginning: the rest is not resident, or not even mapped.
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

/// One area of memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct VmaRow {
    /// What its `vm_area_struct` says; the offset in its file in pages of 4 KiB, whatever the kernel's own have.
    pub vma: Vma,
    /// Index of the mapped file.
    pub file: u32,
    /// Index of its name, if it has one of its own (`[vdso]`, `[anon:…]`).
    pub name: u32,
}

/// One open file.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileRow {
    /// `struct file *`
    pub address: KernelVa,
    /// What it says.
    pub open: OpenFile,
    /// Index of its inode.
    pub inode: u32,
    /// Its place.
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
    /// What it says.
    pub attributes: Attributes,
    /// Index of its filesystem.
    pub super_block: u32,
    /// Index in [`Snapshot::names`] of what its filesystem calls it by: for a namespace the kind's name
    /// (`net`), for a buffer shared between devices the one that its users gave it.
    pub own_name: u32,
}

/// One filesystem.
#[derive(Clone, Copy, Debug, Default)]
pub struct SuperBlockRow {
    /// `struct super_block *`
    pub address: KernelVa,
    /// What it says.
    pub filesystem: Filesystem,
}

/// Bytes of a name that are kept in the row itself.
pub(super) const NAME_INLINE_BYTES: usize = 40;

/// One name in a directory.
#[derive(Clone, Copy, Debug)]
pub struct DentryRow {
    /// What its dentry says.
    pub name: Name,
    /// Index of the directory's row; its own at a root.
    pub parent: u32,
    /// The name when it is short.
    pub text: [u8; NAME_INLINE_BYTES],
    /// Where the name is in [`Snapshot::bytes`] when it is long.
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
    /// What it says.
    pub mounted: Mounted,
    /// Index of the dentry of its root.
    pub root: u32,
    /// Index of the mount that it is on; its own at the top.
    pub parent: u32,
    /// Index of the dentry that it covers.
    pub mountpoint: u32,
}

/// A short name: of a special mapping, an anonymous area, a kind of namespace, a buffer.
#[derive(Clone, Copy, Debug)]
pub struct NameRow {
    /// Where it was read.
    pub address: KernelVa,
    /// What kind of object lay there.
    pub kind: NameKind,
    /// Count of bytes.
    pub length: u8,
    /// The bytes.
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
    /// A buffer shared between devices, by what its users call it.
    DmaBuf,
}

impl NameRow {
    /// The name.
    pub fn text(&self) -> &[u8] {
        self.text.get(..usize::from(self.length)).unwrap_or(&[])
    }
}

/// The control groups of a task, one in each hierarchy; tasks share them.
#[derive(Clone, Debug)]
pub struct CssSetRow {
    /// `struct css_set *`
    pub address: KernelVa,
    /// Index of the control group in the version 2 hierarchy.
    pub unified: u32,
    /// By controller, the index of its part of a control group.
    pub states: [u32; SUBSYS_MAX],
    /// Index of the container that they are of.
    pub container: u32,
    /// Whether that could be found out.
    pub known: bool,
    /// Whether a task that was seen has them; otherwise only the kernel's table of them does.
    pub is_used: bool,
    /// First of its tasks: the address of its `cg_list`, or of the list's head.
    pub first_task: KernelVa,
    /// First of its tasks that are being moved, in the same way.
    pub first_moving: KernelVa,
    /// Whether the list of its tasks could be followed to its end.
    pub closed: bool,
}

/// A controller's part of a control group.
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
    /// Index of the directory above.
    pub parent: u32,
    /// Where its name lies.
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
    /// Its number, or 0 while it is not known.
    pub inum: u32,
    /// `struct inet_hashinfo *`: the table of its TCP sockets.
    pub hashinfo: KernelVa,
    /// Link of its first network device.
    pub first_device: KernelVa,
}

/// One TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRow {
    /// `struct sock *`
    pub address: KernelVa,
    /// Addresses, ports, state.
    pub endpoints: Endpoints,
    /// Counters; sockets in TIME_WAIT and SYN_RECEIVED have none.
    pub counters: Option<Counters>,
    /// `struct file *` of its descriptor; null when nobody holds it.
    pub file: KernelVa,
    /// Inode number of a socket that has no file; 0 where it has one, or there is none.
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
    /// Number.
    pub index: u32,
    /// Hardware address.
    pub mac: [u8; MAC_BYTES],
    /// How many bytes of it there are: 0 or 6.
    pub mac_length: u8,
    /// IPv4 addresses.
    pub ipv4: AddressList<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: AddressList<Ipv6Addr>,
    /// Number of its network namespace.
    pub network_namespace: u32,
}

/// Addresses of one family of one interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressList<T> {
    addresses: [Option<T>; 16],
    count: u8,
    /// Whether there were more than fit.
    pub truncated: bool,
}

impl<T: Copy> Default for AddressList<T> {
    fn default() -> Self {
        Self { addresses: [None; 16], count: 0, truncated: false }
    }
}

impl<T: Copy> AddressList<T> {
    /// Adds an address.
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

/// What could not be read or did not fit, by kind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Losses {
    /// Objects that a list or table names and that could not be read.
    pub unreadable: u32,
    /// Lists or trees that did not close within their bound.
    pub unbounded: u32,
    /// Objects that did not fit.
    pub dropped: u32,
    /// Attributes that are not resident (user memory swapped or never touched).
    pub not_resident: u32,
}

/// Facts about the machine itself.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Host name, NUL-padded.
    pub hostname: [u8; 65],
    /// Nanoseconds from boot time to calendar time, when known.
    pub boot_to_real_ns: Option<i64>,
    /// Calendar time by its own clock, in seconds since 1970, when known.
    pub calendar_seconds: Option<i64>,
    /// The same in nanoseconds, as of the last tick: the clock by which files are modified (`tk_xtime`,
    /// kernel/time/timekeeping.c).
    pub calendar_ns: Option<i64>,
    /// A number that every tick of its clock makes another, when known. It stands still in a machine that is idle, and in one
    /// that does not run.
    pub ticks: Option<u64>,
    /// Rate of the processor's clock in kHz, when known.
    pub tsc_khz: Option<u32>,
    /// The kernel's random id of this boot; all zeros until something in the guest asked for it.
    pub boot_id: [u8; 16],
    /// Forks since boot, when known.
    pub total_forks: Option<u64>,
    /// The vsyscall page's area, if the kernel offers it: /proc shows it in every process that
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

/// What one scan saw.
#[derive(Debug)]
pub struct Snapshot {
    /// The machine itself.
    pub machine: Machine,
    /// Threads; leaders too.
    pub threads: Rows<ThreadRow>,
    /// Processes, oldest first.
    pub processes: Rows<ProcessRow>,
    /// Indexes of [`Snapshot::processes`], by process id.
    pub by_pid: Rows<u32>,
    /// Indexes of [`Snapshot::threads`], by process id and thread id; without `init_task`.
    pub by_tid: Rows<u32>,
    /// Tables of descriptors.
    pub files_structs: Rows<FilesRow>,
    /// Thread ids, grouped by table of descriptors.
    pub files_threads: Rows<u32>,
    /// Descriptors, grouped by table.
    pub descriptors: Rows<DescriptorRow>,
    /// Address spaces.
    pub mms: Rows<MmRow>,
    /// Areas, grouped by address space.
    pub vmas: Rows<VmaRow>,
    /// Open files.
    pub files: Rows<FileRow>,
    /// Inodes.
    pub inodes: Rows<InodeRow>,
    /// Names in directories.
    pub dentries: Rows<DentryRow>,
    /// Mounts.
    pub mounts: Rows<MountRow>,
    /// Filesystems.
    pub super_blocks: Rows<SuperBlockRow>,
    /// Names of areas and namespaces.
    pub names: Rows<NameRow>,
    /// Control groups of tasks.
    pub css_sets: Rows<CssSetRow>,
    /// Controllers' parts of control groups.
    pub css_states: Rows<CssStateRow>,
    /// Control groups.
    pub cgroups: Rows<CgroupRow>,
    /// Directories of control groups.
    pub kernfs_nodes: Rows<KernfsRow>,
    /// Containers, and those around them.
    pub containers: Rows<ContainerRow>,
    /// Network namespaces; the initial one first.
    pub nets: Rows<NetRow>,
    /// TCP sockets.
    pub connections: Rows<ConnectionRow>,
    /// Sockets that descriptors lead to, of every family.
    pub sockets: Rows<SocketRow>,
    /// Terminals that descriptors lead to, and the other ends of those.
    pub terminals: Rows<TerminalRow>,
    /// Network interfaces.
    pub interfaces: Rows<InterfaceRow>,
    /// Long names and command lines.
    pub bytes: Rows<u8>,
    /// Whether the task list could be followed all around, so that absence from it means something.
    pub task_list_closed: bool,
    /// Whether the pid IDR was read whole.
    pub idr_whole: bool,
    /// What could not be read or did not fit.
    pub losses: Losses,
}
