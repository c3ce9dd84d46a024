//! Programs, maps and links in views that agree, and in views that lie, end early or never end.

mod attachments;
mod pins;

use panoptes_decoders::kernel::super_block::magic;

use super::*;
use crate::walk::snapshot::{DentryRow, FileRow, InodeRow, SuperBlockRow};
use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};
use crate::walk::{BpfHelpers, BpfLinkRow, BpfScan, BpfTarget, ScanPart, Scope};

const ALL: u16 = bpf_view::PROGRAM_IDR
    | bpf_view::SYMBOLS
    | bpf_view::MAP_IDR
    | bpf_view::LINK_IDR
    | bpf_view::ATTACHMENT;
/// `BPF_PROG_TYPE_KPROBE` (include/uapi/linux/bpf.h).
const KPROBE: u64 = 2;
const CALL_BASE: u64 = 0xffff_ffff_8100_0000;

/// Programs, and the symbols that lead to them.
struct BpfScene {
    memory: Sparse,
    kernel: Kernel,
    walker: Walker,
    /// The nodes of the IDRs of programs, maps and links.
    nodes: [u64; 3],
    programs: Vec<u64>,
    code: u64,
}

impl BpfScene {
    fn new(count: usize) -> Self {
        let (mut memory, mut kernel) = (Sparse::default(), kernel());
        let mut nodes = [0; 3];
        let idrs = [0; 3].map(|_| memory.structure());
        for (node, idr) in nodes.iter_mut().zip(idrs) {
            *node = memory.structure();
            memory.set(idr, "idr", "idr_rt.xa_head", *node | 2);
        }
        let symbols = memory.structure();
        let [programs, maps, links] = idrs.map(va);
        kernel.roots.bpf = super::super::BpfRoots {
            programs,
            maps,
            links,
            symbols: va(symbols),
            call_base: va(CALL_BASE),
            probe_write_user: va(CALL_BASE + 0x10),
            override_return: va(CALL_BASE + 0x20),
            send_signal: [va(CALL_BASE + 0x30), va(CALL_BASE + 0x40)],
        };
        let code = memory.room(PAGE_BYTES);
        let walker = walker(&small());
        let mut scene = Self { memory, kernel, walker, nodes, programs: Vec::new(), code };
        (0..count).for_each(|_| _ = scene.add());
        let all = scene.programs.clone();
        scene.list(&all);
        scene.show(&all);
        scene
    }

    /// Adds a program, which no view shows.
    fn add(&mut self) -> u64 {
        let id = self.programs.len() as u64 + 1;
        let [program, aux, user] = [0; 3].map(|_| self.memory.structure());
        let memory = &mut self.memory;
        for (field, value) in [("type", KPROBE), ("len", 2), ("jited_len", 16), ("aux", aux)] {
            memory.set(program, "bpf_prog", field, value);
        }
        memory.set(program, "bpf_prog", "tag", 0x5500 + id);
        memory.set(program, "bpf_prog", "bpf_func", self.code + 16 * id);
        for (field, value) in [
            ("refcnt.counter", 1),
            ("id", id),
            ("prog", program),
            ("user", user),
            ("load_time", 1000 + id),
            ("name", u64::from(b'a') + id),
            ("ksym.start", self.code + 16 * id),
            ("ksym.end", self.code + 16 * id + 16),
        ] {
            memory.set(aux, "bpf_prog_aux", field, value);
        }
        memory.set(aux + 64, "bpf_ksym", "prog", 1);
        memory.set(user, "user_struct", "uid.val", 1000 + id);
        self.programs.push(program);
        program
    }

    fn aux(&mut self, program: u64) -> u64 {
        self.memory.get(Sparse::field(program, "bpf_prog", "aux"))
    }

    /// Sets what an IDR has.
    fn fill(&mut self, idr: usize, entries: &[u64]) {
        let slots = Sparse::field(self.nodes[idr], "xa_node", "slots");
        for slot in 0..64 {
            let entry = entries.get(slot).copied().unwrap_or(0);
            self.memory.put(slots + 8 * slot as u64, entry);
        }
    }

