//! The reports of discovery: its events ([`DiscoveryProgress`]) and its errors
//! ([`DiscoveryError`]).

use core::fmt;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::layout::MissingMember;

use crate::memory::{MemoryFault, START_KERNEL_MAP};
use crate::profile_file::ProfileFile;
use crate::unsupported::UnsupportedKernel;
use crate::{btf, vmcoreinfo};

/// The name of the check of `init_task`.
pub(crate) const INIT_TASK: &str = "init_task is the swapper with pid 0";

/// Maximum number of refused candidates that an error names; all are counted.
const ATTEMPTS_NAMED_MAX: usize = 16;

/// Maximum number of profile files that a refusal names.
const OTHER_FILES_NAMED_MAX: usize = 4;

/// Maximum number of characters of a file's release or build id in a refusal.
const OTHER_TEXT_MAX: usize = 64;

/// What to do about a kernel whose types are not in memory, or damaged there.
const MAKE_PROFILE: &str = "make a profile with `panoptes profile build` (of the kernel's vmlinuz, \
                            vmlinux, package or headers) and name it in os_symbol_path";

/// The source of the layouts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LayoutOrigin {
    /// A profile file with that build id.
    File { build_id: String },
    /// A built-in table with that build id.
    BuiltIn { build_id: &'static str },
    /// The kernel's own BTF in memory.
    Btf {
        at: PhysicalAddress,
        /// Its size.
        bytes: u64,
    },
}

impl fmt::Display for LayoutOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { build_id } if build_id.is_empty() => {
                f.write_str("profile file for its release")
            }
            Self::File { build_id } => write!(f, "profile file for build id {build_id}"),
            Self::BuiltIn { build_id } => write!(f, "built-in table for build id {build_id}"),
            Self::Btf { at, bytes } => write!(f, "BTF in memory at {at}, {bytes} bytes"),
        }
    }
}

/// What led to a kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KernelEvidence {
    /// A VMCOREINFO text.
    Vmcoreinfo,
    /// Page tables that map a kernel's image.
    PageTables,
    /// The text that a kernel begins its log with.
    Banner,
}

impl fmt::Display for KernelEvidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmcoreinfo => "VMCOREINFO",
            Self::PageTables => "page tables of a kernel image",
            Self::Banner => "a kernel's banner",
        })
    }
}

/// A step of discovery; it ends when the next one begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiscoveryStage {
    /// Searching the beginnings of all pages.
    SweepPageBeginnings,
    /// Searching all of memory.
    SweepEverything,
    /// Searching for page tables.
    SweepPageTables,
    /// Verifying a candidate's page tables.
    ProvePageTables,
    /// Reading the symbol table.
    Kallsyms,
    /// Finding and parsing types.
    Btf,
    /// Binding the layouts.
    Bind,
    /// Finding the direct map and other derived addresses.
    Derive,
    /// Verifying everything against memory.
    Verify,
    /// Discovery has ended.
    Done,
}

/// What the step does, for people.
impl fmt::Display for DiscoveryStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SweepPageBeginnings => "searching the beginnings of all pages",
            Self::SweepEverything => "searching all of memory",
            Self::SweepPageTables => "searching for page tables",
            Self::ProvePageTables => "verifying page tables",
            Self::Kallsyms => "reading the symbol table",
            Self::Btf => "reading the types",
            Self::Bind => "binding the layouts",
            Self::Derive => "finding the direct map",
            Self::Verify => "verifying the profile",
            Self::Done => "done",
        })
    }
}

