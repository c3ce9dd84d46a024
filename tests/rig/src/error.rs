//! The rig's one error: a clear line for the person who ran the tests.
//!
//! Callers cannot distinguish causes: a test rig either works or states why not.

use std::path::Path;

/// The failure, its place and its remedy, in one line (a guest's console may follow on more).
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
}

/// The result of every fallible function of the rig.
pub type Result<T> = std::result::Result<T, Error>;

/// For callers whose errors are plain text.
impl From<Error> for String {
    fn from(error: Error) -> Self {
        error.message
    }
}

impl Error {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// An input or output error at `path`; `what` is the failed operation ("read", "create", …).
    pub fn io(what: &str, path: &Path, cause: &std::io::Error) -> Self {
        Self::new(format!("cannot {what} {}: {cause}", path.display()))
    }
}
