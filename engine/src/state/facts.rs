//! The attributes of one object, from a scan or from a table.
//!
//! Everything written about an object, as a record or as a line of `panoptes scan`, goes through
//! one of these structs. They borrow names from a [`NameBuffers`] or from the string arena.
//!
//! Not here: decisions and wording; `policy/describe.rs` turns facts into details objects.

use core::net::{IpAddr, Ipv4Addr};

use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::file::FMODE_WRITE;
use panoptes_decoders::kernel::inode::{Attributes, mode};
use panoptes_decoders::kernel::sock::{
    AF_INET, AF_INET6, Endpoints, IPPROTO_TCP, TcpCounters, TcpState,
};
use panoptes_decoders::kernel::super_block::{FilesKind, magic};
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::maybe::{MaybeI64, MaybeU32, MaybeU64};

use super::area_name::AreaName;
pub use super::area_name::HeapRule;
use super::keys::{ContainerKey, ProcessKey};
use crate::page_cache::{FileIdentity, Hashes};
use crate::path::{
    PathBuffer, PathProperties, is_beyond_paths, is_same_path, write_file_name, write_path,
};
use crate::walk::{
    ConnectionRow, DescriptorRow, FileRow, InodeRow, MmRow, ProcessRow, Snapshot, SocketRow,
    ThreadRow, UserGroupIds, VmaRow,
};
use panoptes_tables::Tag;

/// Buffers for the names of one object while it is described.
#[derive(Debug, Default)]
pub struct NameBuffers {
    executable: PathBuffer,
    directory: PathBuffer,
    file: PathBuffer,
    /// The name of an area without a file.
    area: AreaName,
}

#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct ProcessFacts<'a> {
    /// `comm`
    pub name: &'a [u8],
    /// The tgid.
    pub process_id: u32,
    /// Nanoseconds from boot to its creation.
    pub start_boottime: u64,
    /// Grows with every exec.
    pub self_exec_id: Option<u32>,
    /// Path of the executable.
    pub executable: Option<&'a [u8]>,
    /// The reason why a scan has no such path, though the process has an executable.
    pub executable_stop: Option<EarlyStop>,
    /// Whether root alone could have put it there ([`Snapshot::runs_program_of_root`]).
    pub executable_is_roots: bool,
    /// Size of the executable in bytes.
    pub executable_size: Option<u64>,
    /// The hashes of the executable, if all of its content is known.
    pub executable_hashes: Option<Hashes>,
    /// Path of the current directory.
    pub directory: Option<&'a [u8]>,
    /// Arguments, each terminated by NUL.
    pub command_line: Option<&'a [u8]>,
    /// Whether `command_line` is only the beginning.
    pub command_line_cut: bool,
    /// Identifier or name of its container.
    pub container: Option<&'a [u8]>,
    /// Key of its container among the tracked ones.
    pub container_key: Option<ContainerKey>,
    /// Whether a runtime with root's rights made that container.
    pub container_is_roots: bool,
    /// Whether it began while contact with the machine was lost.
    pub began_unwatched: bool,
    /// Whether it was found only after its end, in memory that the kernel had not used again.
    pub was_recovered: bool,
    pub numbers: ProcessNumbers,
}

/// What a scan shows of a process in numbers, whatever program it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessNumbers {
    /// Time of its fork, in nanoseconds since 1970.
    pub creation_time_ns: MaybeI64,
    /// The tgid of the real parent; 0 for processes that the kernel itself started.
    pub parent_process_id: MaybeU32,
    /// User and group ids.
    pub ids: Option<UserGroupIds>,
    /// User id of the login that it belongs to.
    pub login_user_id: MaybeU32,
    /// Number of that login.
    pub audit_session_id: MaybeU32,
    /// `TASK_*` and `EXIT_*` of the leader.
    pub state: Option<(u32, u32)>,
    /// CPU time of all its threads, including ended ones, in nanoseconds.
    pub cpu_time_ns: MaybeU64,
    /// Number of the pid namespace, or 0.
    pub pid_namespace: u32,
    /// Number of the mount namespace, or 0.
    pub mount_namespace: u32,
    /// Number of the network namespace, or 0.
    pub network_namespace: u32,
}

