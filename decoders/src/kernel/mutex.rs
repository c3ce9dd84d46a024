//! `struct mutex` (include/linux/mutex.h): a lock.

use crate::address::KernelVa;

crate::layout! {
    /// `struct mutex` (include/linux/mutex.h). In real-time kernels, it has a
    /// `struct rt_mutex_base`.
    pub struct Mutex("mutex") {
        /// `struct task_struct *` that holds it, with flags in its lowest bits.
        owner?: ["owner.counter", "rtmutex.owner"],
    }
}

/// `struct task_struct *` that holds a lock with this owner; null if nobody does. Its lowest bits
/// are flags (`MUTEX_FLAGS`, kernel/locking/mutex.h).
pub const fn holder_of(owner: u64) -> KernelVa {
    KernelVa(owner & !7)
}
