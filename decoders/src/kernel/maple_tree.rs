//! The maple tree (include/linux/maple_tree.h, lib/maple_tree.c): it holds the areas of an address
//! space since v6.1.

use crate::address::KernelVa;
use crate::early_stop::EarlyStop;
use crate::layout::View;

crate::layout! {
    /// `struct maple_node`: 256 bytes, in one of four formats.
    pub struct MapleNode("maple_node") {
        /// Upper ends of the ranges of a `range_64` or `leaf_64` node.
        range_pivot: ["mr64.pivot"],
        /// Its children or entries.
        range_slot: ["mr64.slot"],
        /// Upper ends of the ranges of an `arange_64` node.
        arange_pivot: ["ma64.pivot"],
        /// Its children.
        arange_slot: ["ma64.slot"],
        /// Parent, and the slot of this node in it.
        parent: ["parent"],
    }
}

/// `enum maple_type` (include/linux/maple_tree.h).
const MAPLE_LEAF_64: u64 = 1;
const MAPLE_RANGE_64: u64 = 2;
const MAPLE_ARANGE_64: u64 = 3;

/// Maximum depth of a tree of 64-bit keys with ten children a node (`MAPLE_HEIGHT_MAX` is 31).
pub const MAPLE_DEPTH_MAX: u32 = 31;

/// A pointer to a node, with the node's type in the low bits (`mte_node_type`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Enode(pub u64);

/// What a slot or a root holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MapleEntry {
    /// Nothing, or not a pointer.
    Empty,
    /// A node further down.
    Node(Enode),
    /// A stored value: here a `vm_area_struct`.
    Value(KernelVa),
}

impl Enode {
    /// `mte_to_node`: nodes are aligned to 256 bytes.
    pub const fn address(self) -> KernelVa {
        KernelVa(self.0 & !0xff)
    }

    /// `mte_node_type`: bits 3 to 6.
    const fn kind(self) -> u64 {
        (self.0 >> 3) & 0xf
    }

    /// `mte_is_leaf`.
    pub const fn is_leaf(self) -> bool {
        self.kind() < MAPLE_RANGE_64
    }
}

/// Decodes the root pointer of a tree: a node (`xa_is_node`: low bits 10, above 4096), one value,
/// or nothing.
pub const fn root(pointer: u64) -> MapleEntry {
    match pointer {
        0 => MapleEntry::Empty,
        node if node & 3 == 2 && node > 4096 => MapleEntry::Node(Enode(node)),
        value if value & 3 == 0 => MapleEntry::Value(KernelVa(value)),
        _ => MapleEntry::Empty,
    }
}

/// Calls `each` with every child or value of a node, in order, and the upper end of its range.
/// `bytes` is the packed copy of the node, which covers the keys up to `max`. Slots after the last
/// one in use may hold leftovers: the pivots show where to stop (`ma_data_end`).
///
/// # Errors
/// [`EarlyStop::Unreadable`] if the node has none of the formats that this tree uses. `each` is not
/// called then.
pub fn for_each_entry(
    layout: &MapleNode,
    node: Enode,
    bytes: &[u8],
    max: u64,
    mut each: impl FnMut(MapleEntry, u64),
) -> Result<(), EarlyStop> {
    let (pivot, slot) = match node.kind() {
        MAPLE_LEAF_64 | MAPLE_RANGE_64 => (layout.range_pivot, layout.range_slot),
        MAPLE_ARANGE_64 => (layout.arange_pivot, layout.arange_slot),
        _ => return Err(EarlyStop::Unreadable { address: node.address() }),
    };
    let view = View::new(bytes);
    let pivots = (pivot.size / 8) as usize;
    let slots = (slot.size / 8) as usize;
    let mut previous = 0;
    for index in 0..slots {
        let end = if index < pivots { view.u64_at(pivot, index) } else { max };
        // A pivot of zero after the first slot marks the end: the slot reaches `max`.
        let end = if end == 0 && index > 0 { max } else { end.min(max) };
        if index > 0 && previous >= max {
            break;
        }
        previous = end;
        let pointer = view.u64_at(slot, index);
        if node.is_leaf() {
            if pointer != 0 && pointer & 3 == 0 {
                each(MapleEntry::Value(KernelVa(pointer)), end);
            }
        } else if pointer != 0 {
            each(MapleEntry::Node(Enode(pointer)), end);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::PackedField;

    fn layout() -> MapleNode {
        MapleNode {
            size: 256,
            parent: PackedField { offset: 0, size: 8, packed: 0 },
            range_pivot: PackedField { offset: 8, size: 120, packed: 8 },
            range_slot: PackedField { offset: 128, size: 128, packed: 128 },
            arange_pivot: PackedField { offset: 8, size: 72, packed: 8 },
            arange_slot: PackedField { offset: 80, size: 80, packed: 80 },
            ..MapleNode::default()
        }
    }

    #[test]
    fn a_leaf_returns_its_values_and_stops_where_its_pivots_end() {
        let mut bytes = [0u8; 256];
        let mut put = |offset: usize, value: u64| {
            bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
        };
        put(8, 0xfff);
        put(16, 0x1fff);
        // Pivot 2 is zero: slot 2 reaches `max`, and slot 3 is a leftover.
        put(128 + 8, 0xffff_8880_0000_1000);
        put(128 + 16, 0xffff_8880_0000_2000);
        put(128 + 24, 0xffff_8880_dead_0000);
        let mut seen = std::vec::Vec::new();
        let leaf = Enode(0xffff_8880_0000_0000 | (MAPLE_LEAF_64 << 3) | 4);
        let each = |entry, end| seen.push((entry, end));
        assert_eq!(for_each_entry(&layout(), leaf, &bytes, u64::MAX, each), Ok(()));
        assert_eq!(
            seen,
            [
                (MapleEntry::Value(KernelVa(0xffff_8880_0000_1000)), 0x1fff),
                (MapleEntry::Value(KernelVa(0xffff_8880_0000_2000)), u64::MAX),
            ]
        );
    }

    #[test]
    fn a_node_of_another_format_is_unreadable() {
        let node = Enode(0xffff_8880_0000_1000 | 4 << 3);
        let stop = EarlyStop::Unreadable { address: KernelVa(0xffff_8880_0000_1000) };
        let mut entries = 0;
        let end = for_each_entry(&layout(), node, &[0xff; 256], u64::MAX, |_, _| entries += 1);
        assert_eq!((end, entries), (Err(stop), 0));
    }

    #[test]
    fn roots_are_classified() {
        assert_eq!(root(0), MapleEntry::Empty);
        assert_eq!(root(0xffff_8880_0000_0000), MapleEntry::Value(KernelVa(0xffff_8880_0000_0000)));
        assert!(matches!(root(0xffff_8880_0000_001e), MapleEntry::Node(_)));
    }
}
