//! Which scans may keep the rows of the scan before, and which may be light.
//!
//! A machine on which no task has run needs no new rows ([`Walker::scan_changes`]). Nor are the
//! descriptors and areas of a process needed that has not run ([`Snapshot::is_light`]). The
//! kernel's own counts show that, and code inside the kernel can forge them. So at least one scan
//! in a second reads everything, and so does the scan after one in which something waits for all
//! descriptors. What a scan finds late by these counts is counted.
//!
//! [`Walker::scan_changes`]: crate::walk::Walker::scan_changes

use panoptes_tables::GOLDEN_RATIO;

use crate::detect::hidden_connections::WHOLE_SCAN_NS;
use crate::state::Change;
use crate::time::Monotonic;
use crate::walk::Snapshot;

/// Maximum time without a scan that reads everything.
const SWEEP_NS: i64 = 1_000_000_000;
const _: () = assert!(SWEEP_NS < WHOLE_SCAN_NS, "there is always a whole scan of late");

/// What waits for a scan that leaves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    /// A finding, or what the next scan may not show any more.
    pub(super) urgent: bool,
    /// Anything else.
    pub(super) other: bool,
}

/// How a scan's changes count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LateChanges {
    No,
    /// As found late, if the next scan shows that the machine has rested until then: a task may
    /// have run while the scan read.
    Perhaps(u64),
    /// As found late.
    Yes(u64),
}

/// Whether a scan is light.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Light {
    No,
    Yes,
    /// It reads what the one before has left.
    Before,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shortcuts {
    are_used: bool,
    /// When a scan read everything last.
    swept: Option<Monotonic>,
    /// How much earlier than at whole seconds the next one does so, in nanoseconds.
    ahead_ns: i64,
    /// Whether the last scan has kept the rows.
    has_kept: bool,
    counts: LateChanges,
    waits: Waits,
    light: Light,
    /// Number of changes that a process has made before the last scan, which has left them.
    of_resting: u64,
}

impl Shortcuts {
    /// Those of a system. Systems with other numbers have their whole scans in other parts of a
    /// second, so that no round of all systems has those of all.
    pub(super) const fn new(number: u64) -> Self {
        let part = number.wrapping_mul(GOLDEN_RATIO) >> 32;
        Self {
            are_used: false,
            swept: None,
            ahead_ns: ((part * SWEEP_NS as u64) >> 32) as i64,
            has_kept: false,
            counts: LateChanges::No,
            waits: Waits { urgent: false, other: false },
            light: Light::No,
            of_resting: 0,
        }
    }

    pub(super) const fn set_used(&mut self, are_used: bool) {
        self.are_used = are_used;
    }

    /// Whether a scan at this time may keep the rows.
    pub(super) fn may_keep(&self, now: Monotonic) -> bool {
        self.are_used
            && self.swept.is_some_and(|swept| self.second_of(swept) == self.second_of(now))
    }

    /// The number of the second that a time is in, as this system has them.
    const fn second_of(&self, time: Monotonic) -> i64 {
        time.since(Monotonic::from_ns(0)).saturating_add(self.ahead_ns).div_euclid(SWEEP_NS)
    }

    /// Whether the next scan may be light, if [`Self::may_keep`]. An early one leaves to the next
    /// one what is not urgent.
    pub(super) const fn may_be_light(&self, is_early: bool) -> bool {
        !self.waits.urgent && (is_early || !self.waits.other)
    }

    /// Begins to compare a scan. What it finds is found late if it made new rows although the
    /// machine had rested since other scans kept theirs. The scan after that counts, too: a new
    /// process may be reported only then.
    pub(super) fn begin_scan(&mut self, snapshot: &Snapshot, now: Monotonic) {
        self.light = match self.light {
            _ if snapshot.is_light => Light::Yes,
            Light::Yes => Light::Before,
            Light::Before | Light::No => Light::No,
        };
        let had_kept = core::mem::replace(&mut self.has_kept, snapshot.is_kept);
        if !snapshot.is_kept && !snapshot.is_light {
            self.swept = Some(now);
        }
        self.counts = match self.counts {
            LateChanges::Perhaps(count) if snapshot.has_rested => LateChanges::Yes(count),
            _ if had_kept && snapshot.has_rested && !snapshot.is_kept => LateChanges::Perhaps(0),
            _ => LateChanges::No,
        };
    }

