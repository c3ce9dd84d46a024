//! [`Profile`]: the result of discovery, for the engine.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::paging::KernelSpace;

use crate::kallsyms::search::Tables;
use crate::profile_file::{ProfileFile, RecordedMembers};
use crate::report::{CheckOutcome, INIT_TASK, KernelEvidence, LayoutOrigin, ProfileCheck};
use crate::symbols::Symbols;

/// A kernel that was found, bound and verified.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Offsets of the fields of its structures.
    pub layouts: Box<Layouts>,
    /// How kernel addresses translate.
    pub space: KernelSpace,
    /// Addresses of its symbols. `init_task`, `init_pid_ns` and `init_net` are always known.
    pub symbols: Symbols,
    /// The tables of its symbols, for naming addresses.
    pub names: Option<Tables>,
    /// Its `struct timekeeper`, if found.
    pub timekeeper: Option<KernelVa>,
    /// The rate of the processor's counter in kHz, if no symbol has it: on arm64.
    pub counter_khz: Option<u32>,
    /// The timekeeper's calendar time at discovery, in seconds since 1970.
    pub calendar_seconds: Option<u64>,
    /// The kernel release, such as `6.1.0-37-amd64`.
    pub release: String,
    /// The build id in lower-case hex, if known.
    pub build_id: Option<String>,
    /// Distance by which KASLR moved the image.
    pub kernel_offset: u64,
    /// What led to the kernel.
    pub trace: KernelEvidence,
    /// Physical address of that trace.
    pub found_at: PhysicalAddress,
    /// The source of the layouts.
    pub origin: LayoutOrigin,
    /// The checks of the verification.
    pub checks: Vec<ProfileCheck>,
    /// Whether the symbols come from the kernel's complete table.
    pub(crate) all_symbols: bool,
    /// Everything that the layouts were bound from, for a profile file.
    pub(crate) members: RecordedMembers,
}

impl Profile {
    /// Whether the memory is a dump that lacks the first task.
    pub fn lacks_init_task(&self) -> bool {
        let is_it = |check: &&ProfileCheck| check.name == INIT_TASK;
        let check = self.checks.iter().find(is_it);
        check.is_some_and(|check| matches!(check.outcome, CheckOutcome::Unread(_)))
    }

    /// The parts that are the same for every boot of this kernel, to be stored. Without a build id,
    /// the release identifies the kernel later, and verification decides.
    pub fn to_file(&self) -> ProfileFile {
        ProfileFile::new(
            self.build_id.clone().unwrap_or_default(),
            self.release.clone(),
            &self.symbols,
            self.all_symbols,
            self.space.image.clone(),
            self.members.clone(),
        )
    }
}
