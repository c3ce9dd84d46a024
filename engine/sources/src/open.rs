//! Opening `file:PATH`: detects the format of a file and creates the source for it.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use panoptes_decoders::source::{MachineSource, PAGE_BYTES};

use super::dump::{
    BlockDump, DumpBytes, Segments, avml, elf, joined, kdump, lime, qemu, vmware, xen,
};
use super::file_system;
use super::foreign::{self, Foreign};
use super::format::{FORMAT_HEAD_BYTES, FileFormat, Format};
use super::image::IMAGE_BYTES_MAX;
use super::mapping::may_be_written;
use super::partner::{self, Beside};
use super::pieces::{Part, read_at_most};
use super::{DumpProblem, Lacks, MappedFile, Replay, SourceError};

/// Memory in a file of any supported format.
#[derive(Debug)]
pub struct FileSource {
    memory: Box<dyn Part>,
    format: Format,
    lacks: Lacks,
    disregarded: Option<Format>,
    /// Whether its memory never changes.
    is_still: bool,
    /// A raw file that is no live guest's memory, and its path.
    still_raw: Option<(File, PathBuf)>,
    /// What a raw file may be instead.
    doubt: Option<Foreign>,
    /// Whether its ranges may stand one after another, at addresses that were not found.
    lacks_gaps: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    pub format: FileFormat,
    /// Whether threads that others wait for will read it: a file whose file system may block is
    /// refused, before that file system is asked anything.
    pub is_watched: bool,
    /// The machine's regions of memory in ascending order, if the user knows them. Raw memory may
    /// have them one after another, without the gaps.
    pub regions: Option<&'a [Range<u64>]>,
}

