//! Functions of files below /proc (fs/proc/generic.c), and below /proc/net of network namespaces.
//! Files of processes are not here: their tables are in the kernel's read-only data.

use panoptes_decoders::address::KernelVa;

use super::files::{DENTRY_WORDS, FILE_WORDS, INODE_WORDS};
use super::words::{check_table, is_checked_with_data};
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;

const CHECK: Check = Check::ProcFiles;
/// Words of tables of functions (include/linux/seq_file.h, include/linux/proc_fs.h).
const SEQ_WORDS: usize = 4;
const PROC_WORDS: usize = 13;
/// Maximum number of entries of a tree.
const ENTRIES_MAX: u64 = 8192;
/// Maximum number of network namespaces whose entries are checked; the initial one comes first.
const NAMESPACES_MAX: u64 = 32;

/// Checks /proc, then /proc/net of each network namespace, all in slices.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let (Some(root), Some(_), Some(_)) =
        (symbols.proc_root, &layouts.proc_dir_entry, &layouts.rb_node)
    else {
        cx.not_checked(CHECK, "the folder /proc is unknown");
        return Progress::Done;
    };
    if cursor.part == 0 {
        if walk(cx, cursor, root) == Progress::More {
            return Progress::More;
        }
        cursor.part = 1;
    }
    let layout = layouts.net_hooks.as_ref();
    let fields = layout.and_then(|layout| Some((layout.list, layout.proc_net?)));
    let Some((head, (list, proc_net))) = symbols.net_namespace_list.zip(fields) else {
        cx.not_checked(CHECK, "the list of network namespaces is unknown");
        return Progress::Done;
    };
    check_namespaces(cx, cursor, (head, list.offset, proc_net.offset))
}

/// Walks /proc/net of each network namespace: `cursor.more` has the namespace's link, the top of
/// its tree, and the number of namespaces so far.
fn check_namespaces(
    cx: &mut CheckContext<'_>,
    cursor: &mut Cursor,
    (head, list, proc_net): (KernelVa, u32, u32),
) -> Progress {
    let [mut link, mut top, mut count, _] = cursor.more;
    loop {
        // Zero before the first namespace, and between two of them.
        if top == 0 {
            let at = if count == 0 { head } else { KernelVa(link) };
            let Some(next) = cx.word(at) else { break };
            if next == head.0 {
                return Progress::Done;
            }
            if count == NAMESPACES_MAX {
                cx.not_checked(CHECK, "there are too many network namespaces");
                return Progress::Done;
            }
            (link, count) = (next, count + 1);
            let net = KernelVa(link).minus(list.into());
            let Some(entry) = cx.word(net.plus(proc_net.into())) else { break };
            top = entry;
        }
        let progress = if top == 0 { Progress::Done } else { walk(cx, cursor, KernelVa(top)) };
        if progress == Progress::Done {
            top = 0;
        }
        if progress == Progress::More || !cx.has_budget() {
            cursor.more = [link, top, count, 0];
            return Progress::More;
        }
    }
    cx.unread(CHECK);
    Progress::Done
}

/// Walks the entries of a tree: into a folder, to the next entry, or back to the folder above.
/// `cursor.at` is the entry, and `cursor.count` the number of entries so far; both are zeros before
/// and after.
fn walk(cx: &mut CheckContext<'_>, cursor: &mut Cursor, top: KernelVa) -> Progress {
    if cursor.at == 0 {
        cursor.at = top.0;
    }
    loop {
        if !cx.has_budget() {
            return Progress::More;
        }
        cursor.count += 1;
        if cursor.count > ENTRIES_MAX {
            cx.not_checked(CHECK, "there are too many entries, or they never end");
            break;
        }
        let entry = KernelVa(cursor.at);
        let next = check_entry(cx, entry).and_then(|()| next_entry(cx, entry, top));
        let Some(next) = next else {
            cx.unread(CHECK);
            break;
        };
        if next.is_null() {
            break;
        }
        cursor.at = next.0;
    }
    (cursor.at, cursor.count) = (0, 0);
    Progress::Done
}

