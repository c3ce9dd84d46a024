//! The table of kinds.

use super::{Kind, MODULE_HIDDEN, Means, Patch};
use crate::flavor::Series;

/// A kind by a module that hides itself.
const fn hidden(name: &'static str, check: &'static str, subject: &'static str) -> Kind {
    let means = Means::Hidden("hook");
    Kind { name, means, check, subject, also: &[], missing: &[] }
}

/// All kinds. The first two come before other modules hide: more alerts of one cause are summed up.
/// Those that need what is shipped to compare with are last: rounds see that first.
pub(super) const KINDS: &[Kind] = &[
    Kind { means: Means::Shown("hook_half"), ..hidden("hidden_list", MODULE_HIDDEN, "") },
    Kind { means: Means::Shown("hook_bare"), ..hidden("hidden_sysfs", MODULE_HIDDEN, "") },
    hidden("none", "executable_pages", ""),
    hidden("ftrace", "ftrace_handlers", "__x64_sys_getdents64"),
    hidden("kprobe", "kprobes", "filldir64"),
    hidden("kretprobe", "kprobes", "filldir64"),
    // A static call of the tracepoint leads there, too.
    Kind { also: &["writable_pointers"], ..hidden("tracepoint", "tracepoints", "sys_enter") },
    hidden("netfilter", "netfilter_hooks", ""),
    hidden("all_packets", "packet_types", ""),
    hidden("packet_type", "packet_types", ""),
    hidden("keyboard", "notifier_chains", "keyboard"),
    hidden("modules", "notifier_chains", "modules"),
    hidden("devices", "notifier_chains", "network devices"),
    hidden("reboot", "notifier_chains", "reboot"),
    hidden("die", "notifier_chains", "die"),
    hidden("panic", "notifier_chains", "panic"),
    hidden("addresses", "notifier_chains", "IPv4 addresses"),
    hidden("proc_file", "proc_files", "hook"),
    hidden("binary_format", "binary_formats", ""),
    hidden("timer", "timers", ""),
    hidden("work", "work_items", "delayed work"),
    hidden("thread", "kernel_threads", "kworker/u4:7"),
    hidden("line_discipline", "terminals", "line discipline"),
    hidden("family", "protocols", "network family"),
    hidden("protocol", "protocols", "protocol of IPv4"),
    hidden("sockets", "protocols", ""),
    hidden("file_system", "file_systems", ""),
    hidden("software_interrupt", "writable_pointers", "softirq_vec"),
    hidden("direct_map", "direct_map", ""),
    hidden("writable_code", "writable_executable_pages", ""),
    hidden("namesake", "executable_pages", ""),
    Kind {
        also: &["read_only_data"],
        ..hidden("seq_operations", "read_only_pointers", "tcp4_seq_ops")
    },
    Kind {
        also: &["read_only_data"],
        ..hidden("file_operations", "read_only_pointers", "proc_root_operations")
    },
    Kind {
        also: &["read_only_data"],
        ..hidden("kernfs", "read_only_pointers", "sysfs_file_kfops_rw")
    },
    Kind {
        also: &["read_only_data"],
        ..hidden("inode_operations", "read_only_pointers", "proc_root_inode_operations")
    },
    Kind {
        also: &["read_only_data"],
        ..hidden("socket_operations", "read_only_pointers", "inet_stream_ops")
    },
    Kind {
        also: &["read_only_data"],
        missing: &[Series::V6_12, Series::V7],
        ..hidden("security", "lsm_hooks", "")
    },
    Kind {
        also: &["read_only_data", "read_only_pointers"],
        ..hidden("system_call_table", "system_call_tables", "sys_call_table")
    },
    Kind {
        also: &["kernel_text"],
        missing: &[Series::V5_10],
        ..hidden("dispatch", "system_call_dispatch", "x64_sys_call")
    },
    hidden("text", "kernel_text", ""),
    Kind {
        also: &["read_only_data", "read_only_pointers"],
        ..hidden("interrupt", "interrupt_descriptors", "")
    },
    Kind {
        means: Means::Shown("hook_listed"),
        ..hidden("listed_ftrace", "ftrace_handlers", "__x64_sys_getdents64")
    },
    Kind {
        means: Means::Patch(Patch::Bytes("native_machine_emergency_restart", 8, "31c0c3")),
        ..hidden("patched_text", "kernel_text", "")
    },
    Kind {
        means: Means::Patch(Patch::Bytes("byte_rev_table", 0x80, "00")),
        ..hidden("patched_data", "read_only_data", "")
    },
    Kind {
        means: Means::Patch(Patch::Pointer("sys_call_table", 236 * 8)),
        also: &["read_only_data", "read_only_pointers"],
        ..hidden("patched_table", "system_call_tables", "sys_call_table")
    },
    Kind {
        means: Means::Patch(Patch::Gate("idt_table", 0x1e * 16)),
        also: &["read_only_data", "read_only_pointers"],
        ..hidden("patched_gate", "interrupt_descriptors", "")
    },
    Kind {
        means: Means::Patch(Patch::Call("x64_sys_call", "__x64_sys_getpgid")),
        also: &["kernel_text"],
        missing: &[Series::V5_10],
        ..hidden("patched_call", "system_call_dispatch", "x64_sys_call")
    },
];
