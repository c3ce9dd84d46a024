//! What discovery says: as it goes along ([`Progress`]) and when it fails ([`DiscoveryError`]).

use core::fmt;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::layout::Missing;

use crate::memory::Fault;
use crate::profile_file::ProfileFile;
use crate::{btf, vmcoreinfo};

/// Most refused candidates that an error names; the count goes on.
pub const ATTEMPTS_NAMED_MAX: usize = 16;

/// Most profile files that a refusal names.
const OTHER_FILES_NAMED_MAX: usize = 4;

/// Most characters of a release or build id out of a file that a refusal tells.
const OTHER_TEXT_MAX: usize = 64;

/// Where the layouts come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// A profile file for that build id.
    File {
        /// Its build id.
        build_id: String,
    },
    /// A table that is built in, for that build id.
    BuiltIn {
        /// Its build id.
        build_id: &'static str,
    },
    /// The kernel's own BTF in its memory.
    Btf {
        /// Where it lies.
        at: PhysicalAddress,
        /// Size in bytes.
        bytes: u64,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { build_id } => write!(f, "profile file for build id {build_id}"),
            Self::BuiltIn { build_id } => write!(f, "built-in table for build id {build_id}"),
            Self::Btf { at, bytes } => write!(f, "BTF in memory at {at}, {bytes} bytes"),
        }
    }
}

/// By what a kernel was noticed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trace {
    /// A VMCOREINFO text.
    Vmcoreinfo,
    /// Page tables that map a kernel's image.
    PageTables,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmcoreinfo => "VMCOREINFO",
            Self::PageTables => "page tables of a kernel image",
        })
    }
}

/// A step of discovery; the next one's beginning is its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Looking at the beginnings of all pages.
    SweepPageBeginnings,
    /// Looking at all of memory.
    SweepEverything,
    /// Looking for page tables.
    SweepPageTables,
    /// Proving that a candidate's page tables are its kernel's.
    ProvePageTables,
    /// Reading the table of symbols.
    Kallsyms,
    /// Finding and parsing types.
    Btf,
    /// Filling the layouts in.
    Bind,
    /// Finding the direct map and the rest.
    Derive,
    /// Checking all of it against memory.
    Verify,
    /// Nothing more.
    Done,
}