/// Checks the functions of an entry.
fn check_entry(cx: &mut CheckContext<'_>, entry: KernelVa) -> Option<()> {
    let layout = cx.kernel().layouts.proc_dir_entry.as_ref()?;
    let view = cx.structure(entry, &layout.packing)?;
    let [inode, file, show, name] =
        [layout.proc_iops, layout.proc_ops, layout.seq_ops, layout.name]
            .map(|field| view.pointer(field));
    let [write, dentries] = [layout.write, layout.proc_dops]
        .map(|field| field.map(|field| view.pointer(field)).unwrap_or_default());
    if [inode, file, show, write, dentries].iter().all(|&at| is_kernels(cx, at)) {
        cx.checked(CHECK, 1);
        return Some(());
    }
    let name = cx.text::<48>(name);
    check_table(cx, CHECK, (inode, INODE_WORDS), &name);
    check_table(cx, CHECK, (dentries, DENTRY_WORDS), &name);
    // A folder has the functions of an open file there.
    let words = if show.is_null() { FILE_WORDS } else { PROC_WORDS };
    check_table(cx, CHECK, (file, words), &name);
    cx.pointer(CHECK, (entry, &name), write);
    // A function that shows the file, or a table of them.
    if cx.owner_of(show) == Owner::Nobody && cx.is_executable(show) {
        cx.pointer(CHECK, (entry, &name), show);
    } else if cx.owner_of(show) == Owner::Nobody && show.is_plausible() {
        check_table(cx, CHECK, (show, SEQ_WORDS), &name);
    }
    Some(())
}

/// Whether a function is the kernel's, or a table is checked elsewhere.
fn is_kernels(cx: &CheckContext<'_>, at: KernelVa) -> bool {
    at.is_null() || cx.owner_of(at) == Owner::Kernel || is_checked_with_data(cx, at)
}

/// The entry behind another one: its first one, if it is a folder, else the next one of its folder,
/// or of a folder above. Null at the end; `None` if that cannot be read.
fn next_entry(cx: &mut CheckContext<'_>, entry: KernelVa, root: KernelVa) -> Option<KernelVa> {
    /// Maximum depth of folders.
    const DEPTH_MAX: usize = 32;
    let layout = cx.kernel().layouts.proc_dir_entry.as_ref()?;
    let node_of = |entry: KernelVa| entry.plus(layout.subdir_node.offset.into());
    let entry_of = |node: KernelVa| node.minus(layout.subdir_node.offset.into());
    let first = cx.structure(entry, &layout.packing)?.pointer(layout.subdir);
    if !first.is_null() {
        return leftmost(cx, first).map(entry_of);
    }
    let mut entry = entry;
    for _ in 0..DEPTH_MAX {
        if entry == root {
            return Some(KernelVa::NULL);
        }
        let next = successor(cx, node_of(entry))?;
        if !next.is_null() {
            return Some(entry_of(next));
        }
        entry = cx.structure(entry, &layout.packing)?.pointer(layout.parent);
    }
    None
}

/// Most levels of a tree with thousands of nodes.
const TREE_LEVELS_MAX: usize = 64;

/// The first node below a node.
fn leftmost(cx: &mut CheckContext<'_>, node: KernelVa) -> Option<KernelVa> {
    let layout = cx.kernel().layouts.rb_node.as_ref()?;
    let mut node = node;
    for _ in 0..TREE_LEVELS_MAX {
        let left = cx.structure(node, &layout.packing)?.pointer(layout.left);
        if left.is_null() {
            return Some(node);
        }
        node = left;
    }
    None
}

/// The next node of a tree; null behind the last one.
fn successor(cx: &mut CheckContext<'_>, node: KernelVa) -> Option<KernelVa> {
    let layout = cx.kernel().layouts.rb_node.as_ref()?;
    let view = cx.structure(node, &layout.packing)?;
    let (right, mut parent) =
        (view.pointer(layout.right), above(view.unsigned(layout.parent_color)));
    if !right.is_null() {
        return leftmost(cx, right);
    }
    let mut node = node;
    for _ in 0..TREE_LEVELS_MAX {
        if parent.is_null() {
            return Some(parent);
        }
        let view = cx.structure(parent, &layout.packing)?;
        if view.pointer(layout.right) != node {
            return Some(parent);
        }
        (node, parent) = (parent, above(view.unsigned(layout.parent_color)));
    }
    None
}

