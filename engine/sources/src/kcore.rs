//! [`Kcore`]: the memory of the host, through `/proc/kcore`.
//!
//! The kernel shows its memory as an ELF core. Segments that are RAM (the direct map and the kernel
//! image) have physical addresses from 4.19 on; all others have −1 (fs/proc/kcore.c). Each request
//! is one pread: the file cannot be mapped, and io_uring was no faster when measured. The kernel
//! shows zeros for pages that it protects itself (hardware errors, memory given back to a
//! hypervisor).
//!
//! The host and Panoptes run while the memory is read, so a scan reads its own changes.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use panoptes_decoders::source::{MachineSource, MemorySource, ReadOutcome, ReadRequest};

use super::dump::{DumpBytes, DumpProblem, elf};
use super::pieces::answer_pieces;
use super::{Segment, SourceError};

const PATH: &str = "/proc/kcore";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// The host's memory.
#[derive(Debug)]
pub struct Kcore {
    file: File,
    segments: Vec<Segment>,
    regions: Vec<Range<u64>>,
    calls: u64,
}

impl Kcore {
    /// Opens the host's memory. This takes root (CAP_SYS_RAWIO), and fails on a kernel in
    /// `confidentiality` lockdown.
    pub fn open() -> Result<Self, SourceError> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOCTTY)
            .open(PATH)
            .map_err(|error| SourceError::Host { hint: hint(&error), error })?;
        Self::from_file(file)
    }

    /// Uses a file with the layout of `/proc/kcore`.
    fn from_file(file: File) -> Result<Self, SourceError> {
        let wrong = |problem| SourceError::HostHeaders { problem };
        // The length of the file covers the whole address space, so it is no useful bound.
        let bytes = DumpBytes::new(file, i64::MAX as u64).map_err(wrong)?;
        let (segments, regions, _) = elf::read(&bytes).map_err(|problem| match problem {
            DumpProblem::NoMemory | DumpProblem::Unsupported(_) => wrong(DumpProblem::Unsupported(
                "it gives no physical addresses, which kernels from 4.19 on do",
            )),
            problem => wrong(problem),
        })?;
        Ok(Self { file: bytes.into_file(), segments, regions, calls: 0 })
    }

    /// Number of system calls made for reading so far.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    fn answer(&mut self, address: u64, target: &mut [u8]) -> ReadOutcome {
        answer_pieces(address, target, |at, target| {
            let (offset, left) =
                Segment::locate(&self.segments, at).ok_or(ReadOutcome::NotBacked)?;
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(target.len());
            self.calls += 1;
            let read = self.file.read_exact_at(&mut target[..length], offset);
            read.map(|()| length).map_err(|_| ReadOutcome::Failed)
        })
    }
}

impl MachineSource for Kcore {}

impl MemorySource for Kcore {
    fn read_batch(&mut self, requests: &mut [ReadRequest], arena: &mut [u8]) {
        ReadRequest::answer_each(requests, arena, |address, bytes| self.answer(address, bytes));
    }

    fn regions(&self) -> &[Range<u64>] {
        &self.regions
    }
}

/// Why the kernel does not show its memory, and what to do about it.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "this kernel was built without it (CONFIG_PROC_KCORE)",
        io::ErrorKind::PermissionDenied if is_locked_down(Path::new(LOCKDOWN)) => {
            "the kernel is locked down (lockdown=confidentiality), so its memory cannot be read"
        }
        io::ErrorKind::PermissionDenied => "run as root, with CAP_SYS_RAWIO",
        _ => "is /proc mounted?",
    }
}

/// Whether the kernel forbids reading its memory. The active mode is the one in brackets
/// (security/lockdown/lockdown.c).
fn is_locked_down(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|modes| modes.contains("[confidentiality]"))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use panoptes_decoders::address::PhysicalAddress;

    use super::*;
    use crate::ErrorClass;
    use crate::dump::testing;

    #[test]
    fn memory_is_where_the_headers_say() {
        let direct_map = (0x1000, testing::pages(1..5), 4 * 4096);
        let text = (0x2000, testing::pages(2..4), 2 * 4096);
        let vmalloc = (u64::MAX, testing::pages(50..52), 2 * 4096);
        let high = (0x1_0000_0000, testing::pages(7..9), 2 * 4096);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&testing::core(&[text, vmalloc, direct_map, high], false)).unwrap();
        let mut source = Kcore::from_file(file).unwrap();
        assert_eq!(source.regions(), [0x1000..0x5000, 0x1_0000_0000..0x1_0000_2000]);
        let mut bytes = vec![0; 0x4000];
        assert!(source.read_exact(PhysicalAddress(0x1000), &mut bytes));
        assert!(bytes == testing::pages(1..5));
        assert_eq!(source.calls(), 1);
        assert!(!source.read_exact(PhysicalAddress(0), &mut bytes));
        assert!(!source.read_exact(PhysicalAddress(0x4ff8), &mut bytes[..16]));
    }

    #[test]
    fn a_kernel_that_gives_no_addresses_is_refused() {
        let mut file = tempfile::tempfile().unwrap();
        let nothing = (u64::MAX, testing::pages(1..2), 4096);
        file.write_all(&testing::core(&[nothing], false)).unwrap();
        let error = Kcore::from_file(file).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreadable);
        assert!(error.to_string().contains("no physical addresses"), "{error}");
    }

    #[test]
    fn the_hint_explains_why_memory_cannot_be_opened() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = SourceError::Host { hint: hint(&denied), error: denied };
        assert_eq!(error.class(), ErrorClass::Permission);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = SourceError::Host { hint: hint(&missing), error: missing };
        assert_eq!(error.class(), ErrorClass::CannotOpen);
        assert!(error.to_string().contains("CONFIG_PROC_KCORE"), "{error}");
        let mut modes = tempfile::NamedTempFile::new().unwrap();
        modes.write_all(b"none integrity [confidentiality]\n").unwrap();
        assert!(is_locked_down(modes.path()));
        assert!(!is_locked_down(Path::new("/gone")));
    }
}
