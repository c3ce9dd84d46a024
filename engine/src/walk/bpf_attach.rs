//! Programs of eBPF that are attached without a link: to network devices by XDP, tcx and `tc`, to
//! control groups ([`control_groups`]), and to performance events by their descriptors.
//!
//! Each one gets a row among the links. A place that is found through the one before it costs a
//! round, so the places of the last read are read in one batch, and the lists are followed over
//! these copies.
//!
//! Not here: filters of other chains than the first one, actions of `tc`, netkit and sockets.

mod control_groups;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::bpf_attach::{
    BpfNetDevice, CLS_BPF, CLS_BPF_LINK, PROGRAMS_OF_PLACE_MAX, XDP_MODES, attach_kind,
    attachment_kind,
};
use panoptes_decoders::kernel::bpf_link::link_kind;
use panoptes_decoders::layout::{View, c_string, u64_at};
use panoptes_tables::{AddressMap, HashKey, room};

use super::bpf_rows::{BpfFile, BpfLinkRow, BpfScan, BpfTarget, bpf_view};
use super::losses::WalkedStructure;
use super::memory::visit;
use super::snapshot::Index;
use super::{ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;
use control_groups::GroupWalk;

/// Maximum number of network devices whose programs are looked for.
const DEVICES_MAX: usize = 1024;
/// Number of places that a read may read alone. Each costs a round. The next read knows them.
const LONE_PLACES_MAX: usize = 128;
/// Number of rounds in which the new devices of all namespaces are read at once.
const NEW_DEVICES_ROUNDS: u32 = 4;
/// Number of structures of `tc` that a read follows, each in a round.
const FILTERS_MAX: u32 = 256;
/// Number of programs of tcx whose links are looked for.
const MPROGS_MAX: usize = 4 * PROGRAMS_OF_PLACE_MAX;

/// The programs of a network device.
#[derive(Clone, Copy, Debug, Default)]
struct AttachedDevice {
    address: KernelVa,
    /// The next link in the list of its namespace.
    next: KernelVa,
    index: u32,
    /// For each mode, its program and its link; and the program that runs without the driver.
    xdp: [[KernelVa; 2]; XDP_MODES],
    xdp_program: KernelVa,
    /// `struct bpf_mprog_entry *` of packets that come, and of those that go.
    tcx: [KernelVa; 2],
    /// The same of `struct mini_Qdisc *`.
    filters: [KernelVa; 2],
}

impl AttachedDevice {
    fn decode(layout: &BpfNetDevice, address: KernelVa, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let pointer = |field| KernelVa(view.optional(field).unwrap_or(0));
        let mut xdp = [[KernelVa::NULL; 2]; XDP_MODES];
        if let Some(field) = layout.xdp_state {
            for (place, pair) in xdp.iter_mut().enumerate() {
                *pair = [0, 1].map(|part| KernelVa(view.u64_at(field, 2 * place + part)));
            }
        }
        Self {
            address,
            next: KernelVa(view.u64_at(layout.dev_list, 0)),
            index: view.unsigned(layout.ifindex) as u32,
            xdp,
            xdp_program: pointer(layout.xdp_prog),
            tcx: [layout.tcx_ingress, layout.tcx_egress].map(pointer),
            filters: [layout.miniq_ingress, layout.miniq_egress].map(pointer),
        }
    }
}

/// A direction of a device, with what leads to its programs.
#[derive(Clone, Copy, Debug)]
struct DeviceSide {
    device: KernelVa,
    index: u32,
    is_egress: bool,
    at: KernelVa,
}

/// A program of tcx, and where the address of its link is.
#[derive(Clone, Copy, Debug)]
struct Mprog {
    side: DeviceSide,
    program: KernelVa,
}

/// What reads of attachments use, and the places that the last one has seen.
#[derive(Debug)]
pub(super) struct AttachWalk {
    known: Vec<KernelVa>,
    devices: Vec<AttachedDevice>,
    /// Positions in `devices`, by their links.
    by_link: AddressMap,
    /// Positions of the devices that the lists have.
    listed: Vec<u32>,
    sides: Vec<DeviceSide>,
    bases: Vec<DeviceSide>,
    mprogs: Vec<Mprog>,
    is_read: bool,
    pub(super) groups: GroupWalk,
}

impl AttachWalk {
    pub(super) fn new(key: HashKey) -> Self {
        Self {
            known: room::list(DEVICES_MAX),
            devices: room::list(2 * DEVICES_MAX),
            by_link: AddressMap::new(2 * DEVICES_MAX, key.derive("walk: devices")),
            listed: room::list(DEVICES_MAX),
            sides: room::list(2 * DEVICES_MAX),
            bases: room::list(2 * DEVICES_MAX),
            mprogs: room::list(MPROGS_MAX),
            is_read: false,
            groups: GroupWalk::new(key),
        }
    }

    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.is_read = false;
        self.groups.forget();
    }

    fn add(&mut self, layout: &BpfNetDevice, device: AttachedDevice) -> u32 {
        let position = self.devices.len() as u32;
        let link = device.address.plus(layout.dev_list.offset.into());
        self.by_link.insert(link.0, position);
        self.devices.push(device);
        position
    }
}

