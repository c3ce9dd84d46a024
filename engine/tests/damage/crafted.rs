//! Structures as a hostile kernel would forge them, one at a time, in recorded memory: each forgery
//! hides only the objects that depend on it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::{Losses, MmRow, ProcessRow, ScanError, Snapshot};

use super::common::damage::Damaged;
use super::common::{Scanner, entities};
use super::{Machine, Watch, machines, scan};

/// Addresses of some objects of an undamaged machine.
struct Landmarks {
    /// The `task_struct`s in the task list, `init_task` first.
    tasks: Vec<KernelVa>,
    /// A process with an address space, descriptors and arguments.
    process: Process,
    /// The `struct dentry`s that are not roots, the deepest first, with their parents.
    dentries: Vec<(KernelVa, KernelVa)>,
    mounts: Vec<KernelVa>,
    socks: Vec<KernelVa>,
    entities: u64,
    processes: usize,
    connections: usize,
    hashinfo: KernelVa,
    first_device: KernelVa,
}

struct Process {
    task: KernelVa,
    signal: KernelVa,
    thread_pid: KernelVa,
    nsproxy: KernelVa,
    mm: KernelVa,
    pgd: KernelVa,
    ma_root: u64,
    mm_rb: KernelVa,
    fdtable: KernelVa,
    file: KernelVa,
    inode: KernelVa,
    super_block: KernelVa,
    vma_count: usize,
}

impl Landmarks {
    fn find(snapshot: &Snapshot) -> Self {
        let has_all = |row: &&ProcessRow| {
            let mm = snapshot.mms.at(row.mm);
            let files = snapshot.files_structs.at(row.files);
            mm.is_some_and(|mm| mm.has_command_line && mm.vmas.len() > 16)
                && files.is_some_and(|files| !files.descriptors.is_empty())
        };
        let row = snapshot.processes.iter().find(has_all).expect("a process with everything");
        let task = snapshot.leader(row).unwrap().task;
        let mm: &MmRow = snapshot.mms.at(row.mm).unwrap();
        let table = snapshot.files_structs.at(row.files).unwrap();
        let descriptor = snapshot.descriptors.range(table.descriptors)[0];
        let file = snapshot.files.at(descriptor.file).unwrap();
        let inode = snapshot.inodes.at(file.inode).unwrap();
        let mut depths: Vec<(usize, KernelVa, KernelVa)> = Vec::new();
        for (index, dentry) in snapshot.dentries.indexed() {
            if dentry.parent == Some(index) {
                continue;
            }
            let (mut at, mut depth) = (dentry, 0);
            while at.name.parent != at.name.address && depth < 5000 {
                at = snapshot.dentries.at(at.parent).unwrap();
                depth += 1;
            }
            depths.push((depth, dentry.name.address, dentry.name.parent));
        }
        depths.sort_by_key(|&(depth, ..)| std::cmp::Reverse(depth));
        let leaders =
            snapshot.processes.iter().map(|row| snapshot.leader(row).unwrap().task.address);
        Self {
            tasks: std::iter::once(snapshot.threads.first().unwrap().task.address)
                .chain(leaders)
                .collect(),
            process: Process {
                task: task.address,
                signal: task.signal,
                thread_pid: task.thread_pid,
                nsproxy: task.nsproxy,
                mm: mm.address,
                pgd: mm.pgd,
                ma_root: mm.ma_root,
                mm_rb: mm.mm_rb,
                fdtable: table.table,
                file: file.address,
                inode: inode.address,
                super_block: inode.attributes.super_block,
                vma_count: mm.vmas.len(),
            },
            dentries: depths.into_iter().map(|(_, dentry, parent)| (dentry, parent)).collect(),
            mounts: snapshot.mounts.iter().map(|row| row.address).collect(),
            socks: snapshot.connections.iter().map(|row| row.address).collect(),
            entities: entities(snapshot),
            processes: snapshot.processes.len(),
            connections: snapshot.connections.len(),
            hashinfo: snapshot.nets.first().unwrap().hashinfo,
            first_device: snapshot.nets.first().unwrap().first_device,
        }
    }

    fn maple_root(&self) -> KernelVa {
        KernelVa(self.process.ma_root & !0xff)
    }
}

