//! The views of modules, followed over their rows: the list, the tree, and /sys/module.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::module::{MODULE_PARTS, ModTreeNode, ModuleStage};
use panoptes_decoders::kernel::rb_tree::{RbLinks, RbNode};
use panoptes_decoders::layout::{View, u64_at};

use super::memory::visit;
use super::module_rows::{MODULES_MAX, ModuleRow, module_view};
use super::modules::{KSET_OTHERS_MAX, ModuleWalk, module_layouts};
use super::{ScannedMemory, WalkScratch, Walker, fetch_each};
use crate::address::MemoryReader;

/// Maximum number of nodes of the tree: one for each part of a module.
const TREE_NODES_MAX: usize = MODULES_MAX * MODULE_PARTS;
/// Maximum depth of the tree, more than twice the logarithm of that number.
const TREE_DEPTH_MAX: u32 = 64;

/// A half of the tree, which is there twice.
#[derive(Clone, Copy, Debug)]
struct TreeHalf {
    /// 0 or 1.
    number: usize,
    /// `struct rb_node *`; null if there are no modules.
    root: KernelVa,
}

/// The layouts of the nodes of the tree, if the kernel has one.
fn tree_layouts(layouts: &Layouts) -> Option<(&ModTreeNode, &RbNode)> {
    layouts.mod_tree_node.as_ref().zip(layouts.rb_node.as_ref())
}

impl Walker {
    /// Follows the list of modules from its head and its first link. An error is the reason to end
    /// early, as for the other views.
    pub(super) fn follow_module_list(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (head, first): (KernelVa, KernelVa),
    ) -> Result<(), EarlyStop> {
        let Some(layout) = &memory.kernel.layouts.module else { return Ok(()) };
        let mut link = first;
        while link != head {
            let address = link.minus(layout.list.offset.into());
            let row = self.module_row(memory, address)?;
            let row = &mut self.snapshot.modules.rows[row];
            // So it ends after as many steps as there are rows.
            if row.views.has(module_view::LIST) {
                return Err(EarlyStop::Loop { address });
            }
            row.views.add(module_view::LIST);
            link = row.module.next;
        }
        Ok(())
    }

    /// Follows the tree that the symbol shows. `None` if there is no symbol, or the kernel has no
    /// tree.
    pub(super) fn read_module_tree(
        &mut self,
        memory: &mut ScannedMemory<'_>,
    ) -> Option<Result<(), EarlyStop>> {
        let address = memory.kernel.roots.mod_tree;
        let nodes = tree_layouts(&memory.kernel.layouts)?;
        let layout = memory.kernel.layouts.mod_tree_root.as_ref()?;
        let (seq, tree) = layout.seq.zip(layout.tree)?;
        if address.is_null() {
            return None;
        }
        let Some(view) = memory.read_one(&mut self.reader, address, &layout.packing) else {
            return Some(Err(EarlyStop::Unreadable { address }));
        };
        let number = (view.unsigned(seq) & 1) as usize;
        let half = TreeHalf { number, root: KernelVa(view.u64_at(tree, number)) };
        Some(self.follow_module_tree(memory, nodes, half))
    }

    /// Follows the tree that the modules themselves lead to, where no symbol shows it. `None` if
    /// the kernel has none, or no module leads to it.
    pub(super) fn read_tree_of_modules(
        &mut self,
        memory: &mut ScannedMemory<'_>,
    ) -> Option<Result<(), EarlyStop>> {
        let kernel = memory.kernel;
        if !kernel.roots.mod_tree.is_null() {
            return None;
        }
        let nodes = tree_layouts(&kernel.layouts)?;
        let (in_module, layout) = nodes;
        let offset = module_layouts(&kernel.layouts)?.first_tree_node()?;
        // The kernel adds no part without memory (`mod_tree_insert`, kernel/module/tree_lookup.c).
        let is_in_tree = |row: &&ModuleRow| {
            let is_live = row.module.stage == ModuleStage::Live;
            !row.views.is_empty() && is_live && row.module.text().size > 0
        };
        let first = self.snapshot.modules.rows.iter().find(is_in_tree)?;
        let mut root = first.address.plus(offset).plus(in_module.node.offset.into());
        for _ in 0..TREE_DEPTH_MAX {
            let bytes = memory.read_bytes(&mut self.reader, root, layout.size);
            let Some(bytes) = bytes else {
                return Some(Err(EarlyStop::Unreadable { address: root }));
            };
            let parent = RbLinks::decode(layout, bytes).parent;
            if parent.is_null() {
                let half = TreeHalf { number: 0, root };
                return Some(self.follow_module_tree(memory, nodes, half));
            }
            root = parent;
        }
        Some(Err(EarlyStop::TooLong { limit: TREE_DEPTH_MAX }))
    }