/// An event during discovery.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins.
    Stage(DiscoveryStage),
    /// Memory has the trace of a possible kernel.
    OsIdentifierFound {
        trace: KernelEvidence,
        at: PhysicalAddress,
        release: &'a str,
        /// The kernel's build id, if known.
        build_id: Option<&'a str>,
    },
    /// The usual place had no valid candidate: the search continues elsewhere.
    OsIdentifierDiscoveryExtended { to: DiscoveryStage },
    /// A candidate was tried and refused.
    CandidateRefused(&'a DiscoveryAttempt),
    /// Layouts are about to be bound.
    LoadingProfileCandidate(&'a LayoutOrigin),
    /// The bound layouts passed verification.
    ProfileVerificationSuccessful(&'a [ProfileCheck]),
}

/// Receives the events of discovery.
pub trait DiscoveryProgress {
    /// Called for each event.
    fn event(&mut self, event: Event<'_>);
}

/// Ignores all events.
impl DiscoveryProgress for () {
    fn event(&mut self, _: Event<'_>) {}
}

impl<F: FnMut(Event<'_>)> DiscoveryProgress for F {
    fn event(&mut self, event: Event<'_>) {
        self(event);
    }
}

/// One check of a profile against memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileCheck {
    pub name: &'static str,
    pub outcome: CheckOutcome,
}

/// The result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckOutcome {
    Passed,
    /// The check failed, and how.
    Failed(String),
    /// The memory lacks what the check needs, which proves nothing; and where.
    Unread(String),
    /// Too few objects could be asked for a majority; and how many contradict.
    Undecided(String),
    /// The check is impossible here, and why.
    Skipped(&'static str),
}

impl fmt::Display for ProfileCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            CheckOutcome::Passed => write!(f, "{}: yes", self.name),
            CheckOutcome::Failed(how) => write!(f, "{}: no, {how}", self.name),
            CheckOutcome::Unread(how) => write!(f, "{}: not in memory, {how}", self.name),
            CheckOutcome::Undecided(how) => write!(f, "{}: not decided, {how}", self.name),
            CheckOutcome::Skipped(why) => write!(f, "{}: not checked, {why}", self.name),
        }
    }
}

/// Why a candidate was refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateRefusal {
    /// The VMCOREINFO text is invalid.
    #[error(transparent)]
    Vmcoreinfo(vmcoreinfo::VmcoreinfoError),
    /// A required value is missing, or is invalid. The text names it and its place.
    #[error("no {0}")]
    Lacks(&'static str),
    /// A kernel of a kind that is not supported.
    #[error("{0}")]
    Unsupported(UnsupportedKernel),
    /// Nothing but its banner is in memory.
    #[error(
        "neither VMCOREINFO nor page tables of x86-64 lead to it; 32-bit kernels, user-mode Linux, \
         and arm64 kernels without VMCOREINFO are not supported"
    )]
    BannerOnly,
    /// The guest's memory is encrypted.
    #[error("the guest's memory is encrypted")]
    Encrypted,
    /// The page tables do not lead to the expected address.
    #[error("{what}{}", fault.map_or(" lies elsewhere".to_owned(), |fault| format!(": {fault}")))]
    PageTables {
        /// The object that was to be reached.
        what: &'static str,
        /// The failure; `None` if they lead elsewhere.
        fault: Option<MemoryFault>,
    },
    /// The kernel in memory has another release.
    #[error("the kernel there is {found:?}")]
    Release { found: String },
    /// No layouts: neither in a file nor in a built-in table nor in the kernel.
    #[error("no profile file or built-in table fits, and no BTF was found{files}")]
    NoProfile {
        /// The kernels of the profile files.
        files: OtherFiles,
    },
    /// The kernel has types, and the dump lacks their first page.
    #[error(
        "no profile file or built-in table fits, and the memory lacks the kernel's types{files}"
    )]
    NoTypesInDump {
        /// The kernels of the profile files.
        files: OtherFiles,
    },
    /// No file or built-in table for this build, and generation is off.
    #[error("{}, and profile generation is off{files}", without_profile(build_id.as_deref()))]
    NotGenerated {
        /// The kernel's build id, if known.
        build_id: Option<String>,
        /// The kernels of the profile files.
        files: OtherFiles,
    },
    /// A stored profile lacks an answer that the current decoders need.
    #[error("the profile is older than this program, and has no answer for {what}")]
    Incomplete {
        /// The first missing answer.
        what: String,
    },
    /// BTF that cannot be parsed.
    #[error("the types in memory are damaged ({0})")]
    Btf(btf::BtfError),
    /// A structure or field that the decoders need is missing.
    #[error(transparent)]
    Missing(MissingMember),
    /// The first task was not found.
    #[error("no init_task was found")]
    NoInitTask,
    /// The direct map was not found.
    #[error("the direct map was not found")]
    NoDirectMap,
    /// The failed and the other checks.
    #[error("{}", failed(.0))]
    Verification(Vec<ProfileCheck>),
}

/// The beginning of the message of [`CandidateRefusal::NotGenerated`].
fn without_profile(build_id: Option<&str>) -> String {
    match build_id {
        Some(build_id) => format!("no profile file or built-in table is for build id {build_id}"),
        None => "it shows no build id, and no profile file or built-in table is for its release"
            .to_owned(),
    }
}

