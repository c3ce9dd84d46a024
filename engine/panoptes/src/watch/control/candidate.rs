//! A system that is to be watched, and its phase: it waits to be attached to, is attached to, or is
//! scanned.

use std::ops::BitOrAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_engine::detect::{DetectorNames, with_memory};
use panoptes_engine::watch::LastContact;
use panoptes_sinks::panics::Restarts;
use panoptes_sources::{FileFormat, PlacedArea, file_identity};

use super::in_use::AddressUse;
use crate::config::{Events, GuestName, System, SystemAddress, SystemSettings};
use crate::guests::{self, Guest, GuestNameOwner};
use crate::watch::clock_watch::{KernelIdentity, SystemShared};
use crate::watch::finder::is_same;
use crate::watch::gap_messages::LoggedGaps;
use crate::watch::stopped_clock::Stall;
use crate::watch::threads::{TaskId, Urgency};
use crate::watch::unscanned::Silence;

/// Pause before a retry of a system; it doubles with each failure, up to the maximum.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MOST: Duration = Duration::from_secs(10);
/// The maximum for memory in which no kernel was found. Between [`RETRY_MOST`] and this, the pause
/// is at most [`SEARCH_SHARE`] times as long as the last search: small memory is cheap to search.
const SEARCH_MOST: Duration = Duration::from_hours(1);
const SEARCH_SHARE: u32 = 100;
/// From one comparison of a function's memory with that of its machine to the next.
const SPARE: Duration = Duration::from_mins(1);

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct SystemCandidate {
    pub(super) system: System,
    /// Whether it was tried before: in a retry, QEMU may still be loading a saved machine.
    pub(super) is_retry: bool,
    /// Whether it was found by `auto_scan` rather than named: it is removed when it ends.
    pub(super) is_found: bool,
    /// Whether it is removed as soon as its scanner has returned it.
    pub(super) is_leaving: bool,
    /// Whether its file was raw when it was attached to. After the machine has ended, its memory
    /// must not be read as a dump.
    pub(super) is_raw: bool,
    /// The address of the machine's function that is used instead of this one.
    pub(super) spare_of: Option<SystemAddress>,
    /// Whether it is a physical function of a DMA device.
    pub(super) is_physical: bool,
    /// Number of consecutive lists of functions that lacked this one.
    pub(super) missed: u32,
    /// Number of consecutive times that its memory could not be compared with its machine's.
    pub(super) uncompared: u32,
    /// Why it could not be attached to, if that is not reported because a kernel may be starting.
    pub(super) unreported: Option<String>,
    /// What was known of its memory when the last search began.
    pub(super) searched: Option<Outside>,
    /// The guest that it is by its name: its address is this until it is watched, and again when
    /// the guest has ended.
    pub(super) guest: Option<GuestName>,
    /// The guest that was watched.
    pub(super) owner: Option<GuestNameOwner>,
    /// The use of its address, from the start of a search until it is not watched any more.
    pub(super) address_use: Option<AddressUse>,
    /// How far it was watched before contact was lost.
    pub(super) seen: Option<LastContact>,
    /// How often its scans have panicked.
    pub(super) panics: Restarts,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    Waiting(AttachAttempt),
    /// A worker searches for its kernel.
    Attaching(SearchedSystem),
    /// A scanner has it.
    Scanned(ScannedSystem),
    /// It was removed, so that a new system can take its place.
    Gone,
}

/// The next attempt to attach to a system.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttachAttempt {
    pub(super) due: Instant,
    /// The pause after that attempt, if it fails.
    pause: Duration,
    /// Whether an attempt has failed: the next ones report no progress.
    pub(super) has_failed: bool,
    /// Whether a failure was reported; it is reported once until the system works again.
    pub(super) is_failure_reported: bool,
}

impl AttachAttempt {
    /// The first attempt.
    fn first(due: Instant) -> Self {
        Self { due, pause: RETRY_FIRST, has_failed: false, is_failure_reported: false }
    }

    /// The attempt after a failed one. `searched` is the time for which its memory was searched if
    /// that has no kernel.
    pub(super) fn next(self, searched: Option<Duration>, now: Instant) -> Self {
        let (pause, most) = match searched {
            // A search may take at most half of a worker's time.
            Some(took) => {
                let most = took.saturating_mul(SEARCH_SHARE).clamp(RETRY_MOST, SEARCH_MOST);
                (self.pause.max(took), most)
            }
            None => (self.pause, RETRY_MOST),
        };
        let pause = pause.min(most);
        Self { due: now + pause, pause: (pause * 2).min(most), has_failed: true, ..self }
    }

