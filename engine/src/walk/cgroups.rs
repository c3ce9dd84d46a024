//! Control groups: from each task's `css_set` up to the root of every hierarchy.
//!
//! They are read level by level, in the same rounds as the names of files.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::cgroup::{CssSet, KERNFS_NAME_BYTES_MAX, for_each_subsys};
use panoptes_decoders::layout::{PackedField, View, c_string};

use super::fair_share::TableShares;
use super::losses::WalkedStructure;
use super::places::SnapshotRow;
use super::snapshot::{CssSetRow, Index, row_at};
use super::tables::Snapshot;
use super::{ScannedMemory, WalkScratch, Walker, fetch, fetch_each};
use crate::address::MemoryReader;

/// `css_set_table` has `1 << CSS_SET_HASH_BITS` list heads (kernel/cgroup/cgroup.c, 5.10 to 7.2).
pub(super) const CSS_SET_HEADS: usize = 1 << 7;

impl Snapshot {
    /// Fills a row from the packed structure, if the kernel has control groups.
    pub(super) fn place_group(
        &mut self,
        layouts: &Layouts,
        shares: &mut TableShares,
        place: SnapshotRow,
        bytes: &[u8],
    ) -> Option<()> {
        let view = View::new(bytes);
        match place {
            SnapshotRow::CssSet(row) => {
                self.place_css_set(layouts.css_set.as_ref()?, shares, row, bytes);
            }
            SnapshotRow::CssState(row) => {
                let cgroup = view.pointer(layouts.cgroup_subsys_state.as_ref()?.cgroup);
                let state = &mut self.css_states[row];
                state.cgroup = shares.row_at(&mut self.cgroups, state.process, cgroup);
            }
            SnapshotRow::Cgroup(row) => {
                let node = view.pointer(layouts.cgroup.as_ref()?.kn);
                let group = &mut self.cgroups[row];
                group.node = shares.row_at(&mut self.kernfs_nodes, group.process, node);
            }
            SnapshotRow::KernfsNode(row) => {
                let layout = layouts.kernfs_node.as_ref()?;
                let (process, above) =
                    (self.kernfs_nodes[row].process, view.pointer(layout.parent));
                let parent = shares.row_at(&mut self.kernfs_nodes, process, above);
                let node = &mut self.kernfs_nodes[row];
                (node.parent, node.name) = (parent, view.pointer(layout.name));
                let iattr = layout.iattr.filter(|_| layouts.kernfs_iattrs.is_some());
                node.iattr = iattr.map_or(KernelVa::NULL, |field| view.pointer(field));
                node.owner = node.iattr.is_null().then_some(0);
                node.is_root = above.is_null();
            }
            _ => {}
        }
        Some(())
    }

    fn place_css_set(
        &mut self,
        layout: &CssSet,
        shares: &mut TableShares,
        row: Index<CssSetRow>,
        bytes: &[u8],
    ) {
        let view = View::new(bytes);
        if let Some(field) = layout.hlist {
            let next = KernelVa(view.u64_at(field, 0));
            if !next.is_null() {
                row_at(&mut self.css_sets, next.minus(field.offset.into()));
            }
        }
        let set = &mut self.css_sets[row];
        let head =
            |field: Option<PackedField>| KernelVa(field.map_or(0, |field| view.u64_at(field, 0)));
        (set.first_task, set.first_moving) = (head(layout.tasks), head(layout.mg_tasks));
        if !set.is_used {
            return;
        }
        let unified = view.pointer(layout.dfl_cgrp);
        set.unified = shares.row_at(&mut self.cgroups, set.process, unified);
        for_each_subsys(layout, bytes, |index, address| {
            let state = shares.row_at(&mut self.css_states, set.process, address);
            set.states[index] = state;
            set.states_cut |= state.is_none() && !address.is_null();
        });
    }
}

