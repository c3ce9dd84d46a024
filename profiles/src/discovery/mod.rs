//! Discovery: finds the kernel in raw physical memory, its address translation and the offsets of
//! its fields, and returns a verified [`Profile`].
//!
//! Three methods find the page tables, each slower than the one before: VMCOREINFO at the beginning
//! of a page, where every kernel puts it; VMCOREINFO anywhere; and the shape of the kernel's own
//! page tables, if no such text is valid. Symbols come from kallsyms, whose tables are named by
//! VMCOREINFO or recognized by their structure. Without kallsyms, the few required symbols are
//! derived from `init_task`, which has a signature. Layouts come from a profile file or a built-in
//! table with the same build id, else from the BTF in the kernel's image.
//!
//! Every candidate is verified before it is trusted: anybody in the guest can write such texts. The
//! architecture follows from the text; the third method supports x86-64 only. Not for: scanning.
//!
//! Start reading at [`discover`].

mod arm64;
mod arm64_moves;
mod candidate;
mod clock;
mod derive;
mod direct_map;
mod fitting;
mod image;
mod page_tables;
mod regions;
mod symbols;
mod vmemmap;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Members, MissingMember};
use panoptes_decoders::paging::PageTableLevels;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::btf::Btf;
use crate::memory::{KernelMemory, is_lost};
use crate::profile::Profile;
use crate::profile_file::{Completeness, ProfileFile, Recorder};
use crate::report::{
    Attempts, CandidateRefusal, DiscoveryAttempt, DiscoveryError, DiscoveryProgress,
    DiscoveryStage, Event, KernelEvidence, LayoutOrigin, OtherFiles,
};
use crate::stored::{StoredProfile, place_symbols};
use crate::sweep::{EveryByte, PageBeginnings};
use crate::verify;
use crate::vmcoreinfo::{BEGINNING, VMCOREINFO_BYTES_MAX, Vmcoreinfo};
#[cfg(feature = "import")]
pub(crate) use arm64::image_start;
#[cfg(feature = "import")]
pub(crate) use candidate::LARGE_PAGE_BYTES;
use candidate::{KernelCandidate, VmcoreinfoClaim};
use clock::ClockFields;
use fitting::{is_sure, stored_for};
pub use regions::mapped_share;

/// Maximum number of kernels with valid page tables that are fully tried: each costs milliseconds.
const PROVEN_MAX: usize = 16;

/// Maximum number of arm64 texts for which all memory is swept to find where it begins.
const BEGINNINGS_SEARCHED_MAX: u32 = 4;

/// How often a profile is verified before it is refused: a live kernel changes during the checks.
const VERIFICATIONS_MAX: u32 = 5;

/// Sources and methods that discovery may use.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub struct DiscoveryOptions<'a> {
    /// Existing profiles; one with the kernel's build id is used.
    pub files: &'a [ProfileFile],
    /// Whether built-in tables are used. Off by default: finding a kernel by its memory alone must
    /// not depend on tables.
    pub use_builtin: bool,
    /// Whether a profile may be generated from the BTF in memory.
    pub generate: bool,
    /// Whether symbols are read from kallsyms; without it they are derived in other ways.
    pub use_kallsyms: bool,
    /// Whether VMCOREINFO is searched; without it page tables are found by their shape.
    pub use_vmcoreinfo: bool,
    /// Whether the search continues after the first verified kernel, for a newer one: after a warm
    /// reboot the previous kernel is still in memory. Costs one check of every page.
    pub look_for_newer: bool,
    /// Whether all of memory is searched if no kernel is in the usual place.
    pub everywhere: bool,
}

impl Default for DiscoveryOptions<'_> {
    fn default() -> Self {
        Self {
            files: &[],
            use_builtin: false,
            generate: true,
            use_kallsyms: true,
            use_vmcoreinfo: true,
            look_for_newer: true,
            everywhere: true,
        }
    }
}

/// Finds the kernel in a machine's memory, binds the layouts to it and verifies them.
///
/// A source that does not know where its memory begins is moved to fit the kernel's page tables.
///
/// # Errors
///
/// No kernel was found, or none could be verified; the error has all attempts.
pub fn discover(
    source: &mut dyn MemorySource,
    options: &DiscoveryOptions<'_>,
    progress: &mut dyn DiscoveryProgress,
) -> Result<Profile, DiscoveryError> {
    let mut search = KernelSearch {
        options,
        progress,
        attempts: Attempts::default(),
        roots: Vec::new(),
        best: None,
        sweep: DiscoveryStage::SweepPageBeginnings,
        searched: 0,
        assumed: Vec::new(),
        is_last: false,
    };
    search.run(source);
    search.stage(DiscoveryStage::Done);
    let (profile, moved) =
        search.best.ok_or_else(|| DiscoveryError::from_attempts(search.attempts))?;
    move_source(source, moved);
    Ok(profile)
}