    /// The same attempt, at most this much later.
    pub(super) fn within(self, most: Duration, now: Instant) -> Self {
        Self { due: self.due.min(now + most), ..self }
    }

    /// The same attempt now, and short pauses after it, because something has changed.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self { due: self.due.min(now), pause: RETRY_FIRST, ..*self };
    }

    /// Whether the pause is longer than usual, because memory that has no kernel is large.
    pub(super) fn is_long(self) -> bool {
        self.pause > RETRY_MOST
    }

    /// Whether to wait for a kernel that is still starting. The wait is bounded, because a kernel
    /// may hide that it has started.
    pub(super) fn is_patient(self) -> bool {
        self.pause < RETRY_MOST
    }

    pub(super) fn urgency(self) -> Urgency {
        if self.has_failed { Urgency::Again } else { Urgency::New }
    }
}

/// What can be known of a machine's memory without reading it. If it changes, another kernel may be
/// there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outside {
    /// Where a QEMU process has the memory; another process has it elsewhere.
    Guest(Vec<PlacedArea>),
    /// Identity and size in bytes.
    File((u32, u32, u64), u64),
}

impl Outside {
    /// `None` if it is not known, or the memory can't be opened.
    pub(super) fn of(address: &SystemAddress, users: &guests::Users) -> Option<Self> {
        match address {
            SystemAddress::Qemu(pid) => guests::plan(*pid, users).ok().map(Self::Guest),
            SystemAddress::File(path) => {
                let bytes = std::fs::metadata(path).ok()?.len();
                Some(Self::File(file_identity(path).ok()?, bytes))
            }
            SystemAddress::Doca { .. } | SystemAddress::Guest(_) | SystemAddress::Host => None,
        }
    }
}

/// A system that a worker searches.
#[derive(Debug)]
pub(super) struct SearchedSystem {
    pub(super) task: TaskId,
    /// The attempt.
    pub(super) waiting: AttachAttempt,
    /// The settings that have changed since the search began.
    pub(super) changes: Changes,
}

/// Which settings of a system have changed, of those that can change while it is scanned.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each can change alone")]
pub(super) struct Changes {
    /// The SBOMs, or which containers run which images.
    pub(super) attestation: bool,
    pub(super) containers: bool,
    /// Rules of what is reported.
    pub(super) policy: bool,
    /// Which detectors are on that need memory of their own.
    pub(super) memory: bool,
}

impl Changes {
    /// `has_other_sboms`: whether the contents of the system's SBOMs differ.
    pub(super) fn between(
        before: &SystemSettings,
        after: &SystemSettings,
        has_other_sboms: bool,
    ) -> Self {
        Self {
            attestation: has_other_sboms || before.containers.images != after.containers.images,
            containers: before.containers != after.containers,
            policy: before.events != after.events,
            memory: detectors(&before.events) != detectors(&after.events),
        }
    }
}

impl BitOrAssign for Changes {
    fn bitor_assign(&mut self, other: Self) {
        self.attestation |= other.attestation;
        self.containers |= other.containers;
        self.policy |= other.policy;
        self.memory |= other.memory;
    }
}

/// Which detectors are on that need memory of their own.
fn detectors(events: &Events) -> DetectorNames {
    with_memory(&|activity| events.is_enabled(activity))
}

/// A system that a scanner has.
#[derive(Debug)]
pub(super) struct ScannedSystem {
    pub(super) found: KernelIdentity,
    /// The state shared with the scanner.
    pub(super) shared: Arc<SystemShared>,
    /// The layout of its memory in QEMU when it was opened.
    pub(super) opened_layout: Vec<PlacedArea>,
    /// The same at the last check.
    pub(super) last_layout: Vec<PlacedArea>,
    /// The check whether another kernel runs, because the clock stands still.
    pub(super) check: RebootCheck,
    /// Whether the standstill of its clock was logged.
    pub(super) is_standstill_logged: bool,
    /// Changed settings that the scanner does not have yet.
    pub(super) changes: Changes,
    /// Whether its processors run while its clock stands still.
    pub(super) stall: Stall,
    /// Whether its scanner waits for memory that does not answer.
    pub(super) silence: Silence,
    /// The gaps of its scans of which a message was written.
    pub(super) gaps: LoggedGaps,
}

