//! The trees of areas: maple trees since v6.1 (lib/maple_tree.c), red-black trees before
//! (lib/rbtree.c). They are built at once from sorted areas.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::maple_tree::MapleNode;
use panoptes_decoders::kernel::vm_area_struct::VmAreaStruct;
use panoptes_decoders::layout::PackedField;

use crate::memory::Memory;

/// `enum maple_type` (include/linux/maple_tree.h).
const MAPLE_LEAF_64: u64 = 1;
const MAPLE_ARANGE_64: u64 = 3;
/// Entries of a leaf and children of a node that are used; the kernel leaves room, too.
const LEAF_ENTRIES: usize = 12;
const NODE_CHILDREN: usize = 8;
/// `MAPLE_ENODE_NULL`, `MAPLE_ROOT_NODE`, `MAPLE_PARENT_RANGE64`, `MA_ROOT_PARENT`.
const ENODE: u64 = 4;
const ROOT: u64 = 2;
const PARENT: u64 = 6;
const ROOT_PARENT: u64 = 1;
/// `RB_BLACK` (include/linux/rbtree_augmented.h); red is 0.
const BLACK: u64 = 1;

/// What a slot of a node leads to, and the last address of its range.
type Entry = (u64, u64);

/// A maple tree that was built.
#[derive(Debug)]
pub(crate) struct Maple {
    pub(crate) nodes: Vec<KernelVa>,
    /// The root pointer.
    pub(crate) root: u64,
    pub(crate) height: u32,
}

impl Memory {
    /// Builds the maple tree of areas (first address, first address after it, area); `tree` is its
    /// `struct maple_tree`.
    pub(crate) fn build_maple_tree(
        &mut self,
        layout: &MapleNode,
        tree: KernelVa,
        areas: &[(u64, u64, KernelVa)],
    ) -> Maple {
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = 0;
        for &(start, end, vma) in areas {
            if start > at {
                entries.push((0, start - 1));
            }
            entries.push((vma.0, end - 1));
            at = end;
        }
        entries.push((0, u64::MAX));
        let mut nodes = Vec::new();
        let fields = (layout.range_pivot, layout.range_slot);
        let mut level =
            self.maple_level(layout, &entries, (MAPLE_LEAF_64, LEAF_ENTRIES), fields, &mut nodes);
        let fields = (layout.arange_pivot, layout.arange_slot);
        let mut height = 1;
        while level.len() > 1 {
            height += 1;
            let kind = (MAPLE_ARANGE_64, NODE_CHILDREN);
            level = self.maple_level(layout, &level, kind, fields, &mut nodes);
        }
        let root = level[0].0;
        self.put(KernelVa(root & !0xff), layout.parent, tree.0 | ROOT_PARENT);
        Maple { nodes, root: root | ROOT, height }
    }

    /// Makes the nodes of one level; returns them as the entries of the next one.
    fn maple_level(
        &mut self,
        layout: &MapleNode,
        entries: &[Entry],
        (kind, most): (u64, usize),
        (pivots, slots): (PackedField, PackedField),
        nodes: &mut Vec<KernelVa>,
    ) -> Vec<Entry> {
        let mut level = Vec::new();
        for group in entries.chunks(most) {
            let node = self.allocate(layout.size);
            nodes.push(node);
            for (index, &(pointer, last)) in group.iter().enumerate() {
                let slot = u64::from(slots.offset) + index as u64 * 8;
                let pivot = u64::from(pivots.offset) + index as u64 * 8;
                self.put_word(node.plus(pivot), last);
                self.put_word(node.plus(slot), pointer);
                if kind != MAPLE_LEAF_64 {
                    let parent = node.0 | (index as u64) << 3 | PARENT;
                    self.put(KernelVa(pointer & !0xff), layout.parent, parent);
                }
            }
            let last = group.last().map_or(u64::MAX, |entry| entry.1);
            level.push((node.0 | kind << 3 | ENODE, last));
        }
        level
    }

    /// Builds the balanced tree of areas; returns the address of its root's `rb_node`.
    pub(crate) fn build_red_black_tree(
        &mut self,
        layout: &VmAreaStruct,
        areas: &[(u64, u64, KernelVa)],
    ) -> KernelVa {
        let node = layout.vm_rb.expect("the kernel has trees of areas");
        let areas: Vec<_> = areas.iter().map(|area| area.2.plus(node.offset.into())).collect();
        // Only the deepest level is red, so that each way down has as many black nodes.
        let depth = usize::BITS - areas.len().leading_zeros();
        self.red_black(layout, &areas, KernelVa::NULL, depth)
    }

    fn red_black(
        &mut self,
        layout: &VmAreaStruct,
        nodes: &[KernelVa],
        parent: KernelVa,
        height: u32,
    ) -> KernelVa {
        if nodes.is_empty() {
            return KernelVa::NULL;
        }
        let (left, rest) = nodes.split_at(nodes.len() / 2);
        let (&node, right) = rest.split_first().unwrap_or((&KernelVa::NULL, &[]));
        let is_red = height == 1 && !parent.is_null();
        self.put_word(node, parent.0 | if is_red { 0 } else { BLACK });
        let children = [(layout.rb_left, left), (layout.rb_right, right)];
        for (field, nodes) in children {
            let child = self.red_black(layout, nodes, node, height.saturating_sub(1));
            let base = layout.vm_rb.map_or(0, |vm_rb| vm_rb.offset);
            let offset = field.map_or(0, |field| field.offset) - base;
            self.put_word(node.plus(offset.into()), child.0);
        }
        node
    }
}