/// A candidate's claimed release and build id, and why it was refused.
type RefusedCandidate = (String, Option<String>, CandidateRefusal);

struct KernelSearch<'o, 'p> {
    options: &'o DiscoveryOptions<'o>,
    progress: &'p mut dyn DiscoveryProgress,
    attempts: Attempts,
    /// Top page tables of the kernels that were fully tried: a kernel has several texts.
    roots: Vec<PhysicalAddress>,
    /// The best kernel so far, and the distance by which the source must be moved for it.
    best: Option<(Profile, u64)>,
    /// The sweep that continues after a candidate.
    sweep: DiscoveryStage,
    /// How often memory was swept to find where it begins.
    searched: u32,
    /// Texts of kernels of whose page tables the memory lacks some.
    assumed: Vec<PhysicalAddress>,
    /// Whether such texts are tried at once.
    is_last: bool,
}

impl KernelSearch<'_, '_> {
    fn run(&mut self, source: &mut dyn MemorySource) {
        if self.options.use_vmcoreinfo {
            self.stage(self.sweep);
            let mut sweep = PageBeginnings::new(BEGINNING);
            while let Some(at) = sweep.next(source) {
                self.try_text(source, at);
                if self.best.is_some() && !self.options.look_for_newer {
                    return;
                }
            }
            self.try_assumed(source);
            // A kernel without a profile here has none elsewhere either.
            let found = self.best.is_some() || self.attempts.lack_profile();
            if found || !self.options.everywhere {
                return;
            }
            self.extend(DiscoveryStage::SweepEverything);
            let mut sweep = EveryByte::new(BEGINNING, 0..u64::MAX);
            let mut last_page = None;
            while let Some(at) = sweep.next(source) {
                // One text a page, as in a kernel; those at the beginning of a page were already
                // tried.
                let page = at.0 / PAGE_BYTES;
                if last_page == Some(page) || matches!(at.0 % PAGE_BYTES, 0 | 24) {
                    continue;
                }
                last_page = Some(page);
                self.try_text(source, at);
                if self.best.is_some() {
                    return;
                }
            }
        }
        self.extend(DiscoveryStage::SweepPageTables);
        let found = page_tables::find(source);
        for &image in &found.images {
            let outcome = page_tables::prove(source, &found, image)
                .map_err(|refusal| (String::new(), None, refusal));
            self.go_on(source, KernelEvidence::PageTables, image.0, outcome);
        }
        if let Some((at, release)) = found.banner
            && self.best.is_none()
        {
            let (trace, refusal) = (KernelEvidence::Banner, CandidateRefusal::BannerOnly);
            self.refuse(DiscoveryAttempt { trace, at, release, build_id: None, refusal });
        }
    }

    /// Tries the texts of kernels whose page tables are incomplete, if no other was found: others
    /// may write such a text more easily.
    fn try_assumed(&mut self, source: &mut dyn MemorySource) {
        self.is_last = true;
        for at in std::mem::take(&mut self.assumed) {
            if self.best.is_none() {
                self.try_text(source, at);
            }
        }
    }

    /// Tries the VMCOREINFO text at an address.
    fn try_text(&mut self, source: &mut dyn MemorySource, at: PhysicalAddress) {
        let outcome = match Vmcoreinfo::parse(&read_text(source, at)) {
            Ok(info) => {
                self.stage(DiscoveryStage::ProvePageTables);
                let claimed = (info.release().to_owned(), info.build_id().map(str::to_owned));
                self.prove(source, at, &info).map_err(|refusal| (claimed.0, claimed.1, refusal))
            }
            Err(error) => Err((String::new(), None, CandidateRefusal::Vmcoreinfo(error))),
        };
        if let Ok(candidate) = &outcome
            && candidate.is_assumed
            && !self.is_last
        {
            move_source(source, candidate.moved.wrapping_neg());
            if self.assumed.len() < PROVEN_MAX {
                self.assumed.push(at);
            }
            return;
        }
        self.go_on(source, KernelEvidence::Vmcoreinfo, at, outcome);
    }

