//! Work items (kernel/workqueue.c): what threads of the kernel do now, and what waits for them.
//! Delayed work is with the timers. Work that no thread does, but an interrupt, is not here.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;

const CHECK: Check = Check::WorkItems;
/// Maximum number of work items that wait for one pool.
const ITEMS_MAX: usize = 256;

/// Checks the work of a thread that has this `struct worker`.
pub(super) fn check_worker(cx: &mut CheckContext<'_>, at: KernelVa, name: &str) {
    let layouts = &cx.kernel().layouts;
    let (Some(worker), Some(pool)) = (&layouts.worker, &layouts.worker_pool) else {
        cx.not_checked(CHECK, "the structure of threads that do work is unknown");
        return;
    };
    let Some(view) = cx.structure(at, &worker.packing) else {
        cx.unread(CHECK);
        return;
    };
    let [function, of_pool] = [worker.current_func, worker.pool].map(|field| view.pointer(field));
    cx.pointer(CHECK, (at, name), function);
    // A thread that helps others has no pool, or has one for a while. The first one of a pool
    // stands for all.
    let Some(view) = cx.structure(of_pool, &pool.packing) else { return };
    let first = view.pointer(pool.workers);
    if first == at.plus(worker.node.offset.into()) {
        check_items(cx, of_pool.plus(pool.worklist.offset.into()), name);
    }
}

/// Checks the work items of a list, until one does not lead back: the list changes all the time.
fn check_items(cx: &mut CheckContext<'_>, head: KernelVa, name: &str) {
    let Some(layout) = &cx.kernel().layouts.work_struct else {
        cx.not_checked(CHECK, "the structure of work is unknown");
        return;
    };
    let Some(first) = cx.word(head) else { return };
    let (mut before, mut link) = (head, KernelVa(first));
    for _ in 0..ITEMS_MAX {
        if link == head {
            return;
        }
        let Some(bytes) = cx.read(link, 16) else { return };
        let (next, back) = (u64_at(bytes, 0), u64_at(bytes, 8));
        if back != before.0 {
            return;
        }
        let at = link.minus(layout.entry.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else { return };
        let function = view.pointer(layout.func);
        cx.pointer(CHECK, (at, name), function);
        (before, link) = (link, KernelVa(next));
    }
}