impl FileSource {
    /// Opens a file; see [`Self::open_as`].
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::open_as(path, FileFormat::Auto)
    }

    /// Opens a file in the format that `format` selects, by default the detected one.
    ///
    /// A live guest can write any header to its memory. So [`FileFormat::Auto`] opens a file as raw
    /// memory if it has whole pages and another process has, or may have, the file open for
    /// writing. Each supported format has its line in [`Self::open_with`].
    pub fn open_as(path: &Path, format: FileFormat) -> Result<Self, SourceError> {
        Self::open_with(path, Opening { format, ..Opening::default() })
    }

    /// Opens a file, as [`Self::open_as`] describes.
    pub fn open_with(path: &Path, opening: Opening<'_>) -> Result<Self, SourceError> {
        let (file, bytes) = open_for(path, opening.is_watched)?;
        let wrong = |doing| SourceError::file(path, doing);
        let looks = detect(&file, path, bytes, opening.format).map_err(wrong("read"))?;
        let is_raw = match opening.format {
            FileFormat::Raw => true,
            FileFormat::Dump => false,
            FileFormat::Auto => {
                looks != Format::Raw
                    && bytes.is_multiple_of(PAGE_BYTES)
                    && may_be_written(&file).map_err(wrong("examine"))?
            }
        };
        let format = if is_raw { Format::Raw } else { looks };
        match format {
            Format::Raw => {
                let source = Self::from_raw(file, path, bytes, opening)?;
                Ok(Self { disregarded: (format != looks).then_some(looks), ..source })
            }
            Format::Recorded => {
                if bytes > IMAGE_BYTES_MAX {
                    return Err(SourceError::TooLarge { bytes });
                }
                let mut image = Vec::with_capacity(bytes as usize);
                (&file).take(bytes).read_to_end(&mut image).map_err(wrong("read"))?;
                let memory = Box::new(Replay::from_bytes(image)?);
                Ok(Self::of(memory, format, Lacks::default()))
            }
            Format::Lime => Self::from_segments(file, path, bytes, format, lime::read),
            Format::ElfCore => Self::from_segments(file, path, bytes, format, elf::read),
            Format::Kdump => Self::from_blocks(file, path, bytes, format, kdump::open),
            Format::Avml => Self::from_blocks(file, path, bytes, format, avml::open),
            Format::Qemu => Self::from_blocks(file, path, bytes, format, qemu::open),
            Format::Libvirt => Self::from_blocks(file, path, bytes, format, qemu::libvirt::open),
            Format::XenSave => Self::from_segments(file, path, bytes, format, xen::read_save),
            Format::Vmware => Self::from_vmware(file, path, bytes, opening.is_watched),
            format => Err(SourceError::Format { path: path.to_path_buf(), format }),
        }
    }

    fn of(memory: Box<dyn Part>, format: Format, lacks: Lacks) -> Self {
        Self {
            memory,
            format,
            lacks,
            disregarded: None,
            is_still: format.is_still(),
            still_raw: None,
            doubt: None,
            lacks_gaps: false,
        }
    }

    /// Opens a dump that stores memory uncompressed.
    fn from_segments(
        file: File,
        path: &Path,
        bytes: u64,
        format: Format,
        read: impl FnOnce(&DumpBytes) -> Result<Segments, DumpProblem>,
    ) -> Result<Self, SourceError> {
        let wrong = |problem| SourceError::Dump { path: path.to_path_buf(), format, problem };
        let file = DumpBytes::new(file, bytes).map_err(wrong)?;
        let segments = read(&file).map_err(wrong)?;
        Self::at_segments(file.into_file(), path, format, segments)
    }

    /// Uses a file whose memory is at known places.
    fn at_segments(
        file: File,
        path: &Path,
        format: Format,
        (segments, regions, lacks): Segments,
    ) -> Result<Self, SourceError> {
        let source = MappedFile::from_dump(file, path, segments, regions)?;
        Ok(Self::of(Box::new(source), format, lacks))
    }

    /// Opens a dump that stores memory compressed.
    fn from_blocks(
        file: File,
        path: &Path,
        bytes: u64,
        format: Format,
        open: impl FnOnce(DumpBytes) -> Result<(BlockDump, Lacks), DumpProblem>,
    ) -> Result<Self, SourceError> {
        let wrong = |problem| SourceError::Dump { path: path.to_path_buf(), format, problem };
        let (source, lacks) = DumpBytes::new(file, bytes).and_then(open).map_err(wrong)?;
        Ok(Self::of(Box::new(source), format, lacks))
    }

    /// Opens raw memory: with the addresses that a VMware state or the user has for it, without
    /// gaps if it has no whole pages, or as it is.
    fn from_raw(
        file: File,
        path: &Path,
        bytes: u64,
        opening: Opening<'_>,
    ) -> Result<Self, SourceError> {
        let is_given = opening.format == FileFormat::Raw;
        let is_still = || may_be_written(&file).map(|may| !may);
        let is_still = is_still().map_err(SourceError::file(path, "examine"))?;
        let mut assumption = None;
        if is_still && !is_given && partner::is_vmem(path) {
            match partner::of_memory(path, bytes, |path| open_for(path, opening.is_watched)) {
                Beside::Addresses(segments) => {
                    return Self::at_segments(file, path, Format::Vmware, segments);
                }
                Beside::Nothing(reason) => assumption = Some(reason),
            }
        }
        if let Some(regions) = opening.regions {
            if let Some(segments) = joined::by_regions(regions, bytes) {
                let source = Self::at_segments(file, path, Format::Raw, segments)?;
                return Ok(Self { is_still, ..source });
            }
            let reach = regions.last().map_or(0, |region| region.end);
            assumption = (bytes < reach).then_some(OTHER_REGIONS);
        }
        let doubt = if is_given || !is_still { None } else { doubt(&file) };
        if !bytes.is_multiple_of(PAGE_BYTES) {
            if let Some(foreign) = doubt {
                let (path, format) = (path.to_path_buf(), Format::Foreign(foreign));
                return Err(SourceError::Format { path, format });
            }
            let segments = joined::find(&file, bytes);
            let segments =
                segments.ok_or_else(|| SourceError::Ragged { path: path.to_path_buf(), bytes })?;
            let source = Self::at_segments(file, path, Format::Raw, segments)?;
            return Ok(Self { is_still, ..source });
        }
        let copy = if is_still { file.try_clone().ok() } else { None };
        let source = MappedFile::from_flat_file(file, path)?;
        let lacks = Lacks { assumption, ..Lacks::default() };
        let still_raw = copy.map(|file| (file, path.to_path_buf()));
        Ok(Self { is_still, still_raw, doubt, ..Self::of(Box::new(source), Format::Raw, lacks) })
    }

    /// Opens the state of a VMware machine: its memory is in the same file, or in the `.vmem`
    /// beside it.
    fn from_vmware(
        file: File,
        path: &Path,
        bytes: u64,
        is_watched: bool,
    ) -> Result<Self, SourceError> {
        let format = Format::Vmware;
        let wrong = |problem| SourceError::Dump { path: path.to_path_buf(), format, problem };
        let file = DumpBytes::new(file, bytes).map_err(wrong)?;
        let state = vmware::State::read(&file).map_err(wrong)?;
        if state.has_memory() {
            let segments = state.segments(bytes).map_err(wrong)?;
            return Self::at_segments(file.into_file(), path, format, segments);
        }
        let memory = partner::of_state(path);
        let (file, bytes) = open_for(&memory, is_watched).map_err(|error| match error {
            SourceError::Open { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                wrong(DumpProblem::Unsupported(
                    "its memory is in a .vmem file, which is not beside it; put both files into \
                     one folder, with the same name before the ending",
                ))
            }
            error => error,
        })?;
        let segments = state.segments(bytes).map_err(wrong)?;
        Self::at_segments(file, &memory, format, segments)
    }

    /// Searches the gaps in raw memory in which no kernel was found: its ranges may stand one after
    /// another. Reads the whole file; `false` if nothing was found. Does nothing with memory that
    /// may be a live guest's.
    pub fn find_gaps(&mut self) -> Result<bool, SourceError> {
        let Some((file, path)) = self.still_raw.take() else { return Ok(false) };
        let bytes = check_regular(&file, &path)?;
        let Some(segments) = joined::find(&file, bytes) else {
            self.lacks_gaps = true;
            return Ok(false);
        };
        let source = Self::at_segments(file, &path, Format::Raw, segments)?;
        let (disregarded, doubt) = (self.disregarded, self.doubt);
        *self = Self { is_still: true, disregarded, doubt, ..source };
        Ok(true)
    }

    /// Whether [`Self::find_gaps`] searched and found nothing.
    pub fn lacks_gaps(&self) -> bool {
        self.lacks_gaps
    }

    /// What a raw file in which no kernel was found may be instead, with the way to convert it.
    pub fn doubt(&self) -> Option<Foreign> {
        self.doubt
    }

    /// Whether the memory never changes: the file is a dump, and no other process may write to it.
    pub fn is_still(&self) -> bool {
        self.is_still
    }

    /// The format in which the file was opened.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The format that the first bytes suggest, if it was not trusted.
    pub fn disregarded(&self) -> Option<Format> {
        self.disregarded
    }

    /// What a dump lacks of the memory that its headers describe.
    pub fn lacks(&self) -> Lacks {
        self.lacks
    }

    fn source(&self) -> &dyn MachineSource {
        &*self.memory
    }

    fn source_mut(&mut self) -> &mut dyn MachineSource {
        &mut *self.memory
    }
}