    /// Verifies the claim of a text; moves the source as far as the candidate requires.
    fn prove(
        &mut self,
        source: &mut dyn MemorySource,
        at: PhysicalAddress,
        info: &Vmcoreinfo,
    ) -> Result<KernelCandidate, CandidateRefusal> {
        let claim = VmcoreinfoClaim::of(info)?;
        let refusal = match candidate::prove(source, at, info, &claim) {
            Err(refusal) if matches!(claim.levels, PageTableLevels::Aarch64(_)) => refusal,
            outcome => return outcome,
        };
        let try_at = |source: &mut dyn MemorySource, moved| {
            if !move_source(source, moved) {
                return None;
            }
            let proven = candidate::prove(source, at.plus(moved), info, &claim);
            if proven.is_err() {
                move_source(source, moved.wrapping_neg());
            }
            proven.ok().map(|candidate| KernelCandidate { moved, ..candidate })
        };
        if let Some(candidate) = arm64_moves::usual_moves().find_map(|moved| try_at(source, moved))
        {
            return Ok(candidate);
        }
        // Moving by zero bytes shows whether the source can be moved at all.
        if self.searched >= BEGINNINGS_SEARCHED_MAX || !source.move_by(0) {
            return Err(refusal);
        }
        self.searched += 1;
        let moves = arm64_moves::search_moves(source, info, &claim);
        moves.into_iter().find_map(|moved| try_at(source, moved)).ok_or(refusal)
    }

    /// Continues with a candidate whose page tables are valid; keeps its profile or the reason of
    /// its refusal.
    fn go_on(
        &mut self,
        source: &mut dyn MemorySource,
        trace: KernelEvidence,
        at: PhysicalAddress,
        outcome: Result<KernelCandidate, RefusedCandidate>,
    ) {
        let moved = outcome.as_ref().map_or(0, |candidate| candidate.moved);
        let outcome = outcome.and_then(|candidate| {
            if self.roots.contains(&candidate.root) || self.roots.len() >= PROVEN_MAX {
                return Ok(None);
            }
            self.roots.push(candidate.root);
            let claimed = (candidate.release.clone(), candidate.build_id.clone());
            self.try_candidate(source, &candidate)
                .map(Some)
                .map_err(|refusal| (claimed.0, claimed.1, refusal))
        });
        // The sweep continues with its original addresses.
        move_source(source, moved.wrapping_neg());
        match outcome {
            Ok(Some(found)) => {
                // After a warm reboot the previous kernel is still in memory and may verify, too.
                // The running one has the latest clock.
                let newer =
                    |best: &(Profile, u64)| found.calendar_seconds > best.0.calendar_seconds;
                if self.best.as_ref().is_none_or(newer) {
                    self.best = Some((found, moved));
                }
            }
            Ok(None) => {}
            Err((release, build_id, refusal)) => {
                self.refuse(DiscoveryAttempt { trace, at, release, build_id, refusal });
            }
        }
        self.stage(self.sweep);
    }

    fn refuse(&mut self, attempt: DiscoveryAttempt) {
        self.progress.event(Event::CandidateRefused(&attempt));
        self.attempts.push(attempt);
    }

