//! The functions that no module may hook without a signature: those by which a machine shows its
//! processes, files, sockets, modules, logs and BPF programs, and those that act on them.
//!
//! A rootkit need not hide itself: the kernel's list may have its module. What it hooks shows what
//! it is for. The list has functions of Linux, never those of a program that hooks them.

use panoptes_records::record::kernel_code::KernelListing;

/// What the symbol of a system call begins with (arch/x86/include/asm/syscall_wrapper.h,
/// arch/arm64/include/asm/syscall_wrapper.h, include/linux/syscalls.h).
const CALL_PREFIXES: [&str; 14] = [
    "__x64_sys_",
    "__x64_compat_sys_",
    "__x32_compat_sys_",
    "__ia32_sys_",
    "__ia32_compat_sys_",
    "__arm64_sys_",
    "__arm64_compat_sys_",
    "__se_sys_",
    "__se_compat_sys_",
    "__do_sys_",
    "__do_compat_sys_",
    "compat_sys_",
    "ksys_",
    "sys_",
];

/// Functions that show one kind of objects, or act on them.
struct Group {
    listing: KernelListing,
    /// System calls, without the prefix of their symbols.
    calls: &'static [&'static str],
    /// Functions, and tables of functions, with exactly these names.
    names: &'static [&'static str],
    /// What the names of further functions and tables begin with.
    prefixes: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        listing: KernelListing::SystemCalls,
        calls: &[],
        names: &[
            "x64_sys_call",
            "x32_sys_call",
            "ia32_sys_call",
            "do_syscall_64",
            "do_int80_emulation",
            "do_int80_syscall_32",
            "entry_SYSCALL_64",
            "entry_SYSCALL_compat",
            "entry_INT80_compat",
            "invoke_syscall",
            "do_el0_svc",
            "sys_call_table",
            "ia32_sys_call_table",
            "x32_sys_call_table",
        ],
        prefixes: &[],
    },
    Group {
        listing: KernelListing::Files,
        calls: &[
            "getdents",
            "getdents64",
            "old_readdir",
            "open",
            "openat",
            "openat2",
            "open_by_handle_at",
            "read",
            "pread64",
            "readv",
            "preadv",
            "preadv2",
            "write",
            "pwrite64",
            "writev",
            "stat",
            "stat64",
            "lstat",
            "lstat64",
            "fstat",
            "fstat64",
            "fstatat64",
            "newstat",
            "newlstat",
            "newfstat",
            "newfstatat",
            "statx",
            "statfs",
            "statfs64",
            "fstatfs",
            "fstatfs64",
            "access",
            "faccessat",
            "faccessat2",
            "readlink",
            "readlinkat",
            "chdir",
            "fchdir",
            "unlink",
            "unlinkat",
            "rename",
            "renameat",
            "renameat2",
            "copy_file_range",
            "sendfile",
            "sendfile64",
            "splice",
            "io_uring_enter",
        ],
        names: &[
            "iterate_dir",
            "vfs_read",
            "vfs_readv",
            "vfs_open",
            "vfs_statx",
            "vfs_fstat",
            "vfs_getattr",
            "vfs_getattr_nosec",
            "vfs_readlink",
            "do_filp_open",
            "do_sys_open",
            "do_sys_openat2",
            "path_openat",
            "io_issue_sqe",
            "kernfs_fop_readdir",
        ],
        prefixes: &["filldir", "compat_filldir", "compat_fillonedir", "fillonedir"],
    },
    Group {
        listing: KernelListing::Processes,
        calls: &[
            "kill",
            "tkill",
            "tgkill",
            "pidfd_open",
            "pidfd_send_signal",
            "ptrace",
            "process_vm_readv",
            "process_vm_writev",
            "execve",
            "execveat",
            "getpgid",
            "getsid",
            "getpriority",
            "sched_getaffinity",
            "sched_getattr",
            "sched_getparam",
            "sched_getscheduler",
            "sched_rr_get_interval",
            "sysinfo",
        ],
        names: &[
            "do_task_stat",
            "next_tgid",
            "find_ge_pid",
            "find_pid_ns",
            "find_vpid",
            "find_task_by_vpid",
            "find_get_task_by_vpid",
            "pid_revalidate",
            "pid_getattr",
            "kill_something_info",
            "do_send_sig_info",
            "do_send_specific",
            "check_kill_permission",
            "load_elf_binary",
            "mem_rw",
            "get_cmdline",
        ],
        prefixes: &[
            "proc_pid_",
            "proc_tgid_",
            "proc_task_",
            "proc_root_",
            "proc_readdir",
            "proc_readfd",
            "proc_fill_cache",
            "proc_pident_",
            "ptrace_",
            "__ptrace_",
        ],
    },
    Group {
        listing: KernelListing::Sockets,
        calls: &["recvmsg", "recvmmsg", "recvfrom", "getsockname", "getpeername", "bind"],
        names: &[
            "packet_rcv",
            "packet_rcv_spkt",
            "packet_rcv_fanout",
            "tpacket_rcv",
            "netlink_dump",
            "inet_sk_diag_fill",
            "sk_diag_fill",
            "established_get_first",
            "listening_get_first",
        ],
        prefixes: &[
            "tcp4_seq_",
            "tcp6_seq_",
            "tcp_seq_",
            "udp4_seq_",
            "udp6_seq_",
            "udp_seq_",
            "raw_seq_",
            "raw6_seq_",
            "ping_v4_seq_",
            "ping_v6_seq_",
            "unix_seq_",
            "packet_seq_",
            "netlink_seq_",
            "netlink_native_seq_",
            "sctp_eps_seq_",
            "sctp_assocs_seq_",
            "inet_diag_",
            "tcp_diag_",
            "udp_diag_",
            "unix_diag_",
            "raw_diag_",
            "packet_diag_",
            "netlink_diag_",
            "sock_diag_",
        ],
    },
    Group {
        listing: KernelListing::Modules,
        calls: &["init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load"],
        names: &[
            "m_show",
            "load_module",
            "do_init_module",
            "t_show",
            "show_kprobe_addr",
            "s_show",
            "update_iter",
            "modules_op",
            "modules_proc_ops",
        ],
        prefixes: &["module_get_kallsym", "modules_open", "kallsyms_"],
    },
    Group {
        listing: KernelListing::Logs,
        calls: &["syslog"],
        names: &["vprintk", "_printk", "printk", "do_syslog", "syslog_print", "syslog_print_all"],
        prefixes: &["vprintk_", "devkmsg_", "kmsg_", "audit_log", "audit_receive"],
    },
    Group {
        listing: KernelListing::Bpf,
        calls: &["bpf", "perf_event_open"],
        names: &["__sys_bpf", "bpf_iter_run_prog", "bpf_seq_read"],
        prefixes: &[
            "bpf_prog_get",
            "bpf_map_get",
            "bpf_link_get",
            "bpf_prog_seq_",
            "bpf_map_seq_",
            "bpf_link_seq_",
        ],
    },
];

