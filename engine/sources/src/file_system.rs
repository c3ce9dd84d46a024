//! Which file system holds a file, found out without a question to that file system.
//!
//! Some file systems ask a server: another program (FUSE) or another machine (NFS). If the server
//! does not answer, the reader waits without end, even past SIGKILL (fs/fuse/dev.c,
//! `request_wait_answer`). A page fault in a mapping of such a file waits, too. A guest's user can
//! mount FUSE, so memory on it could hold the thread that scans all systems.
//!
//! statfs(2) and stat(2) ask the server as well. So the kernel's own facts decide: a file opened
//! with O_PATH has a mount number (`/proc/self/fdinfo`), the lists of mounts name its file system,
//! and statx(2) without synchronisation returns what the kernel remembers of an inode.
//!
//! Not for: files that the user of the program names for one scan. Only that user waits for them.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{AtFlags, CWD, FileType, MemfdFlags, Statx, StatxFlags};
use rustix::fs::{memfd_create, statfs, statx};

/// Types of file systems that ask a server for the content of files (`file_system_type.name`). In
/// comments their numbers in include/uapi/linux/magic.h, where they have one there.
const REMOTE: &[&str] = &[
    "9p",  // V9FS_MAGIC
    "afs", // AFS_FS_MAGIC
    "beegfs", "ceph",    // CEPH_SUPER_MAGIC
    "cifs",    // CIFS_SUPER_MAGIC
    "coda",    // CODA_SUPER_MAGIC
    "fuse",    // FUSE_SUPER_MAGIC
    "fuseblk", // FUSE_SUPER_MAGIC
    "gfs2",    // waits for the locks of its cluster
    "gpfs", "lustre", "ncpfs", // NCP_SUPER_MAGIC
    "nfs",   // NFS_SUPER_MAGIC
    "nfs4",  // NFS_SUPER_MAGIC
    "ocfs2", // OCFS2_SUPER_MAGIC; waits for the locks of its cluster
    "orangefs", "pvfs2", "smb3",     // SMB2_SUPER_MAGIC
    "smbfs",    // SMB_SUPER_MAGIC
    "vboxsf",   // VBOXSF_SUPER_MAGIC
    "virtiofs", // FUSE_SUPER_MAGIC
];
/// Types that an unprivileged user may mount over a file system of his own, in a mount namespace of
/// his own.
const STACKED: &[&str] = &["ecryptfs", "overlay"];
/// Numbers of file systems that ask nobody (include/uapi/linux/magic.h; that of ZFS is in its
/// `sys/zfs_vfsops.h`). Only the root of this program is judged by them.
const LOCAL: [u64; 8] = [
    0xef53,      // EXT4_SUPER_MAGIC; ext2 and ext3 have it, too
    0x0102_1994, // TMPFS_MAGIC
    0x2fc1_2fc1, // ZFS
    0x5846_5342, // XFS_SUPER_MAGIC
    0x794c_7630, // OVERLAYFS_SUPER_MAGIC
    0x8584_58f6, // RAMFS_MAGIC
    0x9123_683e, // BTRFS_SUPER_MAGIC
    0xf2f5_2010, // F2FS_SUPER_MAGIC
];
/// Largest list of mounts in bytes; a host with thousands of containers has some MiB.
const MOUNTS_BYTES_MAX: u64 = 64 << 20;
/// Sizes of huge pages on x86-64 and arm64, and the default. Each has a mount inside of the kernel.
const HUGE_PAGES: [MemfdFlags; 6] = [
    MemfdFlags::empty(),
    MemfdFlags::HUGE_64KB,
    MemfdFlags::HUGE_2MB,
    MemfdFlags::HUGE_32MB,
    MemfdFlags::HUGE_1GB,
    MemfdFlags::HUGE_16GB,
];

/// What the kernel remembers of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CachedStat {
    pub(crate) is_regular: bool,
    /// Major and minor number of the device.
    pub(crate) device: (u32, u32),
    pub(crate) inode: u64,
}

impl From<Statx> for CachedStat {
    fn from(facts: Statx) -> Self {
        Self {
            is_regular: FileType::from_raw_mode(facts.stx_mode.into()) == FileType::RegularFile,
            device: (facts.stx_dev_major, facts.stx_dev_minor),
            inode: facts.stx_ino,
        }
    }
}