    fn try_candidate(
        &mut self,
        source: &mut dyn MemorySource,
        candidate: &KernelCandidate,
    ) -> Result<Profile, CandidateRefusal> {
        self.progress.event(Event::OsIdentifierFound {
            trace: candidate.trace,
            at: candidate.at,
            release: &candidate.release,
            build_id: candidate.build_id.as_deref(),
        });
        let mut memory = KernelMemory::new(source, candidate.root, candidate.levels);
        memory.assume(candidate.image.clone(), candidate.image_physical);
        let (stored, left_out) = stored_for(self.options, candidate);
        let (sure, likely): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|(origin, _)| is_sure(origin, candidate));
        self.attempts.untried = self.attempts.untried.max(left_out);
        let mut tries = Tries::default();
        if let Some(profile) = self.try_stored(&mut memory, candidate, sure, &mut tries) {
            return Ok(profile);
        }
        let generated = if self.options.generate {
            self.record_refusal(candidate, &mut tries);
            match self.generate(&mut memory, candidate) {
                Ok(profile) => return Ok(profile),
                Err(refusal) => Some(refusal),
            }
        } else {
            None
        };
        // Only now: types in memory are exact, and such a profile may be of another build.
        if let Some(profile) = self.try_stored(&mut memory, candidate, likely, &mut tries) {
            return Ok(profile);
        }
        let refusal = match generated {
            Some(refusal) => {
                self.record_refusal(candidate, &mut tries);
                refusal
            }
            None => tries.refused.take().unwrap_or_else(|| CandidateRefusal::NotGenerated {
                build_id: candidate.build_id.clone(),
                files: OtherFiles::of(self.options.files),
            }),
        };
        match tries.older {
            // An incomplete profile is better than none.
            Some((origin, stored)) => {
                self.bind_stored(&mut memory, candidate, origin, stored, true)
            }
            None => Err(refusal),
        }
    }

    /// Tries stored profiles in their order.
    fn try_stored<'s>(
        &mut self,
        memory: &mut KernelMemory<'_>,
        candidate: &KernelCandidate,
        list: Vec<(LayoutOrigin, &'s dyn StoredProfile)>,
        tries: &mut Tries<'s>,
    ) -> Option<Profile> {
        for (origin, stored) in list {
            match self.bind_stored(memory, candidate, origin.clone(), stored, false) {
                Ok(profile) => return Some(profile),
                Err(refusal) => {
                    if tries.older.is_none()
                        && matches!(refusal, CandidateRefusal::Incomplete { .. })
                    {
                        tries.older = Some((origin, stored));
                    }
                    self.record_refusal(candidate, tries);
                    tries.refused = Some(refusal);
                }
            }
        }
        None
    }

    /// Records the refusal of a stored profile, unless it will be the candidate's.
    fn record_refusal(&mut self, candidate: &KernelCandidate, tries: &mut Tries<'_>) {
        if let Some(refusal) = tries.refused.take() {
            self.refuse(candidate.attempt(refusal));
        }
    }

    /// Binds and verifies a stored profile. Unless `accept_older`, it must answer every question.
    fn bind_stored(
        &mut self,
        memory: &mut KernelMemory<'_>,
        candidate: &KernelCandidate,
        origin: LayoutOrigin,
        stored: &dyn StoredProfile,
        accept_older: bool,
    ) -> Result<Profile, CandidateRefusal> {
        let mut candidate = candidate.clone();
        let mut unknown = place_symbols(stored, candidate.image.start, &mut candidate.symbols);
        candidate.all_symbols = unknown.is_none();
        if stored.has_only_types() {
            self.stage(DiscoveryStage::Kallsyms);
            symbols::read_kallsyms(memory, &mut candidate);
            unknown = None;
        }
        candidate.refine_image(memory);
        let members = Completeness::of(stored);
        if !accept_older {
            // Checked before anything is read: an outdated table costs nothing.
            ask_all(&members).map_err(CandidateRefusal::Missing)?;
            let what = members.unanswered().or(unknown.map(|name| format!("the symbol {name}")));
            if let Some(what) = what {
                return Err(CandidateRefusal::Incomplete { what });
            }
        }
        self.bind(memory, candidate, origin, &members)
    }

    /// Generates a profile from the kernel's own types in memory.
    fn generate(
        &mut self,
        memory: &mut KernelMemory<'_>,
        candidate: &KernelCandidate,
    ) -> Result<Profile, CandidateRefusal> {
        let mut candidate = candidate.clone();
        if self.options.use_kallsyms {
            self.stage(DiscoveryStage::Kallsyms);
            symbols::read_kallsyms(memory, &mut candidate);
        }
        candidate.refine_image(memory);
        self.stage(DiscoveryStage::Btf);
        if let Some((at, bytes)) = image::named_btf(memory, &candidate)
            && let Ok(btf) = Btf::parse(&bytes)
        {
            let origin = LayoutOrigin::Btf { at, bytes: bytes.len() as u64 };
            return self.bind(memory, candidate, origin, &btf);
        }
        let files = OtherFiles::of(self.options.files);
        // A kernel that names its types has them: a dump that lacks their page is damaged.
        let named = candidate.symbols.start_btf.zip(candidate.symbols.stop_btf);
        let is_lost = named.is_some_and(|(start, stop)| start < stop && is_lost(memory, start));
        let none = if is_lost {
            CandidateRefusal::NoTypesInDump { files }
        } else {
            CandidateRefusal::NoProfile { files }
        };
        let (at, bytes) = image::search_btf(memory, &candidate, none)?;
        let btf = Btf::parse(&bytes).map_err(CandidateRefusal::Btf)?;
        let origin = LayoutOrigin::Btf { at, bytes: bytes.len() as u64 };
        self.bind(memory, candidate, origin, &btf)
    }

    fn bind(
        &mut self,
        memory: &mut KernelMemory<'_>,
        mut candidate: KernelCandidate,
        origin: LayoutOrigin,
        members: &dyn Members,
    ) -> Result<Profile, CandidateRefusal> {
        self.progress.event(Event::LoadingProfileCandidate(&origin));
        self.stage(DiscoveryStage::Bind);
        let recorder = Recorder::new(members);
        let layouts = Layouts::bind(&recorder).map(Box::new);
        let layouts = layouts.map_err(CandidateRefusal::Missing)?;
        self.stage(DiscoveryStage::Derive);
        let clock = ClockFields::bind(&recorder);
        let space = derive::space(memory, &mut candidate, &layouts, &recorder)?;
        let timekeeper = clock::timekeeper(memory, &mut candidate, &layouts, &clock);
        let counter_khz = match space.levels {
            PageTableLevels::Aarch64(_) => timekeeper
                .and_then(|(timekeeper, _)| clock::arm64_counter_khz(memory, &clock, timekeeper)),
            PageTableLevels::X86_64(_) => None,
        };
        self.stage(DiscoveryStage::Verify);
        let mut checks = Vec::new();
        for _ in 0..VERIFICATIONS_MAX {
            checks = verify::verify(memory, &layouts, &candidate.symbols, &candidate.release);
            if verify::confirms(&checks) {
                break;
            }
        }
        if !verify::confirms(&checks) {
            return Err(CandidateRefusal::Verification(checks));
        }
        self.progress.event(Event::ProfileVerificationSuccessful(&checks));
        let names = symbols::find_tables(memory, &candidate);
        Ok(Profile {
            layouts,
            space,
            names,
            symbols: candidate.symbols,
            timekeeper: timekeeper.map(|(at, _)| at),
            counter_khz,
            calendar_seconds: timekeeper.map(|(_, seconds)| seconds),
            release: candidate.release,
            build_id: candidate.build_id,
            kernel_offset: candidate.kernel_offset,
            trace: candidate.trace,
            found_at: candidate.at,
            origin,
            checks,
            all_symbols: candidate.all_symbols,
            members: recorder.into_members(),
        })
    }

    fn stage(&mut self, stage: DiscoveryStage) {
        self.progress.event(Event::Stage(stage));
    }

    fn extend(&mut self, to: DiscoveryStage) {
        self.progress.event(Event::OsIdentifierDiscoveryExtended { to });
        self.sweep = to;
        self.stage(to);
    }
}