    fn list(&mut self, programs: &[u64]) {
        self.fill(0, programs);
    }

    /// Sets the programs that the list of symbols has.
    fn show(&mut self, programs: &[u64]) {
        let links: Vec<u64> = programs
            .iter()
            .map(|&program| Sparse::field(self.aux(program), "bpf_prog_aux", "ksym.lnode"))
            .collect();
        self.ring(&links);
    }

    fn ring(&mut self, links: &[u64]) {
        let mut last = self.kernel.roots.bpf.symbols.0;
        for &link in links {
            self.memory.put(last, link);
            last = link;
        }
        self.memory.put(last, self.kernel.roots.bpf.symbols.0);
    }

    /// The link of a symbol that is of no program, as of a trampoline.
    fn add_symbol(&mut self) -> u64 {
        let symbol = self.memory.structure();
        self.memory.put(symbol, self.code);
        self.memory.put(symbol + 8, self.code + 8);
        Sparse::field(symbol, "bpf_ksym", "lnode")
    }

    /// Adds a link of a type to a program. Returns its address.
    fn add_link(&mut self, kind: u64, program: u64, place: u64) -> u64 {
        let link = self.memory.structure();
        for (field, value) in [
            ("refcnt.counter", 1),
            ("id", 7),
            ("type", kind),
            ("prog", program),
            ("attach_type", 3),
        ] {
            self.memory.set(link, "bpf_link", field, value);
        }
        self.memory.put(link + 32, place);
        link
    }

    /// Adds an open file of a process, with this name, which leads to an object.
    fn add_file(&mut self, name: &str, object: u64) {
        let process = add_process(&mut self.walker, &mut self.memory, 0);
        let address = self.memory.structure();
        let snapshot = &mut self.walker.snapshot;
        let mut filesystem = SuperBlockRow::default();
        filesystem.filesystem.magic = magic::ANON_INODE;
        let filesystem = snapshot.super_blocks.row_of(1, || filesystem);
        let inode = InodeRow { super_block: filesystem, ..InodeRow::default() };
        let inode = snapshot.inodes.row_of(2, || inode);
        let mut dentry = DentryRow::default();
        dentry.text[..name.len()].copy_from_slice(name.as_bytes());
        dentry.name.length = name.len() as u32;
        let dentry = snapshot.dentries.row_of(address, || dentry);
        let mut file = FileRow { inode, process: Some(process), ..FileRow::default() };
        file.path.dentry = dentry;
        file.open.private_data = va(object);
        let row = snapshot.files.row_of(address, || file).unwrap();
        let (file, dentry) = (&snapshot.files[row], snapshot.dentries.at(dentry).unwrap());
        self.walker.bpf.note_file(file, dentry);
    }

    /// A scan's part of it.
    fn read(&mut self) -> &BpfScan {
        self.memory.walk(&mut self.walker, &self.kernel, |walker, memory| {
            walker.snapshot.bpf.clear();
            walker.read_machine(memory);
            walker.read_bpf(memory);
        });
        &self.walker.snapshot.bpf
    }

    fn must_read(&mut self) -> bool {
        self.memory.walk(&mut self.walker, &self.kernel, |walker, memory| {
            walker.read_machine(memory);
            walker.must_read_bpf(memory.kernel)
        })
    }

    fn losses(&self) -> (u32, u32) {
        self.walker.snapshot.losses.of(ScanPart::Bpf)
    }
}

/// The views of each program, in the order of their rows.
fn views(scan: &BpfScan) -> Vec<(u32, u16)> {
    scan.programs.iter().map(|row| (row.id, row.views)).collect()
}

const BOTH: u16 = bpf_view::PROGRAM_IDR | bpf_view::SYMBOLS;

