//! The tree of an IDR: an xarray of 64 slots a node (lib/xarray.c, lib/radix-tree.c).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::xarray::{self, XaSlot};

use crate::memory::Memory;

/// Index bits of a node (`XA_CHUNK_SHIFT`).
const CHUNK_BITS: u32 = 6;

/// Where a tree is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    /// `struct xarray *`
    pub(crate) array: KernelVa,
    /// Its pointer to the root.
    pub(crate) head: KernelVa,
}

impl Memory {
    fn node_slot(layouts: &Layouts, node: KernelVa, index: u64, shift: u32) -> KernelVa {
        let slot = (index >> shift) & 63;
        node.plus(u64::from(layouts.xa_node.slots.offset) + slot * 8)
    }

    /// A new node of a tree, in a slot of the node above; without one, it is a root.
    fn new_node(
        &mut self,
        layouts: &Layouts,
        tree: Tree,
        shift: u32,
        above: Option<(KernelVa, u64)>,
    ) -> KernelVa {
        let node = self.allocate(layouts.xa_node.size);
        self.put(node, layouts.xa_node_tree.shift, shift.into());
        if let Some(tags) = layouts.xa_node_tree.tags {
            // `idr_get_free` (lib/radix-tree.c); the bits of leaves count here.
            self.put_word(node.plus(tags.offset.into()), u64::MAX);
        }
        if let Some(array) = layouts.xa_node_tree.array {
            self.put(node, array, tree.array.0);
        }
        if let Some((above, slot)) = above {
            self.set_parent(layouts, node, above, slot);
        }
        node
    }

    /// Notes in a node which one is above it, and the slot there.
    fn set_parent(&mut self, layouts: &Layouts, node: KernelVa, above: KernelVa, slot: u64) {
        let layout = &layouts.xa_node_tree;
        if let Some((parent, offset)) = layout.parent.zip(layout.offset) {
            self.put(node, parent, above.0);
            self.put(node, offset, slot);
        }
    }

    /// Sets whether a slot of a leaf is free (`IDR_FREE`).
    fn set_free(&mut self, layouts: &Layouts, node: KernelVa, index: u64, is_free: bool) {
        let Some(tags) = layouts.xa_node_tree.tags else { return };
        let place = node.plus(tags.offset.into());
        let (bit, tags) = (1 << (index & 63), self.word(place));
        self.put_word(place, if is_free { tags | bit } else { tags & !bit });
    }

    fn count(&mut self, layouts: &Layouts, node: KernelVa, by: i64) -> u64 {
        let count = self.get(node, layouts.xa_node_tree.count).wrapping_add_signed(by);
        self.put(node, layouts.xa_node_tree.count, count);
        count
    }

    /// Stores `entry` at `index` of a tree. New nodes are complete before the tree leads to them.
    pub(crate) fn tree_store(&mut self, layouts: &Layouts, tree: Tree, index: u64, entry: u64) {
        let head = tree.head;
        if self.word(head) == 0 {
            let node = self.new_node(layouts, tree, 0, None);
            self.put_word(head, node.0 | 2);
        }
        let mut node = self.tree_root(head);
        let mut shift = self.get(node, layouts.xa_node_tree.shift) as u32;
        while index >> (shift + CHUNK_BITS) != 0 {
            shift += CHUNK_BITS;
            let above = self.new_node(layouts, tree, shift, None);
            self.set_parent(layouts, node, above, 0);
            self.put_word(above.plus(layouts.xa_node.slots.offset.into()), node.0 | 2);
            self.count(layouts, above, 1);
            self.put_word(head, above.0 | 2);
            node = above;
        }
        while shift > 0 {
            let slot = Self::node_slot(layouts, node, index, shift);
            node = if let XaSlot::Node(below) = xarray::slot(self.word(slot)) {
                below
            } else {
                let at = (node, index >> shift & 63);
                let below = self.new_node(layouts, tree, shift - CHUNK_BITS, Some(at));
                self.put_word(slot, below.0 | 2);
                self.count(layouts, node, 1);
                below
            };
            shift -= CHUNK_BITS;
        }
        let slot = Self::node_slot(layouts, node, index, 0);
        if self.word(slot) == 0 {
            self.count(layouts, node, 1);
        }
        self.set_free(layouts, node, index, false);
        self.put_word(slot, entry);
    }

    /// Removes the entry at `index`, and the nodes that hold nothing any more. A node that is freed
    /// keeps its place in the tree.
    pub(crate) fn tree_erase(&mut self, layouts: &Layouts, tree: Tree, index: u64) {
        let mut path = Vec::new();
        let mut node = self.tree_root(tree.head);
        loop {
            let shift = self.get(node, layouts.xa_node_tree.shift) as u32;
            let slot = Self::node_slot(layouts, node, index, shift);
            path.push((node, slot));
            match xarray::slot(self.word(slot)) {
                XaSlot::Node(below) if shift > 0 => node = below,
                _ => break,
            }
        }
        self.set_free(layouts, node, index, true);
        while let Some((node, slot)) = path.pop() {
            self.put_word(slot, 0);
            if self.count(layouts, node, -1) > 0 || path.is_empty() {
                break;
            }
            self.release_later(node, layouts.xa_node.size);
        }
        self.tree_shrink(layouts, tree.head);
    }

    /// Removes roots with nothing but their first node (`radix_tree_shrink`).
    fn tree_shrink(&mut self, layouts: &Layouts, head: KernelVa) {
        loop {
            let root = self.tree_root(head);
            let first = root.plus(layouts.xa_node.slots.offset.into());
            let XaSlot::Node(below) = xarray::slot(self.word(first)) else { return };
            if self.get(root, layouts.xa_node_tree.count) != 1
                || self.get(root, layouts.xa_node_tree.shift) == 0
            {
                return;
            }
            self.set_parent(layouts, below, KernelVa::NULL, 0);
            self.put_word(head, below.0 | 2);
            self.put_word(first, 0);
            self.release_later(root, layouts.xa_node.size);
        }
    }

    fn tree_root(&self, head: KernelVa) -> KernelVa {
        match xarray::slot(self.word(head)) {
            XaSlot::Node(node) => node,
            _ => panic!("a tree of this machine has a node at its root"),
        }
    }
}