/// Number of places that may be read alone, if `is_read` says whether an earlier read knows some.
pub(super) const fn lone_reads(is_read: bool, places_max: usize) -> usize {
    if is_read { LONE_PLACES_MAX } else { places_max }
}

impl Walker {
    /// Adds rows of the programs that are attached without a link. Returns whether all places were
    /// read, or `None` if the kernel's layout is unknown.
    pub(super) fn read_attachments(&mut self, memory: &mut ScannedMemory<'_>) -> Option<bool> {
        let layout = memory.kernel.layouts.bpf_net_device?;
        let devices = self.read_attached_devices(memory, &layout);
        self.add_xdp_rows();
        let sides = self.read_tcx(memory) & self.read_filters(memory);
        let groups = self.read_groups(memory);
        let events = self.read_perf_events(memory);
        Some(devices && sides && groups && events)
    }

    /// Adds the rows of performance events with programs that descriptors lead to. Returns whether
    /// all could be read.
    fn read_perf_events(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let Some(layout) = memory.kernel.layouts.perf_event else { return true };
        let (scan, bpf) = (&mut self.snapshot.bpf, &mut self.bpf);
        let (events, links) = (&bpf.events, &mut bpf.links);
        let mut is_whole = events.len() < events.capacity();
        let push = |reader: &mut MemoryReader, space: &_, file: &BpfFile| {
            reader.push(space, file.object, &layout.packing)
        };
        fetch_each(&mut self.reader, memory, events, push, |index, bytes| {
            let Some((file, bytes)) = events.get(index).zip(bytes) else {
                is_whole = false;
                return;
            };
            let view = View::new(bytes);
            let program = view.pointer(layout.prog);
            let is_of_link = |row: &BpfLinkRow| {
                row.kind == link_kind::PERF_EVENT && row.program_address == program
            };
            if program.is_null() || scan.links.iter().any(is_of_link) {
                return;
            }
            let attachment = Attachment {
                kind: attachment_kind::PERF_EVENT,
                // There is one event for each processor: all of them are one attachment.
                place: view.pointer(layout.tp_event),
                program,
                attach_kind: Some(attach_kind::PERF_EVENT),
                target: BpfTarget::Unknown,
            };
            add_attachment(scan, links, &attachment);
            let row = links.get(attachment.key().0).and_then(Index::from_number);
            if let Some(row) = scan.links.at_mut(row) {
                row.holder = row.holder.or(file.process);
            }
        });
        is_whole
    }

    /// Reads the devices of all known network namespaces.
    fn read_attached_devices(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &BpfNetDevice,
    ) -> bool {
        let walk = &mut self.bpf.attach;
        walk.devices.clear();
        walk.by_link.clear();
        walk.listed.clear();
        self.read_wanted_devices(memory, layout);
        for _ in 0..NEW_DEVICES_ROUNDS {
            self.find_new_devices(memory, layout);
            if self.bpf.attach.known.is_empty() {
                break;
            }
            self.read_wanted_devices(memory, layout);
        }
        let walk = &mut self.bpf.attach;
        self.visited.clear();
        let mut left = lone_reads(walk.is_read, DEVICES_MAX);
        let mut is_whole = true;
        for net in 0..self.snapshot.nets.len() {
            if let Err(stop) = self.follow_devices(memory, layout, net, &mut left) {
                is_whole = false;
                // A list that changes is read again.
                if !matches!(stop, EarlyStop::Changed { .. } | EarlyStop::TooLong { .. }) {
                    self.snapshot.losses.stop(WalkedStructure::BpfPlace, stop);
                }
            }
        }
        let walk = &mut self.bpf.attach;
        walk.is_read = true;
        walk.known.clear();
        let listed = walk.listed.iter().filter_map(|&at| walk.devices.get(at as usize));
        walk.known.extend(listed.map(|device| device.address));
        is_whole
    }