#[test]
fn programs_are_read_with_what_they_lead_to() {
    let mut scene = BpfScene::new(3);
    let (program, function) = (scene.programs[1], scene.memory.structure());
    let aux = scene.aux(program);
    scene.memory.put(function, u64::from_le_bytes(*b"tcp_rcv\0"));
    scene.memory.set(aux, "bpf_prog_aux", "attach_func_name", function);
    scene.memory.set(aux, "bpf_prog_aux", "used_map_cnt", 4);
    let code = scene.code;
    let scan = scene.read();
    assert_eq!(views(scan), [(1, BOTH), (2, BOTH), (3, BOTH)]);
    assert_eq!((scan.complete, scan.stopped, scan.quiet, scan.is_fresh), (ALL, 0, true, true));
    let row = &scan.programs.as_slice()[1];
    assert_eq!((row.address, row.kind, row.instructions), (va(program), 2, 2));
    assert_eq!((row.image, row.image_bytes), (va(code + 32), 16));
    assert_eq!((row.name.as_str(), row.tag), ("c", 0x5502_u64.to_le_bytes()));
    assert_eq!((row.loaded_ns, row.user_id, row.maps), (1002, Some(1002), 4));
    assert_eq!(row.function.as_str(), "tcp_rcv");
    assert_eq!(row.helpers, Some(BpfHelpers::default()));
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_kernel_without_ebpf_is_not_read() {
    let mut scene = BpfScene::new(1);
    scene.kernel.roots.bpf.programs = KernelVa::NULL;
    assert!(!scene.read().is_fresh);
    assert!(!scene.must_read());
    let mut scene = BpfScene::new(1);
    scene.kernel.layouts.bpf_prog = None;
    assert!(!scene.read().is_fresh);
}

#[test]
fn a_program_that_the_idr_lacks_is_shown_by_its_symbol() {
    let mut scene = BpfScene::new(3);
    let all = scene.programs.clone();
    scene.list(&[all[0], all[2]]);
    let scan = scene.read();
    assert_eq!(views(scan), [(1, BOTH), (3, BOTH), (2, bpf_view::SYMBOLS)]);
    assert_eq!((scan.complete, scan.quiet), (ALL, true));
    assert!(scene.must_read(), "the next scan looks again");
}

#[test]
fn a_program_that_is_being_freed_has_no_row() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.list(&all[..1]);
    let aux = scene.aux(all[1]);
    scene.memory.set(aux, "bpf_prog_aux", "refcnt.counter", 0);
    assert_eq!(views(scene.read()), [(1, BOTH)]);
    assert_eq!(scene.walker.snapshot.bpf.complete, ALL);
    // The next read knows the symbol.
    assert_eq!(views(scene.read()), [(1, BOTH)]);
    // In its place is another program, which is hidden.
    scene.memory.set(aux, "bpf_prog_aux", "refcnt.counter", 1);
    assert_eq!(views(scene.read()), [(1, BOTH), (2, bpf_view::SYMBOLS)]);
}

#[test]
fn a_program_without_a_symbol_has_none_in_that_view() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.show(&all[..1]);
    assert_eq!(views(scene.read()), [(1, BOTH), (2, bpf_view::PROGRAM_IDR)]);
}

#[test]
fn symbols_of_trampolines_have_no_rows_and_are_known_to_the_next_read() {
    let mut scene = BpfScene::new(1);
    let first = Sparse::field(scene.aux(scene.programs[0]), "bpf_prog_aux", "ksym.lnode");
    let mut links = vec![first];
    links.extend((0..40).map(|_| scene.add_symbol()));
    scene.ring(&links);
    assert_eq!(views(scene.read()), [(1, BOTH)]);
    assert_eq!(scene.walker.snapshot.bpf.complete, ALL);
    let before = scene.memory.batches;
    assert_eq!(views(scene.read()), [(1, BOTH)]);
    let batches = scene.memory.batches - before;
    assert!(batches < 20, "{batches} batches for symbols that are known");
}

#[test]
fn a_list_of_symbols_that_never_ends_is_a_loss() {
    let mut scene = BpfScene::new(1);
    let [first, second] = [0; 2].map(|_| scene.add_symbol());
    scene.ring(&[first, second]);
    scene.memory.put(second, first);
    let scan = scene.read();
    assert_eq!((scan.complete, scan.stopped), (ALL & !bpf_view::SYMBOLS, bpf_view::SYMBOLS));
    assert_eq!(scene.losses(), (0, 1));
}

