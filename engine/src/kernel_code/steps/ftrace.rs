//! Functions that ftrace calls at the start of others, or that others call directly.
//!
//! The kernel's own functions serve kprobes, BPF and the tracers; livepatch has one for all
//! patches, and fprobe one for all probes, whose handlers are checked then. So another one belongs
//! to a module, or to nobody.
//!
//! Not here: the code at the start of a function, which calls what is not in any list.

use panoptes_decoders::address::KernelVa;

use super::ftrace_filter::{TOO_MANY, check_functions, follow_hash};
use super::function_probes;
use super::lists::OBJECTS_MAX;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Checks one part after the other.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    const PARTS: &[fn(&mut CheckContext<'_>)] = &[
        check_list,
        check_direct,
        check_variables,
        function_probes::check_graph,
        function_probes::check_fprobes,
    ];
    let Some(part) = PARTS.get(cursor.part as usize) else { return Progress::Done };
    part(cx);
    cursor.part += 1;
    Progress::More
}

/// Checks the function of each `struct ftrace_ops`.
fn check_list(cx: &mut CheckContext<'_>) {
    let check = Check::FtraceHandlers;
    let kernel = cx.kernel();
    let (Some(list), Some(layout)) = (kernel.symbols.ftrace_ops_list, &kernel.layouts.ftrace_ops)
    else {
        cx.not_checked(check, "the kernel has no list of ftrace, or its address is unknown");
        return;
    };
    let end = kernel.symbols.ftrace_list_end.unwrap_or_default();
    let Some(first) = cx.word(list) else {
        cx.unread(check);
        return;
    };
    // An empty list is checked, too.
    cx.checked(check, 1);
    let mut ops = KernelVa(first);
    for _ in 0..OBJECTS_MAX {
        if ops == end || ops.is_null() {
            return;
        }
        let Some(view) = cx.structure(ops, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let (func, next) = (view.pointer(layout.func), view.pointer(layout.next));
        let hash = layout.func_hash.map(|field| view.pointer(field));
        check_ops(cx, ops, func, hash);
        ops = next;
    }
    cx.not_checked(check, TOO_MANY);
}

/// Checks one function, and what it calls in turn if it is one of the kernel's.
fn check_ops(cx: &mut CheckContext<'_>, ops: KernelVa, func: KernelVa, hash: Option<KernelVa>) {
    let symbols = &cx.kernel().symbols;
    let (probes, patches) =
        ([symbols.fprobe_handler, symbols.fprobe_kprobe_handler], symbols.klp_ftrace_handler);
    check_functions(cx, (ops, "ftrace"), hash, func);
    if probes.contains(&Some(func)) {
        function_probes::check_fprobe_ops(cx, ops, hash);
    } else if patches == Some(func) {
        function_probes::check_patches(cx, ops);
    }
}

/// Checks where functions lead directly: trampolines of BPF, and functions of modules.
fn check_direct(cx: &mut CheckContext<'_>) {
    /// Whether a function jumps there, in the lowest bit (include/linux/ftrace.h, since v6.19).
    const JUMPS: u64 = 1;
    let check = Check::FtraceHandlers;
    let Some(at) = cx.kernel().symbols.direct_functions else { return };
    let Some(hash) = cx.word(at) else {
        cx.unread(check);
        return;
    };
    let is_whole = follow_hash(cx, KernelVa(hash), &mut |cx, ip, direct| {
        cx.hook(check, (ip, "ftrace, direct"), ip, KernelVa(direct.0 & !JUMPS));
    });
    if !is_whole {
        cx.not_checked(check, TOO_MANY);
    }
}

/// Checks the variables that hold a function of ftrace.
fn check_variables(cx: &mut CheckContext<'_>) {
    let check = Check::FtraceHandlers;
    let symbols = &cx.kernel().symbols;
    let variables = [
        ("ftrace_trace_function", symbols.ftrace_trace_function),
        ("ftrace_graph_entry", symbols.ftrace_graph_entry),
        ("ftrace_graph_return", symbols.ftrace_graph_return),
    ];
    for (name, variable) in variables {
        let Some(variable) = variable else { continue };
        match cx.word(variable) {
            Some(target) => cx.hook(check, (variable, name), KernelVa::NULL, KernelVa(target)),
            None => cx.unread(check),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    pub(in super::super) const MODULE: Owner = Owner::Module(KernelVa(7));
    const CHECK: Check = Check::FtraceHandlers;

    /// A kernel with a list of ftrace, whose end is the second value.
    pub(in super::super) fn scene() -> (Scene, u64) {
        let mut scene = Scene::new();
        let (list, end) = (scene.variable(8), scene.variable(1024));
        scene.kernel.symbols.ftrace_ops_list = va(list);
        scene.kernel.symbols.ftrace_list_end = va(end);
        scene.put(list, end);
        (scene, end)
    }

    /// Adds an element at the front of the list of ftrace.
    pub(in super::super) fn add_ops(scene: &mut Scene, ops: u64, func: u64) {
        let list = scene.kernel.symbols.ftrace_ops_list.unwrap().0;
        let next = scene.word(list);
        scene.put(list, ops);
        scene.set(ops, "ftrace_ops", "next", next);
        scene.set(ops, "ftrace_ops", "func", func);
    }

    /// A `struct ftrace_hash` of places, in many buckets, with where they lead directly.
    fn hash(scene: &mut Scene, entries: &[(u64, u64)]) -> u64 {
        let (hash, buckets) = (scene.structure(), scene.room(8 << 10));
        scene.set(hash, "ftrace_hash", "size_bits", 10);
        scene.set(hash, "ftrace_hash", "buckets", buckets);
        scene.set(hash, "ftrace_hash", "count", entries.len() as u64);
        for (index, &(ip, direct)) in entries.iter().enumerate() {
            let entry = scene.structure();
            scene.set(entry, "ftrace_func_entry", "ip", ip);
            scene.set(entry, "ftrace_func_entry", "direct", direct);
            // The first ones have buckets of their own, the others share the last one.
            let head = buckets + 8 * (600 * index as u64).min(1023);
            let first = scene.word(head);
            let link = scene.field(entry, "ftrace_func_entry", "hlist");
            scene.put(head, link);
            scene.put(link, first);
        }
        hash
    }

    /// The `struct ftrace_ops_hash` with such a filter.
    pub(in super::super) fn filter(scene: &mut Scene, ips: &[u64]) -> u64 {
        let entries = ips.iter().map(|&ip| (ip, 0)).collect::<Vec<_>>();
        let (of_ops, filter) = (scene.structure(), hash(scene, &entries));
        scene.set(of_ops, "ftrace_ops_hash", "filter_hash", filter);
        of_ops
    }

    #[test]
    fn functions_of_the_kernel_and_of_bpf_are_no_hooks() {
        let (mut scene, _) = scene();
        assert!(scene.run(step).holds(CHECK));
        let targets = [scene.function(64), scene.code_of(Owner::Bpf)];
        for target in targets {
            let ops = scene.structure();
            add_ops(&mut scene, ops, target);
        }
        let outcome = scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 3);
    }

    #[test]
    fn each_function_of_a_filter_is_hooked() {
        for owner in [Owner::Nobody, MODULE] {
            let (mut scene, _) = scene();
            let (target, ops) = (scene.code_of(owner), scene.structure());
            let ips = [0, 64, 128, 192].map(|offset| scene.function(64) + offset);
            let filter = filter(&mut scene, &ips);
            add_ops(&mut scene, ops, target);
            scene.set(ops, "ftrace_ops", "func_hash", filter);
            let last = scene.structure();
            let kernels = scene.function(64);
            add_ops(&mut scene, last, kernels);
            let outcome = scene.run(step);
            let mut hooks = outcome.hooks(CHECK);
            hooks.sort_unstable();
            assert_eq!(hooks, ips.map(|ip| (ip, target)), "{owner:?}");
            assert!(outcome.violations.iter().all(|it| it.function == it.place));
            assert!(outcome.violations.iter().all(|it| it.owner == owner));
        }
    }

    #[test]
    fn without_a_filter_all_functions_are_hooked() {
        let (mut scene, _) = scene();
        let (stray, ops) = (scene.stray_code(), scene.structure());
        add_ops(&mut scene, ops, stray);
        for ips in [None, Some(&[][..])] {
            let filter = ips.map(|ips| filter(&mut scene, ips));
            scene.set(ops, "ftrace_ops", "func_hash", filter.unwrap_or(0));
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(ops, stray)]);
            assert!(outcome.violations[0].function.is_null());
        }
    }

    #[test]
    fn a_list_without_an_end_and_a_broken_one_do_not_hold() {
        let (mut scene, _) = scene();
        let (ops, kernels) = (scene.structure(), scene.function(64));
        add_ops(&mut scene, ops, kernels);
        scene.set(ops, "ftrace_ops", "next", ops);
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
        scene.set(ops, "ftrace_ops", "next", 0x1234);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
    }

    #[test]
    fn a_hash_that_never_ends_is_left() {
        let (mut scene, _) = scene();
        let (stray, ops, ip) = (scene.stray_code(), scene.structure(), scene.function(64));
        let filter = filter(&mut scene, &[ip]);
        add_ops(&mut scene, ops, stray);
        scene.set(ops, "ftrace_ops", "func_hash", filter);
        let hash = scene.word(scene.field(filter, "ftrace_ops_hash", "filter_hash"));
        let buckets = scene.word(scene.field(hash, "ftrace_hash", "buckets"));
        let link = scene.word(buckets);
        scene.put(link, link);
        let outcome = scene.run(step);
        assert_eq!(outcome.hooks(CHECK), [(ip, stray)]);
        assert_eq!(outcome.facts(CHECK).unread, 1);
        scene.put(link, 0);
        scene.set(hash, "ftrace_hash", "size_bits", 13);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }

    #[test]
    fn functions_that_lead_to_others_directly_are_checked() {
        let (mut scene, _) = scene();
        let (bpf, stray, variable) =
            (scene.code_of(Owner::Bpf), scene.stray_code(), scene.variable(8));
        let ips = [0; 2].map(|_| scene.function(64));
        let hash = hash(&mut scene, &[(ips[0], bpf), (ips[1], stray | 1)]);
        scene.put(variable, hash);
        scene.kernel.symbols.direct_functions = va(variable);
        let outcome = scene.run(step);
        assert_eq!(outcome.hooks(CHECK), [(ips[1], stray)]);
        assert_eq!(outcome.violations[0].function.0, ips[1]);
        scene.set(hash, "ftrace_hash", "buckets", 0x1234);
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
    }

    #[test]
    fn variables_with_functions_are_checked() {
        for index in 0..3 {
            let (mut scene, _) = scene();
            let (variable, stray) = (scene.variable(8), scene.stray_code());
            let symbols = &mut scene.kernel.symbols;
            let fields = [
                &mut symbols.ftrace_trace_function,
                &mut symbols.ftrace_graph_entry,
                &mut symbols.ftrace_graph_return,
            ];
            *fields.into_iter().nth(index).unwrap() = va(variable);
            let kernels = scene.function(64);
            scene.put(variable, kernels);
            assert!(scene.run(step).holds(CHECK));
            scene.put(variable, stray);
            assert_eq!(scene.run(step).hooks(CHECK), [(variable, stray)]);
        }
    }
}
