//! Functions of protocols (net/core/sock.c, net/socket.c, net/ipv4), of their sockets, and of the
//! devices that send.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::lists::follow_list;
use super::words::check_table;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;

const CHECK: Check = Check::Protocols;
/// Number of `net_families` (`NPROTO`, at most), and of the protocols of IP.
const FAMILIES: u32 = 46;
const PROTOCOLS: u32 = 256;
/// Number of lists of kinds of sockets (`SOCK_MAX`, include/linux/net.h).
const SOCKET_TYPES: u64 = 11;
/// Words of a `struct net_protocol` and of its like, of a `struct proto_ops` (include/linux/net.h)
/// and of a `struct header_ops` (include/linux/netdevice.h).
const PROTOCOL_WORDS: usize = 4;
const SOCKET_WORDS: usize = 32;
const HEADER_WORDS: usize = 6;
/// Words of a `struct net_device_ops` (include/linux/netdevice.h), at least.
const DEVICE_WORDS: usize = 80;

/// Checks all protocols.
pub(super) fn check(cx: &mut CheckContext<'_>) {
    if check_list(cx).is_none() {
        cx.not_checked(CHECK, "the list of protocols is unknown");
    }
    let symbols = &cx.kernel().symbols;
    let arrays = [
        (symbols.net_families, FAMILIES, "network family"),
        (symbols.inet_protos, PROTOCOLS, "protocol of IPv4"),
        (symbols.inet6_protos, PROTOCOLS, "protocol of IPv6"),
    ];
    for (array, count, label) in arrays {
        if let Some(array) = array {
            check_array(cx, (array, count), label);
        }
    }
    // IPv6 may be a module.
    if symbols.net_families.is_none() || symbols.inet_protos.is_none() {
        cx.not_checked(CHECK, "the arrays of protocols are unknown");
    }
    for lists in [symbols.inetsw, symbols.inetsw6].into_iter().flatten() {
        check_sockets(cx, lists);
    }
    if symbols.inetsw.is_none() {
        cx.not_checked(CHECK, "the lists of kinds of sockets are unknown");
    }
}

/// Checks the functions of each `struct proto`; `None` if their list is unknown.
fn check_list(cx: &mut CheckContext<'_>) -> Option<()> {
    let head = cx.kernel().symbols.proto_list?;
    let layout = cx.kernel().layouts.proto.as_ref()?;
    let node = layout.node?;
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        check_protocol(cx, link.minus(node.offset.into()));
    });
    if !is_whole {
        cx.unread(CHECK);
    }
    Some(())
}

/// Checks the functions of a `struct proto`: all stand before its name.
fn check_protocol(cx: &mut CheckContext<'_>, proto: KernelVa) {
    let Some(layout) = &cx.kernel().layouts.proto else { return };
    let words = layout.name.offset as usize / 8;
    let name = cx.text::<32>(proto.plus(layout.name.offset.into()));
    check_table(cx, CHECK, (proto, words), &name);
}

/// Checks an array of pointers to tables.
fn check_array(cx: &mut CheckContext<'_>, (array, count): (KernelVa, u32), label: &str) {
    let mut tables = [0; PROTOCOLS as usize];
    let Some(bytes) = cx.read(array, 8 * count) else {
        cx.unread(CHECK);
        return;
    };
    for (table, word) in tables.iter_mut().zip(bytes.chunks_exact(8)) {
        *table = u64_at(word, 0);
    }
    for &table in tables.iter().filter(|&&table| table != 0) {
        check_table(cx, CHECK, (KernelVa(table), PROTOCOL_WORDS), label);
    }
}

/// Checks the kinds of sockets: their protocols may be in no list.
fn check_sockets(cx: &mut CheckContext<'_>, lists: KernelVa) {
    let Some(layout) = &cx.kernel().layouts.inet_protosw else {
        cx.not_checked(CHECK, "the structure of kinds of sockets is unknown");
        return;
    };
    for index in 0..SOCKET_TYPES {
        let is_whole = follow_list(cx, lists.plus(16 * index), &mut |cx, link| {
            let at = link.minus(layout.list.offset.into());
            let Some(view) = cx.structure(at, &layout.packing) else {
                cx.unread(CHECK);
                return;
            };
            let (proto, operations) = (view.pointer(layout.prot), view.pointer(layout.ops));
            check_protocol(cx, proto);
            check_table(cx, CHECK, (operations, SOCKET_WORDS), "socket");
        });
        if !is_whole {
            cx.unread(CHECK);
        }
    }
}

/// Checks the functions of a device, and those of the headers that it writes.
pub(super) fn check_device(
    cx: &mut CheckContext<'_>,
    name: &str,
    [operations, header]: [KernelVa; 2],
) {
    check_table(cx, CHECK, (operations, DEVICE_WORDS), name);
    check_table(cx, CHECK, (header, HEADER_WORDS), name);
}

#[cfg(test)]
mod tests {
    use super::super::network::step;
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::walk::Kernel;

