//! `struct rq` and `struct cfs_rq` (kernel/sched/sched.h): the running task of a processor, and the
//! waiting ones.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct rq` (kernel/sched/sched.h): the run queue of one processor.
    pub struct RunQueue("rq") {
        /// `struct task_struct *` that runs now.
        curr?: ["curr"],
        /// `struct task_struct *` of the idle task, which is in no list of tasks.
        idle?: ["idle"],
        /// Head of the list of runnable fair tasks, linked by `task_struct.se.group_node`. It
        /// includes the running one (`account_entity_enqueue`, kernel/sched/fair.c).
        cfs_tasks?: ["cfs_tasks"],
        /// `u64` number of times that another task began to run here. `__schedule`
        /// (kernel/sched/core.c) counts before it sets `curr`.
        nr_switches?: ["nr_switches"],
    }
}

crate::layout! {
    /// `struct cfs_rq` (kernel/sched/sched.h): a control group's share of a run queue.
    pub struct CfsRunQueue("cfs_rq") {
        /// `struct rq *`; only with `CONFIG_FAIR_GROUP_SCHED`.
        rq?: ["rq"],
    }
}

/// The decoded fields of a `struct rq`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RunQueueState {
    /// `struct task_struct *` that runs now.
    pub current: KernelVa,
    /// `struct task_struct *` of the idle task.
    pub idle: KernelVa,
    /// First fair task: the address of its `se.group_node`, or of the list's head if there is none.
    pub first_fair: KernelVa,
    /// Number of times that another task began to run; `None` if the kernel's layout lacks it.
    pub switches: Option<u64>,
}

impl RunQueueState {
    /// Decodes the packed copy of a `struct rq`.
    pub fn decode(layout: &RunQueue, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let pointer = |field: Option<_>| KernelVa(view.optional(field).unwrap_or(0));
        Self {
            current: pointer(layout.curr),
            idle: pointer(layout.idle),
            first_fair: KernelVa(layout.cfs_tasks.map_or(0, |field| view.u64_at(field, 0))),
            switches: view.optional(layout.nr_switches),
        }
    }
}