super::forward::to_inner!(FileSource);

/// The note on regions that do not fit the file.
const OTHER_REGIONS: &str = "the regions of memory_regions_path do not add up to the file's length \
    and end behind it; they are ignored";

/// The format that the bytes, or the name, of a file suggest.
fn detect(file: &File, path: &Path, bytes: u64, given: FileFormat) -> io::Result<Format> {
    let mut head = vec![0; foreign::MARKS_BYTES];
    let length = read_at_most(file, 0, &mut head[..FORMAT_HEAD_BYTES])?;
    let looks = Format::of(&head[..length]);
    if looks != Format::Raw || given == FileFormat::Raw {
        return Ok(looks);
    }
    let length = read_at_most(file, 0, &mut head)?;
    let mut tail = [0; foreign::END_BYTES];
    let from = bytes.saturating_sub(tail.len() as u64);
    let tail_bytes = read_at_most(file, from, &mut tail)?;
    let found = foreign::of(&head[..length])
        .or_else(|| foreign::at_end(&tail[..tail_bytes]))
        .or_else(|| foreign::by_name(path));
    Ok(found.map_or(Format::Raw, Format::Foreign))
}

/// What a raw file may be instead.
fn doubt(file: &File) -> Option<Foreign> {
    let mut head = [0; FORMAT_HEAD_BYTES];
    let length = read_at_most(file, 0, &mut head).ok()?;
    foreign::weakly(&head[..length])
}

/// Opens a regular file that is not empty; also returns its length in bytes. If it is to be
/// watched, its file system must not block.
fn open_for(path: &Path, is_watched: bool) -> Result<(File, u64), SourceError> {
    let held = hold(path)?;
    if is_watched {
        // Only a mount that was found by its path counts, which is in the program's own list.
        let blocks = file_system::may_block(&held, || Ok(Vec::new()));
        if let Some(reason) = blocks.map_err(SourceError::file(path, "examine"))? {
            return Err(SourceError::file(path, "watch")(reason.into()));
        }
    }
    open_held(&held, path)
}