impl ProcessNumbers {
    /// Reads the numbers of a process from a scan; `leader` is its first thread.
    pub(super) fn read(snapshot: &Snapshot, process: &ProcessRow, leader: &ThreadRow) -> Self {
        let task = &leader.task;
        let cpu_time_ns = snapshot
            .has_all_threads(process)
            .then(|| process.ended_runtime_ns.saturating_add(process.threads_runtime_ns));
        Self {
            creation_time_ns: creation_time_ns(snapshot, task),
            parent_process_id: MaybeU32::new(parent(snapshot, process, leader)),
            ids: process.ids,
            login_user_id: task.loginuid,
            audit_session_id: task.sessionid,
            state: Some((task.state, task.exit_state)),
            cpu_time_ns: MaybeU64::new(cpu_time_ns),
            pid_namespace: process.pid_namespace,
            mount_namespace: process.mount_namespace,
            network_namespace: snapshot.net_number(process.net),
        }
    }

    /// The numbers of a process that is gone but for its first task.
    pub(super) fn of_ended(task: &Task, snapshot: &Snapshot) -> Self {
        Self {
            creation_time_ns: creation_time_ns(snapshot, task),
            parent_process_id: MaybeU32::new(parent_of_ended(task, snapshot)),
            login_user_id: task.loginuid,
            audit_session_id: task.sessionid,
            state: Some((task.state, task.exit_state)),
            ..Self::default()
        }
    }

    /// These numbers; where the scan could not read one, that of `before`. The time of the fork is
    /// always that of `before`, if that has one: the machine's clock may have been set.
    pub(super) fn or_before(self, before: &Self) -> Self {
        let known = |number: u32, before: u32| if number == 0 { before } else { number };
        Self {
            creation_time_ns: before.creation_time_ns.or(self.creation_time_ns),
            parent_process_id: self.parent_process_id.or(before.parent_process_id),
            ids: self.ids.or(before.ids),
            pid_namespace: known(self.pid_namespace, before.pid_namespace),
            mount_namespace: known(self.mount_namespace, before.mount_namespace),
            network_namespace: known(self.network_namespace, before.network_namespace),
            ..self
        }
    }

    /// The numbers of `before` with the state that this scan shows, for a task that changed while
    /// it was read: everything else is behind its pointers, in memory that may be another's.
    pub(super) fn only_state(self, before: &Self) -> Self {
        Self { state: self.state, ..*before }
    }
}

impl<'a> ProcessFacts<'a> {
    /// Reads the facts about a process from a scan.
    pub fn read(
        snapshot: &'a Snapshot,
        process: &ProcessRow,
        names: &'a mut NameBuffers,
    ) -> Option<Self> {
        let leader = snapshot.leader(process)?;
        let task = &leader.task;
        let mm = snapshot.mms.at(process.mm);
        let executable = mm.and_then(|mm| snapshot.files.at(mm.exe_file));
        let has_executable = mm.is_some_and(|mm| !mm.exe_address.is_null());
        let named = name_of(snapshot, executable, &mut names.executable);
        let path = named.is_ok().then(|| names.executable.text());
        let directory = write_path(snapshot, process.cwd, &mut names.directory);
        let directory = directory.ok().map(|_| names.directory.text());
        Some(Self {
            name: task.name(),
            process_id: task.tgid,
            start_boottime: task.start_boottime,
            self_exec_id: Some(task.self_exec_id),
            executable: path,
            executable_stop: named.err().filter(|_| has_executable),
            executable_is_roots: snapshot.runs_program_of_root(process),
            executable_size: executable
                .and_then(|file| snapshot.inodes.at(file.inode))
                .filter(|inode| inode.was_read())
                .map(|inode| inode.attributes.size),
            executable_hashes: None,
            directory,
            command_line: mm.and_then(|mm| command_line(snapshot, mm)),
            command_line_cut: mm.is_some_and(|mm| mm.command_line_cut),
            container: snapshot.container_of(process),
            container_key: None,
            container_is_roots: snapshot.is_in_container_of_root(process),
            began_unwatched: false,
            was_recovered: false,
            numbers: ProcessNumbers::read(snapshot, process, leader),
        })
    }

    /// What identifies the process.
    pub const fn key(&self) -> ProcessKey {
        ProcessKey { process_id: self.process_id, start_boottime: self.start_boottime }
    }
}