/// A check whether another kernel runs in a machine.
#[derive(Clone, Copy, Debug)]
pub(super) enum RebootCheck {
    None,
    /// Since this time it waits for a worker.
    Due(Instant),
    Running(TaskId),
}

impl ScannedSystem {
    /// A system to scan; `layout` is that of a QEMU process's memory.
    pub(super) fn new(
        found: KernelIdentity,
        shared: Arc<SystemShared>,
        layout: &[PlacedArea],
    ) -> Self {
        Self {
            found,
            shared,
            opened_layout: layout.to_vec(),
            last_layout: layout.to_vec(),
            check: RebootCheck::None,
            is_standstill_logged: false,
            changes: Changes::default(),
            stall: Stall::default(),
            silence: Silence::default(),
            gaps: LoggedGaps::default(),
        }
    }
}

impl SystemCandidate {
    pub(super) fn new(system: System, now: Instant, is_found: bool) -> Self {
        let phase = Phase::Waiting(AttachAttempt::first(now));
        let guest = match &system.address {
            SystemAddress::Guest(name) => Some(name.clone()),
            _ => None,
        };
        Self {
            system,
            guest,
            owner: None,
            address_use: None,
            is_retry: false,
            is_found,
            is_leaving: false,
            is_raw: false,
            spare_of: None,
            is_physical: false,
            missed: 0,
            uncompared: 0,
            unreported: None,
            searched: None,
            seen: None,
            panics: Restarts::default(),
            phase,
        }
    }

    /// The address that is configured.
    pub(super) fn configured(&self) -> SystemAddress {
        let guest = self.guest.clone().map(SystemAddress::Guest);
        guest.unwrap_or_else(|| self.system.address.clone())
    }

    /// Whether a user has named its process, which no other guest becomes.
    pub(super) fn is_process(&self) -> bool {
        self.guest.is_none() && matches!(self.system.address, SystemAddress::Qemu(_))
    }

    /// Whether it is this one of the guests that run.
    pub(super) fn is_guest(&self, guest: &Guest, guests: &[Guest]) -> bool {
        match &self.system.address {
            SystemAddress::Guest(name) => {
                let found = guests::resolve(name, guests, self.owner.as_ref());
                found.is_ok_and(|found| found.pid == guest.pid)
            }
            _ => is_same(&self.system, guest),
        }
    }

    /// The system as it is attached to.
    pub(super) fn to_attach(&self) -> System {
        let mut system = self.system.clone();
        if self.is_raw {
            system.settings.file_format = FileFormat::Raw;
        }
        system
    }

    /// Notes which of its settings have changed, or tries to attach to it at once.
    pub(super) fn note_changes(&mut self, changes: Changes) {
        match &mut self.phase {
            Phase::Scanned(scanned) => scanned.changes |= changes,
            Phase::Attaching(attaching) => attaching.changes |= changes,
            // The system of a spare function is first.
            Phase::Waiting(_) if self.spare_of.is_some() => {}
            // The user may have repaired what made the attempts fail.
            Phase::Waiting(waiting) => waiting.restart(Instant::now()),
            Phase::Gone => {}
        }
    }

    /// Whether it is the system that is watched, or about to be, through this address.
    pub(super) fn uses(&self, address: &SystemAddress) -> bool {
        !self.is_gone() && self.spare_of.is_none() && self.system.address == *address
    }

    /// Attaches to it again after a pause.
    pub(super) fn wait_again(&mut self) {
        self.wait_for(RETRY_FIRST);
    }

    pub(super) fn wait_for(&mut self, pause: Duration) {
        self.phase = Phase::Waiting(AttachAttempt::first(Instant::now() + pause));
    }

    /// Compares its memory with that of its machine again after a while.
    pub(super) fn wait_as_spare(&mut self) {
        let waiting = AttachAttempt::first(Instant::now() + SPARE);
        self.phase = Phase::Waiting(AttachAttempt { has_failed: true, ..waiting });
    }

