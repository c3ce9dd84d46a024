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
    let symbols = &cx.kernel().symbols;
    let lists = [symbols.bpf_kallsyms, symbols.ftrace_ops_list, symbols.kprobe_insn_slots];
    if lists.iter().all(Option::is_none) {
        cx.not_checked(Check::ExecutablePages, "the lists of trampolines are unknown");
    }
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Outcome, Scene, va};
    use super::*;

    const CHECK: Check = Check::ExecutablePages;
    const CODE: u64 = 0xffff_ffff_c000_0000;

    /// A machine with an empty list of ftrace.
    fn scene() -> Scene {
        let mut scene = Scene::new();
        let list = scene.variable(8);
        scene.kernel.symbols.ftrace_ops_list = va(list);
        scene
    }

    fn is_whole(outcome: &Outcome) -> bool {
        outcome.facts(CHECK).not_checked.is_none()
    }

    /// The step adds exactly these bytes, with their owner.
    fn assert_owned(scene: &mut Scene, (start, size): (u64, u64), owner: Owner) {
        scene.disown_all();
        assert_eq!(scene.owner_of(start), Owner::Nobody);
        assert!(is_whole(&scene.run(step)));
        let ends = [start - 1, start, start + size - 1, start + size];
        let owners = [Owner::Nobody, owner, owner, Owner::Nobody];
        assert_eq!(ends.map(|at| scene.owner_of(at)), owners);
    }

    /// A list with one object, and its head.
    fn list(scene: &mut Scene, structure: &str, link: &str) -> (u64, u64) {
        let (head, object) = (scene.variable(64), scene.structure());
        let link = scene.field(object, structure, link);
        scene.list(head, &[link]);
        (head, object)
    }

    /// Lists that lose a link, or never end, leave memory without its owner.
    fn assert_needed(scene: &mut Scene, link: u64) {
        let next = scene.word(link);
        for broken in [8, link] {
            scene.put(link, broken);
            assert!(!is_whole(&scene.run(step)), "{broken:#x}");
            scene.disown_all();
        }
        scene.put(link, next);
        assert!(is_whole(&scene.run(step)));
    }

    #[test]
    fn a_kernel_without_lists_has_the_page_that_programs_execute() {
        let mut scene = scene();
        assert_owned(&mut scene, (VSYSCALL, 4096), Owner::System);
        // A kernel without the names of its data has lists at unknown addresses.
        scene.kernel.symbols.ftrace_ops_list = None;
        assert!(!is_whole(&scene.run(step)));
    }

    #[test]
    fn images_of_bpf_have_owners() {
        let mut scene = scene();
        let (head, object) = list(&mut scene, "bpf_ksym", "lnode");
        scene.kernel.symbols.bpf_kallsyms = va(head);
        scene.set(object, "bpf_ksym", "start", CODE);
        scene.set(object, "bpf_ksym", "end", CODE + 0x123);
        assert_owned(&mut scene, (CODE, 0x123), Owner::Bpf);
        let link = scene.field(object, "bpf_ksym", "lnode");
        assert_needed(&mut scene, link);
        // An end before the start is no image.
        scene.set(object, "bpf_ksym", "end", CODE - 1);
        scene.disown_all();
        scene.run(step);
        assert_eq!(scene.owner_of(CODE), Owner::Nobody);
        scene.kernel.layouts.bpf_ksym = None;
        assert!(!is_whole(&scene.run(step)));
    }

    #[test]
    fn packs_of_bpf_have_an_owner_for_each_node() {
        let mut scene = scene();
        let (head, object) = list(&mut scene, "bpf_prog_pack", "list");
        scene.kernel.symbols.pack_list = va(head);
        let start = 0xffff_ffff_0000_0000;
        scene.set(object, "bpf_prog_pack", "ptr", start);
        assert_owned(&mut scene, (start, PACK_BYTES.into()), Owner::Bpf);
        let nodes = scene.variable(8);
        scene.kernel.symbols.nr_node_ids = va(nodes);
        for (number, count) in [(0, 1), (2, 2), (u64::MAX, NODES_MAX.into())] {
            scene.put(nodes, number);
            assert_owned(&mut scene, (start, count * u64::from(PACK_BYTES)), Owner::Bpf);
        }
        let link = scene.field(object, "bpf_prog_pack", "list");
        assert_needed(&mut scene, link);
        scene.kernel.layouts.bpf_prog_pack = None;
        assert!(!is_whole(&scene.run(step)));
    }

    #[test]
    fn trampolines_of_ftrace_have_owners() {
        let mut scene = scene();
        let (list, end) = (scene.variable(8), scene.variable(1024));
        let [first, second] = [0; 2].map(|_| scene.structure());
        scene.kernel.symbols.ftrace_ops_list = va(list);
        scene.kernel.symbols.ftrace_list_end = va(end);
        scene.put(list, end);
        assert!(is_whole(&scene.run(step)));
        scene.put(list, first);
        for (ops, next) in [(first, second), (second, end)] {
            scene.set(ops, "ftrace_ops", "next", next);
        }
        scene.set(second, "ftrace_ops", "trampoline", CODE);
        // One without a trampoline of its own has no size.
        scene.set(first, "ftrace_ops", "trampoline", CODE - 4096);
        scene.set(second, "ftrace_ops", "trampoline_size", 0x80);
        assert_owned(&mut scene, (CODE, 0x80), Owner::Trampoline);
        for next in [8, first] {
            scene.set(second, "ftrace_ops", "next", next);
            assert!(!is_whole(&scene.run(step)));
        }
        scene.kernel.layouts.ftrace_ops = None;
        assert!(!is_whole(&scene.run(step)));
    }

    #[test]
    fn slots_of_kprobes_have_owners() {
        for is_optimised in [false, true] {
            let mut scene = scene();
            let (cache, page) = (scene.variable(1024), scene.structure());
            let symbols = &mut scene.kernel.symbols;
            let symbol = if is_optimised {
                &mut symbols.kprobe_optinsn_slots
            } else {
                &mut symbols.kprobe_insn_slots
            };
            *symbol = va(cache);
            let head = scene.field(cache, "kprobe_insn_cache", "pages");
            let link = scene.field(page, "kprobe_insn_page", "list");
            scene.list(head, &[link]);
            scene.set(page, "kprobe_insn_page", "insns", CODE);
            assert_owned(&mut scene, (CODE, SLOTS_BYTES.into()), Owner::Trampoline);
            assert_needed(&mut scene, link);
        }
    }

    #[test]
    fn more_owners_than_there_is_room_for_are_noticed() {
        let mut scene = scene();
        assert!(is_whole(&scene.run(step)));
        (0..4096).for_each(|index| scene.own(CODE + 64 * index, 64, Owner::Bpf));
        assert!(!is_whole(&scene.run(step)));
    }
}
