//! Processes: threads grouped, and the structures that each process points to.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::pid::LEVEL_MAX;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::View;

use super::capability_sets::{CapabilitySet, CapabilitySetId, CapabilitySets};
use super::copied::MemoryCopyMode;
use super::fair_share::{Leads, TableShares};
use super::losses::WalkedStructure;
use super::snapshot::{
    CssSetRow, DentryRow, FilesRow, Index, MmRow, MountRow, PathRef, ProcessRow, Span, ThreadRow,
    UserGroupIds, row_at,
};
use super::tables::Snapshot;
use super::{Kernel, Reads, ScannedMemory, WalkScratch, Walker, fetch, fetch_groups};
use crate::address::MemoryReader;
use panoptes_tables::AddressedRows;

/// The number of a process's capabilities, if it is in the initial namespace and not root. The
/// namespaces are those of all processes so far: the oldest ones are in the initial one.
fn number_set(
    sets: &mut CapabilitySets,
    layouts: &Layouts,
    process: &ProcessRow,
    (cred, namespaces): (Option<View<'_>>, &[KernelVa]),
) -> CapabilitySetId {
    let is_in_first = namespaces.first() == namespaces.last();
    let is_user = process.ids.is_some_and(|ids| ids.uid != 0 && ids.euid != 0);
    cred.filter(|_| is_user && is_in_first).map_or(CapabilitySetId::UNKNOWN, |view| {
        sets.id_of(CapabilitySet {
            permitted: view.unsigned(layouts.cred.cap_permitted),
            ambient: view.unsigned(layouts.cred.cap_ambient),
        })
    })
}

/// Whether a task still has the number of its parent. A fork begins with a copy of the parent's
/// task (`dup_task_struct`, kernel/fork.c). Nothing leads to that yet, but what was copied later
/// may.
fn is_still_its_parent(task: &Task, threads: &AddressedRows<ThreadRow>) -> bool {
    let is_same = |parent: &ThreadRow| {
        let parent = &parent.task;
        (parent.pid, parent.start_boottime) == (task.pid, task.start_boottime)
    };
    task.is_leader()
        && task.group_leader != task.address
        && threads.at(threads.find(task.group_leader.0)).is_some_and(is_same)
}

impl Walker {
    /// Makes a row for each process, oldest first. Also sorts threads and processes by id.
    pub(super) fn group_threads(&mut self, memory: &mut ScannedMemory<'_>) {
        self.list_leaders();
        if self.scratch.leaders.len() > self.snapshot.processes.capacity() {
            self.cut_leaders(memory);
        }
        self.add_processes();
        self.group_by_process();
    }

    /// Lists the leaders, oldest first, and all threads.
    fn list_leaders(&mut self) {
        let snapshot = &mut self.snapshot;
        let threads = &mut snapshot.threads;
        let leaders = &mut self.scratch.leaders;
        leaders.clear();
        // Row 0 is `init_task`, which is in no process.
        let by_tid = &mut snapshot.by_tid;
        let may_be_torn = snapshot.copied == MemoryCopyMode::PageByPage;
        for (index, row) in threads.indexed().skip(1) {
            if may_be_torn && is_still_its_parent(&row.task, threads) {
                snapshot.torn += 1;
                continue;
            }
            by_tid.push(index);
            if row.task.is_leader() {
                leaders.push(index);
            }
        }
        leaders.sort_unstable_by_key(|&index| {
            let task = &threads[index].task;
            (task.start_boottime, task.pid)
        });
    }

    fn add_processes(&mut self) {
        let Snapshot { threads, processes, by_pid, .. } = &mut self.snapshot;
        for &leader in &self.scratch.leaders {
            threads[leader].process = processes.push(ProcessRow::new(leader));
        }
        for process in processes.indexes() {
            by_pid.push(process);
        }
        by_pid.sort_unstable_by_key(|&process| threads[processes[process].leader].task.pid);
    }

    /// Gives each process the span of its threads.
    fn group_by_process(&mut self) {
        let Snapshot { threads, processes, by_tid, .. } = &mut self.snapshot;
        by_tid.sort_unstable_by_key(|&index| {
            let task = &threads[index].task;
            (task.tgid, task.pid, index)
        });
        let mut start = 0;
        while let Some(&first) = by_tid.get(start) {
            let tgid = threads[first].task.tgid;
            let rest = by_tid.as_slice()[start..].iter();
            let count = rest.take_while(|&&index| threads[index].task.tgid == tgid).count();
            let span = Span::new(start as u32, (start + count) as u32);
            let group = by_tid.range(span);
            let process = group
                .iter()
                .map(|&index| &threads[index])
                .find(|row| row.task.pid == tgid)
                .and_then(|row| row.process);
            let mut runtime = 0_u64;
            for &index in group {
                let row = &mut threads[index];
                row.process = process;
                runtime = runtime.saturating_add(row.task.sum_exec_runtime);
            }
            if let Some(row) = processes.at_mut(process) {
                row.threads_runtime_ns = runtime;
                row.threads = span;
            }
            start += count;
        }
    }

    /// Reads what every process points to: credentials, namespaces, directories, address space,
    /// descriptor table.
    pub(super) fn read_processes(&mut self, memory: &mut ScannedMemory<'_>) {
        self.name_parents();
        self.snapshot.nets.clear();
        row_at(&mut self.snapshot.nets, memory.kernel.roots.init_net);
        self.scratch.nets.clear();
        self.scratch.ipc_namespaces.clear();
        self.scratch.directories.clear();
        self.scratch.user_namespaces.clear();
        self.scratch.outer_pid_namespaces.clear();
        let count = self.snapshot.processes.len();
        let mut start = 0;
        while start < count {
            let end = count.min(start + CHUNK);
            start = self.read_chunk(memory, start, end);
        }
        self.read_user_namespaces(memory);
        self.scratch.shares.set_owners(&mut self.snapshot, &self.scratch.outer_pid_namespaces);
        self.find_nets();
        self.find_directories();
        self.list_css_sets(memory.kernel);
        self.find_files_structs();
        self.read_nets(memory, 0);
        self.read_mms(memory);
        let executables = self.snapshot.files.len();
        (self.scratch.first_files, self.scratch.descriptor_files) = (executables, executables);
    }

    fn name_parents(&mut self) {
        let snapshot = &mut self.snapshot;
        for process in snapshot.processes.iter_mut() {
            let leader = &snapshot.threads[process.leader];
            let parent = snapshot.threads.find(leader.task.real_parent.0);
            process.parent_pid = snapshot.threads.at(parent).map_or(0, |parent| parent.task.tgid);
        }
    }

    /// Reads the processes in `start..end`, or as many of them as fit one batch. Returns the end of
    /// those read.
    fn read_chunk(&mut self, memory: &mut ScannedMemory<'_>, start: usize, end: usize) -> usize {
        self.reader.clear();
        for process in &self.snapshot.processes.as_slice()[start..end] {
            let task = &self.snapshot.threads[process.leader].task;
            if !push_process(&mut self.reader, memory.kernel, task) {
                break;
            }
        }
        // The objects of one process always fit an empty batch.
        let end = start + (self.reader.len() / PROCESS_OBJECTS).max(1);
        memory.run(&mut self.reader);
        self.scratch.mount_namespaces.clear();
        self.scratch.pid_numbers.clear();
        self.scratch.nested.clear();
        for position in start..end {
            self.place_process(memory.kernel, position, (position - start) * PROCESS_OBJECTS);
        }
        self.read_namespaces(memory, start);
        end
    }

    /// Fills the row of a process from the objects of the batch from `first` on, and lists what
    /// [`Self::read_namespaces`] reads.
    fn place_process(&mut self, kernel: &Kernel, position: usize, first: usize) {
        let layouts = &kernel.layouts;
        let snapshot = &mut self.snapshot;
        let process = &mut snapshot.processes.as_mut_slice()[position];
        let task = snapshot.threads[process.leader].task;
        let mut next = first;
        let mut object = |address: KernelVa| {
            let bytes = self.reader.object(next).map(View::new);
            next += 1;
            if bytes.is_none() && !address.is_null() {
                snapshot.losses.miss(WalkedStructure::ProcessStructure, address);
            }
            bytes
        };
        // In the order of `push_process`.
        let signal = object(task.signal);
        let fs = object(task.fs);
        let cred = object(task.real_cred);
        let nsproxy = object(task.nsproxy);
        let pid = object(task.thread_pid);

        snapshot.threads[process.leader].lacks_threads = signal.is_none();
        if let Some(view) = signal {
            process.ended_runtime_ns = view.unsigned(layouts.signal_struct.sum_sched_runtime);
            let threads = view.unsigned(layouts.signal_struct.nr_threads);
            snapshot.threads[process.leader].lacks_threads = threads > process.threads.len() as u64;
            let first = view.u64_at(layouts.signal_struct.thread_head, 0);
            process.first_thread = Some(KernelVa(first));
        }
        self.scratch.directories.push(fs.map_or((KernelVa::NULL, KernelVa::NULL), |view| {
            let mnt = u64::from(layouts.mount.mnt.offset);
            let mount = view.pointer(layouts.fs_struct.pwd_mnt).minus(mnt);
            (mount, view.pointer(layouts.fs_struct.pwd_dentry))
        }));
        process.ids = cred.map(|view| UserGroupIds {
            uid: view.unsigned(layouts.cred.uid) as u32,
            gid: view.unsigned(layouts.cred.gid) as u32,
            euid: view.unsigned(layouts.cred.euid) as u32,
            egid: view.unsigned(layouts.cred.egid) as u32,
        });
        let user_namespace = cred.map(|view| view.pointer(layouts.cred.user_ns));
        self.scratch.user_namespaces.push(user_namespace.unwrap_or_default());
        let read = (cred, &self.scratch.user_namespaces[..]);
        let capabilities = number_set(&mut snapshot.capability_sets, layouts, process, read);
        let pointer = |field| nsproxy.map_or(KernelVa::NULL, |view| view.pointer(field));
        self.scratch.mount_namespaces.push(pointer(layouts.nsproxy.mnt_ns));
        process.uts_namespace = pointer(layouts.nsproxy.uts_ns);
        self.scratch.nets.push(pointer(layouts.nsproxy.net_ns));
        if let Some(ipc_ns) = layouts.nsproxy.ipc_ns {
            self.scratch.ipc_namespaces.add(pointer(ipc_ns));
        }
        process.first_of_pid = pid.map(|view| KernelVa(view.u64_at(layouts.pid.tasks, 0)));
        let level = pid.map(|view| view.unsigned(layouts.pid.level) as u32);
        self.scratch.list_numbers(layouts, position, task.thread_pid, level);

        let (groups, mm) = (task.cgroups, task.mm);
        process.css_set = snapshot.css_sets.row_of(groups.0, || CssSetRow {
            address: groups,
            process: Index::new(position),
            is_used: true,
            ..CssSetRow::default()
        });
        process.mm = snapshot.mms.row_of(mm.0, || MmRow {
            address: mm,
            process: Index::new(position),
            capabilities,
            complete: true,
            ..MmRow::default()
        });
    }

    /// Reads the mount and pid namespaces of the processes from position `start` on, as listed.
    fn read_namespaces(&mut self, memory: &mut ScannedMemory<'_>, start: usize) {
        #[derive(Clone, Copy)]
        enum ProcessNamespaceKind {
            Mount,
            Pid,
        }
        let layouts = &memory.kernel.layouts;
        let (mounts, numbers) = (&self.scratch.mount_namespaces, &self.scratch.pid_numbers);
        let namespaces = &mut self.scratch.addresses;
        namespaces.clear();
        let losses = &mut self.snapshot.losses;
        let namespace_of = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| View::new(bytes).pointer(layouts.upid.ns)).unwrap_or_default()
        };
        fetch(&mut self.reader, memory, &layouts.upid.packing, numbers, |index, bytes| {
            if bytes.is_none() && !numbers[index].is_null() {
                losses.miss(WalkedStructure::ProcessNumber, numbers[index]);
            }
            namespaces.push(namespace_of(bytes));
        });
        let namespaces = namespaces.as_slice();
        let outer = &mut self.scratch.outer_pid_namespaces;
        outer.resize(self.scratch.user_namespaces.len(), KernelVa::NULL);
        let Reads { rows, addresses } = &self.scratch.nested;
        fetch(&mut self.reader, memory, &layouts.upid.packing, addresses, |index, bytes| {
            let position = rows[index].position();
            // One below the first is a process's own, which was read before.
            if bytes.is_none() && numbers[position - start] != addresses[index] {
                losses.miss(WalkedStructure::ProcessNumber, addresses[index]);
            }
            outer[position] = namespace_of(bytes);
        });
        let processes = &mut self.snapshot.processes.as_mut_slice()[start..];
        let (mnt, pid) = (&layouts.mnt_namespace, &layouts.pid_namespace);
        let groups = [
            (ProcessNamespaceKind::Mount, &mnt.packing, mounts.as_slice()),
            (ProcessNamespaceKind::Pid, &pid.packing, namespaces),
        ];
        fetch_groups(&mut self.reader, memory, groups, |kind, index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                let address = match kind {
                    ProcessNamespaceKind::Mount => mounts[index],
                    ProcessNamespaceKind::Pid => namespaces[index],
                };
                if !address.is_null() {
                    losses.miss(WalkedStructure::ProcessNamespace, address);
                }
                return;
            };
            let Some(process) = processes.get_mut(index) else { return };
            match kind {
                ProcessNamespaceKind::Mount => {
                    process.mount_namespace = view.unsigned(mnt.inum) as u32;
                }
                ProcessNamespaceKind::Pid => process.pid_namespace = view.unsigned(pid.inum) as u32,
            }
        });
    }

    /// Gives every descriptor table a row: nearly always one per process, but a thread can have its
    /// own. Lists those threads.
    fn find_files_structs(&mut self) {
        let (snapshot, own_tables) = (&mut self.snapshot, &mut self.scratch.own_tables);
        own_tables.clear();
        let tables = &mut snapshot.files_structs;
        let mut row_of = |address: KernelVa, process: Leads| {
            let row = || FilesRow { address, process, complete: true, ..FilesRow::default() };
            tables.row_of(address.0, row)
        };
        // Oldest processes first, so that the newest ones are dropped when there is no room.
        for (index, process) in (0..).zip(snapshot.processes.iter_mut()) {
            let files = snapshot.threads[process.leader].task.files;
            process.files = row_of(files, Index::new(index));
        }
        for &index in snapshot.by_tid.iter() {
            let thread = &mut snapshot.threads[index];
            thread.files = row_of(thread.task.files, thread.process);
            let Some(process) = snapshot.processes.at_mut(thread.process) else { continue };
            if process.files.is_none() {
                process.files = thread.files;
            } else if thread.files.is_some_and(|files| process.files != Some(files))
                && own_tables.has_room()
            {
                own_tables.push(index, thread.task.address);
            }
        }
    }

    /// Gives the network namespaces of all processes rows.
    fn find_nets(&mut self) {
        let Self { snapshot, scratch, .. } = self;
        let processes = snapshot.processes.as_mut_slice().iter_mut();
        for (position, (process, &net)) in processes.zip(&scratch.nets).enumerate() {
            process.net = scratch.shares.row_at(&mut snapshot.nets, Index::new(position), net);
        }
    }

    /// Gives the working directories of all processes rows.
    fn find_directories(&mut self) {
        let Self { snapshot, scratch, .. } = self;
        let (mounts, dentries) = (&mut snapshot.mounts, &mut snapshot.dentries);
        let processes = snapshot.processes.as_mut_slice().iter_mut();
        let directories = processes.zip(&scratch.directories).enumerate();
        for (position, (process, &(mount, dentry))) in directories {
            let leads = (&mut scratch.shares, Index::new(position));
            process.cwd = path_of(mounts, dentries, leads, mount, dentry);
        }
    }

    /// Reads the network namespaces in rows from position `first` on.
    pub(super) fn read_nets(&mut self, memory: &mut ScannedMemory<'_>, first: usize) {
        let layout = &memory.kernel.layouts.net;
        let nets = &mut self.snapshot.nets.as_mut_slice()[first..];
        let losses = &mut self.snapshot.losses;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(nets.iter().map(|net| net.address));
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::Namespace, addresses[index]);
                return;
            };
            let net = &mut nets[index];
            net.inum = view.unsigned(layout.inum) as u32;
            net.hashinfo = view.pointer(layout.hashinfo);
            net.udp_table = layout.udp_table.map_or(KernelVa::NULL, |table| view.pointer(table));
            net.first_device = KernelVa(view.u64_at(layout.dev_base_head, 0));
            net.last_device = KernelVa(view.u64_at(layout.dev_base_head, 1));
        });
    }

    fn read_mms(&mut self, memory: &mut ScannedMemory<'_>) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.mm_struct;
        let snapshot = &mut self.snapshot;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(snapshot.mms.iter().map(|mm| mm.address));
        let (mms, files) = (snapshot.mms.as_mut_slice(), &mut snapshot.files);
        let shares = &mut self.scratch.shares;
        let losses = &mut snapshot.losses;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let mm = &mut mms[index];
            let Some(view) = bytes.map(View::new) else {
                losses.miss(WalkedStructure::AddressSpace, addresses[index]);
                mm.complete = false;
                return;
            };
            mm.pgd = view.pointer(layout.pgd);
            mm.ma_root = view.optional(layout.ma_root).unwrap_or(0);
            let mm_rb = view.optional(layout.mm_rb).filter(|&node| node != 0);
            mm.mm_rb = mm_rb
                .zip(kernel.layouts.vm_area_struct.vm_rb)
                .map_or(KernelVa::NULL, |(node, vm_rb)| {
                    KernelVa(node).minus(u64::from(vm_rb.offset))
                });
            mm.map_count = view.unsigned(layout.map_count) as u32;
            mm.arguments = view.unsigned(layout.arg_start)..view.unsigned(layout.arg_end);
            mm.environment = view.unsigned(layout.env_start)..view.unsigned(layout.env_end);
            mm.heap = view.unsigned(layout.start_brk)..view.unsigned(layout.brk);
            mm.start_stack = view.unsigned(layout.start_stack);
            mm.context_flags = view.optional(layout.context_flags).unwrap_or(0);
            mm.ctx_id = view.optional(layout.ctx_id).unwrap_or(0);
            mm.exe_address = view.pointer(layout.exe_file);
            mm.exe_file = shares.row_at(files, mm.process, mm.exe_address);
        });
    }
}

