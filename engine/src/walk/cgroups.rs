//! Control groups: from each task's `css_set` up to the root of every hierarchy.
//!
//! They are read level by level, in the same rounds as the names of files.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::cgroup::{NAME_BYTES_MAX, for_each_subsys};
use panoptes_decoders::layout::{Field, Packing, View, c_string};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{CgroupRow, CssSetRow, CssStateRow, Index, KernfsRow};
use super::tables::Snapshot;
use super::{Kernel, Walker};

/// `css_set_table` has `1 << CSS_SET_HASH_BITS` list heads (kernel/cgroup/cgroup.c, 5.10 to 7.2).
pub(super) const CSS_SET_HEADS: usize = 1 << 7;

/// The packings of the structures that lead to a control group's name; empty where the kernel has
/// no control groups.
pub(super) struct Packings {
    pub(super) css_set: Packing,
    pub(super) css_state: Packing,
    pub(super) cgroup: Packing,
    pub(super) kernfs_node: Packing,
}

impl Packings {
    pub(super) fn of(layouts: &Layouts) -> Self {
        Self {
            css_set: layouts.css_set.map(|layout| layout.packing).unwrap_or_default(),
            css_state: layouts.cgroup_subsys_state.map(|it| it.packing).unwrap_or_default(),
            cgroup: layouts.cgroup.map(|layout| layout.packing).unwrap_or_default(),
            kernfs_node: layouts.kernfs_node.map(|layout| layout.packing).unwrap_or_default(),
        }
    }
}

impl Snapshot {
    pub(super) fn place_css_set(
        &mut self,
        layouts: &Layouts,
        row: Index<CssSetRow>,
        view: View<'_>,
        bytes: &[u8],
    ) {
        let Some(layout) = &layouts.css_set else { return };
        let next = layout.hlist.map_or(0, |field| view.u64_at(field, 0));
        if next != 0 {
            let next = KernelVa(next).minus(layout.hlist.map_or(0, |f| f.offset.into()));
            self.css_sets.row_of(next.0, || CssSetRow::new(next));
        }
        let set = &mut self.css_sets[row];
        let head = |field: Option<Field>| KernelVa(field.map_or(0, |field| view.u64_at(field, 0)));
        (set.first_task, set.first_moving) = (head(layout.tasks), head(layout.mg_tasks));
        if !set.is_used {
            return;
        }
        let unified = view.pointer(layout.dfl_cgrp);
        set.unified = self.cgroups.row_of(unified.0, || CgroupRow::new(unified));
        for_each_subsys(layout, bytes, |index, address| {
            let row = || CssStateRow { address, cgroup: None };
            set.states[index] = self.css_states.row_of(address.0, row);
        });
    }

    pub(super) fn place_css_state(
        &mut self,
        layouts: &Layouts,
        row: Index<CssStateRow>,
        view: View<'_>,
    ) {
        let Some(layout) = &layouts.cgroup_subsys_state else { return };
        let cgroup = view.pointer(layout.cgroup);
        self.css_states[row].cgroup = self.cgroups.row_of(cgroup.0, || CgroupRow::new(cgroup));
    }

    pub(super) fn place_cgroup(
        &mut self,
        layouts: &Layouts,
        row: Index<CgroupRow>,
        view: View<'_>,
    ) {
        let Some(layout) = &layouts.cgroup else { return };
        let node = view.pointer(layout.kn);
        self.cgroups[row].node = self.kernfs_nodes.row_of(node.0, || KernfsRow::new(node));
    }

    pub(super) fn place_kernfs_node(
        &mut self,
        layouts: &Layouts,
        row: Index<KernfsRow>,
        view: View<'_>,
    ) {
        let Some(layout) = &layouts.kernfs_node else { return };
        let parent = view.pointer(layout.parent);
        let parent = self.kernfs_nodes.row_of(parent.0, || KernfsRow::new(parent));
        let node = &mut self.kernfs_nodes[row];
        node.parent = parent;
        node.name = view.pointer(layout.name);
    }
}

impl CssSetRow {
    pub(super) fn new(address: KernelVa) -> Self {
        Self { address, ..Self::default() }
    }
}

impl CgroupRow {
    fn new(address: KernelVa) -> Self {
        Self { address, node: None }
    }
}

impl KernfsRow {
    fn new(address: KernelVa) -> Self {
        Self { address, ..Self::default() }
    }
}

impl Walker {
    pub(super) fn read_group_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut done = 0;
        while done < self.snapshot.kernfs_nodes.len() {
            self.reader.clear();
            for node in &self.snapshot.kernfs_nodes.as_slice()[done..] {
                let length = NAME_BYTES_MAX + 1;
                if self.reader.push_bytes(&kernel.space, node.name, length).is_none() {
                    break;
                }
            }
            let count = self.reader.len();
            if count == 0 {
                return;
            }
            self.reader.run(source, kernel.space.levels);
            for object in 0..count {
                // The root of a hierarchy has an empty name.
                let name = self.reader.object(object).map(c_string);
                let text = name.and_then(|name| self.snapshot.bytes.extend(name));
                self.snapshot.losses.unreadable += u32::from(text.is_none());
                self.snapshot.kernfs_nodes.as_mut_slice()[done + object].text = text;
            }
            done += count;
        }
    }
}
