//! Ways of packets: what each network namespace has, and what all of them share.

use panoptes_decoders::address::KernelVa;

use super::lists::{ListProgress, follow_in_slices, follow_list};
use super::{netfilter, packets, protocols};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Maximum number of network namespaces.
const NAMESPACES_MAX: u64 = 1 << 16;
/// What each namespace has.
const OF_NAMESPACES: [Check; 2] = [Check::NetfilterHooks, Check::PacketTypes];

fn unread(cx: &mut CheckContext<'_>) {
    for check in OF_NAMESPACES {
        cx.unread(check);
    }
}

fn not_checked(cx: &mut CheckContext<'_>, why: &'static str) {
    for check in OF_NAMESPACES {
        cx.not_checked(check, why);
    }
}

/// Checks all network namespaces in slices, then what they share.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        match check_namespaces(cx, cursor) {
            Some(ListProgress::Partly) => return Progress::More,
            Some(ListProgress::ToItsEnd) => {}
            Some(ListProgress::Broken) => unread(cx),
            None => not_checked(cx, "the list of network namespaces is unknown"),
        }
        cursor.part = 1;
    }
    packets::check_shared(cx);
    protocols::check(cx);
    Progress::Done
}

/// Checks the namespaces; `None` if their list is unknown.
fn check_namespaces(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Option<ListProgress> {
    let head = cx.kernel().symbols.net_namespace_list?;
    let layout = cx.kernel().layouts.net_hooks.as_ref()?;
    let list = (head, NAMESPACES_MAX);
    Some(follow_in_slices(cx, cursor, list, &mut |cx, link| {
        let net = link.minus(layout.list.offset.into());
        netfilter::check_namespace(cx, net);
        packets::check_namespace(cx, net);
        check_devices(cx, net);
    }))
}

/// Checks the devices of a namespace.
fn check_devices(cx: &mut CheckContext<'_>, net: KernelVa) {
    let layouts = &cx.kernel().layouts;
    let Some(hooks) = &layouts.net_device_hooks else {
        not_checked(cx, "the structure of network devices is unknown");
        return;
    };
    let device = &layouts.net_device;
    let head = net.plus(layouts.net.dev_base_head.offset.into());
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(device.dev_list.offset.into());
        let name = cx.text::<16>(at.plus(device.name.offset.into()));
        let Some(view) = cx.structure(at, &hooks.packing) else {
            unread(cx);
            return;
        };
        let [ingress, egress] = [hooks.nf_hooks_ingress, hooks.nf_hooks_egress]
            .map(|field| field.map(|field| view.pointer(field)).unwrap_or_default());
        let operations = [Some(hooks.netdev_ops), hooks.header_ops]
            .map(|field| field.map(|field| view.pointer(field)).unwrap_or_default());
        let handler = view.pointer(hooks.rx_handler);
        netfilter::check_device(cx, &name, [ingress, egress]);
        packets::check_device(cx, at, &name, handler);
        protocols::check_device(cx, &name, operations);
    });
    if !is_whole {
        unread(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    #[test]
    fn namespaces_that_are_unknown_or_never_end_do_not_hold() {
        let outcome = Scene::new().run(step);
        for check in OF_NAMESPACES {
            assert!(outcome.facts(check).not_checked.is_some());
        }
        let mut scene = Scene::new();
        let (head, net) = (scene.variable(16), scene.structure());
        scene.kernel.symbols.net_namespace_list = va(head);
        let [link, devices, all, by_type] =
            ["list", "dev_base_head", "ptype_all", "ptype_specific"]
                .map(|field| scene.field(net, "net", field));
        for list in [devices, all, by_type] {
            scene.list(list, &[]);
        }
        for list in [link, devices] {
            scene.list(head, &[link]);
            scene.list(devices, &[]);
            let outcome = scene.run(step);
            assert!(OF_NAMESPACES.iter().all(|&check| outcome.facts(check).unread == 0));
            scene.put(list, 0);
            let outcome = scene.run(step);
            assert!(OF_NAMESPACES.iter().all(|&check| outcome.facts(check).unread > 0));
        }
        scene.list(head, &[link]);
        scene.list(devices, &[]);
        scene.kernel.layouts.net_device_hooks = None;
        let outcome = scene.run(step);
        assert!(OF_NAMESPACES.iter().all(|&check| outcome.facts(check).not_checked.is_some()));
    }
}
