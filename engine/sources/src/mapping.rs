//! A file mapped read-only, and the few system calls that the standard library lacks.
//!
//! This module is mechanism only: [`super::mapped`] decides what to read and what an answer means.
//! Memory in a mapping changes while it is read (a guest writes to it) or goes away (the file
//! shrinks). So no Rust reference ever points into it: bytes are copied out through raw pointers,
//! and only the copy is read.
//!
//! The mapping of a file in memory is *guarded* where the kernel allows it: it is registered with a
//! userfaultfd(2) that answers every access to a hole with SIGBUS instead of allocating. One
//! descriptor serves all mappings, for it only marks their addresses. The kernel
//! requires a private mapping for that, since the descriptor is open for reading only. Nothing is
//! ever written to the mapping, so it still shows the file.
#![allow(
    unsafe_code,
    reason = "mmap, raw copies out of it, prefetch, lseek, fstatfs, leases, userfaultfd"
)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::{Duration, SystemTime};

use panoptes_decoders::source::CACHE_LINE_BYTES;

use super::sigbus::{self, Guard};

const _: () = assert!(size_of::<usize>() == size_of::<u64>(), "offsets in files are u64");

/// Lines of a request that are prefetched; the CPU itself fetches what follows.
const PREFETCH_LINES_MAX: usize = 8;

/// A file mapped read-only. The field order matters: the signal guard is dropped before the range.
#[derive(Debug)]
pub(super) struct FileMapping {
    signals: Guard,
    range: Range,
    /// Keeps holes from being filled.
    holes: Option<&'static OwnedFd>,
}

