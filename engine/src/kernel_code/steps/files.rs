//! Ways to files: the formats of programs, the roots of file systems, /proc, and terminals.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::layout::u64_at;

use super::lists::follow_list;
use super::words::check_table;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};
use crate::kernel_code::owners::Owner;

/// Words of tables of functions (include/linux/fs.h, include/linux/proc_fs.h,
/// include/linux/tty_driver.h, include/linux/tty_ldisc.h).
const FILE_WORDS: usize = 32;
const INODE_WORDS: usize = 28;
const SUPER_WORDS: usize = 28;
const SEQ_WORDS: usize = 4;
const PROC_WORDS: usize = 14;
const TTY_WORDS: usize = 40;
const LINE_WORDS: usize = 24;
/// Number of line disciplines (`NR_LDISCS`, at most).
const LINES: u32 = 30;
/// Maximum number of entries of /proc that do not belong to processes.
const ENTRIES_MAX: u64 = 8192;

/// Checks all of them; /proc in slices.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        check_formats(cx);
        check_file_systems(cx);
        check_terminals(cx);
        cursor.part = 1;
    }
    check_proc(cx, cursor)
}

/// Checks the formats of programs, from that of ELF files on: the name of the list's head is not
/// unique. The head has no functions, and what is read there in their place is no code.
fn check_formats(cx: &mut CheckContext<'_>) {
    let check = Check::BinaryFormats;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let Some((elf, layout)) = symbols.elf_format.zip(layouts.linux_binfmt.as_ref()) else { return };
    let check_one = &mut |cx: &mut CheckContext<'_>, link: KernelVa| {
        let at = link.minus(layout.lh.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let load = view.pointer(layout.load_binary);
        let dump = layout.core_dump.map(|field| view.pointer(field)).unwrap_or_default();
        cx.pointer(check, (at, "load"), load);
        cx.pointer(check, (at, "core dump"), dump);
    };
    let first = elf.plus(layout.lh.offset.into());
    check_one(cx, first);
    if !follow_list(cx, first, check_one) {
        cx.unread(check);
    }
}

fn check_file_systems(cx: &mut CheckContext<'_>) {
    let check = Check::FileSystems;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let Some((head, layout)) = symbols.super_blocks.zip(layouts.super_block_ops.as_ref()) else {
        return;
    };
    let (dentry, inode) = (&layouts.dentry_inode, &layouts.inode_ops);
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.s_list.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let (operations, root) = (view.pointer(layout.s_op), view.pointer(layout.s_root));
        let name = layout.s_id.map(|field| cx.text::<32>(at.plus(field.offset.into())));
        let name = name.unwrap_or_default();
        check_table(cx, check, (operations, SUPER_WORDS), &name);
        let (Some(dentry), Some(inode)) = (dentry, inode) else { return };
        // A super block that is being made has no root yet.
        let Some(view) = cx.structure(root, &dentry.packing) else { return };
        let of_root = view.pointer(dentry.d_inode);
        let Some(view) = cx.structure(of_root, &inode.packing) else { return };
        let (of_inode, of_file) = (view.pointer(inode.i_op), view.pointer(inode.i_fop));
        check_table(cx, check, (of_inode, INODE_WORDS), &name);
        check_table(cx, check, (of_file, FILE_WORDS), &name);
    });
    if !is_whole {
        cx.unread(check);
    }
}

fn check_terminals(cx: &mut CheckContext<'_>) {
    let check = Check::Terminals;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    if let Some(array) = symbols.tty_ldiscs {
        let mut lines = [0; LINES as usize];
        if let Some(bytes) = cx.read(array, 8 * LINES) {
            for (line, word) in lines.iter_mut().zip(bytes.chunks_exact(8)) {
                *line = u64_at(word, 0);
            }
        } else {
            cx.unread(check);
        }
        for &line in lines.iter().filter(|&&line| line != 0) {
            check_table(cx, check, (KernelVa(line), LINE_WORDS), "line discipline");
        }
    }
    let Some((head, layout)) = symbols.tty_drivers.zip(layouts.tty_driver.as_ref()) else { return };
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(layout.tty_drivers.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let operations = view.pointer(layout.ops);
        check_table(cx, check, (operations, TTY_WORDS), "terminal");
    });
    if !is_whole {
        cx.unread(check);
    }
}

/// Walks the entries of /proc: into a folder, to the next entry, or back to the folder above.
fn check_proc(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::ProcFiles;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let (Some(root), Some(_), Some(_)) =
        (symbols.proc_root, &layouts.proc_dir_entry, &layouts.rb_node)
    else {
        cx.not_checked(check, "the folder /proc is unknown");
        return Progress::Done;
    };
    if cursor.at == 0 {
        cursor.at = root.0;
    }
    loop {
        if !cx.has_budget() {
            return Progress::More;
        }
        cursor.count += 1;
        if cursor.count > ENTRIES_MAX {
            cx.not_checked(check, "there are too many entries, or they never end");
            return Progress::Done;
        }
        let entry = KernelVa(cursor.at);
        if check_entry(cx, entry).is_none() {
            cx.unread(check);
            return Progress::Done;
        }
        match next_entry(cx, entry, root) {
            Some(next) if next.is_null() => return Progress::Done,
            Some(next) => cursor.at = next.0,
            None => {
                cx.unread(check);
                return Progress::Done;
            }
        }
    }
}

/// Checks the functions of an entry.
fn check_entry(cx: &mut CheckContext<'_>, entry: KernelVa) -> Option<()> {
    let check = Check::ProcFiles;
    let layout = cx.kernel().layouts.proc_dir_entry.as_ref()?;
    let view = cx.structure(entry, &layout.packing)?;
    let [inode, file, show, name] =
        [layout.proc_iops, layout.proc_ops, layout.seq_ops, layout.name]
            .map(|field| view.pointer(field));
    let name = cx.text::<48>(name);
    check_table(cx, check, (inode, INODE_WORDS), &name);
    check_table(cx, check, (file, PROC_WORDS), &name);
    // A function that shows the file, or a table of them.
    if cx.owner_of(show) == Owner::Nobody && cx.is_executable(show) {
        cx.pointer(check, (entry, &name), show);
    } else if cx.owner_of(show) == Owner::Nobody && show.is_plausible() {
        check_table(cx, check, (show, SEQ_WORDS), &name);
    }
    Some(())
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
