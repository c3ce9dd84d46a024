//! Owners of executable memory beside the kernel's text and the modules: images and trampolines of
//! BPF, trampolines of ftrace, and slots of kprobes.
//!
//! A list that cannot be followed to its end leaves memory without its owner. Then no page is
//! reported for that: [`Check::ExecutablePages`] is not made.

use panoptes_decoders::address::KernelVa;

use super::lists::{OBJECTS_MAX, follow_list};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::{CodeRange, Owner};

/// Bytes of a `struct bpf_prog_pack`'s memory for each NUMA node: `PMD_SIZE`
/// (`BPF_PROG_PACK_SIZE`, kernel/bpf/core.c).
const PACK_BYTES: u32 = 2 << 20;
/// Maximum number of NUMA nodes (`MAX_NUMNODES`, with `CONFIG_NODES_SHIFT` of 10).
const NODES_MAX: u32 = 1024;
/// Bytes of a page of slots (kernel/kprobes.c).
const SLOTS_BYTES: u32 = 4096;
/// `VSYSCALL_ADDR` (arch/x86/include/uapi/asm/vsyscall.h): a page that programs execute.
const VSYSCALL: u64 = 0xffff_ffff_ff60_0000;

/// Adds all owners.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let is_whole = [add_bpf_symbols(cx), add_bpf_packs(cx), add_ftrace(cx), add_kprobes(cx)];
    if is_whole.contains(&false) {
        cx.not_checked(Check::ExecutablePages, "a list of trampolines could not be read");
    }
    cx.add_owner(CodeRange { start: VSYSCALL, size: 4096, owner: Owner::System });
    cx.owners.sort();
    if cx.owners.is_full() {
        cx.not_checked(Check::ExecutablePages, "there are too many modules and BPF images");
    }
    Progress::Done
}

/// Adds images of BPF programs and trampolines of BPF.
fn add_bpf_symbols(cx: &mut CheckContext<'_>) -> bool {
    let kernel = cx.kernel();
    let Some((head, layout)) = kernel.symbols.bpf_kallsyms.zip(kernel.layouts.bpf_ksym.as_ref())
    else {
        return kernel.symbols.bpf_kallsyms.is_none();
    };
    follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.lnode.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else { return };
        let (start, end) = (view.unsigned(layout.start), view.unsigned(layout.end));
        let size = u32::try_from(end.wrapping_sub(start)).unwrap_or(0);
        cx.add_owner(CodeRange { start, size, owner: Owner::Bpf });
    })
}

/// Adds memory that BPF keeps for many images: those of classic filters have no symbol.
fn add_bpf_packs(cx: &mut CheckContext<'_>) -> bool {
    let kernel = cx.kernel();
    let Some((head, layout)) = kernel.symbols.pack_list.zip(kernel.layouts.bpf_prog_pack.as_ref())
    else {
        return kernel.symbols.pack_list.is_none();
    };
    let nodes = kernel.symbols.nr_node_ids.and_then(|at| cx.word(at));
    let nodes = nodes.map_or(1, |nodes| (nodes as u32).clamp(1, NODES_MAX));
    follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.list.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else { return };
        let start = view.unsigned(layout.ptr);
        cx.add_owner(CodeRange { start, size: PACK_BYTES * nodes, owner: Owner::Bpf });
    })
}

/// Adds trampolines of ftrace.
fn add_ftrace(cx: &mut CheckContext<'_>) -> bool {
    let kernel = cx.kernel();
    let (Some(list), Some(layout)) = (kernel.symbols.ftrace_ops_list, &kernel.layouts.ftrace_ops)
    else {
        return kernel.symbols.ftrace_ops_list.is_none();
    };
    let end = kernel.symbols.ftrace_list_end.unwrap_or_default();
    let Some(first) = cx.word(list) else { return false };
    let mut ops = KernelVa(first);
    for _ in 0..OBJECTS_MAX {
        if ops == end || ops.is_null() {
            return true;
        }
        let Some(view) = cx.structure(ops, &layout.packing) else { return false };
        let trampoline = view.optional(layout.trampoline).unwrap_or(0);
        let size = view.optional(layout.trampoline_size).unwrap_or(0);
        ops = view.pointer(layout.next);
        let size = u32::try_from(size).unwrap_or(0);
        cx.add_owner(CodeRange { start: trampoline, size, owner: Owner::Trampoline });
    }
    false
}

/// Adds the slots of kprobes.
fn add_kprobes(cx: &mut CheckContext<'_>) -> bool {
    let kernel = cx.kernel();
    let layouts = kernel.layouts.kprobe_insn_cache.as_ref();
    let Some((cache, page)) = layouts.zip(kernel.layouts.kprobe_insn_page.as_ref()) else {
        return kernel.symbols.kprobe_insn_slots.is_none();
    };
    let caches = [kernel.symbols.kprobe_insn_slots, kernel.symbols.kprobe_optinsn_slots];
    caches.into_iter().flatten().all(|at| {
        let head = at.plus(cache.pages.offset.into());
        follow_list(cx, head, &mut |cx, link| {
            let at = link.minus(page.list.offset.into());
            let Some(view) = cx.structure(at, &page.packing) else { return };
            let start = view.unsigned(page.insns);
            cx.add_owner(CodeRange { start, size: SLOTS_BYTES, owner: Owner::Trampoline });
        })
    })
}
