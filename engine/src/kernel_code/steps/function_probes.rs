//! Functions that the kernel's own users of ftrace call: the graph tracer, fprobes and livepatch.
//!
//! Not here: the list of ftrace itself, and kprobes.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::ftrace_filter::{FUNCTIONS_MAX, check_functions};
use super::lists::{OBJECTS_MAX, follow_hlist, follow_list};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;
use crate::kernel_code::owners::Owner;

const CHECK: Check = Check::FtraceHandlers;
/// Number of elements of `fgraph_array` (`FGRAPH_ARRAY_SIZE`, kernel/trace/fgraph.c).
const GRAPHS: usize = 16;
/// Number of buckets of `fprobe_table` (`FPROBE_TABLE_SIZE`, kernel/trace/fprobe.c).
const BUCKETS: u64 = 64;

/// Checks the functions for entries and returns, since v6.11.
pub(super) fn check_graph(cx: &mut CheckContext<'_>) {
    let kernel = cx.kernel();
    let (Some(array), Some(layout)) = (kernel.symbols.fgraph_array, &kernel.layouts.fgraph_ops)
    else {
        return;
    };
    let mut graphs = [KernelVa::NULL; GRAPHS];
    let Some(bytes) = cx.read(array, 8 * GRAPHS as u32) else {
        cx.unread(CHECK);
        return;
    };
    let words = graphs.iter_mut().zip(bytes.chunks_exact(8));
    words.for_each(|(graph, word)| *graph = KernelVa(u64_at(word, 0)));
    for graph in graphs.into_iter().filter(|graph| !graph.is_null()) {
        let Some(view) = cx.structure(graph, &layout.packing) else {
            cx.unread(CHECK);
            continue;
        };
        let functions = [layout.entryfunc, layout.retfunc].map(|field| view.pointer(field));
        let hash = layout.func_hash.map(|field| view.pointer(field));
        for function in functions {
            check_functions(cx, (graph, "ftrace, graph"), hash, function);
        }
    }
}

/// Checks the handlers of the fprobe with an element of the list of ftrace; up to v6.13.
pub(super) fn check_fprobe_ops(cx: &mut CheckContext<'_>, ops: KernelVa, hash: Option<KernelVa>) {
    let Some(layout) = &cx.kernel().layouts.fprobe else { return };
    let Some(field) = layout.ops else { return };
    let probe = ops.minus(field.offset.into());
    let Some(handlers) = handlers_of(cx, probe) else { return };
    for handler in handlers {
        check_functions(cx, (probe, "fprobe"), hash, handler);
    }
}

/// The handlers of an fprobe for entries and returns.
fn handlers_of(cx: &mut CheckContext<'_>, probe: KernelVa) -> Option<[KernelVa; 2]> {
    let layout = cx.kernel().layouts.fprobe.as_ref()?;
    let Some(view) = cx.structure(probe, &layout.packing) else {
        cx.unread(CHECK);
        return None;
    };
    Some([layout.entry_handler, layout.exit_handler].map(|field| view.pointer(field)))
}

/// Checks the handlers of all fprobes, since v6.14.
pub(super) fn check_fprobes(cx: &mut CheckContext<'_>) {
    let kernel = cx.kernel();
    let (Some(table), Some(layout)) = (kernel.symbols.fprobe_table, &kernel.layouts.fprobe_hlist)
    else {
        return;
    };
    let mut probes = 0;
    for bucket in 0..BUCKETS {
        let is_whole = follow_hlist(cx, table.plus(8 * bucket), &mut |cx, link| {
            probes += 1;
            check_fprobe(cx, link.minus(layout.hlist.offset.into()));
        });
        if !is_whole || probes > OBJECTS_MAX {
            cx.unread(CHECK);
            return;
        }
    }
}

/// Checks the handlers of the fprobe with a `struct fprobe_hlist`.
fn check_fprobe(cx: &mut CheckContext<'_>, at: KernelVa) {
    let layouts = &cx.kernel().layouts;
    let (Some(layout), Some(node)) = (&layouts.fprobe_hlist, &layouts.fprobe_hlist_node) else {
        return;
    };
    let Some(view) = cx.structure(at, &layout.packing) else {
        cx.unread(CHECK);
        return;
    };
    let (probe, count) = (view.pointer(layout.fp), view.unsigned(layout.functions));
    // It is being removed.
    if probe.is_null() {
        return;
    }
    let Some(handlers) = handlers_of(cx, probe) else { return };
    for handler in handlers {
        if handler.is_null() || !matches!(cx.owner_of(handler), Owner::Nobody | Owner::Module(_)) {
            cx.checked(CHECK, 1);
            continue;
        }
        for index in 0..count.min(FUNCTIONS_MAX as u64) {
            let element = at.plus(u64::from(layout.array.offset) + index * u64::from(node.size));
            match cx.structure(element, &node.packing).map(|view| view.pointer(node.addr)) {
                Some(function) => cx.hook(CHECK, (function, "fprobe"), function, handler),
                None => cx.unread(CHECK),
            }
        }
    }
}

