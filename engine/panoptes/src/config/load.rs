//! Reads a configuration from its file, as often as needed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::problem::{ConfigLocation, Problem, Report, Weight};
use super::section::Context;
use super::{
    ConfigKey, Configuration, FieldName, FieldValue, GuestName, Mode, Overrides, SystemAddress,
    read_with_keys,
};

/// The source of a configuration; kept, so that SIGHUP can read it again.
#[derive(Clone, Debug)]
pub struct Loader {
    pub mode: Mode,
    /// `None` is an empty file.
    pub file: Option<PathBuf>,
    pub overrides: Overrides,
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct LoadedConfiguration {
    pub configuration: Configuration,
    /// Has no errors.
    pub warnings: Report,
    /// The keys with their values; of systems only what is given, or all if so asked.
    pub keys: Vec<ConfigKey>,
    /// The bare words by which systems are given.
    pub(crate) words: Vec<GuestName>,
}

impl Loader {
    /// Reads the file and the command line, or returns all their mistakes.
    pub fn load(&self) -> Result<LoadedConfiguration, Report> {
        self.load_listing(false)
    }

    /// The same, to use it now: a bare word is a file if the file exists.
    pub(crate) fn load_to_use(&self) -> Result<LoadedConfiguration, Report> {
        let mut loaded = self.load()?;
        for system in &mut loaded.configuration.systems {
            system.address = system.address.clone().or_file();
        }
        Ok(loaded)
    }

    /// The same, with all keys of all systems.
    pub fn load_with_all_keys(&self) -> Result<LoadedConfiguration, Report> {
        self.load_listing(true)
    }

    fn load_listing(&self, all: bool) -> Result<LoadedConfiguration, Report> {
        let (text, folder) = match &self.file {
            Some(file) => (self.read_file(file)?, file.parent().unwrap_or(Path::new(""))),
            None => (String::new(), Path::new("")),
        };
        let context = if all { Context::listing_all(folder) } else { Context::listing(folder) };
        let (configuration, mut problems, keys) =
            read_with_keys(context, &text, self.mode, &self.overrides);
        problems.extend(self.warn_of_secrets(&configuration));
        let report = Report { file: self.file.clone(), problems, denied: false };
        if report.has_errors() {
            Err(report)
        } else {
            debug_assert!(report.problems.iter().all(|one| one.weight == Weight::Warning));
            let words = configuration.systems.iter().filter_map(|system| match &system.address {
                SystemAddress::Guest(word @ GuestName::Bare { .. }) => Some(word.clone()),
                _ => None,
            });
            let words = words.collect();
            Ok(LoadedConfiguration { configuration, warnings: report, keys, words })
        }
    }

    /// Warns of a secret in the file if everybody may read that.
    fn warn_of_secrets(&self, configuration: &Configuration) -> Option<Problem> {
        let is_open = |file: &PathBuf| {
            let mode = file.metadata().map(|metadata| metadata.permissions().mode());
            mode.is_ok_and(|mode| mode & 0o004 != 0)
        };
        self.file.as_ref().filter(|file| is_open(file))?;
        let fields = configuration.output.telemetry.iter().flat_map(|receiver| &receiver.headers);
        let (FieldName(name), _) = fields
            .filter(|(_, value)| matches!(value, FieldValue::Text(_)))
            .find(|(FieldName(name), _)| {
                let name = name.to_ascii_lowercase();
                SECRETS.iter().any(|word| name.contains(word))
            })?;
        let message = format!(
            "`headers` has `{name}` as text, and every user may read this file; write \
             `{name}: file:PATH`, or chmod o-r"
        );
        Some(Problem::warning(None, message))
    }

    fn read_file(&self, file: &Path) -> Result<String, Report> {
        let refuse = |place, message: String, denied| {
            Err(Report {
                file: self.file.clone(),
                problems: vec![Problem::error(place, message)],
                denied,
            })
        };
        let bytes = match read_bounded(file) {
            Ok(bytes) => bytes,
            Err(error) => {
                let denied = error.kind() == io::ErrorKind::PermissionDenied;
                return refuse(None, format!("can't be read: {error}"), denied);
            }
        };
        if bytes.len() as u64 > CONFIG_BYTES_MAX {
            let message =
                format!("is larger than {} KiB; is it a configuration?", CONFIG_BYTES_MAX >> 10);
            return refuse(None, message, false);
        }
        String::from_utf8(bytes).or_else(|error| {
            let good = error.utf8_error().valid_up_to();
            let place = place_after(&error.as_bytes()[..good]);
            refuse(Some(place), "this byte is not UTF-8 text".to_owned(), false)
        })
    }
}

/// Reads at most one byte more than allowed, so that the caller can detect a file that is too
/// large.
fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The place after valid text.
fn place_after(good: &[u8]) -> ConfigLocation {
    let text = String::from_utf8_lossy(good);
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    ConfigLocation::File {
        line: text.matches('\n').count() + 1,
        column: last_line.chars().count() + 1,
    }
}

/// Words in the names of header fields that are secrets.
const SECRETS: [&str; 5] = ["authorization", "token", "key", "cookie", "secret"];

/// Large enough for thousands of systems.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
