//! From raw physical memory to a verified [`Profile`]: which kernel this is, how its addresses
//! translate, and where its structures have their fields.
//!
//! Three roads lead to the page tables, each longer than the one before: VMCOREINFO at the beginning of a
//! page, where every kernel puts it; VMCOREINFO anywhere; and the shape of the kernel's own page tables,
//! when no such text holds. Symbols come from kallsyms, whose tables VMCOREINFO names or their own structure
//! gives away; without it the few that are needed are reached through `init_task`, which has a signature.
//! Layouts come from a profile file or a built-in table for the same build id, else from the BTF in the
//! kernel's image.
//!
//! Every candidate is proven before it is believed: anybody in the guest can write such texts. The
//! architecture follows from the text; the third road is x86-64's alone. Not for: scanning.
//!
//! Start at [`discover`].

mod arm64;
mod candidate;
mod clock;
mod derive;
mod image;
mod page_tables;
mod regions;
mod symbols;
mod vmemmap;

use panoptes_decoders::address::PhysicalAddress;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::layout::{Members, Missing};
use panoptes_decoders::paging::Levels;
use panoptes_decoders::source::{MemorySource, PAGE_BYTES};

use crate::btf::Btf;
use crate::builtin;
use crate::memory::KernelMemory;
use crate::profile::Profile;
use crate::profile_file::{Completeness, ProfileFile, Recorder};
use crate::report::{
    Attempt, Attempts, Check, CheckOutcome, DiscoveryError, Event, Origin, OtherFiles, Progress,
    Refusal, Stage, Trace,
};
use crate::stored::{Stored, place_symbols};
use crate::sweep::{EveryByte, PageBeginnings};
use crate::verify;
use crate::vmcoreinfo::{BEGINNING, VMCOREINFO_BYTES_MAX, Vmcoreinfo};
#[cfg(feature = "import")]
pub(crate) use arm64::image_start;
#[cfg(feature = "import")]
pub(crate) use candidate::LARGE_PAGE_BYTES;
use candidate::{Candidate, Claim};
use clock::ClockFields;
pub(crate) use image::is_init_task;
pub use regions::mapped_share;

/// Most kernels, of those whose page tables hold, that are tried to the end: each costs milliseconds.
const PROVEN_MAX: usize = 16;

/// Most texts of arm64 kernels for which all memory is swept for where it begins.
const BEGINNINGS_SEARCHED_MAX: u32 = 4;

/// How often a profile is verified before it is refused: a live kernel changes under the checks.
const VERIFICATIONS_MAX: u32 = 5;

/// What discovery may use.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent switches, not states")]
pub struct Options<'a> {
    /// Profiles that were built before; one whose build id is the kernel's is taken.
    pub files: &'a [ProfileFile],
    /// Whether the tables that are built in are looked at. Off unless somebody asks for it: what finds a
    /// kernel in its memory must not come to rest on tables.
    pub use_builtin: bool,
    /// Whether a profile may be made from the BTF in memory.
    pub generate: bool,
    /// Whether symbols are read from kallsyms; without it they are reached by other ways.
    pub use_kallsyms: bool,
    /// Whether VMCOREINFO is looked for; without it page tables are found by their shape.
    pub use_vmcoreinfo: bool,
    /// Whether the search goes on after the first kernel that verifies, for one that runs later: after a
    /// warm reboot the one before still lies in memory. Costs one look at every page.
    pub look_for_newer: bool,
    /// Whether all of memory is searched when no kernel is in the usual place.
    pub everywhere: bool,
}

impl Default for Options<'_> {
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
/// A source that does not know where its memory begins is moved to where the kernel's page tables say.
pub fn discover<S: MemorySource + ?Sized>(
    source: &mut S,
    options: &Options<'_>,
    progress: &mut dyn Progress,
) -> Result<Profile, DiscoveryError> {
    let mut search = Search {
        options,
        progress,
        attempts: Attempts::default(),
        roots: Vec::new(),
        best: None,
        sweep: Stage::SweepPageBeginnings,
        searched: 0,
    };
    search.run(source);
    search.stage(Stage::Done);
    let (profile, moved) =
        search.best.ok_or_else(|| DiscoveryError::from_attempts(search.attempts))?;
    move_source(source, moved);
    Ok(profile)
}

