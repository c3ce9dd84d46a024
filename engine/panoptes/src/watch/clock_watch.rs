//! Detects whether a machine's clock stands still.
//!
//! Memory does not show that its machine has stopped. The memory of a machine that was paused,
//! switched off or restarted can still be read, and its last contents stay. Only its clock stands
//! still.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use panoptes_engine::container_config::ContainerConfig;
use panoptes_engine::watch::{Attestation, KnownMachine, PolicySettings};
use panoptes_profiles::Profile;
use panoptes_records::filter::FilterSubject;

use super::counters::SystemFigures;
use super::gap_messages::GapCounts;

/// A clock that has not changed for this time stands still: an idle kernel updates it rarely.
const STILL: Duration = Duration::from_secs(5);
/// A clock that has not changed for this time may have stopped.
const MAY_BE_STILL: Duration = Duration::from_secs(1);
/// Maximum time between two checks of a machine that stands still. A machine may be paused for
/// days, so the time doubles up to this.
const ASKED_MOST: Duration = Duration::from_mins(5);

/// State about one machine that the scanner and the control thread share. Aligned to two cache
/// lines, which processors fetch together: other scanners write to that of other machines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct SystemShared {
    /// Whether the scanner has asked for a check of a clock that stands still.
    stands_still: AtomicBool,
    /// Whether the clock stands still now.
    is_still: AtomicBool,
    given_up: OnceLock<Reattach>,
    /// Which outputs took its records when it was attached to.
    pub(super) subject: FilterSubject,
    /// What its scans miss.
    pub(super) gaps: GapCounts,
    /// For metrics.
    pub(super) figures: Arc<SystemFigures>,
    /// Facts about the machine, for the header of its records.
    machine: Arc<Mutex<KnownMachine>>,
    /// The attestation to use from now on; after the scanner's exchange, the one used before.
    attestation: Mutex<Option<Box<Attestation>>>,
    /// Whether `attestation` waits for the scanner.
    has_attestation: AtomicBool,
    /// Settings to use from now on.
    settings: Mutex<NewSettings>,
    /// Whether there are any.
    has_settings: AtomicBool,
}

/// Settings of a system that have changed while it is scanned.
#[derive(Debug, Default)]
pub(super) struct NewSettings {
    /// Which outputs take its records.
    pub(super) subject: Option<FilterSubject>,
    /// Which containers to report.
    pub(super) containers: Option<Arc<ContainerConfig>>,
    /// What to report, and how.
    pub(super) policy: Option<Box<PolicySettings>>,
}

/// Why Panoptes has to attach to a machine again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reattach {
    /// Another kernel runs in its memory.
    Kernel,
    /// Memory was added or removed.
    Memory,
    /// The function of the DMA device is gone.
    Function,
    /// The machine is watched through another function, which is named.
    Named,
    /// A setting has changed that needs other memory.
    Settings,
    /// It is not to be watched any more.
    Removed,
}

impl Reattach {
    /// Whether the user wants it.
    pub(super) const fn is_requested(self) -> bool {
        matches!(self, Self::Settings | Self::Removed)
    }

    /// Whether the memory is gone, rather than changed.
    pub(super) const fn is_end(self) -> bool {
        matches!(self, Self::Function)
    }

    /// The reason in messages and records.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Kernel => "another kernel was started in this memory",
            Self::Memory => "memory was plugged in or out; attaching to the guest again",
            Self::Function => "the DMA device does not list this function any more",
            Self::Named => "its machine is watched through a function that is named",
            Self::Settings => "the configuration has changed; attaching again",
            Self::Removed => "the configuration has changed; it is not watched any more",
        }
    }
}

impl SystemShared {
    /// For a system whose records are about `subject`, and about this machine.
    pub(super) fn of(
        subject: FilterSubject,
        machine: KnownMachine,
        figures: Arc<SystemFigures>,
    ) -> Self {
        Self { subject, figures, machine: Arc::new(Mutex::new(machine)), ..Self::default() }
    }

