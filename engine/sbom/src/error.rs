//! Why an SBOM can't be made or read.

use std::fmt;
use std::io;
use std::path::Path;

/// The class of a failure, from which the exit code follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SbomErrorKind {
    /// The source can't be opened or read.
    Source,
    /// A permission is missing.
    Permission,
    /// The source can be read, but its content is wrong.
    Content,
    /// The request does not apply to the source: another option is needed.
    Request,
}

/// One line for people: what failed, where, and the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SbomError {
    pub kind: SbomErrorKind,
    pub message: String,
}

impl SbomError {
    /// An error in the content.
    pub fn content(message: impl Into<String>) -> Self {
        Self { kind: SbomErrorKind::Content, message: message.into() }
    }

    /// Another option is needed.
    pub fn request(message: impl Into<String>) -> Self {
        Self { kind: SbomErrorKind::Request, message: message.into() }
    }

    /// A file or folder can't be read: for `map_err`.
    pub fn reading(path: &Path) -> impl Fn(io::Error) -> Self + Copy {
        move |error| {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => SbomErrorKind::Permission,
                _ => SbomErrorKind::Source,
            };
            Self { kind, message: format!("{} can't be read: {error}", path.display()) }
        }
    }

    /// Packed content is damaged.
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
    pub(crate) fn unpacking(error: io::Error) -> Self {
        Self::content(format!("can't be unpacked: {error}"))
    }

    /// The same, preceded by the object that it is about.
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

/// A path of a watched machine or an image for a message: of bounded length.
pub(crate) fn shown(path: &[u8]) -> String {
    const BYTES_MAX: usize = 300;
    match path.get(..BYTES_MAX) {
        Some(beginning) => format!("{}…", String::from_utf8_lossy(beginning)),
        None => String::from_utf8_lossy(path).into_owned(),
    }
}
