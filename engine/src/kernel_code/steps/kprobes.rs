//! Handlers of kprobes and kretprobes.

use panoptes_decoders::address::KernelVa;

use super::lists::{OBJECTS_MAX, follow_hlist, follow_list};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Number of buckets of `kprobe_table` (kernel/kprobes.c).
pub(super) const PROBE_BUCKETS: u64 = 64;

/// Checks all probes, one bucket after the other.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::Kprobes;
    let kernel = cx.kernel();
    let symbols = &kernel.symbols;
    let (Some(table), Some(layout)) = (symbols.kprobe_table, &kernel.layouts.kprobe) else {
        cx.not_checked(check, "the kernel has no kprobes, or their table's address is unknown");
        return Progress::Done;
    };
    let has_kretprobes = kernel.layouts.kretprobe.is_some();
    if symbols.aggr_pre_handler.is_none()
        || has_kretprobes && symbols.pre_handler_kretprobe.is_none()
    {
        cx.not_checked(check, "the addresses of the kernel's own handlers are unknown");
    }
    let mut probes = cursor.count as usize;
    while cursor.at < PROBE_BUCKETS {
        if !cx.has_budget() {
            return Progress::More;
        }
        let head = table.plus(8 * cursor.at);
        let is_whole = follow_hlist(cx, head, &mut |cx, link| {
            check_probe(cx, link.minus(layout.hlist.offset.into()), &mut probes);
        });
        if probes > OBJECTS_MAX {
            cx.not_checked(check, "there are too many kprobes, or their lists never end");
            return Progress::Done;
        }
        if is_whole {
            // An empty bucket is checked, too.
            cx.checked(check, 1);
        } else {
            cx.unread(check);
        }
        (cursor.at, cursor.count) = (cursor.at + 1, probes as u64);
    }
    Progress::Done
}

