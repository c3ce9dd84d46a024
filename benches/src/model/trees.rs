//! The objects that only trees and tables lead to: nodes, areas, `struct pid`, buckets.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::inet_hashinfo::{
    EHASH_BUCKET_BYTES, EHASH_BUCKETS_MAX, LHASH2_BUCKETS_MAX,
};
use panoptes_decoders::kernel::maple_tree::{self, MapleEntry};
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::layout::View;

use super::{Survey, distinct};

impl Survey<'_> {
    /// The tree of all `struct pid`, and these.
    pub(super) fn pid_tree(&mut self) {
        let (layouts, roots) = (&self.kernel.layouts, &self.kernel.roots);
        let (mut nodes, mut pids) = (Vec::new(), Vec::new());
        match xarray::slot(self.pointer(roots.init_pid_ns.plus(layouts.pid_idr_root()))) {
            XaSlot::Node(node) => nodes.push(node),
            XaSlot::Entry(pid) => pids.push(pid),
            XaSlot::Empty => {}
        }
        self.begin("xa_node");
        let layout = &layouts.xa_node;
        while let Some(node) = nodes.pop() {
            let Some(bytes) = self.packed(node, &layout.packing) else { continue };
            self.count();
            self.want(node.plus(layout.shift.offset.into()), layout.shift.size.into());
            for span in layout.packing.spans() {
                self.fetch(node.plus(span.offset.into()), span.length.into());
            }
            xarray::for_each_slot(layout, &bytes, |index, slot| {
                let slot_offset = u64::from(layout.slots.offset) + index as u64 * 8;
                self.want(node.plus(slot_offset), 8);
                match slot {
                    XaSlot::Node(child) => nodes.push(child),
                    XaSlot::Entry(pid) => pids.push(pid),
                    XaSlot::Empty => {}
                }
            });
        }
        let pids = distinct(pids);
        self.begin("pid");
        for pid in pids {
            self.count();
            self.structure(&layouts.pid, pid);
            self.structure(&layouts.upid, pid.plus(layouts.pid.numbers.offset.into()));
        }
    }

    /// The trees of areas, and these.
    pub(super) fn areas(&mut self) -> Result<(), &'static str> {
        let layouts = &self.kernel.layouts;
        let Some(layout) = &layouts.maple_node else {
            return Err("the model needs a kernel that keeps areas in maple trees (6.1 or later)");
        };
        let (mut nodes, mut areas) = (Vec::new(), Vec::new());
        for mm in self.snapshot.mms.iter() {
            match maple_tree::root(mm.ma_root) {
                MapleEntry::Node(node) => nodes.push((node, u64::MAX)),
                MapleEntry::Value(area) => areas.push(area),
                MapleEntry::Empty => {}
            }
        }
        self.begin("maple_node");
        while let Some((node, max)) = nodes.pop() {
            let address = node.address();
            let Some(bytes) = self.packed(address, &layout.packing) else { continue };
            self.count();
            for span in layout.packing.spans() {
                self.fetch(address.plus(span.offset.into()), span.length.into());
            }
            let mut last = 0;
            let entries = maple_tree::for_each_entry(layout, node, &bytes, max, |entry, end| {
                match entry {
                    MapleEntry::Node(child) => nodes.push((child, end)),
                    MapleEntry::Value(area) => areas.push(area),
                    MapleEntry::Empty => {}
                }
                last = end;
            });
            entries.map_err(|_| "a node of the areas has an unknown format")?;
            self.used_entries(layout, node, &bytes, last);
        }
        self.part("vm_area_struct", &layouts.vm_area_struct, areas);
        Ok(())
    }

    /// The parent of a node, and its pivots and slots up to the one whose range ends at `last`.
    fn used_entries(
        &mut self,
        layout: &maple_tree::MapleNode,
        node: maple_tree::Enode,
        bytes: &[u8],
        last: u64,
    ) {
        // Inner nodes of these trees note gaps (`MT_FLAGS_ALLOC_RANGE`), so all are `arange_64`.
        let (pivot, slot) = if node.is_leaf() {
            (layout.range_pivot, layout.range_slot)
        } else {
            (layout.arange_pivot, layout.arange_slot)
        };
        let view = View::new(bytes);
        let pivots = (pivot.size / 8) as usize;
        let is_end = |index: &usize| {
            let pivot = view.u64_at(pivot, *index);
            pivot >= last || pivot == 0 && *index > 0
        };
        let used = (0..pivots).find(is_end);
        let used = used.unwrap_or(pivots) as u64 + 1;
        let address = node.address();
        self.want(address.plus(layout.parent.offset.into()), layout.parent.size.into());
        self.want(address.plus(pivot.offset.into()), (used * 8).min(pivot.size.into()));
        self.want(address.plus(slot.offset.into()), (used * 8).min(slot.size.into()));
    }

    /// The buckets of TCP sockets.
    pub(super) fn buckets(&mut self) {
        let layouts = &self.kernel.layouts;
        let (layout, listen) = (&layouts.inet_hashinfo, &layouts.inet_listen_hashbucket);
        let tables = distinct(self.snapshot.nets.iter().map(|net| net.hashinfo).collect());
        self.part("inet_hashinfo", layout, tables.clone());
        self.begin("hash buckets");
        for table in tables {
            let Some(bytes) = self.packed(table, &layout.packing) else { continue };
            let view = View::new(&bytes);
            let count = |mask: u64, most: u32| mask.min(u64::from(most) - 1) + 1;
            let buckets = count(view.unsigned(layout.ehash_mask), EHASH_BUCKETS_MAX);
            self.bytes(view.pointer(layout.ehash), buckets * u64::from(EHASH_BUCKET_BYTES));
            let (array, buckets) = match (layout.listening_hash, layout.lhash2) {
                (Some(inside), _) => {
                    let count = u64::from(inside.size / listen.size.max(1));
                    (table.plus(inside.offset.into()), count)
                }
                (None, Some(lhash2)) => {
                    let mask = view.optional(layout.lhash2_mask).unwrap_or(0);
                    (view.pointer(lhash2), count(mask, LHASH2_BUCKETS_MAX))
                }
                (None, None) => (KernelVa::NULL, 0),
            };
            let stride = u64::from(listen.size);
            for bucket in 0..buckets {
                let first = array.plus(bucket * stride + u64::from(listen.first.offset));
                self.want(first, 8);
            }
            self.fetch(array, buckets * stride);
        }
    }
}