/// The result of scanning a forgery.
struct Found<'s> {
    snapshot: &'s Snapshot,
    error: Option<ScanError>,
    marks: &'s Landmarks,
}

impl Found<'_> {
    /// Checks that every process was found.
    fn all_processes(&self) {
        assert_eq!(self.snapshot.processes.len(), self.marks.processes);
    }

    /// Checks that every process was found, and that at most `lost_max` objects are missing.
    fn nearly_all(&self, lost_max: u64) {
        self.all_processes();
        let found = entities(self.snapshot);
        let all = self.marks.entities;
        assert!(found + lost_max >= all, "{found} of {all} entities");
    }

    fn losses(&self) -> Losses {
        self.snapshot.losses
    }

    fn mm(&self) -> &MmRow {
        let marks = &self.marks.process;
        self.snapshot.mms.iter().find(|mm| mm.address == marks.mm).expect("its row is there")
    }
}

type Forge = fn(&mut Damaged<'_>, &Layouts, &Landmarks, &Machine);
type Expect = fn(&Found<'_>);

/// Name, forgery, expected result.
const FORGERIES: &[(&str, Forge, Expect)] = &[
    (
        "the task list closes in its middle",
        |memory, layouts, marks, _| {
            let link = layouts.task_struct.tasks;
            let back = marks.tasks[2].plus(u64::from(link.offset));
            memory.set(marks.tasks[5], link, back.0);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.snapshot.task_list_closed);
            assert!(found.losses().unbounded > 0);
        },
    ),
    (
        "a task points to itself",
        |memory, layouts, marks, _| {
            let link = layouts.task_struct.tasks;
            let own = marks.tasks[5].plus(u64::from(link.offset));
            memory.set(marks.tasks[5], link, own.0);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.snapshot.task_list_closed);
        },
    ),
    (
        "the task list leads to what is no address",
        |memory, layouts, marks, _| {
            memory.set(marks.tasks[5], layouts.task_struct.tasks, 0x1234_5678_9abc_def0);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.snapshot.task_list_closed);
        },
    ),
    (
        "the task list leads to what is not mapped",
        |memory, layouts, marks, _| {
            memory.set(marks.tasks[5], layouts.task_struct.tasks, 0xffff_c900_0000_1000);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.snapshot.task_list_closed);
        },
    ),
    (
        "a thread group closes in itself",
        |memory, layouts, marks, _| {
            let link = layouts.task_struct.thread_node;
            let own = marks.process.task.plus(u64::from(link.offset));
            memory.set(marks.process.task, link, own.0);
        },
        |found| found.nearly_all(0),
    ),
    (
        "a name without an end",
        |memory, layouts, marks, _| {
            let comm = layouts.task_struct.comm;
            memory.put(marks.process.task.plus(u64::from(comm.offset)), &[b'x'; 16]);
        },
        // It hides no process.
        |found| found.nearly_all(0),
    ),
    (
        "the first task is gone",
        |memory, layouts, marks, _| {
            let comm = layouts.task_struct.comm;
            memory.put(marks.tasks[0].plus(u64::from(comm.offset)), &[0xff; 16]);
        },
        |found| assert_eq!(found.error, Some(ScanError::NoInitTask)),
    ),
    (
        "the pid tree's root leads to itself",
        |memory, layouts, _, machine| {
            let root = pid_root(memory, machine);
            for slot in 0..u64::from(layouts.xa_node.slots.size / 8) {
                let at = root.plus(u64::from(layouts.xa_node.slots.offset) + slot * 8);
                memory.put_u64(at, root.0 | 2);
            }
        },
        |found| assert!(!found.snapshot.processes.is_empty()),
    ),
    (
        "a leaf of the pid tree leads to its parent",
        |memory, layouts, _, machine| {
            let root = pid_root(memory, machine);
            let slots = u64::from(layouts.xa_node.slots.offset);
            let leaf = KernelVa(memory.word(root.plus(slots)) & !3);
            for slot in 0..8 {
                memory.put_u64(leaf.plus(slots + slot * 8), root.0 | 2);
            }
        },
        |found| assert!(!found.snapshot.processes.is_empty()),
    ),
    (
        "the pid tree is a number",
        |memory, layouts, _, machine| {
            let root = machine.kernel.roots.init_pid_ns.plus(layouts.pid_idr_root());
            memory.put_u64(root, 0xdead_beef_0002);
        },
        |found| assert!(!found.snapshot.processes.is_empty()),
    ),
    (
        "a struct pid of endless depth",
        |memory, layouts, marks, _| {
            memory.set(marks.process.thread_pid, layouts.pid.level, u64::MAX);
        },
        |found| found.nearly_all(0),
    ),
    (
        "all that a tree of areas leads to is its root",
        |memory, layouts, marks, _| {
            let area = &layouts.vm_area_struct;
            if let (Some(node), Some(left), Some(right)) = (area.vm_rb, area.rb_left, area.rb_right)
            {
                let root = marks.process.mm_rb;
                for link in [left, right] {
                    memory.set(root, link, root.plus(u64::from(node.offset)).0);
                }
                return;
            }
            // In every type of node, all words behind the parent pointer are pivots or slots.
            for word in 1..32 {
                memory.put_u64(marks.maple_root().plus(word * 8), marks.process.ma_root);
            }
        },
        |found| {
            found.nearly_all(found.marks.process.vma_count as u64);
            assert!(!found.mm().complete);
        },
    ),
    (
        "a maple tree's root claims to be of every other kind, a red-black tree's is elsewhere",
        |memory, layouts, marks, _| {
            let mm = &layouts.mm_struct;
            let (root, value) = match (mm.ma_root, mm.mm_rb) {
                (Some(root), _) => (root, marks.process.ma_root),
                (None, root) => (root.expect("a kernel has either tree"), marks.process.mm_rb.0),
            };
            memory.set(marks.process.mm, root, value ^ 0x18);
        },
        |found| {
            found.all_processes();
            assert!(!found.mm().complete);
        },
    ),
    (
        "an address space claims four billion areas",
        |memory, layouts, marks, _| {
            memory.set(marks.process.mm, layouts.mm_struct.map_count, u64::from(u32::MAX));
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.mm().complete);
        },
    ),
    (
        "a table of four billion descriptors",
        |memory, layouts, marks, _| {
            memory.set(marks.process.fdtable, layouts.fdtable.max_fds, u64::from(u32::MAX));
        },
        |found| {
            found.all_processes();
            let table = found.marks.process.fdtable;
            let rows = &found.snapshot.files_structs;
            let row = rows.iter().find(|row| row.table == table).expect("its row is there");
            assert!(!row.complete);
        },
    ),
    (
        "a table of descriptors in the page tables",
        |memory, layouts, marks, machine| {
            let root = machine.kernel.space.direct_map.start + machine.kernel.space.root.0;
            memory.set(marks.process.fdtable, layouts.fdtable.fd, root);
        },
        |found| found.all_processes(),
    ),
    (
        "two directories in each other",
        |memory, layouts, marks, _| {
            let (child, parent) = marks.dentries[0];
            memory.set(parent, layouts.dentry.d_parent, child.0);
        },
        |found| found.nearly_all(0),
    ),
    (
        "every directory in the next",
        |memory, layouts, marks, _| {
            for (index, (dentry, _)) in marks.dentries.iter().enumerate().take(500) {
                let next = marks.dentries[(index + 1) % marks.dentries.len()].0;
                memory.set(*dentry, layouts.dentry.d_parent, next.0);
            }
        },
        |found| found.nearly_all(0),
    ),
    (
        "a name of four billion bytes",
        |memory, layouts, marks, _| {
            for (dentry, _) in marks.dentries.iter().take(100) {
                memory.set(*dentry, layouts.dentry.d_name_len, u64::from(u32::MAX));
            }
        },
        |found| found.nearly_all(0),
    ),
    (
        "a name outside of memory",
        |memory, layouts, marks, _| {
            for (dentry, _) in marks.dentries.iter().take(100) {
                memory.set(*dentry, layouts.dentry.d_name_name, 0xffff_c900_1234_5678);
                memory.set(*dentry, layouts.dentry.d_name_len, u64::from(u32::MAX));
            }
        },
        |found| {
            found.nearly_all(0);
            assert!(found.losses().unreadable > 0);
        },
    ),
    (
        "two mounts on each other",
        |memory, layouts, marks, _| {
            let (one, other) = (marks.mounts[0], marks.mounts[marks.mounts.len() - 1]);
            memory.set(one, layouts.mount.mnt_parent, other.0);
            memory.set(other, layouts.mount.mnt_parent, one.0);
        },
        |found| found.nearly_all(0),
    ),
    (
        "every socket is the next of itself",
        |memory, layouts, marks, _| {
            let link = layouts.sock_common.skc_node;
            for sock in &marks.socks {
                memory.set(*sock, link, sock.plus(u64::from(link.offset)).0);
            }
        },
        |found| {
            found.all_processes();
            assert!(found.snapshot.connections.len() <= found.marks.connections);
        },
    ),
    (
        "all sockets in a ring",
        |memory, layouts, marks, _| {
            let link = layouts.sock_common.skc_node;
            for (index, sock) in marks.socks.iter().enumerate() {
                let next = marks.socks[(index + 1) % marks.socks.len()];
                memory.set(*sock, link, next.plus(u64::from(link.offset)).0);
            }
        },
        |found| {
            found.all_processes();
            assert_eq!(found.snapshot.connections.len(), found.marks.connections);
        },
    ),
    (
        "a table of four billion buckets",
        |memory, layouts, marks, _| {
            memory.set(marks.hashinfo, layouts.inet_hashinfo.ehash_mask, u64::from(u32::MAX));
        },
        |found| found.all_processes(),
    ),
    (
        "a table of buckets in the kernel's image",
        |memory, layouts, marks, machine| {
            let image = machine.kernel.space.image.start;
            memory.set(marks.hashinfo, layouts.inet_hashinfo.ehash, image);
        },
        |found| found.all_processes(),
    ),
    (
        "a device that is the next of itself",
        |memory, layouts, marks, _| {
            let link = layouts.net_device.dev_list;
            let device = marks.first_device.minus(u64::from(link.offset));
            memory.set(device, link, marks.first_device.0);
        },
        |found| {
            found.all_processes();
            assert!(found.losses().unbounded > 0);
        },
    ),
    (
        "arguments that end before they begin",
        |memory, layouts, marks, _| {
            let layout = &layouts.mm_struct;
            let start = memory.get(marks.process.mm, layout.arg_start);
            memory.set(marks.process.mm, layout.arg_end, start - 1);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.mm().has_command_line);
        },
    ),
    (
        "arguments over all addresses",
        |memory, layouts, marks, _| {
            memory.set(marks.process.mm, layouts.mm_struct.arg_start, 0);
            memory.set(marks.process.mm, layouts.mm_struct.arg_end, u64::MAX);
            memory.set(marks.process.mm, layouts.mm_struct.env_start, u64::MAX);
            memory.set(marks.process.mm, layouts.mm_struct.env_end, u64::MAX);
        },
        |found| found.nearly_all(0),
    ),
    (
        "arguments in the kernel",
        |memory, layouts, marks, machine| {
            let image = machine.kernel.space.image.start;
            memory.set(marks.process.mm, layouts.mm_struct.arg_start, image);
            memory.set(marks.process.mm, layouts.mm_struct.arg_end, image + 64);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.mm().has_command_line, "a user's pointer must not read the kernel");
        },
    ),
    (
        "heap and stack from end to end",
        |memory, layouts, marks, _| {
            memory.set(marks.process.mm, layouts.mm_struct.start_brk, u64::MAX);
            memory.set(marks.process.mm, layouts.mm_struct.brk, 0);
            memory.set(marks.process.mm, layouts.mm_struct.start_stack, u64::MAX);
        },
        |found| found.nearly_all(0),
    ),
    (
        "a process's page tables are themselves",
        |memory, _, marks, machine| {
            let physical = machine.kernel.space.linear(marks.process.pgd).unwrap();
            for entry in 0..256 {
                memory.put_u64(marks.process.pgd.plus(entry * 8), physical.0 | 7);
            }
        },
        |found| found.nearly_all(0),
    ),
    (
        "a process's page tables are in no memory",
        |memory, layouts, marks, machine| {
            let end = machine.kernel.space.direct_map.end;
            memory.set(marks.process.mm, layouts.mm_struct.pgd, end - 4096);
        },
        |found| {
            found.nearly_all(0);
            assert!(!found.mm().has_command_line);
            assert!(found.losses().not_resident > 0);
        },
    ),
    (
        "the kernel's page tables are gone",
        |memory, _, _, machine| memory.write(machine.kernel.space.root, &[0; 4096]),
        |found| found.all_processes(),
    ),
    (
        "one thing is everything",
        |memory, layouts, marks, _| {
            let task = marks.process.task;
            let layout = &layouts.task_struct;
            for field in [layout.fs, layout.files, layout.mm, layout.signal, layout.nsproxy] {
                memory.set(task, field, task.0);
            }
        },
        |found| found.all_processes(),
    ),
    (
        "files, inodes and filesystems in a ring",
        |memory, layouts, marks, _| {
            memory.set(marks.process.file, layouts.file.f_inode, marks.process.super_block.0);
            memory.set(marks.process.file, layouts.file.f_path_dentry, marks.process.inode.0);
            memory.set(marks.process.inode, layouts.inode.i_sb, marks.process.file.0);
        },
        |found| found.all_processes(),
    ),
    (
        "namespaces that are none",
        |memory, layouts, marks, _| {
            let layout = &layouts.nsproxy;
            for field in [layout.net_ns, layout.mnt_ns, layout.uts_ns] {
                memory.set(marks.process.nsproxy, field, marks.process.signal.0);
            }
        },
        |found| found.all_processes(),
    ),
    (
        "times from the end of time",
        |memory, layouts, marks, machine| {
            let layout = &layouts.task_struct;
            for task in &marks.tasks[1..] {
                memory.set(*task, layout.start_boottime, u64::MAX);
                memory.set(*task, layout.sum_exec_runtime, u64::MAX);
            }
            memory.set(marks.process.signal, layouts.signal_struct.sum_sched_runtime, u64::MAX);
            let clock = machine.kernel.roots.timekeeper;
            memory.set(clock, layouts.timekeeper.offs_real, i64::MIN as u64);
            memory.set(clock, layouts.timekeeper.offs_boot, i64::MAX as u64);
            memory.put(machine.kernel.roots.tsc_khz, &[0xff; 4]);
        },
        |found| found.nearly_all(0),
    ),
    (
        "a machine whose name does not end",
        |memory, layouts, _, machine| {
            let name = layouts.uts_namespace.nodename;
            let at = machine.kernel.roots.init_uts_ns.plus(u64::from(name.offset));
            memory.put(at, &vec![0xff; name.size as usize]);
        },
        |found| found.nearly_all(0),
    ),
];