/// Checks that an open file can be raw memory: regular, not empty, whole pages. Returns its length
/// in bytes.
pub(super) fn check(file: &File, path: &Path) -> Result<u64, SourceError> {
    let bytes = check_regular(file, path)?;
    if bytes % PAGE_BYTES != 0 {
        return Err(SourceError::Ragged { path: path.to_path_buf(), bytes });
    }
    Ok(bytes)
}

/// Opens a regular file that is not empty; also returns its length in bytes.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64), SourceError> {
    open_held(&hold(path)?, path)
}

/// Opens the place of a file with O_PATH. From here on it is one file, whatever the path leads to
/// later.
fn hold(path: &Path) -> Result<File, SourceError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
        .map_err(|error| SourceError::Open { path: path.to_path_buf(), error })
}

/// Opens a held file, if it is regular and not empty; also returns its length in bytes.
fn open_held(held: &File, path: &Path) -> Result<(File, u64), SourceError> {
    // Opening anything else could wait or have side effects.
    check_regular(held, path)?;
    // Reading evidence should not change its access time, but O_NOATIME is reserved for the file's
    // owner. Close-on-exec is the standard library's default.
    let own = format!("/proc/self/fd/{}", held.as_raw_fd());
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(&own);
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = open(flags | libc::O_NOATIME)
        .or_else(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => open(flags),
            _ => Err(error),
        })
        .map_err(|error| SourceError::Open { path: path.to_path_buf(), error })?;
    let bytes = check_regular(&file, path)?;
    Ok((file, bytes))
}

pub(super) fn check_regular(file: &File, path: &Path) -> Result<u64, SourceError> {
    let facts = file.metadata().map_err(SourceError::file(path, "examine"))?;
    if !facts.is_file() {
        let what = name_of(facts.file_type());
        return Err(SourceError::NotAFile { path: path.to_path_buf(), what });
    }
    if facts.len() == 0 {
        return Err(SourceError::Empty { path: path.to_path_buf() });
    }
    Ok(facts.len())
}

fn name_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_block_device() {
        "a block device"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "not a regular file"
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "lists of regions with one region")]
mod tests {
    use panoptes_bounded as bounded;
    use std::io::Write as _;

    use super::super::mapping::testing::memfd;
    use panoptes_decoders::address::PhysicalAddress;

    use super::super::{ErrorClass, MemorySource as _, Recorder};
    use super::*;

    /// A file that no process has open for writing; otherwise it would count as a guest's memory.
    fn file_of(bytes: &[u8]) -> tempfile::TempPath {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file.into_temp_path()
    }

    /// Whole pages that begin with the header of a dump.
    fn forged(magic: &[u8]) -> Vec<u8> {
        let mut bytes = magic.to_vec();
        bytes.resize(32, 0);
        bytes[17] = 0x2f; // LiME: the last address is 0x2fdf, the range ends where the file ends
        bytes[16] = 0xdf;
        bytes.resize(3 * 4096, 5);
        bytes
    }

