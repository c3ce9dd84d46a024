//! The radix tree behind IDRs (include/linux/xarray.h, include/linux/idr.h).

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct idr` (include/linux/idr.h).
    pub struct Idr("idr") {
        /// The tree's root pointer. Since v4.20 an xarray; `radix_tree_root` is the same by a `#define`.
        xa_head: ["idr_rt.xa_head"],
        /// Next number to be tried.
        idr_next: ["idr_next"],
    }
}

crate::layout! {
    /// `struct xa_node` (include/linux/xarray.h).
    pub struct XaNode("xa_node") {
        /// Bits of the index below this node's: zero at a leaf.
        shift: ["shift"],
        /// How many slots are in use.
        count: ["count"],
        /// 64 children or entries (16 with `CONFIG_BASE_SMALL`).
        slots: ["slots"],
    }
}

/// Deepest tree of 64-bit indexes with 64 slots a node.
pub const DEPTH_MAX: u32 = 11;

/// What a slot holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Slot {
    /// Nothing, or an internal entry that means nothing here.
    Empty,
    /// A node further down.
    Node(KernelVa),
    /// What the tree is for.
    Entry(KernelVa),
}

/// Tells a slot's pointer apart: the low bits 10 mark an internal entry (`xa_is_internal`), which is a
/// node when it is beyond 4096 (`xa_is_node`).
pub const fn slot(pointer: u64) -> Slot {
    match pointer & 3 {
        2 if pointer > 4096 => Slot::Node(KernelVa(pointer - 2)),
        0 if pointer != 0 => Slot::Entry(KernelVa(pointer)),
        _ => Slot::Empty,
    }
}

/// Calls `each` with every child or entry of the packed node.
pub fn for_each_slot(layout: &XaNode, bytes: &[u8], mut each: impl FnMut(usize, Slot)) {
    let view = View::new(bytes);
    for index in 0..(layout.slots.size / 8) as usize {
        match slot(view.u64_at(layout.slots, index)) {
            Slot::Empty => {}
            found => each(index, found),
        }
    }
}
