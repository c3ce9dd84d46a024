//! Decides whether a file that runs is one that was shipped.
//!
//! [`decide`] is a pure function of what is known of a file and of what was shipped. Its rules:
//!
//! 1. A process to which no SBOM applies is not checked ([`ShippedFiles::of_system`],
//!    [`ShippedFiles::of_container`]).
//! 2. Shipped content is fine at a path that it was shipped at, or if it was shipped without one
//!    (lists of hashes). A program with content that was shipped elsewhere is *not as intended*; a
//!    library or a script is fine. `/usr/bin` and `/bin` are the same on merged systems
//!    ([`crate::shipped::merged`]).
//! 3. Content that was not shipped is *foreign*. If a file of another size was shipped at its path,
//!    it is a *size mismatch* as well.
//! 4. If only parts of the content are known, those parts are compared. If none differs, the file
//!    is fine so far. If one differs from every candidate, the file is foreign. A missing part is
//!    never a mismatch. Files that were shipped without page hashes cannot be compared in parts.
//! 5. Arguments are compared with those that a program is meant to be run with, where an SBOM lists
//!    them. Those of a container's first process are compared with the image's entrypoint and
//!    command ([`super::arguments`]).
//! 6. For a script, the script counts as what was executed, not its interpreter. A script at a path
//!    where nothing was shipped raises no alert.
//! 7. A program without a file (memfd) with shipped content is fine if it is a copy of what its
//!    process, or the parent, ran before, or has the name of such a copy: container runtimes run
//!    themselves so. Others (crun, and runc before 1.2) mount their own file by itself and detach
//!    that mount, so that the kernel has no path of it but `/`; shipped content is fine there.
//!
//! A [`AttestationVerdict::Open`] may be decided when more of the content is known.

#[cfg(test)]
mod tests;

use crate::page_cache::{BestMatch, ContentFacts, HashOutcome, Hashes, Partial};
use crate::shipped::{FileId, ProcessSubjects, RunId, ShippedFileView, ShippedFiles};

/// What a file is to the process that runs it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The process's executable.
    Program,
    /// Mapped executable.
    Library,
    /// The script that an interpreter was started with.
    Script,
}

/// Everything known of a file that runs.
#[derive(Clone, Copy, Debug)]
pub struct AttestationQuestion<'a> {
    pub shipped: &'a ShippedFiles,
    /// The subjects of `shipped` that apply to the process.
    pub applied: &'a ProcessSubjects,
    pub role: Role,
    /// Path without ` (deleted)`, if it could be read.
    pub path: Option<&'a [u8]>,
    pub is_memfd: bool,
    /// Size according to the inode, in bytes.
    pub size: u64,
    pub known: Option<&'a ContentFacts>,
    /// Content of what ran before in the same process, and of what its parent runs.
    pub ran_before: &'a [Hashes],
}

/// Result of [`decide`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttestationVerdict {
    /// It was shipped, or there is no rule for it.
    Fine,
    /// Not enough is known yet.
    Open {
        /// The finding if nothing more becomes known.
        otherwise: Option<Deviation>,
    },
    Alert(Deviation),
}

/// A fault ([`FileFault`]), and the evidence for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deviation {
    pub wrong: FileFault,
    pub basis: Basis,
}

/// A fault of a file, or of the way in which it was run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileFault {
    /// The content was not shipped.
    Foreign {
        /// The file that was shipped at its path, if any.
        instead: Option<FileId>,
        /// The size of that file, if it differs.
        other_size: Option<u64>,
    },
    /// The content was shipped at another path.
    Elsewhere { shipped: FileId },
    /// The program was run with other arguments than intended.
    Arguments {
        /// Whether the arguments were compared with the image's entrypoint and command.
        entrypoint: bool,
    },
}

/// The evidence for a finding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Basis {
    /// Hashes of the whole content.
    Content,
    /// Hashes of parts of the content.
    Parts {
        partial: Partial,
        /// Whether there are approved hashes without sizes or pages, which could not be compared.
        others: bool,
    },
    /// The size: nothing of that size was shipped.
    Size,
    CommandLine,
}

/// Decides about one file.
pub fn decide(question: &AttestationQuestion<'_>) -> AttestationVerdict {
    if question.applied.is_empty() {
        return AttestationVerdict::Fine;
    }
    match question.known.map(|known| known.outcome) {
        Some(HashOutcome::Whole { hashes }) => question.by_content(&hashes),
        Some(HashOutcome::Partial(partial)) => question.by_parts(partial),
        Some(HashOutcome::Nothing) | None => {
            AttestationVerdict::Open { otherwise: question.by_size() }
        }
    }
}