#[test]
fn an_entry_of_the_idr_that_is_no_program_is_a_loss() {
    let mut scene = BpfScene::new(2);
    let garbage = scene.memory.structure();
    let all = [scene.programs[0], garbage, scene.programs[1]];
    scene.list(&all);
    let scan = scene.read();
    assert_eq!(views(scan), [(1, BOTH), (2, BOTH)]);
    assert_eq!(scan.stopped, bpf_view::PROGRAM_IDR);
    assert_eq!(scene.losses(), (1, 0));
}

#[test]
fn only_a_change_makes_the_next_scan_read() {
    let mut scene = BpfScene::new(2);
    assert!(scene.must_read());
    scene.read();
    assert!(!scene.must_read());
    let roots = scene.kernel.roots.bpf;
    for (at, idr) in [roots.programs, roots.maps, roots.links].into_iter().enumerate() {
        scene.memory.set(idr.0, "idr", "idr_next", 40 + at as u64);
        assert!(scene.must_read(), "{at}");
        scene.read();
        assert!(!scene.must_read(), "{at}");
    }
    let symbol = scene.add_symbol();
    scene.ring(&[symbol]);
    assert!(scene.must_read());
}

#[test]
fn maps_are_read_with_their_holders() {
    let mut scene = BpfScene::new(0);
    let [map, pinned] = [0; 2].map(|_| scene.memory.structure());
    for (field, value) in
        [("map_type", 27), ("key_size", 4), ("value_size", 8), ("max_entries", 256), ("id", 9)]
    {
        scene.memory.set(map, "bpf_map", field, value);
    }
    scene.memory.set(map, "bpf_map", "name", u64::from_le_bytes(*b"events\0\0"));
    scene.fill(1, &[map, pinned]);
    scene.add_file("bpf-map", map);
    let scan = scene.read();
    let [row, other] = scan.maps.as_slice() else { panic!("two maps") };
    assert_eq!((row.id, row.kind, row.name.as_str()), (9, 27, "events"));
    assert_eq!((row.key_bytes, row.value_bytes, row.entries_max), (4, 8, 256));
    assert_eq!(row.views, bpf_view::PROGRAM_IDR | bpf_view::REFERENCE);
    assert_eq!((row.holder.map(Index::position), other.holder), (Some(0), None));
}

#[test]
fn what_only_a_descriptor_shows_has_a_row() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.list(&all[..1]);
    scene.show(&all[..1]);
    let map = scene.memory.structure();
    scene.add_file("bpf-prog", all[1]);
    scene.add_file("bpf-map", map);
    scene.add_file("[eventpoll]", 0xffff_8880_0000_0100);
    scene.add_file("bpf-prog", 0x1000);
    let scan = scene.read();
    assert_eq!(views(scan), [(1, BOTH), (2, bpf_view::REFERENCE)]);
    assert_eq!(scan.programs.as_slice()[1].holder.map(Index::position), Some(0));
    assert_eq!(scan.maps.as_slice()[0].views, bpf_view::REFERENCE);
    assert_eq!(scene.losses(), (0, 0));
}

/// The one link of a scan.
fn link_of(scene: &mut BpfScene, link: u64) -> BpfLinkRow {
    scene.fill(2, &[link]);
    let scan = scene.read();
    assert_eq!(scan.links.len(), 1);
    scan.links.as_slice()[0]
}

#[test]
fn links_lead_to_their_programs_and_places() {
    let mut scene = BpfScene::new(1);
    let program = scene.programs[0];
    let trampoline = scene.memory.structure();
    scene.memory.put(trampoline, CALL_BASE + 0x100);
    let link = scene.add_link(2, program, trampoline);
    scene.add_file("bpf_link", link);
    let row = link_of(&mut scene, link);
    assert_eq!((row.id, row.kind, row.attach_kind), (7, 2, Some(3)));
    assert_eq!(row.target, BpfTarget::Function(va(CALL_BASE + 0x100)));
    assert_eq!(row.program.map(Index::position), Some(0));
    assert_eq!(row.holder.map(Index::position), Some(0));
    let programs = &scene.walker.snapshot.bpf.programs;
    assert_eq!(programs.as_slice()[0].views, BOTH | bpf_view::REFERENCE);
    assert_eq!(programs.as_slice()[0].holder.map(Index::position), Some(0));
}

