//! Small memories that claim to be huge: Panoptes's limits bound the cost of a scan, not the
//! numbers that a kernel claims.
//!
//! Each bomb is written to pages that the recorded machine does not use, and the machine's objects
//! are pointed at it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::PackedField;
use panoptes_engine::limits::Limits;
use panoptes_engine::walk::Snapshot;

use super::common::Scanner;
use super::common::damage::Damaged;
use super::{Machine, Watch, machines, scan};

/// Number of pages that a bomb may fill: 16 MiB.
const ROOM_PAGES: u64 = 4096;
const ROOM_BYTES: u64 = ROOM_PAGES * 4096;

/// A machine with room for a bomb.
struct Bomb<'m> {
    memory: Damaged<'m>,
    layouts: &'m Layouts,
    room: KernelVa,
    machine: &'m Machine,
    tasks: Vec<KernelVa>,
    mms: Vec<KernelVa>,
    files: Vec<KernelVa>,
}

impl<'m> Bomb<'m> {
    fn new(machine: &'m Machine, snapshot: &Snapshot) -> Self {
        let (memory, room) = Damaged::with_room(machine, ROOM_PAGES);
        let leader = |row| snapshot.leader(row).expect("every process has one").task.address;
        Self {
            memory,
            layouts: &machine.kernel.layouts,
            room,
            machine,
            tasks: snapshot.processes.iter().map(leader).collect(),
            mms: snapshot.mms.iter().map(|mm| mm.address).collect(),
            files: snapshot.files.iter().map(|file| file.address).collect(),
        }
    }

    /// The address of object number `index` of `bytes` each in the room.
    fn slot(&self, index: u64, bytes: u64) -> KernelVa {
        self.room.plus(index * bytes)
    }

    /// Writes a field of an object in the room.
    fn set(&mut self, object: KernelVa, field: PackedField, value: u64) {
        self.memory.set(object, field, value);
    }

    /// Fills the whole room with words that depend on their addresses.
    fn fill(&mut self, word: impl Fn(KernelVa) -> u64) {
        let room = self.room;
        self.memory.fill(room, (0..ROOM_BYTES / 8).map(|at| word(room.plus(at * 8))));
    }

    fn maple_nodes_without_end(&mut self) {
        /// `maple_arange_64`, and a bit that is set for nodes (`mt_mk_node`, lib/maple_tree.c).
        const ARANGE_64: u64 = 3 << 3 | 2 | 4;
        // Each node of a page leads to all the others: 10^31 paths.
        let Some(layout) = self.layouts.maple_node else { return };
        let (slots, pivots) = (layout.arange_slot, layout.arange_pivot);
        for node in 0..ROOM_BYTES / 256 {
            let at = self.slot(node, 256);
            for slot in 0..u64::from(slots.size / 8) {
                let child = self.slot((node * 10 + slot) % (ROOM_BYTES / 256), 256);
                let place = at.plus(u64::from(slots.offset) + slot * 8);
                self.memory.fill(place, std::iter::once(child.0 | ARANGE_64));
            }
            let pivot = at.plus(u64::from(pivots.offset));
            self.memory.fill(pivot, (1..=u64::from(pivots.size / 8)).map(|end| end << 20));
        }
        for mm in self.mms.clone() {
            if let Some(root) = self.layouts.mm_struct.ma_root {
                self.set(mm, root, self.room.0 | ARANGE_64);
            }
        }
    }