/// A mapped range of addresses, unmapped on drop.
#[derive(Debug)]
struct Range {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and this is its only owner.
unsafe impl Send for Range {}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: the range came from mmap with this very length and nothing points into it any
        // more. Parts that the SIGBUS handler replaced go with it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

impl Range {
    /// Guards the holes in a part of the range; `false` if the kernel refuses.
    fn register(&self, guard: &OwnedFd, offset: usize, bytes: usize) -> bool {
        let mut request = UffdioRegister {
            start: self.start.as_ptr() as u64 + offset as u64,
            length: bytes as u64,
            mode: UFFDIO_REGISTER_MODE_MISSING,
            ioctls: 0,
        };
        // SAFETY: the pointer is to a live request of the layout that the kernel expects for this
        // number. The call changes how faults in this range are handled, and nothing else.
        unsafe { libc::ioctl(guard.as_raw_fd(), UFFDIO_REGISTER, &raw mut request) == 0 }
    }
}

impl FileMapping {
    /// Maps the first `bytes` of the file, guarded if `guarded` is set, the file is in memory and
    /// the kernel allows it. `Ok(None)` if too many files are mapped already.
    pub(super) fn new(
        file: &File,
        bytes: usize,
        keeper: Keeper,
        guarded: bool,
    ) -> io::Result<Option<Self>> {
        let page_bytes = match keeper {
            Keeper::HugePages(bytes) => bytes,
            Keeper::Memory | Keeper::Disk => sigbus::page_bytes()?,
        };
        let mut holes = if guarded && keeper == Keeper::Memory { hole_guard() } else { None };
        let sharing = sharing(holes.is_some());
        // SAFETY: no address is asked for, so nothing is replaced; the kernel checks the rest.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, sharing, file.as_raw_fd(), 0)
        };
        let start = NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED);
        let range = Range { start: start.ok_or_else(io::Error::last_os_error)?, bytes };
        // A core of this program must not hold the guest's memory. Refusal does no other harm. No
        // MADV_RANDOM: it would make a sweep over a dump on disk read page by page. Without it the
        // kernel still stops reading around after a hundred misses (mm/filemap.c, MMAP_LOTSAMISS).
        // SAFETY: `range` owns these addresses; the advice changes no content.
        unsafe { libc::madvise(range.start.as_ptr().cast(), bytes, libc::MADV_DONTDUMP) };
        if holes.is_some_and(|guard| !range.register(guard, 0, bytes)) {
            holes = None; // the private mapping serves as well as a shared one
        }
        let signals = Guard::new(range.start.as_ptr() as usize, bytes, page_bytes);
        Ok(signals.map(|signals| Self { signals, range, holes }))
    }

    /// Whether reading a hole leaves it a hole.
    pub(super) fn is_guarded(&self) -> bool {
        self.holes.is_some()
    }

    /// Whether a copy has met an unavailable page, so that a part of the mapping is not the file.
    pub(super) fn is_broken(&self) -> bool {
        self.signals.faulted()
    }

    /// Maps the file again everywhere where copies have met an unavailable page.
    pub(super) fn mend(&mut self, file: &File) -> io::Result<()> {
        // The handler has replaced more than one copy's bytes: a copy continues behind the page
        // that was unavailable, and the next copy may be of other bytes.
        let replaced = self.signals.replaced();
        if replaced.is_empty() {
            return Ok(());
        }
        let (from, length) = (replaced.start - self.range.start.addr().get(), replaced.len());
        let sharing = sharing(self.is_guarded());
        let start = self.range.start.as_ptr().wrapping_add(from).cast::<c_void>();
        let at = i64::try_from(from).map_err(io::Error::other)?;
        // SAFETY: the addresses are inside `self.range`, since the handler replaces nothing else,
        // and begin with a page of the mapping. No Rust reference points there.
        let mapped = unsafe {
            libc::mmap(
                start,
                length,
                libc::PROT_READ,
                sharing | libc::MAP_FIXED,
                file.as_raw_fd(),
                at,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as in `new`.
        unsafe { libc::madvise(start, length, libc::MADV_DONTDUMP) };
        if self.holes.is_some_and(|guard| !self.range.register(guard, from, length)) {
            return Err(io::Error::last_os_error());
        }
        self.signals.unmark();
        Ok(())
    }

    /// Copies the bytes at `offset` to `target`; `false` if not all could be copied. `target` then
    /// has no meaningful content.
    #[inline]
    pub(super) fn copy(&self, offset: usize, target: &mut [u8]) -> bool {
        let inside = offset.checked_add(target.len()).is_some_and(|end| end <= self.range.bytes);
        if !inside {
            return false;
        }
        // SAFETY: the source is in the mapping, as just tested, and the target is a slice of its
        // own that cannot overlap it. Another process may write to the source meanwhile: the copy
        // is then a mixture of old and new bytes, which every reader of guest memory has to expect.
        // In Rust's terms such a race is undefined. VMMs in Rust do the same: they copy between raw
        // pointers, where the compiler sees nothing but bytes and cannot read the source twice. A
        // page that is unavailable raises SIGBUS; the handler then maps zeros there and sets the
        // mark.
        unsafe {
            let source = self.range.start.as_ptr().add(offset);
            ptr::copy_nonoverlapping(source, target.as_mut_ptr(), target.len());
        }
        // The handler runs in this thread, so only the compiler's order matters. An older mark that
        // nobody has mended yet counts as well.
        compiler_fence(Ordering::SeqCst);
        !self.signals.faulted()
    }

    /// Begins to fetch the bytes at `offset` into the CPU's cache. Never faults and never
    /// allocates: a prefetch of an address that has no page yet does nothing.
    #[inline]
    pub(super) fn prefetch(&self, offset: usize, bytes: usize) {
        let first = offset & !(CACHE_LINE_BYTES - 1);
        let lines = (offset - first).saturating_add(bytes).div_ceil(CACHE_LINE_BYTES);
        for line in 0..lines.min(PREFETCH_LINES_MAX) {
            let Some(at) = first.checked_add(line * CACHE_LINE_BYTES) else { return };
            if at >= self.range.bytes {
                return;
            }
            // SAFETY: the address is in the mapping, as just tested.
            prefetch_line(unsafe { self.range.start.as_ptr().add(at) });
        }
    }
}

/// Flags for mmap. Nothing is reserved: on hugetlbfs a reservation would take the guest's own
/// pages.
fn sharing(guarded: bool) -> libc::c_int {
    libc::MAP_NORESERVE | if guarded { libc::MAP_PRIVATE } else { libc::MAP_SHARED }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and a prefetch has no effect that a program can see.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

// Elsewhere the intrinsic is not stable; batches rely on the CPU's own reordering there.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_address: *const u8) {}

// From linux/userfaultfd.h; the libc crate lacks these.
const UFFD_USER_MODE_ONLY: libc::c_int = 1;
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_MISSING_SHMEM: u64 = 1 << 5;
const UFFD_FEATURE_SIGBUS: u64 = 1 << 7;
const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

#[repr(C)]
struct UffdioRegister {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

/// The userfaultfd of all guarded mappings. Unmapping a range ends its registration.
fn hole_guard() -> Option<&'static OwnedFd> {
    static GUARD: OnceLock<Option<OwnedFd>> = OnceLock::new();
    GUARD.get_or_init(new_hole_guard).as_ref()
}

/// A userfaultfd that answers with SIGBUS; `None` if it is not available (a container's seccomp
/// filter, a kernel without it).
fn new_hole_guard() -> Option<OwnedFd> {
    // Faults from user mode are enough, and unprivileged processes may handle them (from 5.11 on).
    let flags = libc::O_CLOEXEC | UFFD_USER_MODE_ONLY;
    userfaultfd(flags, UFFD_FEATURE_SIGBUS | UFFD_FEATURE_MISSING_SHMEM)
}

/// A userfaultfd with these features; `None` if it is not available.
fn userfaultfd(flags: libc::c_int, features: u64) -> Option<OwnedFd> {
    // SAFETY: the call takes no pointers, and its result is a new descriptor or an error.
    let guard = unsafe {
        let descriptor = libc::syscall(libc::SYS_userfaultfd, flags);
        let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
        OwnedFd::from_raw_fd(descriptor)
    };
    let mut api = UffdioApi { api: UFFD_API, features, ioctls: 0 };
    // SAFETY: the pointer is to a live request of the layout that the kernel expects for this
    // number.
    let agreed = unsafe { libc::ioctl(guard.as_raw_fd(), UFFDIO_API, &raw mut api) == 0 };
    agreed.then_some(guard)
}

/// The first offset from `from` on where the file may hold data; `None` if there is none.
pub(super) fn seek_data(file: &File, from: u64) -> io::Result<Option<u64>> {
    seek(file, from, libc::SEEK_DATA)
}

/// The first offset from `from` on where the file has a hole or ends; `None` from its end on.
pub(super) fn seek_hole(file: &File, from: u64) -> io::Result<Option<u64>> {
    seek(file, from, libc::SEEK_HOLE)
}

fn seek(file: &File, from: u64, whence: i32) -> io::Result<Option<u64>> {
    let Ok(from) = i64::try_from(from) else { return Ok(None) };
    // SAFETY: lseek takes no pointers. It moves the file's position, which nothing here uses.
    let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    u64::try_from(found).map(Some).or_else(|_| {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) }
    })
}

