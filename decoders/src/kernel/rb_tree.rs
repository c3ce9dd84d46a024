//! `struct rb_node` (include/linux/rbtree_types.h): a node of a red-black tree.

use crate::address::KernelVa;
use crate::layout::{PackedField, u64_at};

crate::layout! {
    /// `struct rb_node` (include/linux/rbtree_types.h).
    pub struct RbNode("rb_node") {
        /// `struct rb_node *` above it, with its colour in the lowest bits.
        parent_color: ["__rb_parent_color"],
        right: ["rb_right"],
        left: ["rb_left"],
    }
}

/// The decoded fields of a `struct rb_node`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RbLinks {
    /// Null for the root.
    pub parent: KernelVa,
    pub children: [KernelVa; 2],
}

impl RbLinks {
    /// Decodes a node that is a part of another structure, so it is not packed.
    pub fn decode(layout: &RbNode, bytes: &[u8]) -> Self {
        let pointer = |field: PackedField| u64_at(bytes, field.offset as usize);
        Self {
            parent: KernelVa(pointer(layout.parent_color) & !3),
            children: [layout.left, layout.right].map(|field| KernelVa(pointer(field))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_is_no_part_of_the_parent() {
        let field = |offset| PackedField { offset, size: 8, packed: 0 };
        let layout = RbNode {
            size: 24,
            parent_color: field(0),
            right: field(8),
            left: field(16),
            ..RbNode::default()
        };
        let mut bytes = [0; 24];
        bytes[..2].copy_from_slice(&[0x41, 2]);
        bytes[8] = 7;
        bytes[16] = 8;
        let links = RbLinks::decode(&layout, &bytes);
        assert_eq!(links.parent, KernelVa(0x240));
        assert_eq!(links.children, [KernelVa(8), KernelVa(7)]);
        assert_eq!(RbLinks::decode(&layout, &bytes[..10]).children, [KernelVa::NULL; 2]);
    }
}
