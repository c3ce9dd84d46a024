//! [`SourceError`]: why memory can't be read at all.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::dump::DumpProblem;
use super::format::Format;
use super::image::ImageProblem;
use super::sigbus;

/// What a [`SourceError`] means to whoever started the program; each has its exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorClass {
    /// The source can't be opened (exit code 66).
    CannotOpen,
    /// A permission is missing (exit code 77).
    Permission,
    /// It can be opened, but is damaged or no memory that can be read (exit code 65).
    Unreadable,
}

/// Why a source of memory can't be opened or written out.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceError {
    /// The file can't be opened.
    Open {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// The path leads to something that is not a regular file.
    NotAFile {
        /// What was asked for.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The file has no bytes.
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a whole number of pages long.
    Ragged {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The file's first bytes are those of a format that is not raw memory.
    Format {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        format: Format,
    },
    /// A dump that can't be read.
    Dump {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        format: Format,
        /// What is wrong with it.
        problem: DumpProblem,
    },
    /// This machine does not show its memory.
    Host {
        /// What the operating system says.
        error: io::Error,
        /// Why that is, and how to go on.
        hint: &'static str,
    },
    /// This machine shows its memory in a form that can't be read.
    HostHeaders {
        /// What is wrong with it.
        problem: DumpProblem,
    },
    /// A memory, or the file that holds it, is larger than can be kept account of.
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The operating system refuses something with the open file.
    File {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What it says.
        error: io::Error,
    },
    /// Another process can't be looked at.
    Process {
        /// Its process id.
        pid: u32,
        /// What was tried.
        doing: &'static str,
        /// What the operating system says.
        error: io::Error,
    },
    /// A process has no memory that could be a guest's.
    NoGuest {
        /// Its process id.
        pid: u32,
    },
    /// A guest's memory is in more files than are mapped for one guest.
    GuestFiles {
        /// The process id.
        pid: u32,
        /// How many there may be.
        at_most: usize,
    },
    /// Too many files are mapped at once.
    Mappings,
    /// A layout of physical memory in a file that can't be.
    Layout {
        /// Index of the first segment that is wrong.
        segment: usize,
        /// What is wrong with it.
        problem: LayoutProblem,
    },
    /// A recorded image is damaged.
    Image(ImageProblem),
    /// A recorded image can't be written.
    Write(io::Error),
    /// Memory behind a DMA engine can't be reached.
    #[cfg(feature = "doca")]
    Doca(super::doca::DocaError),
}

/// What is wrong with a segment of a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LayoutProblem {
    /// There is none.
    Missing,
    /// It has no bytes, or its addresses run backwards.
    Empty,
    /// Its addresses or its offset are no multiple of the page size.
    Unaligned,
    /// It begins before the one before it ends.
    Unordered,
    /// It reaches past the end of the file.
    PastEnd,
}

impl SourceError {
    /// What the error means to whoever started the program.
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
                write!(f, "{} is empty: memory was never written to it", path.display())
            }
            Self::Ragged { path, bytes } => write!(
                f,
                "{} is {bytes} bytes long, which is no whole number of 4096-byte pages: \
                 is it a copy that was cut short?",
                path.display()
            ),
            Self::Format { path, format } => {
                write!(f, "{} is {}: {}", path.display(), format.name(), format.advice())
            }
            Self::Dump { path, format, problem } => {
                write!(f, "{} is {}, but {problem}", path.display(), format.name())
            }
            Self::Host { error, hint } => write!(f, "cannot open /proc/kcore: {error}: {hint}"),
            Self::HostHeaders { problem } => write!(f, "/proc/kcore can't be read: {problem}"),
            Self::TooLarge { bytes } => {
                write!(f, "a memory of {bytes} bytes is larger than can be kept account of")
            }
            Self::File { path, doing, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            Self::Process { pid, doing, error } if error.kind() == io::ErrorKind::NotFound => {
                write!(f, "cannot {doing} process {pid}: it has ended, or has closed it")
            }
            Self::Process { pid, doing, error }
                if error.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    f,
                    "cannot {doing} process {pid}: {error}; run as root, or as the user that runs the guest \
                     where nothing forbids that (kernel.yama.ptrace_scope, seccomp)"
                )
            }
            Self::Process { pid, doing, error } => {
                write!(f, "cannot {doing} process {pid}: {error}")
            }
            Self::NoGuest { pid } => {
                write!(f, "process {pid} has no memory that could be a guest's: is it QEMU?")
            }
            Self::GuestFiles { pid, at_most } => write!(
                f,
                "process {pid} keeps its memory in more than {at_most} files: give it fewer and larger ones"
            ),
            Self::Mappings => write!(
                f,
                "more than {} files of memory are mapped at once: watch fewer systems",
                sigbus::RANGES_MAX
            ),
            Self::Layout { segment, problem } => write!(
                f,
                "segment {segment} of the memory's layout {}",
                match problem {
                    LayoutProblem::Missing => "is missing: there must be at least one",
                    LayoutProblem::Empty => "holds no bytes",
                    LayoutProblem::Unaligned => "does not begin and end with a page",
                    LayoutProblem::Unordered => "begins before the one before it ends",
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
