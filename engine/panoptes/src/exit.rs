//! How the program ends: the documented exit codes, a failure that carries one, and what a failed
//! write to standard output means.
//!
//! Not for: errors of a configuration, which can be many, each with its place
//! ([`crate::config::Report`]).

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use panoptes_sources::{ErrorClass, SourceError};

/// The exit codes that scripts and service managers may rely on.
///
/// The numbers from 65 on are those of `sysexits.h`, so that a service unit can set
/// `RestartPreventExitStatus=78`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    /// The program failed while running, or `scan --strict` could not read an object.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No kernel was found, no profile fits, or a dump, a capture, a package or the like is damaged
    /// or of a kind that is not read.
    NoKernel = 65,
    /// The source can't be opened.
    Source = 66,
    /// Records could not be written.
    Output = 74,
    /// A permission is missing.
    Permission = 77,
    /// The configuration is wrong.
    Configuration = 78,
}

impl Exit {
    /// The meaning of every code, for the help text and the manual.
    pub const MEANINGS: [(Self, &'static str); 8] = [
        (Self::Done, "done"),
        (Self::Failed, "failed while running, or scan --strict could not read an object"),
        (Self::Usage, "wrong command line, or something that is not built yet"),
        (Self::NoKernel, "no kernel found, no profile fits, or a damaged dump or package"),
        (Self::Source, "the source can't be opened"),
        (Self::Output, "output failed"),
        (Self::Permission, "permission denied"),
        (Self::Configuration, "the configuration is wrong"),
    ];

    /// The code for an error of the operating system: [`Self::Permission`] for a missing
    /// permission, `otherwise` for everything else.
    pub fn from_io(error: &io::Error, otherwise: Self) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied { Self::Permission } else { otherwise }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The output of a command, and its exit code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CommandOutput {
    /// For standard output.
    pub out: String,
    /// For standard error, a line each.
    pub err: Vec<String>,
    pub exit: Exit,
}

/// Why the program ends early: one line for people, and the code to end with.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub exit: Exit,
    /// What happened, where, and how to fix it.
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The failure for an error of the operating system, with a missing permission apart.
    pub fn io(error: &io::Error, otherwise: Exit, what: impl fmt::Display) -> Self {
        Self::new(Exit::from_io(error, otherwise), format!("{what}: {error}"))
    }

    /// The same failure, with what else there is to know.
    #[must_use]
    pub fn with(self, more: &str) -> Self {
        Self { message: format!("{} ({more})", self.message), ..self }
    }

    /// The same failure, with the key of the configuration that it is about.
    #[must_use]
    pub fn about(self, key: &str) -> Self {
        Self { message: format!("{key}: {}", self.message), ..self }
    }

    /// The failure for a file, or a folder of files, that cannot be written.
    pub fn not_written(path: &Path, error: &io::Error) -> Self {
        Self::io(error, Exit::Output, format_args!("cannot write to {}", path.display()))
    }

    /// The failure for a feature that is documented but not built in this version.
    pub fn not_built(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, format!("{what} is not built yet"))
    }
}

/// Writes to standard output. A closed pipe is no error: its reader needs no more.
pub(crate) fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    printed(out.write_all(bytes).and_then(|()| out.flush())).map(|_| Exit::Done)
}

/// The result of writing to standard output; `None` if its reader needs no more.
pub(crate) fn printed<T>(written: io::Result<T>) -> Result<Option<T>, Failure> {
    match written {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => {
            let message = format!("cannot write to standard output: {error}");
            Err(Failure::new(Exit::Output, message))
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let exit = match error.class() {
            ErrorClass::CannotOpen => Exit::Source,
            ErrorClass::Permission => Exit::Permission,
            ErrorClass::Unreadable => Exit::NoKernel,
        };
        Self::new(exit, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_the_documented_ones() {
        let codes: Vec<u8> = Exit::MEANINGS.iter().map(|(exit, _)| *exit as u8).collect();
        assert_eq!(codes, [0, 1, 2, 65, 66, 74, 77, 78]);
    }

    #[test]
    fn a_missing_permission_has_its_own_code() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let missing = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(Exit::from_io(&denied, Exit::Source), Exit::Permission);
        assert_eq!(Exit::from_io(&missing, Exit::Source), Exit::Source);
    }
}