impl WalkScratch {
    /// Lists where the numbers of a process in its own pid namespace and in the outermost one below
    /// the first are, given its `struct pid` and the level of that.
    fn list_numbers(
        &mut self,
        layouts: &Layouts,
        position: usize,
        pid: KernelVa,
        level: Option<u32>,
    ) {
        // A task's number in its own namespace is the deepest: `numbers[level]`.
        let level = level.filter(|&level| level <= LEVEL_MAX);
        let number_at = |level: u32| {
            let upid = u64::from(level) * u64::from(layouts.upid.size);
            pid.plus(u64::from(layouts.pid.numbers.offset) + upid)
        };
        self.pid_numbers.push(level.map(number_at).unwrap_or_default());
        if level.is_some_and(|level| level > 0)
            && let Some(row) = Index::new(position)
        {
            self.nested.push(row, number_at(1));
        }
    }
}

/// Processes whose first round is one batch. The reader has room for their objects if they are in
/// the direct map, as all but forged ones are.
pub(super) const CHUNK: usize = 4096;

/// Objects that [`push_process`] adds.
const PROCESS_OBJECTS: usize = 5;

/// Adds what a task points to to the batch; `false` when the batch is full.
fn push_process(reader: &mut MemoryReader, kernel: &Kernel, task: &Task) -> bool {
    let layouts = &kernel.layouts;
    let objects: [_; PROCESS_OBJECTS] = [
        (task.signal, &layouts.signal_struct.packing),
        (task.fs, &layouts.fs_struct.packing),
        (task.real_cred, &layouts.cred.packing),
        (task.nsproxy, &layouts.nsproxy.packing),
        (task.thread_pid, &layouts.pid.packing),
    ];
    let before = reader.len();
    for (address, packing) in objects {
        if reader.push(&kernel.space, address, packing).is_none() {
            reader.truncate(before);
            return false;
        }
    }
    true
}