/// The file that a process executes: the mapped one, which on an overlay is the real file with the
/// pages; if areas were not read, the open one.
pub fn executable_of(snapshot: &Snapshot, process: &ProcessRow) -> Option<FileIdentity> {
    let mm = snapshot.mms.at(process.mm)?;
    let areas = snapshot.vmas.range(mm.vmas);
    let area = areas.iter().find(|area| is_main_executable(snapshot, mm, area));
    FileIdentity::of(snapshot, area.map_or(mm.exe_file, |area| area.file))
}

/// The arguments of an address space, if it has any that could be read.
pub(super) fn command_line<'a>(snapshot: &'a Snapshot, mm: &MmRow) -> Option<&'a [u8]> {
    let text = snapshot.text(mm.command_line);
    (mm.has_command_line && !text.is_empty()).then_some(text)
}

/// When a thread was created, by the machine's present calendar, in nanoseconds since 1970.
fn creation_time_ns(snapshot: &Snapshot, task: &Task) -> MaybeI64 {
    let start = i64::try_from(task.start_boottime).ok();
    let offset = snapshot.machine.boot_to_real_ns;
    MaybeI64::new(start.zip(offset).and_then(|(start, offset)| start.checked_add(offset)))
}

/// The tgid of the real parent. 0 is valid only if the parent is `init_task`.
fn parent(snapshot: &Snapshot, process: &ProcessRow, leader: &ThreadRow) -> Option<u32> {
    let is_init_task = || {
        snapshot.threads.first().is_some_and(|init| init.task.address == leader.task.real_parent)
    };
    (process.parent_pid != 0 || is_init_task()).then_some(process.parent_pid)
}

/// The tgid of the parent of a task that has ended, if the place that it names still has a task
/// that is old enough: another one may be there now.
fn parent_of_ended(task: &Task, snapshot: &Snapshot) -> Option<u32> {
    let parent = snapshot.threads.at(snapshot.threads.find(task.real_parent.0))?;
    (parent.task.start_boottime <= task.start_boottime).then_some(parent.task.tgid)
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadFacts {
    pub thread_id: u32,
    /// Grows with every exec.
    pub self_exec_id: u32,
    /// `EXIT_*`, if known.
    pub exit_state: Option<u32>,
}

impl ThreadFacts {
    /// Reads the facts about a thread from a scan.
    pub fn read(thread: &ThreadRow) -> Self {
        let task = &thread.task;
        Self {
            thread_id: task.pid,
            self_exec_id: task.self_exec_id,
            exit_state: Some(task.exit_state),
        }
    }
}

/// The attributes of an open file, as `fstat` returns them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InodeFacts {
    /// `st_ino`
    pub number: u64,
    /// `st_size`
    pub size: u64,
    /// `st_atim` in nanoseconds since 1970.
    pub access_time_ns: i64,
    /// `st_mtim`
    pub modify_time_ns: i64,
    /// `st_ctim`
    pub change_time_ns: i64,
    /// `st_uid`
    pub uid: u32,
    /// `st_gid`
    pub gid: u32,
    /// `st_dev` as the kernel encodes it.
    pub device: u32,
    /// `st_rdev` as the kernel encodes it.
    pub special_device: u32,
    /// `st_mode`
    pub mode: u16,
    /// Kind of the files of its filesystem.
    pub files: FilesKind,
}

impl InodeFacts {
    fn new(attributes: &Attributes, device: u32, files: FilesKind) -> Self {
        Self {
            number: attributes.ino,
            size: attributes.size,
            access_time_ns: attributes.atime_ns,
            modify_time_ns: attributes.mtime_ns,
            change_time_ns: attributes.ctime_ns,
            uid: attributes.uid,
            gid: attributes.gid,
            device,
            special_device: attributes.rdev,
            mode: attributes.mode,
            files,
        }
    }

    /// The same inode with new attributes.
    #[must_use]
    pub fn with(&self, attributes: &Attributes) -> Self {
        Self::new(attributes, self.device, self.files)
    }

    /// Reads the attributes of an open file's inode from a scan; `None` if it could not be read.
    pub(super) fn read(snapshot: &Snapshot, file: &FileRow) -> Option<Self> {
        let inode = snapshot.inodes.at(file.inode).filter(|inode| inode.was_read())?;
        Self::of(snapshot, inode)
    }

