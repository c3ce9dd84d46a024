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
        (range, &layouts.tracepoint, &layouts.tracepoint_func)
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
    let (Some(layout), Some(of_func)) = (&layouts.tracepoint, &layouts.tracepoint_func) else {
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
        cx.pointer(check, (place, &name), func);
    }
    cx.unread(check);
}