/// Checks the probe in a bucket: one probe, or what stands for several. Counts all of them.
fn check_probe(cx: &mut CheckContext<'_>, probe: KernelVa, probes: &mut usize) {
    let kernel = cx.kernel();
    let Some(layout) = &kernel.layouts.kprobe else { return };
    *probes += 1;
    if *probes > OBJECTS_MAX {
        return;
    }
    let Some(pre_handler) = check_handlers(cx, probe) else { return };
    if Some(pre_handler) != kernel.symbols.aggr_pre_handler {
        return;
    }
    let head = probe.plus(layout.list.offset.into());
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        *probes += 1;
        if *probes <= OBJECTS_MAX {
            check_handlers(cx, link.minus(layout.list.offset.into()));
        }
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
    let pre_handler = view.pointer(layout.pre_handler);
    let fault_handler = layout.fault_handler.map(|field| view.pointer(field));
    let handlers =
        [pre_handler, view.pointer(layout.post_handler), fault_handler.unwrap_or_default()];
    for handler in handlers {
        cx.hook(check, (probe, "kprobe"), function, handler);
    }
    let is_return = Some(pre_handler) == kernel.symbols.pre_handler_kretprobe;
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
    Some(pre_handler)
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::layout::PackedLayout;

    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    const CHECK: Check = Check::Kprobes;
    const MODULE: Owner = Owner::Module(KernelVa(7));

    struct Probes {
        scene: Scene,
        table: u64,
        aggregate: u64,
        kretprobe: u64,
        function: u64,
    }

    impl Probes {
        fn new() -> Self {
            let mut scene = Scene::new();
            let table = scene.variable(8 * PROBE_BUCKETS);
            let [aggregate, kretprobe, function] = [0; 3].map(|_| scene.function(64));
            let symbols = &mut scene.kernel.symbols;
            symbols.kprobe_table = va(table);
            symbols.aggr_pre_handler = va(aggregate);
            symbols.pre_handler_kretprobe = va(kretprobe);
            // A kretprobe begins with a kprobe.
            let layouts = &mut scene.kernel.layouts;
            let of_kprobe = layouts.kprobe.unwrap().packing.end();
            let layout = layouts.kretprobe.as_mut().unwrap();
            assert!(of_kprobe <= 256);
            let fields = [&mut layout.handler, &mut layout.entry_handler];
            for (index, field) in fields.into_iter().enumerate() {
                field.offset = 256 + 16 * index as u32;
            }
            layout.packing = PackedLayout::of(&[layout.handler, layout.entry_handler]);
            for field in [&mut layout.handler, &mut layout.entry_handler] {
                layout.packing.place(field);
            }
            Self { scene, table, aggregate, kretprobe, function }
        }

        /// Makes a probe with a first handler.
        fn probe(&mut self, handler: u64) -> u64 {
            let probe = self.scene.structure();
            self.scene.set(probe, "kprobe", "addr", self.function);
            self.scene.set(probe, "kprobe", "pre_handler", handler);
            probe
        }

        /// Puts probes into a bucket.
        fn put(&mut self, bucket: u64, probes: &[u64]) {
            let link = |at: &u64| self.scene.field(*at, "kprobe", "hlist");
            let links = probes.iter().map(link).collect::<Vec<_>>();
            self.scene.hlist(self.table + 8 * bucket, &links);
        }

        fn hooks(&mut self) -> Vec<(u64, u64)> {
            let outcome = self.scene.run(step);
            assert!(outcome.violations.iter().all(|it| it.function.0 == self.function));
            outcome.hooks(CHECK)
        }
    }

    #[test]
    fn each_handler_of_each_probe_is_checked() {
        let mut probes = Probes::new();
        let kernels = probes.scene.function(64);
        let all = [0, 0, 63].map(|bucket| (bucket, probes.probe(kernels)));
        probes.put(0, &[all[0].1, all[1].1]);
        probes.put(63, &[all[2].1]);
        let outcome = probes.scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, PROBE_BUCKETS + 3 * 3);
        let targets = [probes.scene.stray_code(), probes.scene.code_of(MODULE)];
        for (_, probe) in all {
            for field in ["pre_handler", "post_handler", "fault_handler"] {
                for target in targets {
                    probes.scene.set(probe, "kprobe", field, target);
                    assert_eq!(probes.hooks(), [(probe, target)]);
                }
                probes.scene.set(probe, "kprobe", field, kernels);
            }
        }
    }

    #[test]
    fn probes_of_one_address_are_all_checked() {
        let mut probes = Probes::new();
        let (kernels, stray) = (probes.scene.function(64), probes.scene.stray_code());
        let (parent, children) =
            (probes.probe(probes.aggregate), [kernels, stray].map(|handler| probes.probe(handler)));
        probes.put(5, &[parent]);
        let link = |probes: &Probes, at: u64| probes.scene.field(at, "kprobe", "list");
        let (head, links) = (link(&probes, parent), children.map(|at| link(&probes, at)));
        probes.scene.list(head, &links);
        assert_eq!(probes.hooks(), [(children[1], stray)]);
        probes.scene.put(links[0], links[0]);
        assert!(!probes.scene.run(step).holds(CHECK));
    }

    #[test]
    fn handlers_of_kretprobes_are_checked() {
        let mut probes = Probes::new();
        let (probe, stray) = (probes.probe(probes.kretprobe), probes.scene.stray_code());
        probes.put(5, &[probe]);
        assert!(probes.scene.run(step).holds(CHECK));
        for offset in [256, 256 + 16] {
            probes.scene.put(probe + offset, stray);
            assert_eq!(probes.hooks(), [(probe, stray)]);
            probes.scene.put(probe + offset, 0);
        }
        // Bytes behind another probe are none of it.
        let kernels = probes.scene.function(64);
        probes.scene.set(probe, "kprobe", "pre_handler", kernels);
        probes.scene.put(probe + 256, stray);
        assert!(probes.hooks().is_empty());
    }

    #[test]
    fn buckets_that_never_end_and_unknown_handlers_do_not_hold() {
        let mut probes = Probes::new();
        let probe = probes.probe(0);
        probes.put(5, &[probe]);
        assert!(probes.scene.run(step).holds(CHECK));
        let link = probes.scene.field(probe, "kprobe", "hlist");
        probes.scene.put(link, link);
        assert!(!probes.scene.run(step).holds(CHECK));
        let mut probes = Probes::new();
        probes.scene.kernel.symbols.aggr_pre_handler = None;
        assert!(!probes.scene.run(step).holds(CHECK));
        let mut probes = Probes::new();
        probes.scene.kernel.symbols.pre_handler_kretprobe = None;
        assert!(!probes.scene.run(step).holds(CHECK));
        probes.scene.kernel.layouts.kretprobe = None;
        assert!(probes.scene.run(step).holds(CHECK));
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
    }
}