/// What became of a candidate's stored profiles.
#[derive(Default)]
struct Tries<'s> {
    /// Why the last one was refused, if that was not recorded yet.
    refused: Option<CandidateRefusal>,
    /// The first one that is older than this program.
    older: Option<(LayoutOrigin, &'s dyn StoredProfile)>,
}

/// Moves a source unless the distance is zero; `false` if the source cannot be moved.
fn move_source(source: &mut dyn MemorySource, moved: u64) -> bool {
    moved == 0 || source.move_by(moved)
}

/// Asks every question that a profile's members must answer; the error is the first required one
/// that is missing.
pub(crate) fn ask_all(members: &dyn Members) -> Result<(), MissingMember> {
    Layouts::bind(members)?;
    let _ = ClockFields::bind(members);
    let _ = vmemmap::SlabFields::bind(members);
    Ok(())
}

/// Reads up to the maximum length of a text, page by page because the next page may be missing.
fn read_text(source: &mut dyn MemorySource, at: PhysicalAddress) -> Vec<u8> {
    let mut text = Vec::with_capacity(VMCOREINFO_BYTES_MAX);
    while text.len() < VMCOREINFO_BYTES_MAX {
        let next = at.plus(text.len() as u64);
        let left = (PAGE_BYTES - next.0 % PAGE_BYTES) as usize;
        let mut page = vec![0; left.min(VMCOREINFO_BYTES_MAX - text.len())];
        if !source.read_exact(next, &mut page) {
            break;
        }
        let ends = page.contains(&0);
        text.extend(page);
        if ends {
            break;
        }
    }
    text
}