    /// Reads the devices in `known` at once.
    fn read_wanted_devices(&mut self, memory: &mut ScannedMemory<'_>, layout: &BpfNetDevice) {
        let walk = &mut self.bpf.attach;
        let wanted = core::mem::take(&mut walk.known);
        fetch(&mut self.reader, memory, &layout.packing, &wanted, |index, bytes| {
            if let Some((&address, bytes)) = wanted.get(index).zip(bytes) {
                walk.add(layout, AttachedDevice::decode(layout, address, bytes));
            }
        });
        walk.known = wanted;
    }

    /// Lists in `known` the first device of each namespace that was not read yet.
    fn find_new_devices(&mut self, memory: &ScannedMemory<'_>, layout: &BpfNetDevice) {
        let head = memory.kernel.layouts.net.dev_base_head;
        let AttachWalk { known, devices, by_link, .. } = &mut self.bpf.attach;
        known.clear();
        let room = known.capacity().min(devices.capacity() - devices.len());
        // Hostile lists may lead to each other.
        let mut steps = devices.capacity();
        for net in self.snapshot.nets.iter() {
            let (end, mut link) = (net.address.plus(head.offset.into()), net.first_device);
            while link != end && !link.is_null() && steps > 0 {
                steps -= 1;
                let position = by_link.get(link.0).map(|at| at as usize);
                let Some(device) = position.and_then(|at| devices.get(at)) else {
                    if known.len() < room {
                        known.push(link.minus(layout.dev_list.offset.into()));
                    }
                    break;
                };
                link = device.next;
            }
        }
    }

    fn follow_devices(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        layout: &BpfNetDevice,
        net: usize,
        left: &mut usize,
    ) -> Result<(), EarlyStop> {
        let head = memory.kernel.layouts.net.dev_base_head;
        let Some(net) = self.snapshot.nets.as_slice().get(net) else { return Ok(()) };
        let (end, mut link) = (net.address.plus(head.offset.into()), net.first_device);
        while link != end && !link.is_null() {
            visit(&mut self.visited, link)?;
            let walk = &mut self.bpf.attach;
            let limit = EarlyStop::TooLong { limit: DEVICES_MAX as u32 };
            let position = if let Some(position) = walk.by_link.get(link.0) {
                position
            } else {
                let has_room = walk.devices.len() < walk.devices.capacity();
                *left = left.checked_sub(1).filter(|_| has_room).ok_or(limit)?;
                let address = link.minus(layout.dev_list.offset.into());
                self.reader.clear();
                self.reader.push(&memory.kernel.space, address, &layout.packing);
                memory.run(&mut self.reader);
                let bytes = self.reader.object(0);
                let bytes = bytes.ok_or(EarlyStop::Unreadable { address })?;
                walk.add(layout, AttachedDevice::decode(layout, address, bytes))
            };
            if walk.listed.len() == walk.listed.capacity() {
                return Err(limit);
            }
            walk.listed.push(position);
            let device = walk.devices.get(position as usize);
            link = device.map_or(KernelVa::NULL, |device| device.next);
        }
        Ok(())
    }

    /// Adds the rows of XDP, and notes what leads to other programs of the devices.
    fn add_xdp_rows(&mut self) {
        let (scan, bpf) = (&mut self.snapshot.bpf, &mut self.bpf);
        let walk = &mut bpf.attach;
        walk.sides.clear();
        walk.bases.clear();
        for position in 0..walk.listed.len() {
            let at = walk.listed.get(position).map_or(usize::MAX, |&at| at as usize);
            let Some(device) = walk.devices.get(at).copied() else { continue };
            let attachment = |program| Attachment {
                kind: attachment_kind::XDP,
                place: device.address,
                program,
                attach_kind: Some(attach_kind::XDP),
                target: BpfTarget::Device(device.index),
            };
            for [program, _] in device.xdp.into_iter().filter(|[_, link]| link.is_null()) {
                add_attachment(scan, &mut bpf.links, &attachment(program));
            }
            // The kernel has it in one of the others, too.
            let is_other = device
                .xdp
                .iter()
                .all(|[program, link]| *program != device.xdp_program && link.is_null());
            if is_other {
                add_attachment(scan, &mut bpf.links, &attachment(device.xdp_program));
            }
            let side = |is_egress, at| DeviceSide {
                device: device.address,
                index: device.index,
                is_egress,
                at,
            };
            for (is_egress, (entry, filters)) in
                [false, true].into_iter().zip(device.tcx.into_iter().zip(device.filters))
            {
                if !entry.is_null() {
                    walk.sides.push(side(is_egress, entry));
                }
                if !filters.is_null() {
                    walk.bases.push(side(is_egress, filters));
                }
            }
        }
    }

