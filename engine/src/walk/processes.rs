//! Processes: threads grouped, and the structures that each process points to.

use core::mem;

use panoptes_decoders::address::{KernelVa, UserVa};
use panoptes_decoders::kernel::pid::LEVEL_MAX;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::View;
use panoptes_decoders::paging::KernelSpace;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use super::snapshot::{
    CssSetRow, FilesRow, Ids, MmRow, MountRow, NetRow, PathRef, ProcessRow, Rows,
};
use super::{DentryRow, Kernel, NONE, Walker, fetch, fetch_groups, row_of};
use panoptes_tables::AddressMap;

/// Maximum number of bytes read of a command line.
const COMMAND_LINE_BYTES_MAX: u64 = 16_384;
/// Bytes that `/proc/PID/cmdline` returns of a title that a process wrote over its arguments
/// (`get_mm_proctitle`, fs/proc/base.c): one page.
const TITLE_BYTES_MAX: u64 = 4096;

impl Walker {
    /// Makes a row for each process, oldest first, so that the newest ones are dropped when there
    /// is no room. Also sorts threads and processes by id.
    pub(super) fn group_threads(&mut self) {
        let snapshot = &mut self.snapshot;
        let threads = &mut snapshot.threads;
        let by_pid = &mut snapshot.by_pid;
        for (index, row) in threads.iter().enumerate().skip(1) {
            if row.task.is_leader() {
                by_pid.push(index as u32);
            }
        }
        by_pid.sort_unstable_by_key(|&index| {
            let task = &threads[index as usize].task;
            (task.start_boottime, task.pid)
        });
        for &leader in by_pid.iter() {
            let row = ProcessRow { leader, ..ProcessRow::default() };
            if let Some(process) = snapshot.processes.push(row) {
                threads[leader as usize].process = process;
            }
        }
        by_pid.clear();
        for process in 0..snapshot.processes.len() {
            by_pid.push(process as u32);
        }
        let pid = |process: u32| {
            let leader = snapshot.processes[process as usize].leader;
            threads[leader as usize].task.pid
        };
        by_pid.sort_unstable_by_key(|&process| pid(process));

        let by_tid = &mut snapshot.by_tid;
        for index in 1..threads.len() {
            by_tid.push(index as u32);
        }
        by_tid.sort_unstable_by_key(|&index| {
            let task = &threads[index as usize].task;
            (task.tgid, task.pid, index)
        });
        let mut start = 0;
        while start < by_tid.len() {
            let tgid = threads[by_tid[start] as usize].task.tgid;
            let count = by_tid[start..]
                .iter()
                .take_while(|&&index| threads[index as usize].task.tgid == tgid)
                .count();
            let group = &by_tid[start..start + count];
            let process = group
                .iter()
                .map(|&index| threads[index as usize])
                .find(|row| row.task.pid == tgid)
                .map_or(NONE, |row| row.process);
            let mut runtime = 0_u64;
            for &index in group {
                let row = &mut threads[index as usize];
                row.process = process;
                runtime = runtime.saturating_add(row.task.sum_exec_runtime);
            }
            if let Some(row) = snapshot.processes.get_mut(process as usize) {
                row.threads_runtime_ns = runtime;
                row.thread_count = count as u32;
            }
            start += count;
        }
    }

