//! `struct inode` (include/linux/fs.h): a file itself, whatever it is called.

use crate::address::KernelVa;
use crate::layout::View;

crate::layout! {
    /// `struct inode` (include/linux/fs.h).
    pub struct Inode("inode") {
        /// Type and permissions.
        i_mode: ["i_mode"],
        /// Owner.
        i_uid: ["i_uid.val", "i_uid"],
        /// Group.
        i_gid: ["i_gid.val", "i_gid"],
        /// Number.
        i_ino: ["i_ino"],
        /// Links; zero when unlinked.
        i_nlink: ["i_nlink"],
        /// Size in bytes.
        i_size: ["i_size"],
        /// Device that a device file stands for.
        i_rdev: ["i_rdev"],
        /// `struct super_block *`
        i_sb: ["i_sb"],
        /// `struct address_space *`: where its pages are.
        i_mapping: ["i_mapping"],
        /// Size of its blocks, as a power of two; of hugetlbfs that of its pages.
        i_blkbits: ["i_blkbits"],
        /// Access time. Seconds since Linux commit 3aa63a569c64 ("fs: switch timespec64 fields in inode to
        /// discrete integers") (in v6.11); before that a `timespec64`.
        atime_sec: ["i_atime_sec", "__i_atime.tv_sec", "i_atime.tv_sec"],
        /// Its nanoseconds.
        atime_nsec: ["i_atime_nsec", "__i_atime.tv_nsec", "i_atime.tv_nsec"],
        /// Modification time.
        mtime_sec: ["i_mtime_sec", "__i_mtime.tv_sec", "i_mtime.tv_sec"],
        /// Its nanoseconds.
        mtime_nsec: ["i_mtime_nsec", "__i_mtime.tv_nsec", "i_mtime.tv_nsec"],
        /// Change time.
        ctime_sec: ["i_ctime_sec", "__i_ctime.tv_sec", "i_ctime.tv_sec"],
        /// Its nanoseconds; the kernel may keep a flag in the top bit (`I_CTIME_QUERIED`, v6.13).
        ctime_nsec: ["i_ctime_nsec", "__i_ctime.tv_nsec", "i_ctime.tv_nsec"],
        /// The change time under the name that it had before Linux commit 13bc24457850 ("fs: rename
        /// i_ctime field to __i_ctime") (in v6.6): says that a kernel is older than that.
        i_ctime?: ["i_ctime"],
    }
}

crate::layout! {
    /// What few inodes are asked for, far from the rest of `struct inode`.
    pub struct InodePrivate("inode") {
        /// What a filesystem keeps: for a namespace file its `struct ns_common`.
        i_private: ["i_private"],
    }
}

crate::layout! {
    /// Who holds an inode's lock: whoever writes to a file holds it alone, from before the first byte until after the
    /// last (`generic_file_write_iter`, mm/filemap.c, and what filesystems have in its place).
    pub struct InodeLock("inode") {
        /// `struct rw_semaphore` (include/linux/rwsem.h).
        count?: ["i_rwsem.count.counter"],
        /// The same of real-time kernels (include/linux/rwbase_rt.h).
        readers?: ["i_rwsem.rwbase.readers.counter"],
    }
}

impl InodeLock {
    /// Whether somebody holds it alone, by the packed copy of the inode; `false` where that is not known.
    pub fn is_written(&self, bytes: &[u8]) -> bool {
        let view = View::new(bytes);
        // `RWSEM_WRITER_LOCKED` (kernel/locking/rwsem.c, v5.10 to v7.2), `WRITER_BIAS` (include/linux/rwbase_rt.h).
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

/// What a `struct inode` says.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Attributes {
    /// Type and permissions.
    pub mode: u16,
    /// Owner, in the initial user namespace.
    pub uid: u32,
    /// Group, in the initial user namespace.
    pub gid: u32,
    /// Number.
    pub ino: u64,
    /// Links.
    pub nlink: u32,
    /// Size in bytes.
    pub size: u64,
    /// Device that a device file stands for, as the kernel encodes it (`major << 20 | minor`).
    pub rdev: u32,
    /// `struct super_block *`
    pub super_block: KernelVa,
    /// `struct address_space *`
    pub mapping: KernelVa,
    /// Size of its blocks, as a power of two.
    pub block_bits: u8,
    /// Access time in nanoseconds since 1970.
    pub atime_ns: i64,
    /// Modification time in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time in nanoseconds since 1970.
    pub ctime_ns: i64,
}

impl Attributes {
    /// Decodes the packed copy of an inode.
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

    /// The type bits of the mode.
    pub const fn kind(&self) -> u16 {
        self.mode & mode::S_IFMT
    }
}

/// The kernel's own `dev_t` as (major, minor) (include/linux/kdev_t.h).
pub const fn device_numbers(device: u32) -> (u32, u32) {
    (device >> 20, device & 0xf_ffff)
}