impl<'a> AttestationQuestion<'a> {
    /// The argument lists that the program is meant to be run with, if its content was shipped at
    /// its path. Empty if any arguments are fine.
    pub fn intended_arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        let hashes = self.known.and_then(|known| match &known.outcome {
            HashOutcome::Whole { hashes } => Some(hashes),
            _ => None,
        });
        let (shipped, applied) = (self.shipped, self.applied);
        let files = move || {
            let all = hashes.into_iter().flat_map(|hashes| shipped.with_content(hashes));
            all.filter(|file| applied.has(file.subject()) && self.is_at_home(file))
        };
        let any_are_fine = files().any(|file| file.argument_lists().next().is_none());
        let lists = (!any_are_fine).then(|| files().flat_map(|file| file.argument_lists()));
        lists.into_iter().flatten()
    }

    fn by_content(&self, hashes: &Hashes) -> AttestationVerdict {
        let with_content = || {
            let all = self.shipped.with_content(hashes);
            all.filter(|file| self.applied.has(file.subject()))
        };
        let Some(first) = with_content().next() else {
            if self.at_path().any(|file| !file.has_hash()) {
                // The SBOM has no hash for the file at this path.
                return AttestationVerdict::Fine;
            }
            return self.foreign(Basis::Content);
        };
        if with_content().any(|file| self.is_at_home(&file)) {
            return AttestationVerdict::Fine;
        }
        if self.is_memfd && (self.ran_before.contains(hashes) || self.has_name_of_a_copy()) {
            return AttestationVerdict::Fine;
        }
        self.elsewhere(first.id(), Basis::Content)
    }

    fn by_parts(&self, partial: Partial) -> AttestationVerdict {
        let open = AttestationVerdict::Open { otherwise: None };
        // Shipped content without page hashes: the file may have it.
        let has_unsized = self.applied.iter().any(|id| self.shipped.has_unsized(id));
        let without_pages = || self.of_size().filter(|file| file.run().is_none());
        let others = has_unsized || without_pages().next().is_some();
        let here_unknown = self
            .at_path()
            .any(|file| file.size().is_none_or(|size| size == self.size) && file.run().is_none());
        if here_unknown {
            return open;
        }
        let basis = Basis::Parts { partial, others };
        let same = |best_match: &BestMatch| best_match.differing == 0 && best_match.compared > 0;
        let Some(best_match) = partial.best_match.filter(same) else {
            // No file of that size with page hashes was shipped, or all of them differ.
            if partial.best_match.is_none_or(|best_match| best_match.compared == 0)
                && self.of_size().next().is_some()
            {
                return open;
            }
            let was_modified = partial.best_match.is_some() && self.here_by_pages();
            return if !others || was_modified { self.foreign(basis) } else { open };
        };
        let (run, is_ambiguous) = RunId::of(&best_match);
        let with_content = || self.of_size().filter(move |file| file.run() == Some(run));
        if with_content().any(|file| self.is_at_home(&file))
            || (is_ambiguous && self.here_by_pages())
        {
            return open;
        }
        match with_content().next() {
            Some(_) if is_ambiguous || others => open,
            Some(first) => self.elsewhere(first.id(), basis),
            // Content of something that does not apply here, or of another file with the same
            // parts.
            None if is_ambiguous && self.of_size().next().is_some() => open,
            None if others && !self.here_by_pages() => open,
            None => self.foreign(basis),
        }
    }

    /// The finding that the size alone supports.
    fn by_size(&self) -> Option<Deviation> {
        let may_be_any = self.applied.iter().any(|id| self.shipped.has_unsized(id))
            || self.of_size().next().is_some()
            || self.at_path().any(|file| file.size().is_none());
        if may_be_any {
            return None;
        }
        match self.foreign(Basis::Size) {
            AttestationVerdict::Alert(finding) => Some(finding),
            _ => None,
        }
    }

    fn foreign(&self, basis: Basis) -> AttestationVerdict {
        let instead = self.at_path().next();
        if instead.is_none() && self.role == Role::Script {
            return AttestationVerdict::Fine;
        }
        // Packages of different versions may have shipped several files there.
        let same_size = self.at_path().any(|file| file.size().is_none_or(|size| size == self.size));
        let other_size = instead.and_then(|file| file.size()).filter(|_| !same_size);
        let instead = instead.map(|file| file.id());
        AttestationVerdict::Alert(Deviation {
            wrong: FileFault::Foreign { instead, other_size },
            basis,
        })
    }

    fn elsewhere(&self, shipped: FileId, basis: Basis) -> AttestationVerdict {
        match self.role {
            Role::Program => AttestationVerdict::Alert(Deviation {
                wrong: FileFault::Elsewhere { shipped },
                basis,
            }),
            Role::Library | Role::Script => AttestationVerdict::Fine,
        }
    }

    /// Whether a shipped file may be at this path. If the path is not known, any may.
    fn is_at_home(&self, file: &ShippedFileView<'_>) -> bool {
        match self.path {
            Some(_) if self.is_memfd => file.path().is_none(),
            Some(b"/") | None => true,
            Some(path) => file.may_be_at(path),
        }
    }

    /// Whether a memfd has the name that runtimes give to copies of themselves
    /// (`runc_cloned:/proc/self/exe`), which may be all that scans see of such a copy. Any program
    /// can use that name, but the caller has found the content among what was shipped.
    fn has_name_of_a_copy(&self) -> bool {
        self.path.is_some_and(|path| path.ends_with(b":/proc/self/exe"))
    }

    /// Files that were shipped at this path.
    fn at_path(&self) -> impl Iterator<Item = ShippedFileView<'a>> {
        let path = self.path.filter(|_| !self.is_memfd);
        let (shipped, applied) = (self.shipped, self.applied);
        path.into_iter().flat_map(move |path| {
            applied.iter().flat_map(move |subject| shipped.at_path(subject, path))
        })
    }

    /// Shipped files of this size that apply.
    fn of_size(&self) -> impl Iterator<Item = ShippedFileView<'a>> {
        let applied = self.applied;
        self.shipped.of_size(self.size).filter(|file| applied.has(file.subject()))
    }

    /// Whether a file of this size, with page hashes, was shipped at this path.
    fn here_by_pages(&self) -> bool {
        self.at_path().any(|file| file.size() == Some(self.size) && file.run().is_some())
    }
}