    #[test]
    fn a_header_in_the_memory_of_a_live_guest_is_not_trusted() {
        let lime = forged(b"EMiL\x01\0\0\0");
        // As QEMU has memory: a named file that is open for writing, then a file without a name.
        for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            for head in [lime.clone(), forged(b"PK\x03\x04"), forged(b"\x7fELF"), vec![b'\n'; 8192]]
            {
                let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
                file.write_all(&head).unwrap();
                let source = FileSource::open(file.path()).unwrap();
                assert_eq!(source.format(), Format::Raw);
                assert_eq!(source.disregarded(), Some(Format::of(&head)));
                assert_eq!(source.regions(), [0..head.len() as u64]);
            }
        }
        let file = memfd(lime.len() as u64, 0).unwrap();
        (&file).write_all(&lime).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert_eq!(FileSource::open(&path).unwrap().format(), Format::Raw);
    }

    #[test]
    fn a_dump_that_is_not_open_for_writing_is_detected_also_in_tmpfs() {
        for folder in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
            file.write_all(&forged(b"EMiL\x01\0\0\0")).unwrap();
            // It is detected even while it is written: no guest's memory ends within a page.
            file.write_all(&[0; 5]).unwrap();
            assert_eq!(FileSource::open(file.path()).unwrap().format(), Format::Lime);
            file.as_file().set_len(3 * 4096).unwrap();
            let path = file.into_temp_path();
            let source = FileSource::open(&path).unwrap();
            assert_eq!((source.format(), source.disregarded()), (Format::Lime, None));
            assert_eq!(source.regions(), [0..0x3000]);
        }
    }

    #[test]
    fn the_user_can_set_the_format() {
        let path = file_of(&forged(b"EMiL\x01\0\0\0"));
        let format = |given| FileSource::open_as(&path, given).unwrap().format();
        assert_eq!(format(FileFormat::Raw), Format::Raw);
        assert_eq!(format(FileFormat::Auto), Format::Lime);
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        assert_eq!(format(FileFormat::Auto), Format::Raw);
        assert_eq!(format(FileFormat::Dump), Format::Lime);
        drop(writer);
        assert_eq!(format(FileFormat::Auto), Format::Lime);
    }

    #[track_caller]
    fn check_refused(path: &Path, class: ErrorClass, words: &str) {
        let error = FileSource::open(path).unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        let message = error.to_string();
        assert!(message.contains(words), "{message}");
        assert!(message.contains(&path.display().to_string()), "{message}");
    }

    #[test]
    fn a_file_without_memory_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        check_refused(&folder.path().join("gone"), ErrorClass::CannotOpen, "No such file");
        check_refused(folder.path(), ErrorClass::CannotOpen, "a directory");
        check_refused(Path::new("/dev/null"), ErrorClass::CannotOpen, "a character device");
        check_refused(&file_of(b""), ErrorClass::CannotOpen, "empty");
        check_refused(&file_of(&[0; 5000]), ErrorClass::Unreadable, "5000 bytes");
        check_refused(&file_of(b"a: 1\n"), ErrorClass::Unreadable, "text");
        let core = file_of(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0>\0");
        check_refused(&core, ErrorClass::Unreadable, "ends before its headers");
        check_refused(&file_of(b"EMiL\x01\0\0\0"), ErrorClass::Unreadable, "no memory");
        check_refused(&file_of(b"KDUMP   \x06"), ErrorClass::Unreadable, "ends before");
        check_refused(&file_of(b"QFI\xfb\0\0\0\x03"), ErrorClass::Unreadable, "qcow2");
    }

    #[test]
    fn other_formats_are_refused_with_the_command_that_converts_them() {
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &[u8], words: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let error = FileSource::open(&path).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Unreadable, "{error}");
            let words = words.replace("{}", path.to_str().unwrap());
            assert!(error.to_string().ends_with(&words), "{error}");
        };
        let at = |offset: usize, mark: &[u8]| {
            let mut bytes = vec![0; 0x2_0000];
            bytes[offset..offset + mark.len()].copy_from_slice(mark);
            bytes
        };
        check(
            "a.gz",
            b"\x1f\x8b\x08",
            "compressed with gzip: unpack it: gzip -dc {} > memory.dump",
        );
        check("a b.xz", b"\xfd7zXZ\0", "unpack it: xz -dc '{}' > memory.dump");
        check("a.dmp", &at(0, b"PAGEDU64"), "for Windows: vol -f {} windows.info");
        check("a.vma", &at(0, b"VMA\0\0\0\0\x01"), "vma extract {} folder");
        // Far from the beginning, and at the end.
        check("a.iso", &at(0x8001, b"CD001"), "give the memory dump that may be in it");
        check("a.vhd", &at(0x1_fe00, b"conectix"), "with LiME or AVML");
        check("debug.guest", &[0; 4096], "give debug.vmem, unpacked");
        // Short marks count if the file cannot be raw memory.
        check("a.zlib", b"\x38\x8d12345", "pigz -dc < {} > memory.lime");
        std::fs::write(folder.path().join("raw"), at(510, b"\x55\xaa")).unwrap();
        let source = FileSource::open(&folder.path().join("raw")).unwrap();
        assert_eq!(source.format(), Format::Raw);
        assert_eq!(source.doubt().unwrap().name, "a disk with partitions (MBR)");
    }

    #[test]
    fn the_users_regions_place_raw_memory_without_gaps() {
        let path = file_of(&[vec![1; 0xc00], vec![2; 0x1000]].concat());
        let regions = [0x1000..0x1c00, 0x10_0000..0x10_1000];
        let opening = Opening { regions: Some(&regions), ..Opening::default() };
        let mut source = FileSource::open_with(&path, opening).unwrap();
        assert_eq!(source.format(), Format::Raw);
        let mut bytes = [0; 3];
        assert!(source.read_exact(PhysicalAddress(0x1bfd), &mut bytes));
        assert_eq!(bytes, [1; 3]);
        assert!(source.read_exact(PhysicalAddress(0x10_0000), &mut bytes));
        assert_eq!(bytes, [2; 3]);
        assert!(!source.read_exact(PhysicalAddress(0x1c00), &mut bytes));
        // Memory that has its gaps needs no regions, and such of another machine are ignored.
        let flat = file_of(&vec![1; 0x10_2000]);
        let source = FileSource::open_with(&flat, opening).unwrap();
        assert_eq!((source.regions(), source.lacks()), (&[0..0x10_2000][..], Lacks::default()));
        let source = FileSource::open_with(&file_of(&[1; 4096]), opening).unwrap();
        assert_eq!(source.regions(), [0..0x1000]);
        assert!(source.lacks().to_string().contains("do not add up"), "{}", source.lacks());
    }

    #[test]
    fn gaps_are_searched_once_and_never_in_live_memory() {
        let path = file_of(&[1; 8192]);
        let mut source = FileSource::open(&path).unwrap();
        assert!(!source.find_gaps().unwrap());
        assert!(source.lacks_gaps());
        let writer = OpenOptions::new().write(true).open(&path).unwrap();
        let mut source = FileSource::open(&path).unwrap();
        assert!(!source.find_gaps().unwrap());
        assert!(!source.lacks_gaps());
        drop(writer);
    }

    #[test]
    fn a_pipe_is_refused_without_waiting_for_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        assert!(
            bounded::status(std::process::Command::new("mkfifo").arg(&path)).unwrap().success()
        );
        check_refused(&path, ErrorClass::CannotOpen, "a pipe");
    }

    #[test]
    fn memory_without_a_name_is_opened_through_proc() {
        let file = memfd(0x4000, 0).unwrap();
        (&file).write_all(&[7; 0x1000]).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut source = FileSource::open(&path).unwrap();
        assert_eq!(source.format(), Format::Raw);
        assert_eq!(source.regions(), [0..0x4000]);
        assert_eq!(source.next_data(PhysicalAddress(0)), Some(0..0x1000));
        let mut bytes = [0; 3];
        assert!(source.read_exact(PhysicalAddress(0xffd), &mut bytes));
        assert_eq!(bytes, [7; 3]);
        assert!(source.read_exact(PhysicalAddress(0x1000), &mut bytes));
        assert_eq!(bytes, [0; 3], "a hole");
        assert!(!source.read_exact(PhysicalAddress(0x4000), &mut bytes));
    }

    fn watched(path: &Path, format: FileFormat) -> Result<FileSource, SourceError> {
        FileSource::open_with(path, Opening { format, is_watched: true, regions: None })
    }

    #[test]
    fn what_is_in_memory_or_on_a_local_disk_can_be_watched() {
        let path = file_of(&[7; 0x1000]);
        assert!(watched(&path, FileFormat::Auto).is_ok());
        let file = memfd(0x1000, 0).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert!(watched(&path, FileFormat::Raw).is_ok());
        let error = watched(Path::new("/dev/null"), FileFormat::Auto).unwrap_err();
        assert!(error.to_string().contains("a character device"), "{error}");
    }

    #[test]
    fn a_recorded_image_is_replayed() {
        let pages = vec![3; 4096];
        let memory = Replay::from_pages(vec![0..0x8000], vec![2], pages).unwrap();
        let mut recorder = Recorder::new(memory).unwrap();
        assert!(recorder.read_exact(PhysicalAddress(0x2000), &mut [0]));
        let mut image = Vec::new();
        recorder.write_image(&mut image).unwrap();
        let file = file_of(&image);
        let mut source = FileSource::open(&file).unwrap();
        assert_eq!(source.format(), Format::Recorded);
        assert_eq!(source.next_data(PhysicalAddress(0)), Some(0x2000..0x3000));
        let mut bytes = [0; 8];
        assert!(source.read_exact(PhysicalAddress(0x2ff8), &mut bytes));
        assert_eq!(bytes, [3; 8]);

        let cut = file_of(&image[..image.len() - 8]);
        let error = FileSource::open(&cut).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unreadable, "{error}");
    }
}
