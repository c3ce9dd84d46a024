//! Control groups (include/linux/cgroup-defs.h, include/linux/kernfs.h): the groups of a task, and
//! the names on the path to the root.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct css_set`: the control groups of a task, one in each hierarchy. Tasks share it.
    pub struct CssSet("css_set") {
        /// `struct cgroup_subsys_state *[]`: one per controller, including those of version 1
        /// hierarchies.
        subsys: ["subsys"],
        /// `struct cgroup *` in the version 2 hierarchy.
        dfl_cgrp: ["dfl_cgrp"],
        /// Head of the list of its tasks, linked by their `cg_list`.
        tasks?: ["tasks"],
        /// Head of the list of its tasks that are being moved to another set.
        mg_tasks?: ["mg_tasks"],
        /// Link in one of the lists of `css_set_table` (kernel/cgroup/cgroup.c).
        hlist?: ["hlist"],
    }
}

crate::layout! {
    /// `struct cgroup_subsys_state`: the state of one controller in a control group.
    pub struct CgroupSubsysState("cgroup_subsys_state") {
        /// `struct cgroup *`
        cgroup: ["cgroup"],
    }
}

crate::layout! {
    /// `struct cgroup`
    pub struct Cgroup("cgroup") {
        /// `struct kernfs_node *`: its directory.
        kn: ["kn"],
    }
}

crate::layout! {
    /// `struct kernfs_node` (include/linux/kernfs.h).
    pub struct KernfsNode("kernfs_node") {
        /// The directory above, null at the root. Named `__parent` since Linux commit 633488947ef6
        /// ("kernfs: Use RCU to access kernfs_node::parent.") (in v6.15).
        parent: ["__parent", "parent"],
        /// A C string in kernel memory.
        name: ["name"],
        /// `struct kernfs_iattrs *`; null while no attribute was set, so that root owns it.
        iattr?: ["iattr"],
    }
}

crate::layout! {
    /// `struct kernfs_iattrs` (fs/kernfs/kernfs-internal.h).
    pub struct KernfsIattrs("kernfs_iattrs") {
        /// The owner.
        ia_uid: ["ia_uid.val"],
    }
}

/// Maximum number of controllers (`CGROUP_SUBSYS_COUNT` is at most 16, kernel/cgroup/cgroup.c).
pub const SUBSYS_MAX: usize = 16;

/// Longest name of a control group in bytes (`NAME_MAX`, as for any directory).
pub const KERNFS_NAME_BYTES_MAX: u32 = 255;

/// Calls `each` with the index and address of each controller's state that a packed `css_set`
/// names.
pub fn for_each_subsys(layout: &CssSet, bytes: &[u8], mut each: impl FnMut(usize, KernelVa)) {
    let view = View::new(bytes);
    for index in 0..(layout.subsys.size as usize / 8).min(SUBSYS_MAX) {
        each(index, KernelVa(view.u64_at(layout.subsys, index)));
    }
}
