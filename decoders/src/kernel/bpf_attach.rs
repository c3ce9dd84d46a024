//! What attaches a program of eBPF to a place without a link: fields of network devices and control
//! groups, filters of `tc`, and performance events.
//!
//! Not here: links ([`super::bpf_link`]).

crate::layout! {
    /// The programs of a `struct net_device` (include/linux/netdevice.h).
    pub struct BpfNetDevice("net_device") {
        /// Link in `net.dev_base_head`.
        dev_list: ["dev_list"],
        ifindex: ["ifindex"],
        /// An array of `struct bpf_xdp_entity`, one for each mode of XDP: a program, and the link
        /// that attaches it, or null. Since v5.9.
        xdp_state?: ["xdp_state"],
        /// `struct bpf_prog *`: the program that runs without the help of the driver.
        xdp_prog?: ["xdp_prog"],
        /// `struct bpf_mprog_entry *`, since v6.6.
        tcx_ingress?: ["tcx_ingress"],
        tcx_egress?: ["tcx_egress"],
        /// `struct mini_Qdisc *`, up to v6.5. Then `struct tcx_entry` has them.
        miniq_ingress?: ["miniq_ingress"],
        miniq_egress?: ["miniq_egress"],
    }
}

crate::layout! {
    /// `struct bpf_mprog_entry` (include/linux/bpf_mprog.h), since v6.6.
    pub struct BpfMprogEntry("bpf_mprog_entry") {
        /// An array of `struct bpf_prog *`, null behind the last one.
        fp_items: ["fp_items"],
        /// `struct bpf_mprog_bundle *`
        parent: ["parent"],
    }
}

crate::layout! {
    /// `struct bpf_mprog_bundle` (include/linux/bpf_mprog.h), since v6.6.
    pub struct BpfMprogBundle("bpf_mprog_bundle") {
        /// An array of `struct bpf_link *`: the link of each program, or null.
        cp_items: ["cp_items"],
        count: ["count"],
    }
}

crate::layout! {
    /// `struct tcx_entry` (include/net/tcx.h), since v6.6.
    pub struct TcxEntry("tcx_entry") {
        /// `struct mini_Qdisc *`
        miniq: ["miniq"],
        /// A field of its `struct bpf_mprog_bundle`.
        count: ["bundle.count"],
    }
}

crate::layout! {
    /// `struct mini_Qdisc` (include/net/sch_generic.h): the filters of a device for one direction.
    pub struct MiniQdisc("mini_Qdisc") {
        /// `struct tcf_proto *`
        filter_list: ["filter_list"],
    }
}

crate::layout! {
    /// `struct tcf_proto` (include/net/sch_generic.h): filters of one kind and priority.
    pub struct TcfProto("tcf_proto") {
        next: ["next"],
        /// What its kind defines.
        root: ["root"],
        /// `struct tcf_proto_ops *`
        ops: ["ops"],
    }
}

crate::layout! {
    /// `struct tcf_proto_ops` (include/net/sch_generic.h).
    pub struct TcfProtoOps("tcf_proto_ops") {
        /// The name of the kind, 16 bytes with its NUL.
        kind: ["kind"],
    }
}

crate::layout! {
    /// The programs of a `struct cgroup` (include/linux/cgroup-defs.h), and its place in the tree.
    pub struct BpfCgroup("cgroup") {
        /// Link in `children` of the group above.
        sibling: ["self.sibling"],
        /// Head of the list of the groups below.
        children: ["self.children"],
        /// `struct bpf_prog_array *[]`: what runs, for each type.
        effective: ["bpf.effective"],
        /// Heads of lists of `struct bpf_prog_list`, one for each type: of `struct list_head`, and
        /// of `struct hlist_head` since v6.0.
        progs: ["bpf.progs"],
    }
}

crate::layout! {
    /// `struct cgroup_root` (include/linux/cgroup-defs.h).
    pub struct BpfCgroupRoot("cgroup_root") {
        /// The head of the list of groups below the first one.
        children: ["cgrp.self.children"],
    }
}

crate::layout! {
    /// `struct bpf_prog_list` (include/linux/bpf-cgroup-defs.h; include/linux/bpf-cgroup.h up to
    /// v5.18).
    pub struct BpfProgList("bpf_prog_list") {
        node: ["node"],
        /// `struct bpf_prog *`; null if a link attaches it.
        prog: ["prog"],
        /// `struct bpf_cgroup_link *`, or null.
        link: ["link"],
    }
}

