//! The kernel's symbols that discovery and the engine use.

use panoptes_decoders::address::KernelVa;

macro_rules! symbols {
    ($( $(#[$doc:meta])* $field:ident : $name:literal ),* $(,)?) => {
        /// The addresses of a kernel's symbols, or of the same objects found in other ways; `None`
        /// if the kernel lacks the symbol or its address is unknown.
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub struct Symbols {
            $( $(#[$doc])* pub $field: Option<KernelVa>, )*
        }

        impl Symbols {
            /// The kernel's names of all fields, in the order of the fields.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Names and their addresses, in the order of [`Self::NAMES`].
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<KernelVa>)> {
                [$( ($name, self.$field) ),*].into_iter()
            }

            /// The field for a symbol name.
            pub fn field_mut(&mut self, name: &str) -> Option<&mut Option<KernelVa>> {
                match name {
                    $( $name => Some(&mut self.$field), )*
                    _ => None,
                }
            }
        }

        /// Collects addresses in the order of [`Symbols::NAMES`].
        impl FromIterator<Option<KernelVa>> for Symbols {
            fn from_iter<I: IntoIterator<Item = Option<KernelVa>>>(addresses: I) -> Self {
                let mut addresses = addresses.into_iter();
                Self { $( $field: addresses.next().flatten(), )* }
            }
        }
    };
}

symbols! {
    /// First byte of the image (arch/x86/kernel/vmlinux.lds.S).
    text: "_text",
    /// First byte of the code.
    stext: "_stext",
    /// First byte after the code.
    etext: "_etext",
    /// First byte after the image.
    end: "_end",
    /// First byte of the kernel's BTF (include/asm-generic/vmlinux.lds.h).
    start_btf: "__start_BTF",
    /// First byte after the BTF.
    stop_btf: "__stop_BTF",
    /// Text of the kernel's version (init/version.c).
    linux_banner: "linux_banner",
    /// The first task, on processor 0 (init/init_task.c).
    init_task: "init_task",
    /// The initial pid namespace (kernel/pid.c).
    init_pid_ns: "init_pid_ns",
    /// The initial network namespace (net/core/net_namespace.c).
    init_net: "init_net",
    /// The initial UTS namespace (init/version.c).
    init_uts_ns: "init_uts_ns",
    /// The kernel's own address space (mm/init-mm.c).
    init_mm: "init_mm",
    /// The top page table (arch/x86/kernel/head_64.S); `swapper_pg_dir` is a `#define` of it.
    init_top_pgt: "init_top_pgt",
    /// Holds the start of the direct map (arch/x86/kernel/head64.c).
    page_offset_base: "page_offset_base",
    /// Holds the start of the vmalloc addresses.
    vmalloc_base: "vmalloc_base",
    /// Holds the start of the array of `struct page`.
    vmemmap_base: "vmemmap_base",
    /// The kernel's clock (kernel/time/timekeeping.c): a sequence counter, then a `struct
    /// timekeeper`.
    tk_core: "tk_core",
    /// The same in v7.x: an array with one element per clock.
    timekeeper_data: "timekeeper_data",
    /// The boot id, 16 bytes; zero until a program in the guest reads it (drivers/char/random.c).
    sysctl_bootid: "sysctl_bootid",
    /// The area of the vsyscall page, which is in no process's tree (arch/x86/entry/vsyscall).
    gate_vma: "gate_vma",
    /// The frequency of the time stamp counter in kHz (arch/x86/kernel/tsc.c).
    tsc_khz: "tsc_khz",
    /// Number of forks since boot (kernel/fork.c).
    total_forks: "total_forks",
    /// The hash tables of TCP sockets (net/ipv4/tcp_ipv4.c).
    tcp_hashinfo: "tcp_hashinfo",
    /// The hash table of UDP sockets (net/ipv4/udp.c).
    udp_table: "udp_table",
    /// Holds a pointer that is null unless the kernel can translate addresses
    /// (net/netfilter/core.c).
    nf_nat_hook: "nf_nat_hook",
    /// List of all loaded modules (kernel/module/main.c).
    modules: "modules",
    /// All memory of modules, by address (kernel/module/main.c).
    mod_tree: "mod_tree",
    /// Holds a pointer to the directory /sys/module (kernel/params.c).
    module_kset: "module_kset",
    /// Lock of the list and of the tree (kernel/module/main.c).
    module_mutex: "module_mutex",
    /// List of the types of modules (kernel/bpf/btf.c).
    btf_modules: "btf_modules",
    /// Hash table of all sets of control groups (kernel/cgroup/cgroup.c): an array of list heads.
    css_set_table: "css_set_table",
    /// The root of the second version's hierarchy of control groups (kernel/cgroup/cgroup.c).
    cgrp_dfl_root: "cgrp_dfl_root",
    /// List of all network namespaces (net/core/net_namespace.c).
    net_namespace_list: "net_namespace_list",
    /// Offsets of each processor's own variables (mm/percpu.c).
    per_cpu_offset: "__per_cpu_offset",
    /// Maximum number of processors (kernel/smp.c).
    nr_cpu_ids: "nr_cpu_ids",
    /// Ticks since shortly before boot (kernel/time/timer.c).
    jiffies_64: "jiffies_64",
    /// The kernel's command line (init/main.c).
    saved_command_line: "saved_command_line",
    /// File operations of sockets (net/socket.c).
    socket_file_ops: "socket_file_ops",
    /// File operations of pipes (fs/pipe.c).
    pipefifo_fops: "pipefifo_fops",
    /// List of the images and trampolines of BPF (kernel/bpf/core.c).
    bpf_kallsyms: "bpf_kallsyms",
    /// The type of bpffs (kernel/bpf/inode.c).
    bpf_fs_type: "bpf_fs_type",
    /// List of memory for many BPF images (kernel/bpf/core.c).
    pack_list: "pack_list",
    /// The functions that ask for memory for BPF images (kernel/bpf/core.c).
    bpf_jit_alloc_exec: "bpf_jit_alloc_exec",
    bpf_jit_binary_alloc: "bpf_jit_binary_alloc",
    /// The tree of mapped addresses (mm/vmalloc.c, up to v6.8).
    vmap_area_root: "vmap_area_root",
    /// Holds the first `struct ftrace_ops` (kernel/trace/ftrace.c).
    ftrace_ops_list: "ftrace_ops_list",
    /// The last `struct ftrace_ops` of each list (kernel/trace/ftrace.c).
    ftrace_list_end: "ftrace_list_end",
    /// Pages with copies of probed instructions (kernel/kprobes.c).
    kprobe_insn_slots: "kprobe_insn_slots",
    /// Pages of optimised probes (kernel/kprobes.c).
    kprobe_optinsn_slots: "kprobe_optinsn_slots",
    /// All kprobes, by a hash of their addresses (kernel/kprobes.c).
    kprobe_table: "kprobe_table",
    /// The handler of a kprobe that stands for several (kernel/kprobes.c).
    aggr_pre_handler: "aggr_pre_handler",
    /// The handler of the kprobe in a kretprobe (kernel/kprobes.c).
    pre_handler_kretprobe: "pre_handler_kretprobe",
    /// Holds the address of `struct real_mode_header` (arch/x86/realmode/init.c).
    real_mode_header: "real_mode_header",
    /// Number of NUMA nodes that may exist (mm/page_alloc.c).
    nr_node_ids: "nr_node_ids",
    /// The table of system calls (arch/x86/entry/syscall_64.c), and that of programs of 32 bits.
    sys_call_table: "sys_call_table",
    ia32_sys_call_table: "ia32_sys_call_table",
    x32_sys_call_table: "x32_sys_call_table",
    /// The functions that dispatch system calls (arch/x86/entry).
    x64_sys_call: "x64_sys_call",
    x32_sys_call: "x32_sys_call",
    ia32_sys_call: "ia32_sys_call",
    do_syscall_64: "do_syscall_64",
    entry_syscall_64: "entry_SYSCALL_64",
    /// The table of interrupt descriptors (arch/x86/kernel/idt.c).
    idt_table: "idt_table",
    /// Read-only data (include/asm-generic/sections.h), and other data of the image.
    start_rodata: "__start_rodata",
    end_rodata: "__end_rodata",
    sdata: "_sdata",
    edata: "_edata",
    /// Heads of chains of notifiers (drivers/tty/vt, kernel, net, arch/x86/kernel/dumpstack.c).
    keyboard_notifier_list: "keyboard_notifier_list",
    vt_notifier_list: "vt_notifier_list",
    module_notify_list: "module_notify_list",
    die_chain: "die_chain",
    netdev_chain: "netdev_chain",
    netlink_chain: "netlink_chain",
    inetaddr_chain: "inetaddr_chain",
    inet6addr_chain: "inet6addr_chain",
    reboot_notifier_list: "reboot_notifier_list",
    restart_handler_list: "restart_handler_list",
    panic_notifier_list: "panic_notifier_list",
    pm_chain_head: "pm_chain_head",
    task_exit_notifier: "task_exit_notifier",
    munmap_notifier: "munmap_notifier",
    usb_notifier_list: "usb_notifier_list",
    oom_notify_list: "oom_notify_list",
    acpi_chain_head: "acpi_chain_head",
    fb_notifier_list: "fb_notifier_list",
    netevent_notif_chain: "netevent_notif_chain",
    inetaddr_validator_chain: "inetaddr_validator_chain",
    inet6addr_validator_chain: "inet6addr_validator_chain",
    power_off_handler_list: "power_off_handler_list",
    x86_mce_decoder_chain: "x86_mce_decoder_chain",
    /// Offsets of all tracepoints (include/asm-generic/vmlinux.lds.h).
    start_tracepoints: "__start___tracepoints_ptrs",
    stop_tracepoints: "__stop___tracepoints_ptrs",
    /// Heads of lists of packet types (net/core/dev.c).
    ptype_all: "ptype_all",
    ptype_base: "ptype_base",
    /// Has the head of a list of packet types since v6.9 (net/core/hotdata.c).
    net_hotdata: "net_hotdata",
    /// The format of ELF programs (fs/binfmt_elf.c), in the list of all formats.
    elf_format: "elf_format",
    /// List of protocols (net/core/sock.c), and arrays of families and protocols (net).
    proto_list: "proto_list",
    net_families: "net_families",
    inet_protos: "inet_protos",
    inet6_protos: "inet6_protos",
    /// Lists of the kinds of sockets of IP, by their types (net/ipv4/af_inet.c, net/ipv6).
    inetsw: "inetsw",
    inetsw6: "inetsw6",
    /// List of all super blocks (fs/super.c).
    super_blocks: "super_blocks",
    /// The folder /proc (fs/proc/root.c).
    proc_root: "proc_root",
    /// Array of line disciplines (drivers/tty/tty_ldisc.c), and list of drivers.
    tty_ldiscs: "tty_ldiscs",
    tty_drivers: "tty_drivers",
    /// Timers of each processor (kernel/time/timer.c).
    timer_bases: "timer_bases",
    /// The function of timers that start work (kernel/workqueue.c).
    delayed_work_timer_fn: "delayed_work_timer_fn",
    /// Functions of security modules (security/security.c).
    security_hook_heads: "security_hook_heads",
    static_calls_table: "static_calls_table",
    /// Holds the hash of functions that lead to others directly (kernel/trace/ftrace.c).
    direct_functions: "direct_functions",
    /// Functions that enter system calls of programs of 32 bits (arch/x86/entry).
    do_fast_syscall_32: "do_fast_syscall_32",
    do_int80_emulation: "do_int80_emulation",
    do_int80_syscall_32: "do_int80_syscall_32",
    entry_int80_compat: "entry_INT80_compat",
    entry_syscall_compat: "entry_SYSCALL_compat",
    entry_sysenter_compat: "entry_SYSENTER_compat",
    /// Array of `struct fgraph_ops *` (kernel/trace/fgraph.c, since v6.11).
    fgraph_array: "fgraph_array",
    /// Handlers of fprobes in the list of ftrace (kernel/trace/fprobe.c, up to v6.13).
    fprobe_handler: "fprobe_handler",
    fprobe_kprobe_handler: "fprobe_kprobe_handler",
    /// All fprobes, by a hash of their addresses (kernel/trace/fprobe.c, since v6.14).
    fprobe_table: "fprobe_table",
    /// Hold the functions of the graph tracer (kernel/trace/fgraph.c, up to v6.10).
    ftrace_graph_entry: "ftrace_graph_entry",
    ftrace_graph_return: "ftrace_graph_return",
    /// Holds the function that all traced functions call (kernel/trace/ftrace.c).
    ftrace_trace_function: "ftrace_trace_function",
    /// The handler of live patches in the list of ftrace (kernel/livepatch/patch.c).
    klp_ftrace_handler: "klp_ftrace_handler",
    /// The tree of all uprobes (kernel/events/uprobes.c).
    uprobes_tree: "uprobes_tree",
    /// Places in the code that the kernel patches (include/asm-generic/vmlinux.lds.h).
    start_jump_table: "__start___jump_table",
    stop_jump_table: "__stop___jump_table",
    start_static_call_sites: "__start_static_call_sites",
    stop_static_call_sites: "__stop_static_call_sites",
    static_call_text_start: "__static_call_text_start",
    static_call_text_end: "__static_call_text_end",
    /// Holds the first `struct ftrace_page` (kernel/trace/ftrace.c).
    ftrace_pages_start: "ftrace_pages_start",
    /// All programs of eBPF by their numbers (kernel/bpf/syscall.c), as the next two.
    prog_idr: "prog_idr",
    /// All maps.
    map_idr: "map_idr",
    /// All links.
    link_idr: "link_idr",
    /// What calls of helpers count from (kernel/bpf/core.c).
    bpf_call_base: "__bpf_call_base",
    /// Helper that writes to the memory of a process (kernel/trace/bpf_trace.c), as the next three.
    bpf_probe_write_user: "bpf_probe_write_user",
    /// Lets a function return another value.
    bpf_override_return: "bpf_override_return",
    /// Sends a signal to a process.
    bpf_send_signal: "bpf_send_signal",
    /// Sends a signal to a thread.
    bpf_send_signal_thread: "bpf_send_signal_thread",
    /// Where ftrace's own code calls a handler (arch/x86/kernel/ftrace_64.S); the last one up to
    /// v5.17.
    ftrace_call: "ftrace_call",
    ftrace_regs_call: "ftrace_regs_call",
    ftrace_graph_call: "ftrace_graph_call",
    /// List of the code whose lock prefixes may be put in later (arch/x86/kernel/alternative.c).
    smp_alt_modules: "smp_alt_modules",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_field() {
        let mut symbols = Symbols::default();
        for (index, name) in Symbols::NAMES.iter().enumerate() {
            *symbols.field_mut(name).unwrap() = Some(KernelVa(index as u64));
        }
        for (index, (name, address)) in symbols.iter().enumerate() {
            assert_eq!(name, Symbols::NAMES[index]);
            assert_eq!(address, Some(KernelVa(index as u64)));
        }
        assert_eq!(symbols.field_mut("absent"), None);
    }
}
