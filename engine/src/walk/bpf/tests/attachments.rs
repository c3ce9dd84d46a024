//! Programs in places without a link.

use arrayvec::ArrayString;
use panoptes_decoders::kernel::bpf_attach::attachment_kind;

use super::*;
use crate::walk::snapshot::NetRow;

impl BpfScene {
    /// Adds network devices to a namespace of their own, with numbers from 1 on.
    fn add_devices<const N: usize>(&mut self) -> [u64; N] {
        let net = self.memory.structure();
        let devices = [0; N].map(|_| self.memory.structure());
        let link = |device| Sparse::field(device, "net_device", "dev_list");
        for (place, &device) in devices.iter().enumerate() {
            self.memory.set(device, "net_device", "ifindex", place as u64 + 1);
            let next = devices.get(place + 1).map_or(net, |&next| link(next));
            self.memory.put(link(device), next);
        }
        let first_device = va(link(devices[0]));
        let row = NetRow { address: va(net), first_device, ..NetRow::default() };
        self.walker.snapshot.nets.row_of(net, || row);
        devices
    }

    /// The attachments of a read: type, number of the program, type of attachment, and place.
    fn attached(&mut self) -> Vec<(u32, u32, Option<u32>, BpfTarget)> {
        let scan = self.read();
        let rows = scan.links.iter().filter(|row| row.is_attachment());
        let id = |row: &BpfLinkRow| scan.programs.at(row.program).unwrap().id;
        rows.map(|row| (row.kind, id(row), row.attach_kind, row.target)).collect()
    }

    /// Adds a filter of `tc` that is a program, and `mini_Qdisc` with it.
    fn add_filters(&mut self, programs: &[u64]) -> u64 {
        let [filters, proto, ops, root] = [0; 4].map(|_| self.memory.structure());
        self.memory.set(filters, "mini_Qdisc", "filter_list", proto);
        self.memory.set(proto, "tcf_proto", "root", root);
        self.memory.set(proto, "tcf_proto", "ops", ops);
        let kind = Sparse::field(ops, "tcf_proto_ops", "kind");
        self.memory.put(kind, u64::from_le_bytes(*b"bpf\0\0\0\0\0"));
        let mut last = root;
        for &program in programs {
            let filter = self.memory.structure();
            self.memory.put(filter, program);
            self.memory.put(last, filter + 8);
            last = filter + 8;
        }
        self.memory.put(last, root);
        filters
    }

    /// The first control group, in a root of its own.
    fn add_root(&mut self) -> u64 {
        let root = self.memory.structure();
        self.kernel.symbols.cgrp_dfl_root = Some(va(root));
        root + 256
    }

    /// Adds a control group below another one that has none, with this number.
    fn add_group(&mut self, above: u64, id: u64) -> u64 {
        let [group, directory] = [0; 2].map(|_| self.memory.structure());
        self.memory.set(group, "cgroup", "kn", directory);
        self.memory.set(directory, "kernfs_node", "id", id);
        let head = Sparse::field(above, "cgroup", "self.children");
        let link = Sparse::field(group, "cgroup", "self.sibling");
        self.memory.put(head, link);
        self.memory.put(link, head);
        let own = Sparse::field(group, "cgroup", "self.children");
        self.memory.put(own, own);
        group
    }

    /// Adds programs to a list of a group.
    fn attach_to_group(&mut self, group: u64, list: u64, programs: &[u64]) {
        let mut last = Sparse::field(group, "cgroup", "bpf.progs") + 8 * list;
        for &program in programs {
            let entry = self.memory.structure();
            self.memory.set(entry, "bpf_prog_list", "prog", program);
            self.memory.put(last, entry);
            last = entry;
        }
    }
}

const LO: BpfTarget = BpfTarget::Device(1);