    fn areas_without_end(&mut self) {
        let layouts = self.layouts;
        let area = &layouts.vm_area_struct;
        let (Some(root), Some(node), Some(left), Some(right)) =
            (layouts.mm_struct.mm_rb, area.vm_rb, area.rb_left, area.rb_right)
        else {
            return;
        };
        // Each area leads to two others: 2^64 paths.
        let stride = u64::from(area.size).next_multiple_of(8);
        let count = ROOM_BYTES / stride;
        let Some(&mm) = self.mms.first() else { return };
        for index in 0..count {
            let at = self.slot(index, stride);
            self.set(at, area.vm_mm, mm.0);
            self.set(at, area.vm_start, index << 12);
            self.set(at, area.vm_end, (index + 1) << 12);
            for (link, child) in [(left, index * 2 + 1), (right, index * 2 + 2)] {
                let child = self.slot(child % count, stride);
                self.set(at, link, child.plus(u64::from(node.offset)).0);
            }
        }
        let first = self.room.plus(u64::from(node.offset));
        for mm in self.mms.clone() {
            self.set(mm, root, first.0);
        }
    }

    fn tables_of_descriptors(&mut self, word: impl Fn(KernelVa) -> u64) {
        self.fill(word);
        // The room begins with a files_struct and an fdtable for each process.
        for (index, task) in self.tasks.clone().into_iter().enumerate() {
            let files = self.slot(index as u64, 1024);
            let table = files.plus(512);
            self.set(files, self.layouts.files_struct.fdt, table.0);
            self.set(table, self.layouts.fdtable.max_fds, u64::from(u32::MAX));
            self.set(table, self.layouts.fdtable.fd, self.room.0 + ROOM_BYTES / 2);
            self.set(table, self.layouts.fdtable.close_on_exec, self.room.0);
            self.set(task, self.layouts.task_struct.files, files.0);
        }
    }

