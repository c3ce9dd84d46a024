//! The decision: is what runs what was shipped?
//!
//! [`decide`] is a pure function of what is known of a file and of what was shipped. Its rules:
//!
//! 1. Nothing is said of a process to which no SBOM applies ([`Shipped::of_system`], [`Shipped::of_container`]).
//! 2. Content that was shipped is fine at a path that it was shipped at, or if it was shipped without one (lists of
//!    hashes). A program whose content was shipped, but elsewhere, is *not as intended*; a library or a script is fine.
//!    `/usr/bin` and `/bin` are the same on merged systems ([`super::shipped::merged`]).
//! 3. Content that was not shipped is *foreign*; where another size was shipped at its path, *size mismatch* as well.
//! 4. Of content of which only parts are known those parts are compared. None differs: fine so far. One differs from
//!    all that it could be: foreign. What is missing is never a mismatch, and where what was shipped is not known
//!    page by page, there is nothing to say.
//! 5. Arguments are compared with those that a program is meant to be run with, where an SBOM has such, and those of a
//!    container's first process with the image's entrypoint and command ([`super::arguments`]).
//! 6. A script is what was executed, not its interpreter; but one that was shipped nowhere is not worth an alert.
//! 7. A program without a file (memfd) whose content was shipped is fine if it is a copy of what its process, or that
//!    one's parent, was before, or is called one: runtimes of containers run themselves so. Others (crun, and runc before
//!    1.2) mount their own file by itself and detach that mount, so that the kernel has no path of it but `/`; shipped
//!    content is fine there.
//!
//! What [`Verdict::Open`] leaves open may be decided when more of the content is known.

#[cfg(test)]
mod tests;

use super::shipped::{Applied, File, FileId, RunId, Shipped};
use crate::page_cache::{Hashes, Known, Likest, Outcome, Partial};

/// What a file is to the process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// What it executes.
    Program,
    /// Mapped to be executed.
    Library,
    /// What its program, an interpreter, was started with.
    Script,
}

/// What is known of a file that runs.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What was shipped.
    pub shipped: &'a Shipped,
    /// What of it applies.
    pub applied: &'a Applied,
    /// What the file is to its process.
    pub role: Role,
    /// Its path without ` (deleted)`, if it could be read.
    pub path: Option<&'a [u8]>,
    /// Whether it is a memfd.
    pub is_memfd: bool,
    /// Its size by its inode.
    pub size: u64,
    /// What is known of its content so far.
    pub known: Option<&'a Known>,
    /// The content of what ran before in the same process, and of what its parent runs.
    pub ran_before: &'a [Hashes],
}

/// What can be said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It was shipped, or nothing is to be said of it.
    Fine,
    /// Nothing can be said yet.
    Open {
        /// What must be said even if nothing more comes to be known.
        otherwise: Option<Finding>,
    },
    /// It was not shipped like this.
    Alert(Finding),
}

/// What is wrong, and what that rests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What is wrong.
    pub wrong: Wrong,
    /// What that rests on.
    pub basis: Basis,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wrong {
    /// Its content was not shipped.
    Foreign {
        /// What was shipped at its path, if anything was.
        instead: Option<FileId>,
        /// The size of that, where it is another.
        other_size: Option<u64>,
    },
    /// It was shipped, elsewhere.
    Elsewhere {
        /// As this.
        shipped: FileId,
    },
    /// It was run with other arguments than it is meant to be.
    Arguments {
        /// Whether they are the image's entrypoint and command that they were compared with.
        entrypoint: bool,
    },
}

/// What a finding rests on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Basis {
    /// The hashes of the whole content.
    Content,
    /// Parts of it.
    Parts {
        /// How much there was.
        partial: Partial,
        /// Whether approved hashes without sizes and pages could not be compared.
        others: bool,
    },
    /// The size, and that nothing of that size was shipped.
    Size,
    /// The command line.
    CommandLine,
}

/// Decides about one file.
pub fn decide(question: &Question<'_>) -> Verdict {
    if question.applied.is_empty() {
        return Verdict::Fine;
    }
    match question.known.map(|known| known.outcome) {
        Some(Outcome::Whole { hashes }) => question.by_content(&hashes),
        Some(Outcome::Partial(partial)) => question.by_parts(partial),
        Some(Outcome::Nothing) | None => Verdict::Open { otherwise: question.by_size() },
    }
}