/// What happens on the way.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins.
    Stage(Stage),
    /// Something in memory says what kernel this may be.
    OsIdentifierFound {
        /// By what.
        trace: Trace,
        /// Where.
        at: PhysicalAddress,
        /// The kernel's release.
        release: &'a str,
        /// Its build id, if it says so.
        build_id: Option<&'a str>,
    },
    /// The usual place had nothing that held: the search goes on elsewhere.
    OsIdentifierDiscoveryExtended {
        /// How.
        to: Stage,
    },
    /// A candidate was tried and refused.
    CandidateRefused(&'a Attempt),
    /// Layouts are about to be bound.
    LoadingProfileCandidate(&'a Origin),
    /// They hold.
    ProfileVerificationSuccessful(&'a [Check]),
}

/// Whoever wants to know.
pub trait Progress {
    /// Called as things happen.
    fn event(&mut self, event: Event<'_>);
}

/// Nobody wants to know.
impl Progress for () {
    fn event(&mut self, _: Event<'_>) {}
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// One check of a profile against memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// What is checked.
    pub name: &'static str,
    /// What came out.
    pub outcome: CheckOutcome,
}

/// What came out of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckOutcome {
    /// It holds.
    Passed,
    /// It does not, and how.
    Failed(String),
    /// It could not be made here, and why.
    Skipped(&'static str),
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            CheckOutcome::Passed => write!(f, "{}: yes", self.name),
            CheckOutcome::Failed(how) => write!(f, "{}: no, {how}", self.name),
            CheckOutcome::Skipped(why) => write!(f, "{}: not checked, {why}", self.name),
        }
    }
}

/// Why a candidate was refused.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Refusal {
    /// Its text says too little.
    Vmcoreinfo(vmcoreinfo::Error),
    /// It lacks a value that is needed.
    Lacks(&'static str),
    /// Its memory is encrypted.
    Encrypted,
    /// Its page tables do not lead where they must.
    PageTables {
        /// What was to be reached.
        what: &'static str,
        /// How that went wrong; `None` where they lead elsewhere.
        fault: Option<Fault>,
    },
    /// The kernel in memory gives another release.
    Release {
        /// What it gives.
        found: String,
    },
    /// Neither a file nor a built-in table nor the kernel has layouts.
    NoProfile {
        /// Which kernels the files are for.
        files: OtherFiles,
    },
    /// Neither a file nor a built-in table is for this build, and no profile may be made.
    NotGenerated {
        /// Its build id, if it says one.
        build_id: Option<String>,
        /// Which kernels the files are for.
        files: OtherFiles,
    },
    /// A profile was made before something was asked that today's decoders ask.
    Incomplete {
        /// What it is silent about.
        what: String,
    },
    /// There is BTF, and it cannot be parsed.
    Btf(btf::Error),
    /// A structure or field that the decoders need is not in it.
    Missing(Missing),
    /// The first task was not found.
    NoInitTask,
    /// The direct map was not found.
    NoDirectMap,
    /// Checks failed.
    Verification(Vec<Check>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vmcoreinfo(error) => error.fmt(f),
            Self::Lacks(what) => write!(f, "it does not say {what}"),
            Self::Encrypted => write!(f, "the guest's memory is encrypted"),
            Self::PageTables { what, fault: Some(fault) } => write!(f, "{what}: {fault}"),
            Self::PageTables { what, fault: None } => write!(f, "{what} lies elsewhere"),
            Self::Release { found } => write!(f, "the kernel there is {found:?}"),
            Self::NoProfile { files } => {
                write!(f, "no profile file or built-in table fits, and no BTF was found{files}")
            }
            Self::NotGenerated { build_id: Some(build_id), files } => write!(
                f,
                "no profile file or built-in table is for build id {build_id}, and profile generation \
                 is off{files}"
            ),
            Self::NotGenerated { build_id: None, files } => {
                write!(
                    f,
                    "it says no build id to choose a profile by, and profile generation is off{files}"
                )
            }
            Self::Incomplete { what } => {
                write!(f, "the profile is older than this program and says nothing of {what}")
            }
            Self::Btf(error) => error.fmt(f),
            Self::Missing(missing) => missing.fmt(f),
            Self::NoInitTask => write!(f, "no init_task was found"),
            Self::NoDirectMap => write!(f, "the direct map was not found"),
            Self::Verification(checks) => {
                let failed = |check: &&Check| matches!(check.outcome, CheckOutcome::Failed(_));
                for (index, check) in checks.iter().filter(failed).enumerate() {
                    write!(f, "{}{check}", if index == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
        }
    }
}

impl Refusal {
    /// How far the candidate came: of several failures the one that came furthest is told.
    const fn progress(&self) -> u8 {
        match self {
            Self::Vmcoreinfo(_) | Self::Lacks(_) | Self::Encrypted => 0,
            Self::PageTables { .. } | Self::Release { .. } => 1,
            Self::NoProfile { .. } | Self::NotGenerated { .. } | Self::Incomplete { .. } => 2,
            Self::Btf(_) | Self::Missing(_) => 3,
            Self::NoInitTask | Self::NoDirectMap | Self::Verification(_) => 4,
        }
    }
}

/// Profile files for other kernels, as a reason for a refusal names them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OtherFiles {
    /// Release and build id (empty in an ISF) of the first ones.
    named: Vec<(String, String)>,
    /// How many there are.
    count: usize,
}

impl OtherFiles {
    pub(crate) fn of(files: &[ProfileFile]) -> Self {
        // Whoever wrote the file chose how long they are.
        let short = |text: &str| text.chars().take(OTHER_TEXT_MAX).collect::<String>();
        let named = files
            .iter()
            .take(OTHER_FILES_NAMED_MAX)
            .map(|file| (short(&file.release), short(&file.build_id)))
            .collect();
        Self { named, count: files.len() }
    }
}

impl fmt::Display for OtherFiles {
    /// Nothing where there are none, otherwise a clause that goes on.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (release, build_id)) in self.named.iter().enumerate() {
            f.write_str(if index == 0 { "; the profile files are for " } else { ", " })?;
            write!(f, "{}", release.escape_debug())?;
            if !build_id.is_empty() {
                write!(f, " (build id {})", build_id.escape_debug())?;
            }
        }
        match self.count.saturating_sub(self.named.len()) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A candidate that was tried and refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attempt {
    /// By what it was noticed.
    pub trace: Trace,
    /// Where.
    pub at: PhysicalAddress,
    /// Its release, if it says one.
    pub release: String,
    /// Its build id, if it says one.
    pub build_id: Option<String>,
    /// Why it was refused.
    pub refusal: Refusal,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.trace, self.at)?;
        if !self.release.is_empty() {
            write!(f, " ({})", self.release)?;
        }
        write!(f, ": {}", self.refusal)
    }
}

/// What was tried before giving up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attempts {
    /// Those that came furthest, the furthest first.
    pub named: Vec<Attempt>,
    /// How many there were.
    pub count: u64,
}

