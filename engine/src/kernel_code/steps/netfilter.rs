//! Hooks of netfilter (net/netfilter/core.c): those of each family, and those of each device.

use arrayvec::ArrayString;
use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::{PackedField, u64_at};

use crate::kernel_code::check::Check;
use crate::kernel_code::context::CheckContext;

const CHECK: Check = Check::NetfilterHooks;
/// Maximum number of hooks at one place (`MAX_HOOK_COUNT`, net/netfilter/core.c).
const HOOKS_MAX: u64 = 1024;
/// Bytes of a `struct nf_hook_entry` (include/linux/netfilter.h): a function and its data.
const HOOK_BYTES: u64 = 16;
/// Maximum number of places of a family.
const PLACES_MAX: usize = 8;

/// Names of the places of each family (include/uapi/linux/netfilter.h and its like).
const IP: [&str; 5] = ["pre-routing", "local in", "forward", "local out", "post-routing"];
const ARP: [&str; 3] = ["in", "out", "forward"];
/// Names of the places of a device.
const DEVICE: [&str; 2] = ["ingress", "egress"];

/// Checks the hooks of all families of a namespace.
pub(super) fn check_namespace(cx: &mut CheckContext<'_>, net: KernelVa) {
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
}

/// Checks the hooks of one family.
fn check_family(
    cx: &mut CheckContext<'_>,
    (net, field): (KernelVa, PackedField),
    (family, places): (&str, &[&str]),
) {
    let mut entries = [0; PLACES_MAX];
    let bytes = field.size.min(8 * PLACES_MAX as u32);
    let Some(words) = cx.read(net.plus(field.offset.into()), bytes) else {
        cx.unread(CHECK);
        return;
    };
    for (entry, word) in entries.iter_mut().zip(words.chunks_exact(8)) {
        *entry = u64_at(word, 0);
    }
    for (index, &entry) in entries.iter().enumerate().take(bytes as usize / 8) {
        let place = places.get(index).copied().unwrap_or("hook");
        check_hooks(cx, KernelVa(entry), [family, place]);
    }
}

/// Checks the hooks of a device: those for packets that arrive, and those for packets that leave.
pub(super) fn check_device(cx: &mut CheckContext<'_>, name: &str, entries: [KernelVa; 2]) {
    for (entries, place) in entries.into_iter().zip(DEVICE) {
        check_hooks(cx, entries, [name, place]);
    }
}

/// Checks the functions of one place, which may have none.
fn check_hooks(cx: &mut CheckContext<'_>, entries: KernelVa, names: [&str; 2]) {
    cx.checked(CHECK, 1);
    if entries.is_null() {
        return;
    }
    let Some(layout) = &cx.kernel().layouts.nf_hook_entries else {
        cx.not_checked(CHECK, "the structure of hooks is unknown");
        return;
    };
    let count = cx.structure(entries, &layout.packing);
    let Some(count) = count.map(|view| view.unsigned(layout.num_hook_entries)) else {
        cx.unread(CHECK);
        return;
    };
    if count > HOOKS_MAX {
        cx.unread(CHECK);
    }
    let mut label = ArrayString::<48>::new();
    for part in [names[0], " ", names[1]] {
        // All names are short.
        let _ = label.try_push_str(part);
    }
    for index in 0..count.min(HOOKS_MAX) {
        let place = entries.plus(u64::from(layout.hooks.offset) + HOOK_BYTES * index);
        match cx.word(place) {
            Some(hook) => cx.pointer(CHECK, (place, &label), KernelVa(hook)),
            None => cx.unread(CHECK),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::network::step;
    use super::super::testing::{Outcome, Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    /// A namespace with a device.
    struct Network {
        scene: Scene,
        net: u64,
        device: u64,
    }

    impl Network {
        fn new() -> Self {
            let mut scene = Scene::new();
            let head = scene.variable(16);
            scene.kernel.symbols.net_namespace_list = va(head);
            let (net, device) = (scene.structure(), scene.structure());
            let link = scene.field(net, "net", "list");
            scene.list(head, &[link]);
            let devices = scene.field(net, "net", "dev_base_head");
            let link = scene.field(device, "net_device", "dev_list");
            scene.list(devices, &[link]);
            let name = scene.field(device, "net_device", "name");
            scene.put_bytes(name, b"eth0\0");
            for list in ["ptype_all", "ptype_specific"] {
                for (at, structure) in [(net, "net"), (device, "net_device")] {
                    let list = scene.field(at, structure, list);
                    scene.list(list, &[]);
                }
            }
            Self { scene, net, device }
        }

        /// Makes an array of hooks.
        fn hooks(&mut self, hooks: &[u64]) -> u64 {
            let entries = self.scene.structure();
            self.scene.set(entries, "nf_hook_entries", "num_hook_entries", hooks.len() as u64);
            for (index, &hook) in hooks.iter().enumerate() {
                let at = self.place(entries, index as u64);
                self.scene.put(at, hook);
            }
            entries
        }

        fn place(&self, entries: u64, index: u64) -> u64 {
            self.scene.field(entries, "nf_hook_entries", "hooks") + 16 * index
        }

        fn run(&mut self) -> Outcome {
            self.scene.run(step)
        }
    }

    #[test]
    fn each_hook_of_each_family_and_of_each_device_is_checked() {
        let mut network = Network::new();
        let kernels = network.scene.function(16);
        let module = network.scene.code_of(Owner::Module(KernelVa(1)));
        let stray = network.scene.stray_code();
        let entries = network.hooks(&[kernels, module, kernels]);
        let (net, device) = (network.net, network.device);
        let places = [
            (net, "net", "nf.hooks_ipv4", "IPv4 pre-routing"),
            (net, "net", "nf.hooks_ipv6", "IPv6 pre-routing"),
            (net, "net", "nf.hooks_arp", "ARP in"),
            (net, "net", "nf.hooks_bridge", "bridge pre-routing"),
            (device, "net_device", "nf_hooks_ingress", "eth0 ingress"),
            (device, "net_device", "nf_hooks_egress", "eth0 egress"),
        ];
        for (at, structure, field, label) in places {
            network.scene.set(at, structure, field, entries);
            assert!(network.run().holds(CHECK));
            for index in 0..3 {
                let place = network.place(entries, index);
                let before = network.scene.word(place);
                network.scene.put(place, stray);
                let outcome = network.run();
                assert_eq!(outcome.hooks(CHECK), [(place, stray)]);
                assert_eq!(outcome.violations[0].label.as_str(), label);
                network.scene.put(place, before);
            }
            network.scene.set(at, structure, field, 0);
        }
    }

    #[test]
    fn hooks_that_are_too_many_or_unknown_do_not_hold() {
        let mut network = Network::new();
        let (entries, net) = (network.hooks(&[]), network.net);
        network.scene.set(net, "net", "nf.hooks_arp", entries);
        assert!(network.run().holds(CHECK));
        for count in [HOOKS_MAX + 1, u64::MAX] {
            network.scene.set(entries, "nf_hook_entries", "num_hook_entries", count);
            assert!(!network.run().holds(CHECK));
        }
        network.scene.set(entries, "nf_hook_entries", "num_hook_entries", 0);
        network.scene.kernel.layouts.nf_hook_entries = None;
        assert!(!network.run().holds(CHECK));
    }
}