    /// Whether it is a function of a DMA device that `auto_scan` has found.
    pub(super) fn is_found_function(&self) -> bool {
        self.is_found && matches!(self.system.address, SystemAddress::Doca { .. })
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting(_))
    }

    /// When its next task for a worker is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting(waiting) => Some(waiting.due),
            Phase::Scanned(ScannedSystem { check: RebootCheck::Due(due), .. }) => Some(*due),
            _ => None,
        }
    }

    /// Whether no attempt to attach to it has ended yet.
    pub(super) fn is_untried(&self) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) | Phase::Attaching(SearchedSystem { waiting, .. }) => {
                !waiting.has_failed
            }
            _ => false,
        }
    }

    /// Whether a change of its memory, as seen from outside, matters now.
    pub(super) fn wants_look(&self) -> bool {
        match &self.phase {
            Phase::Waiting(waiting) => waiting.is_long(),
            Phase::Attaching(_) | Phase::Scanned(_) => {
                matches!(self.system.address, SystemAddress::Qemu(_))
            }
            Phase::Gone => false,
        }
    }

    /// Whether a worker has this task of it.
    pub(super) fn has_task(&self, id: TaskId) -> bool {
        match &self.phase {
            Phase::Attaching(attaching) => attaching.task == id,
            Phase::Scanned(ScannedSystem { check: RebootCheck::Running(task), .. }) => *task == id,
            _ => false,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Configuration, Mode};

    /// The first pauses in milliseconds if all attempts fail.
    fn pauses(searched: Option<Duration>) -> Vec<u128> {
        let now = Instant::now();
        let mut waiting = AttachAttempt::first(now);
        let mut pauses = Vec::new();
        for _ in 0..20 {
            waiting = waiting.next(searched, now);
            assert!(waiting.has_failed);
            pauses.push(waiting.due.duration_since(now).as_millis());
        }
        pauses
    }

    #[test]
    fn pauses_double_up_to_a_maximum() {
        let usual = [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000];
        assert_eq!(pauses(None)[..9], usual);
        // Small memory is searched as often.
        assert_eq!(pauses(Some(Duration::from_millis(100)))[..9], usual);
    }

    #[test]
    fn the_longer_a_search_takes_the_rarer_it_becomes() {
        let second = pauses(Some(Duration::from_secs(1)));
        assert_eq!(second[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(second[7..9], [100_000, 100_000]);
        let minute = pauses(Some(Duration::from_mins(1)));
        assert_eq!(minute[..3], [60_000, 120_000, 240_000]);
        assert_eq!(minute[7..], [3_600_000; 13]);
    }

    #[test]
    fn patience_with_a_kernel_that_starts_is_bounded() {
        let mut waiting = AttachAttempt::first(Instant::now());
        let mut patient = 0;
        while waiting.is_patient() {
            patient += 1;
            waiting = waiting.next(None, Instant::now());
        }
        assert_eq!(patient, 6);
    }

    #[test]
    fn a_long_pause_ends_when_the_memory_changes() {
        let now = Instant::now();
        let short = AttachAttempt::first(now).next(None, now);
        let mut long = short.next(Some(Duration::from_mins(10)), now);
        assert!(long.is_long() && !short.is_long());
        assert!(long.due >= now + Duration::from_mins(10));
        long.restart(now);
        assert_eq!((long.due, long.pause), (now, RETRY_FIRST));
        assert!(long.has_failed, "the next failure is no news");
    }

    #[test]
    fn a_file_that_is_replaced_or_grows_is_other_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (path, users) = (folder.path().join("ram"), guests::Users::of(&[]));
        let address = SystemAddress::File(path.clone());
        assert_eq!(Outside::of(&address, &users), None);
        std::fs::write(&path, "1234").unwrap();
        let first = Outside::of(&address, &users).unwrap();
        assert_eq!(Outside::of(&address, &users), Some(first.clone()));
        std::fs::write(&path, "12345").unwrap();
        let larger = Outside::of(&address, &users).unwrap();
        assert_ne!(larger, first);
        std::fs::write(folder.path().join("other"), "12345").unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert_ne!(Outside::of(&address, &users), Some(larger));
    }

    #[test]
    fn other_images_renew_the_attestation_whatever_the_sboms_are() {
        let before = Configuration::defaults(Mode::Watch).default;
        let mut after = before.clone();
        assert_eq!(Changes::between(&before, &after, false), Changes::default());
        let attestation = Changes { attestation: true, ..Changes::default() };
        assert_eq!(Changes::between(&before, &after, true), attestation);
        after.events.thresholds.bytes_in += 1;
        let policy = Changes { policy: true, ..Changes::default() };
        assert_eq!(Changes::between(&before, &after, false), policy);
        after.containers.images.push(("web".to_owned(), "nginx:1".to_owned()));
        let mut all = Changes { containers: true, ..attestation };
        all |= policy;
        assert_eq!(Changes::between(&before, &after, false), all);
    }
}
