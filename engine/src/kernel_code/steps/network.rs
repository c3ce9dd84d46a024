//! Ways of packets: the hooks of netfilter, the types of packets, and the protocols.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{PackedField, u64_at};

use super::lists::follow_list;
use super::words::check_table;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Maximum number of hooks at one place (`MAX_HOOK_COUNT`, net/netfilter/core.c).
const HOOKS_MAX: u64 = 1024;
/// Bytes of a `struct nf_hook_entry` (include/linux/netfilter.h): a function and its data.
const HOOK_BYTES: u64 = 16;
/// Maximum number of places of a family.
const PLACES_MAX: usize = 8;
/// Number of lists of `ptype_base` (`PTYPE_HASH_SIZE`, include/linux/netdevice.h).
const TYPES: u64 = 16;
/// Number of `net_families` (`NPROTO`, at most), and of the protocols of IP.
const FAMILIES: u32 = 46;
const PROTOCOLS: u32 = 256;
/// Words of a `struct net_protocol` and of its like.
const PROTOCOL_WORDS: usize = 4;

/// Names of the places of each family (include/uapi/linux/netfilter.h and its like).
const IP: [&str; 5] = ["pre-routing", "local in", "forward", "local out", "post-routing"];
const ARP: [&str; 3] = ["in", "out", "forward"];

/// Checks all network namespaces, and what they share.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let list = symbols.net_namespace_list.zip(layouts.net_hooks.as_ref());
    match list {
        Some((head, layout)) => {
            let is_whole = follow_list(cx, head, &mut |cx, link| {
                check_namespace(cx, link.minus(layout.list.offset.into()));
            });
            if !is_whole {
                cx.unread(Check::NetfilterHooks);
            }
        }
        None => cx.not_checked(Check::NetfilterHooks, "the list of namespaces is unknown"),
    }
    if let Some(head) = symbols.ptype_all {
        check_types(cx, head, "all packets");
    }
    let hotdata = symbols.net_hotdata.zip(layouts.net_hotdata.as_ref());
    if let Some((at, field)) = hotdata.and_then(|(at, layout)| Some((at, layout.ptype_all?))) {
        check_types(cx, at.plus(field.offset.into()), "all packets");
    }
    if let Some(base) = symbols.ptype_base {
        for index in 0..TYPES {
            check_types(cx, base.plus(16 * index), "packets of a type");
        }
    }
    check_protocols(cx);
    Progress::Done
}

/// Checks the hooks and the packet types of a namespace.
fn check_namespace(cx: &mut CheckContext<'_>, net: KernelVa) {
    let Some(layout) = &cx.kernel().layouts.net_hooks else { return };
    let families = [
        ("IPv4", layout.ipv4, &IP[..]),
        ("IPv6", layout.ipv6, &IP[..]),
        ("ARP", layout.arp, &ARP[..]),
        ("bridge", layout.bridge, &IP[..]),
    ];
    for (family, field, places) in families {
        if let Some(field) = field {
            check_family(cx, (net, field), (family, places));
        }
    }
    for (field, name) in
        [(layout.ptype_all, "all packets"), (layout.ptype_specific, "packets of a type")]
    {
        if let Some(field) = field {
            check_types(cx, net.plus(field.offset.into()), name);
        }
    }
}

/// Checks the hooks of one family.
fn check_family(
    cx: &mut CheckContext<'_>,
    (net, field): (KernelVa, PackedField),
    (family, places): (&str, &[&str]),
) {
    let check = Check::NetfilterHooks;
    let mut entries = [0; PLACES_MAX];
    let bytes = field.size.min(8 * PLACES_MAX as u32);
    let Some(words) = cx.read(net.plus(field.offset.into()), bytes) else {
        cx.unread(check);
        return;
    };
    for (entry, word) in entries.iter_mut().zip(words.chunks_exact(8)) {
        *entry = u64_at(word, 0);
    }
    for (index, &entry) in entries.iter().enumerate().take(bytes as usize / 8) {
        cx.checked(check, 1);
        if entry != 0 {
            let mut label = arrayvec::ArrayString::<48>::new();
            for part in [family, " ", places.get(index).copied().unwrap_or("hook")] {
                // All names are short.
                let _ = label.try_push_str(part);
            }
            check_hooks(cx, KernelVa(entry), &label);
        }
    }
}

/// Checks the functions of one place.
fn check_hooks(cx: &mut CheckContext<'_>, entries: KernelVa, label: &str) {
    let check = Check::NetfilterHooks;
    let Some(layout) = &cx.kernel().layouts.nf_hook_entries else { return };
    let count = cx.structure(entries, &layout.packing);
    let Some(count) = count.map(|view| view.unsigned(layout.num_hook_entries)) else {
        cx.unread(check);
        return;
    };
    if count > HOOKS_MAX {
        cx.unread(check);
    }
    for index in 0..count.min(HOOKS_MAX) {
        let place = entries.plus(u64::from(layout.hooks.offset) + HOOK_BYTES * index);
        match cx.word(place) {
            Some(hook) => cx.pointer(check, (place, label), KernelVa(hook)),
            None => cx.unread(check),
        }
    }
}

/// Checks a list of packet types.
fn check_types(cx: &mut CheckContext<'_>, head: KernelVa, label: &str) {
    let check = Check::PacketTypes;
    let Some(layout) = &cx.kernel().layouts.packet_type else { return };
    // An empty list is checked, too.
    cx.checked(check, 1);
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.list.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let func = view.pointer(layout.func);
        cx.pointer(check, (at, label), func);
    });
    if !is_whole {
        cx.unread(check);
    }
}

/// Checks the functions of protocols and of their families.
fn check_protocols(cx: &mut CheckContext<'_>) {
    let check = Check::Protocols;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    if let Some((head, layout)) = symbols.proto_list.zip(layouts.proto.as_ref())
        && let Some(node) = layout.node
    {
        let words = layout.name.offset as usize / 8;
        let is_whole = follow_list(cx, head, &mut |cx, link| {
            let proto = link.minus(node.offset.into());
            let name = cx.text::<32>(proto.plus(layout.name.offset.into()));
            check_table(cx, check, (proto, words), &name);
        });
        if !is_whole {
            cx.unread(check);
        }
    }
    let arrays = [
        (symbols.net_families, FAMILIES, "network family"),
        (symbols.inet_protos, PROTOCOLS, "protocol of IPv4"),
        (symbols.inet6_protos, PROTOCOLS, "protocol of IPv6"),
    ];
    for (array, count, label) in arrays {
        let Some(array) = array else { continue };
        let mut tables = [0; PROTOCOLS as usize];
        let Some(bytes) = cx.read(array, 8 * count) else {
            cx.unread(check);
            continue;
        };
        for (table, word) in tables.iter_mut().zip(bytes.chunks_exact(8)) {
            *table = u64_at(word, 0);
        }
        for &table in tables.iter().filter(|&&table| table != 0) {
            check_table(cx, check, (KernelVa(table), PROTOCOL_WORDS), label);
        }
    }
}
