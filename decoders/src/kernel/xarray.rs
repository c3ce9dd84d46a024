//! The radix tree behind IDRs and the page cache (include/linux/xarray.h, include/linux/idr.h).

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct idr` (include/linux/idr.h).
    pub struct Idr("idr") {
        /// The tree's root pointer. An xarray since v4.20; `radix_tree_root` is a `#define` of the
        /// same.
        xa_head: ["idr_rt.xa_head"],
        /// Next number to try.
        idr_next: ["idr_next"],
    }
}

crate::layout! {
    /// `struct xa_node` (include/linux/xarray.h).
    pub struct XaNode("xa_node") {
        /// Number of index bits below this node: zero at a leaf.
        shift: ["shift"],
        /// 64 children or entries (16 with `CONFIG_BASE_SMALL`).
        slots: ["slots"],
    }
}

crate::layout! {
    /// A node as one of its tree.
    pub struct XaNodeTree("xa_node") {
        /// Number of index bits below this node: zero at a leaf.
        shift: ["shift"],
        /// Number of slots in use.
        count: ["count"],
        /// The slot of the node above that leads to this one; zero for the root.
        offset?: ["offset"],
        /// The node above; null for the root.
        parent?: ["parent"],
        /// The tree: `struct xarray *`.
        array?: ["array"],
        /// Bits of each slot, by their kind; of an IDR, the first are [`is_free`]'s.
        tags?: ["tags"],
    }
}

/// Whether a slot of a leaf of an IDR is free, by the first of its words of tags: `IDR_FREE`
/// (include/linux/idr.h). A slot that is neither free nor has an entry is reserved for one
/// (`alloc_pid`, kernel/pid.c).
pub const fn is_free(tags: u64, slot: u32) -> bool {
    tags >> (slot & 63) & 1 != 0
}

/// Maximum depth of a tree of 64-bit indexes with 64 slots a node.
pub const XARRAY_DEPTH_MAX: u32 = 11;
const _: () = assert!(XARRAY_DEPTH_MAX == u64::BITS.div_ceil(6), "a level decides six bits");

/// What a slot holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum XaSlot {
    /// Nothing, or an entry that is neither a node nor a pointer.
    Empty,
    /// A node further down.
    Node(KernelVa),
    /// A stored entry.
    Entry(KernelVa),
}

/// Decodes a slot's pointer: low bits 10 mark an internal entry (`xa_is_internal`), which is a node
/// if it is above 4096 (`xa_is_node`).
pub const fn slot(pointer: u64) -> XaSlot {
    match pointer & 3 {
        2 if pointer > 4096 => XaSlot::Node(KernelVa(pointer - 2)),
        0 if pointer != 0 => XaSlot::Entry(KernelVa(pointer)),
        _ => XaSlot::Empty,
    }
}

/// Calls `each` with the index of every child or entry of the packed node.
pub fn for_each_slot(layout: &XaNode, bytes: &[u8], mut each: impl FnMut(usize, XaSlot)) {
    let view = View::new(bytes);
    for index in 0..(layout.slots.size / 8) as usize {
        match slot(view.u64_at(layout.slots, index)) {
            XaSlot::Empty => {}
            found => each(index, found),
        }
    }
}

/// What a slot of a page cache's tree holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CacheSlot {
    #[default]
    Empty,
    /// A node further down.
    Node(KernelVa),
    /// The `struct page` of a head page.
    Page(KernelVa),
    /// Part of an entry of several slots, which is in this slot of the same node (`xa_is_sibling`).
    Sibling(usize),
    /// No page: a shadow of an evicted page, a swap entry, a page of a device (`xa_is_value`), or a
    /// placeholder during a change of the tree.
    Gone,
}

/// Largest internal entry that is a sibling: `xa_mk_sibling(XA_CHUNK_SIZE - 2)`.
const SIBLING_MAX: u64 = 62 << 2 | 2;

/// Decodes a slot of a page cache's tree (`xa_is_value`, `xa_is_sibling`, `xa_is_node`).
pub const fn cache_slot(pointer: u64) -> CacheSlot {
    match pointer & 3 {
        0 if pointer == 0 => CacheSlot::Empty,
        0 => CacheSlot::Page(KernelVa(pointer)),
        2 if pointer <= SIBLING_MAX => CacheSlot::Sibling((pointer >> 2) as usize),
        2 if pointer > 4096 => CacheSlot::Node(KernelVa(pointer - 2)),
        _ => CacheSlot::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_a_page_cache_are_classified() {
        assert_eq!(cache_slot(0), CacheSlot::Empty);
        assert_eq!(
            cache_slot(0xffff_ea00_0000_0040),
            CacheSlot::Page(KernelVa(0xffff_ea00_0000_0040))
        );
        assert_eq!(
            cache_slot(0xffff_8880_0000_0002),
            CacheSlot::Node(KernelVa(0xffff_8880_0000_0000))
        );
        assert_eq!(cache_slot(2), CacheSlot::Sibling(0));
        assert_eq!(cache_slot(62 << 2 | 2), CacheSlot::Sibling(62));
        // XA_RETRY_ENTRY, XA_ZERO_ENTRY, an error, a value.
        for pointer in [256 << 2 | 2, 257 << 2 | 2, 63 << 2 | 2, 0x1234_5671, 0x1234_5673] {
            assert_eq!(cache_slot(pointer), CacheSlot::Gone, "{pointer:#x}");
        }
    }
}
