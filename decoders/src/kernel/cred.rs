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

/// The names of capabilities by their numbers (include/uapi/linux/capability.h).
pub const CAPABILITIES: [&str; 41] = [
    "cap_chown",
    "cap_dac_override",
    "cap_dac_read_search",
    "cap_fowner",
    "cap_fsetid",
    "cap_kill",
    "cap_setgid",
    "cap_setuid",
    "cap_setpcap",
    "cap_linux_immutable",
    "cap_net_bind_service",
    "cap_net_broadcast",
    "cap_net_admin",
    "cap_net_raw",
    "cap_ipc_lock",
    "cap_ipc_owner",
    "cap_sys_module",
    "cap_sys_rawio",
    "cap_sys_chroot",
    "cap_sys_ptrace",
    "cap_sys_pacct",
    "cap_sys_admin",
    "cap_sys_boot",
    "cap_sys_nice",
    "cap_sys_resource",
    "cap_sys_time",
    "cap_sys_tty_config",
    "cap_mknod",
    "cap_lease",
    "cap_audit_write",
    "cap_audit_control",
    "cap_setfcap",
    "cap_mac_override",
    "cap_mac_admin",
    "cap_syslog",
    "cap_wake_alarm",
    "cap_block_suspend",
    "cap_audit_read",
    "cap_perfmon",
    "cap_bpf",
    "cap_checkpoint_restore",
];

/// Maximum depth of user namespaces (`create_user_ns`, kernel/user_namespace.c: a level above 32
/// is refused).
pub const LEVEL_MAX: u32 = 33;