/// The kind of file system that holds a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Keeper {
    /// tmpfs, and files made by memfd_create: a mapped read of a hole allocates memory.
    Memory,
    /// hugetlbfs, with the size of its pages in bytes. Like tmpfs, but its lseek is the kernel's
    /// generic one, which finds no holes.
    HugePages(usize),
    /// Any other file system. A mapped read of a hole costs only page cache.
    Disk,
}

/// The facts about the file system of a file.
fn file_system(file: &File) -> io::Result<libc::statfs> {
    // SAFETY: statfs is plain data for which zeros are valid.
    let mut facts: libc::statfs = unsafe { mem::zeroed() };
    // SAFETY: the descriptor is open and the pointer is to a live statfs.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut facts) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(facts)
}

/// The type of a file system, as libc's constants have it: musl's statfs has an unsigned number.
fn magic_of(facts: &libc::statfs) -> libc::c_long {
    facts.f_type as libc::c_long
}

impl Keeper {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let facts = file_system(file)?;
        Ok(match magic_of(&facts) {
            libc::TMPFS_MAGIC => Self::Memory,
            libc::HUGETLBFS_MAGIC => Self::HugePages(usize::try_from(facts.f_bsize).unwrap_or(0)),
            _ => Self::Disk,
        })
    }
}

/// `fcntl` command (include/uapi/asm-generic/fcntl.h), which libc lacks on some architectures.
const F_SETSIG: libc::c_int = 10;

