//! Control groups: from each task's `css_set` up to the root of every hierarchy.
//!
//! They are read level by level, in the same rounds as the names of files.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::cgroup::{NAME_BYTES_MAX, SUBSYS_MAX, for_each_subsys};
use panoptes_decoders::layout::{Field, Packing, View, c_string};
use panoptes_decoders::source::MemorySource;

use super::snapshot::{CgroupRow, CssSetRow, CssStateRow, KernfsRow, NONE, Rows, Snapshot};
use super::{Kernel, Maps, Walker, row_of};

/// Number of kinds of structures that lead to a control group's name.
pub(super) const KINDS: usize = 4;

/// The packing of each kind; empty where the kernel has no control groups.
pub(super) fn packings(layouts: &Layouts) -> [Packing; KINDS] {
    [
        layouts.css_set.map(|layout| layout.packing),
        layouts.cgroup_subsys_state.map(|layout| layout.packing),
        layouts.cgroup.map(|layout| layout.packing),
        layouts.kernfs_node.map(|layout| layout.packing),
    ]
    .map(Option::unwrap_or_default)
}

/// The number of rows of each kind.
pub(super) fn counts(snapshot: &Snapshot) -> [usize; KINDS] {
    [
        snapshot.css_sets.len(),
        snapshot.css_states.len(),
        snapshot.cgroups.len(),
        snapshot.kernfs_nodes.len(),
    ]
}

/// Lists the rows of each kind added since `from`.
pub(super) fn list_new(
    snapshot: &Snapshot,
    from: [usize; KINDS],
    lists: &mut [Vec<KernelVa>; KINDS],
) {
    lists.iter_mut().for_each(Vec::clear);
    let [sets, states, groups, nodes] = lists;
    sets.extend(snapshot.css_sets[from[0]..].iter().map(|row| row.address));
    states.extend(snapshot.css_states[from[1]..].iter().map(|row| row.address));
    groups.extend(snapshot.cgroups[from[2]..].iter().map(|row| row.address));
    nodes.extend(snapshot.kernfs_nodes[from[3]..].iter().map(|row| row.address));
}

/// The rows of control groups, borrowed apart from the other rows.
pub(super) struct Groups<'a> {
    pub(super) sets: &'a mut Rows<CssSetRow>,
    pub(super) states: &'a mut Rows<CssStateRow>,
    pub(super) all: &'a mut Rows<CgroupRow>,
    pub(super) nodes: &'a mut Rows<KernfsRow>,
}

impl Groups<'_> {
    /// Decodes one packed structure of `kind` into its row.
    pub(super) fn update_from(
        &mut self,
        layouts: &Layouts,
        maps: &mut Maps,
        kind: usize,
        row: usize,
        bytes: &[u8],
    ) {
        let view = View::new(bytes);
        let group_row = |maps: &mut Maps, groups: &mut Rows<CgroupRow>, address: KernelVa| {
            row_of(&mut maps.cgroups, groups, address, || CgroupRow { address, node: NONE })
        };
        let node_row = |maps: &mut Maps, nodes: &mut Rows<KernfsRow>, address: KernelVa| {
            row_of(&mut maps.kernfs_nodes, nodes, address, || KernfsRow {
                address,
                ..KernfsRow::default()
            })
        };
        match kind {
            0 => {
                let Some(layout) = &layouts.css_set else { return };
                let next = layout.hlist.map_or(0, |field| view.u64_at(field, 0));
                if next != 0 {
                    let at = KernelVa(next).minus(layout.hlist.map_or(0, |f| f.offset.into()));
                    row_of(&mut maps.css_sets, self.sets, at, || CssSetRow {
                        address: at,
                        ..CssSetRow::default()
                    });
                }
                let set = &mut self.sets[row];
                let head =
                    |field: Option<Field>| KernelVa(field.map_or(0, |field| view.u64_at(field, 0)));
                (set.first_task, set.first_moving) = (head(layout.tasks), head(layout.mg_tasks));
                if !set.is_used {
                    return;
                }
                set.unified = group_row(maps, self.all, view.pointer(layout.dfl_cgrp));
                for_each_subsys(layout, bytes, |index, address| {
                    set.states[index] = row_of(&mut maps.css_states, self.states, address, || {
                        CssStateRow { address, cgroup: NONE }
                    });
                });
            }
            1 => {
                let Some(layout) = &layouts.cgroup_subsys_state else { return };
                self.states[row].cgroup = group_row(maps, self.all, view.pointer(layout.cgroup));
            }
            2 => {
                let Some(layout) = &layouts.cgroup else { return };
                self.all[row].node = node_row(maps, self.nodes, view.pointer(layout.kn));
            }
            _ => {
                let Some(layout) = &layouts.kernfs_node else { return };
                let parent = node_row(maps, self.nodes, view.pointer(layout.parent));
                self.nodes[row].parent = parent;
                self.nodes[row].name = view.pointer(layout.name);
            }
        }
    }
}

impl Walker {
    pub(super) fn read_group_names<S: MemorySource>(&mut self, source: &mut S, kernel: &Kernel) {
        let mut done = 0;
        while done < self.snapshot.kernfs_nodes.len() {
            self.reader.clear();
            for node in &self.snapshot.kernfs_nodes[done..] {
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
                match name.and_then(|name| self.snapshot.bytes.extend(name)) {
                    Some(range) => self.snapshot.kernfs_nodes[done + object].text = Some(range),
                    None => self.snapshot.losses.unreadable += 1,
                }
            }
            done += count;
        }
    }
}

impl Default for CssSetRow {
    fn default() -> Self {
        Self {
            address: KernelVa::NULL,
            unified: NONE,
            states: [NONE; SUBSYS_MAX],
            container: NONE,
            known: false,
            is_used: false,
            first_task: KernelVa::NULL,
            first_moving: KernelVa::NULL,
            closed: false,
        }
    }
}