/// What the names of tables of functions end with.
const TABLE_SUFFIXES: [&str; 4] = ["_ops", "_op", "_operations", "sys_call_table"];

/// The name of the function itself, without an offset, a module, or what compilers add to the names
/// of parts and copies (`.isra.0`, `.cold`).
fn base_of(symbol: &str) -> &str {
    symbol.split(['+', ' ', '.']).next().unwrap_or_default()
}

/// What a function, or a table of functions, shows or acts on; `None` if a module may hook it.
pub fn listing_of(symbol: &str) -> Option<KernelListing> {
    let name = base_of(symbol);
    let call = CALL_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    let group = GROUPS.iter().find(|group| {
        call.is_some_and(|call| group.calls.contains(&call))
            || group.names.contains(&name)
            || group.prefixes.iter().any(|prefix| name.starts_with(prefix))
    });
    group.map(|group| group.listing)
}

/// Whether a function shows processes, files, sockets, modules, logs or BPF programs, or acts on
/// them.
pub fn is_sensitive(symbol: &str) -> bool {
    listing_of(symbol).is_some()
}

/// Whether a place is in a table of such functions, such as `tcp4_seq_ops`.
pub fn is_sensitive_table(symbol: &str) -> bool {
    let name = base_of(symbol);
    is_sensitive(name) && TABLE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_show_what_a_machine_has_are_sensitive() {
        for symbol in [
            "__x64_sys_getdents64",
            "__ia32_compat_sys_getdents+0x4",
            "__arm64_sys_kill",
            "__do_sys_newfstatat",
            "__x64_sys_bpf [kernel]",
            "filldir64",
            "tcp4_seq_show",
            "udp6_seq_show",
            "unix_seq_show",
            "packet_seq_show",
            "raw_seq_show",
            "m_show",
            "proc_pid_readdir",
            "kallsyms_lookup_name",
            "vprintk_emit",
            "audit_log_start.constprop.0",
            "inet_sk_diag_fill.isra.0",
            "x64_sys_call",
            "do_init_module",
            "__x64_sys_ptrace",
        ] {
            assert!(is_sensitive(symbol), "{symbol}");
        }
    }

    #[test]
    fn other_functions_are_not() {
        for symbol in [
            "",
            "+0x4",
            "__x64_sys_",
            "__x64_sys_nanosleep",
            "getdents64",
            "ip_rcv",
            "schedule",
            "nf_hook_slow",
            "m_start",
            "cmdline_proc_show",
            "do_nanosleep",
        ] {
            assert!(!is_sensitive(symbol), "{symbol}");
        }
    }

    #[test]
    fn tables_of_such_functions_are_sensitive() {
        for symbol in ["tcp4_seq_ops+0x18", "proc_root_operations", "sys_call_table+0x1f0"] {
            assert!(is_sensitive_table(symbol), "{symbol}");
        }
        for symbol in
            ["", "ext4_file_operations", "tcp_prot+0x10", "sock_diag_handlers", "crypto_ops"]
        {
            assert!(!is_sensitive_table(symbol), "{symbol}");
        }
    }

    #[test]
    fn each_function_has_what_it_shows() {
        for (symbol, listing) in [
            ("__x64_sys_getdents64", KernelListing::Files),
            ("__arm64_sys_kill", KernelListing::Processes),
            ("proc_pid_readdir", KernelListing::Processes),
            ("tcp6_seq_show", KernelListing::Sockets),
            ("sys_call_table+0x8", KernelListing::SystemCalls),
            ("m_show", KernelListing::Modules),
            ("__do_sys_syslog", KernelListing::Logs),
            ("__sys_bpf", KernelListing::Bpf),
        ] {
            assert_eq!(listing_of(symbol), Some(listing), "{symbol}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        let all = |of: fn(&Group) -> &'static [&'static str]| GROUPS.iter().flat_map(of);
        let lists: [Vec<_>; 3] = [
            all(|group| group.calls).collect(),
            all(|group| group.names).collect(),
            all(|group| group.prefixes).collect(),
        ];
        for names in lists {
            for (index, name) in names.iter().enumerate() {
                assert!(!names[..index].contains(name), "{name}");
            }
        }
    }
}
