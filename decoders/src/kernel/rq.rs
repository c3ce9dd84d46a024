//! `struct rq` and `struct cfs_rq` (kernel/sched/sched.h): what a processor runs, and what waits to.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct rq` (kernel/sched/sched.h): one processor's.
    pub struct RunQueue("rq") {
        /// `struct task_struct *` that runs now.
        curr?: ["curr"],
        /// `struct task_struct *` that runs when nothing else wants to; in no list of tasks.
        idle?: ["idle"],
        /// Head of the list of fair tasks that want to run, linked by `task_struct.se.group_node`; the one that
        /// runs is in it too (`account_entity_enqueue`, kernel/sched/fair.c).
        cfs_tasks?: ["cfs_tasks"],
    }
}

crate::layout! {
    /// `struct cfs_rq` (kernel/sched/sched.h): a control group's share of a run queue.
    pub struct CfsRunQueue("cfs_rq") {
        /// `struct rq *`; only with `CONFIG_FAIR_GROUP_SCHED`.
        rq?: ["rq"],
    }
}

/// What a `struct rq` says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Running {
    /// `struct task_struct *` that runs now.
    pub current: KernelVa,
    /// `struct task_struct *` of the idle task.
    pub idle: KernelVa,
    /// First fair task: the address of its `se.group_node`, or of the list's head where there is none.
    pub first_fair: KernelVa,
}

impl Running {
    /// Decodes the packed copy of a run queue.
    pub fn decode(layout: &RunQueue, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let pointer = |field: Option<_>| KernelVa(view.optional(field).unwrap_or(0));
        Self {
            current: pointer(layout.curr),
            idle: pointer(layout.idle),
            first_fair: KernelVa(layout.cfs_tasks.map_or(0, |field| view.u64_at(field, 0))),
        }
    }
}
