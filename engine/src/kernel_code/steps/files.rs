//! Ways to files: the formats of programs, and the roots of file systems.

use panoptes_decoders::address::KernelVa;

use super::lists::{ListProgress, follow_in_slices, follow_list};
use super::words::check_table;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Words of tables of functions (include/linux/fs.h, include/linux/dcache.h).
pub(super) const FILE_WORDS: usize = 32;
pub(super) const INODE_WORDS: usize = 28;
pub(super) const DENTRY_WORDS: usize = 14;
const SUPER_WORDS: usize = 28;
/// Maximum number of super blocks.
const SUPER_BLOCKS_MAX: u64 = 1 << 16;

/// Checks the formats, then the file systems in slices.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        check_formats(cx);
        cursor.part = 1;
    }
    match check_file_systems(cx, cursor) {
        Some(ListProgress::Partly) => return Progress::More,
        Some(ListProgress::ToItsEnd) => {}
        Some(ListProgress::Broken) => cx.unread(Check::FileSystems),
        None => cx.not_checked(Check::FileSystems, "the list of super blocks is unknown"),
    }
    Progress::Done
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
        let [dump, library] = [layout.core_dump, layout.load_shlib]
            .map(|field| field.map(|field| view.pointer(field)).unwrap_or_default());
        cx.pointer(check, (at, "load"), load);
        cx.pointer(check, (at, "core dump"), dump);
        cx.pointer(check, (at, "load library"), library);
    };
    let first = elf.plus(layout.lh.offset.into());
    check_one(cx, first);
    if !follow_list(cx, first, check_one) {
        cx.unread(check);
    }
}

/// Checks all super blocks, with their roots; `None` if their list is unknown.
fn check_file_systems(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Option<ListProgress> {
    let layouts = &cx.kernel().layouts;
    let head = cx.kernel().symbols.super_blocks?;
    let layout = layouts.super_block_ops.as_ref()?;
    let (dentry, inode) = (layouts.dentry_inode.as_ref()?, layouts.inode_ops.as_ref()?);
    let check = Check::FileSystems;
    Some(follow_in_slices(cx, cursor, (head, SUPER_BLOCKS_MAX), &mut |cx, link| {
        let at = link.minus(layout.s_list.offset.into());
        let Some(view) = cx.structure(at, &layout.packing) else {
            cx.unread(check);
            return;
        };
        let (operations, root) = (view.pointer(layout.s_op), view.pointer(layout.s_root));
        let of_dentries = layout.s_d_op.map(|field| view.pointer(field)).unwrap_or_default();
        let name = layout.s_id.map(|field| cx.text::<32>(at.plus(field.offset.into())));
        let name = name.unwrap_or_default();
        check_table(cx, check, (operations, SUPER_WORDS), &name);
        check_table(cx, check, (of_dentries, DENTRY_WORDS), &name);
        // A super block that is being made has no root yet.
        let Some(view) = cx.structure(root, &dentry.packing) else { return };
        let of_root = view.pointer(dentry.d_inode);
        let Some(view) = cx.structure(of_root, &inode.packing) else { return };
        let (of_inode, of_file) = (view.pointer(inode.i_op), view.pointer(inode.i_fop));
        check_table(cx, check, (of_inode, INODE_WORDS), &name);
        check_table(cx, check, (of_file, FILE_WORDS), &name);
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    #[test]
    fn each_function_of_each_format_is_checked() {
        const CHECK: Check = Check::BinaryFormats;
        let mut scene = Scene::new();
        assert_eq!(scene.run(step).facts(CHECK).places, 0);
        let (elf, head, other) = (scene.variable(256), scene.variable(16), scene.structure());
        scene.kernel.symbols.elf_format = va(elf);
        let links = [elf, other].map(|at| scene.field(at, "linux_binfmt", "lh"));
        scene.list(head, &links);
        let (kernels, stray) = (scene.function(16), scene.stray_code());
        let module = scene.code_of(Owner::Module(KernelVa(1)));
        for format in [elf, other] {
            for (field, label) in [
                ("load_binary", "load"),
                ("core_dump", "core dump"),
                ("load_shlib", "load library"),
            ] {
                for owned in [module, kernels] {
                    scene.set(format, "linux_binfmt", field, owned);
                    assert!(scene.run(step).holds(CHECK));
                }
                scene.set(format, "linux_binfmt", field, stray);
                let outcome = scene.run(step);
                assert_eq!(outcome.hooks(CHECK), [(format, stray)]);
                assert_eq!(outcome.violations[0].label.as_str(), label);
                scene.set(format, "linux_binfmt", field, kernels);
            }
        }
        scene.put(links[1], links[1]);
        assert!(!scene.run(step).holds(CHECK));
    }

    #[test]
    fn each_table_of_a_file_system_is_checked() {
        const CHECK: Check = Check::FileSystems;
        let mut scene = Scene::new();
        assert!(scene.run(step).facts(CHECK).not_checked.is_some());
        let (head, block) = (scene.variable(16), scene.structure());
        scene.kernel.symbols.super_blocks = va(head);
        let link = scene.field(block, "super_block", "s_list");
        scene.list(head, &[link]);
        let (root, inode) = (scene.structure(), scene.structure());
        let name = scene.field(block, "super_block", "s_id");
        scene.put_bytes(name, b"vda1\0");
        scene.set(block, "super_block", "s_root", root);
        scene.set(root, "dentry", "d_inode", inode);
        let stray = scene.stray_code();
        let tables = [
            (block, "super_block", "s_op"),
            (block, "super_block", "s_d_op"),
            (inode, "inode", "i_op"),
            (inode, "inode", "i_fop"),
        ];
        for (at, structure, field) in tables {
            let table = scene.room(512);
            scene.set(at, structure, field, table);
            assert!(scene.run(step).holds(CHECK));
            scene.put(table + 64, stray);
            let outcome = scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(table + 64, stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), "vda1");
            scene.put(table + 64, 0);
        }
        scene.set(block, "super_block", "s_root", 0);
        assert!(scene.run(step).holds(CHECK));
        scene.put(link, 0);
        assert_eq!(scene.run(step).facts(CHECK).unread, 1);
    }
}
