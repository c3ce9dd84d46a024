//! `struct fs_struct` (include/linux/fs_struct.h): root and current directory.

crate::layout! {
    /// `struct fs_struct` (include/linux/fs_struct.h).
    pub struct FsStruct("fs_struct") {
        /// `struct vfsmount *` of the root directory.
        root_mnt: ["root.mnt"],
        /// `struct dentry *` of the root directory.
        root_dentry: ["root.dentry"],
        /// `struct vfsmount *` of the current directory.
        pwd_mnt: ["pwd.mnt"],
        /// `struct dentry *` of the current directory.
        pwd_dentry: ["pwd.dentry"],
    }
}