    /// Notes a change that the scan has found.
    pub(super) fn note_change(&mut self, snapshot: &Snapshot, change: &Change<'_>) {
        let maker = change.maker().filter(|_| self.light == Light::Before);
        if maker.is_some_and(|it| snapshot.was_left(it.row())) {
            self.of_resting += 1;
        } else if change.is_made_by_tasks() {
            self.add_one();
        }
    }

    const fn add_one(&mut self) {
        if let LateChanges::Perhaps(count) | LateChanges::Yes(count) = &mut self.counts {
            *count += 1;
        }
    }

    /// Ends a scan after which something waits for one that leaves nothing. Returns the number of
    /// changes that were found late for certain.
    pub(super) const fn end_scan(&mut self, waits: Waits) -> u64 {
        self.waits = waits;
        let of_resting = core::mem::replace(&mut self.of_resting, 0);
        match self.counts {
            LateChanges::Yes(count) => {
                self.counts = LateChanges::No;
                count + of_resting
            }
            LateChanges::Perhaps(_) | LateChanges::No => of_resting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    const MS: i64 = 1_000_000;

    /// Scans 10 ms apart, each with what its machine did before and the number of changes that it
    /// finds; returns those that read everything, and what was found late by which.
    fn scans(
        count: i64,
        has_rested: impl Fn(i64) -> bool,
        changes: impl Fn(i64) -> u64,
    ) -> (Vec<i64>, Vec<(i64, u64)>) {
        let mut shortcuts = Shortcuts::new(0);
        shortcuts.set_used(true);
        let mut snapshot = Snapshot::empty(&Limits::default());
        let (mut whole, mut late) = (Vec::new(), Vec::new());
        for scan in 0..count {
            let now = Monotonic::from_ns(scan * 10 * MS);
            snapshot.has_rested = has_rested(scan);
            snapshot.is_kept = snapshot.has_rested && shortcuts.may_keep(now);
            if !snapshot.is_kept {
                whole.push(scan);
            }
            shortcuts.begin_scan(&snapshot, now);
            for _ in 0..changes(scan) {
                shortcuts.add_one();
            }
            let found = shortcuts.end_scan(Waits::default());
            if found > 0 {
                late.push((scan, found));
            }
        }
        (whole, late)
    }

    #[test]
    fn one_scan_in_a_second_reads_everything() {
        assert_eq!(scans(250, |_| true, |_| 0), (vec![0, 100, 200], vec![]));
    }

    /// Systems that are watched from the same time on have their whole scans one after the other.
    #[test]
    fn systems_read_everything_in_turn() {
        let snapshot = Snapshot::empty(&Limits::default());
        let (mut sweeps, systems) = ([0; 300], 64);
        for system in 0..systems {
            let mut shortcuts = Shortcuts::new(system);
            shortcuts.set_used(true);
            let mut last = 0;
            for (scan, sweeps) in (0..).zip(&mut sweeps) {
                let now = Monotonic::from_ns(scan * 10 * MS);
                if !shortcuts.may_keep(now) {
                    assert!(scan - last <= 100, "system {system}: scan {scan} after {last}");
                    (last, *sweeps) = (scan, *sweeps + 1);
                    shortcuts.begin_scan(&snapshot, now);
                    shortcuts.end_scan(Waits::default());
                }
            }
        }
        assert_eq!(sweeps[0], systems);
        for later in [&sweeps[1..101], &sweeps[101..201]] {
            assert_eq!(later.iter().sum::<u64>(), systems);
            assert!(later.iter().all(|&count| count <= 2), "{later:?}");
        }
    }

    #[test]
    fn what_only_that_scan_or_the_next_one_finds_is_found_late() {
        let changes = |scan| u64::from(scan == 100) * 2 + u64::from(scan == 101);
        assert_eq!(scans(250, |_| true, changes).1, [(101, 3)]);
    }

    #[test]
    fn what_a_task_does_during_or_after_that_scan_is_not_found_late() {
        let changes = |scan| u64::from(scan == 100) + u64::from(scan == 101);
        assert_eq!(scans(250, |scan| scan != 101, changes).1, []);
        // Nor is what a scan finds that was not the first to look.
        assert_eq!(scans(250, |scan| scan != 50, |scan| u64::from(scan == 50)).1, []);
    }

    #[test]
    fn they_can_be_switched_off() {
        let mut shortcuts = Shortcuts::new(0);
        shortcuts.set_used(true);
        shortcuts.begin_scan(&Snapshot::empty(&Limits::default()), Monotonic::from_ns(0));
        assert!(shortcuts.may_keep(Monotonic::from_ns(1)));
        shortcuts.set_used(false);
        assert!(!shortcuts.may_keep(Monotonic::from_ns(1)));
    }
}
