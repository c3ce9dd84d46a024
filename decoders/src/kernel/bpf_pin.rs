//! Where the files of bpffs begin (kernel/bpf/inode.c): each one leads to a program, a map or a
//! link, which it holds.
//!
//! Not here: names and directories ([`super::dentry`]).

crate::layout! {
    /// The mounted filesystems of a `struct file_system_type` (include/linux/fs.h).
    pub struct FileSystemMounts("file_system_type") {
        /// Head of the list of `struct super_block`.
        fs_supers: ["fs_supers"],
    }
}

crate::layout! {
    /// A `struct super_block` (include/linux/fs.h) as one of its type.
    pub struct SuperBlockOfType("super_block") {
        /// Link in `fs_supers`; null at the end.
        s_instances: ["s_instances"],
        /// `struct dentry *`
        s_root: ["s_root"],
    }
}
