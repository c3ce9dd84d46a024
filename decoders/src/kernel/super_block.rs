//! `struct super_block` and `struct file_system_type` (include/linux/fs.h): a filesystem.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct super_block` (include/linux/fs.h).
    pub struct SuperBlock("super_block") {
        /// Device number, in the kernel's encoding.
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
        /// A C string in kernel memory, such as `ext4`.
        name: ["name"],
        /// `FS_*`
        fs_flags: ["fs_flags"],
        /// `struct module *`; null for a part of the kernel.
        owner?: ["owner"],
    }
}

/// `FS_REQUIRES_DEV` (include/linux/fs.h): the filesystem is on a disk or a similar device.
pub const FS_REQUIRES_DEV: u64 = 1;

/// The decoded fields of a `struct super_block`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Filesystem {
    /// Device number, in the kernel's encoding.
    pub dev: u32,
    /// `*_SUPER_MAGIC`
    pub magic: u64,
    /// `struct file_system_type *`
    pub kind: KernelVa,
    pub files: FilesKind,
}

impl Filesystem {
    /// Decodes the packed copy of a `struct super_block`.
    pub fn decode(layout: &SuperBlock, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let magic = view.unsigned(layout.s_magic);
        Self {
            dev: view.unsigned(layout.s_dev) as u32,
            magic,
            kind: view.pointer(layout.s_type),
            files: FilesKind::of(magic),
        }
    }

    /// Whether the files exist in memory only: pages that the page cache lacks are then zeros.
    pub const fn lives_in_memory(&self) -> bool {
        matches!(self.magic, magic::TMPFS | magic::RAMFS | magic::HUGETLBFS)
    }

    /// Whether it is an image that the kernel only reads, whatever its mount allows: snaps, install
    /// media. The times of its files are those of the machine that built it.
    pub const fn is_read_only_image(&self) -> bool {
        // The low half of `s_magic` has every known one.
        matches!(
            self.magic & u32::MAX as u64,
            magic::SQUASHFS | magic::EROFS | magic::ISO9660 | magic::CRAMFS | magic::ROMFS
        )
    }
}

/// Kind of a filesystem's files, by its magic number (include/uapi/linux/magic.h).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FilesKind {
    #[default]
    Usual,
    AnonInodes,
    DmaBufs,
    HugePages,
    Namespaces,
    /// Writes to the files are commands to the kernel, not content that the files keep.
    Orders,
    Pidfds,
    Pipes,
    Sockets,
    Tmpfs,
}

impl FilesKind {
    /// The kind of the files of a filesystem with this magic number.
    pub const fn of(magic: u64) -> Self {
        // The low half of `s_magic` has every known one.
        match magic & u32::MAX as u64 {
            magic::ANON_INODE => Self::AnonInodes,
            magic::DMA_BUF => Self::DmaBufs,
            magic::HUGETLBFS => Self::HugePages,
            magic::NSFS => Self::Namespaces,
            magic::PID_FS => Self::Pidfds,
            magic::PIPEFS => Self::Pipes,
            magic::SOCKFS => Self::Sockets,
            magic::TMPFS => Self::Tmpfs,
            0x9fa0 // proc
            | 0x0027_e0eb // cgroup
            | 0x6367_7270 // cgroup2
            | 0x6265_6572 // sysfs
            | 0x6265_6570 // configfs (fs/configfs/mount.c)
            | 0x6462_6720 // debugfs
            | 0x7472_6163 // tracefs
            | 0x7363_6673 // securityfs
            | 0xf97c_ff8c // selinuxfs
            | 0x4341_5d53 // smackfs
            | 0x5a3c_69f0 // apparmorfs
            | 0xcafe_4a11 // bpf
            | 0x4249_4e4d // binfmt_misc
            | 0x0765_5821 // resctrl
            => Self::Orders,
            _ => Self::Usual,
        }
    }
}

/// Magic numbers that identify the kind of a descriptor (include/uapi/linux/magic.h).
pub mod magic {
    /// Sockets.
    pub const SOCKFS: u64 = 0x534f_434b;
    /// Pipes.
    pub const PIPEFS: u64 = 0x5049_5045;
    /// eventfd, epoll and similar.
    pub const ANON_INODE: u64 = 0x0904_1934;
    /// Namespaces.
    pub const NSFS: u64 = 0x6e73_6673;
    /// tmpfs, including the kernel's internal mount (memfd, shared anonymous memory).
    pub const TMPFS: u64 = 0x0102_1994;
    /// Buffers shared between devices.
    pub const DMA_BUF: u64 = 0x444d_4142;
    /// pidfds, since v6.9.
    pub const PID_FS: u64 = 0x5049_4446;
    pub const HUGETLBFS: u64 = 0x9584_58f6;
    /// FUSE, and virtiofs: what a process of a user, or the host, says is in the files.
    pub const FUSE: u64 = 0x6573_5546;
    /// overlayfs: several layers that appear as one filesystem.
    pub const OVERLAYFS: u64 = 0x794c_7630;
    /// ramfs: the root of an initial ramdisk where that is not a tmpfs.
    pub(super) const RAMFS: u64 = 0x8584_58f6;
    pub(super) const SQUASHFS: u64 = 0x7371_7368;
    /// `EROFS_SUPER_MAGIC_V1`
    pub(super) const EROFS: u64 = 0xe0f5_e1e2;
    /// `ISOFS_SUPER_MAGIC`
    pub(super) const ISO9660: u64 = 0x9660;
    pub(super) const CRAMFS: u64 = 0x28cd_3d45;
    /// `ROMFS_MAGIC` (include/uapi/linux/romfs_fs.h).
    pub(super) const ROMFS: u64 = 0x7275;
}
