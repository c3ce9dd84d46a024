//! `struct cred` (include/linux/cred.h): the user and the groups of a task.

crate::layout! {
    /// `struct cred` (include/linux/cred.h).
    pub struct Cred("cred") {
        /// Real user, in the initial user namespace.
        uid: ["uid.val", "uid"],
        /// Real group.
        gid: ["gid.val", "gid"],
        /// Effective user.
        euid: ["euid.val", "euid"],
        /// Effective group.
        egid: ["egid.val", "egid"],
    }
}
