//! Looks up an index in the tree of a file's pages: the xarray `i_pages`, node by node.
//!
//! The nodes on the path to the last index are kept, so that continuing from there reads one node
//! for every 64 pages. Each node's shift must be its parent's less one level, so that no path is
//! longer than eleven nodes, whatever the memory contains.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::xarray::{CacheSlot, XARRAY_DEPTH_MAX, XaNode, cache_slot};
use panoptes_decoders::layout::View;
use panoptes_tables::room;

use super::memory::KernelMemory;

/// Maximum number of slots of a node (`XA_CHUNK_SIZE`).
pub(super) const SLOTS_MAX: usize = 64;

/// The entry at an index.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PageTreeEntry {
    /// [`CacheSlot::Empty`], [`CacheSlot::Page`] or [`CacheSlot::Gone`].
    pub(super) slot: CacheSlot,
    /// The first index after this one that the entry does not cover.
    pub(super) end: u64,
    /// Whether the entry covers this index alone.
    pub(super) single: bool,
}

/// A copy of a node.
#[derive(Clone, Copy, Debug)]
struct PageTreeNode {
    address: KernelVa,
    shift: u32,
    slots: [u64; SLOTS_MAX],
}

/// The path to an index in one file's tree.
#[derive(Debug)]
pub(super) struct PageTreeCursor {
    head: u64,
    nodes: Vec<PageTreeNode>,
}

impl PageTreeCursor {
    /// Allocates for the deepest tree.
    pub(super) fn new() -> Self {
        Self { head: 0, nodes: room::list(XARRAY_DEPTH_MAX as usize) }
    }

    /// Switches to another tree, or reads the same one again.
    pub(super) fn begin(&mut self, head: u64) {
        self.head = head;
        self.nodes.clear();
    }

    /// Finds the entry at an index. An error is the reason that a node on the way to it ends the
    /// search.
    pub(super) fn find(
        &mut self,
        memory: &mut KernelMemory<'_>,
        index: u64,
    ) -> Result<PageTreeEntry, EarlyStop> {
        let unknown = EarlyStop::Unreadable { address: KernelVa(self.head) };
        let bits = slot_bits(&memory.kernel.layouts.xa_node).ok_or(unknown)?;
        let mut next = match cache_slot(self.head) {
            CacheSlot::Node(address) => address,
            // Without a node the head is the entry at index 0.
            slot if index == 0 => {
                return Ok(PageTreeEntry { slot: alone(slot), end: 1, single: true });
            }
            _ => return Ok(PageTreeEntry { slot: CacheSlot::Empty, end: u64::MAX, single: false }),
        };
        for depth in 0..XARRAY_DEPTH_MAX as usize {
            let kept = self.nodes.get(depth).is_some_and(|node| node.address == next);
            if !kept {
                self.nodes.truncate(depth);
                let above = depth.checked_sub(1).and_then(|above| self.nodes.get(above));
                let node = read(memory, next)?;
                let fits = match above {
                    Some(above) => node.shift + bits == above.shift,
                    None => node.shift.is_multiple_of(bits) && node.shift + bits <= 66,
                };
                if !fits {
                    return Err(EarlyStop::Unreadable { address: next });
                }
                self.nodes.push(node);
            }
            let node = &self.nodes[depth];
            let here = index >> node.shift;
            if depth == 0 && here >> bits != 0 {
                return Ok(PageTreeEntry { slot: CacheSlot::Empty, end: u64::MAX, single: false });
            }
            let at = (here & ((1 << bits) - 1)) as usize;
            let end = (here + 1).checked_shl(node.shift).filter(|&end| end > index);
            let end = end.unwrap_or(u64::MAX);
            match node.slot(at) {
                CacheSlot::Node(below) if node.shift > 0 => next = below,
                CacheSlot::Sibling(first) if first < at => {
                    let slot = match node.slot(first) {
                        CacheSlot::Page(page) => CacheSlot::Page(page),
                        _ => CacheSlot::Gone,
                    };
                    return Ok(PageTreeEntry { slot, end, single: false });
                }
                CacheSlot::Node(_) | CacheSlot::Sibling(_) => {
                    return Err(EarlyStop::Unreadable { address: node.address });
                }
                slot => {
                    let is_wide = node.shift > 0 || node.slot(at + 1) == CacheSlot::Sibling(at);
                    return Ok(PageTreeEntry { slot, end, single: !is_wide });
                }
            }
        }
        Err(EarlyStop::TooLong { limit: XARRAY_DEPTH_MAX })
    }
}

/// The entry of a tree that has only one.
const fn alone(slot: CacheSlot) -> CacheSlot {
    match slot {
        CacheSlot::Sibling(_) => CacheSlot::Gone,
        slot => slot,
    }
}

impl PageTreeNode {
    fn slot(&self, at: usize) -> CacheSlot {
        self.slots.get(at).map_or(CacheSlot::Empty, |&pointer| cache_slot(pointer))
    }
}

/// `XA_CHUNK_SHIFT`: 6, or 4 with `CONFIG_BASE_SMALL`. `None` if nodes have another size.
const fn slot_bits(layout: &XaNode) -> Option<u32> {
    match layout.slots.size / 8 {
        64 => Some(6),
        16 => Some(4),
        _ => None,
    }
}

fn read(memory: &mut KernelMemory<'_>, address: KernelVa) -> Result<PageTreeNode, EarlyStop> {
    let layout = &memory.kernel.layouts.xa_node;
    let unreadable = EarlyStop::Unreadable { address };
    let view = View::new(memory.object(address, &layout.packing).ok_or(unreadable)?);
    let mut slots = [0; SLOTS_MAX];
    let count = (layout.slots.size / 8) as usize;
    for (at, slot) in slots.iter_mut().enumerate().take(count) {
        *slot = view.u64_at(layout.slots, at);
    }
    let shift = view.unsigned(layout.shift) as u32;
    if shift >= u64::BITS { Err(unreadable) } else { Ok(PageTreeNode { address, shift, slots }) }
}