    /// Follows a half of the tree, level by level, and reads the modules that have no row.
    fn follow_module_tree(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        nodes: (&ModTreeNode, &RbNode),
        half: TreeHalf,
    ) -> Result<(), EarlyStop> {
        self.visited.clear();
        self.scratch.addresses.clear();
        if !half.root.is_null() {
            self.scratch.addresses.push(half.root);
        }
        let mut end = Ok(());
        for _ in 0..TREE_DEPTH_MAX {
            if self.scratch.addresses.is_empty() {
                break;
            }
            let level = self.read_tree_level(memory, nodes, half.number);
            end = end.and(level);
            let WalkScratch { addresses, more, .. } = &mut self.scratch;
            core::mem::swap(addresses, more);
        }
        if !self.scratch.addresses.is_empty() {
            end = end.and(Err(EarlyStop::TooLong { limit: TREE_DEPTH_MAX }));
        }
        end.and(self.read_wanted_modules(memory, module_view::TREE))
    }

    /// Reads one level of the tree, and lists the next one.
    fn read_tree_level(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (layout, links): (&ModTreeNode, &RbNode),
        half: usize,
    ) -> Result<(), EarlyStop> {
        let Some(module_bytes) = memory.kernel.layouts.module.as_ref().map(|it| it.size) else {
            return Ok(());
        };
        let Self { reader, visited, scratch, snapshot, modules: walk, .. } = self;
        let (nodes, below) = (&scratch.addresses, &mut scratch.more);
        let start = half * links.size as usize;
        let before = u64::from(layout.node.offset) + start as u64;
        let mut end = Ok(());
        below.clear();
        let push = |reader: &mut MemoryReader, space: &_, node: &KernelVa| {
            reader.push(space, node.minus(before), &layout.packing)
        };
        fetch_each(reader, memory, nodes, push, |index, bytes| {
            let address = nodes[index];
            let Some(bytes) = bytes else {
                end = end.and(Err(EarlyStop::Unreadable { address }));
                return;
            };
            if let Err(stop) = visit(visited, address) {
                end = end.and(Err(stop));
                return;
            }
            let view = View::new(bytes);
            let node = view.bytes(layout.node).get(start..).unwrap_or(&[]);
            for child in RbLinks::decode(links, node).children {
                if child.is_null() {
                    continue;
                }
                if visited.len() + below.len() < TREE_NODES_MAX {
                    below.push(child);
                } else {
                    end = end.and(Err(EarlyStop::NoRoom { rows: TREE_NODES_MAX as u32 }));
                }
            }
            // A node is a part of its module.
            let module = view.pointer(layout.module);
            let is_part = address.0.wrapping_sub(module.0) < u64::from(module_bytes);
            let noted = if is_part {
                walk.note_view(&mut snapshot.modules, module, module_view::TREE)
            } else {
                Err(EarlyStop::Changed { address })
            };
            end = end.and(noted);
        });
        end
    }

