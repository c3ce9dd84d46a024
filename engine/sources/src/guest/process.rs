//! [`GuestProcess`]: access to another process through a handle that no later process can inherit.
//!
//! All access goes through a descriptor of the process's folder in /proc, which belongs to that one
//! process for good: it fails once the process id is given to another. Only process_vm_readv(2)
//! needs the process id: a pidfd shows whether the id still belongs to the process ([`Alive`]). A
//! path that the process chose is never opened. Its files
//! are reached through /proc/PID/map_files and /proc/PID/fd, which lead to its open files. The
//! process can change these links at any time, so a file is first held with O_PATH, checked, and
//! only then opened. A file system that asks a server is not asked anything: see [`file_system`].

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::file_system::{self, CachedStat};
use super::areas::{Area, FileIdentity, has_processor};

/// Largest command line in bytes: the kernel allows 2 MiB by default, QEMU's have tens of KiB.
const ARGUMENTS_BYTES_MAX: u64 = 2 << 20;
/// Largest first argument of a command line in bytes: the limit of a path (PATH_MAX,
/// include/uapi/linux/limits.h).
const PROGRAM_BYTES_MAX: u64 = 4096;
/// Largest list of areas in bytes.
const MAPS_BYTES_MAX: u64 = 16 << 20;
/// Largest list of control groups in bytes.
const GROUPS_BYTES_MAX: u64 = 1 << 16;
/// Largest number of descriptors of the process that are checked.
const DESCRIPTORS_MAX: usize = 1 << 16;

/// A handle on another process, valid for that process only.
#[derive(Debug)]
pub struct GuestProcess {
    pid: u32,
    folder: File,
    stat: File,
    /// What [`Self::life`] returned at first.
    life: (u64, u64),
}

/// Shows whether a process id still belongs to the process to which it belonged at first.
#[derive(Debug)]
pub(super) struct Alive(Option<OwnedFd>);

