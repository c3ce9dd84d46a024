//! The tree of an IDR: an xarray of 64 slots a node (lib/xarray.c, lib/radix-tree.c).

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::xarray::{self, Slot, XaNode};

use crate::memory::Memory;

/// Index bits of a node (`XA_CHUNK_SHIFT`).
const CHUNK_BITS: u32 = 6;

impl Memory {
    fn node_slot(layout: &XaNode, node: KernelVa, index: u64, shift: u32) -> KernelVa {
        let slot = (index >> shift) & 63;
        node.plus(u64::from(layout.slots.offset) + slot * 8)
    }

    fn new_node(&mut self, layout: &XaNode, shift: u32) -> KernelVa {
        let node = self.allocate(layout.size);
        self.put(node, layout.shift, shift.into());
        node
    }

    /// Notes in a node which one is above it, and the slot there.
    fn set_parent(&mut self, layout: &XaNode, node: KernelVa, above: KernelVa, slot: u64) {
        if let Some((parent, offset)) = layout.parent.zip(layout.offset) {
            self.put(node, parent, above.0);
            self.put(node, offset, slot);
        }
    }

    fn count(&mut self, layout: &XaNode, node: KernelVa, by: i64) -> u64 {
        let count = self.get(node, layout.count).wrapping_add_signed(by);
        self.put(node, layout.count, count);
        count
    }

    /// Stores `entry` at `index` of the tree with its root pointer at `head`. New nodes are
    /// complete before the tree leads to them.
    pub(crate) fn tree_store(&mut self, layout: &XaNode, head: KernelVa, index: u64, entry: u64) {
        if self.word(head) == 0 {
            let node = self.new_node(layout, 0);
            self.put_word(head, node.0 | 2);
        }
        let mut node = self.tree_root(head);
        let mut shift = self.get(node, layout.shift) as u32;
        while index >> (shift + CHUNK_BITS) != 0 {
            shift += CHUNK_BITS;
            let above = self.new_node(layout, shift);
            self.set_parent(layout, node, above, 0);
            self.put_word(above.plus(layout.slots.offset.into()), node.0 | 2);
            self.count(layout, above, 1);
            self.put_word(head, above.0 | 2);
            node = above;
        }
        while shift > 0 {
            let slot = Self::node_slot(layout, node, index, shift);
            shift -= CHUNK_BITS;
            node = if let Slot::Node(below) = xarray::slot(self.word(slot)) {
                below
            } else {
                let below = self.new_node(layout, shift);
                self.set_parent(layout, below, node, index >> (shift + CHUNK_BITS) & 63);
                self.put_word(slot, below.0 | 2);
                self.count(layout, node, 1);
                below
            };
        }
        let slot = Self::node_slot(layout, node, index, 0);
        if self.word(slot) == 0 {
            self.count(layout, node, 1);
        }
        self.put_word(slot, entry);
    }

    /// Removes the entry at `index`, and the nodes that hold nothing any more.
    pub(crate) fn tree_erase(&mut self, layout: &XaNode, head: KernelVa, index: u64) {
        let mut path = Vec::new();
        let mut node = self.tree_root(head);
        loop {
            let shift = self.get(node, layout.shift) as u32;
            let slot = Self::node_slot(layout, node, index, shift);
            path.push((node, slot));
            match xarray::slot(self.word(slot)) {
                Slot::Node(below) if shift > 0 => node = below,
                _ => break,
            }
        }
        while let Some((node, slot)) = path.pop() {
            self.put_word(slot, 0);
            if self.count(layout, node, -1) > 0 || path.is_empty() {
                break;
            }
            self.release(node, layout.size);
        }
    }

    fn tree_root(&self, head: KernelVa) -> KernelVa {
        match xarray::slot(self.word(head)) {
            Slot::Node(node) => node,
            _ => panic!("a tree of this machine has a node at its root"),
        }
    }
}
