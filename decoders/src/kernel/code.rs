//! Structures that own executable memory, or that lead to code.

crate::layout! {
    /// `struct bpf_prog_pack` (kernel/bpf/core.c): memory for many images of BPF programs. Since
    /// v5.18.
    pub struct BpfProgPack("bpf_prog_pack") {
        /// Link in the list `pack_list`.
        list: ["list"],
        /// The first byte of its memory.
        ptr: ["ptr"],
    }
}

crate::layout! {
    /// `struct ftrace_ops` (include/linux/ftrace.h): a function that ftrace calls.
    pub struct FtraceOps("ftrace_ops") {
        func: ["func"],
        next: ["next"],
        flags: ["flags"],
        /// `struct ftrace_ops_hash *`: the functions that it is called for. Only with
        /// `CONFIG_DYNAMIC_FTRACE`, as the next ones.
        func_hash?: ["func_hash"],
        /// Address and size in bytes of a trampoline of its own; the size is 0 if it has none.
        trampoline?: ["trampoline"],
        trampoline_size?: ["trampoline_size"],
    }
}

crate::layout! {
    /// `struct ftrace_ops_hash` (include/linux/ftrace.h).
    pub struct FtraceOpsHash("ftrace_ops_hash") {
        /// `struct ftrace_hash *`: only these functions, unless it is empty.
        filter_hash: ["filter_hash"],
    }
}

crate::layout! {
    /// `struct ftrace_hash` (kernel/trace/trace.h, include/linux/ftrace.h since v6.10).
    pub struct FtraceHash("ftrace_hash") {
        size_bits: ["size_bits"],
        /// `struct hlist_head *`
        buckets: ["buckets"],
        count: ["count"],
    }
}

crate::layout! {
    /// `struct ftrace_func_entry` (kernel/trace/trace.h, include/linux/ftrace.h since v5.13).
    pub struct FtraceFuncEntry("ftrace_func_entry") {
        /// Link in its bucket.
        hlist: ["hlist"],
        /// Address of the patched place in the function.
        ip: ["ip"],
        /// Address that a direct call leads to; only in `direct_functions`.
        direct?: ["direct"],
    }
}

crate::layout! {
    /// `struct fprobe` (include/linux/fprobe.h, since v5.18): a probe of many functions.
    pub struct Fprobe("fprobe") {
        /// `struct ftrace_ops` in the list of ftrace; up to v6.13.
        ops?: ["ops"],
        entry_handler: ["entry_handler"],
        exit_handler: ["exit_handler"],
    }
}

crate::layout! {
    /// `struct fprobe_hlist` (include/linux/fprobe.h, since v6.14): the functions of a probe.
    pub struct FprobeHlist("fprobe_hlist") {
        /// Link in its bucket of `fprobe_table`.
        hlist: ["hlist"],
        /// `struct fprobe *`; null while it is being removed.
        fp: ["fp"],
        /// Number of elements of `array`.
        functions: ["size"],
        /// An array of `struct fprobe_hlist_node`.
        array: ["array"],
    }
}

crate::layout! {
    /// `struct fprobe_hlist_node` (include/linux/fprobe.h, since v6.14): one probed function.
    pub struct FprobeHlistNode("fprobe_hlist_node") {
        addr: ["addr"],
    }
}

crate::layout! {
    /// `struct fgraph_ops` (include/linux/ftrace.h): functions for entries and returns.
    pub struct FgraphOps("fgraph_ops") {
        entryfunc: ["entryfunc"],
        retfunc: ["retfunc"],
        /// `struct ftrace_ops_hash *`: the functions that it is called for. Since v6.11.
        func_hash?: ["ops.func_hash"],
    }
}

crate::layout! {
    /// `struct klp_ops` (kernel/livepatch/patch.h): a function with live patches.
    pub struct KlpOps("klp_ops") {
        /// Head of the list of `struct klp_func`; the first one is in use.
        func_stack: ["func_stack"],
        /// `struct ftrace_ops` in the list of ftrace.
        fops: ["fops"],
    }
}

crate::layout! {
    /// `struct klp_func` (include/linux/livepatch.h): a live patch of one function.
    pub struct KlpFunc("klp_func") {
        new_func: ["new_func"],
        old_func: ["old_func"],
        /// Link in the list of its `struct klp_ops`.
        stack_node: ["stack_node"],
    }
}

crate::layout! {
    /// `struct uprobe` (kernel/events/uprobes.c): a probe of a place in a file.
    pub struct Uprobe("uprobe") {
        /// Link in the tree `uprobes_tree`.
        rb_node: ["rb_node"],
        /// `struct uprobe_consumer *`, or head of their list since v6.12.
        consumers: ["consumers"],
    }
}

crate::layout! {
    /// `struct uprobe_consumer` (include/linux/uprobes.h): the functions that it calls.
    pub struct UprobeConsumer("uprobe_consumer") {
        handler: ["handler"],
        ret_handler: ["ret_handler"],
        filter: ["filter"],
        /// `struct uprobe_consumer *` of the same probe; up to v6.11.
        next?: ["next"],
        /// Link in the list of its probe. Since v6.12.
        cons_node?: ["cons_node"],
    }
}

