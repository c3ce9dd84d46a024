//! Links of eBPF, and the places where they and attachments have their programs.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::bpf_attach::attachment_kind;
use panoptes_decoders::kernel::bpf_link::{BpfLink, BpfLinkKind, link_kind};
use panoptes_decoders::layout::{View, u64_at};
use panoptes_decoders::paging::KernelSpace;

use super::bpf::push_text;
use super::bpf_rows::{BpfLinkRow, BpfTarget, bpf_view};
use super::bpf_walk::{BpfWalk, PlaceHop, PlaceStep};
use super::losses::WalkedStructure;
use super::module_details::text_of;
use super::{ScannedMemory, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// Number of rounds from a link to its place.
const HOPS_MAX: u32 = 4;

impl PlaceStep {
    /// What the place of a link of a type is.
    const fn of(kind: u32, count: Option<u32>) -> Option<Self> {
        match (kind, count) {
            (link_kind::TRACING, _) => Some(Self::Trampoline),
            (link_kind::RAW_TRACEPOINT, _) => Some(Self::RawEvent),
            (link_kind::CGROUP, _) => Some(Self::Cgroup),
            (link_kind::NETNS, _) => Some(Self::Net),
            (link_kind::XDP | link_kind::TCX | link_kind::NETKIT, _) => Some(Self::Device),
            (link_kind::KPROBE_MULTI, Some(count)) if count > 0 => Some(Self::Functions(count)),
            _ => None,
        }
    }
}

impl PlaceHop {
    fn push(
        &self,
        layouts: &Layouts,
        reader: &mut MemoryReader,
        space: &KernelSpace,
    ) -> Option<u32> {
        let packing = match self.step {
            PlaceStep::Link(kind) => BpfLinkKind::of(layouts, kind).map(|kind| kind.packing),
            PlaceStep::Trampoline => layouts.bpf_trampoline.map(|layout| layout.packing),
            PlaceStep::RawEvent => layouts.bpf_raw_event_map.map(|layout| layout.packing),
            PlaceStep::Tracepoint => layouts.tracepoint.map(|layout| layout.packing),
            PlaceStep::Cgroup => layouts.cgroup.map(|layout| layout.packing),
            PlaceStep::Directory => layouts.kernfs_number.map(|layout| layout.packing),
            PlaceStep::Net => Some(layouts.net.packing),
            PlaceStep::Device => Some(layouts.net_device_index.packing),
            PlaceStep::EventCall => layouts.trace_event_call.map(|layout| layout.packing),
            PlaceStep::Name | PlaceStep::EventName => {
                return push_text(reader, space, self.at);
            }
            PlaceStep::Functions(_) => return reader.push_bytes(space, self.at, 8),
        };
        // Without a layout nothing is read, and nothing is decoded.
        reader.push(space, self.at, &packing.unwrap_or_default())
    }

    /// Decodes what was read. Fills the row, or returns the next step.
    fn take(&self, layouts: &Layouts, bytes: &[u8], row: &mut BpfLinkRow) -> Option<Self> {
        let view = View::new(bytes);
        let next = |at, step| Some(Self { link: self.link, at, step });
        row.target = match self.step {
            PlaceStep::Link(kind) => {
                let link = BpfLinkKind::of(layouts, kind)?.decode(bytes);
                row.attach_kind = row.attach_kind.or(link.attach_kind);
                return next(link.place, PlaceStep::of(kind, link.count)?);
            }
            PlaceStep::RawEvent => {
                let at = view.pointer(layouts.bpf_raw_event_map?.tracepoint);
                return next(at, PlaceStep::Tracepoint);
            }
            PlaceStep::Tracepoint => {
                return next(view.pointer(layouts.tracepoint?.name), PlaceStep::Name);
            }
            PlaceStep::Cgroup => {
                return next(view.pointer(layouts.cgroup?.kn), PlaceStep::Directory);
            }
            PlaceStep::Trampoline => {
                BpfTarget::Function(view.pointer(layouts.bpf_trampoline?.address))
            }
            PlaceStep::Name => BpfTarget::Tracepoint(text_of(bytes)),
            PlaceStep::EventCall => {
                return next(view.pointer(layouts.trace_event_call?.name), PlaceStep::EventName);
            }
            PlaceStep::EventName => {
                // No letter of a name is in an address of the kernel.
                let tracepoint = KernelVa(u64_at(bytes, 0));
                if tracepoint.is_plausible() {
                    return next(tracepoint, PlaceStep::Name);
                }
                BpfTarget::Tracepoint(text_of(bytes))
            }
            PlaceStep::Directory => BpfTarget::Cgroup(view.unsigned(layouts.kernfs_number?.id)),
            PlaceStep::Net => BpfTarget::NetNamespace(view.unsigned(layouts.net.inum) as u32),
            PlaceStep::Device => {
                BpfTarget::Device(view.unsigned(layouts.net_device_index.ifindex) as u32)
            }
            PlaceStep::Functions(count) => {
                BpfTarget::Functions { first: KernelVa(u64_at(bytes, 0)), count }
            }
        };
        None
    }
}

impl Walker {
    /// Makes rows of the listed links, which a view shows. Returns whether all have one.
    pub(super) fn read_wanted_links(&mut self, memory: &mut ScannedMemory<'_>, view: u16) -> bool {
        let Some(layout) = &memory.kernel.layouts.bpf_link else { return false };
        let scan = &mut self.snapshot.bpf;
        let losses = &mut self.snapshot.losses;
        let BpfWalk { wanted, links, .. } = &mut self.bpf;
        let mut is_whole = true;
        fetch(&mut self.reader, memory, &layout.packing, wanted, |index, bytes| {
            let address = wanted[index];
            let link = bytes.and_then(|bytes| BpfLink::decode(layout, bytes));
            // A descriptor may lead to one that has just been freed.
            let is_living = |link: &BpfLink| view == bpf_view::PROGRAM_IDR || link.references != 0;
            let Some(link) = link.filter(is_living) else {
                is_whole = false;
                if view == bpf_view::PROGRAM_IDR {
                    losses.miss(WalkedStructure::BpfLink, address);
                }
                return;
            };
            let row = BpfLinkRow {
                address,
                id: link.id,
                kind: link.kind,
                attach_kind: link.attach_kind,
                program_address: link.program,
                views: view,
                ..BpfLinkRow::default()
            };
            match scan.links.push(row) {
                Some(row) => _ = links.insert(address.0, row.number()),
                None => is_whole = false,
            }
        });
        wanted.clear();
        is_whole
    }

    /// Follows each link to its place.
    pub(super) fn read_link_places(&mut self, memory: &mut ScannedMemory<'_>) {
        let layouts = &memory.kernel.layouts;
        let (scan, losses) = (&mut self.snapshot.bpf, &mut self.snapshot.losses);
        let BpfWalk { hops, more_hops: more, .. } = &mut self.bpf;
        hops.clear();
        hops.extend(scan.links.indexed().filter_map(|(link, row)| {
            let (at, step) = match row.kind {
                attachment_kind::CGROUP => (row.place, PlaceStep::Cgroup),
                attachment_kind::PERF_EVENT => (row.place, PlaceStep::EventCall),
                kind => {
                    BpfLinkKind::of(layouts, kind)?;
                    (row.address, PlaceStep::Link(kind))
                }
            };
            (!at.is_null()).then_some(PlaceHop { link, at, step })
        }));
        for _ in 0..HOPS_MAX {
            more.clear();
            let push = |reader: &mut MemoryReader, space: &_, hop: &PlaceHop| {
                hop.push(layouts, reader, space)
            };
            fetch_each(&mut self.reader, memory, hops, push, |index, bytes| {
                let hop = hops[index];
                let Some((bytes, row)) = bytes.zip(scan.links.at_mut(hop.link)) else {
                    losses.miss(WalkedStructure::BpfPlace, hop.at);
                    return;
                };
                // A place that is gone is null.
                let next = hop.take(layouts, bytes, row).filter(|next| !next.at.is_null());
                more.extend(next);
            });
            mem::swap(hops, more);
        }
    }
}