impl Walker {
    pub(super) fn read_group_names(&mut self, memory: &mut ScannedMemory<'_>) {
        let WalkScratch { addresses: names, shares, .. } = &mut self.scratch;
        let Snapshot { kernfs_nodes: nodes, bytes: texts, losses, .. } = &mut self.snapshot;
        names.clear();
        names.extend(nodes.iter().map(|node| node.name));
        let push = |reader: &mut MemoryReader, space: &_, &name: &_| {
            reader.push_bytes(space, name, KERNFS_NAME_BYTES_MAX + 1)
        };
        fetch_each(&mut self.reader, memory, names, push, |index, bytes| {
            let node = &mut nodes.as_mut_slice()[index];
            // Only the root of a hierarchy has an empty name; any other one is in a page of zeros.
            let name = bytes.map(c_string).filter(|name| node.is_root || !name.is_empty());
            if name.is_none() {
                losses.miss(WalkedStructure::ControlGroup, names[index]);
            }
            let add = |name| shares.add_group_text(texts, node.process, name);
            node.text = name.and_then(add);
        });
    }

    /// Reads the owners of the directories that ever had another than root.
    pub(super) fn read_group_owners(&mut self, memory: &mut ScannedMemory<'_>) {
        let Some(layout) = &memory.kernel.layouts.kernfs_iattrs else { return };
        let addresses = &mut self.scratch.addresses;
        let (nodes, losses) = (&mut self.snapshot.kernfs_nodes, &mut self.snapshot.losses);
        addresses.clear();
        addresses.extend(nodes.iter().map(|node| node.iattr));
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let node = &mut nodes.as_mut_slice()[index];
            match bytes.map(View::new) {
                Some(view) => node.owner = Some(view.unsigned(layout.ia_uid) as u32),
                None if node.iattr.is_null() => {}
                None => losses.miss(WalkedStructure::ControlGroup, node.iattr),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::walk::snapshot::{CssSetRow, Index, ProcessRow};
    use crate::walk::tests::memory::{Sparse, add_process, kernel, small, va, walker};
    use crate::walk::{Snapshot, Walker};

    const CONTROLLERS: u64 = 3;

    /// Makes a directory of control groups.
    fn directory(memory: &mut Sparse, name: &str, parent: u64) -> u64 {
        let [node, text] = [memory.structure(), memory.structure()];
        for (at, chunk) in (text..).step_by(8).zip(name.as_bytes().chunks(8)) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            memory.put(at, u64::from_le_bytes(word));
        }
        memory.set(node, "kernfs_node", "__parent", parent);
        memory.set(node, "kernfs_node", "name", text);
        node
    }

    /// Puts a process into groups of its own: one for each controller, in one directory. The
    /// version 2 hierarchy has no other group than `unified`.
    fn enter(
        walker: &mut Walker,
        memory: &mut Sparse,
        process: Index<ProcessRow>,
        (unified, node): (u64, u64),
    ) {
        let set = memory.structure();
        memory.set(set, "css_set", "dfl_cgrp", unified);
        for controller in 0..CONTROLLERS {
            let [state, group] = [memory.structure(), memory.structure()];
            memory.set(group, "cgroup", "kn", node);
            memory.set(state, "cgroup_subsys_state", "cgroup", group);
            memory.put(Sparse::field(set, "css_set", "subsys") + controller * 8, state);
        }
        let (address, process) = (va(set), Some(process));
        let row = || CssSetRow { address, process, is_used: true, ..CssSetRow::default() };
        let row = walker.snapshot.css_sets.row_of(set, row);
        walker.snapshot.processes[process.expect("it has a row")].css_set = row;
    }

    /// The name of a container's directory.
    fn scope(number: usize) -> String {
        format!("docker-{number:064x}.scope")
    }

    /// A user owns a subtree of control groups, with a group for each of many processes, in which
    /// there are many others. Then root's runtime starts a container.
    fn container_beside_a_crowd(processes: usize, depth: usize, cut: fn(&mut Snapshot)) {
        let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
        cut(&mut walker.snapshot);
        let root = directory(&mut memory, "", 0);
        let user = directory(&mut memory, "user.slice", root);
        let unified = memory.structure();
        memory.set(unified, "cgroup", "kn", root);
        for number in 1..=processes {
            let process = add_process(&mut walker, &mut memory, 1000);
            // What root may make, but a user may not.
            let mut node = directory(&mut memory, "system.slice", user);
            for _ in 1..depth {
                node = directory(&mut memory, &scope(number), node);
            }
            enter(&mut walker, &mut memory, process, (unified, node));
        }
        let process = add_process(&mut walker, &mut memory, 0);
        let nested = (0..8).fold(root, |above, _| directory(&mut memory, "system.slice", above));
        let node = directory(&mut memory, &scope(0), nested);
        enter(&mut walker, &mut memory, process, (unified, node));
        walker.scratch.shares.begin(processes + 1);
        let Walker { scratch, snapshot, .. } = &mut walker;
        scratch.shares.set_owners(snapshot, &[]);
        memory.walk(&mut walker, &kernel(), |walker, memory| {
            walker.read_files(memory);
            walker.find_containers(memory);
        });
        let snapshot = &walker.snapshot;
        let path = |process: &ProcessRow| {
            let container = snapshot.containers.at(process.container)?;
            Some(String::from_utf8_lossy(snapshot.text(container.path)).into_owned())
        };
        let process = snapshot.processes.last().expect("there are processes");
        assert_eq!(path(process), Some(format!("{}/{}", "/system.slice".repeat(8), scope(0))));
        assert!(process.container_known && snapshot.container_of(process).is_some());
        for process in &snapshot.processes.as_slice()[..processes] {
            let path = path(process);
            // A container whose texts have no room has an empty path.
            let is_users = |path: &String| path.starts_with("/user.slice/system");
            let is_own = path.as_ref().is_none_or(|path| path.is_empty() || is_users(path));
            assert!(is_own, "{path:?}");
            assert_eq!(process.container_known, path.is_some(), "all are in containers");
        }
        let tables = [
            snapshot.css_states.dropped,
            snapshot.cgroups.dropped,
            snapshot.kernfs_nodes.dropped,
            snapshot.containers.dropped,
            snapshot.bytes.dropped,
        ];
        assert!(tables.iter().any(|&dropped| dropped > 50), "{tables:?}");
        assert!(walker.scratch.shares.refused.is_some_and(|row| row.position() < processes));
    }

    /// The reasons to stop of a scan with a process in such a directory.
    fn stops_in(memory: &mut Sparse, node: u64) -> Vec<String> {
        let mut walker = walker(&small());
        let process = add_process(&mut walker, memory, 0);
        let unified = memory.structure();
        memory.set(unified, "cgroup", "kn", node);
        enter(&mut walker, memory, process, (unified, node));
        walker.scratch.shares.begin(1);
        memory.walk(&mut walker, &kernel(), Walker::read_files);
        walker.snapshot.losses.frequent_stops().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn paths_that_are_too_long_are_named() {
        let mut memory = Sparse::default();
        let root = directory(&mut memory, "", 0);
        let below = |memory: &mut Sparse, name: &str, levels: usize| {
            (0..levels).fold(root, |above, _| directory(memory, name, above))
        };
        let usual = below(&mut memory, "system.slice", 63);
        assert_eq!(stops_in(&mut memory, usual), [""; 0]);
        let deep = below(&mut memory, "system.slice", 65);
        assert_eq!(stops_in(&mut memory, deep), ["path of a control group: longer than 64"]);
        let long = below(&mut memory, &"x".repeat(200), 6);
        let container = directory(&mut memory, &scope(0), long);
        assert_eq!(stops_in(&mut memory, container), ["path of a control group: longer than 1024"]);
    }

    #[test]
    fn states_of_controllers_of_one_user_leave_room_for_those_of_others() {
        container_beside_a_crowd(200, 2, |snapshot| snapshot.css_states.set_capacity(200));
    }

    #[test]
    fn groups_of_one_user_leave_room_for_those_of_others() {
        container_beside_a_crowd(200, 2, |snapshot| snapshot.cgroups.set_capacity(200));
    }

    #[test]
    fn containers_that_one_user_made_leave_room_for_those_of_others() {
        container_beside_a_crowd(200, 2, |snapshot| snapshot.containers.set_capacity(100));
    }

    #[test]
    fn texts_of_groups_of_one_user_leave_room_for_those_of_others() {
        container_beside_a_crowd(200, 2, |snapshot| snapshot.bytes.set_capacity(16_000));
    }

    #[test]
    fn directories_of_one_user_leave_room_for_those_of_others() {
        container_beside_a_crowd(60, 20, |snapshot| snapshot.kernfs_nodes.set_capacity(400));
    }
}
