//! The functions that no module may hook without a signature: those by which a machine shows its
//! processes, files, sockets, modules, logs and BPF programs, and those that act on them.
//!
//! A rootkit need not hide itself: the kernel's list may have its module. What it hooks shows what
//! it is for. The list has functions of Linux, never those of a program that hooks them.

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

/// System calls, without the prefix of their symbols.
const CALLS: &[&str] = &[
    // Files.
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
    // Processes.
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
    // Sockets.
    "recvmsg",
    "recvmmsg",
    "recvfrom",
    "getsockname",
    "getpeername",
    "bind",
    // Modules, logs, probes and BPF programs.
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "kexec_file_load",
    "syslog",
    "bpf",
    "perf_event_open",
];

/// Functions with exactly these names.
const FUNCTIONS: &[&str] = &[
    // The dispatch of system calls.
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
    // Files.
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
    // Processes.
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
    // Packets and sockets.
    "packet_rcv",
    "packet_rcv_spkt",
    "packet_rcv_fanout",
    "tpacket_rcv",
    "netlink_dump",
    "inet_sk_diag_fill",
    "sk_diag_fill",
    "established_get_first",
    "listening_get_first",
    // Modules, and the lists of probes and of traced functions.
    "m_show",
    "load_module",
    "do_init_module",
    "t_show",
    "show_kprobe_addr",
    "s_show",
    "update_iter",
    // Logs.
    "vprintk",
    "_printk",
    "printk",
    "do_syslog",
    "syslog_print",
    "syslog_print_all",
    // BPF programs.
    "__sys_bpf",
    "bpf_iter_run_prog",
    "bpf_seq_read",
];

/// What the names of groups of functions begin with.
const PREFIXES: &[&str] = &[
    "filldir",
    "compat_filldir",
    "compat_fillonedir",
    "fillonedir",
    "proc_pid_",
    "proc_tgid_",
    "proc_task_",
    "proc_root_",
    "proc_readdir",
    "proc_readfd",
    "proc_fill_cache",
    "proc_pident_",
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
    "module_get_kallsym",
    "modules_open",
    "kallsyms_",
    "vprintk_",
    "devkmsg_",
    "kmsg_",
    "audit_log",
    "audit_receive",
    "ptrace_",
    "__ptrace_",
    "bpf_prog_get",
    "bpf_map_get",
    "bpf_link_get",
    "bpf_prog_seq_",
    "bpf_map_seq_",
    "bpf_link_seq_",
];

/// What the names of tables of such functions end with.
const TABLE_SUFFIXES: [&str; 4] = ["_seq_ops", "_seq_op", "_proc_ops", "sys_call_table"];

/// The name of the function itself, without an offset, a module, or what compilers add to the names
/// of parts and copies (`.isra.0`, `.cold`).
fn base_of(symbol: &str) -> &str {
    symbol.split(['+', ' ', '.']).next().unwrap_or_default()
}

/// Whether a function shows processes, files, sockets, modules, logs or BPF programs, or acts on
/// them.
pub fn is_sensitive(symbol: &str) -> bool {
    let name = base_of(symbol);
    let call = CALL_PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix));
    call.is_some_and(|call| CALLS.contains(&call))
        || FUNCTIONS.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a place is in a table of such functions, such as `tcp4_seq_ops`.
pub fn is_sensitive_table(symbol: &str) -> bool {
    let name = base_of(symbol);
    let is_of_proc = name.starts_with("proc_") && name.ends_with("_operations");
    is_of_proc || TABLE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
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
        for symbol in ["", "ext4_file_operations", "tcp_prot+0x10", "proc_sops"] {
            assert!(!is_sensitive_table(symbol), "{symbol}");
        }
    }

    #[test]
    fn no_name_is_listed_twice() {
        for names in [CALLS, FUNCTIONS, PREFIXES] {
            for (index, name) in names.iter().enumerate() {
                assert!(!names[..index].contains(name), "{name}");
            }
        }
    }
}