impl CachedStat {
    /// Reads type, device and inode of an open file.
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(statx(file, "", flags, StatxFlags::TYPE | StatxFlags::INO)?.into())
    }

    /// Device (major, minor) and inode.
    pub(crate) fn identity(&self) -> (u32, u32, u64) {
        (self.device.0, self.device.1, self.inode)
    }

    /// Reads type, device and inode of the file at a path; links are followed.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let flags = AtFlags::STATX_DONT_SYNC;
        Ok(statx(CWD, path, flags, StatxFlags::TYPE | StatxFlags::INO)?.into())
    }
}

/// Why a file must not be read by a thread that others wait for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum MayBlock {
    #[error(
        "it is on {0}, where a read can wait without end: use tmpfs, hugetlbfs, a memfd or a \
         local disk"
    )]
    Remote(&'static str),
    #[error(
        "it is on {0} in a mount namespace of its own, where a read can wait without end: use \
         tmpfs, hugetlbfs, a memfd or a local disk"
    )]
    Stacked(&'static str),
    #[error(
        "its file system is not mounted any more, so a read can wait without end: use tmpfs, \
         hugetlbfs, a memfd or a local disk that stays mounted"
    )]
    Detached,
}

impl From<MayBlock> for io::Error {
    fn from(error: MayBlock) -> Self {
        Self::new(io::ErrorKind::Unsupported, error)
    }
}