#[test]
fn each_type_of_link_has_its_place() {
    let mut scene = BpfScene::new(1);
    let program = scene.programs[0];
    let [event, tracepoint, name] = [0; 3].map(|_| scene.memory.structure());
    scene.memory.put(event, tracepoint);
    scene.memory.put(tracepoint, name);
    scene.memory.put(name, u64::from_le_bytes(*b"sys_exit"));
    let raw = scene.add_link(1, program, event);
    let BpfTarget::Tracepoint(text) = link_of(&mut scene, raw).target else { panic!("its name") };
    assert_eq!(text.as_str(), "sys_exit");

    let [group, directory] = [0; 2].map(|_| scene.memory.structure());
    scene.memory.put(group, directory);
    scene.memory.set(directory, "kernfs_node", "id", 4711);
    let cgroup = scene.add_link(3, program, group);
    assert_eq!(link_of(&mut scene, cgroup).target, BpfTarget::Cgroup(4711));

    let net = scene.memory.structure();
    scene.memory.set(net, "net", "ns.inum", 4_026_531_840);
    let netns = scene.add_link(5, program, net);
    assert_eq!(link_of(&mut scene, netns).target, BpfTarget::NetNamespace(4_026_531_840));

    let device = scene.memory.structure();
    scene.memory.set(device, "net_device", "ifindex", 3);
    for kind in [6, 11, 13] {
        let link = scene.add_link(kind, program, device);
        assert_eq!(link_of(&mut scene, link).target, BpfTarget::Device(3), "{kind}");
    }

    let functions = scene.memory.structure();
    scene.memory.put(functions, CALL_BASE + 0x700);
    let many = scene.add_link(8, program, functions);
    scene.memory.set(many, "bpf_kprobe_multi_link", "cnt", 12);
    let expected = BpfTarget::Functions { first: va(CALL_BASE + 0x700), count: 12 };
    assert_eq!(link_of(&mut scene, many).target, expected);
}

#[test]
fn a_link_without_a_place_or_a_program_is_still_one() {
    let mut scene = BpfScene::new(1);
    // The device of a link is gone; a link of `struct_ops` has no program.
    let gone = scene.add_link(6, scene.programs[0], 0);
    assert_eq!(link_of(&mut scene, gone).target, BpfTarget::Unknown);
    let structure = scene.add_link(9, 0, 0);
    let row = link_of(&mut scene, structure);
    assert_eq!((row.program, row.target), (None, BpfTarget::Unknown));
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_program_that_only_a_link_shows_has_a_row() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.list(&all[..1]);
    scene.show(&all[..1]);
    let link = scene.add_link(9, all[1], 0);
    let row = link_of(&mut scene, link);
    assert_eq!(row.program.map(Index::position), Some(1));
    let scan = &scene.walker.snapshot.bpf;
    assert_eq!(views(scan), [(1, BOTH), (2, bpf_view::REFERENCE)]);
}

/// `call` of a helper so far behind the base.
fn call(distance: u64) -> u64 {
    0x85 | distance << 32
}