/// The parent of a node, without the node's colour.
const fn above(parent_color: u64) -> KernelVa {
    KernelVa(parent_color & !3)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;

    /// A folder /proc with a folder of two files, and /proc/net of one namespace with a file.
    struct Proc {
        scene: Scene,
        folder: u64,
        files: [u64; 2],
        of_net: u64,
        net: u64,
    }

    /// Offset of the node in an entry.
    const NODE: u64 = 512;

    const fn node(entry: u64) -> u64 {
        entry + NODE
    }

    impl Proc {
        fn new() -> Self {
            let mut scene = Scene::new();
            // Room for a whole node.
            if let Some(layout) = &mut scene.kernel.layouts.proc_dir_entry {
                layout.subdir_node.offset = NODE as u32;
            }
            let (root, namespaces) = (scene.variable(1024), scene.variable(16));
            scene.kernel.symbols.proc_root = va(root);
            scene.kernel.symbols.net_namespace_list = va(namespaces);
            let [folder, first, second, of_net, proc_net, net] = [0; 6].map(|_| scene.structure());
            let link = scene.field(net, "net", "list");
            scene.list(namespaces, &[link]);
            scene.set(net, "net", "proc_net", proc_net);
            let mut proc = Self { scene, folder, files: [first, second], of_net, net };
            proc.put_in(root, folder, "folder");
            // The second file is the right child of the first one.
            proc.put_in(folder, first, "first");
            let (above, node) = (node(first), node(second));
            proc.scene.set(above, "rb_node", "rb_right", node);
            proc.scene.set(node, "rb_node", "__rb_parent_color", above | 1);
            proc.scene.set(second, "proc_dir_entry", "parent", folder);
            let name = proc.scene.text("second");
            proc.scene.set(second, "proc_dir_entry", "name", name);
            proc.scene.set(proc_net, "proc_dir_entry", "parent", root);
            proc.put_in(proc_net, of_net, "tcp");
            proc
        }

        /// Puts the first entry into a folder.
        fn put_in(&mut self, folder: u64, entry: u64, name: &str) {
            let (node, name) = (node(entry), self.scene.text(name));
            self.scene.set(folder, "proc_dir_entry", "subdir", node);
            self.scene.set(entry, "proc_dir_entry", "parent", folder);
            self.scene.set(entry, "proc_dir_entry", "name", name);
        }
    }

    #[test]
    fn each_function_of_each_entry_is_checked() {
        let mut proc = Proc::new();
        let (kernels, stray) = (proc.scene.function(16), proc.scene.stray_code());
        let outcome = proc.scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 6);
        let module = proc.scene.code_of(Owner::Module(KernelVa(1)));
        let [first, second] = proc.files;
        for (entry, name) in
            [(proc.folder, "folder"), (first, "first"), (second, "second"), (proc.of_net, "tcp")]
        {
            for field in ["write", "seq_ops"] {
                for owned in [module, kernels] {
                    proc.scene.set(entry, "proc_dir_entry", field, owned);
                    assert!(proc.scene.run(step).holds(CHECK));
                }
                proc.scene.set(entry, "proc_dir_entry", field, stray);
                let outcome = proc.scene.run(step);
                assert_eq!(outcome.hooks(CHECK), [(entry, stray)]);
                assert_eq!(outcome.violations[0].label.as_str(), name);
                proc.scene.set(entry, "proc_dir_entry", field, 0);
            }
            for field in ["proc_iops", "proc_ops", "proc_dops", "seq_ops"] {
                let table = proc.scene.room(512);
                proc.scene.set(entry, "proc_dir_entry", field, table);
                assert!(proc.scene.run(step).holds(CHECK));
                proc.scene.put(table + 8, stray);
                assert_eq!(proc.scene.run(step).hooks(CHECK), [(table + 8, stray)]);
                proc.scene.set(entry, "proc_dir_entry", field, 0);
            }
        }
    }

    #[test]
    fn trees_that_are_unknown_or_never_end_do_not_hold() {
        let mut proc = Proc::new();
        let whole = proc.scene.kernel.clone();
        proc.scene.kernel.symbols.proc_root = None;
        assert!(!proc.scene.run(step).holds(CHECK));
        proc.scene.kernel = whole.clone();
        proc.scene.kernel.symbols.net_namespace_list = None;
        assert!(!proc.scene.run(step).holds(CHECK));
        proc.scene.kernel = whole;
        // A folder that is in itself.
        let node = node(proc.folder);
        proc.scene.set(proc.files[0], "proc_dir_entry", "subdir", node);
        let endless = proc.scene.run(step);
        assert!(endless.facts(CHECK).not_checked.is_some() && endless.slices > 1);
        proc.scene.set(proc.files[0], "proc_dir_entry", "subdir", 0);
        assert!(proc.scene.run(step).holds(CHECK));
        // Namespaces without an end.
        let link = proc.scene.field(proc.net, "net", "list");
        proc.scene.put(link, link);
        assert!(proc.scene.run(step).facts(CHECK).not_checked.is_some());
        proc.scene.put(link, 0);
        assert_eq!(proc.scene.run(step).facts(CHECK).unread, 1);
    }
}
