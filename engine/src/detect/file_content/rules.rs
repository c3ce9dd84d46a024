//! Decides which changes of files are alerts, which are events, and how severe they are.
//!
//! Built once from the configuration and queried without allocating.

use panoptes_records::activities::Severity;

use super::important::{is_important, is_run};
use crate::container_config::Glob;

/// Known facts about a changed file.
#[derive(Clone, Copy, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct ChangedFile<'a> {
    /// As its process sees it; none if it is not known.
    pub path: Option<&'a [u8]>,
    /// Whether its mode lets someone execute it.
    pub may_execute: bool,
    /// Whether an SBOM that applies to its process has a file at this path.
    pub is_shipped: bool,
    /// Whether a process runs it now: it is an executable, or is mapped executable.
    pub is_running: bool,
    /// Whether its path is not known because it was open for a moment only, in which its name may
    /// have changed.
    pub is_nameless_by_chance: bool,
}

/// Which files matter, beside and instead of the default ones.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ContentRules {
    /// Patterns of further paths that matter.
    pub include: Vec<Glob>,
    /// Patterns of paths that do not matter.
    pub exclude: Vec<Glob>,
    /// Severities by patterns of paths; the first that matches applies.
    pub severities: Vec<(Glob, Severity)>,
    /// Whether changes of files that do not matter are reported, as events.
    pub others: bool,
}

impl ContentRules {
    /// Whether a change of a file is an alert.
    ///
    /// A file of unknown path matters: what hides its path does not hide its change. If the path
    /// may be unknown by chance, the change of a file that matters is found by its path.
    pub fn matters(&self, file: &ChangedFile<'_>) -> bool {
        let Some(path) = file.path else {
            let is_any = |glob: &Glob| glob.matches(b"");
            return file.is_running
                || !file.is_nameless_by_chance
                || self.include.iter().any(is_any);
        };
        if self.is_excluded(path) {
            return false;
        }
        file.is_running
            || is_important(path, file.may_execute)
            || file.is_shipped && is_run(path, file.may_execute)
            || self.include.iter().any(|glob| glob.matches(path))
    }

    /// Whether the configuration excludes a path.
    pub fn is_excluded(&self, path: &[u8]) -> bool {
        self.exclude.iter().any(|glob| glob.matches(path))
    }

    /// The severity of a change that the configuration sets for this path.
    pub fn severity(&self, path: Option<&[u8]>) -> Option<Severity> {
        let path = path?;
        let mut severities = self.severities.iter();
        severities.find(|(glob, _)| glob.matches(path)).map(|&(_, severity)| severity)
    }
}

#[cfg(test)]
mod tests;