/// Whether reading a file can wait for a server; `None` if it cannot. `file` may be open with
/// O_PATH. `others` returns the list of mounts of the process that has opened it first.
pub(crate) fn may_block(
    file: &File,
    others: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Option<MayBlock>> {
    if is_internal(CachedStat::of(file)?.device) {
        return Ok(None);
    }
    judge(mount_of(file)?, &read_mounts(Path::new("/proc/self/mountinfo"))?, others)
}

/// As [`may_block`], for a mount, with the program's own list of mounts.
fn judge(
    mount: u64,
    own: &[u8],
    others: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Option<MayBlock>> {
    if let Some(kind) = type_of(mount, own) {
        return Ok(remote(&kind).map(MayBlock::Remote));
    }
    if is_own_root(mount)? {
        return Ok(None);
    }
    if let Some(kind) = type_of(mount, &others()?) {
        let stacked = STACKED.iter().find(|name| **name == kind).copied();
        return Ok(remote(&kind).map(MayBlock::Remote).or(stacked.map(MayBlock::Stacked)));
    }
    Ok(Some(MayBlock::Detached))
}

/// Whether a mount is that of this program's root, on a local file system. No list shows it where
/// chroot(2) made a folder the root. The program itself is read from there, so a question to this
/// file system waits for nobody else.
fn is_own_root(mount: u64) -> io::Result<bool> {
    let root = File::options().read(true).custom_flags(libc::O_PATH).open("/")?;
    Ok(mount_of(&root)? == mount && LOCAL.contains(&(statfs("/")?.f_type as u64)))
}

/// A list of mounts, in the form of proc_pid_mountinfo(5).
pub(crate) fn read_mounts(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MOUNTS_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// The number of the mount through which a file was opened.
fn mount_of(file: &File) -> io::Result<u64> {
    let path = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    let text = std::fs::read_to_string(path)?;
    let number = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let number = number.and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// The type of the file system of a mount. The kernel escapes blanks in all names.
fn type_of(mount: u64, mounts: &[u8]) -> Option<String> {
    mounts.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(|byte| *byte == b' ');
        let number: u64 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
        if number != mount {
            return None;
        }
        // Five fields, then optional ones up to a hyphen.
        let mut words = words.skip(5).skip_while(|word| *word != b"-");
        words.nth(1).map(|kind| String::from_utf8_lossy(kind).into_owned())
    })
}

/// The entry of [`REMOTE`] for a type, which may have a subtype (`fuse.sshfs`).
fn remote(kind: &str) -> Option<&'static str> {
    let base = kind.split('.').next().unwrap_or(kind);
    REMOTE.iter().find(|name| **name == base).copied()
}

/// Whether a device is that of the kernel's own mounts of tmpfs and hugetlbfs, which no list shows:
/// those of memfd_create(2) and shmget(2).
fn is_internal(device: (u32, u32)) -> bool {
    static DEVICES: OnceLock<Vec<(u32, u32)>> = OnceLock::new();
    let devices = DEVICES.get_or_init(|| {
        let sizes = HUGE_PAGES.into_iter().map(|size| size | MemfdFlags::HUGETLB);
        let own = |flags| {
            let file = File::from(memfd_create(c"panoptes", flags | MemfdFlags::CLOEXEC).ok()?);
            CachedStat::of(&file).ok().map(|facts| facts.device)
        };
        std::iter::once(MemfdFlags::empty()).chain(sizes).filter_map(own).collect()
    });
    devices.contains(&device)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::super::mapping::testing::memfd;
    use super::*;

    const MOUNTS: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
40 27 0:33 / /mnt/a\\040-\\040b rw,nosuid shared:5 master:1 - fuse.sshfs user@host: rw,user_id=0
41 27 0:34 / /mnt/nfs rw - nfs4 server:/ rw
42 27 0:35 /x /mnt/x rw - ext4 /dev/vda rw
43 27 0:36 / /merged rw - overlay overlay rw,lowerdir=/a
44 27 0:37 / /mnt/cut rw";

    #[test]
    fn a_mount_has_the_type_of_its_line() {
        let kind = |mount| type_of(mount, MOUNTS);
        assert_eq!(kind(22).as_deref(), Some("proc"));
        assert_eq!(kind(40).as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind(42).as_deref(), Some("ext4"));
        assert_eq!((kind(4), kind(44), kind(27)), (None, None, None));
        assert_eq!(type_of(22, b""), None);
    }

    #[test]
    fn file_systems_with_a_server_are_known() {
        for kind in ["fuse", "fuse.sshfs", "fuseblk", "nfs", "nfs4", "cifs", "9p", "virtiofs"] {
            let error = MayBlock::Remote(remote(kind).unwrap()).to_string();
            assert!(!error.contains('\n') && error.contains("wait without end"), "{error}");
        }
        for kind in ["tmpfs", "hugetlbfs", "ext4", "xfs", "btrfs", "zfs", "fuses", "proc", ""] {
            assert_eq!(remote(kind), None, "{kind}");
        }
    }

    #[test]
    fn memory_and_local_disks_do_not_block() {
        let nothing = || Ok(Vec::new());
        let unnamed = memfd(4096, 0).unwrap();
        assert_eq!(may_block(&unnamed, nothing).unwrap(), None);
        if let Ok(huge) = memfd(0, libc::MFD_HUGETLB) {
            assert_eq!(may_block(&huge, nothing).unwrap(), None);
        }
        for folder in [std::env::temp_dir(), "/dev/shm".into()] {
            let path = tempfile::NamedTempFile::new_in(folder).unwrap().into_temp_path();
            let held =
                OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
            assert_eq!(may_block(&held, nothing).unwrap(), None);
        }
    }

    /// What only the guest's own list of mounts has may be anything that its user has mounted.
    #[test]
    fn mounts_of_the_guest_are_trusted_less() {
        let line = |kind: &str| format!("7 27 0:33 / /mnt rw - {kind} x rw\n").into_bytes();
        let foreign = |kind: &str| judge(7, b"", || Ok(line(kind))).unwrap();
        let own = |kind: &str| judge(7, &line(kind), || panic!("not needed")).unwrap();
        assert_eq!(foreign("fuse.evil\u{1b}"), Some(MayBlock::Remote("fuse")));
        assert_eq!(own("fuse.evil"), Some(MayBlock::Remote("fuse")));
        assert_eq!(foreign("overlay"), Some(MayBlock::Stacked("overlay")));
        assert_eq!((own("overlay"), own("ext4")), (None, None));
        assert_eq!((foreign("tmpfs"), foreign("xfs")), (None, None));
        assert_eq!(judge(8, &line("ext4"), || Ok(line("ext4"))).unwrap(), Some(MayBlock::Detached));
    }

    /// As in a folder that chroot(2) made the root: no list has the mount.
    #[test]
    fn the_root_of_this_program_does_not_block() {
        let root = File::options().read(true).custom_flags(libc::O_PATH).open("/").unwrap();
        let mount = mount_of(&root).unwrap();
        assert_eq!(judge(mount, b"", || Ok(Vec::new())).unwrap(), None);
        assert!(!is_own_root(mount + 1_000_000).unwrap());
    }

    #[test]
    fn a_device_that_is_not_the_kernels_own_is_detached() {
        assert!(!is_internal((0, 0)) && !is_internal((8, 1)));
        assert!(is_internal(CachedStat::of(&memfd(0, 0).unwrap()).unwrap().device));
    }

    #[test]
    fn facts_are_those_of_stat() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = file.as_file().metadata().unwrap();
        let expected = CachedStat {
            is_regular: true,
            device: (libc::major(stat.dev()), libc::minor(stat.dev())),
            inode: stat.ino(),
        };
        assert_eq!(CachedStat::of(file.as_file()).unwrap(), expected);
        assert_eq!(CachedStat::at(file.path()).unwrap(), expected);
        assert!(!CachedStat::at(&std::env::temp_dir()).unwrap().is_regular);
    }
}
