//! [`Profile`]: what discovery hands to the engine.

use panoptes_decoders::address::{KernelVa, PhysicalAddress};
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::paging::KernelSpace;

use crate::profile_file::{ProfileFile, RecordedMembers};
use crate::report::{Check, Origin, Trace};
use crate::symbols::Symbols;

/// A kernel that was found, bound and verified.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Where its structures have their fields.
    pub layouts: Layouts,
    /// How its addresses translate.
    pub space: KernelSpace,
    /// Where it has what is known by name. `init_task`, `init_pid_ns` and `init_net` are always known.
    pub symbols: Symbols,
    /// Its `struct timekeeper`, if it is known where.
    pub timekeeper: Option<KernelVa>,
    /// The rate of the processor's counter in kHz, where no symbol has it: on arm64.
    pub counter_khz: Option<u32>,
    /// Calendar time by it, in seconds since 1970.
    pub calendar_seconds: Option<u64>,
    /// Its release: `6.1.0-37-amd64`.
    pub release: String,
    /// Its build id in lower-case hex, if it says so.
    pub build_id: Option<String>,
    /// How far KASLR moved its image.
    pub kernel_offset: u64,
    /// By what it was noticed.
    pub trace: Trace,
    /// Where that lies.
    pub found_at: PhysicalAddress,
    /// Where the layouts come from.
    pub origin: Origin,
    /// What was checked.
    pub checks: Vec<Check>,
    /// Whether whoever looked the symbols up had the kernel's whole table.
    pub(crate) all_symbols: bool,
    /// All that the layouts were bound from, for a profile file.
    pub(crate) members: RecordedMembers,
}

impl Profile {
    /// What of it holds for every boot of the same kernel, to be written down; `None` without a build id,
    /// as nothing could say later which kernel it is for.
    pub fn to_file(&self) -> Option<ProfileFile> {
        let build_id = self.build_id.clone()?;
        Some(ProfileFile::new(
            build_id,
            self.release.clone(),
            &self.symbols,
            self.all_symbols,
            self.space.image.clone(),
            self.members.clone(),
        ))
    }
}
