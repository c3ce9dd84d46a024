//! A hand-made machine: a test's processes, files, areas and sockets, shown as a scan.

#![allow(dead_code, reason = "each test uses its part")]

// With an explicit path, since other tests include this file as a module.
#[path = "sockets.rs"]
mod sockets;

use core::num::NonZeroU32;
use std::collections::HashMap;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::container::{Maker, Runtime};
use panoptes_decoders::kernel::dentry::DirectoryEntry;
use panoptes_decoders::kernel::file::OpenFile;
use panoptes_decoders::kernel::inode::Attributes;
use panoptes_decoders::kernel::mount::MountLinks;
use panoptes_decoders::kernel::super_block::{FilesKind, Filesystem, magic};
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::vm_area_struct::Vma;
use panoptes_decoders::maybe::MaybeU32;

use crate::walk::{
    ConnectionRow, ContainerRow, DentryRow, DescriptorRow, FileRow, FilesRow, Index, InodeRow,
    MmRow, MountRow, NetRow, PathRef, ProcessRow, Snapshot, Span, SuperBlockRow, TaskFate,
    ThreadRow, UserGroupIds, Views, VmaRow, view,
};

pub(crate) use sockets::*;

/// Views that show every process.
pub(crate) const ALL_VIEWS: u16 = view::CERTAIN | view::CONTROL_GROUP;
pub(crate) const R: u64 = 1;
pub(crate) const W: u64 = 2;
pub(crate) const X: u64 = 4;

/// A file, open or mapped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FakeFile {
    pub(crate) address: u64,
    pub(crate) ino: u64,
    pub(crate) name: String,
    pub(crate) kind: FileKind,
    pub(crate) owner: u32,
    /// Address of the socket of its connection.
    pub(crate) sock: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FileKind {
    Regular,
    /// Whether it is in no directory.
    Memfd,
    Socket,
    Pipe,
}

impl FakeFile {
    pub(crate) fn regular(address: u64, ino: u64, name: &str) -> Self {
        Self { address, ino, name: name.into(), kind: FileKind::Regular, owner: 0, sock: 0 }
    }

    pub(crate) fn socket(address: u64, ino: u64, sock: u64) -> Self {
        Self { address, ino, name: String::new(), kind: FileKind::Socket, owner: 0, sock }
    }

    pub(crate) fn pipe(address: u64, ino: u64) -> Self {
        Self { address, ino, name: String::new(), kind: FileKind::Pipe, owner: 0, sock: 0 }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FakeArea {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) flags: u64,
    pub(crate) file: Option<FakeFile>,
    /// Whether it is a special mapping, such as the vDSO.
    pub(crate) special: bool,
    /// Its `anon_vma`, if anything was written to it.
    pub(crate) pages: u64,
    /// Offset in its file, in pages.
    pub(crate) page_offset: u64,
}

impl FakeArea {
    /// The same area with its own pages.
    pub(crate) fn written(self, pages: u64) -> Self {
        Self { pages, ..self }
    }

    pub(crate) fn anonymous(start: u64, end: u64, flags: u64) -> Self {
        Self { start, end, flags, file: None, special: false, pages: 0, page_offset: 0 }
    }