    /// Adds the rows of tcx, and notes the filters of the same devices. Returns whether that could
    /// be done.
    fn read_tcx(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let layouts = &memory.kernel.layouts;
        let (scan, bpf) = (&mut self.snapshot.bpf, &mut self.bpf);
        let AttachWalk { sides, bases, mprogs, .. } = &mut bpf.attach;
        if sides.is_empty() {
            return true;
        }
        let all = layouts.bpf_mprog_entry.zip(layouts.bpf_mprog_bundle).zip(layouts.tcx_entry);
        let Some(((entry, bundle), tcx)) = all else { return false };
        mprogs.clear();
        let mut is_whole = true;
        let push = |reader: &mut MemoryReader, space: &_, side: &DeviceSide| {
            reader.push(space, side.at, &entry.packing)
        };
        fetch_each(&mut self.reader, memory, sides, push, |index, bytes| {
            let Some((side, bytes)) = sides.get(index).zip(bytes) else {
                is_whole = false;
                return;
            };
            let view = View::new(bytes);
            let parent = view.pointer(entry.parent);
            for place in 0..PROGRAMS_OF_PLACE_MAX {
                let program = KernelVa(view.u64_at(entry.fp_items, place));
                if program.is_null() {
                    break;
                }
                let at = parent.plus(u64::from(bundle.cp_items.offset) + 8 * place as u64);
                is_whole &= mprogs.len() < mprogs.capacity();
                if mprogs.len() < mprogs.capacity() {
                    mprogs.push(Mprog { side: DeviceSide { at, ..*side }, program });
                }
            }
            // The bundle is a part of a `struct tcx_entry`.
            let base = parent.plus(bundle.count.offset.into()).minus(tcx.count.offset.into());
            if bases.len() < bases.capacity() {
                bases.push(DeviceSide { at: base.plus(tcx.miniq.offset.into()), ..*side });
            }
        });
        let push = |reader: &mut MemoryReader, space: &_, mprog: &Mprog| {
            reader.push_bytes(space, mprog.side.at, 8)
        };
        fetch_each(&mut self.reader, memory, mprogs, push, |index, bytes| {
            let Some((Mprog { side, program }, bytes)) = mprogs.get(index).zip(bytes) else {
                is_whole = false;
                return;
            };
            if u64_at(bytes, 0) == 0 {
                let kinds = [attach_kind::TCX_INGRESS, attach_kind::TCX_EGRESS];
                let attachment = Attachment {
                    kind: attachment_kind::TCX,
                    place: side.device,
                    program: *program,
                    attach_kind: Some(kinds[usize::from(side.is_egress)]),
                    target: BpfTarget::Device(side.index),
                };
                add_attachment(scan, &mut bpf.links, &attachment);
            }
        });
        is_whole & self.read_filters_of_tcx(memory)
    }

    /// Replaces the places of the addresses of filters by these addresses.
    fn read_filters_of_tcx(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let AttachWalk { sides, bases, .. } = &mut self.bpf.attach;
        let push = |reader: &mut MemoryReader, space: &_, side: &DeviceSide| {
            reader.push_bytes(space, side.at, 8)
        };
        sides.clear();
        let mut is_whole = true;
        fetch_each(&mut self.reader, memory, bases, push, |index, bytes| {
            let filters = bytes.map(|bytes| KernelVa(u64_at(bytes, 0)));
            is_whole &= filters.is_some();
            let filters = filters.filter(|filters| !filters.is_null());
            sides
                .extend(bases.get(index).zip(filters).map(|(side, at)| DeviceSide { at, ..*side }));
        });
        core::mem::swap(sides, bases);
        is_whole
    }

