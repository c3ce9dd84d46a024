//! Functions of tracepoints.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u32_at;

use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Maximum number of tracepoints of the kernel, and of functions of one.
const TRACEPOINTS_MAX: u64 = 8192;
const FUNCTIONS_MAX: u64 = 256;

/// Checks the tracepoints of the kernel's image, one after the other. Those of modules are not in
/// the table.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::Tracepoints;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let range = symbols.start_tracepoints.zip(symbols.stop_tracepoints);
    let (Some((start, stop)), Some(_), Some(_)) =
        (range, &layouts.tracepoint_hooks, &layouts.tracepoint_func)
    else {
        cx.not_checked(check, "the addresses of the tracepoints are unknown");
        return Progress::Done;
    };
    let count = stop.0.saturating_sub(start.0) / 4;
    if count > TRACEPOINTS_MAX {
        cx.not_checked(check, "there are too many tracepoints");
        return Progress::Done;
    }
    while cursor.count < count {
        if !cx.has_budget() {
            return Progress::More;
        }
        // An offset from its own place (`CONFIG_HAVE_ARCH_PREL32_RELOCATIONS`).
        let place = start.plus(4 * cursor.count);
        let offset = cx.read(place, 4).map(|bytes| u32_at(bytes, 0).cast_signed());
        match offset {
            Some(offset) => check_tracepoint(cx, place.plus(i64::from(offset).cast_unsigned())),
            None => cx.unread(check),
        }
        cursor.count += 1;
    }
    Progress::Done
}

/// Checks the functions of one tracepoint.
fn check_tracepoint(cx: &mut CheckContext<'_>, tracepoint: KernelVa) {
    let check = Check::Tracepoints;
    let layouts = &cx.kernel().layouts;
    let (Some(layout), Some(of_func)) = (&layouts.tracepoint_hooks, &layouts.tracepoint_func)
    else {
        return;
    };
    let Some(view) = cx.structure(tracepoint, &layout.packing) else {
        cx.unread(check);
        return;
    };
    let (name, funcs) = (view.pointer(layout.name), view.pointer(layout.funcs));
    cx.checked(check, 1);
    if funcs.is_null() {
        return;
    }
    let name = cx.text::<48>(name);
    for index in 0..FUNCTIONS_MAX {
        let place = funcs.plus(index * u64::from(of_func.size));
        let Some(view) = cx.structure(place, &of_func.packing) else { break };
        let func = view.pointer(of_func.func);
        if func.is_null() {
            return;
        }
        cx.hook(check, (place, &name), tracepoint, func);
    }
    cx.unread(check);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    const CHECK: Check = Check::Tracepoints;

    /// A kernel with three tracepoints, the last of which has two functions of the kernel.
    fn scene() -> (Scene, [u64; 3], [u64; 2]) {
        let mut scene = Scene::new();
        let (table, name) = (scene.variable(12), scene.text("sys_enter"));
        let symbols = &mut scene.kernel.symbols;
        (symbols.start_tracepoints, symbols.stop_tracepoints) = (va(table), va(table + 12));
        let tracepoints = [0, 1, 2].map(|index| {
            let (at, place) = (scene.variable(1024), table + 4 * index);
            scene.put_bytes(place, &(at.wrapping_sub(place) as u32).to_le_bytes());
            scene.set(at, "tracepoint", "name", name);
            at
        });
        let (array, kernels) = (scene.room(4096), scene.function(64));
        let size = u64::from(scene.kernel.layouts.tracepoint_func.unwrap().size);
        let elements = [array, array + size];
        for element in elements {
            scene.set(element, "tracepoint_func", "func", kernels);
        }
        scene.set(tracepoints[2], "tracepoint", "funcs", array);
        (scene, tracepoints, elements)
    }

    #[test]
    fn each_function_of_each_tracepoint_is_checked() {
        let (mut scene, tracepoints, elements) = scene();
        let outcome = scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 3 + 2);
        let module = Owner::Module(KernelVa(7));
        for target in [scene.stray_code(), scene.code_of(module)] {
            for element in elements {
                let before = scene.word(scene.field(element, "tracepoint_func", "func"));
                scene.set(element, "tracepoint_func", "func", target);
                let outcome = scene.run(step);
                assert_eq!(outcome.hooks(CHECK), [(element, target)]);
                assert_eq!(outcome.violations[0].function.0, tracepoints[2]);
                assert_eq!(outcome.violations[0].label.as_str(), "sys_enter");
                scene.set(element, "tracepoint_func", "func", before);
            }
        }
    }

    #[test]
    fn what_never_ends_or_is_unknown_does_not_hold() {
        let (mut scene, tracepoints, [first, _]) = scene();
        let kernels = scene.word(scene.field(first, "tracepoint_func", "func"));
        let size = u64::from(scene.kernel.layouts.tracepoint_func.unwrap().size);
        let array = scene.room(size * FUNCTIONS_MAX);
        for index in 0..FUNCTIONS_MAX {
            scene.set(array + size * index, "tracepoint_func", "func", kernels);
        }
        scene.set(tracepoints[0], "tracepoint", "funcs", array);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
        let table = scene.kernel.symbols.start_tracepoints.unwrap().0;
        scene.kernel.symbols.stop_tracepoints = va(table + 4 * TRACEPOINTS_MAX + 4);
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
    }
}