/// The path of a file to which a process leads, with rows for its mount and its name.
pub(super) fn path_of(
    mounts: &mut AddressedRows<MountRow>,
    dentries: &mut AddressedRows<DentryRow>,
    (shares, process): (&mut TableShares, Leads),
    mount: KernelVa,
    dentry: KernelVa,
) -> PathRef {
    PathRef {
        mount: shares.row_at(mounts, process, mount),
        dentry: shares.row_at(dentries, process, dentry),
    }
}

#[cfg(test)]
mod tests {
    use crate::walk::Walker;
    use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};

    /// `unshare --user --map-root-user --net`, again and again.
    #[test]
    fn network_namespaces_of_one_user_leave_room_for_those_of_others() {
        const OTHERS: usize = 20;
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        let (mut kernel, number) = (kernel(), |at: usize| 7 + at as u64);
        kernel.roots.init_net = va(memory.structure());
        walker.snapshot.nets.set_capacity(200);
        for position in 0..300 + OTHERS {
            let uid = if position < 300 { 1000 } else { 0 };
            let process = add_process(&mut walker, &mut memory, uid);
            let [nsproxy, net, cred] = [0; 3].map(|_| memory.structure());
            memory.set(net, "net", "ns.inum", number(position));
            memory.set(nsproxy, "nsproxy", "net_ns", net);
            memory.set(cred, "cred", "uid", uid.into());
            let leader = walker.snapshot.processes[process].leader;
            let task = &mut walker.snapshot.threads[leader].task;
            (task.nsproxy, task.real_cred) = (va(nsproxy), va(cred));
        }
        walker.scratch.shares.begin(300 + OTHERS);
        memory.walk(&mut walker, &kernel, Walker::read_processes);
        let snapshot = &walker.snapshot;
        for (position, process) in snapshot.processes.iter().enumerate().skip(300) {
            assert_eq!(u64::from(snapshot.net_number(process.net)), number(position));
        }
        let known = snapshot.processes.iter().filter(|process| process.net.is_some()).count();
        assert_eq!(known, 99 + 50 + OTHERS, "half of the table, and a user's part of the other");
        assert_eq!(snapshot.nets.dropped as usize, 300 - 99 - 50);
    }

    #[test]
    fn namespaces_of_a_process_that_cannot_be_read_are_named_and_are_no_loss() {
        let (mut memory, mut walker, kernel) = (Sparse::default(), walker(&small()), kernel());
        let [nsproxy, mount, pid, namespace, nested] = [0; 5].map(|_| memory.structure());
        // The second number is behind the structure.
        let number = nested + 16 + 1024;
        memory.structure();
        memory.set(nsproxy, "nsproxy", "mnt_ns", mount);
        memory.put(pid + 16, namespace);
        memory.set(nested, "pid", "level", 1);
        for pid in [pid, nested] {
            let process = add_process(&mut walker, &mut memory, 0);
            let leader = walker.snapshot.processes[process].leader;
            let task = &mut walker.snapshot.threads[leader].task;
            (task.nsproxy, task.thread_pid) = (va(nsproxy), va(pid));
        }
        memory.missing.extend([mount, namespace, number].map(|at| at..at + 8));
        walker.scratch.shares.begin(2);
        memory.walk(&mut walker, &kernel, Walker::read_processes);
        let losses = &walker.snapshot.losses;
        let stops: Vec<_> = losses.frequent_stops().iter().map(ToString::to_string).collect();
        let expected = [
            format!("namespace of a process: unreadable at {mount:#x}"),
            format!("number of a process: unreadable at {number:#x}"),
        ];
        assert_eq!(stops, expected);
        assert!(losses.is_whole());
    }

    /// In a user namespace of her own, every user has all capabilities.
    #[test]
    fn the_capabilities_of_a_user_count_in_the_first_namespace() {
        const NET_RAW: u64 = 1 << 13;
        const ALL: u64 = (1 << 41) - 1;
        let (mut memory, mut walker, kernel) = (Sparse::default(), walker(&small()), kernel());
        let [first, other] = [0; 2].map(|_| memory.structure());
        for (uid, permitted, ambient, namespace) in [
            (0, ALL, 0, first),
            (1000, 0, 0, first),
            (1000, NET_RAW, NET_RAW, first),
            (1000, ALL, 5, first),
            (1000, ALL, 0, other),
        ] {
            let process = add_process(&mut walker, &mut memory, uid);
            let cred = memory.structure();
            for (field, value) in [
                ("uid.val", uid.into()),
                ("euid.val", uid.into()),
                ("cap_permitted.val", permitted),
                ("cap_ambient.val", ambient),
                ("user_ns", namespace),
            ] {
                memory.set(cred, "cred", field, value);
            }
            let leader = walker.snapshot.processes[process].leader;
            let task = &mut walker.snapshot.threads[leader].task;
            (task.real_cred, task.mm) = (va(cred), va(memory.structure()));
        }
        walker.scratch.shares.begin(5);
        memory.walk(&mut walker, &kernel, Walker::read_processes);
        let snapshot = &walker.snapshot;
        let sets = snapshot.processes.iter().map(|it| snapshot.capabilities_of(it));
        let sets: Vec<_> = sets.map(|set| set.map(|set| (set.permitted, set.ambient))).collect();
        assert_eq!(sets, [None, Some((0, 0)), Some((NET_RAW, NET_RAW)), Some((ALL, 5)), None]);
    }

    /// A pid namespace in a container is part of the container.
    #[test]
    fn a_nested_pid_namespace_counts_for_the_outermost_container() {
        let (mut memory, mut walker, kernel) = (Sparse::default(), walker(&small()), kernel());
        let namespaces: Vec<u64> = (0..4)
            .map(|number| {
                let namespace = memory.structure();
                memory.set(namespace, "pid_namespace", "ns.inum", number + 1);
                namespace
            })
            .collect();
        // The namespaces of each process, from the outermost to its own.
        let all: [&[usize]; 5] = [&[0], &[0, 1], &[0, 1, 2], &[0, 3], &[0, 3, 2]];
        for nested in all {
            let process = add_process(&mut walker, &mut memory, 0);
            let (pid, cred) = (memory.room(4096), memory.structure());
            memory.set(pid, "pid", "level", nested.len() as u64 - 1);
            for (level, &at) in nested.iter().enumerate() {
                let upid = pid + u64::from(kernel.layouts.pid.numbers.offset);
                let upid = upid + level as u64 * u64::from(kernel.layouts.upid.size);
                memory.set(upid, "upid", "ns", namespaces[at]);
            }
            let leader = walker.snapshot.processes[process].leader;
            let task = &mut walker.snapshot.threads[leader].task;
            (task.thread_pid, task.real_cred) = (va(pid), va(cred));
        }
        walker.scratch.shares.begin(all.len());
        memory.walk(&mut walker, &kernel, Walker::read_processes);
        let processes = walker.snapshot.processes.iter();
        let found: Vec<_> = processes.map(|it| (it.pid_namespace, it.owner)).collect();
        assert_eq!(found, [(1, 0), (2, 1), (3, 1), (4, 2), (3, 2)]);
    }
}
