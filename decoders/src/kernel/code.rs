//! Structures that own executable memory, or that lead to code.

crate::layout! {
    /// `struct bpf_ksym` (include/linux/bpf.h): an image of a BPF program, or a trampoline of BPF.
    /// Since v5.7.
    pub struct BpfKsym("bpf_ksym") {
        start: ["start"],
        end: ["end"],
        /// Link in the list `bpf_kallsyms`.
        lnode: ["lnode"],
    }
}

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
