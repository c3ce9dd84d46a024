//! How the program ends: the documented exit codes, and a failure that carries one.
//!
//! Not for: errors of a configuration, which can be many, each with its place
//! ([`crate::config::Report`]).

use std::fmt;
use std::io;
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
    /// The program failed while running, or an object that a list names could not be decoded.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No kernel was found, no profile fits, or a dump, a package or the like is damaged.
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
    /// Every code, in the order in which the help lists them.
    pub const ALL: [Self; 8] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NoKernel,
        Self::Source,
        Self::Output,
        Self::Permission,
        Self::Configuration,
    ];

    /// The number that the operating system gets.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of the code, for the help text and the manual.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed while running, or an object could not be decoded",
            Self::Usage => "wrong command line, or something that is not built yet",
            Self::NoKernel => "no kernel found, no profile fits, or a damaged dump or package",
            Self::Source => "the source can't be opened",
            Self::Output => "output failed",
            Self::Permission => "permission denied",
            Self::Configuration => "the configuration is wrong",
        }
    }

    /// The code for an error of the operating system: [`Self::Permission`] for a missing
    /// permission, `otherwise` for everything else.
    pub fn from_io(error: &io::Error, otherwise: Self) -> Self {
        if error.kind() == io::ErrorKind::PermissionDenied { Self::Permission } else { otherwise }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
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

    /// The failure for a feature that is documented but not built in this version.
    pub fn not_built(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, format!("{what} is not built yet"))
    }
}

impl From<&SourceError> for Failure {
    fn from(error: &SourceError) -> Self {
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
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
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