/// The message of [`CandidateRefusal::Verification`]: the checks that failed, else those that could
/// not be made.
fn failed(checks: &[ProfileCheck]) -> String {
    let join = |is_named: fn(&CheckOutcome) -> bool| {
        let named = checks.iter().filter(|check| is_named(&check.outcome));
        named.map(ProfileCheck::to_string).collect::<Vec<_>>().join("; ")
    };
    let failed = join(|outcome| matches!(outcome, CheckOutcome::Failed(_)));
    if failed.is_empty() {
        let is_open = |outcome: &CheckOutcome| {
            matches!(outcome, CheckOutcome::Unread(_) | CheckOutcome::Undecided(_))
        };
        return join(is_open);
    }
    failed
}

impl CandidateRefusal {
    /// Whether the memory lacks a page table, which proves nothing.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::PageTables { fault: Some(fault), .. } if fault.is_missing())
    }

    /// How far the candidate came: the error reports the candidates that came furthest.
    const fn progress(&self) -> u8 {
        match self {
            Self::Vmcoreinfo(_) | Self::Lacks(_) | Self::Encrypted | Self::BannerOnly => 0,
            Self::Unsupported(_) | Self::PageTables { .. } | Self::Release { .. } => 1,
            Self::NoProfile { .. }
            | Self::NoTypesInDump { .. }
            | Self::NotGenerated { .. }
            | Self::Incomplete { .. } => 2,
            Self::Btf(_) | Self::Missing(_) => 3,
            Self::NoInitTask | Self::NoDirectMap | Self::Verification(_) => 4,
        }
    }
}

/// Profile files for other kernels, as named in a refusal.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OtherFiles {
    /// Release and build id (empty in an ISF) of the first ones.
    named: Vec<(String, String)>,
    /// Number of all files.
    count: usize,
}

impl OtherFiles {
    pub(crate) fn of(files: &[ProfileFile]) -> Self {
        // The author of the file chose their lengths.
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
    /// Writes a clause that continues a sentence, or nothing without files.
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
pub struct DiscoveryAttempt {
    /// What led to it.
    pub trace: KernelEvidence,
    /// Address of that trace.
    pub at: PhysicalAddress,
    /// Its release; empty if unknown.
    pub release: String,
    /// Its build id, if known.
    pub build_id: Option<String>,
    pub refusal: CandidateRefusal,
}

impl DiscoveryAttempt {
    /// The kind of its kernel, if that is not supported.
    fn unsupported(&self) -> Option<UnsupportedKernel> {
        match self.refusal {
            CandidateRefusal::Unsupported(kind) => Some(kind),
            _ => UnsupportedKernel::of_release(&self.release),
        }
    }
}

impl fmt::Display for DiscoveryAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.trace, self.at)?;
        if !self.release.is_empty() {
            write!(f, " ({})", self.release)?;
        }
        write!(f, ": {}", self.refusal)
    }
}

/// The refused candidates.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Attempts {
    /// The candidates that came furthest, the furthest first.
    pub named: Vec<DiscoveryAttempt>,
    /// Number of all candidates.
    pub count: u64,
    /// Number of stored profiles that may fit a candidate, and were not tried: there are too many.
    pub untried: usize,
}

impl Attempts {
    /// Whether the candidate that came furthest is a kernel that lacks only a profile.
    pub(crate) fn lack_profile(&self) -> bool {
        self.named.first().is_some_and(|first| matches!(first.refusal.progress(), 2 | 3))
    }

    pub(crate) fn push(&mut self, attempt: DiscoveryAttempt) {
        self.count += 1;
        let progress = attempt.refusal.progress();
        let place = self.named.partition_point(|other| other.refusal.progress() >= progress);
        if place < ATTEMPTS_NAMED_MAX {
            self.named.insert(place, attempt);
            self.named.truncate(ATTEMPTS_NAMED_MAX);
        }
    }
}

/// The end of an error's message.
impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str(": nothing in it looks like one");
        }
        write!(f, "; tried {}", self.count)?;
        self.named.iter().try_for_each(|attempt| write!(f, "; {attempt}"))?;
        match self.untried {
            0 => Ok(()),
            untried => write!(
                f,
                "; {untried} more profiles for its release were not tried: name the right file in \
                 os_symbol_path"
            ),
        }
    }
}