impl Alive {
    /// A handle on the process that has an id now.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        match pidfd_open(pid.ok_or(io::ErrorKind::NotFound)?, PidfdFlags::empty()) {
            Ok(process) => Ok(Self(Some(process))),
            // Before 5.3 only the checks between scans remain.
            Err(Errno::NOSYS) => Ok(Self(None)),
            // It has no kind of its own.
            Err(Errno::SRCH) => Err(io::ErrorKind::NotFound.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the process has ended: one system call. If it has not, its id belongs to it still:
    /// an id is free only once the process was waited for.
    pub(super) fn has_ended(&self) -> bool {
        let Some(process) = &self.0 else { return false };
        let mut process = [PollFd::new(process, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The descriptor becomes readable when the process ends (pidfd_poll, fs/pidfs.c).
        poll(&mut process, Some(&now)) != Ok(0)
    }
}

impl GuestProcess {
    /// Opens a handle; an error if there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        Self::open_in(Path::new("/proc"), pid)
    }

    /// The same for a process whose folder is in another one than /proc, as in a recording. Its
    /// memory cannot be read.
    pub fn open_in(parent: &Path, pid: u32) -> io::Result<Self> {
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_PATH)
            .open(parent.join(pid.to_string()))?;
        let stat = File::open(below(&folder, "stat"))?;
        let mut process = Self { pid, folder, stat, life: (0, 0) };
        process.life = process.life().ok_or(io::ErrorKind::NotFound)?;
        Ok(process)
    }

    /// A handle that shows whether the process has ended.
    pub(super) fn alive(&self) -> io::Result<Alive> {
        let alive = Alive::of(self.pid)?;
        // If the process's own folder still answers, the id belongs to it all the time.
        if self.has_ended() { Err(io::ErrorKind::NotFound.into()) } else { Ok(alive) }
    }

    /// The process's id and start time: no two processes of a boot have the same.
    pub fn key(&self) -> (u32, u64) {
        (self.pid, self.life.0)
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The path of the executable, as the kernel shows it. It must not be opened.
    pub fn executable(&self) -> io::Result<PathBuf> {
        std::fs::read_link(below(&self.folder, "exe"))
    }

    /// The command line, each argument ended by a zero byte. The process can write anything there.
    pub fn arguments(&self) -> io::Result<Vec<u8>> {
        self.read("cmdline", ARGUMENTS_BYTES_MAX)
    }

    /// The first argument of the command line, cut at 4096 bytes: the claimed program.
    pub fn claimed_program(&self) -> io::Result<Vec<u8>> {
        let mut bytes = self.read("cmdline", PROGRAM_BYTES_MAX)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    /// The user ids: real, effective, saved and file system.
    pub fn users(&self) -> io::Result<[u32; 4]> {
        let status = self.read("status", 1 << 16)?;
        let text = String::from_utf8_lossy(&status);
        // The name that precedes it has its line breaks escaped (fs/proc/array.c,
        // `proc_task_name`).
        let line = text.lines().find_map(|line| line.strip_prefix("Uid:"));
        let mut ids = line.unwrap_or("").split_ascii_whitespace().map(str::parse);
        let mut next = || ids.next().and_then(Result::ok).ok_or(io::ErrorKind::InvalidData);
        Ok([next()?, next()?, next()?, next()?])
    }

    /// The areas that can be a guest's memory, ascending.
    pub fn areas(&self) -> io::Result<Vec<Area>> {
        Ok(Area::parse(&String::from_utf8_lossy(&self.maps()?)))
    }

    /// Whether the process has a virtual processor of KVM.
    pub fn has_kvm(&self) -> io::Result<bool> {
        Ok(has_processor(&String::from_utf8_lossy(&self.maps()?)))
    }

    /// Whether the process has a virtual machine of KVM open, by the names of its descriptors.
    /// At most 65536 of them are looked at.
    ///
    /// # Errors
    ///
    /// The caller may not trace the process, or it has ended.
    pub fn has_machine(&self) -> io::Result<bool> {
        // virt/kvm/kvm_main.c, `kvm_dev_ioctl_create_vm`.
        let is_machine = |link: PathBuf| link.as_os_str() == "anon_inode:kvm-vm";
        let entries = std::fs::read_dir(below(&self.folder, "fd"))?.take(DESCRIPTORS_MAX);
        let mut links = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        Ok(links.any(is_machine))
    }

    /// The parent's process id; `None` once the process has ended.
    pub fn parent(&self) -> Option<u32> {
        let mut bytes = [0; 1024];
        let text = self.fields(&mut bytes)?;
        // ppid is field 4 (proc_pid_stat(5)).
        text.split_ascii_whitespace().nth(1)?.parse().ok()
    }

    /// The control groups of the process, as /proc/PID/cgroup lists them. Moving a process
    /// into a group takes the permission to write to that group.
    pub fn control_groups(&self) -> io::Result<String> {
        let bytes = self.read("cgroup", GROUPS_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn maps(&self) -> io::Result<Vec<u8>> {
        self.read("maps", MAPS_BYTES_MAX)
    }

    /// Whether the process has ended or executes another program: one system call.
    pub fn has_ended(&self) -> bool {
        let (began, stack) = self.life;
        // A thread without CAP_SYS_PTRACE does not see the stack of another user's process: it
        // reads 0 (do_task_stat, fs/proc/array.c).
        self.life().is_none_or(|now| now.0 != began || now.1 != stack && now.1 != 0)
    }

    /// Start time, and address of the stack, which an execve(2) moves; `None` once the process has
    /// ended.
    fn life(&self) -> Option<(u64, u64)> {
        let mut bytes = [0; 1024];
        let text = self.fields(&mut bytes)?;
        let mut words = text.split_ascii_whitespace();
        let state = words.next()?;
        if matches!(state, "Z" | "X" | "x") {
            return None;
        }
        // The state is field 3; starttime is 22, startstack 28.
        let began = words.nth(18)?.parse().ok()?;
        let stack = words.nth(5)?.parse().ok()?;
        Some((began, stack))
    }

    /// The fields of /proc/PID/stat behind the name.
    fn fields<'a>(&self, bytes: &'a mut [u8; 1024]) -> Option<&'a str> {
        let count = self.stat.read_at(bytes, 0).ok()?;
        // The name can contain a closing bracket: the other fields follow the last one
        // (proc_pid_stat(5)).
        let behind = bytes[..count].iter().rposition(|&byte| byte == b')')?;
        std::str::from_utf8(bytes.get(behind + 1..count)?).ok()
    }

    /// Opens /proc/PID/pagemap. The descriptor refers to this memory even after the process has
    /// ended.
    pub(super) fn pagemap(&self) -> io::Result<File> {
        File::open(below(&self.folder, "pagemap"))
    }

    /// Opens the file that is mapped at an area for reading. Refuses a file whose file system may
    /// block.
    pub(super) fn mapped_file(
        &self,
        area: &Range<u64>,
        identity: FileIdentity,
    ) -> io::Result<File> {
        open(&self.hold_mapped(area, identity)?)
    }

    /// Checks whether the file that is mapped at an area may be opened, without opening it.
    pub(super) fn check_mapped(&self, area: &Range<u64>, identity: FileIdentity) -> io::Result<()> {
        self.hold_mapped(area, identity).map(drop)
    }

    /// Holds the file that is mapped at an area with O_PATH.
    fn hold_mapped(&self, area: &Range<u64>, identity: FileIdentity) -> io::Result<File> {
        let name = format!("map_files/{:x}-{:x}", area.start, area.end);
        // For some file systems maps shows another device than stat(2), so only the inodes are
        // compared.
        let is_inode = |facts: &CachedStat| facts.inode == identity.2;
        let refused = match self.hold(&below(&self.folder, &name), is_inode) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        // map_files needs CAP_CHECKPOINT_RESTORE. QEMU also keeps the files of its memory open.
        for entry in std::fs::read_dir(below(&self.folder, "fd"))?.take(DESCRIPTORS_MAX) {
            let path = entry?.path();
            let is_it = |facts: &CachedStat| facts.identity() == identity;
            if CachedStat::at(&path).is_ok_and(|facts| is_it(&facts)) {
                match self.hold(&path, is_it) {
                    Err(error) if error.kind() == io::ErrorKind::Unsupported => return Err(error),
                    Err(_) => {}
                    held => return held,
                }
            }
        }
        Err(refused)
    }

    /// Holds the target of a link in /proc with O_PATH, if it is a regular file, `is_it` accepts it
    /// and its file system cannot block. Opening anything else could have side effects or wait.
    fn hold(&self, path: &Path, is_it: impl Fn(&CachedStat) -> bool) -> io::Result<File> {
        // From here on it is one file, whatever the process does with the link.
        let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        check(&held, is_it)?;
        let mounts = || file_system::read_mounts(&below(&self.folder, "mountinfo"));
        match file_system::may_block(&held, mounts)? {
            Some(reason) => Err(reason.into()),
            None => Ok(held),
        }
    }

    /// Device and inode of the file that is mapped at an area, in the form of [`file_identity`].
    /// For some file systems (btrfs, overlayfs) they differ from those in maps. `None` without the
    /// permission to read the link.
    pub fn mapped_identity(&self, area: &Range<u64>) -> Option<FileIdentity> {
        let name = format!("map_files/{:x}-{:x}", area.start, area.end);
        file_identity(&below(&self.folder, &name)).ok()
    }

    fn read(&self, name: &str, at_most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(below(&self.folder, name))?.take(at_most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Device (major, minor) and inode of the file at a path, as the kernel remembers them.
pub fn file_identity(path: &Path) -> io::Result<FileIdentity> {
    CachedStat::at(path).map(|facts| facts.identity())
}

/// The path of a name in the folder that is open as `folder`.
fn below(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Checks that a file is regular and that `is_it` accepts it.
fn check(file: &File, is_it: impl Fn(&CachedStat) -> bool) -> io::Result<()> {
    let facts = CachedStat::of(file)?;
    if !facts.is_regular {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    if is_it(&facts) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::NotFound)) }
}

/// Opens a held file for reading. Never waits, never takes a terminal.
fn open(held: &File) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}
