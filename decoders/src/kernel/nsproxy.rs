//! `struct nsproxy` (include/linux/nsproxy.h): a task's namespaces.

crate::layout! {
    /// `struct nsproxy` (include/linux/nsproxy.h).
    pub struct Nsproxy("nsproxy") {
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
