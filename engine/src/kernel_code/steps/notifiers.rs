//! Chains of notifiers: functions that are called when something happens.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::PackedField;

use super::lists::OBJECTS_MAX;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Checks all chains.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let atomic = layouts.atomic_notifier_head.as_ref().map(|layout| layout.head);
    let blocking = layouts.blocking_notifier_head.as_ref().map(|layout| layout.head);
    let raw = layouts.raw_notifier_head.as_ref().map(|layout| layout.head);
    let chains = [
        ("keyboard", symbols.keyboard_notifier_list, atomic),
        ("virtual terminals", symbols.vt_notifier_list, atomic),
        ("modules", symbols.module_notify_list, blocking),
        ("die", symbols.die_chain, atomic),
        ("network devices", symbols.netdev_chain, raw),
        ("netlink", symbols.netlink_chain, blocking),
        ("IPv4 addresses", symbols.inetaddr_chain, blocking),
        ("IPv6 addresses", symbols.inet6addr_chain, atomic),
        ("reboot", symbols.reboot_notifier_list, blocking),
        ("restart", symbols.restart_handler_list, atomic),
        ("panic", symbols.panic_notifier_list, atomic),
        ("power", symbols.pm_chain_head, blocking),
        ("end of tasks", symbols.task_exit_notifier, blocking),
        ("unmapping", symbols.munmap_notifier, blocking),
    ];
    for (name, head, field) in chains {
        if let Some((head, field)) = head.zip(field) {
            check_chain(cx, (head, field), name);
        }
    }
    Progress::Done
}

/// Checks the functions of one chain.
fn check_chain(cx: &mut CheckContext<'_>, (head, field): (KernelVa, PackedField), name: &str) {
    let check = Check::NotifierChains;
    let Some(layout) = &cx.kernel().layouts.notifier_block else { return };
    let Some(first) = cx.word(head.plus(field.offset.into())) else {
        cx.unread(check);
        return;
    };
    // A chain without functions is checked, too.
    cx.checked(check, 1);
    let mut block = KernelVa(first);
    for _ in 0..OBJECTS_MAX {
        if block.is_null() {
            return;
        }
        let Some(view) = cx.structure(block, &layout.packing) else { break };
        let (call, next) = (view.pointer(layout.notifier_call), view.pointer(layout.next));
        cx.pointer(check, (block, name), call);
        block = next;
    }
    cx.unread(check);
}
