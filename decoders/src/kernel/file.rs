//! `struct file` (include/linux/fs.h): an open file.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct file` (include/linux/fs.h).
    pub struct File("file") {
        /// `struct inode *`
        f_inode: ["f_inode"],
        /// `struct vfsmount *`
        f_path_mnt: ["f_path.mnt"],
        /// `struct dentry *`
        f_path_dentry: ["f_path.dentry"],
        /// `const struct file_operations *`
        f_op: ["f_op"],
        /// `FMODE_*`
        f_mode: ["f_mode"],
        /// `O_*`
        f_flags: ["f_flags"],
        /// For sockets their `struct socket`.
        private_data: ["private_data"],
    }
}

/// What a `struct file` says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OpenFile {
    /// `struct inode *`
    pub inode: KernelVa,
    /// `struct vfsmount *`
    pub mnt: KernelVa,
    /// `struct dentry *`
    pub dentry: KernelVa,
    /// `const struct file_operations *`
    pub op: KernelVa,
    /// `FMODE_*`
    pub mode: u32,
    /// `O_*`
    pub flags: u32,
    /// `void *`
    pub private_data: KernelVa,
}

impl OpenFile {
    /// Decodes the packed copy of a file.
    pub fn decode(layout: &File, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            inode: view.pointer(layout.f_inode),
            mnt: view.pointer(layout.f_path_mnt),
            dentry: view.pointer(layout.f_path_dentry),
            op: view.pointer(layout.f_op),
            mode: view.unsigned(layout.f_mode) as u32,
            flags: view.unsigned(layout.f_flags) as u32,
            private_data: view.pointer(layout.private_data),
        }
    }
}