/// Time after which a file that nothing changed is at rest. Linux writes changed memory back within
/// some minutes, whatever its settings are (Documentation/admin-guide/sysctl/vm.rst,
/// `dirty_expire_centisecs`).
const REST: Duration = Duration::from_mins(10);

/// Whether another process may have a file open for writing, as QEMU has a guest's memory.
///
/// The kernel grants a read lease only if nobody has the file open or mapped for writing
/// (`check_conflicting_open`, fs/locks.c); the lease is released at once. The kernel does not count
/// writers of a memfd, but a memfd has no name.
///
/// The kernel may grant no lease at all: to a caller that is neither the owner nor root, or on some
/// file systems. Then the answer is `false` only for a file that [`is_at_rest`].
pub(super) fn may_be_written(file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let facts = file.metadata()?;
    if facts.nlink() == 0 {
        return Ok(true);
    }
    let lease = |command, argument: libc::c_int| {
        // SAFETY: the descriptor is open; neither command takes a pointer.
        unsafe { libc::fcntl(file.as_raw_fd(), command, argument) == 0 }
    };
    // A process that opens the file for writing meanwhile waits until the lease is released, and
    // this process gets a signal: SIGURG, which is ignored by default.
    if lease(F_SETSIG, libc::SIGURG) && lease(libc::F_SETLEASE, libc::F_RDLCK) {
        lease(libc::F_SETLEASE, libc::F_UNLCK);
        return Ok(false);
    }
    let has_writer = io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
    let system = magic_of(&file_system(file)?);
    // /proc/vmcore cannot be written.
    if system == libc::PROC_SUPER_MAGIC {
        return Ok(false);
    }
    let age = SystemTime::now().duration_since(facts.modified()?).unwrap_or_default();
    Ok(has_writer || !is_at_rest(system, age))
}

/// Whether a file on a file system of type `system`, last changed `age` ago, is no memory of a
/// machine that runs.
///
/// On a disk, each page that is written again after its write-back changes the file's time
/// (`file_update_time` in the `page_mkwrite` of each file system), and a machine that runs writes
/// to its memory. In memory, no write through a mapping changes it.
fn is_at_rest(system: libc::c_long, age: Duration) -> bool {
    const DISKS: [libc::c_long; 5] = [
        libc::EXT4_SUPER_MAGIC,
        libc::XFS_SUPER_MAGIC,
        libc::BTRFS_SUPER_MAGIC,
        libc::F2FS_SUPER_MAGIC,
        libc::NFS_SUPER_MAGIC,
    ];
    /// The file systems that cannot be written: squashfs and ISO 9660 (include/uapi/linux/magic.h).
    const READ_ONLY: [libc::c_long; 2] = [0x7371_7368, libc::ISOFS_SUPER_MAGIC];
    READ_ONLY.contains(&system) || DISKS.contains(&system) && age >= REST
}

#[cfg(test)]
pub(super) mod testing {
    //! System calls for tests that the standard library lacks.

    use std::ffi::CString;
    use std::os::fd::{AsRawFd as _, FromRawFd as _};

    use super::{File, NonNull, OwnedFd, Range, io, ptr, userfaultfd};