#[test]
fn a_program_of_xdp_is_attached_where_its_device_has_no_link() {
    let mut scene = BpfScene::new(3);
    let programs = scene.programs.clone();
    let [first, second] = scene.add_devices();
    assert_eq!(scene.attached(), []);
    let state = |device, mode: u64| Sparse::field(device, "net_device", "xdp_state") + 16 * mode;
    scene.memory.put(state(first, 0), programs[0]);
    scene.memory.set(first, "net_device", "xdp_prog", programs[0]);
    // A link attaches this one.
    scene.memory.put(state(second, 1), programs[1]);
    scene.memory.put(state(second, 1) + 8, programs[1]);
    let one = (attachment_kind::XDP, 1, Some(37), LO);
    assert_eq!(scene.attached(), [one]);
    // It runs, but the state of the device lacks it.
    scene.memory.set(first, "net_device", "xdp_prog", programs[2]);
    assert_eq!(scene.attached(), [one, (attachment_kind::XDP, 3, Some(37), LO)]);
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_program_of_tcx_is_attached_where_its_bundle_has_no_link() {
    let mut scene = BpfScene::new(2);
    let programs = scene.programs.clone();
    let [first] = scene.add_devices();
    let entry = scene.memory.room(1024);
    // The bundle follows the first word of a `struct tcx_entry`.
    let tcx = scene.memory.room(4096);
    scene.memory.set(entry, "bpf_mprog_entry", "parent", tcx + 8);
    scene.memory.put(entry, programs[0]);
    scene.memory.put(entry + 8, programs[1]);
    scene.memory.put(tcx + 8, programs[0]);
    scene.memory.set(first, "net_device", "tcx_egress", entry);
    let one = (attachment_kind::TCX, 2, Some(47), LO);
    assert_eq!(scene.attached(), [one]);
    // The filters of `tc` are in the same structure since v6.6.
    let filters = scene.add_filters(&programs[..1]);
    scene.memory.put(tcx, filters);
    assert_eq!(scene.attached(), [one, (attachment_kind::TC_EGRESS, 1, None, LO)]);
}

#[test]
fn filters_that_are_programs_are_attached() {
    let mut scene = BpfScene::new(2);
    let programs = scene.programs.clone();
    let [first] = scene.add_devices();
    let filters = scene.add_filters(&programs);
    scene.memory.set(first, "net_device", "miniq_ingress", filters);
    let kind = attachment_kind::TC_INGRESS;
    assert_eq!(scene.attached(), [(kind, 1, None, LO), (kind, 2, None, LO)]);
    // A filter of another kind has another structure.
    let proto = scene.memory.get(filters);
    let ops = scene.memory.get(Sparse::field(proto, "tcf_proto", "ops"));
    scene
        .memory
        .put(Sparse::field(ops, "tcf_proto_ops", "kind"), u64::from_le_bytes(*b"flower\0\0"));
    assert_eq!(scene.attached(), []);
}

#[test]
fn a_ring_of_filters_ends() {
    let mut scene = BpfScene::new(1);
    let program = scene.programs[0];
    let [first] = scene.add_devices();
    let filters = scene.add_filters(&[program]);
    scene.memory.set(first, "net_device", "miniq_ingress", filters);
    let proto = scene.memory.get(filters);
    scene.memory.set(proto, "tcf_proto", "next", proto);
    assert_eq!(scene.attached().len(), 1);
    assert_eq!(scene.walker.snapshot.bpf.stopped & bpf_view::ATTACHMENT, bpf_view::ATTACHMENT);
}

#[test]
fn programs_of_control_groups_are_attached_for_what_their_list_is() {
    let mut scene = BpfScene::new(3);
    let programs = scene.programs.clone();
    let root = scene.add_root();
    let slice = scene.add_group(root, 4711);
    let service = scene.add_group(slice, 4712);
    scene.attach_to_group(slice, 1, &programs[..1]);
    scene.attach_to_group(service, 4, &programs[1..]);
    // Programs of control devices.
    for &program in &programs[1..] {
        scene.memory.set(program, "bpf_prog", "type", 15);
    }
    let kind = attachment_kind::CGROUP;
    let expected = [
        (kind, 1, Some(1), BpfTarget::Cgroup(4711)),
        (kind, 2, Some(6), BpfTarget::Cgroup(4712)),
        (kind, 3, Some(6), BpfTarget::Cgroup(4712)),
    ];
    assert_eq!(scene.attached(), expected);
    assert_eq!(scene.walker.snapshot.bpf.stopped, 0);
    // The groups are known, so the next read has fewer batches.
    let before = scene.memory.batches;
    assert_eq!(scene.attached(), expected);
    let known = scene.memory.batches - before;
    scene.walker.bpf.attach.forget();
    let before = scene.memory.batches;
    assert_eq!(scene.attached(), expected);
    assert!(scene.memory.batches - before > known);
}

#[test]
fn a_performance_event_has_the_program_and_the_name_of_its_event() {
    let mut scene = BpfScene::new(3);
    let programs = scene.programs.clone();
    let [call, tracepoint, name] = [0; 3].map(|_| scene.memory.structure());
    scene.memory.put(call, tracepoint);
    scene.memory.put(tracepoint, name);
    scene.memory.put(name, u64::from_le_bytes(*b"sys_exit"));
    let add = |scene: &mut BpfScene, program, call| {
        let event = scene.memory.structure();
        scene.memory.set(event, "perf_event", "prog", program);
        scene.memory.set(event, "perf_event", "tp_event", call);
        scene.add_file("[perf_event]", event);
    };
    // One for each of two processors.
    add(&mut scene, programs[0], call);
    add(&mut scene, programs[0], call);
    // It counts, and runs none.
    add(&mut scene, 0, call);
    // A probe has its own name, and a clock is no event of tracing.
    let probe = scene.memory.structure();
    scene.memory.put(probe, name);
    add(&mut scene, programs[1], probe);
    add(&mut scene, programs[2], 0);
    let kind = attachment_kind::PERF_EVENT;
    let place = |name| BpfTarget::Tracepoint(ArrayString::from(name).unwrap());
    let expected = [
        (kind, 1, Some(41), place("sys_exit")),
        (kind, 2, Some(41), place("sys_exit")),
        (kind, 3, Some(41), BpfTarget::Unknown),
    ];
    assert_eq!(scene.attached(), expected);
    let links = &scene.walker.snapshot.bpf.links;
    assert_eq!(links.as_slice()[0].holder.map(Index::position), Some(0));
    // A link attaches it (`BPF_LINK_TYPE_PERF_EVENT`).
    let link = scene.add_link(7, programs[0], 0);
    scene.fill(2, &[link]);
    assert_eq!(scene.attached(), expected[1..]);
    assert_eq!(scene.losses(), (0, 0));
}

#[test]
fn a_program_that_only_a_place_shows_has_a_row() {
    let mut scene = BpfScene::new(2);
    let all = scene.programs.clone();
    scene.list(&all[..1]);
    scene.show(&all[..1]);
    let [first] = scene.add_devices();
    scene.memory.put(Sparse::field(first, "net_device", "xdp_state"), all[1]);
    assert_eq!(scene.attached(), [(attachment_kind::XDP, 2, Some(37), LO)]);
    let scan = &scene.walker.snapshot.bpf;
    assert_eq!(views(scan), [(1, BOTH), (2, bpf_view::ATTACHMENT)]);
    assert!(scan.complete & bpf_view::ATTACHMENT != 0);
    // A filter of classic BPF has no references, and is no program of eBPF.
    let aux = scene.aux(all[1]);
    scene.memory.set(aux, "bpf_prog_aux", "refcnt.counter", 0);
    assert_eq!(scene.attached(), []);
    assert_eq!(views(&scene.walker.snapshot.bpf), [(1, BOTH)]);
}

#[test]
fn a_place_that_cannot_be_read_makes_the_view_incomplete() {
    let mut scene = BpfScene::new(1);
    let [first] = scene.add_devices();
    scene.memory.set(first, "net_device", "tcx_ingress", 0xffff_8880_00ff_f000);
    scene.memory.missing.push(0xffff_8880_00ff_f000..0xffff_8880_0100_0000);
    assert_eq!(scene.attached(), []);
    let scan = &scene.walker.snapshot.bpf;
    assert_eq!((scan.complete, scan.stopped), (ALL & !bpf_view::ATTACHMENT, bpf_view::ATTACHMENT));
}
