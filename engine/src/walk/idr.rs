//! The entries of an IDR (include/linux/idr.h), level by level.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::layout::View;
use panoptes_tables::Insertion;

use super::losses::WalkedStructure;
use super::{ScannedMemory, WalkScratch, Walker, fetch};

/// An IDR, as what its parts are counted if they cannot be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdrKind {
    pub(super) node: WalkedStructure,
    pub(super) tree: WalkedStructure,
}

impl Walker {
    /// Lists the entries of the IDR with this root in `scratch.pids`, in the order of their
    /// numbers; `nodes` is the frontier. Returns whether the tree was read completely.
    pub(super) fn find_entries(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        head: u64,
        nodes: &mut Vec<KernelVa>,
        kind: IdrKind,
    ) -> bool {
        let WalkScratch { pids: entries, more: children, .. } = &mut self.scratch;
        entries.clear();
        match xarray::slot(head) {
            XaSlot::Node(node) => nodes.push(node),
            XaSlot::Entry(entry) => entries.push(entry),
            XaSlot::Empty => {}
        }
        let layout = &memory.kernel.layouts.xa_node;
        let (visited, losses) = (&mut self.visited, &mut self.snapshot.losses);
        let mut whole = true;
        visited.clear();
        for _ in 0..xarray::XARRAY_DEPTH_MAX {
            if nodes.is_empty() {
                break;
            }
            children.clear();
            fetch(&mut self.reader, memory, &layout.packing, nodes, |index, bytes| {
                let Some(bytes) = bytes else {
                    losses.miss(kind.node, nodes[index]);
                    whole = false;
                    return;
                };
                let leaf = View::new(bytes).unsigned(layout.shift) == 0;
                xarray::for_each_slot(layout, bytes, |_, slot| {
                    let (address, list) = match slot {
                        XaSlot::Node(address) if !leaf => (address, &mut *children),
                        XaSlot::Entry(address) if leaf => (address, &mut *entries),
                        XaSlot::Node(address) | XaSlot::Entry(address) => {
                            losses.miss(kind.tree, address);
                            return;
                        }
                        XaSlot::Empty => return,
                    };
                    if !address.is_plausible() {
                        losses.miss(kind.tree, address);
                        return;
                    }
                    let stop = match visited.insert(address.0, 0) {
                        Insertion::New if list.len() < list.capacity() => {
                            list.push(address);
                            return;
                        }
                        Insertion::New => EarlyStop::NoRoom { rows: list.capacity() as u32 },
                        Insertion::Old(_) => EarlyStop::Loop { address },
                        Insertion::Full => EarlyStop::NoRoom { rows: visited.len() as u32 },
                    };
                    whole &= matches!(stop, EarlyStop::Loop { .. });
                    losses.stop(kind.tree, stop);
                });
            });
            nodes.clear();
            mem::swap(nodes, children);
        }
        if !nodes.is_empty() {
            whole = false;
            let stop = EarlyStop::TooLong { limit: xarray::XARRAY_DEPTH_MAX };
            losses.stop(kind.tree, stop);
        }
        whole
    }
}