    /// Adds the rows of filters that are programs. Returns whether all filters of the first chain
    /// were read.
    fn read_filters(&mut self, memory: &mut ScannedMemory<'_>) -> bool {
        let layouts = &memory.kernel.layouts;
        let mut left = FILTERS_MAX;
        let mut is_whole = true;
        self.visited.clear();
        for position in 0..self.bpf.attach.bases.len() {
            let side = self.bpf.attach.bases.get(position).copied();
            let all =
                side.zip(layouts.mini_qdisc.zip(layouts.tcf_proto.zip(layouts.tcf_proto_ops)));
            let Some((side, (filters, (proto, ops)))) = all else { return false };
            let first = memory.read_one(&mut self.reader, side.at, &filters.packing);
            let mut at = first.map_or(KernelVa::NULL, |view| view.pointer(filters.filter_list));
            while !at.is_null() {
                let Some(rest) = left.checked_sub(1) else { return false };
                left = rest;
                if visit(&mut self.visited, at).is_err() {
                    is_whole = false;
                    break;
                }
                let Some(view) = memory.read_one(&mut self.reader, at, &proto.packing) else {
                    is_whole = false;
                    break;
                };
                let (root, kind) = (view.pointer(proto.root), view.pointer(proto.ops));
                at = view.pointer(proto.next);
                let view = memory.read_one(&mut self.reader, kind, &ops.packing);
                if view.is_some_and(|view| c_string(view.bytes(ops.kind)) == CLS_BPF) {
                    is_whole &= self.read_programs_of_filter(memory, side, root, &mut left);
                }
            }
        }
        is_whole
    }

    /// Adds the rows of the programs of a filter. `root` is its `struct cls_bpf_head`, which begins
    /// with the head of their list.
    fn read_programs_of_filter(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        side: DeviceSide,
        root: KernelVa,
        left: &mut u32,
    ) -> bool {
        let kinds = [attachment_kind::TC_INGRESS, attachment_kind::TC_EGRESS];
        let first = memory.read_bytes(&mut self.reader, root, 8);
        let Some(mut link) = first.map(|bytes| KernelVa(u64_at(bytes, 0))) else { return false };
        while link != root {
            let Some(rest) = left.checked_sub(1) else { return false };
            *left = rest;
            let at = link.minus(CLS_BPF_LINK);
            let Some(bytes) = memory.read_bytes(&mut self.reader, at, 16) else { return false };
            let program = KernelVa(u64_at(bytes, 0));
            link = KernelVa(u64_at(bytes, CLS_BPF_LINK as usize));
            let attachment = Attachment {
                kind: kinds[usize::from(side.is_egress)],
                place: side.device,
                program,
                attach_kind: None,
                target: BpfTarget::Device(side.index),
            };
            add_attachment(&mut self.snapshot.bpf, &mut self.bpf.links, &attachment);
        }
        true
    }
}

/// A program in a place, without a link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attachment {
    /// One of [`attachment_kind`].
    pub(super) kind: u32,
    /// The structure that leads to the program.
    pub(super) place: KernelVa,
    pub(super) program: KernelVa,
    pub(super) attach_kind: Option<u32>,
    pub(super) target: BpfTarget,
}

impl Attachment {
    /// What stands for the address of a link: the same while the program is in this place.
    fn key(&self) -> KernelVa {
        /// An odd number, so that products of different places differ.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let kinds = u64::from(self.kind) << 8 | u64::from(self.attach_kind.unwrap_or(0xff));
        KernelVa((self.place.0 ^ kinds << 48).wrapping_mul(SPREAD) ^ self.program.0)
    }
}

/// Adds the row of an attachment, unless its program is null or it has one.
pub(super) fn add_attachment(scan: &mut BpfScan, links: &mut AddressMap, new: &Attachment) {
    let key = new.key();
    if !new.program.is_plausible() || links.get(key.0).is_some() {
        return;
    }
    let row = scan.links.push(BpfLinkRow {
        address: key,
        kind: new.kind,
        attach_kind: new.attach_kind,
        program_address: new.program,
        place: new.place,
        target: new.target,
        views: bpf_view::ATTACHMENT,
        ..BpfLinkRow::default()
    });
    if let Some(row) = row {
        links.insert(key.0, row.number());
    }
}