#[test]
fn helpers_are_found_in_the_instructions_once() {
    let mut scene = BpfScene::new(3);
    let programs = scene.programs.clone();
    let code = |program: u64| program + 1024;
    for program in &programs {
        // The instructions follow the structure.
        scene.memory.room(1024);
        scene.memory.set(*program, "bpf_prog", "len", 2);
    }
    scene.memory.put(code(programs[0]), call(0x10));
    scene.memory.put(code(programs[0]) + 8, call(0x40));
    scene.memory.put(code(programs[1]), call(0x20));
    scene.memory.put(code(programs[2]), call(0x50));
    let helpers = |scan: &BpfScan| -> Vec<_> {
        scan.programs.iter().map(|row| row.helpers.unwrap()).collect()
    };
    let expected = [
        BpfHelpers::PROBE_WRITE_USER.with(BpfHelpers::SEND_SIGNAL),
        BpfHelpers::OVERRIDE_RETURN,
        BpfHelpers::default(),
    ];
    assert_eq!(helpers(scene.read()), expected);
    // A program's instructions never change: they are not read again.
    scene.memory.put(code(programs[2]), call(0x10));
    assert_eq!(helpers(scene.read()), expected);
    // Another program in the same place.
    let aux = scene.aux(programs[2]);
    scene.memory.set(aux, "bpf_prog_aux", "id", 77);
    assert_eq!(helpers(scene.read())[2], BpfHelpers::PROBE_WRITE_USER);
}

#[test]
fn only_a_program_of_lsm_that_returns_an_error_denies() {
    // `r0 = -1`
    const ERROR: u64 = 0xb7 | 0xffff_ffff << 32;
    let mut scene = BpfScene::new(3);
    let programs = scene.programs.clone();
    for &program in &programs {
        scene.memory.room(1024);
        scene.memory.put(program + 1024, ERROR);
        scene.memory.set(program, "bpf_prog", "type", 29);
        scene.memory.set(program, "bpf_prog", "expected_attach_type", 27);
        scene.memory.set(program, "bpf_prog", "len", 2);
    }
    scene.memory.set(programs[1], "bpf_prog", "expected_attach_type", 43);
    scene.memory.put(programs[2] + 1024, 0xb7);
    let helpers: Vec<_> = scene.read().programs.iter().map(|row| row.helpers.unwrap()).collect();
    assert_eq!(helpers, [BpfHelpers::DENIES, BpfHelpers::default(), BpfHelpers::default()]);
}

#[test]
fn nothing_is_said_of_the_helpers_of_a_program_that_is_too_large() {
    let mut scene = BpfScene::new(1);
    let program = scene.programs[0];
    scene.memory.set(program, "bpf_prog", "len", 40_000);
    assert_eq!(scene.read().programs.as_slice()[0].helpers, None);
    scene.memory.put(program + 1024, call(0x10));
    let helpers = scene.read().programs.as_slice()[0].helpers;
    assert_eq!(helpers, Some(BpfHelpers::PROBE_WRITE_USER));
    scene.kernel.roots.bpf.call_base = KernelVa::NULL;
    assert_eq!(scene.read().programs.as_slice()[0].helpers, None);
}

#[test]
fn a_torn_copy_has_no_complete_view() {
    let mut scene = BpfScene::new(1);
    scene.walker.snapshot.copied = MemoryCopyMode::PageByPage;
    let scan = scene.read();
    assert_eq!((scan.complete, scan.stopped), (0, 0));
}

#[test]
fn more_programs_than_there_is_room_for_are_a_loss() {
    let mut scene = BpfScene::new(0);
    let count = BPF_PROGRAMS_MAX + 10;
    let all: Vec<u64> = (0..count).map(|_| scene.add()).collect();
    // A tree of two levels.
    let slots = Sparse::field(scene.nodes[0], "xa_node", "slots");
    scene.memory.set(scene.nodes[0], "xa_node", "shift", 6);
    for (at, chunk) in all.chunks(64).enumerate() {
        let leaf = scene.memory.structure();
        for (slot, program) in chunk.iter().enumerate() {
            let slots = Sparse::field(leaf, "xa_node", "slots");
            scene.memory.put(slots + 8 * slot as u64, *program);
        }
        scene.memory.put(slots + 8 * at as u64, leaf | 2);
    }
    let scan = scene.read();
    assert_eq!((scan.programs.len(), scan.stopped), (BPF_PROGRAMS_MAX, bpf_view::PROGRAM_IDR));
    assert_eq!(scene.walker.snapshot.losses.dropped, 1);
}

#[test]
fn a_scan_that_does_not_ask_has_no_rows() {
    const { assert!(Scope::ALL.bpf && !Scope::LEAST.bpf) };
}
