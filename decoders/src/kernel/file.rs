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
        /// `struct socket *` for sockets.
        private_data: ["private_data"],
    }
}

crate::layout! {
    /// `struct file_operations` (include/linux/fs.h).
    pub struct FileOperations("file_operations") {
        /// `struct module *`; null for a part of the kernel.
        owner: ["owner"],
    }
}

crate::layout! {
    /// `struct backing_file` (fs/file_table.c): the file that a stacked filesystem maps and reads
    /// through. Since Linux commit def3ae83da02 ("fs: store real path instead of fake path in
    /// backing file f_path") (in v6.7), `f_path` is the path on the layer, and the path that users
    /// know follows `struct file`.
    pub struct BackingFile("backing_file") {
        /// `struct vfsmount *`
        user_path_mnt?: ["user_path.mnt", "user_path_file.f_path.mnt"],
        /// `struct dentry *`
        user_path_dentry?: ["user_path.dentry", "user_path_file.f_path.dentry"],
    }
}

/// `FMODE_READ` (include/linux/fs.h): open for reading.
pub const FMODE_READ: u32 = 1;
/// `FMODE_WRITE`: open for writing.
pub const FMODE_WRITE: u32 = 2;
/// `FMODE_PATH`: opened with `O_PATH`, for neither.
pub const FMODE_PATH: u32 = 0x4000;

/// `FMODE_BACKING` (include/linux/fs.h, v6.5): the file is a `struct backing_file`. It was bit 25
/// at first. The patch "fsnotify: opt-in for permission events at file open time" (v6.14, and
/// stable kernels such as Debian's 6.12.107) made it bit 24. The other bit then has another
/// meaning, and nothing in a kernel shows which of the two applies.
pub const FMODE_BACKING_MAYBE: u32 = 0x0300_0000;

/// The decoded fields of a `struct file`.
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
    /// `O_*` of the generic ABI (include/uapi/asm-generic/fcntl.h), which x86-64 uses too.
    pub flags: u32,
    /// `void *`
    pub private_data: KernelVa,
}

impl OpenFile {
    /// Decodes the packed copy of a `struct file`.
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

    /// Converts the flags of an arm64 kernel to the generic ABI. Bits 14 to 17 of arm64 are
    /// `O_DIRECTORY`, `O_NOFOLLOW`, `O_DIRECT` and `O_LARGEFILE`, in that order; those of the
    /// generic ABI are `O_DIRECT`, `O_LARGEFILE`, `O_DIRECTORY` and `O_NOFOLLOW`
    /// (arch/arm64/include/uapi/asm/fcntl.h).
    #[must_use]
    pub const fn of_arm64(self) -> Self {
        const LOW: u32 = 0b11 << 14;
        const HIGH: u32 = 0b11 << 16;
        let flags = self.flags;
        let flags = (flags & !(LOW | HIGH)) | ((flags & LOW) << 2) | ((flags & HIGH) >> 2);
        Self { flags, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_arm64_are_those_of_the_generic_abi() {
        for (arm64, generic) in [
            (0o40_000, 0o200_000),      // O_DIRECTORY
            (0o100_000, 0o400_000),     // O_NOFOLLOW
            (0o200_000, 0o40_000),      // O_DIRECT
            (0o400_000, 0o100_000),     // O_LARGEFILE
            (0o2_000_000, 0o2_000_000), // O_CLOEXEC
            (0o24_001, 0o24_001),       // O_WRONLY, O_NONBLOCK, O_ASYNC
        ] {
            let file = OpenFile { flags: arm64, ..OpenFile::default() };
            assert_eq!(file.of_arm64().flags, generic, "{arm64:o}");
        }
    }
}
