//! Control groups (include/linux/cgroup-defs.h, include/linux/kernfs.h): where a task hangs, and the names
//! on the way up from there.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct css_set`: the control groups of a task, one in each hierarchy; tasks share it.
    pub struct CssSet("css_set") {
        /// `struct cgroup_subsys_state *[]`: by controller, also those of version 1 hierarchies.
        subsys: ["subsys"],
        /// `struct cgroup *` in the version 2 hierarchy.
        dfl_cgrp: ["dfl_cgrp"],
        /// Head of the list of its tasks, linked by their `cg_list`.
        tasks?: ["tasks"],
        /// Head of the list of those that are being moved elsewhere.
        mg_tasks?: ["mg_tasks"],
        /// Link in one of the lists of `css_set_table` (kernel/cgroup/cgroup.c).
        hlist?: ["hlist"],
    }
}

crate::layout! {
    /// `struct cgroup_subsys_state`: a controller's part of a control group.
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
        /// The directory above; null at the root. Since Linux commit 633488947ef6 ("kernfs: Use RCU to access
        /// kernfs_node::parent.") (in v6.15) `__parent`.
        parent: ["__parent", "parent"],
        /// A C string in the kernel.
        name: ["name"],
    }
}

/// Most controllers (`CGROUP_SUBSYS_COUNT` is at most 16, kernel/cgroup/cgroup.c).
pub const SUBSYS_MAX: usize = 16;

/// Longest name of a control group in bytes (`NAME_MAX`, as for any directory).
pub const NAME_BYTES_MAX: u32 = 255;

/// Calls `each` with the controllers' parts that a packed `css_set` names.
pub fn for_each_subsys(layout: &CssSet, bytes: &[u8], mut each: impl FnMut(usize, KernelVa)) {
    let view = View::new(bytes);
    for index in 0..(layout.subsys.size as usize / 8).min(SUBSYS_MAX) {
        each(index, KernelVa(view.u64_at(layout.subsys, index)));
    }
}
