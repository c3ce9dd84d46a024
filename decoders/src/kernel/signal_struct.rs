//! `struct signal_struct` (include/linux/sched/signal.h): what the threads of a process share.

crate::layout! {
    /// `struct signal_struct` (include/linux/sched/signal.h).
    pub struct SignalStruct("signal_struct") {
        /// Head of the list of threads, linked by `task_struct.thread_node`.
        thread_head: ["thread_head"],
        /// How many threads there are.
        nr_threads: ["nr_threads"],
        /// Nanoseconds that its ended threads ran.
        sum_sched_runtime: ["sum_sched_runtime"],
    }
}
