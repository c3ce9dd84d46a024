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
pub struct MountLinks {
    /// `struct dentry *`
    pub root: KernelVa,
    /// `struct mount *`
    pub parent: KernelVa,
    /// `struct dentry *`
    pub mountpoint: KernelVa,
}

impl MountLinks {
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

crate::layout! {
    /// A mount with those that are mounted on it.
    pub struct MountTree("mount") {
        /// `struct dentry *` of the mounted tree's root.
        mnt_root: ["mnt.mnt_root"],
        /// `struct mount *` that it is mounted on; the mount itself at the top.
        mnt_parent: ["mnt_parent"],
        /// `struct dentry *` that it covers.
        mnt_mountpoint: ["mnt_mountpoint"],
        /// The list of the mounts on it.
        mnt_mounts: ["mnt_mounts.next"],
        /// Link in the list of the mount that it is on.
        mnt_child: ["mnt_child.next"],
    }
}

/// The decoded fields of a mount in the list of another one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ListedMount {
    /// `struct dentry *` of the mounted tree's root.
    pub root: KernelVa,
    /// `struct mount *`
    pub parent: KernelVa,
    /// `struct dentry *`
    pub mountpoint: KernelVa,
    /// `struct mount *` of the first one that is mounted on it.
    pub first: Option<KernelVa>,
    /// `struct mount *` of the next one that is mounted on the same mount.
    pub next: Option<KernelVa>,
}

impl ListedMount {
    /// Decodes the packed copy of the mount at `address`.
    pub fn decode(layout: &MountTree, address: KernelVa, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let parent = view.pointer(layout.mnt_parent);
        let list = u64::from(layout.mnt_mounts.offset);
        let listed = |link: KernelVa, list_of: KernelVa| {
            (link != list_of.plus(list)).then(|| link.minus(u64::from(layout.mnt_child.offset)))
        };
        Self {
            root: view.pointer(layout.mnt_root),
            parent,
            mountpoint: view.pointer(layout.mnt_mountpoint),
            first: listed(view.pointer(layout.mnt_mounts), address),
            next: listed(view.pointer(layout.mnt_child), parent),
        }
    }
}