    /// Reads the attributes of an inode from a scan.
    pub(super) fn of(snapshot: &Snapshot, inode: &InodeRow) -> Option<Self> {
        let super_block = snapshot.super_blocks.at(inode.super_block);
        let super_block = super_block.filter(|super_block| super_block.was_read)?;
        let filesystem = &super_block.filesystem;
        Some(Self::new(&inode.attributes, filesystem.dev, filesystem.files))
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct DescriptorFacts<'a> {
    /// Its number; that of a slot of a ring has the mark [`crate::walk::RING_SLOT`].
    pub index: u32,
    /// As `readlink /proc/PID/fd/N`.
    pub name: Option<FileName<'a>>,
    /// The reason why a scan has no such name.
    pub name_stop: Option<EarlyStop>,
    /// Whether that name ends in ` (deleted)` because the file was unlinked.
    pub deleted: bool,
    /// Whether the file is in no directory: its filesystem makes up its name.
    pub floating: bool,
    /// Whether it closes on exec.
    pub close_on_exec: bool,
    /// `O_*` and `FMODE_*`, if the open file could be read.
    pub open: Option<OpenFlags>,
    pub inode: Option<InodeFacts>,
    /// Threads that share the table, ascending; empty if unknown.
    pub threads: &'a [u32],
}

/// The name of an open file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileName<'a> {
    /// A path, or the name that its filesystem makes up.
    Text(&'a [u8]),
    /// A kind and a number: `socket:[13731]`.
    Numbered(&'static str, u64),
}

/// The kind in the names of a filesystem's files, where names are only numbers (`sockfs_dname`,
/// net/socket.c; `pipefs_dname`, fs/pipe.c).
pub(super) const fn numbered_kind(files: FilesKind) -> Option<&'static str> {
    match files {
        FilesKind::Sockets => Some("socket"),
        FilesKind::Pipes => Some("pipe"),
        _ => None,
    }
}

/// How a file is open.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenFlags {
    /// `O_*`
    pub flags: u32,
    /// `FMODE_*`
    pub mode: u32,
}

impl<'a> DescriptorFacts<'a> {
    /// Reads the facts about a descriptor from a scan.
    pub fn read(
        snapshot: &'a Snapshot,
        descriptor: &DescriptorRow,
        threads: &'a [u32],
        names: &'a mut NameBuffers,
    ) -> Self {
        let facts = Self::read_unnamed(snapshot, descriptor, threads);
        let named = name_of(snapshot, snapshot.files.at(descriptor.file), &mut names.file);
        Self {
            name: named.is_ok().then(|| FileName::Text(names.file.text())),
            name_stop: named.err(),
            deleted: named.is_ok_and(|named| named.deleted),
            ..facts
        }
    }

    /// Whether a part of the name could not be read. The kernel returns none that is too long.
    pub fn lacks_name(&self) -> bool {
        self.name_stop.is_some_and(|stop| !is_beyond_paths(stop))
    }

    /// Reads the facts about a descriptor from a scan, without the name of its file, unless that is
    /// a number.
    pub(crate) fn read_unnamed(
        snapshot: &'a Snapshot,
        descriptor: &DescriptorRow,
        threads: &'a [u32],
    ) -> Self {
        let file = snapshot.files.at(descriptor.file);
        let inode = file.and_then(|file| InodeFacts::read(snapshot, file));
        let numbered =
            |inode: InodeFacts| Some(FileName::Numbered(numbered_kind(inode.files)?, inode.number));
        Self {
            index: descriptor.index,
            name: inode.and_then(numbered),
            name_stop: None,
            deleted: false,
            floating: file.is_some_and(|file| is_floating(snapshot, file)),
            close_on_exec: descriptor.close_on_exec,
            open: file.and_then(open_flags).filter(|_| !descriptor.close_on_exec_unknown),
            inode,
            threads,
        }
    }

    /// Whether it can write to a regular file.
    pub(crate) fn writes_a_file(&self) -> bool {
        let is_regular = |inode: InodeFacts| inode.mode & mode::S_IFMT == mode::S_IFREG;
        self.open.is_some_and(|open| open.mode & FMODE_WRITE != 0)
            && self.inode.is_some_and(is_regular)
    }