/// What a candidate says it is (release and build id), and why it was refused.
type Refused = (String, Option<String>, Refusal);

struct Search<'o, 'p> {
    options: &'o Options<'o>,
    progress: &'p mut dyn Progress,
    attempts: Attempts,
    /// Top page tables of the kernels that were tried to the end: each has several texts.
    roots: Vec<PhysicalAddress>,
    /// The kernel that is believed so far, and how far the source has to be moved for it.
    best: Option<(Profile, u64)>,
    /// The sweep that goes on when a candidate is done with.
    sweep: Stage,
    /// How often memory was swept for where it begins.
    searched: u32,
}

impl Search<'_, '_> {
    fn run<S: MemorySource + ?Sized>(&mut self, source: &mut S) {
        if self.options.use_vmcoreinfo {
            self.stage(self.sweep);
            let mut sweep = PageBeginnings::new(BEGINNING);
            while let Some(at) = sweep.next(source) {
                self.try_text(source, at);
                if self.best.is_some() && !self.options.look_for_newer {
                    return;
                }
            }
            // A kernel that is there but has no profile will have none elsewhere either.
            let found = self.best.is_some() || self.attempts.lack_profile();
            if found || !self.options.everywhere {
                return;
            }
            self.extend(Stage::SweepEverything);
            let mut sweep = EveryByte::new(BEGINNING, 0..u64::MAX);
            let mut last_page = None;
            while let Some(at) = sweep.next(source) {
                // One text a page, as the kernel has it; those at its beginning were tried already.
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
        self.extend(Stage::SweepPageTables);
        let found = page_tables::find(source);
        for &image in &found.images {
            let outcome = page_tables::prove(source, &found, image)
                .map_err(|refusal| (String::new(), None, refusal));
            self.go_on(source, Trace::PageTables, image.0, outcome);
        }
    }

    /// Tries the VMCOREINFO text at an address.
    fn try_text<S: MemorySource + ?Sized>(&mut self, source: &mut S, at: PhysicalAddress) {
        let outcome = match Vmcoreinfo::parse(&read_text(source, at)) {
            Ok(info) => {
                self.stage(Stage::ProvePageTables);
                let said = (info.release().to_owned(), info.build_id().map(str::to_owned));
                self.prove(source, at, &info).map_err(|refusal| (said.0, said.1, refusal))
            }
            Err(error) => Err((String::new(), None, Refusal::Vmcoreinfo(error))),
        };
        self.go_on(source, Trace::Vmcoreinfo, at, outcome);
    }

    /// Proves what a text claims; the source is moved as the candidate says.
    fn prove<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        at: PhysicalAddress,
        info: &Vmcoreinfo,
    ) -> Result<Candidate, Refusal> {
        let claim = Claim::of(info)?;
        let refusal = match candidate::prove(source, at, info, &claim) {
            Err(refusal) if matches!(claim.levels, Levels::Aarch64(_)) => refusal,
            outcome => return outcome,
        };
        let try_at = |source: &mut S, moved| {
            if !move_source(source, moved) {
                return None;
            }
            let proven = candidate::prove(source, at.plus(moved), info, &claim);
            if proven.is_err() {
                move_source(source, moved.wrapping_neg());
            }
            proven.ok().map(|candidate| Candidate { moved, ..candidate })
        };
        if let Some(candidate) = arm64::usual_moves().find_map(|moved| try_at(source, moved)) {
            return Ok(candidate);
        }
        // Zero bytes tell whether the source can be moved at all.
        if self.searched >= BEGINNINGS_SEARCHED_MAX || !source.move_by(0) {
            return Err(refusal);
        }
        self.searched += 1;
        let moves = arm64::search_moves(source, info, &claim);
        moves.into_iter().find_map(|moved| try_at(source, moved)).ok_or(refusal)
    }

    /// Goes on with a candidate whose page tables hold; keeps what it gives, or why it was refused.
    fn go_on<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        trace: Trace,
        at: PhysicalAddress,
        outcome: Result<Candidate, Refused>,
    ) {
        let moved = outcome.as_ref().map_or(0, |candidate| candidate.moved);
        let outcome = outcome.and_then(|candidate| {
            if self.roots.contains(&candidate.root) || self.roots.len() >= PROVEN_MAX {
                return Ok(None);
            }
            self.roots.push(candidate.root);
            let said = (candidate.release.clone(), candidate.build_id.clone());
            self.try_candidate(source, &candidate)
                .map(Some)
                .map_err(|refusal| (said.0, said.1, refusal))
        });
        // The sweep goes on by the addresses that it began with.
        move_source(source, moved.wrapping_neg());
        match outcome {
            Ok(Some(found)) => {
                // A warm reboot leaves the kernel before in memory, and it may still verify: the one whose
                // clock went furthest is the one that runs.
                let newer =
                    |best: &(Profile, u64)| found.calendar_seconds > best.0.calendar_seconds;
                if self.best.as_ref().is_none_or(newer) {
                    self.best = Some((found, moved));
                }
            }
            Ok(None) => {}
            Err((release, build_id, refusal)) => {
                self.refuse(Attempt { trace, at, release, build_id, refusal });
            }
        }
        self.stage(self.sweep);
    }

