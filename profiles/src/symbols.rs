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
    /// All programs of eBPF by their numbers (kernel/bpf/syscall.c), as the next two.
    prog_idr: "prog_idr",
    /// All maps.
    map_idr: "map_idr",
    /// All links.
    link_idr: "link_idr",
    /// List of the symbols of the code of eBPF (kernel/bpf/core.c).
    bpf_kallsyms: "bpf_kallsyms",
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
