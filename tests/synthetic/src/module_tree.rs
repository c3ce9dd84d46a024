//! The tree of the addresses of modules (kernel/module/tree_lookup.c), and where their areas are.
//!
//! It is a latch tree (include/linux/rbtree_latch.h): two red-black trees, of which one is whole
//! while the other one changes. A counter that goes up before each change says which. The trees
//! here are never rebalanced, and all their nodes are black. Areas lie where the tree stays low.

use std::collections::VecDeque;

use panoptes_decoders::address::KernelVa;

use crate::machine::Machine;
use crate::memory::Memory;

/// `MODULES_VADDR` (arch/x86/include/asm/pgtable_64_types.h).
const MODULES: u64 = 0xffff_ffff_c000_0000;
/// Each area has so many bytes for itself; at least the last page is not used.
pub(crate) const SLOT_BYTES: u64 = 128 << 10;
/// Slots below `MODULES_END`.
const SLOTS: u64 = (1008 << 20) / SLOT_BYTES;
const SLOT_BITS: u32 = 13;
/// A place is used again when so many others were freed after it: the kernel purges freed areas
/// together (`lazy_max_pages`, mm/vmalloc.c).
const LAZY_SLOTS: usize = 24;
const _: () = assert!(SLOTS <= 1 << SLOT_BITS, "each slot has a number");
/// `RB_BLACK` (include/linux/rbtree_augmented.h).
const BLACK: u64 = 1;

/// The places for areas of modules.
#[derive(Debug, Default)]
pub(crate) struct AreaSlots {
    taken: u16,
    /// Those that were freed, the oldest first.
    free: VecDeque<KernelVa>,
}

impl AreaSlots {
    /// Address of a free place. New ones halve the largest gaps, so that a tree of them is low
    /// without being rebalanced.
    pub(crate) fn take(&mut self) -> KernelVa {
        if self.free.len() > LAZY_SLOTS
            && let Some(slot) = self.free.pop_front()
        {
            return slot;
        }
        loop {
            assert!(self.taken < 1 << SLOT_BITS, "there is no room for another module");
            let slot = u64::from(self.taken.reverse_bits() >> (u16::BITS - SLOT_BITS));
            self.taken += 1;
            if slot < SLOTS {
                return KernelVa(MODULES + slot * SLOT_BYTES);
            }
        }
    }

    pub(crate) fn give_back(&mut self, slot: KernelVa) {
        self.free.push_back(slot);
    }
}

/// Where the fields of one half of the tree are.
#[derive(Clone, Copy, Debug)]
struct TreeHalf {
    /// The pointer to the root.
    root: KernelVa,
    /// Distance from the part of a module to its node here.
    node: u64,
    /// The same to the address that orders the parts.
    key: u64,
    parent: u64,
    left: u64,
    right: u64,
}

impl Machine {
    /// Both halves, if the kernel has the tree.
    fn tree_halves(&self) -> Option<[TreeHalf; 2]> {
        let layouts = &self.kernel.layouts;
        let (tree, root) = (layouts.mod_tree_root?.tree?, self.kernel.find("mod_tree")?);
        let (entry, rb) = (layouts.mod_tree_node?, layouts.rb_node?);
        let (base, mtn) = match (layouts.module_memory, layouts.module_layout) {
            (Some(memory), _) => (memory.base, memory.mtn?),
            (None, Some(layout)) => (layout.base, layout.mtn?),
            (None, None) => return None,
        };
        let nodes = u64::from(mtn.offset + entry.node.offset);
        Some([0, 1].map(|half| TreeHalf {
            root: root.plus(u64::from(tree.offset) + half * 8),
            node: nodes + half * u64::from(rb.size),
            key: base.offset.into(),
            parent: rb.parent_color.offset.into(),
            left: rb.left.offset.into(),
            right: rb.right.offset.into(),
        }))
    }

    /// `raw_write_seqcount_latch`: readers change over to the other half.
    fn change_over(&mut self) {
        let sequence = self.kernel.layouts.mod_tree_root.and_then(|tree| tree.seq);
        if let (Some(root), Some(sequence)) = (self.kernel.find("mod_tree"), sequence) {
            let before = self.memory.get(root, sequence);
            self.memory.put(root, sequence, before.wrapping_add(1));
        }
    }

    /// `__mod_tree_insert`: adds a part of a module.
    pub(crate) fn tree_insert(&mut self, part: KernelVa, module: KernelVa) {
        let Some(halves) = self.tree_halves() else { return };
        let layouts = self.layouts();
        if let Some(entry) = layouts.mod_tree_node {
            let node = halves[0].node - u64::from(entry.node.offset);
            self.memory.point(part.plus(node), entry.module, module);
        }
        for half in &halves {
            self.change_over();
            self.memory.half_insert(half, part.plus(half.node));
        }
    }

    /// `__mod_tree_remove`: removes a part of a module.
    pub(crate) fn tree_remove(&mut self, part: KernelVa) {
        for half in self.tree_halves().iter().flatten() {
            self.change_over();
            self.memory.half_remove(half, part.plus(half.node));
        }
    }

    /// Removes a part without a word to readers, as an attacker does.
    pub(crate) fn tree_cut(&mut self, part: KernelVa) {
        for half in self.tree_halves().iter().flatten() {
            self.memory.half_remove(half, part.plus(half.node));
        }
    }
}

