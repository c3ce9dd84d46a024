//! Handlers of uprobes: probes of places in files of programs.
//!
//! The kernel's own handlers serve events of tracing and of perf, and BPF. A module may register
//! its own.
//!
//! Not here: which file and place a probe is for.

use arrayvec::ArrayVec;
use panoptes_decoders::address::KernelVa;

use super::lists::{OBJECTS_MAX, follow_list};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

const CHECK: Check = Check::Uprobes;
/// Maximum number of nodes that wait: more than any tree of [`OBJECTS_MAX`] nodes needs.
const WAITING_MAX: usize = 64;

/// Checks all probes.
pub(super) fn step(cx: &mut CheckContext<'_>, _: &mut Cursor) -> Progress {
    let kernel = cx.kernel();
    let root = kernel.symbols.uprobes_tree;
    let (Some(root), Some(layout), Some(tree)) =
        (root, &kernel.layouts.uprobe, &kernel.layouts.rb_node)
    else {
        cx.not_checked(CHECK, "the kernel has no uprobes, or their tree's address is unknown");
        return Progress::Done;
    };
    let Some(first) = cx.word(root) else {
        cx.unread(CHECK);
        return Progress::Done;
    };
    // An empty tree is checked, too.
    cx.checked(CHECK, 1);
    let mut waiting = ArrayVec::<KernelVa, WAITING_MAX>::new();
    waiting.push(KernelVa(first));
    let mut objects = 0;
    while let Some(node) = waiting.pop() {
        if node.is_null() {
            continue;
        }
        let Some(view) = cx.structure(node, &tree.packing) else {
            cx.unread(CHECK);
            continue;
        };
        let children = [tree.left, tree.right].map(|field| view.pointer(field));
        check_probe(cx, node.minus(layout.rb_node.offset.into()), &mut objects);
        objects += 1;
        if objects > OBJECTS_MAX || waiting.try_extend_from_slice(&children).is_err() {
            cx.not_checked(CHECK, "the tree of uprobes is too large, or never ends");
            break;
        }
    }
    Progress::Done
}

/// Checks the consumers of one probe, and counts them.
fn check_probe(cx: &mut CheckContext<'_>, probe: KernelVa, objects: &mut usize) {
    let layouts = &cx.kernel().layouts;
    let (Some(layout), Some(of_consumer)) = (&layouts.uprobe, &layouts.uprobe_consumer) else {
        return;
    };
    let consumers = probe.plus(layout.consumers.offset.into());
    if let Some(link) = of_consumer.cons_node {
        let is_whole = follow_list(cx, consumers, &mut |cx, at| {
            *objects += 1;
            if check_consumer(cx, at.minus(link.offset.into())).is_none() {
                cx.unread(CHECK);
            }
        });
        if !is_whole {
            cx.unread(CHECK);
        }
        return;
    }
    let mut next = cx.word(consumers).map(KernelVa);
    while let Some(consumer) = next {
        if consumer.is_null() {
            return;
        }
        *objects += 1;
        next = if *objects > OBJECTS_MAX { None } else { check_consumer(cx, consumer) };
    }
    cx.unread(CHECK);
}

/// Checks the functions of one consumer. Returns the next one, which is null at the end.
fn check_consumer(cx: &mut CheckContext<'_>, consumer: KernelVa) -> Option<KernelVa> {
    let layout = cx.kernel().layouts.uprobe_consumer.as_ref()?;
    let view = cx.structure(consumer, &layout.packing)?;
    let fields = [layout.handler, layout.ret_handler, layout.filter];
    let functions = fields.map(|field| view.pointer(field));
    let next = layout.next.map_or(KernelVa::NULL, |field| view.pointer(field));
    for function in functions {
        cx.hook(CHECK, (consumer, "uprobe"), KernelVa::NULL, function);
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    /// A tree of three probes with two consumers each.
    struct Probes {
        scene: Scene,
        root: u64,
        nodes: [u64; 3],
        consumers: Vec<u64>,
    }

    fn probes(has_list: bool) -> Probes {
        let mut scene = Scene::new();
        let root = scene.variable(8);
        scene.kernel.symbols.uprobes_tree = va(root);
        // A node is larger than the fields of tests are.
        scene.kernel.layouts.uprobe.as_mut().unwrap().rb_node.offset = 512;
        let handler = scene.function(64);
        let mut consumers = Vec::new();
        let nodes = [0; 3].map(|_| {
            let probe = scene.structure();
            let pair = [0; 2].map(|_| {
                let consumer = scene.structure();
                scene.set(consumer, "uprobe_consumer", "handler", handler);
                consumer
            });
            let head = scene.field(probe, "uprobe", "consumers");
            if has_list {
                let links = pair.map(|at| scene.field(at, "uprobe_consumer", "cons_node"));
                scene.list(head, &links);
            } else {
                scene.put(head, pair[0]);
                scene.set(pair[0], "uprobe_consumer", "next", pair[1]);
            }
            consumers.extend(pair);
            probe + 512
        });
        if !has_list {
            scene.kernel.layouts.uprobe_consumer.as_mut().unwrap().cons_node = None;
        }
        scene.put(root, nodes[0]);
        scene.set(nodes[0], "rb_node", "rb_left", nodes[1]);
        scene.set(nodes[0], "rb_node", "rb_right", nodes[2]);
        Probes { scene, root, nodes, consumers }
    }

    #[test]
    fn each_function_of_each_consumer_is_checked() {
        for has_list in [false, true] {
            let Probes { mut scene, consumers, .. } = probes(has_list);
            let outcome = scene.run(step);
            assert!(outcome.holds(CHECK));
            assert_eq!(outcome.facts(CHECK).places, 1 + 6 * 3);
            let targets = [scene.stray_code(), scene.code_of(Owner::Module(KernelVa(7)))];
            for consumer in consumers {
                for field in ["handler", "ret_handler", "filter"] {
                    let before = scene.word(scene.field(consumer, "uprobe_consumer", field));
                    for target in targets {
                        scene.set(consumer, "uprobe_consumer", field, target);
                        assert_eq!(scene.run(step).hooks(CHECK), [(consumer, target)]);
                    }
                    scene.set(consumer, "uprobe_consumer", field, before);
                }
            }
        }
    }

    #[test]
    fn trees_and_lists_that_never_end_do_not_hold() {
        for has_list in [false, true] {
            let Probes { mut scene, root, nodes, consumers } = probes(has_list);
            let field = if has_list { "cons_node" } else { "next" };
            let link = scene.field(consumers[5], "uprobe_consumer", field);
            let (itself, before) = (if has_list { link } else { consumers[5] }, scene.word(link));
            scene.put(link, itself);
            assert!(!scene.run(step).holds(CHECK));
            scene.put(link, before);
            scene.set(nodes[2], "rb_node", "rb_left", nodes[0]);
            assert!(scene.run(step).facts(CHECK).not_checked.is_some());
            scene.set(nodes[2], "rb_node", "rb_left", 0x1234);
            assert_eq!(scene.run(step).facts(CHECK).unread, 1);
            scene.put(root, 0);
            assert!(scene.run(step).holds(CHECK));
        }
        assert!(Scene::new().run(step).facts(CHECK).not_checked.is_some());
    }
}