crate::layout! {
    /// `struct kprobe_insn_cache` (include/linux/kprobes.h): pages with copies of instructions.
    pub struct KprobeInsnCache("kprobe_insn_cache") {
        pages: ["pages"],
    }
}

crate::layout! {
    /// `struct kprobe_insn_page` (kernel/kprobes.c).
    pub struct KprobeInsnPage("kprobe_insn_page") {
        list: ["list"],
        insns: ["insns"],
    }
}

crate::layout! {
    /// `struct kprobe` (include/linux/kprobes.h).
    pub struct Kprobe("kprobe") {
        /// Link in the bucket of `kprobe_table`.
        hlist: ["hlist"],
        /// Link among the probes of the same address; the head of the list in the one that stands
        /// for all of them.
        list: ["list"],
        addr: ["addr"],
        pre_handler: ["pre_handler"],
        post_handler: ["post_handler"],
        /// Up to v5.13.
        fault_handler?: ["fault_handler"],
        /// The first byte of the probed instruction, which a trap replaces.
        opcode: ["opcode"],
    }
}

crate::layout! {
    /// `struct kretprobe` (include/linux/kprobes.h): begins with a kprobe.
    pub struct Kretprobe("kretprobe") {
        handler: ["handler"],
        entry_handler: ["entry_handler"],
    }
}

crate::layout! {
    /// `struct optimized_kprobe` (include/linux/kprobes.h): begins with a kprobe.
    pub struct OptimizedKprobe("optimized_kprobe") {
        /// The four bytes behind the first one, which a jump replaces.
        copied_insn: ["optinsn.copied_insn"],
    }
}

crate::layout! {
    /// `struct ftrace_page` (kernel/trace/ftrace.c): an array of patched places.
    pub struct FtracePage("ftrace_page") {
        next: ["next"],
        /// `struct dyn_ftrace *`
        records: ["records"],
        /// Number of records.
        index: ["index"],
    }
}

crate::layout! {
    /// `struct dyn_ftrace` (include/linux/ftrace.h).
    pub struct DynFtrace("dyn_ftrace") {
        /// Address of the patched place.
        ip: ["ip"],
    }
}

crate::layout! {
    /// `struct net_hotdata` (include/net/hotdata.h). Since v6.9.
    pub struct NetHotdata("net_hotdata") {
        ptype_all?: ["ptype_all"],
    }
}

crate::layout! {
    /// `struct vmap_area` (include/linux/vmalloc.h): a range of mapped addresses.
    pub struct VmapArea("vmap_area") {
        va_start: ["va_start"],
        va_end: ["va_end"],
        /// Link in the tree `vmap_area_root`.
        rb_node: ["rb_node"],
        /// `struct vm_struct *`
        vm: ["vm"],
    }
}

crate::layout! {
    /// `struct vm_struct` (include/linux/vmalloc.h).
    pub struct VmStruct("vm_struct") {
        /// Address of the code that asked for it.
        caller: ["caller"],
    }
}

crate::layout! {
    /// `struct smp_alt_module` (arch/x86/kernel/alternative.c): the places of the lock prefixes of
    /// the kernel, or of a module.
    pub struct SmpAltModule("smp_alt_module") {
        /// `s32 *`: the first place, and the end of the places.
        locks: ["locks"],
        locks_end: ["locks_end"],
        /// Link in the list `smp_alt_modules`.
        next: ["next"],
    }
}

crate::layout! {
    /// The part of `struct module` (include/linux/module.h) that leads to the places in its code
    /// that the kernel patches, and to what tells it from another module in the same memory.
    pub struct ModuleSites("module") {
        /// `struct jump_entry *`, and their number. Only with `CONFIG_JUMP_LABEL`.
        jump_entries?: ["jump_entries"],
        num_jump_entries?: ["num_jump_entries"],
        /// `struct static_call_site *`, and their number. Only with
        /// `CONFIG_HAVE_STATIC_CALL_INLINE`.
        static_call_sites?: ["static_call_sites"],
        num_static_call_sites?: ["num_static_call_sites"],
        /// Addresses of the calls of ftrace, and their number. Only with `CONFIG_DYNAMIC_FTRACE`.
        ftrace_callsites?: ["ftrace_callsites"],
        num_ftrace_callsites?: ["num_ftrace_callsites"],
        /// Bits of `taint_flags` (kernel/panic.c).
        taints: ["taints"],
        /// `struct kernfs_node *`: its directory /sys/module/NAME.
        kobj_sd: ["mkobj.kobj.sd"],
    }
}

crate::layout! {
    /// The part of `struct kernfs_node` (include/linux/kernfs.h) that no other one has or had.
    pub struct KernfsId("kernfs_node") {
        id: ["id"],
    }
}