/// Checks the live patches of the function with an element of the list of ftrace.
pub(super) fn check_patches(cx: &mut CheckContext<'_>, ops: KernelVa) {
    let layouts = &cx.kernel().layouts;
    let (Some(layout), Some(of_func)) = (&layouts.klp_ops, &layouts.klp_func) else {
        cx.not_checked(CHECK, "live patches have an unknown form");
        return;
    };
    let patched = ops.minus(layout.fops.offset.into());
    let head = patched.plus(layout.func_stack.offset.into());
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(of_func.stack_node.offset.into());
        let Some(view) = cx.structure(at, &of_func.packing) else {
            cx.unread(CHECK);
            return;
        };
        let (old, new) = (view.pointer(of_func.old_func), view.pointer(of_func.new_func));
        cx.hook(CHECK, (at, "live patch"), old, new);
    });
    if !is_whole {
        cx.unread(CHECK);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ftrace::step;
    use super::super::ftrace::tests::{MODULE, add_ops, filter, scene};
    use super::super::testing::va;
    use super::*;

    #[test]
    fn functions_of_the_graph_tracer_are_checked() {
        for field in ["entryfunc", "retfunc"] {
            let (mut scene, _) = scene();
            let (array, graph) = (scene.variable(128), scene.structure());
            let (kernels, stray) = (scene.function(64), scene.stray_code());
            scene.kernel.symbols.fgraph_array = va(array);
            scene.put(array + 15 * 8, graph);
            for field in ["entryfunc", "retfunc"] {
                scene.set(graph, "fgraph_ops", field, kernels);
            }
            assert!(scene.run(step).holds(CHECK));
            let ip = scene.function(64);
            let filter = filter(&mut scene, &[ip]);
            scene.set(graph, "fgraph_ops", "ops.func_hash", filter);
            scene.set(graph, "fgraph_ops", field, stray);
            assert_eq!(scene.run(step).hooks(CHECK), [(ip, stray)], "{field}");
            scene.put(array, 0x1234);
            assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        }
    }

    #[test]
    fn handlers_of_fprobes_in_the_list_of_ftrace_are_checked() {
        for field in ["entry_handler", "exit_handler"] {
            for with_kprobes in [false, true] {
                let (mut scene, _) = scene();
                let (handler, stray) = (scene.function(64), scene.stray_code());
                let symbols = &mut scene.kernel.symbols;
                if with_kprobes {
                    symbols.fprobe_kprobe_handler = va(handler);
                } else {
                    symbols.fprobe_handler = va(handler);
                }
                // It is in the middle of the probe in other kernels.
                let (room, ip) = (scene.structure() + 512, scene.function(64));
                let ops = scene.field(room, "fprobe", "ops");
                add_ops(&mut scene, ops, handler);
                let filter = filter(&mut scene, &[ip]);
                let layout = scene.kernel.layouts.fprobe.as_mut().unwrap();
                // Fields of tests have no room for a structure: it is moved before the others.
                layout.ops.as_mut().unwrap().offset += 512;
                let probe = ops - u64::from(layout.ops.unwrap().offset);
                scene.set(ops, "ftrace_ops", "func_hash", filter);
                assert!(scene.run(step).holds(CHECK));
                scene.set(probe, "fprobe", field, stray);
                assert_eq!(scene.run(step).hooks(CHECK), [(ip, stray)], "{field}");
            }
        }
    }

    #[test]
    fn handlers_of_all_fprobes_are_checked() {
        for field in ["entry_handler", "exit_handler"] {
            let (mut scene, _) = scene();
            let (table, at) = (scene.variable(512), scene.room(8192));
            let (probe, module) = (scene.structure(), scene.code_of(MODULE));
            scene.kernel.symbols.fprobe_table = va(table);
            let link = scene.field(at, "fprobe_hlist", "hlist");
            scene.hlist(table + 8 * 63, &[link]);
            scene.set(at, "fprobe_hlist", "fp", probe);
            scene.set(at, "fprobe_hlist", "size", 2);
            let size = u64::from(scene.kernel.layouts.fprobe_hlist_node.unwrap().size);
            let ips = [0, 1].map(|index| {
                let element = scene.field(at, "fprobe_hlist", "array") + size * index;
                let ip = scene.function(64);
                scene.set(element, "fprobe_hlist_node", "addr", ip);
                ip
            });
            assert!(scene.run(step).holds(CHECK));
            scene.set(probe, "fprobe", field, module);
            assert_eq!(scene.run(step).hooks(CHECK), ips.map(|ip| (ip, module)), "{field}");
            scene.set(at, "fprobe_hlist", "fp", 0);
            assert!(scene.run(step).holds(CHECK));
            scene.put(link, link);
            assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        }
    }

    #[test]
    fn live_patches_are_checked() {
        let (mut scene, _) = scene();
        let (handler, old) = (scene.function(64), scene.function(64));
        scene.kernel.symbols.klp_ftrace_handler = va(handler);
        let patched = scene.structure();
        scene.kernel.layouts.klp_ops.as_mut().unwrap().fops.offset = 512;
        add_ops(&mut scene, patched + 512, handler);
        let head = scene.field(patched, "klp_ops", "func_stack");
        let patches = [scene.code_of(MODULE), scene.stray_code(), old].map(|new| {
            let at = scene.structure();
            scene.set(at, "klp_func", "old_func", old);
            scene.set(at, "klp_func", "new_func", new);
            (at, new)
        });
        let links = patches.map(|(at, _)| scene.field(at, "klp_func", "stack_node"));
        scene.list(head, &links);
        let outcome = scene.run(step);
        assert_eq!(outcome.hooks(CHECK), patches[..2]);
        assert!(outcome.violations.iter().all(|it| it.function.0 == old));
        scene.put(links[2], links[2]);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }
}
