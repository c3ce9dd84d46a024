//! `struct inode` (include/linux/fs.h): a file, independent of its names.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct inode` (include/linux/fs.h).
    pub struct Inode("inode") {
        /// Type and permissions.
        i_mode: ["i_mode"],
        i_uid: ["i_uid.val", "i_uid"],
        i_gid: ["i_gid.val", "i_gid"],
        /// Inode number.
        i_ino: ["i_ino"],
        /// Number of links; zero after the last unlink.
        i_nlink: ["i_nlink"],
        /// Size in bytes.
        i_size: ["i_size"],
        /// Device number of a device file.
        i_rdev: ["i_rdev"],
        /// `struct super_block *`
        i_sb: ["i_sb"],
        /// `struct address_space *` of its pages.
        i_mapping: ["i_mapping"],
        /// Block size as a power of two; for hugetlbfs the page size.
        i_blkbits: ["i_blkbits"],
        /// Access time, seconds. A field of its own since Linux commit 3aa63a569c64 ("fs: switch
        /// timespec64 fields in inode to discrete integers") (in v6.11); before that in a
        /// `timespec64`.
        atime_sec: ["i_atime_sec", "__i_atime.tv_sec", "i_atime.tv_sec"],
        atime_nsec: ["i_atime_nsec", "__i_atime.tv_nsec", "i_atime.tv_nsec"],
        /// Modification time.
        mtime_sec: ["i_mtime_sec", "__i_mtime.tv_sec", "i_mtime.tv_sec"],
        mtime_nsec: ["i_mtime_nsec", "__i_mtime.tv_nsec", "i_mtime.tv_nsec"],
        /// Change time.
        ctime_sec: ["i_ctime_sec", "__i_ctime.tv_sec", "i_ctime.tv_sec"],
        /// The kernel may keep a flag in the top bit (`I_CTIME_QUERIED`, v6.13).
        ctime_nsec: ["i_ctime_nsec", "__i_ctime.tv_nsec", "i_ctime.tv_nsec"],
        /// The name of the change time before Linux commit 13bc24457850 ("fs: rename i_ctime field
        /// to __i_ctime") (in v6.6): present only in older kernels.
        i_ctime?: ["i_ctime"],
    }
}

crate::layout! {
    /// A field that is read of few inodes only, far from the rest of `struct inode`.
    pub struct InodePrivate("inode") {
        /// Private data of the filesystem: a `struct ns_common *` for a namespace file.
        i_private: ["i_private"],
    }
}

crate::layout! {
    /// The names of an inode in memory, read of few inodes only.
    pub struct InodeNames("inode") {
        /// Link in the first of its names (`i_dentry`, a list of `dentry.d_u.d_alias`); null if
        /// none is in memory.
        first: ["i_dentry.first"],
    }
}

crate::layout! {
    /// The lock of an inode. A writer holds it exclusively from before the first byte until after
    /// the last (`generic_file_write_iter`, mm/filemap.c, and the filesystems' replacements of it).
    pub struct InodeLock("inode") {
        /// `struct rw_semaphore` (include/linux/rwsem.h).
        count?: ["i_rwsem.count.counter"],
        /// The same in real-time kernels (include/linux/rwbase_rt.h).
        readers?: ["i_rwsem.rwbase.readers.counter"],
    }
}

impl InodeLock {
    /// Whether a writer holds the lock, by the packed copy of the inode; `false` if that is
    /// unknown.
    pub fn is_written(&self, bytes: &[u8]) -> bool {
        let view = View::new(bytes);
        // `RWSEM_WRITER_LOCKED` (kernel/locking/rwsem.c, v5.10 to v7.2), `WRITER_BIAS`
        // (include/linux/rwbase_rt.h).
        view.optional(self.count).is_some_and(|count| count & 1 != 0)
            || view.optional(self.readers).is_some_and(|readers| readers == 1 << 30)
    }
}

/// `S_IFMT` and its values (include/uapi/linux/stat.h).
pub mod mode {
    /// Mask of the type.
    pub const S_IFMT: u16 = 0o170_000;
    /// Socket.
    pub const S_IFSOCK: u16 = 0o140_000;
    /// Symbolic link.
    pub const S_IFLNK: u16 = 0o120_000;
    /// Regular file.
    pub const S_IFREG: u16 = 0o100_000;
    /// Block device.
    pub const S_IFBLK: u16 = 0o060_000;
    /// Directory.
    pub const S_IFDIR: u16 = 0o040_000;
    /// Character device.
    pub const S_IFCHR: u16 = 0o020_000;
    /// FIFO.
    pub const S_IFIFO: u16 = 0o010_000;
}

/// The decoded fields of a `struct inode`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Type and permissions.
    pub mode: u16,
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Group, in the initial user namespace.
    pub gid: u32,
    /// Inode number.
    pub ino: u64,
    /// Number of links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device number of a device file, in the kernel's encoding (`major << 20 | minor`).
    pub rdev: u32,
    /// `struct super_block *`
    pub super_block: KernelVa,
    /// `struct address_space *`
    pub mapping: KernelVa,
    /// Block size as a power of two.
    pub block_bits: u8,
    /// Access time in nanoseconds since 1970.
    pub atime_ns: i64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time in nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Attributes {
    /// Decodes the packed copy of a `struct inode`.
    pub fn decode(layout: &Inode, bytes: &[u8]) -> Self {
        let view = View::new(bytes);
        let time = |sec, nsec| {
            let nanoseconds = (view.unsigned(nsec) & 0x3fff_ffff) as i64;
            view.signed(sec).saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Self {
            mode: view.unsigned(layout.i_mode) as u16,
            uid: view.unsigned(layout.i_uid) as u32,
            gid: view.unsigned(layout.i_gid) as u32,
            ino: view.unsigned(layout.i_ino),
            nlink: view.unsigned(layout.i_nlink) as u32,
            size: view.unsigned(layout.i_size),
            rdev: view.unsigned(layout.i_rdev) as u32,
            super_block: view.pointer(layout.i_sb),
            mapping: view.pointer(layout.i_mapping),
            block_bits: view.unsigned(layout.i_blkbits) as u8,
            atime_ns: time(layout.atime_sec, layout.atime_nsec),
            mtime_ns: time(layout.mtime_sec, layout.mtime_nsec),
            ctime_ns: time(layout.ctime_sec, layout.ctime_nsec),
        }
    }

    /// The type bits of the mode (`S_IFMT`).
    pub const fn kind(&self) -> u16 {
        self.mode & mode::S_IFMT
    }
}

/// Splits the kernel's internal `dev_t` into (major, minor) (include/linux/kdev_t.h).
pub const fn device_numbers(device: u32) -> (u32, u32) {
    (device >> 20, device & 0xf_ffff)
}
