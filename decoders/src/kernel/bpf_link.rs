//! Links of eBPF (include/linux/bpf.h): what attaches a program to a place, since v5.8.
//!
//! Each type of link is a structure of its own, with a `struct bpf_link` in it. Only what leads to
//! the place is declared here.

use crate::address::KernelVa;
use crate::layout::{PackedField, PackedLayout, View};

use super::Layouts;

crate::layout! {
    /// `struct bpf_link` (include/linux/bpf.h).
    pub struct BpfLinkStructure("bpf_link") {
        /// Number of references.
        refcnt: ["refcnt.counter"],
        /// Its number in `link_idr`; zero while it is being made.
        id: ["id"],
        /// `enum bpf_link_type`
        kind: ["type"],
        /// `struct bpf_prog *`; null for a link of `struct_ops`.
        prog: ["prog"],
        /// `enum bpf_attach_type`, since v6.17. Before that, some types of links have it.
        attach_type?: ["attach_type"],
    }
}

crate::layout! {
    /// `struct bpf_tracing_link` (include/linux/bpf.h; kernel/bpf/syscall.c up to v5.17).
    pub struct BpfTracingLink("bpf_tracing_link") {
        attach_type?: ["attach_type"],
        /// `struct bpf_trampoline *`
        trampoline: ["trampoline"],
    }
}

crate::layout! {
    /// `struct bpf_trampoline` (include/linux/bpf.h): the code before and behind a function.
    pub struct BpfTrampoline("bpf_trampoline") {
        /// The function.
        address: ["func.addr"],
    }
}

crate::layout! {
    /// `struct bpf_raw_tp_link` (include/linux/bpf.h; kernel/bpf/syscall.c up to v6.9).
    pub struct BpfRawTpLink("bpf_raw_tp_link") {
        /// `struct bpf_raw_event_map *`
        event: ["btp"],
    }
}

crate::layout! {
    /// `struct bpf_raw_event_map` (include/linux/tracepoint-defs.h).
    pub struct BpfRawEventMap("bpf_raw_event_map") {
        /// `struct tracepoint *`
        tracepoint: ["tp"],
    }
}

crate::layout! {
    /// `struct tracepoint` (include/linux/tracepoint-defs.h).
    pub struct Tracepoint("tracepoint") {
        /// A C string.
        name: ["name"],
    }
}

crate::layout! {
    /// `struct bpf_kprobe_multi_link` (kernel/trace/bpf_trace.c), since v5.18.
    pub struct BpfKprobeMultiLink("bpf_kprobe_multi_link") {
        /// The addresses of the functions, and their number.
        addresses: ["addrs"],
        count: ["cnt"],
    }
}

crate::layout! {
    /// `struct bpf_cgroup_link` (include/linux/bpf-cgroup-defs.h).
    pub struct BpfCgroupLink("bpf_cgroup_link") {
        /// `struct cgroup *`; null once that is gone.
        cgroup: ["cgroup"],
        attach_type?: ["type"],
    }
}

crate::layout! {
    /// `struct kernfs_node`: the number of a control group is that of its directory.
    pub struct KernfsNumber("kernfs_node") {
        id: ["id"],
    }
}

crate::layout! {
    /// `struct bpf_netns_link` (kernel/bpf/net_namespace.c).
    pub struct BpfNetnsLink("bpf_netns_link") {
        /// `struct net *`; null once that is gone.
        net: ["net"],
        attach_type?: ["type"],
    }
}

crate::layout! {
    /// `struct bpf_xdp_link` (net/core/dev.c).
    pub struct BpfXdpLink("bpf_xdp_link") {
        /// `struct net_device *`; null once that is gone.
        device: ["dev"],
    }
}

crate::layout! {
    /// `struct tcx_link` (include/net/tcx.h), since v6.6.
    pub struct TcxLink("tcx_link") {
        /// `struct net_device *`; null once that is gone.
        device: ["dev"],
        attach_type?: ["location"],
    }
}

crate::layout! {
    /// `struct netkit_link` (drivers/net/netkit.c), since v6.7.
    pub struct NetkitLink("netkit_link") {
        /// `struct net_device *`; null once that is gone.
        device: ["dev"],
        attach_type?: ["location"],
    }
}