    /// Reads what every process points to: credentials, namespaces, directories, address space,
    /// descriptor table, command line.
    pub(super) fn read_processes<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.name_parents();
        self.snapshot.nets.clear();
        let init_net = kernel.roots.init_net;
        row_of(&mut self.maps.nets, &mut self.snapshot.nets, init_net, || NetRow::new(init_net));
        let count = self.snapshot.processes.len();
        let mut start = 0;
        while start < count {
            let end = count.min(start + CHUNK);
            start = self.read_chunk(source, kernel, start, end);
        }
        self.list_css_sets(kernel);
        self.find_files_structs();
        self.read_nets(source, kernel);
        self.read_mms(source, kernel);
        self.read_command_lines(source, kernel);
    }

    fn name_parents(&mut self) {
        let snapshot = &mut self.snapshot;
        for process in snapshot.processes.iter_mut() {
            let Some(leader) = snapshot.threads.at(process.leader) else { continue };
            let parent = self.maps.tasks.get(leader.task.real_parent.0);
            process.parent_pid = parent
                .and_then(|parent| snapshot.threads.at(parent))
                .map_or(0, |parent| parent.task.tgid);
        }
    }

    /// Reads the processes in `start..end`, or as many of them as fit one batch. Returns the end of
    /// those read.
    fn read_chunk<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        start: usize,
        end: usize,
    ) -> usize {
        let layouts = &kernel.layouts;
        let space = &kernel.space;
        let reader = &mut self.reader;
        let snapshot = &mut self.snapshot;
        let losses = &mut snapshot.losses;
        reader.clear();
        for process in &snapshot.processes[start..end] {
            let task = snapshot.threads[process.leader as usize].task;
            let before = reader.len();
            let pushed = [
                (task.signal, &layouts.signal_struct.packing),
                (task.fs, &layouts.fs_struct.packing),
                (task.real_cred, &layouts.cred.packing),
                (task.nsproxy, &layouts.nsproxy.packing),
                (task.thread_pid, &layouts.pid.packing),
            ]
            .into_iter()
            .all(|(address, packing)| reader.push(space, address, packing).is_some());
            if !pushed {
                reader.truncate(before);
                break;
            }
        }
        // The five objects of one process always fit an empty batch.
        let end = start + (reader.len() / 5).max(1);
        reader.run(source, space.levels);

        // Addresses for the next round: two lists, each with one entry per process.
        let mut mnts = mem::take(&mut self.scratch.more);
        let mut pids = mem::take(&mut self.scratch.extra);
        mnts.clear();
        pids.clear();
        for (at, process) in snapshot.processes[start..end].iter_mut().enumerate() {
            let task = snapshot.threads[process.leader as usize].task;
            let mut object = |which: usize, address: KernelVa| {
                let bytes = reader.object(at * 5 + which).map(View::new);
                if bytes.is_none() && !address.is_null() {
                    losses.unreadable += 1;
                }
                bytes
            };
            if let Some(view) = object(0, task.signal) {
                process.ended_runtime_ns = view.unsigned(layouts.signal_struct.sum_sched_runtime);
                process.first_thread =
                    Some(KernelVa(view.u64_at(layouts.signal_struct.thread_head, 0)));
            }
            if let Some(view) = object(1, task.fs) {
                process.cwd = path_of(
                    &mut self.maps.mounts,
                    &mut snapshot.mounts,
                    &mut self.maps.dentries,
                    &mut snapshot.dentries,
                    view.pointer(layouts.fs_struct.pwd_mnt)
                        .minus(u64::from(layouts.mount.mnt.offset)),
                    view.pointer(layouts.fs_struct.pwd_dentry),
                );
            }
            if let Some(view) = object(2, task.real_cred) {
                process.ids = Some(Ids {
                    uid: view.unsigned(layouts.cred.uid) as u32,
                    gid: view.unsigned(layouts.cred.gid) as u32,
                    euid: view.unsigned(layouts.cred.euid) as u32,
                    egid: view.unsigned(layouts.cred.egid) as u32,
                });
            }
            let nsproxy = object(3, task.nsproxy);
            let pointer = |field| nsproxy.map_or(KernelVa::NULL, |view| view.pointer(field));
            mnts.push(pointer(layouts.nsproxy.mnt_ns));
            process.uts_namespace = pointer(layouts.nsproxy.uts_ns);
            let net = pointer(layouts.nsproxy.net_ns);
            // The row index for now; `read_nets` replaces it with the number.
            process.network_namespace =
                row_of(&mut self.maps.nets, &mut snapshot.nets, net, || NetRow::new(net));
            // A task's number in its own namespace is the deepest of its `struct pid`:
            // `numbers[level]`.
            let pid = object(4, task.thread_pid);
            process.first_of_pid = pid.map(|view| KernelVa(view.u64_at(layouts.pid.tasks, 0)));
            let level = pid
                .map(|view| view.unsigned(layouts.pid.level) as u32)
                .filter(|&level| level <= LEVEL_MAX);
            pids.push(level.map_or(KernelVa::NULL, |level| {
                let upid = u64::from(level) * u64::from(layouts.upid.size);
                task.thread_pid.plus(u64::from(layouts.pid.numbers.offset) + upid)
            }));

            let groups = task.cgroups;
            process.css_set =
                row_of(&mut self.maps.css_sets, &mut snapshot.css_sets, groups, || CssSetRow {
                    address: groups,
                    is_used: true,
                    ..CssSetRow::default()
                });
            let mm_row = || MmRow { address: task.mm, complete: true, ..MmRow::default() };
            process.mm = row_of(&mut self.maps.mms, &mut snapshot.mms, task.mm, mm_row);
        }
        let namespaces = &mut self.scratch.results;
        namespaces.clear();
        fetch(reader, source, kernel, &layouts.upid.packing, &pids, |_, bytes| {
            let ns = bytes.map(|bytes| View::new(bytes).pointer(layouts.upid.ns));
            namespaces.push(ns.unwrap_or_default());
        });
        let processes = &mut snapshot.processes;
        fetch_groups(
            reader,
            source,
            kernel,
            [(&layouts.mnt_namespace.packing, &mnts), (&layouts.pid_namespace.packing, namespaces)],
            |group, index, bytes| {
                let (Some(bytes), Some(process)) = (bytes, processes.get_mut(start + index)) else {
                    return;
                };
                let view = View::new(bytes);
                if group == 0 {
                    process.mount_namespace = view.unsigned(layouts.mnt_namespace.inum) as u32;
                } else {
                    process.pid_namespace = view.unsigned(layouts.pid_namespace.inum) as u32;
                }
            },
        );
        self.scratch.more = mnts;
        self.scratch.extra = pids;
        end
    }

    /// Gives every descriptor table a row: nearly always one per process, but a thread can have its
    /// own.
    fn find_files_structs(&mut self) {
        let snapshot = &mut self.snapshot;
        // Oldest processes first, so that the newest ones are dropped when there is no room.
        for process in snapshot.processes.iter_mut() {
            let leader = snapshot.threads[process.leader as usize].task;
            process.files = row_of(
                &mut self.maps.files_structs,
                &mut snapshot.files_structs,
                leader.files,
                || FilesRow { address: leader.files, complete: true, ..FilesRow::default() },
            );
        }
        for &index in snapshot.by_tid.iter() {
            let thread = &mut snapshot.threads[index as usize];
            let files = thread.task.files;
            thread.files =
                row_of(&mut self.maps.files_structs, &mut snapshot.files_structs, files, || {
                    FilesRow { address: files, complete: true, ..FilesRow::default() }
                });
            if let Some(process) = snapshot.processes.get_mut(thread.process as usize)
                && process.files == NONE
            {
                process.files = thread.files;
            }
        }
    }

    /// Reads the network namespaces that have a row, and sets each process's namespace number.
    fn read_nets<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        self.read_nets_from(source, kernel, 0);
        let snapshot = &mut self.snapshot;
        for process in snapshot.processes.iter_mut() {
            process.network_namespace =
                snapshot.nets.at(process.network_namespace).map_or(0, |net| net.inum);
        }
    }

    /// Reads the network namespaces in rows from `first` on.
    pub(super) fn read_nets_from<S: MemorySource>(
        &mut self,
        source: &mut S,
        kernel: &Kernel,
        first: usize,
    ) {
        let layout = &kernel.layouts.net;
        let nets = &mut self.snapshot.nets;
        let losses = &mut self.snapshot.losses;
        let addresses = &mut self.scratch.results;
        addresses.clear();
        addresses.extend(nets[first..].iter().map(|net| net.address));
        let packing = &layout.packing;
        fetch(&mut self.reader, source, kernel, packing, addresses, |index, bytes| {
            let Some(view) = bytes.map(View::new) else {
                losses.unreadable += 1;
                return;
            };
            let net = &mut nets[first + index];
            net.inum = view.unsigned(layout.inum) as u32;
            net.hashinfo = view.pointer(layout.hashinfo);
            net.first_device = KernelVa(view.u64_at(layout.dev_base_head, 0));
        });
    }

    fn read_mms<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layout = &kernel.layouts.mm_struct;
        let snapshot = &mut self.snapshot;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(snapshot.mms.iter().map(|mm| mm.address));
        let (mms, files) = (&mut snapshot.mms, &mut snapshot.files);
        let (losses, map) = (&mut snapshot.losses, &mut self.maps.files);
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
            let mm = &mut mms[index];
            let Some(bytes) = bytes else {
                losses.unreadable += 1;
                mm.complete = false;
                return;
            };
            let view = View::new(bytes);
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
            mm.exe_address = view.pointer(layout.exe_file);
            mm.exe_file =
                row_of(map, files, mm.exe_address, || super::FileRow::new(mm.exe_address));
        });
    }

    /// Reads command lines as `/proc/PID/cmdline` does (`get_mm_cmdline`, fs/proc/base.c): the
    /// arguments or, if the process wrote a title over their last NUL, that title up to its NUL.
    fn read_command_lines<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut next = 0;
        while next < self.snapshot.mms.len() {
            let first = next;
            self.reader.clear();
            while let Some(mm) = self.snapshot.mms.at(next as u32) {
                if !push_arguments(&mut self.reader, &kernel.space, mm) {
                    break;
                }
                next += 1;
            }
            if self.reader.is_empty() {
                return;
            }
            self.reader.run(source, kernel.space.levels);
            let snapshot = &mut self.snapshot;
            let losses = &mut snapshot.losses;
            for (at, mm) in snapshot.mms[first..next].iter_mut().enumerate() {
                if mm.arguments.is_empty() {
                    mm.has_command_line = mm.arguments.start == mm.arguments.end;
                    continue;
                }
                let piece = |which| self.reader.object(at * PIECES + which);
                let (all, last, title, first_page) = (piece(0), piece(1), piece(2), piece(3));
                let whole = match last {
                    Some(&[byte]) if byte != 0 => title.or(all).map(|title| {
                        let end = title.iter().position(|&byte| byte == 0);
                        &title[..end.map_or(title.len(), |end| end + 1)]
                    }),
                    _ => all,
                };
                // Arguments that continue into unmapped memory are read up to there.
                let text = whole.or(first_page);
                mm.command_line_cut = whole.is_none();
                let Some(range) = text.and_then(|text| snapshot.bytes.extend(text)) else {
                    losses.not_resident += 1;
                    continue;
                };
                mm.command_line = range;
                mm.has_command_line = true;
            }
        }
    }

    /// Reads every process's leader again. If it has changed, this scan's data about the process
    /// may be inconsistent.
    pub(super) fn check_stability<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let layout = &kernel.layouts.task_struct;
        let snapshot = &mut self.snapshot;
        let addresses = &mut self.scratch.addresses;
        addresses.clear();
        addresses.extend(
            snapshot
                .processes
                .iter()
                .map(|process| snapshot.threads[process.leader as usize].task.address),
        );
        let (processes, threads) = (&mut snapshot.processes, &mut snapshot.threads);
        fetch(&mut self.reader, source, kernel, &layout.packing, addresses, |index, bytes| {
            let process = &mut processes[index];
            let leader = &mut threads[process.leader as usize].task;
            let before = *leader;
            let after = bytes.map(|bytes| Task::decode(layout, before.address, bytes));
            // A task is copied piece by piece, so its name can be from before an exec whose exec id
            // was already read. The later name matches the data that was read since.
            if let Some(after) = after.filter(|after| after.is_same_thread(&before)) {
                leader.comm = after.comm;
            }
            process.stable = after.is_some_and(|after| {
                after.is_same_thread(&before)
                    && after.mm == before.mm
                    && after.files == before.files
                    && after.self_exec_id == before.self_exec_id
                    && (after.exit_state == 0) == (before.exit_state == 0)
            });
        });
    }
}

