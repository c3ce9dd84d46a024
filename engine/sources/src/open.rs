//! Opening `file:PATH`: detects the format of a file and creates the source for it.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use panoptes_decoders::source::{MachineSource, PAGE_BYTES};

use super::dump::{
    BlockDump, DumpBytes, Segments, avml, elf, kdump, lime, qemu, raw_ranges, vmware, xen,
};
use super::error::BLOCK_DEVICE;
use super::file_system;
use super::foreign::{self, Foreign};
use super::format::{DetectedFormat, FORMAT_HEAD_BYTES, FileFormat};
use super::image::IMAGE_BYTES_MAX;
use super::mapping::may_be_written;
use super::partner::{self, VmemAddresses};
use super::pieces::{InnerSource, read_at_most};
use super::{DumpProblem, Lacks, MappedMemory, Replay, SourceError};

/// Memory in a file of any supported format.
#[derive(Debug)]
pub struct FileSource {
    memory: Box<dyn InnerSource>,
    format: DetectedFormat,
    lacks: Lacks,
    disregarded: Option<DetectedFormat>,
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
pub struct FileSourceOptions<'a> {
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
    /// writing. Each supported format has its line in `from_dump`.
    pub fn open_as(path: &Path, format: FileFormat) -> Result<Self, SourceError> {
        Self::open_with(path, FileSourceOptions { format, ..FileSourceOptions::default() })
    }

    /// Opens a file, as [`Self::open_as`] describes.
    pub fn open_with(path: &Path, opening: FileSourceOptions<'_>) -> Result<Self, SourceError> {
        let (file, bytes) = open_for(path, opening.is_watched)?;
        let wrong = |doing| SourceError::file(path, doing);
        let looks = detect(&file, path, bytes, opening.format).map_err(wrong("read"))?;
        let is_raw = match opening.format {
            FileFormat::Raw => true,
            FileFormat::Dump => false,
            FileFormat::Auto => {
                looks != DetectedFormat::Raw
                    && bytes.is_multiple_of(PAGE_BYTES)
                    && may_be_written(&file).map_err(wrong("examine"))?
            }
        };
        let format = if is_raw { DetectedFormat::Raw } else { looks };
        let mut source = match format {
            DetectedFormat::Raw => {
                let source = Self::from_raw(file, path, bytes, opening)?;
                Self { disregarded: (format != looks).then_some(looks), ..source }
            }
            format => Self::from_dump(file, path, bytes, format, opening.is_watched)?,
        };
        if source.format != DetectedFormat::Raw {
            source.lacks.unused_regions = opening.regions.map(|_| OWN_REGIONS);
        }
        Ok(source)
    }

    /// Whether a path leads to something that holds no memory: no regular file, or one of another
    /// kind, such as text or a disk. One that cannot be read, or is empty, may get memory.
    pub fn is_no_memory(path: &Path) -> bool {
        let (file, bytes) = match open_for(path, true) {
            Ok(opened) => opened,
            Err(error) => return matches!(error, SourceError::NotAFile { .. }),
        };
        let looks = detect(&file, path, bytes, FileFormat::Auto).unwrap_or(DetectedFormat::Raw);
        matches!(looks, DetectedFormat::Text | DetectedFormat::Foreign(_))
            && (!bytes.is_multiple_of(PAGE_BYTES) || !may_be_written(&file).unwrap_or(true))
    }

    /// Opens a file of a format other than raw memory.
    fn from_dump(
        file: File,
        path: &Path,
        bytes: u64,
        format: DetectedFormat,
        is_watched: bool,
    ) -> Result<Self, SourceError> {
        match format {
            DetectedFormat::Recorded => {
                if bytes > IMAGE_BYTES_MAX {
                    return Err(SourceError::TooLarge { bytes });
                }
                let mut image = Vec::with_capacity(bytes as usize);
                let read = (&file).take(bytes).read_to_end(&mut image);
                read.map_err(SourceError::file(path, "read"))?;
                let memory = Box::new(Replay::from_bytes(image)?);
                Ok(Self::of(memory, format, Lacks::default()))
            }
            DetectedFormat::Lime => Self::from_segments(file, path, bytes, format, lime::read),
            DetectedFormat::ElfCore => Self::from_segments(file, path, bytes, format, elf::read),
            DetectedFormat::Kdump => Self::from_blocks(file, path, bytes, format, kdump::open),
            DetectedFormat::Avml => Self::from_blocks(file, path, bytes, format, avml::open),
            DetectedFormat::Qemu => Self::from_blocks(file, path, bytes, format, qemu::open),
            DetectedFormat::Libvirt => {
                Self::from_blocks(file, path, bytes, format, qemu::libvirt::open)
            }
            DetectedFormat::XenSave => {
                Self::from_segments(file, path, bytes, format, xen::read_save)
            }
            DetectedFormat::Vmware => Self::from_vmware(file, path, bytes, is_watched),
            format => Err(SourceError::Format { path: path.to_path_buf(), format }),
        }
    }

    fn of(memory: Box<dyn InnerSource>, format: DetectedFormat, lacks: Lacks) -> Self {
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
        format: DetectedFormat,
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
        format: DetectedFormat,
        (segments, regions, lacks): Segments,
    ) -> Result<Self, SourceError> {
        let source = MappedMemory::from_dump(file, path, segments, regions)?;
        Ok(Self::of(Box::new(source), format, lacks))
    }