impl Attempts {
    /// Whether the one that came furthest is a kernel that lacks nothing but a profile.
    pub(crate) fn lack_profile(&self) -> bool {
        self.named.first().is_some_and(|first| matches!(first.refusal.progress(), 2 | 3))
    }

    pub(crate) fn push(&mut self, attempt: Attempt) {
        self.count += 1;
        let progress = attempt.refusal.progress();
        let place = self.named.partition_point(|other| other.refusal.progress() >= progress);
        if place < ATTEMPTS_NAMED_MAX {
            self.named.insert(place, attempt);
            self.named.truncate(ATTEMPTS_NAMED_MAX);
        }
    }
}

/// Why no kernel can be watched here; each is a system activity of the contract.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DiscoveryError {
    /// Nothing in memory is a kernel that we know, with page tables that hold.
    UnableToDetermineTargetOs(Attempts),
    /// There is a kernel, but nobody knows its layouts.
    NoMatchingProfileFound(Attempts),
    /// There are layouts, but they are damaged or lack something.
    ProfileParsingFailed(Attempts),
    /// There are layouts, and they do not fit the memory: above all, no process was found.
    ProfileVerificationFailed(Attempts),
}

impl DiscoveryError {
    /// From what was tried: the candidate that came furthest decides.
    pub(crate) fn from_attempts(attempts: Attempts) -> Self {
        match attempts.named.first().map(|attempt| attempt.refusal.progress()) {
            Some(2) => Self::NoMatchingProfileFound(attempts),
            Some(3) => Self::ProfileParsingFailed(attempts),
            Some(4) => Self::ProfileVerificationFailed(attempts),
            _ => Self::UnableToDetermineTargetOs(attempts),
        }
    }

    /// What was tried.
    pub const fn attempts(&self) -> &Attempts {
        match self {
            Self::UnableToDetermineTargetOs(attempts)
            | Self::NoMatchingProfileFound(attempts)
            | Self::ProfileParsingFailed(attempts)
            | Self::ProfileVerificationFailed(attempts) => attempts,
        }
    }

    /// The system activity's name.
    pub const fn activity(&self) -> &'static str {
        match self {
            Self::UnableToDetermineTargetOs(_) => "unable_to_determine_target_os",
            Self::NoMatchingProfileFound(_) => "no_matching_profile_found",
            Self::ProfileParsingFailed(_) => "profile_parsing_failed",
            Self::ProfileVerificationFailed(_) => "profile_verification_failed",
        }
    }
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnableToDetermineTargetOs(_) => "no Linux kernel was found in this memory",
            Self::NoMatchingProfileFound(_) => "no profile fits the kernel in this memory",
            Self::ProfileParsingFailed(_) => "the kernel's profile could not be read",
            Self::ProfileVerificationFailed(_) => "the kernel's profile does not fit its memory",
        })?;
        let attempts = self.attempts();
        if attempts.count == 0 {
            return f.write_str(": nothing in it looks like one");
        }
        write!(f, "; tried {}", attempts.count)?;
        for attempt in &attempts.named {
            write!(f, "; {attempt}")?;
        }
        Ok(())
    }
}

impl core::error::Error for DiscoveryError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_files_that_do_not_fit() {
        let file = |release: &str, build_id: &str| {
            let text = format!(
                r#"{{"format":2,"build_id":"{build_id}","release":"{release}","symbols":{{}},"members":{{}}}}"#
            );
            ProfileFile::parse(text.as_bytes()).unwrap()
        };
        let text = |files: &[ProfileFile]| {
            let files = OtherFiles::of(files);
            Refusal::NotGenerated { build_id: Some("ab12".to_owned()), files }.to_string()
        };
        let plain =
            "no profile file or built-in table is for build id ab12, and profile generation is off";
        assert_eq!(text(&[]), plain);
        assert_eq!(
            text(&[file("6.1.0-9-amd64", "cd34"), file("6.12.1", "")]),
            format!("{plain}; the profile files are for 6.1.0-9-amd64 (build id cd34), 6.12.1")
        );
        let many = vec![file(&"x\\n".repeat(100), "cd34"); 6];
        let told = text(&many);
        assert!(told.ends_with(" and 2 more") && told.len() < 1000, "{told}");
        assert!(!told.contains('\n'), "{told}");
    }
}
