//! `struct mount` and the `struct vfsmount` inside it (fs/mount.h, include/linux/mount.h).

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct mount` (fs/mount.h).
    pub struct Mount("mount") {
        /// The `struct vfsmount` that paths point to.
        mnt: ["mnt"],
        /// `struct dentry *` of the mounted tree's root.
        mnt_root: ["mnt.mnt_root"],
        /// `struct mount *` that it is mounted on; the mount itself at the top.
        mnt_parent: ["mnt_parent"],
        /// `struct dentry *` that it covers.
        mnt_mountpoint: ["mnt_mountpoint"],
        /// `struct mnt_namespace *`
        mnt_ns: ["mnt_ns"],
    }
}

/// The decoded fields of a `struct mount`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mounted {
    /// `struct dentry *`
    pub root: KernelVa,
    /// `struct mount *`
    pub parent: KernelVa,
    /// `struct dentry *`
    pub mountpoint: KernelVa,
}

impl Mounted {
    /// Decodes the packed copy of a `struct mount`.
    pub fn decode(layout: &Mount, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            root: view.pointer(layout.mnt_root),
            parent: view.pointer(layout.mnt_parent),
            mountpoint: view.pointer(layout.mnt_mountpoint),
        }
    }
}
