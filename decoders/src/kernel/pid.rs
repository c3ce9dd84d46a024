//! `struct pid`, `struct upid` (include/linux/pid.h) and `struct pid_namespace`
//! (include/linux/pid_namespace.h).

use super::Layouts;

crate::layout! {
    /// `struct pid` (include/linux/pid.h).
    pub struct Pid("pid") {
        /// Depth of its pid namespace.
        level: ["level"],
        /// Heads of the lists of tasks, by `enum pid_type`; the first is `PIDTYPE_PID`.
        tasks: ["tasks"],
        /// One `struct upid` for each namespace that can see it, outermost first.
        numbers: ["numbers"],
    }
}

crate::layout! {
    /// `struct upid` (include/linux/pid.h).
    pub struct Upid("upid") {
        nr: ["nr"],
        /// `struct pid_namespace *` that the number belongs to.
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

impl Layouts {
    /// Offset of the pointer to the root of the tree of numbers in a `struct pid_namespace`.
    pub fn pid_idr_root(&self) -> u64 {
        (self.pid_namespace.idr.offset + self.idr.xa_head.offset).into()
    }
}

/// Maximum depth of pid namespaces (`MAX_PID_NS_LEVEL`, include/linux/pid_namespace.h).
pub const LEVEL_MAX: u32 = 32;