    fn pid_tree(&mut self) {
        // Every word leads to another place in the room, as a node or as an entry: nodes lead to
        // nodes and entries, entries to would-be tasks.
        let room = self.room;
        self.fill(|at| {
            let mixed = (at.0 - room.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            room.0 + (mixed % (ROOM_BYTES / 2)) / 8 * 8 + if mixed & 8 == 0 { 2 } else { 0 }
        });
        let head = self.machine.kernel.roots.init_pid_ns.plus(self.layouts.pid_idr_root());
        self.memory.put_u64(head, room.0 | 2);
    }

    fn directories(&mut self) {
        let layout = &self.layouts.dentry;
        let bytes = u64::from(layout.size).next_multiple_of(64);
        let count = 4000;
        for index in 0..count {
            let dentry = self.slot(index, bytes);
            let name = dentry.plus(u64::from(layout.d_iname.offset));
            self.set(dentry, layout.d_parent, self.slot((index + 1) % count, bytes).0);
            self.set(dentry, layout.d_name_name, name.0);
            self.set(dentry, layout.d_name_len, 1);
            self.set(dentry, layout.d_hash_pprev, dentry.0);
            self.set(dentry, layout.d_iname, u64::from(b'x'));
        }
        for file in self.files.clone() {
            self.set(file, self.layouts.file.f_path_dentry, self.room.0);
        }
    }

    fn socket_chain(&mut self, snapshot: &Snapshot) {
        let layout = &self.layouts.sock_common;
        let bytes = u64::from(layout.size).next_multiple_of(64);
        let count = ROOM_BYTES / bytes;
        for index in 0..count {
            let sock = self.slot(index, bytes);
            let next = self.slot((index + 1) % count, bytes);
            let link = u64::from(layout.skc_node.offset);
            self.set(sock, layout.skc_node, next.plus(link).0);
            self.set(sock, layout.skc_family, 2);
            self.set(sock, layout.skc_state, 1);
            self.set(sock, layout.skc_net, self.machine.kernel.roots.init_net.0);
        }
        let first = self.room.plus(u64::from(layout.skc_node.offset));
        let hashinfo = snapshot.nets.first().unwrap().hashinfo;
        let buckets = self.memory.get(hashinfo, self.layouts.inet_hashinfo.ehash);
        self.memory.put_u64(KernelVa(buckets), first.0);
    }

    fn tables_of_sockets(&mut self) {
        let room = self.room;
        let link = u64::from(self.layouts.sock_common.skc_node.offset);
        // Every bucket leads to a different place.
        self.fill(|at| room.0 + (at.0 - room.0) / 2 + link);
        for (index, task) in self.tasks.clone().into_iter().enumerate() {
            let nsproxy = self.slot(index as u64, 16_384);
            let net = nsproxy.plus(1024);
            let hashinfo = nsproxy.plus(15_360);
            let layout = self.layouts.net.hashinfo;
            self.set(task, self.layouts.task_struct.nsproxy, nsproxy.0);
            self.set(nsproxy, self.layouts.nsproxy.net_ns, net.0);
            self.set(net, layout, hashinfo.0);
            self.set(hashinfo, self.layouts.inet_hashinfo.ehash, room.0 + ROOM_BYTES / 2);
            self.set(hashinfo, self.layouts.inet_hashinfo.ehash_mask, u64::from(u32::MAX));
        }
    }

    fn interfaces(&mut self, snapshot: &Snapshot) {
        let layouts = self.layouts;
        let stride = u64::from(layouts.net_device.size).next_multiple_of(4096);
        let count = ROOM_BYTES / stride;
        for index in 0..count {
            let device = self.slot(index, stride);
            let next = self.slot((index + 1) % count, stride);
            let link = u64::from(layouts.net_device.dev_list.offset);
            self.set(device, layouts.net_device.dev_list, next.plus(link).0);
            // A device is its own list of addresses, and each address is its own successor.
            self.set(device, layouts.net_device.ip_ptr, device.0);
            self.set(device, layouts.net_device.ip6_ptr, device.0);
            self.set(device, layouts.in_device.ifa_list, device.0);
            self.set(device, layouts.in_ifaddr.ifa_next, device.0);
            let address = device.plus(u64::from(layouts.inet6_ifaddr.if_list.offset));
            self.set(device, layouts.inet6_dev.addr_list, address.0);
            self.set(device, layouts.inet6_ifaddr.if_list, address.0);
        }
        let first = snapshot.nets.first().unwrap().first_device;
        let link = u64::from(layouts.net_device.dev_list.offset);
        let to = self.room.plus(link);
        self.memory.put_u64(first, to.0);
    }
}

type Lay = fn(&mut Bomb<'_>, &Snapshot);

const BOMBS: &[(&str, Lay)] = &[
    ("maple nodes without end", |bomb, _| bomb.maple_nodes_without_end()),
    ("areas without end", |bomb, _| bomb.areas_without_end()),
    ("empty tables of descriptors", |bomb, _| bomb.tables_of_descriptors(|_| 0)),
    ("full tables of descriptors", |bomb, _| bomb.tables_of_descriptors(|at| at.0)),
    ("a pid tree that leads everywhere", |bomb, _| bomb.pid_tree()),
    ("directories without end", |bomb, _| bomb.directories()),
    ("a hash chain of all sockets", |bomb, seen| bomb.socket_chain(seen)),
    ("a table of sockets for each process", |bomb, _| bomb.tables_of_sockets()),
    ("interfaces with addresses without end", |bomb, seen| bomb.interfaces(seen)),
];

#[test]
fn bombs_do_not_exceed_the_limits_of_a_scan() {
    let Some(machines) = machines("scans of memory bombs") else { return };
    let watch = Watch::new("memory bombs");
    let mut scanner = Scanner::new(&Limits::default());
    for machine in &machines {
        for (name, lay) in BOMBS {
            watch.next(&format!("{name}, on {}", machine.name));
            scan(&mut scanner, machine.memory.clone(), &machine.kernel);
            let snapshot = scanner.walker.snapshot();
            let mut bomb = Bomb::new(machine, snapshot);
            lay(&mut bomb, snapshot);
            let outcome = scan(&mut scanner, &mut bomb.memory.memory, &machine.kernel);
            eprintln!(
                "{name}, {}: {} entities, {} ms, {} batches",
                machine.name,
                outcome.entities,
                outcome.time.as_millis(),
                outcome.batches
            );
            assert!(outcome.error.is_none());
        }
    }
}