fn pid_root(memory: &mut Damaged<'_>, machine: &Machine) -> KernelVa {
    let layouts = &machine.kernel.layouts;
    let head = memory.word(machine.kernel.roots.init_pid_ns.plus(layouts.pid_idr_root()));
    assert_eq!(head & 3, 2, "a tree of more than one entry has a node at its root");
    KernelVa(head & !3)
}

#[test]
fn a_forged_structure_hides_only_dependent_objects() {
    let Some(machines) = machines("scans of forged structures") else { return };
    let watch = Watch::new("forged structures");
    let mut scanner = Scanner::new(&Limits::default());
    for machine in &machines {
        let mut damaged = Damaged::new(machine);
        scan(&mut scanner, &mut damaged.memory, &machine.kernel);
        let marks = Landmarks::find(scanner.walker.snapshot());
        for (name, forge, expect) in FORGERIES {
            watch.next(&format!("{name}, on {}", machine.name));
            forge(&mut damaged, &machine.kernel.layouts, &marks, machine);
            let outcome = scan(&mut scanner, &mut damaged.memory, &machine.kernel);
            let snapshot = scanner.walker.snapshot();
            expect(&Found { snapshot, error: outcome.error, marks: &marks });
            damaged.heal();
        }
        let outcome = scan(&mut scanner, &mut damaged.memory, &machine.kernel);
        assert_eq!(outcome.entities, marks.entities, "healed");
        eprintln!("{}: {} forgeries", machine.name, FORGERIES.len());
    }
}
