//! One bound kernel: what the walk must know about the machine that it reads.

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::paging::KernelSpace;
use panoptes_profiles::Symbols;
use panoptes_profiles::kallsyms::search::Tables;

/// Where a walk begins. Unknown addresses are null, and what depends on them is left out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Roots {
    /// `init_task`, head of the task list.
    pub init_task: KernelVa,
    /// `init_pid_ns`, whose IDR has every `struct pid`.
    pub init_pid_ns: KernelVa,
    /// `init_net`, the initial network namespace.
    pub init_net: KernelVa,
    /// `init_uts_ns`
    pub init_uts_ns: KernelVa,
    /// The `struct timekeeper` inside `tk_core`.
    pub timekeeper: KernelVa,
    /// `tsc_khz`
    pub tsc_khz: KernelVa,
    /// `sysctl_bootid`
    pub boot_id: KernelVa,
    /// `total_forks`
    pub total_forks: KernelVa,
    /// `css_set_table`: all sets of control groups.
    pub css_set_table: KernelVa,
    /// `udp_table`: the UDP sockets of all namespaces without a table of their own.
    pub udp_table: KernelVa,
    /// `nf_nat_hook`
    pub nf_nat_hook: KernelVa,
    /// `gate_vma`: the area of the vsyscall page, which /proc shows in every process.
    pub gate_vma: KernelVa,
    /// `modules`: the list of modules.
    pub modules: KernelVa,
    /// `mod_tree`: the tree of the memory of modules.
    pub mod_tree: KernelVa,
    /// `module_kset`: holds the address of the directory /sys/module.
    pub module_kset: KernelVa,
    /// `module_mutex`
    pub module_mutex: KernelVa,
    pub bpf: BpfRoots,
}

/// Where eBPF begins.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct BpfRoots {
    /// `prog_idr`, `map_idr` and `link_idr`
    pub programs: KernelVa,
    pub maps: KernelVa,
    pub links: KernelVa,
    /// `bpf_kallsyms`: the list of the symbols of code.
    pub symbols: KernelVa,
    /// `__bpf_call_base`: what instructions count the addresses of helpers from.
    pub call_base: KernelVa,
    /// `bpf_probe_write_user`
    pub probe_write_user: KernelVa,
    /// `bpf_override_return`
    pub override_return: KernelVa,
    /// `bpf_send_signal` and `bpf_send_signal_thread`
    pub send_signal: [KernelVa; 2],
}

/// A kernel that is ready to be walked.
#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub layouts: Layouts,
    pub space: KernelSpace,
    pub roots: Roots,
    /// The addresses that checks of the kernel's code begin with.
    pub symbols: Symbols,
    /// The tables of symbols, for naming addresses.
    pub names: Option<Tables>,
    /// The rate of the processor's counter in kHz, used where `tsc_khz` cannot be read.
    pub counter_khz: Option<u32>,
    /// Whether the memory is a dump that lacks `init_task`: scans do without it.
    pub lacks_init_task: bool,
}

impl Kernel {
    /// The addresses of the kernel's own code; empty if they are unknown.
    pub fn text(&self) -> Range<u64> {
        let Symbols { stext, etext, .. } = self.symbols;
        stext.zip(etext).map_or(0..0, |(start, end)| start.0..end.0)
    }

    /// Whether /proc shows an area as `[heap]` that only touches the heap, as kernels up to v6.5
    /// do. Inferred from the inode's change time, whose field was renamed in v6.6.
    pub const fn heap_may_touch(&self) -> bool {
        self.layouts.inode.i_ctime.is_some()
    }
}
