//! Chains of notifiers: functions that are called when something happens.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::PackedField;

use super::lists::OBJECTS_MAX;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

const CHECK: Check = Check::NotifierChains;

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
        ("USB devices", symbols.usb_notifier_list, blocking),
        ("lack of memory", symbols.oom_notify_list, blocking),
        ("ACPI", symbols.acpi_chain_head, blocking),
        ("frame buffers", symbols.fb_notifier_list, blocking),
        ("network events", symbols.netevent_notif_chain, atomic),
        ("validation of IPv4 addresses", symbols.inetaddr_validator_chain, blocking),
        ("validation of IPv6 addresses", symbols.inet6addr_validator_chain, blocking),
        ("power off", symbols.power_off_handler_list, atomic),
        ("machine checks", symbols.x86_mce_decoder_chain, blocking),
        ("end of tasks", symbols.task_exit_notifier, blocking),
        ("unmapping", symbols.munmap_notifier, blocking),
    ];
    for (name, head, field) in chains {
        // A kernel has only some of them.
        let Some(head) = head else { continue };
        match field {
            Some(field) => check_chain(cx, (head, field), name),
            None => cx.not_checked(CHECK, "the structure of a chain is unknown"),
        }
    }
    Progress::Done
}

/// Checks the functions of one chain.
fn check_chain(cx: &mut CheckContext<'_>, (head, field): (KernelVa, PackedField), name: &str) {
    let Some(layout) = &cx.kernel().layouts.notifier_block else {
        cx.not_checked(CHECK, "the structure of notifiers is unknown");
        return;
    };
    let Some(first) = cx.word(head.plus(field.offset.into())) else {
        cx.unread(CHECK);
        return;
    };
    // A chain without functions is checked, too.
    cx.checked(CHECK, 1);
    let mut block = KernelVa(first);
    for _ in 0..OBJECTS_MAX {
        if block.is_null() {
            return;
        }
        let Some(view) = cx.structure(block, &layout.packing) else { break };
        let (call, next) = (view.pointer(layout.notifier_call), view.pointer(layout.next));
        cx.pointer(CHECK, (block, name), call);
        block = next;
    }
    cx.unread(CHECK);
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    /// Chains of each kind of head, with two functions each.
    #[expect(clippy::type_complexity, reason = "the chains of one test")]
    fn scene() -> (Scene, [(u64, [u64; 2], &'static str); 3]) {
        let mut scene = Scene::new();
        let kernels = scene.function(16);
        let chains = [
            ("keyboard", "atomic_notifier_head"),
            ("modules", "blocking_notifier_head"),
            ("network devices", "raw_notifier_head"),
        ];
        let chains = chains.map(|(name, structure)| {
            let head = scene.variable(64);
            let blocks = [0; 2].map(|_| scene.structure());
            scene.set(head, structure, "head", blocks[0]);
            scene.set(blocks[0], "notifier_block", "next", blocks[1]);
            for block in blocks {
                scene.set(block, "notifier_block", "notifier_call", kernels);
            }
            (head, blocks, name)
        });
        scene.kernel.symbols.keyboard_notifier_list = va(chains[0].0);
        scene.kernel.symbols.module_notify_list = va(chains[1].0);
        scene.kernel.symbols.netdev_chain = va(chains[2].0);
        (scene, chains)
    }

    #[test]
    fn each_function_of_each_chain_is_checked() {
        let (mut scene, chains) = scene();
        let (stray, module) = (scene.stray_code(), scene.code_of(Owner::Module(KernelVa(1))));
        let outcome = scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 3 + 6);
        for (_, blocks, name) in chains {
            for block in blocks {
                scene.set(block, "notifier_block", "notifier_call", stray);
                let outcome = scene.run(step);
                assert_eq!(outcome.hooks(CHECK), [(block, stray)]);
                assert_eq!(outcome.violations[0].label.as_str(), name);
                scene.set(block, "notifier_block", "notifier_call", module);
                assert!(scene.run(step).holds(CHECK));
            }
        }
    }

    #[test]
    fn chains_that_are_unknown_or_never_end_do_not_hold() {
        assert_eq!(Scene::new().run(step).facts(CHECK).places, 0);
        let (mut scene, chains) = scene();
        let whole = scene.kernel.clone();
        scene.kernel.layouts.notifier_block = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel = whole.clone();
        scene.kernel.layouts.raw_notifier_head = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel = whole;
        let (_, [first, _], _) = chains[0];
        scene.set(first, "notifier_block", "next", first);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }
}