    /// Control thread: what is known of the machine, as scans update it.
    pub(super) fn machine(&self) -> &Arc<Mutex<KnownMachine>> {
        &self.machine
    }

    /// Scanner, when a scan has shown a change: passes on what is known. Returns whether it did:
    /// the control thread may be writing a record.
    pub(super) fn show(&self, machine: &KnownMachine) -> bool {
        self.machine.try_lock().is_ok_and(|mut shown| {
            shown.update_from(machine);
            true
        })
    }

    /// Scanner: reports that the clock stands still.
    pub(super) fn set_standstill(&self) {
        self.stands_still.store(true, Ordering::Relaxed);
    }

    /// Control thread: whether the scanner has reported that since the last call.
    pub(super) fn take_standstill(&self) -> bool {
        self.stands_still.swap(false, Ordering::Relaxed)
    }

    /// Scanner: sets whether the clock stands still now.
    pub(super) fn set_still(&self, is_still: bool) {
        self.is_still.store(is_still, Ordering::Relaxed);
    }

    /// Control thread: whether the clock stands still now.
    pub(super) fn is_still(&self) -> bool {
        self.is_still.load(Ordering::Relaxed)
    }

    /// Control thread: sets the attestation to use from now on.
    pub(super) fn attest_by(&self, attestation: Box<Attestation>) {
        // A panic elsewhere cannot leave the value incomplete.
        *self.attestation.lock().unwrap_or_else(PoisonError::into_inner) = Some(attestation);
        self.has_attestation.store(true, Ordering::Release);
    }

    /// Scanner, between two scans: starts to use a new attestation, if there is one. It is
    /// exchanged with the old one, so that nothing is freed on this thread.
    pub(super) fn exchange(&self, exchange: impl FnOnce(&mut Attestation)) {
        if !self.has_attestation.swap(false, Ordering::Acquire) {
            return;
        }
        let Ok(mut place) = self.attestation.try_lock() else {
            // The control thread is setting another one; it is taken at the next scan.
            self.has_attestation.store(true, Ordering::Release);
            return;
        };
        if let Some(attestation) = place.as_deref_mut() {
            exchange(attestation);
        }
    }

    /// Control thread: returns the attestation that was exchanged, to free it.
    pub(super) fn take_used(&self) -> Option<Box<Attestation>> {
        if !self.has_attestation.load(Ordering::Acquire)
            && let Ok(mut place) = self.attestation.try_lock()
            && !self.has_attestation.load(Ordering::Acquire)
        {
            return place.take();
        }
        None
    }

    /// Control thread: sets settings to use from now on.
    pub(super) fn set_settings(&self, new: NewSettings) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.subject = new.subject.or(settings.subject);
        settings.containers = new.containers.or(settings.containers.take());
        settings.policy = new.policy.or(settings.policy.take());
        self.has_settings.store(true, Ordering::Release);
    }

    /// Scanner, between two scans: takes settings that have changed.
    pub(super) fn take_settings(&self) -> Option<NewSettings> {
        if !self.has_settings.load(Ordering::Acquire) {
            return None;
        }
        // If the control thread is setting others, they are taken at the next scan.
        let mut settings = self.settings.try_lock().ok()?;
        self.has_settings.store(false, Ordering::Relaxed);
        Some(std::mem::take(&mut settings))
    }

    /// Control thread: requests that the scanner returns the machine.
    pub(super) fn give_up(&self, reason: Reattach) {
        // A reason that was set before is as good.
        let _ = self.given_up.set(reason);
    }

    /// Scanner: the reason to return the machine, if the control thread has set one.
    pub(super) fn given_up(&self) -> Option<Reattach> {
        self.given_up.get().copied()
    }
}

/// The values that distinguish a kernel from one that was started later in the same memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KernelIdentity {
    build_id: Option<String>,
    kernel_offset: u64,
    direct_map: u64,
}

