//! Whether a machine's clock goes.
//!
//! Memory does not say that nobody runs it any more: that of a machine that was paused, switched off or
//! started anew can be read as before, and what ran there last is seen for ever. Only its clock stands still.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use panoptes_engine::watch::Attestation;
use panoptes_profiles::Profile;

use super::losses::Post;

/// An idle kernel's clock is brought up to date every now and then; after so long it stands still.
const STILL: Duration = Duration::from_secs(5);
/// A machine may be paused for days: the question is asked ever more seldom, up to this.
const ASKED_MOST: Duration = Duration::from_mins(5);

/// What the scanner and the control thread say to each other about one machine.
#[derive(Debug, Default)]
pub(super) struct Vital {
    stands_still: AtomicBool,
    /// A [`Doubt`], or 0.
    given_up: AtomicU8,
    /// What its scans miss.
    pub(super) losses: Post,
    /// How much of what is typed into shells was left out.
    pub(super) shell_history_refused: SaidOnce,
    /// How many changes of the right to execute memory were not judged.
    pub(super) permissions_refused: SaidOnce,
    /// How often there was more to follow to whom shells belong than one scan may.
    pub(super) shells_cut_short: SaidOnce,
    /// How many reverse shells found no room in the list of those that were told of.
    pub(super) shells_untold: SaidOnce,
    /// What is to judge from now on; once that is taken, what judged until then.
    attestation: Mutex<Option<Box<Attestation>>>,
    /// Whether there is one to be taken.
    has_attestation: AtomicBool,
}

/// A number that only grows, and is worth a word once.
#[derive(Debug, Default)]
pub(super) struct SaidOnce {
    number: AtomicU64,
    is_said: AtomicBool,
}

impl SaidOnce {
    /// The scanner: so many by now.
    pub(super) fn note(&self, number: u64) {
        self.number.store(number, Ordering::Relaxed);
    }

    /// The control thread: that number, the first time that it is not 0.
    pub(super) fn take(&self) -> Option<u64> {
        let number = self.number.load(Ordering::Relaxed);
        (number > 0 && !self.is_said.swap(true, Ordering::Relaxed)).then_some(number)
    }
}

/// Why a machine has to be taken in anew.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Doubt {
    /// Another kernel runs in its memory.
    OtherKernel = 1,
    /// It has more memory than before, or less.
    OtherMemory = 2,
}

impl Doubt {
    /// What is said of it.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::OtherKernel => "another kernel was started in this memory",
            Self::OtherMemory => "memory was plugged in or out; the guest is taken in anew",
        }
    }
}

impl Vital {
    /// The scanner: its clock stands still.
    pub(super) fn doubt(&self) {
        self.stands_still.store(true, Ordering::Relaxed);
    }

    /// The control thread: whether that was said since it was last asked.
    pub(super) fn take_doubt(&self) -> bool {
        self.stands_still.swap(false, Ordering::Relaxed)
    }

    /// The control thread: this is to judge what runs from now on.
    pub(super) fn attest_by(&self, attestation: Box<Attestation>) {
        // Nobody else's mistake can have left it half made.
        *self.attestation.lock().unwrap_or_else(PoisonError::into_inner) = Some(attestation);
        self.has_attestation.store(true, Ordering::Release);
    }

    /// The scanner, between two scans: takes what is to judge from now on, if there is something new. It is
    /// exchanged, so that nothing is freed here.
    pub(super) fn exchange(&self, exchange: impl FnOnce(&mut Attestation)) {
        if !self.has_attestation.swap(false, Ordering::Acquire) {
            return;
        }
        let Ok(mut place) = self.attestation.try_lock() else {
            // The control thread is putting another one there: at the next scan.
            self.has_attestation.store(true, Ordering::Release);
            return;
        };
        if let Some(attestation) = place.as_deref_mut() {
            exchange(attestation);
        }
    }

    /// The control thread: frees what was exchanged.
    pub(super) fn tidy(&self) {
        if !self.has_attestation.load(Ordering::Acquire)
            && let Ok(mut place) = self.attestation.try_lock()
            && !self.has_attestation.load(Ordering::Acquire)
        {
            *place = None;
        }
    }

    /// The control thread: it is not what it was.
    pub(super) fn give_up(&self, doubt: Doubt) {
        self.given_up.store(doubt as u8, Ordering::Relaxed);
    }

    /// The scanner: whether that was said.
    pub(super) fn given_up(&self) -> Option<Doubt> {
        match self.given_up.load(Ordering::Relaxed) {
            1 => Some(Doubt::OtherKernel),
            2 => Some(Doubt::OtherMemory),
            _ => None,
        }
    }
}

/// By what a kernel that was found is told from one that was started later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    build_id: Option<String>,
    kernel_offset: u64,
    direct_map: u64,
}

impl Found {
    /// By what this one is.
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
pub(super) struct Pulse {
    ticks: Option<u64>,
    since: Instant,
    /// After how long a standstill it is told of next.
    ask: Duration,
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { ticks: None, since: now, ask: STILL }
    }

    /// Takes in what the clock says; `true` when it is time to look what has become of the machine.
    pub(super) fn beat(&mut self, ticks: Option<u64>, now: Instant) -> bool {
        if ticks.is_some() && ticks != self.ticks {
            *self = Self { ticks, ..Self::new(now) };
        }
        // One that was there and is not any more was overwritten, which is no better than a standstill.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_said_once_and_never_where_it_is_0() {
        let number = SaidOnce::default();
        assert_eq!(number.take(), None);
        number.note(0);
        assert_eq!(number.take(), None);
        number.note(3);
        assert_eq!(number.take(), Some(3));
        number.note(4);
        assert_eq!(number.take(), None);
    }

    #[test]
    fn a_clock_that_goes_says_nothing() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for second in 0..100 {
            let now = start + Duration::from_secs(second);
            assert!(!pulse.beat(Some(second / 4), now));
        }
    }

    #[test]
    fn a_clock_that_is_not_known_says_nothing() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        for second in 0..100 {
            assert!(!pulse.beat(None, start + Duration::from_secs(second)));
        }
    }

    #[test]
    fn a_clock_that_was_overwritten_stands_still() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        assert!(!pulse.beat(Some(7), start));
        assert!(!pulse.beat(None, start + Duration::from_secs(4)));
        assert!(pulse.beat(None, start + STILL));
    }

    #[test]
    fn a_standstill_is_told_of_ever_more_seldom() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        let told: Vec<u64> = (0..1500)
            .filter(|&second| pulse.beat(Some(7), start + Duration::from_secs(second)))
            .collect();
        assert_eq!(told, [5, 10, 20, 40, 80, 160, 320, 620, 920, 1220]);
        assert!(!pulse.beat(Some(8), start + Duration::from_mins(25)));
        assert!(!pulse.beat(Some(8), start + Duration::from_secs(1504)));
        assert!(pulse.beat(Some(8), start + Duration::from_secs(1505)));
    }
}
