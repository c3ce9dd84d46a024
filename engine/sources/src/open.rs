//! Opening `file:PATH`: detects the format of a file and creates the source for it.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use panoptes_decoders::source::{MachineSource, PAGE_BYTES};

use super::dump::{BlockDump, DumpBytes, Segments, avml, elf, kdump, lime};
use super::file_system;
use super::format::{FORMAT_HEAD_BYTES, FileFormat, Format};
use super::image::IMAGE_BYTES_MAX;
use super::mapping::may_be_written;
use super::pieces::{Part, read_at_most};
use super::{DumpProblem, Lacks, MappedFile, Replay, SourceError};

/// Memory in a file of any supported format.
#[derive(Debug)]
pub struct FileSource {
    memory: Box<dyn Part>,
    format: Format,
    lacks: Lacks,
    disregarded: Option<Format>,
}

impl FileSource {
    /// Opens a file; see [`Self::open_as`].
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        Self::open_as(path, FileFormat::Auto)
    }

    /// Opens a file in the format that `configured` selects, by default the detected one.
    ///
    /// A live guest can write any header to its memory. So [`FileFormat::Auto`] opens a file as raw
    /// memory if it has whole pages and another process has, or may have, the file open for
    /// writing. Each supported format has its line in this function.
    pub fn open_as(path: &Path, configured: FileFormat) -> Result<Self, SourceError> {
        Self::of_file(hold(path)?, path, configured)
    }

    /// As [`Self::open_as`], for a thread that others wait for: refuses a file whose file system
    /// may block, before asking that file system anything.
    pub fn open_watched(path: &Path, configured: FileFormat) -> Result<Self, SourceError> {
        let held = hold(path)?;
        // Only a mount that was found by its path counts, which is in the program's own list.
        let blocks = file_system::may_block(&held, || Ok(Vec::new()));
        if let Some(reason) = blocks.map_err(SourceError::file(path, "examine"))? {
            return Err(SourceError::file(path, "watch")(reason.into()));
        }
        Self::of_file(held, path, configured)
    }

    /// Opens a file that is held with O_PATH.
    fn of_file(held: File, path: &Path, configured: FileFormat) -> Result<Self, SourceError> {
        let (file, bytes) = open_held(&held, path)?;
        drop(held);
        let mut head = [0; FORMAT_HEAD_BYTES];
        let wrong = |doing| SourceError::file(path, doing);
        let length = read_at_most(&file, 0, &mut head).map_err(wrong("read"))?;
        let looks = Format::of(&head[..length]);
        let is_raw = match configured {
            FileFormat::Raw => true,
            FileFormat::Dump => false,
            FileFormat::Auto => {
                looks != Format::Raw
                    && bytes.is_multiple_of(PAGE_BYTES)
                    && may_be_written(&file).map_err(wrong("examine"))?
            }
        };
        let format = if is_raw { Format::Raw } else { looks };
        let disregarded = (format != looks).then_some(looks);
        let whole = |memory: Box<dyn Part>| {
            Ok(Self { memory, format, lacks: Lacks::default(), disregarded })
        };
        match format {
            Format::Raw => whole(Box::new(MappedFile::from_flat_file(file, path)?)),
            Format::Recorded => {
                if bytes > IMAGE_BYTES_MAX {
                    return Err(SourceError::TooLarge { bytes });
                }
                let mut image = Vec::with_capacity(bytes as usize);
                (&file).take(bytes).read_to_end(&mut image).map_err(wrong("read"))?;
                whole(Box::new(Replay::from_bytes(image)?))
            }
            Format::Lime => Self::from_segments(file, path, bytes, format, lime::read),
            Format::ElfCore => Self::from_segments(file, path, bytes, format, elf::read),
            Format::Kdump => Self::from_blocks(file, path, bytes, format, kdump::open),
            Format::Avml => Self::from_blocks(file, path, bytes, format, avml::open),
            format => Err(SourceError::Format { path: path.to_path_buf(), format }),
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
        let (segments, regions, lacks) = read(&file).map_err(wrong)?;
        let source = MappedFile::from_dump(file.into_file(), path, segments, regions)?;
        Ok(Self { memory: Box::new(source), format, lacks, disregarded: None })
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
        Ok(Self { memory: Box::new(source), format, lacks, disregarded: None })
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
    use std::path::PathBuf;

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

    #[test]
    fn what_is_in_memory_or_on_a_local_disk_can_be_watched() {
        let path = file_of(&[7; 0x1000]);
        assert!(FileSource::open_watched(&path, FileFormat::Auto).is_ok());
        let file = memfd(0x1000, 0).unwrap();
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        assert!(FileSource::open_watched(&path, FileFormat::Raw).is_ok());
        let error = FileSource::open_watched(Path::new("/dev/null"), FileFormat::Auto).unwrap_err();
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
