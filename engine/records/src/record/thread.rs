//! `thread_details` (guide §11.2).

use super::macros::details;

details! {
    /// A thread of a process.
    pub struct ThreadDetails "thread_details" {
        /// The tid.
        thread_id: u32,
        /// Grows with every exec.
        thread_self_exec_id: Option<u64>,
        /// 0, 16 (dead) or 32 (zombie); left out if it could not be read again.
        thread_exit_state: Option<u32>,
    }
}
