//! [`SourceError`]: why a source cannot be opened or written.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::dump::DumpProblem;
use super::format::Format;
use super::image::ImageProblem;
use super::sigbus;

/// Class of a [`SourceError`]; each class has an exit code of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorClass {
    /// The source can't be opened (exit code 66).
    CannotOpen,
    /// A permission is missing (exit code 77).
    Permission,
    /// The source can be opened, but is damaged or not in a readable format (exit code 65).
    Unreadable,
}

/// Why a source of memory cannot be opened or written.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// The file cannot be opened.
    Open { path: PathBuf, error: io::Error },
    /// The path leads to something that is not a regular file; `what` names it.
    NotAFile { path: PathBuf, what: &'static str },
    /// The file has no bytes.
    Empty { path: PathBuf },
    /// The file is not a whole number of pages long.
    Ragged { path: PathBuf, bytes: u64 },
    /// The file's first bytes are those of a format that is not memory.
    Format { path: PathBuf, format: Format },
    /// A dump that cannot be read.
    Dump { path: PathBuf, format: Format, problem: DumpProblem },
    /// `/proc/kcore` cannot be opened; `hint` explains why and what to do.
    Host { error: io::Error, hint: &'static str },
    /// `/proc/kcore` has headers that cannot be used.
    HostHeaders { problem: DumpProblem },
    /// A memory, or the file that holds it, exceeds the limit of its kind of source.
    TooLarge { bytes: u64 },
    /// An operation on the open file failed; `doing` is the verb of the message.
    File { path: PathBuf, doing: &'static str, error: io::Error },
    /// An operation on another process failed; `doing` is the verb of the message.
    Process { pid: u32, doing: &'static str, error: io::Error },
    /// A process has no memory that could be a guest's.
    NoGuest { pid: u32 },
    /// A guest's memory is in more files than the limit for one guest.
    GuestFiles { pid: u32, at_most: usize },
    /// Too many files are mapped at once.
    Mappings,
    /// A layout of physical memory is impossible; `segment` is the index of the first wrong
    /// segment.
    Layout { segment: usize, problem: LayoutProblem },
    /// A recorded image is damaged.
    Image(ImageProblem),
    /// A recorded image cannot be written.
    Write(io::Error),
    /// Memory behind a DMA engine cannot be reached.
    #[cfg(feature = "doca")]
    Doca(super::doca::DocaError),
}

/// What is wrong with a segment of a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayoutProblem {
    /// The layout has no segment.
    Missing,
    /// The segment has no bytes, or ends before it begins.
    Empty,
    /// The addresses or the offset are not multiples of the page size.
    Unaligned,
    /// The segment begins before the previous one ends.
    Unordered,
    /// The segment reaches past the end of the file.
    PastEnd,
}

impl SourceError {
    /// Class of the error, which decides the exit code.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Open { error, .. }
            | Self::File { error, .. }
            | Self::Host { error, .. }
            | Self::Process { error, .. }
            | Self::Write(error)
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                ErrorClass::Permission
            }
            #[cfg(feature = "doca")]
            Self::Doca(error) if error.is_permission() => ErrorClass::Permission,
            Self::Ragged { .. }
            | Self::Format { .. }
            | Self::Dump { .. }
            | Self::HostHeaders { .. }
            | Self::Image(_) => ErrorClass::Unreadable,
            _ => ErrorClass::CannotOpen,
        }
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, error } => write!(f, "cannot open {}: {error}", path.display()),
            Self::NotAFile { path, what } => write!(
                f,
                "{} is {what}: give a regular file (guest memory or a dump)",
                path.display()
            ),
            Self::Empty { path } => {
                write!(f, "{} is empty: no memory was written to it", path.display())
            }
            Self::Ragged { path, bytes } => write!(
                f,
                "{} is {bytes} bytes long, which is not a whole number of 4096-byte pages: \
                 was the copy cut short?",
                path.display()
            ),
            Self::Format { path, format } => {
                write!(f, "{} is {}: {}", path.display(), format.name(), format.advice())
            }
            Self::Dump { path, format, problem } => {
                write!(f, "{} is {}, but {problem}", path.display(), format.name())
            }
            Self::Host { error, hint } => write!(f, "cannot open /proc/kcore: {error}: {hint}"),
            Self::HostHeaders { problem } => write!(f, "cannot read /proc/kcore: {problem}"),
            Self::TooLarge { bytes } => {
                write!(f, "{bytes} bytes of memory are more than Panoptes can handle")
            }
            Self::File { path, doing, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            Self::Process { pid, doing, error } if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "cannot {doing} process {pid}: it has ended, or has closed the file")
            }
            Self::Process { pid, doing, error }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "cannot {doing} process {pid}: {error}; run as root, or as the user that runs \
                     the guest if kernel.yama.ptrace_scope and seccomp allow it"
                )
            }
            Self::Process { pid, doing, error } => {
                write!(f, "cannot {doing} process {pid}: {error}")
            }
            Self::NoGuest { pid } => {
                write!(f, "process {pid} has no memory area that could be a guest's: is it QEMU?")
            }
            Self::GuestFiles { pid, at_most } => write!(
                f,
                "the guest of process {pid} has its memory in more than {at_most} files: \
                 give it fewer, larger ones"
            ),
            Self::Mappings => write!(
                f,
                "more than {} memory files are mapped at once: watch fewer systems",
                sigbus::RANGES_MAX
            ),
            Self::Layout { segment, problem } => write!(
                f,
                "segment {segment} of the memory layout {}",
                match problem {
                    LayoutProblem::Missing => "is missing: there must be at least one",
                    LayoutProblem::Empty => "holds no bytes",
                    LayoutProblem::Unaligned => "is not aligned to pages",
                    LayoutProblem::Unordered => "begins before the previous one ends",
                    LayoutProblem::PastEnd => "reaches past the end of the file",
                }
            ),
            Self::Image(problem) => write!(f, "recorded image: {problem}; record it again"),
            Self::Write(error) => write!(f, "cannot write the recorded image: {error}"),
            #[cfg(feature = "doca")]
            Self::Doca(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SourceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { error, .. }
            | Self::File { error, .. }
            | Self::Host { error, .. }
            | Self::Process { error, .. }
            | Self::Write(error) => Some(error),
            Self::Image(problem) => Some(problem),
            _ => None,
        }
    }
}

#[cfg(feature = "doca")]
impl From<super::doca::DocaError> for SourceError {
    fn from(error: super::doca::DocaError) -> Self {
        Self::Doca(error)
    }
}

impl From<ImageProblem> for SourceError {
    fn from(problem: ImageProblem) -> Self {
        Self::Image(problem)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_class_of_their_exit_code() {
        let path = PathBuf::from("x");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let cases = [
            (SourceError::Open { path: path.clone(), error: denied }, ErrorClass::Permission),
            (SourceError::Open { path: path.clone(), error: missing }, ErrorClass::CannotOpen),
            (SourceError::Ragged { path: path.clone(), bytes: 5 }, ErrorClass::Unreadable),
            (SourceError::Empty { path }, ErrorClass::CannotOpen),
            (SourceError::Image(ImageProblem::Checksum), ErrorClass::Unreadable),
        ];
        for (error, class) in cases {
            assert_eq!(error.class(), class, "{error}");
            assert!(!error.to_string().contains('\n'));
        }
    }
}