/// Why the kernel cannot be watched; each is a system activity of the contract.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DiscoveryError {
    /// No supported kernel with valid page tables is in memory.
    #[error("no Linux kernel was found in this memory{0}")]
    UnableToDetermineTargetOs(Attempts),
    /// The kernel in memory is of a kind that is not supported.
    #[error("Linux {release} was found in this memory; {kind}")]
    Unsupported { release: String, kind: UnsupportedKernel, attempts: Attempts },
    /// There is a kernel, but no layouts for it.
    #[error("no profile fits the kernel in this memory{}; {}", .0, MAKE_PROFILE)]
    NoMatchingProfileFound(Attempts),
    /// There are layouts, but they are damaged or incomplete.
    #[error("the kernel's profile could not be read{}; {}", .0, MAKE_PROFILE)]
    ProfileParsingFailed(Attempts),
    /// There are layouts, but they do not fit the memory: usually no process was found.
    #[error("the kernel's profile does not fit its memory{0}")]
    ProfileVerificationFailed(Attempts),
}

impl DiscoveryError {
    /// Creates the error from the attempts: the candidate that came furthest decides.
    pub(crate) fn from_attempts(attempts: Attempts) -> Self {
        if let Some(first) = attempts.named.first()
            && let Some(kind) = first.unsupported()
        {
            return Self::Unsupported { release: first.release.clone(), kind, attempts };
        }
        match attempts.named.first().map(|attempt| attempt.refusal.progress()) {
            Some(2) => Self::NoMatchingProfileFound(attempts),
            Some(3) => Self::ProfileParsingFailed(attempts),
            Some(4) => Self::ProfileVerificationFailed(attempts),
            _ => Self::UnableToDetermineTargetOs(attempts),
        }
    }

    /// The refused candidates.
    pub const fn attempts(&self) -> &Attempts {
        match self {
            Self::UnableToDetermineTargetOs(attempts)
            | Self::Unsupported { attempts, .. }
            | Self::NoMatchingProfileFound(attempts)
            | Self::ProfileParsingFailed(attempts)
            | Self::ProfileVerificationFailed(attempts) => attempts,
        }
    }

    /// Whether a kernel's page tables were valid: the memory is at its own addresses.
    pub fn is_placed(&self) -> bool {
        let named = &self.attempts().named;
        named.first().is_some_and(|first| first.refusal.progress() >= 2)
    }

    /// Where the page tables of an x86-64 kernel must be, if that could not be read.
    pub fn unread_tables(&self) -> Option<PhysicalAddress> {
        self.attempts().named.iter().find_map(|attempt| match attempt.refusal {
            CandidateRefusal::PageTables {
                fault: Some(MemoryFault::NotRead { address, physical }),
                ..
            } if address.0 >= START_KERNEL_MAP => Some(physical),
            _ => None,
        })
    }

    /// The name of the system activity.
    pub const fn activity(&self) -> &'static str {
        match self {
            Self::UnableToDetermineTargetOs(_) | Self::Unsupported { .. } => {
                "unable_to_determine_target_os"
            }
            Self::NoMatchingProfileFound(_) => "no_matching_profile_found",
            Self::ProfileParsingFailed(_) => "profile_parsing_failed",
            Self::ProfileVerificationFailed(_) => "profile_verification_failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_files_that_do_not_fit() {
        let file = |release: &str, build_id: &str| {
            let text = format!(
                "{{\"format\":2,\"build_id\":\"{build_id}\",\"release\":\"{release}\",\
                 \"symbols\":{{}},\"members\":{{}}}}"
            );
            ProfileFile::parse(text.as_bytes()).unwrap()
        };
        let text = |files: &[ProfileFile]| {
            let files = OtherFiles::of(files);
            CandidateRefusal::NotGenerated { build_id: Some("ab12".to_owned()), files }.to_string()
        };
        let plain =
            "no profile file or built-in table is for build id ab12, and profile generation is off";
        assert_eq!(text(&[]), plain);
        assert_eq!(
            text(&[file("6.1.0-9-amd64", "cd34"), file("6.12.1", "")]),
            format!("{plain}; the profile files are for 6.1.0-9-amd64 (build id cd34), 6.12.1")
        );
        let many = vec![file(&"x\\n".repeat(100), "cd34"); 6];
        let text = text(&many);
        assert!(text.ends_with(" and 2 more") && text.len() < 1000, "{text}");
        assert!(!text.contains('\n'), "{text}");
    }
}
