//! `struct signal_struct` (include/linux/sched/signal.h): the shared state of a process's threads.

crate::layout! {
    /// `struct signal_struct` (include/linux/sched/signal.h).
    pub struct SignalStruct("signal_struct") {
        /// Head of the list of threads, linked by `task_struct.thread_node`.
        thread_head: ["thread_head"],
        /// Number of threads.
        nr_threads: ["nr_threads"],
        /// Run time of its ended threads in nanoseconds.
        sum_sched_runtime: ["sum_sched_runtime"],
    }
}

crate::layout! {
    /// What a process's ended children did: it grows when the process waits for one. Read of few
    /// processes only.
    pub struct SignalChildren("signal_struct") {
        /// Page faults without and with input.
        cmin_flt: ["cmin_flt"],
        cmaj_flt: ["cmaj_flt"],
        /// Context switches that they asked for, and others.
        cnvcsw: ["cnvcsw"],
        cnivcsw: ["cnivcsw"],
    }
}