    /// An anonymous file in memory, as QEMU's memory-backend-memfd makes it.
    pub(crate) fn memfd(bytes: u64, flags: u32) -> io::Result<File> {
        let name = CString::new("guest").unwrap();
        // SAFETY: the name is a C string that lives through the call; the descriptor is new and
        // owned by nothing else.
        let file = unsafe {
            let descriptor = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | flags);
            if descriptor < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from_raw_fd(descriptor)
        };
        file.set_len(bytes)?;
        Ok(file)
    }

    /// Frees a part of a file, as a guest's balloon does.
    pub(crate) fn punch(file: &File, offset: u64, bytes: u64) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        fallocate(file, mode, offset, bytes).unwrap();
    }

    /// Allocates all of a file, as QEMU does with `prealloc=on`.
    pub(crate) fn fill(file: &File, bytes: u64) -> io::Result<()> {
        fallocate(file, 0, 0, bytes)
    }

    /// Memory of which a read waits without end, as that of a migration that stands still.
    pub(crate) struct StalledMemory {
        _faults: OwnedFd,
        range: Range,
    }

    impl StalledMemory {
        /// `None` without the permission to handle faults of the kernel.
        pub(crate) fn new(bytes: usize) -> Option<Self> {
            let sharing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: no address is asked for, so nothing is replaced.
            let start =
                unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, sharing, -1, 0) };
            assert_ne!(start, libc::MAP_FAILED);
            let range = Range { start: NonNull::new(start.cast())?, bytes };
            let faults = userfaultfd(libc::O_CLOEXEC, 0)?;
            range.register(&faults, 0, bytes).then_some(Self { _faults: faults, range })
        }

        pub(crate) fn address(&self) -> u64 {
            self.range.start.addr().get() as u64
        }
    }

    fn fallocate(file: &File, mode: i32, offset: u64, bytes: u64) -> io::Result<()> {
        // SAFETY: fallocate takes no pointers.
        let done = unsafe { libc::fallocate(file.as_raw_fd(), mode, offset as i64, bytes as i64) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::testing::{memfd, punch};
    use super::*;

    const FILE_BYTES: usize = 4 << 20;
    const PAGE: usize = 4096;

    /// A page is freed and written again: everything that the handler replaced is the file again.
    #[test]
    fn mending_covers_all_that_was_replaced() {
        let file = memfd(FILE_BYTES as u64, 0).unwrap();
        file.write_all_at(&vec![0xaa; FILE_BYTES], 0).unwrap();
        let mut mapping =
            FileMapping::new(&file, FILE_BYTES, Keeper::Memory, true).unwrap().unwrap();
        if !mapping.is_guarded() {
            panoptes_needs::skip::test("userfaultfd");
            return;
        }
        let hole = 64 << 10;
        punch(&file, hole as u64, PAGE as u64);
        let mut request = vec![0; 128 << 10];
        assert!(!mapping.copy(0, &mut request) && mapping.is_broken());
        file.write_all_at(&[0xaa; PAGE], hole as u64).unwrap();
        mapping.mend(&file).unwrap();
        assert!(!mapping.is_broken());
        for page in (0..FILE_BYTES).step_by(PAGE) {
            let mut bytes = [0; PAGE];
            assert!(mapping.copy(page, &mut bytes), "{page:#x}");
            assert!(bytes == [0xaa; PAGE], "{page:#x}");
        }
    }

    /// One copy meets several holes, further apart than what the handler replaces at once.
    #[test]
    fn mending_covers_several_faults_and_nothing_behind_the_end() {
        let file = memfd(FILE_BYTES as u64, 0).unwrap();
        file.write_all_at(&vec![0xaa; FILE_BYTES], 0).unwrap();
        let mut mapping =
            FileMapping::new(&file, FILE_BYTES, Keeper::Memory, true).unwrap().unwrap();
        if !mapping.is_guarded() {
            panoptes_needs::skip::test("userfaultfd");
            return;
        }
        let holes = [0x3000, 0x20_0000, FILE_BYTES - PAGE];
        for hole in holes {
            punch(&file, hole as u64, PAGE as u64);
        }
        assert!(!mapping.copy(0, &mut vec![0; FILE_BYTES]));
        let start = mapping.range.start.addr().get();
        assert_eq!(mapping.signals.replaced(), start + 0x3000..start + FILE_BYTES);
        for hole in holes {
            file.write_all_at(&[0xaa; PAGE], hole as u64).unwrap();
        }
        mapping.mend(&file).unwrap();
        let mut bytes = vec![0; FILE_BYTES];
        assert!(mapping.copy(0, &mut bytes));
        assert!(bytes.iter().all(|byte| *byte == 0xaa));
    }

    #[test]
    fn only_a_file_on_a_disk_that_nothing_changes_is_at_rest() {
        let hour = Duration::from_hours(1);
        assert!(is_at_rest(libc::EXT4_SUPER_MAGIC, hour));
        assert!(!is_at_rest(libc::EXT4_SUPER_MAGIC, Duration::from_mins(9)));
        assert!(is_at_rest(libc::ISOFS_SUPER_MAGIC, Duration::ZERO));
        for system in [libc::TMPFS_MAGIC, libc::HUGETLBFS_MAGIC, libc::OVERLAYFS_SUPER_MAGIC, 0] {
            assert!(!is_at_rest(system, hour));
        }
    }
}