/// Processes whose first round is one batch: five objects each. The reader has room for them if
/// they are in the direct map, as all but forged ones are.
const CHUNK: usize = 4096;

/// Pieces in which a command line is read.
const PIECES: usize = 4;

/// Adds the pieces of an address space's command line to the batch; `false` when the batch is full.
fn push_arguments(reader: &mut crate::address::Reader, space: &KernelSpace, mm: &MmRow) -> bool {
    // The kernel reaches page tables through the direct map.
    let root = space.linear(mm.pgd).unwrap_or_default();
    let valid = !mm.arguments.is_empty() && !root.is_null();
    let length = mm.arguments.end.saturating_sub(mm.arguments.start);
    let limit = if mm.environment.start == mm.arguments.end {
        mm.environment.end.max(mm.arguments.end)
    } else {
        mm.arguments.end
    };
    let title = limit.saturating_sub(mm.arguments.start).min(TITLE_BYTES_MAX);
    let start = UserVa(mm.arguments.start);
    let pieces = if valid {
        [
            (start, length.min(COMMAND_LINE_BYTES_MAX)),
            (UserVa(mm.arguments.end - 1), 1),
            (start, title),
            (start, length.min(PAGE_BYTES - start.0 % PAGE_BYTES)),
        ]
    } else {
        [(UserVa(u64::MAX), 1); PIECES]
    };
    let before = reader.len();
    for (address, length) in pieces {
        if reader.push_user(space.levels, root, address, length as u32).is_none() {
            reader.truncate(before);
            return false;
        }
    }
    true
}

/// The path of a file, with rows for its mount and its name.
pub(super) fn path_of(
    mount_map: &mut AddressMap,
    mounts: &mut Rows<MountRow>,
    dentry_map: &mut AddressMap,
    dentries: &mut Rows<DentryRow>,
    mount: KernelVa,
    dentry: KernelVa,
) -> PathRef {
    PathRef {
        mount: row_of(mount_map, mounts, mount, || MountRow::new(mount)),
        dentry: row_of(dentry_map, dentries, dentry, || DentryRow::new(dentry)),
    }
}