/// `enum bpf_link_type` (include/uapi/linux/bpf.h).
pub mod link_kind {
    pub const RAW_TRACEPOINT: u32 = 1;
    pub const TRACING: u32 = 2;
    pub const CGROUP: u32 = 3;
    pub const NETNS: u32 = 5;
    pub const XDP: u32 = 6;
    pub const PERF_EVENT: u32 = 7;
    pub const KPROBE_MULTI: u32 = 8;
    pub const TCX: u32 = 11;
    pub const NETKIT: u32 = 13;
}

/// Types beyond this number are none. Those of attachments without a link follow
/// ([`super::bpf_attach::attachment_kind`]).
const LINK_KINDS_MAX: u32 = 256;

/// The decoded fields of a `struct bpf_link`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfLink {
    pub references: u64,
    pub id: u32,
    /// `enum bpf_link_type`
    pub kind: u32,
    /// `struct bpf_prog *`
    pub program: KernelVa,
    /// `enum bpf_attach_type`, if all types of links have it.
    pub attach_kind: Option<u32>,
}

impl BpfLink {
    /// Decodes the packed copy of a `struct bpf_link`. `None` if it is none.
    pub fn decode(layout: &BpfLinkStructure, bytes: &[u8]) -> Option<Self> {
        let view = View::new(bytes);
        let link = Self {
            references: view.unsigned(layout.refcnt),
            id: view.unsigned(layout.id) as u32,
            kind: view.unsigned(layout.kind) as u32,
            program: view.pointer(layout.prog),
            attach_kind: view.optional(layout.attach_type).map(|kind| kind as u32),
        };
        let leads_somewhere = link.program.is_null() || link.program.is_plausible();
        (link.kind < LINK_KINDS_MAX && leads_somewhere).then_some(link)
    }
}

/// The fields of a type of link: what leads to the place, and what else it has.
#[derive(Clone, Copy, Debug, Default)]
pub struct BpfLinkKind {
    pub packing: PackedLayout,
    /// A pointer.
    place: PackedField,
    attach_type: Option<PackedField>,
    count: Option<PackedField>,
}

/// The decoded fields of a type of link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfLinkPlace {
    /// What leads to the place; null if there is none.
    pub place: KernelVa,
    /// `enum bpf_attach_type`
    pub attach_kind: Option<u32>,
    /// Number of places.
    pub count: Option<u32>,
}

impl BpfLinkKind {
    /// The fields of the links of a type, if it leads to a place that is known here.
    pub fn of(layouts: &Layouts, kind: u32) -> Option<Self> {
        let (packing, place, attach_type) = match kind {
            link_kind::RAW_TRACEPOINT => {
                let layout = layouts.bpf_raw_tp_link?;
                (layout.packing, layout.event, None)
            }
            link_kind::TRACING => {
                let layout = layouts.bpf_tracing_link?;
                (layout.packing, layout.trampoline, layout.attach_type)
            }
            link_kind::CGROUP => {
                let layout = layouts.bpf_cgroup_link?;
                (layout.packing, layout.cgroup, layout.attach_type)
            }
            link_kind::NETNS => {
                let layout = layouts.bpf_netns_link?;
                (layout.packing, layout.net, layout.attach_type)
            }
            link_kind::XDP => {
                let layout = layouts.bpf_xdp_link?;
                (layout.packing, layout.device, None)
            }
            link_kind::KPROBE_MULTI => {
                let layout = layouts.bpf_kprobe_multi_link?;
                let count = Some(layout.count);
                let (packing, place) = (layout.packing, layout.addresses);
                return Some(Self { packing, place, attach_type: None, count });
            }
            link_kind::TCX => {
                let layout = layouts.tcx_link?;
                (layout.packing, layout.device, layout.attach_type)
            }
            link_kind::NETKIT => {
                let layout = layouts.netkit_link?;
                (layout.packing, layout.device, layout.attach_type)
            }
            _ => return None,
        };
        Some(Self { packing, place, attach_type, count: None })
    }

    /// Decodes the packed copy of a link of this type.
    pub fn decode(&self, bytes: &[u8]) -> BpfLinkPlace {
        let view = View::new(bytes);
        BpfLinkPlace {
            place: view.pointer(self.place),
            attach_kind: view.optional(self.attach_type).map(|kind| kind as u32),
            count: view.optional(self.count).map(|count| count as u32),
        }
    }
}

#[cfg(test)]
mod tests;