    /// Follows the objects of /sys/module. `None` if nothing leads to it.
    pub(super) fn read_module_objects(
        &mut self,
        memory: &mut ScannedMemory<'_>,
    ) -> Option<Result<(), EarlyStop>> {
        let kernel = memory.kernel;
        let layout = kernel.layouts.kset.as_ref()?;
        kernel.layouts.module_kobject.as_ref()?;
        let variable = kernel.roots.module_kset;
        let kset = if variable.is_null() {
            let shown = self.snapshot.modules.rows.iter().filter(|row| !row.views.is_empty());
            let ksets = shown.map(|row| row.module.kset);
            ksets.filter(|kset| kset.is_plausible()).min()?
        } else {
            let bytes = memory.read_bytes(&mut self.reader, variable, 8);
            let Some(bytes) = bytes else {
                return Some(Err(EarlyStop::Unreadable { address: variable }));
            };
            KernelVa(u64_at(bytes, 0))
        };
        let head = kset.plus(layout.list.offset.into());
        let Some(bytes) = memory.read_bytes(&mut self.reader, head, 16) else {
            return Some(Err(EarlyStop::Unreadable { address: head }));
        };
        let first = KernelVa(u64_at(bytes, 0));
        self.read_other_objects(memory);
        let end = self.follow_module_objects(memory, (head, first));
        let ModuleWalk { known, shown_others, .. } = &mut self.modules;
        // After an early end, those that were read alone are known to the next scan.
        if end.is_ok() || shown_others.len() > known.others.len() {
            known.others.clear();
            known.others.extend_from_slice(shown_others);
        }
        Some(end)
    }

    /// Reads the objects that the last read knew and that are no modules.
    fn read_other_objects(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layout) = &memory.kernel.layouts.module_kobject else { return };
        let ModuleWalk { known, others, other_links, shown_others, .. } = &mut self.modules;
        others.clear();
        other_links.clear();
        shown_others.clear();
        let push = |reader: &mut MemoryReader, space: &_, link: &KernelVa| {
            reader.push(space, link.minus(layout.entry.offset.into()), &layout.packing)
        };
        let known = &known.others;
        fetch_each(&mut self.reader, memory, known, push, |index, bytes| {
            let view = bytes.map(View::new);
            let view = view.filter(|view| view.pointer(layout.module).is_null());
            let next = view.map_or(0, |view| view.u64_at(layout.entry, 0));
            others.insert(known[index].0, other_links.len() as u32);
            other_links.push(KernelVa(next));
        });
    }

    /// Follows the list of the objects of /sys/module from its head and its first link.
    fn follow_module_objects(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        (head, first): (KernelVa, KernelVa),
    ) -> Result<(), EarlyStop> {
        let layouts = &memory.kernel.layouts;
        let Some((module, object)) = layouts.module.as_ref().zip(layouts.module_kobject.as_ref())
        else {
            return Ok(());
        };
        self.visited.clear();
        let mut link = first;
        while link != head {
            visit(&mut self.visited, link)?;
            let address = link.minus(module.kobj_entry.offset.into());
            if let Some(row) = self.modules.row_of(address) {
                let row = &mut self.snapshot.modules.rows[row];
                row.views.add(module_view::KSET);
                link = row.module.kobject_entry[0];
                continue;
            }
            if let Some(next) = self.modules.link_behind(link) {
                self.modules.show_other(link);
                link = next;
                continue;
            }
            self.modules.take_lone_read()?;
            let at = link.minus(object.entry.offset.into());
            let view = memory.read_one(&mut self.reader, at, &object.packing);
            let view = view.ok_or(EarlyStop::Unreadable { address: link })?;
            let next = KernelVa(view.u64_at(object.entry, 0));
            let owner = view.pointer(object.module);
            if owner.is_null() {
                self.modules.show_other(link);
                link = next;
                continue;
            }
            // The object is a part of its module.
            if owner != address {
                return Err(EarlyStop::Changed { address: link });
            }
            let row = self.module_row(memory, address)?;
            self.snapshot.modules.rows[row].views.add(module_view::KSET);
            link = next;
        }
        Ok(())
    }
}

impl ModuleWalk {
    /// The link behind that of a known object that is no module.
    fn link_behind(&self, link: KernelVa) -> Option<KernelVa> {
        let position = self.others.get(link.0)?;
        self.other_links.get(position as usize).copied().filter(|next| !next.is_null())
    }

    /// Notes an object that is no module, for the next read.
    fn show_other(&mut self, link: KernelVa) {
        if self.shown_others.len() < KSET_OTHERS_MAX {
            self.shown_others.push(link);
        }
    }
}
