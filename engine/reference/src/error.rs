//! Why something can't be made or read.

use std::fmt;
use std::io;
use std::path::Path;

/// What sort of failure it is; exit codes are made of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It can't be opened or read.
    Source,
    /// A permission is missing.
    Permission,
    /// It can be read, and is not what it should be.
    Content,
    /// The request does not fit what was found: another option is needed.
    Request,
}

/// One line for people: what, where, how to mend it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    /// What sort.
    pub kind: Kind,
    /// The line.
    pub message: String,
}

impl Error {
    /// Something in the content is wrong.
    pub fn content(message: impl Into<String>) -> Self {
        Self { kind: Kind::Content, message: message.into() }
    }

    /// Another option is needed.
    pub fn request(message: impl Into<String>) -> Self {
        Self { kind: Kind::Request, message: message.into() }
    }

    /// A file or folder can't be read.
    pub fn reading(path: &Path, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::Permission,
            _ => Kind::Source,
        };
        Self { kind, message: format!("{} can't be read: {error}", path.display()) }
    }

    /// The same, with what it is about in front.
    #[must_use]
    pub fn within(self, what: impl fmt::Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// A path of a watched machine or an image as it may stand in a message: of bounded length.
pub(crate) fn shown(path: &[u8]) -> String {
    const BYTES_MAX: usize = 300;
    match path.get(..BYTES_MAX) {
        Some(beginning) => format!("{}…", String::from_utf8_lossy(beginning)),
        None => String::from_utf8_lossy(path).into_owned(),
    }
}