    /// Reads the facts about a socket's descriptor from a scan; its name is a number.
    pub(super) fn read_socket(
        snapshot: &'a Snapshot,
        descriptor: &DescriptorRow,
        threads: &'a [u32],
    ) -> Self {
        let facts = Self::read_unnamed(snapshot, descriptor, threads);
        let name = facts.inode.map(|inode| FileName::Numbered("socket", inode.number));
        Self { name, floating: true, ..facts }
    }
}

/// Writes the name of an open file, or returns the reason why it has none: without a row, there was
/// no room for it.
fn name_of(
    snapshot: &Snapshot,
    file: Option<&FileRow>,
    out: &mut PathBuffer,
) -> Result<PathProperties, EarlyStop> {
    let no_room = EarlyStop::NoRoom { rows: snapshot.files.capacity() as u32 };
    write_file_name(snapshot, file.ok_or(no_room)?, out)
}

/// How a file is open, if it could be read: every open file has an inode.
pub(super) fn open_flags(file: &FileRow) -> Option<OpenFlags> {
    let open = &file.open;
    (!open.inode.is_null()).then_some(OpenFlags { flags: open.flags, mode: open.mode })
}

/// Whether a file is in no directory and is no mount's root (`d_path`, fs/d_path.c, then asks the
/// filesystem for a name).
pub(crate) fn is_floating(snapshot: &Snapshot, file: &FileRow) -> bool {
    let dentry = snapshot.dentries.at(file.path.dentry);
    let mount = snapshot.mounts.at(file.path.mount);
    dentry.zip(mount).is_some_and(|(dentry, mount)| {
        dentry.parent == file.path.dentry && mount.root != file.path.dentry
    })
}

#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct AreaFacts<'a> {
    /// The tgid.
    pub process_id: u32,
    /// First address.
    pub start: u64,
    /// First address after it.
    pub end: u64,
    /// `VM_*`
    pub flags: u64,
    /// Whether it maps the process's executable.
    pub is_main_executable: bool,
    /// Whether that is unknown: the executable or the mapped file could not be read.
    pub executable_unknown: bool,
    /// Path of the mapped file.
    pub file: Option<&'a [u8]>,
    /// The reason why a scan has no such path.
    pub file_stop: Option<EarlyStop>,
    /// `[heap]`, `[vdso]`, `[anon:…]` of an area without a file; `[anon_shmem:…]` of shared
    /// anonymous memory, which has a file.
    pub name: Option<&'a [u8]>,
    /// Whether it maps a file, named or not.
    pub has_file: bool,
    /// Whether it is a special mapping of the kernel, such as the vDSO.
    pub special: bool,
    /// `struct anon_vma *`: there is one if it has its own pages, which were written.
    pub anon_vma: Tag<4>,
}

impl<'a> AreaFacts<'a> {
    /// Reads the facts about an area from a scan.
    pub fn read(
        snapshot: &'a Snapshot,
        process_id: u32,
        mm: &MmRow,
        area: &VmaRow,
        heap: HeapRule,
        names: &'a mut NameBuffers,
    ) -> Self {
        let vma = &area.vma;
        let is_main = main_executable(snapshot, mm, area);
        let facts = Self {
            process_id,
            start: vma.start,
            end: vma.end,
            flags: vma.flags,
            is_main_executable: is_main == Some(true),
            executable_unknown: is_main.is_none(),
            has_file: !vma.file.is_null(),
            special: vma.file.is_null() && area.has_ops,
            anon_vma: Tag::of(vma.anon_vma.0),
            ..Self::default()
        };
        if !vma.file.is_null() {
            let named = name_of(snapshot, snapshot.files.at(area.file), &mut names.file);
            let (file, file_stop) = (named.is_ok().then(|| names.file.text()), named.err());
            let name = names.area.write_shared(snapshot, area);
            return Self { file, file_stop, name, ..facts };
        }
        Self { name: names.area.write(snapshot, mm, area, heap), ..facts }
    }

    /// The area that the kernel adds to the list of every process that may use it (`get_gate_vma`,
    /// arch/x86/entry/vsyscall/vsyscall_64.c).
    pub fn gate(process_id: u32, gate: &Vma) -> Self {
        Self {
            process_id,
            start: gate.start,
            end: gate.end,
            flags: gate.flags,
            name: Some(b"[vsyscall]"),
            special: true,
            ..Self::default()
        }
    }
}