impl<'a> Question<'a> {
    /// The lists of arguments that it is meant to be run with, if its content was shipped at its path; none where any
    /// are fine.
    pub fn intended_arguments(&self) -> impl Iterator<Item = &'a [u8]> {
        let hashes = self.known.and_then(|known| match &known.outcome {
            Outcome::Whole { hashes } => Some(hashes),
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

    fn by_content(&self, hashes: &Hashes) -> Verdict {
        let with_content = || {
            let all = self.shipped.with_content(hashes);
            all.filter(|file| self.applied.has(file.subject()))
        };
        let Some(first) = with_content().next() else {
            if self.at_path().any(|file| !file.has_hash()) {
                // Nothing was said of what it should hold.
                return Verdict::Fine;
            }
            return self.foreign(Basis::Content);
        };
        if with_content().any(|file| self.is_at_home(&file)) {
            return Verdict::Fine;
        }
        if self.is_memfd && (self.ran_before.contains(hashes) || self.says_copy_of_itself()) {
            return Verdict::Fine;
        }
        self.elsewhere(first.id(), Basis::Content)
    }

    fn by_parts(&self, partial: Partial) -> Verdict {
        let open = Verdict::Open { otherwise: None };
        // Shipped content that this may be although no page of it is known.
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
        let same = |likest: &Likest| likest.differing == 0 && likest.compared > 0;
        let Some(likest) = partial.likest.filter(same) else {
            // Nothing of that size that is known by its pages, or all of that differs.
            if partial.likest.is_none_or(|likest| likest.compared == 0)
                && self.of_size().next().is_some()
            {
                return open;
            }
            let was_modified = partial.likest.is_some() && self.here_by_pages();
            return if !others || was_modified { self.foreign(basis) } else { open };
        };
        let (run, is_ambiguous) = RunId::of(&likest);
        let with_content = || self.of_size().filter(move |file| file.run() == Some(run));
        if with_content().any(|file| self.is_at_home(&file))
            || (is_ambiguous && self.here_by_pages())
        {
            return open;
        }
        match with_content().next() {
            Some(_) if is_ambiguous || others => open,
            Some(first) => self.elsewhere(first.id(), basis),
            // Content of something that does not apply here. It may also be another's with the same parts.
            None if is_ambiguous && self.of_size().next().is_some() => open,
            None if others && !self.here_by_pages() => open,
            None => self.foreign(basis),
        }
    }

    /// What can be said without knowing anything of the content.
    fn by_size(&self) -> Option<Finding> {
        let may_be_any = self.applied.iter().any(|id| self.shipped.has_unsized(id))
            || self.of_size().next().is_some()
            || self.at_path().any(|file| file.size().is_none());
        if may_be_any {
            return None;
        }
        match self.foreign(Basis::Size) {
            Verdict::Alert(finding) => Some(finding),
            _ => None,
        }
    }

    fn foreign(&self, basis: Basis) -> Verdict {
        let instead = self.at_path().next();
        if instead.is_none() && self.role == Role::Script {
            return Verdict::Fine;
        }
        // Several may have been shipped there, by packages of different versions.
        let same_size = self.at_path().any(|file| file.size().is_none_or(|size| size == self.size));
        let other_size = instead.and_then(|file| file.size()).filter(|_| !same_size);
        let instead = instead.map(|file| file.id());
        Verdict::Alert(Finding { wrong: Wrong::Foreign { instead, other_size }, basis })
    }

    fn elsewhere(&self, shipped: FileId, basis: Basis) -> Verdict {
        match self.role {
            Role::Program => Verdict::Alert(Finding { wrong: Wrong::Elsewhere { shipped }, basis }),
            Role::Library | Role::Script => Verdict::Fine,
        }
    }

    /// Whether a shipped file may lie where this one does. Of a file whose path is not known, any may.
    fn is_at_home(&self, file: &File<'_>) -> bool {
        match self.path {
            Some(_) if self.is_memfd => file.path().is_none(),
            Some(b"/") | None => true,
            Some(path) => file.may_be_at(path),
        }
    }

    /// Whether a memfd is called as runtimes call the copies that they make of themselves (`runc_cloned:/proc/self/exe`),
    /// which may be all that is seen of them. Anybody may call one so, but its content was shipped.
    fn says_copy_of_itself(&self) -> bool {
        self.path.is_some_and(|path| path.ends_with(b":/proc/self/exe"))
    }

    /// What was shipped at its path.
    fn at_path(&self) -> impl Iterator<Item = File<'a>> {
        let path = self.path.filter(|_| !self.is_memfd);
        let (shipped, applied) = (self.shipped, self.applied);
        path.into_iter().flat_map(move |path| {
            applied.iter().flat_map(move |subject| shipped.at_path(subject, path))
        })
    }

    /// What of that size was shipped.
    fn of_size(&self) -> impl Iterator<Item = File<'a>> {
        let applied = self.applied;
        self.shipped.of_size(self.size).filter(|file| applied.has(file.subject()))
    }

    /// Whether a file of that size, known page by page, was shipped at its path.
    fn here_by_pages(&self) -> bool {
        self.at_path().any(|file| file.size() == Some(self.size) && file.run().is_some())
    }
}