    /// Opens a dump that stores memory compressed.
    fn from_blocks(
        file: File,
        path: &Path,
        bytes: u64,
        format: DetectedFormat,
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
        opening: FileSourceOptions<'_>,
    ) -> Result<Self, SourceError> {
        let is_given = opening.format == FileFormat::Raw;
        let is_still = || may_be_written(&file).map(|may| !may);
        let is_still = is_still().map_err(SourceError::file(path, "examine"))?;
        let mut assumption = None;
        if is_still && !is_given && partner::is_vmem(path) {
            match partner::of_memory(path, bytes, |path| open_for(path, opening.is_watched)) {
                VmemAddresses::Addresses(segments) => {
                    return Self::at_segments(file, path, DetectedFormat::Vmware, segments);
                }
                VmemAddresses::Nothing(reason) => assumption = Some(reason),
            }
        }
        let mut unused_regions = None;
        if let Some(regions) = opening.regions {
            if let Some(segments) = raw_ranges::by_regions(regions, bytes) {
                let source = Self::at_segments(file, path, DetectedFormat::Raw, segments)?;
                return Ok(Self { is_still, ..source });
            }
            let reach = regions.last().map_or(0, |region| region.end);
            unused_regions = Some(if bytes < reach { OTHER_REGIONS } else { GAPS });
        }
        let doubt = if is_given || !is_still { None } else { doubt(&file) };
        if !bytes.is_multiple_of(PAGE_BYTES) {
            if let Some(foreign) = doubt {
                let (path, format) = (path.to_path_buf(), DetectedFormat::Foreign(foreign));
                return Err(SourceError::Format { path, format });
            }
            let segments = raw_ranges::find(&file, bytes);
            let segments =
                segments.ok_or_else(|| SourceError::Ragged { path: path.to_path_buf(), bytes })?;
            let mut source = Self::at_segments(file, path, DetectedFormat::Raw, segments)?;
            source.lacks.unused_regions = unused_regions.map(|_| OTHER_REGIONS);
            return Ok(Self { is_still, ..source });
        }
        let copy = if is_still { file.try_clone().ok() } else { None };
        let source = MappedMemory::from_flat_file(file, path)?;
        let lacks = Lacks { assumption, unused_regions, ..Lacks::default() };
        let still_raw = copy.map(|file| (file, path.to_path_buf()));
        Ok(Self {
            is_still,
            still_raw,
            doubt,
            ..Self::of(Box::new(source), DetectedFormat::Raw, lacks)
        })
    }

    /// Opens the state of a VMware machine: its memory is in the same file, or in the `.vmem`
    /// beside it.
    fn from_vmware(
        file: File,
        path: &Path,
        bytes: u64,
        is_watched: bool,
    ) -> Result<Self, SourceError> {
        let format = DetectedFormat::Vmware;
        let wrong = |problem| SourceError::Dump { path: path.to_path_buf(), format, problem };
        let file = DumpBytes::new(file, bytes).map_err(wrong)?;
        let state = vmware::VmwareState::read(&file).map_err(wrong)?;
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
        let Some(segments) = raw_ranges::find(&file, bytes) else {
            self.lacks_gaps = true;
            return Ok(false);
        };
        let mut source = Self::at_segments(file, &path, DetectedFormat::Raw, segments)?;
        source.lacks.unused_regions = self.lacks.unused_regions.map(|_| OTHER_REGIONS);
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

    /// Whether all of the memory is of one moment. The pages of an unfinished stream may have been
    /// sent while the machine ran.
    pub fn is_of_one_moment(&self) -> bool {
        self.is_still && self.format.is_of_one_moment() && self.lacks.is_finished()
    }

    /// The format in which the file was opened.
    pub fn format(&self) -> DetectedFormat {
        self.format
    }

    /// The format that the first bytes suggest, if it was not trusted.
    pub fn disregarded(&self) -> Option<DetectedFormat> {
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

/// Why the user's regions are not used: the sizes differ, the file has the gaps, or its format
/// states the addresses.
const OTHER_REGIONS: &str = "its sizes do not add up to the file's length";
const GAPS: &str = "the file is long enough to have the gaps too";
const OWN_REGIONS: &str = "the dump has addresses of its own";

/// The format that the bytes, or the name, of a file suggest.
fn detect(file: &File, path: &Path, bytes: u64, given: FileFormat) -> io::Result<DetectedFormat> {
    let mut head = vec![0; foreign::MARKS_BYTES];
    let length = read_at_most(file, 0, &mut head[..FORMAT_HEAD_BYTES])?;
    let looks = DetectedFormat::of_file(&head[..length], Some(bytes));
    if looks != DetectedFormat::Raw || given == FileFormat::Raw {
        return Ok(looks);
    }
    let length = read_at_most(file, 0, &mut head)?;
    let mut tail = [0; foreign::END_BYTES];
    let from = bytes.saturating_sub(tail.len() as u64);
    let tail_bytes = read_at_most(file, from, &mut tail)?;
    let found = foreign::of(&head[..length], Some(bytes))
        .or_else(|| foreign::at_end(&tail[..tail_bytes]))
        .or_else(|| foreign::by_name(path));
    Ok(found.map_or(DetectedFormat::Raw, DetectedFormat::Foreign))
}

/// What a raw file may be instead.
fn doubt(file: &File) -> Option<Foreign> {
    let mut head = [0; FORMAT_HEAD_BYTES];
    let length = read_at_most(file, 0, &mut head).ok()?;
    foreign::by_weak_mark(&head[..length])
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
        BLOCK_DEVICE
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
mod tests;