/// Whether an area maps the file that the process executes, as far as that is known.
pub(crate) fn is_main_executable(snapshot: &Snapshot, mm: &MmRow, area: &VmaRow) -> bool {
    main_executable(snapshot, mm, area) == Some(true)
}

/// Whether an area maps the file that the process executes; `None` if one of the files could not be
/// read.
///
/// That is usually the same inode. Of a file on an overlay, the real file underneath is mapped
/// (`ovl_mmap`, fs/overlayfs/file.c), so only the path can match.
fn main_executable(snapshot: &Snapshot, mm: &MmRow, area: &VmaRow) -> Option<bool> {
    if area.vma.file.is_null() || mm.exe_address.is_null() {
        return Some(false);
    }
    let mapped = snapshot.files.at(area.file).filter(|file| !file.open.inode.is_null())?;
    let executable = snapshot.files.at(mm.exe_file).filter(|file| !file.open.inode.is_null())?;
    if mapped.open.inode == executable.open.inode {
        return Some(true);
    }
    let inode = snapshot.inodes.at(executable.inode)?;
    let super_block = snapshot.super_blocks.at(inode.super_block).filter(|it| it.was_read)?;
    if super_block.filesystem.magic != magic::OVERLAYFS {
        return Some(false);
    }
    is_same_path(snapshot, mapped.path, executable.path).ok()
}

#[derive(Clone, Copy, Debug)]
pub struct ConnectionFacts {
    /// `IPPROTO_*` (include/uapi/linux/in.h).
    pub protocol: u16,
    /// Its TCP state, or the matching state of another protocol.
    pub state: TcpState,
    pub source: IpAddr,
    pub source_port: u16,
    /// Address of the peer.
    pub destination: IpAddr,
    /// Port of the peer.
    pub destination_port: u16,
    /// Number of the device that it is bound to, or 0.
    pub bound_device: u32,
    /// Number of the device that its route leaves through, 0, or [`crate::walk::UNREAD_DEVICE`].
    pub route_device: u32,
    /// Counters, if the socket has any.
    pub counters: Option<TcpCounters>,
    /// Number of its network namespace, or 0.
    pub network_namespace: u32,
    /// The owner's descriptor.
    pub descriptor: Option<u32>,
}

impl ConnectionFacts {
    /// Reads the facts about a connection from a scan, for the holder of `descriptor`.
    pub fn read(snapshot: &Snapshot, row: &ConnectionRow, descriptor: Option<u32>) -> Self {
        Self {
            route_device: row.route_device,
            counters: row.counters,
            network_namespace: snapshot.net_number(row.net),
            descriptor,
            ..Self::new(IPPROTO_TCP, &row.endpoints)
        }
    }

    /// Reads the facts about an IP socket of another protocol; `None` for any other socket.
    pub fn read_datagram(
        snapshot: &Snapshot,
        row: &SocketRow,
        descriptor: Option<u32>,
    ) -> Option<Self> {
        let ends = row.endpoints.filter(|ends| matches!(ends.family, AF_INET | AF_INET6))?;
        let network_namespace = snapshot.net_number(row.net);
        Some(Self { network_namespace, descriptor, ..Self::new(row.protocol, &ends) })
    }

    fn new(protocol: u16, ends: &Endpoints) -> Self {
        Self {
            protocol,
            // Sockets of all protocols use TCP's states for whether they have a peer
            // (`udp4_seq_show`, net/ipv4/udp.c).
            state: TcpState::from_number(ends.state).unwrap_or_default(),
            source: ends.source,
            source_port: ends.source_port,
            destination: ends.destination,
            destination_port: ends.destination_port,
            bound_device: ends.bound_device,
            ..Self::default()
        }
    }
}

impl Default for ConnectionFacts {
    fn default() -> Self {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Self {
            protocol: IPPROTO_TCP,
            state: TcpState::default(),
            source: nowhere,
            source_port: 0,
            destination: nowhere,
            destination_port: 0,
            bound_device: 0,
            route_device: 0,
            counters: None,
            network_namespace: 0,
            descriptor: None,
        }
    }
}
