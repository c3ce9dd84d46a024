//! [`SourceError`]: why a source cannot be opened or written.

use std::io;
use std::path::{Path, PathBuf};

use super::dump::DumpProblem;
use super::foreign::with_path;
use super::format::DetectedFormat;
use super::image::ImageProblem;
use super::sigbus;

/// A file whose copy may be a dump.
pub(super) const BLOCK_DEVICE: &str = "a block device";

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
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    #[error("cannot open {}: {error}{}", path.display(), open_hint(error))]
    Open {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The path leads to something that is not a regular file; `what` names it.
    #[error("{} is {what}: {}", path.display(), file_instead(what, path))]
    NotAFile { path: PathBuf, what: &'static str },
    #[error("{} is empty: no memory was written to it", path.display())]
    Empty { path: PathBuf },
    #[error(
        "{} is {bytes} bytes long, which is not a whole number of 4096-byte pages; was the copy \
         cut short? If it is LiME's format=raw, give a copy of the machine's /proc/iomem as \
         default.memory_regions_path, or dump with format=lime",
        path.display()
    )]
    Ragged { path: PathBuf, bytes: u64 },
    /// The file's first bytes are those of a format that is not memory.
    #[error("{} is {}: {}", path.display(), format.name(), format.advice(path))]
    Format { path: PathBuf, format: DetectedFormat },
    #[error(
        "{} is {}, but {}",
        path.display(),
        format.name(),
        with_path(&problem.to_string(), path)
    )]
    Dump { path: PathBuf, format: DetectedFormat, problem: DumpProblem },
    /// `hint` explains why and what to do.
    #[error("cannot open /proc/kcore: {error}: {hint}")]
    Host {
        #[source]
        error: io::Error,
        hint: &'static str,
    },
    /// `/proc/kcore` has headers that cannot be used.
    #[error("cannot read /proc/kcore: {problem}")]
    HostHeaders { problem: DumpProblem },
    /// A memory, or the file that holds it, exceeds the limit of its kind of source.
    #[error("{bytes} bytes of memory are more than Panoptes can handle")]
    TooLarge { bytes: u64 },
    /// An operation on the open file failed; `doing` is the verb of the message.
    #[error("cannot {doing} {}: {error}", path.display())]
    File {
        path: PathBuf,
        doing: &'static str,
        #[source]
        error: io::Error,
    },
    /// An operation on another process failed; `doing` is the verb of the message.
    #[error("cannot {doing} process {pid}: {}", process_failure(error))]
    Process {
        pid: u32,
        doing: &'static str,
        #[source]
        error: io::Error,
    },
    #[error("process {pid} has no memory area that could be a guest's: is it QEMU?")]
    NoGuest { pid: u32 },
    #[error(
        "the guest of process {pid} has its memory in more than {at_most} files: \
         give it fewer, larger ones"
    )]
    GuestFiles { pid: u32, at_most: usize },
    #[error(
        "more than {} memory files are mapped at once: watch fewer systems, or give guests \
         fewer, larger memory files",
        sigbus::RANGES_MAX
    )]
    Mappings,
    /// A layout of physical memory is impossible; `segment` is the index of the first wrong
    /// segment.
    #[error("segment {segment} of the memory layout {problem}")]
    Layout { segment: usize, problem: LayoutProblem },
    #[error("recorded image: {0}; record it again")]
    Image(#[from] ImageProblem),
    #[error("cannot write the recorded image: {0}")]
    Write(#[source] io::Error),
    /// Memory behind a DMA engine cannot be reached.
    #[cfg(feature = "doca")]
    #[error(transparent)]
    Doca(#[from] super::doca::DocaError),
}

/// A fault of a segment in a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LayoutProblem {
    #[error("is missing: there must be at least one")]
    Missing,
    /// The segment has no bytes, or ends before it begins.
    #[error("holds no bytes")]
    Empty,
    #[error("is not aligned to pages")]
    Unaligned,
    #[error("begins before the previous one ends")]
    Unordered,
    #[error("reaches past the end of the file")]
    PastEnd,
}

/// What to give instead of something that is not a regular file.
fn file_instead(what: &str, path: &Path) -> String {
    if what == BLOCK_DEVICE {
        return with_path("copy it to a file first: dd if={} of=memory.raw bs=1M", path);
    }
    "give a regular file (guest memory or a dump)".into()
}

/// What to do about a file that cannot be opened; empty if there is nothing to add.
fn open_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "; run as root, or let this user read it (chgrp and chmod g+r), and enter its folder"
        }
        _ => "",
    }
}

/// The end of the message of [`SourceError::Process`].
fn process_failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it has ended, or has closed the file".to_owned(),
        io::ErrorKind::PermissionDenied => format!(
            "{error}; run as root with CAP_SYS_PTRACE, which containers lack by default, or as \
             the user that runs the guest if kernel.yama.ptrace_scope and seccomp allow it"
        ),
        _ => error.to_string(),
    }
}

impl SourceError {
    /// Makes the error of an operation on a file.
    pub(super) fn file(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |error| Self::File { path, doing, error }
    }

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
            (SourceError::Empty { path: path.clone() }, ErrorClass::CannotOpen),
            (SourceError::Image(ImageProblem::Checksum), ErrorClass::Unreadable),
        ];
        for (error, class) in cases {
            assert_eq!(error.class(), class, "{error}");
            assert!(!error.to_string().contains('\n'));
        }
        let error = SourceError::NotAFile { path, what: BLOCK_DEVICE }.to_string();
        assert!(error.ends_with("file first: dd if=x of=memory.raw bs=1M"), "{error}");
    }
}
