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
        /// Bit `n` is capability `n`. One number since v6.3; before that two halves, the lower one
        /// first.
        cap_permitted: ["cap_permitted.val", "cap_permitted.cap"],
        /// Capabilities that a program gets without any of its file.
        cap_ambient: ["cap_ambient.val", "cap_ambient.cap"],
        /// `struct user_namespace *` in which its ids and capabilities count.
        user_ns: ["user_ns"],
    }
}

crate::layout! {
    /// `struct user_namespace` (include/linux/user_namespace.h).
    pub struct UserNamespace("user_namespace") {
        /// `struct user_namespace *` in which it was made; null for the initial one.
        parent: ["parent"],
        /// The user who made it, in the initial user namespace.
        owner: ["owner.val", "owner"],
    }
}

/// Maximum depth of user namespaces (`create_user_ns`, kernel/user_namespace.c: a level above 32
/// is refused).
pub const LEVEL_MAX: u32 = 33;