    fn refuse(&mut self, attempt: Attempt) {
        self.progress.event(Event::CandidateRefused(&attempt));
        self.attempts.push(attempt);
    }

    fn try_candidate<S: MemorySource + ?Sized>(
        &mut self,
        source: &mut S,
        candidate: &Candidate,
    ) -> Result<Profile, Refusal> {
        self.progress.event(Event::OsIdentifierFound {
            trace: candidate.trace,
            at: candidate.at,
            release: &candidate.release,
            build_id: candidate.build_id.as_deref(),
        });
        let mut memory = KernelMemory::new(source, candidate.root, candidate.levels);
        // What somebody named comes before what is built in.
        let build_id = candidate.build_id.as_deref();
        let file = self.options.files.iter().find(|file| {
            // An ISF has no build id.
            let same_build = file.build_id.is_empty() || Some(file.build_id.as_str()) == build_id;
            same_build && file.release == candidate.release
        });
        let table = build_id
            .filter(|_| self.options.use_builtin)
            .and_then(|build_id| builtin::find(build_id, &candidate.release));
        let stored: [Option<(Origin, &dyn Stored)>; 2] = [
            file.map(|file| {
                (Origin::File { build_id: file.build_id.clone() }, file as &dyn Stored)
            }),
            table.map(|table| (Origin::BuiltIn { build_id: table.build_id }, table as &dyn Stored)),
        ];
        let mut refused = None;
        let mut older = None;
        for (origin, stored) in stored.into_iter().flatten() {
            match self.bind_stored(&mut memory, candidate, origin.clone(), stored, false) {
                Ok(profile) => return Ok(profile),
                Err(refusal) => {
                    if matches!(refusal, Refusal::Incomplete { .. }) {
                        older = older.or(Some((origin, stored)));
                    }
                    if let Some(refusal) = refused.replace(refusal) {
                        self.refuse(candidate.attempt(refusal));
                    }
                }
            }
        }
        let outcome = if self.options.generate {
            if let Some(refusal) = refused {
                self.refuse(candidate.attempt(refusal));
            }
            self.generate(&mut memory, candidate)
        } else {
            let build_id = candidate.build_id.clone();
            let files = OtherFiles::of(self.options.files);
            Err(refused.unwrap_or(Refusal::NotGenerated { build_id, files }))
        };
        match (outcome, older) {
            // Better without what it is silent about than not at all.
            (Err(_), Some((origin, stored))) => {
                self.bind_stored(&mut memory, candidate, origin, stored, true)
            }
            (outcome, _) => outcome,
        }
    }

    /// Binds and verifies what was stored. Unless `accept_older`, it must answer all that is asked.
    fn bind_stored<S: MemorySource + ?Sized>(
        &mut self,
        memory: &mut KernelMemory<'_, S>,
        candidate: &Candidate,
        origin: Origin,
        stored: &dyn Stored,
        accept_older: bool,
    ) -> Result<Profile, Refusal> {
        let mut candidate = candidate.clone();
        let unknown = place_symbols(stored, candidate.image.start, &mut candidate.symbols);
        candidate.all_symbols = unknown.is_none();
        candidate.refine_image(memory);
        let members = Completeness::of(stored);
        if !accept_older {
            // Asked before anything is read: a table that the code has outgrown costs nothing.
            ask_all(&members).map_err(Refusal::Missing)?;
            let what = members.unanswered().or(unknown.map(|name| format!("the symbol {name}")));
            if let Some(what) = what {
                return Err(Refusal::Incomplete { what });
            }
        }
        self.bind(memory, candidate, origin, &members)
    }

