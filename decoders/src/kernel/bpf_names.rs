//! The names of types of eBPF by their numbers (include/uapi/linux/bpf.h), as bpftool prints them.
//!
//! The numbers are part of the kernel's ABI, and never change.

use super::bpf_attach::attachment_kind;

/// `enum bpf_prog_type`
const PROGRAM_KINDS: [&str; 33] = [
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

/// `enum bpf_map_type`
const MAP_KINDS: [&str; 36] = [
    "unspec",
    "hash",
    "array",
    "prog_array",
    "perf_event_array",
    "percpu_hash",
    "percpu_array",
    "stack_trace",
    "cgroup_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "sockmap",
    "cpumap",
    "xskmap",
    "sockhash",
    "cgroup_storage",
    "reuseport_sockarray",
    "percpu_cgroup_storage",
    "queue",
    "stack",
    "sk_storage",
    "devmap_hash",
    "struct_ops",
    "ringbuf",
    "inode_storage",
    "task_storage",
    "bloom_filter",
    "user_ringbuf",
    "cgrp_storage",
    "arena",
    "insn_array",
    "rhash",
];

/// `enum bpf_link_type`
const LINK_KINDS: [&str; 16] = [
    "unspec",
    "raw_tracepoint",
    "tracing",
    "cgroup",
    "iter",
    "netns",
    "xdp",
    "perf_event",
    "kprobe_multi",
    "struct_ops",
    "netfilter",
    "tcx",
    "uprobe_multi",
    "netkit",
    "sockmap",
    "tracing_multi",
];

/// The types of attachments without a link, in the order of their numbers.
const ATTACHMENT_KINDS: [&str; 6] =
    ["xdp", "tcx", "tc_ingress", "tc_egress", "cgroup", "perf_event"];

/// `enum bpf_attach_type`
const ATTACH_KINDS: [&str; 62] = [
    "cgroup_inet_ingress",
    "cgroup_inet_egress",
    "cgroup_inet_sock_create",
    "cgroup_sock_ops",
    "sk_skb_stream_parser",
    "sk_skb_stream_verdict",
    "cgroup_device",
    "sk_msg_verdict",
    "cgroup_inet4_bind",
    "cgroup_inet6_bind",
    "cgroup_inet4_connect",
    "cgroup_inet6_connect",
    "cgroup_inet4_post_bind",
    "cgroup_inet6_post_bind",
    "cgroup_udp4_sendmsg",
    "cgroup_udp6_sendmsg",
    "lirc_mode2",
    "flow_dissector",
    "cgroup_sysctl",
    "cgroup_udp4_recvmsg",
    "cgroup_udp6_recvmsg",
    "cgroup_getsockopt",
    "cgroup_setsockopt",
    "trace_raw_tp",
    "trace_fentry",
    "trace_fexit",
    "modify_return",
    "lsm_mac",
    "trace_iter",
    "cgroup_inet4_getpeername",
    "cgroup_inet6_getpeername",
    "cgroup_inet4_getsockname",
    "cgroup_inet6_getsockname",
    "xdp_devmap",
    "cgroup_inet_sock_release",
    "xdp_cpumap",
    "sk_lookup",
    "xdp",
    "sk_skb_verdict",
    "sk_reuseport_select",
    "sk_reuseport_select_or_migrate",
    "perf_event",
    "trace_kprobe_multi",
    "lsm_cgroup",
    "struct_ops",
    "netfilter",
    "tcx_ingress",
    "tcx_egress",
    "trace_uprobe_multi",
    "cgroup_unix_connect",
    "cgroup_unix_sendmsg",
    "cgroup_unix_recvmsg",
    "cgroup_unix_getpeername",
    "cgroup_unix_getsockname",
    "netkit_primary",
    "netkit_peer",
    "trace_kprobe_session",
    "trace_uprobe_session",
    "trace_fsession",
    "trace_fentry_multi",
    "trace_fexit_multi",
    "trace_fsession_multi",
];

fn name(names: &[&'static str], number: u32) -> Option<&'static str> {
    names.get(number as usize).copied()
}

/// The name of an `enum bpf_prog_type`; `None` if it is newer than this table.
pub fn program_kind_name(kind: u32) -> Option<&'static str> {
    name(&PROGRAM_KINDS, kind)
}

/// The name of an `enum bpf_map_type`; `None` if it is newer than this table.
pub fn map_kind_name(kind: u32) -> Option<&'static str> {
    name(&MAP_KINDS, kind)
}

/// The name of an `enum bpf_link_type`, or of a type of attachment without a link
/// ([`attachment_kind`]); `None` if it is newer than these tables.
pub fn link_kind_name(kind: u32) -> Option<&'static str> {
    let after = kind.checked_sub(attachment_kind::XDP);
    after.map_or_else(|| name(&LINK_KINDS, kind), |kind| name(&ATTACHMENT_KINDS, kind))
}

/// The name of an `enum bpf_attach_type`; `None` if it is newer than this table.
pub fn attach_kind_name(kind: u32) -> Option<&'static str> {
    name(&ATTACH_KINDS, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from include/uapi/linux/bpf.h of v7.2: the last ones of each table, and one between.
    #[test]
    fn each_number_has_its_name() {
        assert_eq!(program_kind_name(8), Some("cgroup_skb"));
        assert_eq!((program_kind_name(32), program_kind_name(33)), (Some("netfilter"), None));
        assert_eq!(map_kind_name(27), Some("ringbuf"));
        assert_eq!((map_kind_name(35), map_kind_name(36)), (Some("rhash"), None));
        assert_eq!(link_kind_name(7), Some("perf_event"));
        assert_eq!((link_kind_name(15), link_kind_name(u32::MAX)), (Some("tracing_multi"), None));
        assert_eq!(link_kind_name(attachment_kind::TC_EGRESS), Some("tc_egress"));
        assert_eq!(link_kind_name(attachment_kind::PERF_EVENT), Some("perf_event"));
        assert_eq!(link_kind_name(attachment_kind::PERF_EVENT + 1), None);
        assert_eq!(attach_kind_name(24), Some("trace_fentry"));
        assert_eq!(attach_kind_name(46), Some("tcx_ingress"));
        assert_eq!(
            (attach_kind_name(61), attach_kind_name(62)),
            (Some("trace_fsession_multi"), None)
        );
    }
}
