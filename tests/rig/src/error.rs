//! The rig's one error: a clear line for the person who ran the tests.
//!
//! Not for callers that want to tell causes apart: a test rig either works or says why not.

use std::fmt;
use std::path::Path;

/// What went wrong, where, and how to mend it, in one line (guest consoles may follow on more).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    message: String,
}

/// What every fallible function of the rig returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says `message`.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// An input or output error at `path` while doing `what` ("read", "create", …).
    pub fn io(what: &str, path: &Path, cause: &std::io::Error) -> Self {
        Self::new(format!("cannot {what} {}: {cause}", path.display()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