    /// All arrays and lists of protocols, and the address of a table of functions of each.
    fn scene() -> (Scene, Vec<(u64, &'static str)>) {
        let mut scene = Scene::new();
        let head = scene.variable(16);
        let [families, inet, inet6] = [0; 3].map(|_| scene.variable(8 * u64::from(PROTOCOLS)));
        let [sockets, sockets6] = [0; 2].map(|_| scene.variable(16 * SOCKET_TYPES));
        let symbols = &mut scene.kernel.symbols;
        (symbols.proto_list, symbols.net_families) = (va(head), va(families));
        (symbols.inet_protos, symbols.inet6_protos) = (va(inet), va(inet6));
        (symbols.inetsw, symbols.inetsw6) = (va(sockets), va(sockets6));
        let mut tables = Vec::new();
        let arrays = [
            (families + 8 * u64::from(FAMILIES - 1), "network family"),
            (inet + 8 * 255, "protocol of IPv4"),
            (inet6 + 8 * 255, "protocol of IPv6"),
        ];
        for (place, label) in arrays {
            let table = scene.structure();
            scene.put(place, table);
            tables.push((table, label));
        }
        for lists in [sockets, sockets6] {
            (0..SOCKET_TYPES).for_each(|index| scene.list(lists + 16 * index, &[]));
            let (kind, table) = (scene.structure(), scene.structure());
            scene.set(kind, "inet_protosw", "ops", table);
            let link = scene.field(kind, "inet_protosw", "list");
            scene.list(lists + 16 * (SOCKET_TYPES - 1), &[link]);
            tables.push((table, "socket"));
        }
        scene.list(head, &[]);
        (scene, tables)
    }

    #[test]
    fn each_table_is_checked() {
        let (mut scene, tables) = scene();
        let stray = scene.stray_code();
        assert!(scene.run(step).holds(CHECK));
        for (table, label) in tables {
            scene.put(table + 8, stray);
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(table + 8, stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), label);
            scene.put(table + 8, 0);
        }
    }

    #[test]
    fn the_functions_before_the_name_of_a_protocol_are_checked() {
        let (mut scene, _) = scene();
        let (stray, proto) = (scene.stray_code(), scene.structure());
        let head = scene.kernel.symbols.proto_list.unwrap_or_default().0;
        let (node, name) = (128, 64);
        // The name stands behind the functions, and the link behind the name.
        if let Some(layout) = &mut scene.kernel.layouts.proto {
            layout.name.offset = name;
            layout.node.as_mut().unwrap().offset = node;
        }
        scene.put_bytes(proto + u64::from(name), b"TCP\0");
        scene.list(head, &[proto + u64::from(node)]);
        assert!(scene.run(step).holds(CHECK));
        scene.put(proto + 8, stray);
        let outcome = scene.run(step);
        assert_eq!(outcome.hooks(CHECK), [(proto + 8, stray)]);
        assert_eq!(outcome.violations[0].label.as_str(), "TCP");
        // One that only a kind of sockets leads to.
        scene.list(head, &[]);
        assert!(scene.run(step).holds(CHECK));
        let (lists, kind) = (scene.kernel.symbols.inetsw.unwrap_or_default(), scene.structure());
        scene.set(kind, "inet_protosw", "prot", proto);
        let link = scene.field(kind, "inet_protosw", "list");
        scene.list(lists.0, &[link]);
        assert_eq!(scene.run(step).hooks(CHECK), [(proto + 8, stray)]);
    }

    #[test]
    fn the_functions_of_devices_are_checked() {
        let (mut scene, _) = scene();
        let namespaces = scene.variable(16);
        let [net, device, operations, header] = [0; 4].map(|_| scene.structure());
        scene.kernel.symbols.net_namespace_list = va(namespaces);
        let link = scene.field(net, "net", "list");
        scene.list(namespaces, &[link]);
        let devices = scene.field(net, "net", "dev_base_head");
        let link = scene.field(device, "net_device", "dev_list");
        scene.list(devices, &[link]);
        scene.set(device, "net_device", "netdev_ops", operations);
        scene.set(device, "net_device", "header_ops", header);
        assert!(scene.run(step).holds(CHECK));
        let stray = scene.stray_code();
        for place in [operations + 8 * 79, header] {
            scene.put(place, stray);
            assert_eq!(scene.run(step).hooks(CHECK), [(place, stray)]);
            scene.put(place, 0);
        }
    }

    #[test]
    fn what_is_unknown_does_not_hold() {
        let (mut scene, _) = scene();
        let whole = scene.kernel.clone();
        let cuts: [fn(&mut Kernel); 5] = [
            |kernel| kernel.symbols.proto_list = None,
            |kernel| kernel.symbols.net_families = None,
            |kernel| kernel.symbols.inet_protos = None,
            |kernel| kernel.symbols.inetsw = None,
            |kernel| kernel.layouts.inet_protosw = None,
        ];
        for cut in cuts {
            cut(&mut scene.kernel);
            assert!(!scene.run(step).holds(CHECK));
            scene.kernel = whole.clone();
        }
        scene.kernel.symbols.inet6_protos = None;
        scene.kernel.symbols.inetsw6 = None;
        assert!(scene.run(step).holds(CHECK));
    }
}
