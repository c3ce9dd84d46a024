//! Functions that receive packets by type (net/core/dev.c): those of all devices, of a namespace,
//! and of one device.

use panoptes_decoders::address::KernelVa;

use super::lists::follow_list;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;

const CHECK: Check = Check::PacketTypes;
/// Number of lists of `ptype_base` (`PTYPE_HASH_SIZE`, include/linux/netdevice.h).
const TYPES: u64 = 16;
const ALL: &str = "all packets";
const BY_TYPE: &str = "packets of a type";

/// Checks the lists that all namespaces share.
pub(super) fn check_shared(cx: &mut CheckContext<'_>) {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let hotdata = symbols.net_hotdata.zip(layouts.net_hotdata.as_ref());
    let of_hotdata =
        hotdata.and_then(|(at, layout)| Some(at.plus(layout.ptype_all?.offset.into())));
    // Since v6.14, each namespace has a list of its own.
    let is_in_namespaces = layouts.net_hooks.as_ref().is_some_and(|it| it.ptype_all.is_some());
    let heads = [symbols.ptype_all, of_hotdata];
    heads.into_iter().flatten().for_each(|head| check_types(cx, head, ALL));
    if heads == [None; 2] && !is_in_namespaces {
        cx.not_checked(CHECK, "the list of those that receive all packets is unknown");
    }
    match symbols.ptype_base {
        Some(base) => {
            for index in 0..TYPES {
                check_types(cx, base.plus(16 * index), BY_TYPE);
            }
        }
        None => cx.not_checked(CHECK, "the lists of types of packets are unknown"),
    }
}

/// Checks the lists of a namespace.
pub(super) fn check_namespace(cx: &mut CheckContext<'_>, net: KernelVa) {
    let Some(layout) = &cx.kernel().layouts.net_hooks else { return };
    for (field, label) in [(layout.ptype_all, ALL), (layout.ptype_specific, BY_TYPE)] {
        if let Some(field) = field {
            check_types(cx, net.plus(field.offset.into()), label);
        }
    }
}

/// Checks the lists of a device, and the function that takes its packets.
pub(super) fn check_device(
    cx: &mut CheckContext<'_>,
    device: KernelVa,
    name: &str,
    handler: KernelVa,
) {
    let Some(layout) = &cx.kernel().layouts.net_device_hooks else { return };
    cx.pointer(CHECK, (device.plus(layout.rx_handler.offset.into()), name), handler);
    for field in [layout.ptype_all, layout.ptype_specific] {
        check_types(cx, device.plus(field.offset.into()), name);
    }
}

/// Checks a list of packet types.
fn check_types(cx: &mut CheckContext<'_>, head: KernelVa, label: &str) {
    let Some(layout) = &cx.kernel().layouts.packet_type else {
        cx.not_checked(CHECK, "the structure of types of packets is unknown");
        return;
    };
    // An empty list is checked, too.
    cx.checked(CHECK, 1);
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.list.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(CHECK);
            return;
        };
        let func = view.pointer(layout.func);
        cx.pointer(CHECK, (at, label), func);
    });
    if !is_whole {
        cx.unread(CHECK);
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::step;
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    /// A namespace with a device, and all lists of types of packets, with what they receive.
    fn scene() -> (Scene, Vec<(u64, &'static str)>, u64) {
        let mut scene = Scene::new();
        let namespaces = scene.variable(16);
        let (net, device) = (scene.structure(), scene.structure());
        scene.kernel.symbols.net_namespace_list = va(namespaces);
        let link = scene.field(net, "net", "list");
        scene.list(namespaces, &[link]);
        let devices = scene.field(net, "net", "dev_base_head");
        let link = scene.field(device, "net_device", "dev_list");
        scene.list(devices, &[link]);
        let name = scene.field(device, "net_device", "name");
        scene.put_bytes(name, b"eth0\0");
        let (all, base) = (scene.variable(16), scene.variable(16 * TYPES));
        scene.kernel.symbols.ptype_all = va(all);
        scene.kernel.symbols.ptype_base = va(base);
        let mut lists = vec![(all, ALL), (base, BY_TYPE), (base + 16 * 15, BY_TYPE)];
        lists.push((scene.field(net, "net", "ptype_all"), ALL));
        lists.push((scene.field(net, "net", "ptype_specific"), BY_TYPE));
        lists.push((scene.field(device, "net_device", "ptype_all"), "eth0"));
        lists.push((scene.field(device, "net_device", "ptype_specific"), "eth0"));
        (0..TYPES).for_each(|index| scene.list(base + 16 * index, &[]));
        for &(head, _) in &lists {
            scene.list(head, &[]);
        }
        (scene, lists, device)
    }

    #[test]
    fn each_list_is_checked() {
        let (mut scene, lists, _) = scene();
        assert!(scene.run(step).holds(CHECK));
        let module = scene.code_of(Owner::Module(KernelVa(1)));
        let stray = scene.stray_code();
        let types = [scene.structure(), scene.structure()];
        let links = types.map(|at| scene.field(at, "packet_type", "list"));
        scene.set(types[0], "packet_type", "func", module);
        for (head, label) in lists {
            scene.list(head, &links);
            scene.set(types[1], "packet_type", "func", module);
            assert!(scene.run(step).holds(CHECK));
            scene.set(types[1], "packet_type", "func", stray);
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(types[1], stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), label);
            scene.put(links[1], links[0]);
            assert!(scene.run(step).facts(CHECK).unread > 0);
            scene.list(head, &[]);
        }
    }

    #[test]
    fn the_function_that_takes_all_packets_of_a_device_is_checked() {
        let (mut scene, _, device) = scene();
        let module = scene.code_of(Owner::Module(KernelVa(1)));
        let stray = scene.stray_code();
        scene.set(device, "net_device", "rx_handler", module);
        assert!(scene.run(step).holds(CHECK));
        scene.set(device, "net_device", "rx_handler", stray);
        let place = scene.field(device, "net_device", "rx_handler");
        assert_eq!(scene.run(step).hooks(CHECK), [(place, stray)]);
    }

    #[test]
    fn lists_that_are_unknown_do_not_hold() {
        let (mut scene, ..) = scene();
        scene.kernel.symbols.ptype_all = None;
        assert!(scene.run(step).holds(CHECK));
        let whole = scene.kernel.layouts.clone();
        if let Some(layout) = &mut scene.kernel.layouts.net_hooks {
            layout.ptype_all = None;
        }
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel.layouts = whole.clone();
        scene.kernel.layouts.packet_type = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel.layouts = whole.clone();
        scene.kernel.layouts.net_device_hooks = None;
        assert!(!scene.run(step).holds(CHECK));
        scene.kernel.layouts = whole;
        scene.kernel.symbols.ptype_base = None;
        assert!(!scene.run(step).holds(CHECK));
    }
}