impl KernelIdentity {
    pub(super) fn of(profile: &Profile) -> Self {
        Self {
            build_id: profile.build_id.clone(),
            kernel_offset: profile.kernel_offset,
            direct_map: profile.space.direct_map.start,
        }
    }
}

/// Watches one clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClockWatch {
    ticks: Option<u64>,
    since: Instant,
    /// The duration of standstill at which the next check is due.
    ask: Duration,
}

impl ClockWatch {
    pub(super) fn new(now: Instant) -> Self {
        Self { ticks: None, since: now, ask: STILL }
    }

    /// Compares the clock with its last value; returns `true` if the machine is due for a check.
    pub(super) fn beat(&mut self, ticks: Option<u64>, now: Instant) -> bool {
        if ticks.is_some() && ticks != self.ticks {
            *self = Self { ticks, ..Self::new(now) };
        }
        // A clock that was known and can't be read now was overwritten: it counts as stopped.
        if self.ticks.is_none() {
            return false;
        }
        let still = now.saturating_duration_since(self.since);
        if still < self.ask {
            return false;
        }
        self.ask = still + still.min(ASKED_MOST);
        true
    }

    /// Whether a clock that is known has not changed for a while.
    pub(super) fn is_still(&self, now: Instant) -> bool {
        self.ticks.is_some() && now.saturating_duration_since(self.since) >= MAY_BE_STILL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Events;

    #[test]
    fn new_settings_are_taken_once_and_the_last_ones_count() {
        let shared = SystemShared::default();
        assert!(shared.take_settings().is_none());
        let config = Arc::new(ContainerConfig::default());
        let containers = Some(Arc::clone(&config));
        shared.set_settings(NewSettings { containers, ..NewSettings::default() });
        for bytes_in in [1, 2] {
            let mut policy = Events::default().policy(Arc::default(), None);
            policy.config.thresholds.bytes_in = bytes_in;
            let policy = Some(Box::new(policy));
            shared.set_settings(NewSettings { policy, ..NewSettings::default() });
        }
        let taken = shared.take_settings().unwrap();
        assert!(taken.containers.is_some_and(|it| Arc::ptr_eq(&it, &config)));
        assert_eq!(taken.policy.unwrap().config.thresholds.bytes_in, 2);
        assert!(shared.take_settings().is_none());
    }

    #[test]
    fn a_running_clock_needs_no_check() {
        let start = Instant::now();
        let mut clock_watch = ClockWatch::new(start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert!(!clock_watch.beat(Some(second / 4), now));
        }
    }

    #[test]
    fn an_unknown_clock_needs_no_check() {
        let start = Instant::now();
        let mut clock_watch = ClockWatch::new(start);
        for second in 0..100 {
            assert!(!clock_watch.beat(None, start + Duration::from_secs(second)));
        }
    }

    #[test]
    fn a_clock_that_was_overwritten_stands_still() {
        let start = Instant::now();
        let mut clock_watch = ClockWatch::new(start);
        assert!(!clock_watch.beat(Some(7), start));
        assert!(!clock_watch.beat(None, start + Duration::from_secs(4)));
        assert!(clock_watch.beat(None, start + STILL));
    }

    #[test]
    fn checks_of_a_standstill_become_rarer() {
        let start = Instant::now();
        let mut clock_watch = ClockWatch::new(start);
        let checks: Vec<u64> = (0..1500)
            .filter(|&second| clock_watch.beat(Some(7), start + Duration::from_secs(second)))
            .collect();
        assert_eq!(checks, [5, 10, 20, 40, 80, 160, 320, 620, 920, 1220]);
        assert!(!clock_watch.beat(Some(8), start + Duration::from_mins(25)));
        assert!(!clock_watch.beat(Some(8), start + Duration::from_secs(1504)));
        assert!(clock_watch.beat(Some(8), start + Duration::from_secs(1505)));
    }
}
