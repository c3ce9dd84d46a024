//! Handlers of kprobes and kretprobes.

use panoptes_decoders::address::KernelVa;

use super::lists::{follow_hlist, follow_list};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Number of buckets of `kprobe_table` (kernel/kprobes.c).
const BUCKETS: u64 = 64;

/// Checks all probes.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let check = Check::Kprobes;
    let kernel = cx.kernel();
    let (Some(table), Some(layout)) = (kernel.symbols.kprobe_table, &kernel.layouts.kprobe) else {
        cx.not_checked(check, "the kernel has no kprobes, or their table's address is unknown");
        return Progress::Done;
    };
    for bucket in 0..BUCKETS {
        let head = table.plus(8 * bucket);
        let is_whole = follow_hlist(cx, head, &mut |cx, link| {
            let probe = link.minus(layout.hlist.offset.into());
            check_probe(cx, probe);
        });
        if is_whole {
            // An empty bucket is checked, too.
            cx.checked(check, 1);
        } else {
            cx.unread(check);
        }
    }
    Progress::Done
}

/// Checks the probe in a bucket: one probe, or what stands for several.
fn check_probe(cx: &mut CheckContext<'_>, probe: KernelVa) {
    let kernel = cx.kernel();
    let Some(layout) = &kernel.layouts.kprobe else { return };
    let Some(pre_handler) = check_handlers(cx, probe) else { return };
    if Some(pre_handler) != kernel.symbols.aggr_pre_handler {
        return;
    }
    let head = probe.plus(layout.list.offset.into());
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let probe = link.minus(layout.list.offset.into());
        check_handlers(cx, probe);
    });
    if !is_whole {
        cx.unread(Check::Kprobes);
    }
}

/// Checks the handlers of one probe. Returns the first of them.
fn check_handlers(cx: &mut CheckContext<'_>, probe: KernelVa) -> Option<KernelVa> {
    let check = Check::Kprobes;
    let kernel = cx.kernel();
    let layout = kernel.layouts.kprobe.as_ref()?;
    let Some(view) = cx.structure(probe, &layout.packing) else {
        cx.unread(check);
        return None;
    };
    let function = view.pointer(layout.addr);
    let handlers = [layout.pre_handler, layout.post_handler].map(|field| view.pointer(field));
    for handler in handlers {
        cx.hook(check, (probe, "kprobe"), function, handler);
    }
    let is_return = Some(handlers[0]) == kernel.symbols.pre_handler_kretprobe;
    if is_return && let Some(layout) = &kernel.layouts.kretprobe {
        let Some(view) = cx.structure(probe, &layout.packing) else {
            cx.unread(check);
            return None;
        };
        let handlers = [layout.handler, layout.entry_handler].map(|field| view.pointer(field));
        for handler in handlers {
            cx.hook(check, (probe, "kretprobe"), function, handler);
        }
    }
    Some(handlers[0])
}
