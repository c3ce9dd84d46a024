//! `struct pid`, `struct upid` (include/linux/pid.h) and `struct pid_namespace`
//! (include/linux/pid_namespace.h).

crate::layout! {
    /// `struct pid` (include/linux/pid.h).
    pub struct Pid("pid") {
        /// Depth of its pid namespace.
        level: ["level"],
        /// Heads of the lists of tasks, by `enum pid_type`; the first is `PIDTYPE_PID`.
        tasks: ["tasks"],
        /// One `struct upid` for each namespace it is seen in, outermost first.
        numbers: ["numbers"],
    }
}

crate::layout! {
    /// `struct upid` (include/linux/pid.h).
    pub struct Upid("upid") {
        /// The number.
        nr: ["nr"],
        /// `struct pid_namespace *` in which it is that.
        ns: ["ns"],
    }
}

crate::layout! {
    /// `struct pid_namespace` (include/linux/pid_namespace.h).
    pub struct PidNamespace("pid_namespace") {
        /// All its `struct pid`, by number.
        idr: ["idr"],
        /// Number, as in `pid:[4026531836]`.
        inum: ["ns.inum"],
    }
}

/// Deepest nesting of pid namespaces (`MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h).
pub const LEVEL_MAX: u32 = 32;