    /// Makes a profile from the kernel's own types in its memory.
    fn generate<S: MemorySource + ?Sized>(
        &mut self,
        memory: &mut KernelMemory<'_, S>,
        candidate: &Candidate,
    ) -> Result<Profile, Refusal> {
        let mut candidate = candidate.clone();
        if self.options.use_kallsyms {
            self.stage(Stage::Kallsyms);
            symbols::read_kallsyms(memory, &mut candidate);
        }
        candidate.refine_image(memory);
        self.stage(Stage::Btf);
        if let Some((at, bytes)) = image::named_btf(memory, &candidate)
            && let Ok(btf) = Btf::parse(&bytes)
        {
            let origin = Origin::Btf { at, bytes: bytes.len() as u64 };
            return self.bind(memory, candidate, origin, &btf);
        }
        let (at, bytes) =
            image::search_btf(memory, &candidate).map_err(|refusal| match refusal {
                Refusal::NoProfile { .. } => {
                    Refusal::NoProfile { files: OtherFiles::of(self.options.files) }
                }
                other => other,
            })?;
        let btf = Btf::parse(&bytes).map_err(Refusal::Btf)?;
        let origin = Origin::Btf { at, bytes: bytes.len() as u64 };
        self.bind(memory, candidate, origin, &btf)
    }

    fn bind<S: MemorySource + ?Sized>(
        &mut self,
        memory: &mut KernelMemory<'_, S>,
        mut candidate: Candidate,
        origin: Origin,
        members: &dyn Members,
    ) -> Result<Profile, Refusal> {
        self.progress.event(Event::LoadingProfileCandidate(&origin));
        self.stage(Stage::Bind);
        let recorder = Recorder::new(members);
        let layouts = Layouts::bind(&recorder).map_err(Refusal::Missing)?;
        self.stage(Stage::Derive);
        let clock = ClockFields::bind(&recorder);
        let space = derive::space(memory, &mut candidate, &layouts, &recorder)?;
        let timekeeper = clock::timekeeper(memory, &mut candidate, &layouts, &clock);
        let counter_khz = match space.levels {
            Levels::Aarch64(_) => timekeeper
                .and_then(|(timekeeper, _)| clock::arm64_counter_khz(memory, &clock, timekeeper)),
            Levels::X86_64(_) => None,
        };
        self.stage(Stage::Verify);
        let mut checks = Vec::new();
        for _ in 0..VERIFICATIONS_MAX {
            checks = verify::verify(memory, &layouts, &candidate.symbols, &candidate.release);
            if checks.iter().all(holds) {
                break;
            }
        }
        if !checks.iter().all(holds) {
            return Err(Refusal::Verification(checks));
        }
        self.progress.event(Event::ProfileVerificationSuccessful(&checks));
        Ok(Profile {
            layouts,
            space,
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

    fn stage(&mut self, stage: Stage) {
        self.progress.event(Event::Stage(stage));
    }

    fn extend(&mut self, to: Stage) {
        self.progress.event(Event::OsIdentifierDiscoveryExtended { to });
        self.sweep = to;
        self.stage(to);
    }
}

/// Moves a source, if that is more than nothing.
fn move_source<S: MemorySource + ?Sized>(source: &mut S, moved: u64) -> bool {
    moved == 0 || source.move_by(moved)
}

/// Asks for all that is ever asked of a profile's members, and tells what is needed and missing.
pub(crate) fn ask_all(members: &dyn Members) -> Result<(), Missing> {
    Layouts::bind(members)?;
    let _ = ClockFields::bind(members);
    let _ = vmemmap::SlabFields::bind(members);
    Ok(())
}

const fn holds(check: &Check) -> bool {
    !matches!(check.outcome, CheckOutcome::Failed(_))
}

/// Reads as much of a text as there may be: page by page, as the next one may not be there.
fn read_text<S: MemorySource + ?Sized>(source: &mut S, at: PhysicalAddress) -> Vec<u8> {
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
