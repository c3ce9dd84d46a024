//! `struct super_block` and `struct file_system_type` (include/linux/fs.h): a filesystem.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct super_block` (include/linux/fs.h).
    pub struct SuperBlock("super_block") {
        /// Device number, as the kernel encodes it.
        s_dev: ["s_dev"],
        /// `*_SUPER_MAGIC`
        s_magic: ["s_magic"],
        /// `struct file_system_type *`
        s_type: ["s_type"],
    }
}

crate::layout! {
    /// `struct file_system_type` (include/linux/fs.h).
    pub struct FileSystemType("file_system_type") {
        /// A C string in the kernel: `ext4`.
        name: ["name"],
    }
}

/// What a `struct super_block` says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Filesystem {
    /// Device number, as the kernel encodes it.
    pub dev: u32,
    /// `*_SUPER_MAGIC`
    pub magic: u64,
    /// `struct file_system_type *`
    pub kind: KernelVa,
}

impl Filesystem {
    /// Decodes the packed copy of a super block.
    pub fn decode(layout: &SuperBlock, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        Self {
            dev: view.unsigned(layout.s_dev) as u32,
            magic: view.unsigned(layout.s_magic),
            kind: view.pointer(layout.s_type),
        }
    }
}

/// Magic numbers by which a descriptor's kind is known (include/uapi/linux/magic.h).
pub mod magic {
    /// Sockets.
    pub const SOCKFS: u64 = 0x534f_434b;
    /// Pipes.
    pub const PIPEFS: u64 = 0x5049_5045;
    /// eventfd, epoll and their kind.
    pub const ANON_INODE: u64 = 0x0904_1934;
    /// Namespaces.
    pub const NSFS: u64 = 0x6e73_6673;
    /// tmpfs, and the kernel's own unnamed one (memfd, shared anonymous memory).
    pub const TMPFS: u64 = 0x0102_1994;
    /// Buffers shared between devices.
    pub const DMA_BUF: u64 = 0x444d_4142;
    /// pidfds, since v6.9.
    pub const PID_FS: u64 = 0x5049_4446;
    /// hugetlbfs.
    pub const HUGETLBFS: u64 = 0x9584_58f6;
    /// Layers that look like one filesystem.
    pub const OVERLAYFS: u64 = 0x794c_7630;
    /// Pseudoterminals.
    pub const DEVPTS: u64 = 0x1cd1;
}