    pub(crate) fn of_file(start: u64, end: u64, flags: u64, file: &FakeFile) -> Self {
        Self { file: Some(file.clone()), ..Self::anonymous(start, end, flags) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct FakeThread {
    pub(crate) tid: u32,
    pub(crate) start: u64,
    pub(crate) exit_state: u32,
    /// Its own descriptors, if it does not share its process's.
    pub(crate) files: Option<Vec<(u32, FakeFile)>>,
    /// Address of its own table, if others share that; they all have these descriptors.
    pub(crate) table: u64,
}

impl FakeThread {
    pub(crate) fn new(tid: u32) -> Self {
        Self { tid, start: u64::from(tid) * 1_000_000, exit_state: 0, files: None, table: 0 }
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a test turns each by itself")]
pub(crate) struct FakeProcess {
    pub(crate) pid: u32,
    pub(crate) start: u64,
    pub(crate) parent: u32,
    pub(crate) address: u64,
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) exec_id: u32,
    pub(crate) flags: u32,
    pub(crate) state: u32,
    pub(crate) exit_state: u32,
    /// User id of its login, and the login's number.
    pub(crate) login: Option<(u32, u32)>,
    pub(crate) on_cpu: bool,
    pub(crate) views: u16,
    pub(crate) stable: bool,
    pub(crate) fate: TaskFate,
    pub(crate) files_stable: bool,
    pub(crate) executable: Option<FakeFile>,
    pub(crate) arguments: Vec<u8>,
    /// Address of the arguments.
    pub(crate) arguments_at: u64,
    /// Whether it is inside exec, which sets the end of the arguments last.
    pub(crate) in_exec: bool,
    pub(crate) threads: Vec<FakeThread>,
    pub(crate) files: Vec<(u32, FakeFile)>,
    /// Address of its table, if others share that; they all have these descriptors.
    pub(crate) table: u64,
    pub(crate) files_complete: bool,
    /// Whether its descriptors led elsewhere after their files were read.
    pub(crate) files_moved: bool,
    pub(crate) mm: u64,
    pub(crate) areas: Vec<FakeArea>,
    pub(crate) mm_complete: bool,
    /// Number of further areas that the scan does not show.
    pub(crate) unread_areas: u32,
    pub(crate) brk: (u64, u64),
    pub(crate) container: String,
    pub(crate) mount_namespace: u32,
    /// Whether its control groups could be read.
    pub(crate) container_known: bool,
    /// Whether it has its own namespaces.
    pub(crate) own_namespaces: bool,
    /// Id of the user that made its user namespace; 0 is root.
    pub(crate) namespace_maker: u32,
}

impl FakeProcess {
    /// A process that has called exec once more than its parent.
    pub(crate) fn new(pid: u32) -> Self {
        let start = u64::from(pid) * 1_000_000;
        Self {
            pid,
            start,
            parent: 1,
            address: 0xffff_8880_0000_0000 + u64::from(pid) * 0x4000,
            name: format!("task{pid}"),
            uid: 0,
            exec_id: 2,
            flags: 0,
            state: 1,
            exit_state: 0,
            login: None,
            on_cpu: false,
            views: ALL_VIEWS,
            stable: true,
            fate: TaskFate::Lives,
            files_stable: true,
            executable: Some(FakeFile::regular(0xffff_8881_0000_0000, 17, "bash")),
            arguments: b"bash\0-i\0".to_vec(),
            arguments_at: ARGUMENTS,
            in_exec: false,
            threads: Vec::new(),
            files: Vec::new(),
            table: 0,
            files_complete: true,
            files_moved: false,
            mm: 0xffff_8882_0000_0000 + u64::from(pid) * 0x1000,
            areas: Vec::new(),
            mm_complete: true,
            unread_areas: 0,
            brk: (0, 0),
            container: String::new(),
            mount_namespace: 4_026_531_841,
            container_known: true,
            own_namespaces: true,
            namespace_maker: 0,
        }
    }

    pub(crate) fn in_container(mut self, id: &str) -> Self {
        self.container = id.into();
        self
    }

    pub(crate) fn with_thread(mut self, tid: u32) -> Self {
        self.threads.push(FakeThread::new(tid));
        self
    }

    pub(crate) fn with_file(mut self, index: u32, file: FakeFile) -> Self {
        self.files.push((index, file));
        self
    }

    pub(crate) fn with_area(mut self, area: FakeArea) -> Self {
        self.areas.push(area);
        self
    }

    /// Turns it into a zombie: it has ended and no parent has waited for it.
    pub(crate) fn become_zombie(&mut self) {
        self.exit_state = 0x20;
        self.mm = 0;
        self.areas.clear();
        self.files.clear();
        self.threads.clear();
    }
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) processes: Vec<FakeProcess>,
    pub(crate) sockets: Vec<FakeSocket>,
    pub(crate) forks: Option<u64>,
    pub(crate) task_list_closed: bool,
    pub(crate) idr_complete: bool,
    pub(crate) unreadable: u32,
}

impl Default for World {
    /// Process 1 alone.
    fn default() -> Self {
        let mut init = FakeProcess::new(1);
        init.parent = 0;
        init.exec_id = 1;
        Self {
            processes: vec![init],
            sockets: Vec::new(),
            forks: None,
            task_list_closed: true,
            idr_complete: true,
            unreadable: 0,
        }
    }
}

/// Process 1 and two others.
pub(super) fn two_processes() -> World {
    World::default().with(FakeProcess::new(100)).with(FakeProcess::new(200))
}

impl World {
    pub(crate) fn with(mut self, process: FakeProcess) -> Self {
        self.processes.push(process);
        self
    }

    pub(crate) fn process(&mut self, pid: u32) -> &mut FakeProcess {
        self.processes.iter_mut().find(|process| process.pid == pid).expect("the process exists")
    }

    pub(crate) fn remove(&mut self, pid: u32) {
        self.processes.retain(|process| process.pid != pid);
    }

    /// Fills `snapshot` with the machine, as the walk would.
    pub(crate) fn show(&self, snapshot: &mut Snapshot) {
        snapshot.clear();
        snapshot.task_list_closed = self.task_list_closed;
        snapshot.idr_complete = self.idr_complete;
        snapshot.losses.unreadable = self.unreadable;
        snapshot.machine.total_forks = self.forks;
        snapshot.machine.boot_to_real_ns = Some(BOOT_NS);
        snapshot.machine.tsc_khz = Some(2_000_000);
        snapshot.threads.push(ThreadRow {
            task: Task { address: INIT_TASK, ..Task::default() },
            ..ThreadRow::default()
        });
        root(snapshot);
        let mut order: Vec<&FakeProcess> = self.processes.iter().collect();
        order.sort_by_key(|process| (process.start, process.pid));
        for socket in &self.sockets {
            socket.push(snapshot);
        }
        snapshot.sort_connections(&mut Vec::new());
        let mut shown = Shown {
            files: HashMap::new(),
            folders: HashMap::new(),
            tasks: self.processes.iter().map(|process| (process.pid, process.address)).collect(),
            snapshot,
        };
        for (position, process) in order.iter().enumerate() {
            shown.push_process(Index::new(position).unwrap(), process);
        }
        finish(shown.snapshot);
    }
}

/// Boot time of the machine.
pub(crate) const BOOT_NS: i64 = 1_795_000_000_000_000_000;
/// Default address of the arguments.
const ARGUMENTS: u64 = 0x7ffe_0000_0000;
const INIT_TASK: KernelVa = KernelVa(0xffff_ffff_8280_0000);

/// Number of the machine's own network namespace.
pub(super) const MACHINE_NET: u32 = 4_026_531_840;

/// The network namespace with a number.
pub(super) fn net(snapshot: &mut Snapshot, inum: u32) -> Option<Index<NetRow>> {
    snapshot.nets.row_of(inum.into(), || NetRow { inum, ..NetRow::default() })
}

/// One mount with its root, and a filesystem of each kind.
fn root(snapshot: &mut Snapshot) {
    let (dentry, mount) = (Index::new(0), Index::new(0));
    snapshot.dentries.push(DentryRow { parent: dentry, readable: true, ..DentryRow::default() });
    snapshot.mounts.push(MountRow {
        address: KernelVa(0xffff_8880_1000_0000),
        was_read: true,
        mounted: MountLinks::default(),
        root: dentry,
        parent: mount,
        process: None,
        mountpoint: dentry,
    });
    for (dev, magic) in [(0x80_0001, 0xef53), (8, magic::SOCKFS), (9, magic::PIPEFS)] {
        snapshot.super_blocks.push(SuperBlockRow {
            address: KernelVa(0xffff_8880_2000_0000 + magic),
            was_read: true,
            process: None,
            filesystem: Filesystem {
                dev,
                magic,
                kind: KernelVa::NULL,
                files: FilesKind::of(magic),
            },
        });
    }
}

/// A scan that is being filled.
struct Shown<'a> {
    snapshot: &'a mut Snapshot,
    /// The row of each file, by address.
    files: HashMap<u64, Index<FileRow>>,
    /// The row of each directory, by path.
    folders: HashMap<String, Option<Index<DentryRow>>>,
    /// The address of each process's leader.
    tasks: HashMap<u32, u64>,
}

fn dentry_of(address: u64, name: &str, parent: Option<Index<DentryRow>>) -> DentryRow {
    let length = name.len() as u32;
    let name_of =
        DirectoryEntry { address: KernelVa(address), length, ..DirectoryEntry::default() };
    let mut row = DentryRow { name: name_of, parent, readable: true, ..DentryRow::default() };
    row.text[..name.len()].copy_from_slice(name.as_bytes());
    row
}

impl Shown<'_> {
    fn push_file(&mut self, file: &FakeFile) -> Option<Index<FileRow>> {
        let snapshot = &mut *self.snapshot;
        if let Some(known) = self.files.get(&file.address) {
            return Some(*known);
        }
        let (super_block, mode, floating) = match file.kind {
            FileKind::Regular => (0, 0o100_644, false),
            FileKind::Memfd => (0, 0o100_777, true),
            FileKind::Socket => (1, 0o140_777, true),
            FileKind::Pipe => (2, 0o010_600, true),
        };
        let mut parent = Index::new(0);
        let (folders, name) = file.name.rsplit_once('/').unwrap_or(("", &file.name));
        let ends = folders.match_indices('/').map(|(end, _)| end).chain([folders.len()]);
        let known = self.folders.get(folders).copied();
        parent = known.unwrap_or(parent);
        for end in ends.filter(|&end| end > 0 && known.is_none()) {
            let folder = &folders[..end];
            let name = folder.rsplit('/').next().unwrap_or_default();
            parent = *self.folders.entry(folder.into()).or_insert_with(|| {
                let at = 0xffff_8889_0000_0000 + snapshot.dentries.len() as u64 * 192;
                snapshot.dentries.push(dentry_of(at, name, parent))
            });
        }
        let dentry = Index::new(snapshot.dentries.len());
        let parent = if floating { dentry } else { parent };
        let address = 0xffff_8883_0000_0000 + file.ino * 192;
        snapshot.dentries.push(dentry_of(address, name, parent));
        let inode = KernelVa(0xffff_8884_0000_0000 + file.ino * 640);
        let inode_row = snapshot.inodes.push(InodeRow {
            address: inode,
            attributes: Attributes {
                mode,
                uid: file.owner,
                ino: file.ino,
                size: 4096,
                ..Attributes::default()
            },
            super_block: Index::new(super_block),
            own_name: None,
        });
        let sock = |row: &ConnectionRow| file.sock != 0 && row.address.0 == file.sock;
        let connection = snapshot.connections.iter().position(sock);
        let flags = if matches!(file.kind, FileKind::Socket | FileKind::Pipe) { 2 } else { 0 };
        let pushed = snapshot.files.push(FileRow {
            address: KernelVa(file.address),
            open: OpenFile { inode, flags, ..OpenFile::default() },
            inode: inode_row,
            path: PathRef { mount: Index::new(0), dentry },
            process: None,
            mapped: false,
            connection: connection.and_then(Index::new),
            socket: None,
            terminal: None,
        })?;
        self.files.insert(file.address, pushed);
        Some(pushed)
    }

    fn push_process(&mut self, index: Index<ProcessRow>, process: &FakeProcess) {
        let parent = self.tasks.get(&process.parent);
        let leader = Task {
            address: KernelVa(process.address),
            pid: process.pid,
            tgid: process.pid,
            comm: comm(&process.name),
            state: process.state,
            exit_state: process.exit_state,
            on_cpu: process.on_cpu,
            real_parent: parent.map_or(INIT_TASK, |&parent| KernelVa(parent)),
            start_boottime: process.start,
            self_exec_id: process.exec_id,
            flags: process.flags,
            sum_exec_runtime: 1000,
            loginuid: MaybeU32::new(process.login.map(|(uid, _)| uid)),
            sessionid: MaybeU32::new(process.login.map(|(_, session)| session)),
            ..Task::default()
        };
        let (files_index, own_tables) = self.push_tables(process);
        let snapshot = &mut *self.snapshot;
        let row = |task, views, files| ThreadRow {
            views,
            process: Some(index),
            files,
            ..ThreadRow::new(task)
        };
        let leader_row = row(leader, process.views, files_index);
        let Some(leader_index) = snapshot.threads.push(leader_row) else { return };
        for (thread, own) in process.threads.iter().zip(own_tables) {
            let task = Task {
                address: KernelVa(process.address + 0x1000 + u64::from(thread.tid) * 0x4000),
                pid: thread.tid,
                exit_state: thread.exit_state,
                start_boottime: thread.start,
                ..leader
            };
            let views = view::IDR | view::THREAD_GROUP;
            snapshot.threads.push(row(task, views, own.or(files_index)));
        }
        let mm = if process.mm == 0 { None } else { self.push_mm(process) };
        // As `note_missing` does.
        let is_settled = process.exit_state == 0 && process.state & 0x800 == 0;
        let lacking = if is_settled { ALL_VIEWS & !process.views } else { 0 };
        let snapshot = &mut *self.snapshot;
        let (closed, read) = (snapshot.task_list_closed, snapshot.losses.unreadable == 0);
        let torn = [closed, snapshot.idr_complete && read, process.stable].map(|is| u16::from(!is));
        let unsure = (torn[0] * view::TASK_LIST) | (torn[1] * view::IDR) | (torn[2] * ALL_VIEWS);
        let container = self.push_container(index, process);
        let number = if container.is_some() && process.own_namespaces { 1000 } else { 0 };
        let net = net(self.snapshot, MACHINE_NET + number);
        self.snapshot.processes.push(ProcessRow {
            parent_pid: process.parent,
            ids: Some(UserGroupIds { uid: process.uid, ..UserGroupIds::default() }),
            namespace_maker: NonZeroU32::new(process.namespace_maker),
            pid_namespace: 4_026_531_836 + number,
            mount_namespace: process.mount_namespace + number,
            net,
            container,
            container_known: process.container_known,
            cwd: PathRef { mount: Index::new(0), dentry: Index::new(0) },
            mm,
            files: files_index,
            threads_runtime_ns: 1000,
            stable: process.stable,
            fate: process.fate,
            files_stable: process.files_stable,
            missing: Views(lacking & !unsure),
            unknown: Views(lacking & unsure),
            ..ProcessRow::new(leader_index)
        });
    }

    /// A container's `id`, followed by `@` and its host name if it has one. Containers with ids
    /// `users-…` were made by an unprivileged user.
    fn push_container(
        &mut self,
        index: Index<ProcessRow>,
        process: &FakeProcess,
    ) -> Option<Index<ContainerRow>> {
        if process.container.is_empty() || !process.container_known {
            return None;
        }
        let snapshot = &mut *self.snapshot;
        let (id, host) = process.container.split_once('@').unwrap_or((&process.container, ""));
        let is_it = |row: &ContainerRow| snapshot.bytes.range(row.id) == id.as_bytes();
        let known = snapshot.containers.iter().position(is_it).and_then(Index::new);
        let row = known.unwrap_or_else(|| {
            let mut row = ContainerRow {
                node: KernelVa(0xffff_8886_0000_0000),
                runtime: Some(Runtime::Containerd),
                maker: if id.starts_with("users-") { Maker::User } else { Maker::Runtime },
                ..ContainerRow::default()
            };
            row.id = snapshot.bytes.extend(id.as_bytes()).unwrap();
            row.path = snapshot.bytes.extend(format!("/pods/{id}").as_bytes()).unwrap();
            if !host.is_empty() {
                row.pod_uid = snapshot.bytes.extend(b"6aa3c8f5").unwrap();
                row.host_name.extend(host.bytes());
            }
            snapshot.containers.push(row).unwrap()
        });
        if process.exit_state == 0 {
            snapshot.containers[row].update_from(index, process.start, process.own_namespaces);
        }
        Some(row)
    }

    fn push_mm(&mut self, process: &FakeProcess) -> Option<Index<MmRow>> {
        let executable = process.executable.as_ref();
        let exe_file = executable.and_then(|file| self.push_file(file));
        let start = self.snapshot.vmas.len();
        for area in &process.areas {
            let file = area.file.as_ref().and_then(|file| self.push_file(file));
            self.snapshot.vmas.push(VmaRow {
                vma: Vma {
                    start: area.start,
                    end: area.end,
                    flags: area.flags,
                    file: KernelVa(area.file.as_ref().map_or(0, |file| file.address)),
                    anon_vma: KernelVa(area.pages),
                    page_offset: area.page_offset,
                },
                file,
                has_ops: area.special,
                ..VmaRow::default()
            });
        }
        let snapshot = &mut *self.snapshot;
        let text = if process.in_exec { &[][..] } else { &process.arguments[..] };
        let first = process.arguments_at;
        let arguments = first..if process.in_exec { 0 } else { first + text.len() as u64 };
        let command_line = snapshot.bytes.extend(text).unwrap_or_default();
        // The process that comes next.
        let owner = Index::new(snapshot.processes.len());
        snapshot.mms.push(MmRow {
            address: KernelVa(process.mm),
            exe_file,
            exe_address: KernelVa(executable.map_or(0, |file| file.address)),
            heap: process.brk.0..process.brk.1,
            vmas: snapshot.vmas.span_from(start),
            arguments,
            command_line,
            has_command_line: !process.in_exec,
            map_count: process.areas.len() as u32 + process.unread_areas,
            complete: process.mm_complete,
            areas_left: u32::MAX,
            process: owner,
            ..MmRow::default()
        })
    }

    /// Pushes the table of a process, and those of its threads.
    fn push_tables(&mut self, process: &FakeProcess) -> (Option<Index<FilesRow>>, OwnTables) {
        if process.exit_state != 0 {
            return (None, vec![None; process.threads.len()]);
        }
        let or = |table: u64, own: u64| if table == 0 { own } else { table };
        let complete = process.files_complete;
        let start = self.snapshot.descriptors.len();
        let address = or(process.table, process.address + 0x100);
        let main = self.push_table(address, &process.files, complete);
        for descriptor in self.snapshot.descriptors.iter_mut().skip(start) {
            if process.files_moved {
                (descriptor.file, descriptor.moved) = (None, true);
            }
        }
        let own = process.threads.iter().map(|thread| {
            let address = or(thread.table, process.address + u64::from(thread.tid));
            self.push_table(address, thread.files.as_ref()?, complete)
        });
        (main, own.collect())
    }

    /// Pushes a table, unless others have done so.
    fn push_table(
        &mut self,
        address: u64,
        files: &[(u32, FakeFile)],
        complete: bool,
    ) -> Option<Index<FilesRow>> {
        let known = self.snapshot.files_structs.find(address);
        if known.is_some() {
            return known;
        }
        let start = self.snapshot.descriptors.len();
        for (index, file) in files {
            let file = self.push_file(file);
            self.snapshot.descriptors.push(DescriptorRow {
                index: *index,
                file,
                close_on_exec: false,
                close_on_exec_unknown: false,
                moved: false,
            });
        }
        let snapshot = &mut *self.snapshot;
        let descriptors = snapshot.descriptors.span_from(start);
        snapshot.files_structs.row_of(address, || FilesRow {
            address: KernelVa(address),
            descriptors,
            complete,
            ..FilesRow::default()
        })
    }
}

/// The table of each thread that has its own.
type OwnTables = Vec<Option<Index<FilesRow>>>;

fn finish(snapshot: &mut Snapshot) {
    for index in snapshot.threads.indexes().skip(1) {
        snapshot.by_tid.push(index);
    }
    let threads = &snapshot.threads;
    snapshot.by_tid.sort_unstable_by_key(|&index| {
        let task = &threads[index].task;
        (task.tgid, task.pid, index)
    });
    let mut start = 0;
    for group in
        snapshot.by_tid.chunk_by(|&one, &next| threads[one].task.tgid == threads[next].task.tgid)
    {
        let span = Span::new(start, start + group.len() as u32);
        if let Some(process) = snapshot.processes.at_mut(threads[group[0]].process) {
            process.threads = span;
        }
        start = span.end();
    }
    for index in snapshot.processes.indexes() {
        snapshot.by_pid.push(index);
    }
    let processes = &snapshot.processes;
    snapshot.by_pid.sort_unstable_by_key(|&index| threads[processes[index].leader].task.pid);
    snapshot.group_files_threads();
}

fn comm(name: &str) -> [u8; 16] {
    let mut comm = [0; 16];
    comm.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    comm
}