crate::layout! {
    /// `struct perf_event` (include/linux/perf_event.h).
    pub struct PerfEvent("perf_event") {
        /// `struct bpf_prog *`
        prog: ["prog"],
        /// `struct trace_event_call *`; null unless it is an event of tracing.
        tp_event: ["tp_event"],
    }
}

crate::layout! {
    /// `struct trace_event_call` (include/linux/trace_events.h).
    pub struct TraceEventCall("trace_event_call") {
        /// A C string, or the `struct tracepoint *` that has the name.
        name: ["name"],
    }
}

/// Number of modes of XDP (`__MAX_XDP_MODE`, include/linux/netdevice.h).
pub const XDP_MODES: usize = 3;
/// Maximum number of programs of one `struct bpf_mprog_entry` (`BPF_MPROG_MAX`,
/// include/linux/bpf_mprog.h), and of one type of a control group (`BPF_CGROUP_MAX_PROGS`,
/// kernel/bpf/cgroup.c).
pub const PROGRAMS_OF_PLACE_MAX: usize = 64;
/// The name of the kind of filters that are programs (net/sched/cls_bpf.c).
pub const CLS_BPF: &[u8] = b"bpf";
/// Where the link of a `struct cls_bpf_prog` is in it (net/sched/cls_bpf.c, since v4.1). Its first
/// field is the program. The type is in a module whose types are not read.
pub const CLS_BPF_LINK: u64 = 8;

/// How the kernel attaches a program where no link does. The numbers follow those of the types of
/// links (`enum bpf_link_type`, include/uapi/linux/bpf.h), which stay below 256.
pub mod attachment_kind {
    /// Netlink sets it.
    pub const XDP: u32 = 256;
    /// `BPF_PROG_ATTACH` sets it.
    pub const TCX: u32 = 257;
    /// A filter of `tc`.
    pub const TC_INGRESS: u32 = 258;
    pub const TC_EGRESS: u32 = 259;
    /// `BPF_PROG_ATTACH` sets it.
    pub const CGROUP: u32 = 260;
    /// A call for a descriptor sets it (`PERF_EVENT_IOC_SET_BPF`).
    pub const PERF_EVENT: u32 = 261;
}

/// Whether this is a type of attachment without a link.
pub const fn is_attachment(kind: u32) -> bool {
    kind >= attachment_kind::XDP
}

/// `enum bpf_attach_type` (include/uapi/linux/bpf.h).
pub mod attach_kind {
    pub const XDP: u32 = 37;
    pub const PERF_EVENT: u32 = 41;
    pub const TCX_INGRESS: u32 = 46;
    pub const TCX_EGRESS: u32 = 47;
}

/// What a program is attached to a control group for (`enum bpf_attach_type`). `list` is the
/// position of its list, `kind` its `enum bpf_prog_type` and `expected` what it was loaded for.
///
/// The positions are `enum bpf_attach_type` up to v5.14, and then `enum cgroup_bpf_attach_type`,
/// whose first four are the same.
pub fn cgroup_attach_kind(list: u32, kind: u32, expected: u32) -> Option<u32> {
    /// `BPF_PROG_TYPE_CGROUP_DEVICE`, `BPF_PROG_TYPE_CGROUP_SYSCTL` and what they are for.
    const BY_KIND: [(u32, u32); 2] = [(15, 6), (23, 18)];
    let of_kind = BY_KIND.iter().find(|(program, _)| *program == kind);
    match (list, expected) {
        (0..4, _) => Some(list),
        (_, 0) => of_kind.map(|(_, attach)| *attach),
        _ => Some(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are those of include/uapi/linux/bpf.h.
    #[test]
    fn the_type_of_an_attachment_to_a_control_group_is_that_of_its_list_or_its_program() {
        // Packets that are sent, by a program that was loaded for packets that are received.
        assert_eq!(cgroup_attach_kind(1, 8, 0), Some(1));
        // Devices are the fifth list, and had the seventh one up to v5.14.
        assert_eq!(cgroup_attach_kind(4, 15, 0), Some(6));
        assert_eq!(cgroup_attach_kind(6, 15, 0), Some(6));
        // `BPF_CGROUP_INET4_CONNECT`
        assert_eq!(cgroup_attach_kind(7, 18, 10), Some(10));
        assert_eq!(cgroup_attach_kind(7, 18, 0), None);
    }

    #[test]
    fn no_type_of_a_link_is_one_of_an_attachment() {
        assert!(!is_attachment(255));
        assert!(is_attachment(attachment_kind::XDP) && is_attachment(attachment_kind::CGROUP));
    }
}
