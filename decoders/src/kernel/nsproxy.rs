//! `struct nsproxy` (include/linux/nsproxy.h): the namespaces of a task, and the common part of
//! namespaces.

crate::layout! {
    /// `struct nsproxy` (include/linux/nsproxy.h).
    pub struct Nsproxy("nsproxy") {
        /// `struct ipc_namespace *`
        ipc_ns?: ["ipc_ns"],
        /// `struct mnt_namespace *`
        mnt_ns: ["mnt_ns"],
        /// `struct net *`
        net_ns: ["net_ns"],
        /// `struct uts_namespace *`
        uts_ns: ["uts_ns"],
    }
}

crate::layout! {
    /// `struct mnt_namespace` (fs/mount.h).
    pub struct MntNamespace("mnt_namespace") {
        /// Number, as in `mnt:[4026531841]`.
        inum: ["ns.inum"],
    }
}

crate::layout! {
    /// `struct ns_common` (include/linux/ns_common.h).
    pub struct NsCommon("ns_common") {
        /// `const struct proc_ns_operations *`
        ops: ["ops"],
    }
}

crate::layout! {
    /// `struct proc_ns_operations` (include/linux/proc_ns.h).
    pub struct ProcNsOperations("proc_ns_operations") {
        /// A C string in kernel memory, such as `net`.
        name: ["name"],
    }
}
