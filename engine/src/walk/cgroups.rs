//! Control groups: from each task's `css_set` up to the root of every hierarchy.
//!
//! They are read level by level, in the same rounds as the names of files.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::cgroup::{CssSet, NAME_BYTES_MAX, for_each_subsys};
use panoptes_decoders::layout::{Field, View, c_string};

use super::files::Place;
use super::snapshot::{CssSetRow, Index, row_at};
use super::tables::Snapshot;
use super::{Memory, Walker, fetch_each};
use crate::address::Reader;

/// `css_set_table` has `1 << CSS_SET_HASH_BITS` list heads (kernel/cgroup/cgroup.c, 5.10 to 7.2).
pub(super) const CSS_SET_HEADS: usize = 1 << 7;

impl Snapshot {
    /// Fills a row from the packed structure, if the kernel has control groups.
    pub(super) fn place_group(
        &mut self,
        layouts: &Layouts,
        place: Place,
        bytes: &[u8],
    ) -> Option<()> {
        let view = View::new(bytes);
        match place {
            Place::CssSet(row) => self.place_css_set(layouts.css_set.as_ref()?, row, bytes),
            Place::CssState(row) => {
                let cgroup = view.pointer(layouts.cgroup_subsys_state.as_ref()?.cgroup);
                self.css_states[row].cgroup = row_at(&mut self.cgroups, cgroup);
            }
            Place::Cgroup(row) => {
                let node = view.pointer(layouts.cgroup.as_ref()?.kn);
                self.cgroups[row].node = row_at(&mut self.kernfs_nodes, node);
            }
            Place::KernfsNode(row) => {
                let layout = layouts.kernfs_node.as_ref()?;
                let parent = row_at(&mut self.kernfs_nodes, view.pointer(layout.parent));
                let node = &mut self.kernfs_nodes[row];
                (node.parent, node.name) = (parent, view.pointer(layout.name));
            }
            _ => {}
        }
        Some(())
    }

    fn place_css_set(&mut self, layout: &CssSet, row: Index<CssSetRow>, bytes: &[u8]) {
        let view = View::new(bytes);
        if let Some(field) = layout.hlist {
            let next = KernelVa(view.u64_at(field, 0));
            if !next.is_null() {
                row_at(&mut self.css_sets, next.minus(field.offset.into()));
            }
        }
        let set = &mut self.css_sets[row];
        let head = |field: Option<Field>| KernelVa(field.map_or(0, |field| view.u64_at(field, 0)));
        (set.first_task, set.first_moving) = (head(layout.tasks), head(layout.mg_tasks));
        if !set.is_used {
            return;
        }
        let unified = view.pointer(layout.dfl_cgrp);
        set.unified = row_at(&mut self.cgroups, unified);
        for_each_subsys(layout, bytes, |index, address| {
            set.states[index] = row_at(&mut self.css_states, address);
        });
    }
}

impl Walker {
    pub(super) fn read_group_names(&mut self, memory: &mut Memory<'_>) {
        let names = &mut self.scratch.addresses;
        let (nodes, losses) = (&mut self.snapshot.kernfs_nodes, &mut self.snapshot.losses);
        names.clear();
        names.extend(nodes.iter().map(|node| node.name));
        let push = |reader: &mut Reader, space: &_, &name: &_| {
            reader.push_bytes(space, name, NAME_BYTES_MAX + 1)
        };
        fetch_each(&mut self.reader, memory, names, push, |index, bytes| {
            // The root of a hierarchy has an empty name.
            let text = bytes.and_then(|bytes| self.snapshot.bytes.extend(c_string(bytes)));
            losses.unreadable += u32::from(text.is_none());
            nodes.as_mut_slice()[index].text = text;
        });
    }
}