impl Memory {
    /// The address by which a node is ordered.
    fn key_of(&self, half: &TreeHalf, node: KernelVa) -> u64 {
        self.word(KernelVa(node.0 - half.node + half.key))
    }

    /// `rb_link_node_rcu`: the node is complete before the tree leads to it.
    fn half_insert(&mut self, half: &TreeHalf, node: KernelVa) {
        let key = self.key_of(half, node);
        let (mut parent, mut link) = (KernelVa::NULL, half.root);
        loop {
            let next = KernelVa(self.word(link));
            if next.is_null() {
                break;
            }
            parent = next;
            let is_left = key < self.key_of(half, next);
            link = next.plus(if is_left { half.left } else { half.right });
        }
        self.put_word(node.plus(half.parent), parent.0 | BLACK);
        self.put_word(node.plus(half.left), 0);
        self.put_word(node.plus(half.right), 0);
        self.put_word(link, node.0);
    }

    fn set_tree_parent(&mut self, half: &TreeHalf, node: KernelVa, parent: KernelVa) {
        if !node.is_null() {
            self.put_word(node.plus(half.parent), parent.0 | BLACK);
        }
    }

    /// The pointer that leads to a node.
    fn link_to(&self, half: &TreeHalf, node: KernelVa) -> KernelVa {
        let parent = KernelVa(self.word(node.plus(half.parent)) & !3);
        if parent.is_null() {
            return half.root;
        }
        let left = parent.plus(half.left);
        if self.word(left) == node.0 { left } else { parent.plus(half.right) }
    }

    /// `rb_erase`: a node with two children is replaced by the next one.
    fn half_remove(&mut self, half: &TreeHalf, node: KernelVa) {
        let [left, right, parent] =
            [half.left, half.right, half.parent].map(|at| KernelVa(self.word(node.plus(at)) & !3));
        let link = self.link_to(half, node);
        if left.is_null() || right.is_null() {
            let child = if left.is_null() { right } else { left };
            self.put_word(link, child.0);
            self.set_tree_parent(half, child, parent);
            return;
        }
        let mut next = right;
        loop {
            let before = KernelVa(self.word(next.plus(half.left)));
            if before.is_null() {
                break;
            }
            next = before;
        }
        if next != right {
            let above = KernelVa(self.word(next.plus(half.parent)) & !3);
            let behind = KernelVa(self.word(next.plus(half.right)));
            self.put_word(above.plus(half.left), behind.0);
            self.put_word(next.plus(half.right), right.0);
            self.set_tree_parent(half, right, next);
            self.set_tree_parent(half, behind, above);
        }
        self.put_word(next.plus(half.left), left.0);
        self.set_tree_parent(half, left, next);
        self.put_word(link, next.0);
        self.set_tree_parent(half, next, parent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    const NODES: u64 = 200;

    fn half(root: KernelVa) -> TreeHalf {
        TreeHalf { root, node: 8, key: 0, parent: 0, right: 8, left: 16 }
    }

    /// The keys in their order, and the depth of the tree.
    fn walk(memory: &Memory, half: &TreeHalf, at: KernelVa, keys: &mut Vec<u64>) -> usize {
        if at.is_null() {
            return 0;
        }
        let [left, right] =
            [half.left, half.right].map(|child| KernelVa(memory.word(at.plus(child))));
        for child in [left, right].into_iter().filter(|child| !child.is_null()) {
            assert_eq!(memory.word(child.plus(half.parent)), at.0 | BLACK);
        }
        let before = walk(memory, half, left, keys);
        keys.push(memory.key_of(half, at));
        before.max(walk(memory, half, right, keys)) + 1
    }

    #[test]
    fn the_tree_has_what_was_added_and_not_removed_and_stays_low() {
        let mut memory = Memory::new(64 << 20, 0xffff_ffff_8100_0000..0xffff_ffff_8200_0000);
        let half = half(memory.allocate(8));
        let (mut slots, mut random) = (AreaSlots::default(), Random::new(7));
        let mut parts: Vec<(u64, KernelVa)> = Vec::new();
        for round in 0..NODES * 3 {
            if round >= NODES && round % 3 != 0 {
                let index = random.below(parts.len() as u64) as usize;
                let (key, part) = parts.swap_remove(index);
                memory.half_remove(&half, part.plus(half.node));
                slots.give_back(KernelVa(key));
            } else {
                let (slot, part) = (slots.take(), memory.allocate(32));
                memory.put_word(part, slot.0);
                memory.half_insert(&half, part.plus(half.node));
                parts.push((slot.0, part));
            }
            let mut expected: Vec<u64> = parts.iter().map(|(key, _)| *key).collect();
            expected.sort_unstable();
            let (mut keys, root) = (Vec::new(), KernelVa(memory.word(half.root)));
            let depth = walk(&memory, &half, root, &mut keys);
            assert_eq!(keys, expected);
            assert!(depth < 32, "{depth}");
        }
    }

    #[test]
    fn a_new_place_is_far_from_the_last_ones() {
        let mut slots = AreaSlots::default();
        let mut taken: Vec<u64> = (0..64).map(|_| slots.take().0).collect();
        taken.sort_unstable();
        assert!(taken.windows(2).all(|two| two[1] - two[0] >= 8 << 20), "{taken:x?}");
        for &slot in &taken[..=LAZY_SLOTS] {
            assert_ne!(slots.take().0, taken[0]);
            slots.give_back(KernelVa(slot));
        }
        assert_eq!(slots.take().0, taken[0]);
    }
}
