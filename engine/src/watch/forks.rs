//! Follows the kernel's count of forks, which only grows.
//!
//! If it is lower than before, an earlier state of the machine was restored, or somebody has set it
//! back. A restored state has an earlier clock, too, so the clock decides.

use crate::policy::SetBack;
use crate::time::{Monotonic, Now};
use crate::walk::{Machine, ScanError};

/// Number of scans with a lower count that must show a later clock than the one before, for the
/// count to be set back. While a state is loaded, each page of memory changes once or twice.
const LATER_CLOCKS_MIN: u32 = 4;
/// Maximum time by which the machine's clock may get ahead of the watcher's meanwhile.
const CLOCK_AHEAD_NS_MAX: i64 = 1_000_000_000;
/// Minimum time between two suspicions of a restore, so that a guest that writes its clock hides
/// nothing for long.
const DOUBTS_APART_NS: i64 = 60_000_000_000;

/// What the count shows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Course {
    GoesOn,
    /// It went back, and the clock does not show yet why.
    Unclear,
}

/// The count, as scans have seen it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Forks {
    count: Option<u64>,
    /// The machine's time since boot at the last scan, and when that was.
    boot_ns: Option<i64>,
    read: Monotonic,
    set_back: Option<SetBack>,
    is_proven: bool,
    is_reported: bool,
    doubt: Option<Doubt>,
}

/// The clock went back, and the count did not: either the page of the clock was loaded before that
/// of the count, or the clock was read while the kernel updated it.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    since: Monotonic,
    /// Those of the last scan.
    ticks: Option<u64>,
    /// Number of scans since then that saw a tick. A machine that is being loaded does not run.
    scans: u32,
}

impl Doubt {
    const fn is_settled(&self) -> bool {
        self.scans >= LATER_CLOCKS_MIN
    }
}

impl Forks {
    /// Updates from a scan at the time `now`; `is_outrun` if the machine's clock stands still, and
    /// its tasks do not.
    ///
    /// # Errors
    ///
    /// An earlier state of the machine was restored.
    pub(super) fn follow(
        &mut self,
        machine: &Machine,
        is_outrun: bool,
        now: Now,
    ) -> Result<Course, ScanError> {
        let course = self.course(machine, is_outrun, now)?;
        // While there is doubt, the later clock stays the one to compare with.
        if self.doubt.is_none_or(|doubt| doubt.is_settled()) {
            self.boot_ns = machine.boot_ns().or(self.boot_ns);
        }
        self.read = now.monotonic;
        Ok(course)
    }

    fn course(
        &mut self,
        machine: &Machine,
        is_outrun: bool,
        now: Now,
    ) -> Result<Course, ScanError> {
        let times = machine.boot_ns().zip(self.boot_ns);
        let forth_ns = times.map(|(now, before)| now.saturating_sub(before));
        if self.is_proven {
            // From now on the clock alone shows that a state was restored.
            let is_earlier = forth_ns.is_some_and(|ns| ns < 0);
            return if is_earlier { Err(ScanError::WentBack) } else { Ok(Course::GoesOn) };
        }
        let (Some(from), Some(to)) = (self.count, machine.total_forks) else {
            self.count = machine.total_forks.or(self.count);
            return Ok(Course::GoesOn);
        };
        if to >= from {
            let course = self.doubt_clock(forth_ns, machine.ticks, is_outrun, now.monotonic);
            if course == Course::GoesOn {
                self.count = Some(to);
            }
            return Ok(course);
        }
        let most_ns = now.monotonic.since(self.read).saturating_add(CLOCK_AHEAD_NS_MAX);
        let Some(forth_ns) = forth_ns.filter(|ns| (0..=most_ns).contains(ns)) else {
            return Err(ScanError::WentBack);
        };
        let set_back = self.set_back.get_or_insert(SetBack { since: now.real, scans: 0, from, to });
        set_back.scans += u32::from(forth_ns > 0 || is_outrun);
        self.is_proven = set_back.scans >= LATER_CLOCKS_MIN;
        Ok(if self.is_proven { Course::GoesOn } else { Course::Unclear })
    }

    /// The course of a machine whose count is no lower than before.
    fn doubt_clock(
        &mut self,
        forth_ns: Option<i64>,
        ticks: Option<u64>,
        is_outrun: bool,
        now: Monotonic,
    ) -> Course {
        if forth_ns.is_none_or(|ns| ns >= 0) {
            if let Some(doubt) = &mut self.doubt {
                doubt.scans = LATER_CLOCKS_MIN;
            }
            return Course::GoesOn;
        }
        let is_new =
            self.doubt.is_none_or(|it| it.is_settled() && now.since(it.since) >= DOUBTS_APART_NS);
        if is_new {
            self.doubt = Some(Doubt { since: now, ticks, scans: 0 });
            return Course::Unclear;
        }
        let Some(doubt) = &mut self.doubt else { return Course::GoesOn };
        let before = std::mem::replace(&mut doubt.ticks, ticks);
        doubt.scans += u32::from(ticks.is_none() || ticks != before || is_outrun);
        if doubt.is_settled() { Course::GoesOn } else { Course::Unclear }
    }

    /// What to report of a count that was set back, if that is due.
    pub(super) fn set_back(&self) -> Option<SetBack> {
        self.set_back.filter(|_| self.is_proven && !self.is_reported)
    }

    /// Notes that it was reported.
    pub(super) fn set_reported(&mut self) {
        self.is_reported = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// The results of scans ten milliseconds apart, each of a clock in milliseconds and a count.
    fn courses(scans: &[(i64, u64)]) -> (Vec<Result<Course, ScanError>>, Forks) {
        courses_of(scans, false)
    }

    fn courses_of(
        scans: &[(i64, u64)],
        is_outrun: bool,
    ) -> (Vec<Result<Course, ScanError>>, Forks) {
        let mut forks = Forks::default();
        let follow = |(at, &(clock_ms, count)): (usize, &(i64, u64))| {
            let machine = Machine {
                calendar_ns: Some(clock_ms * MS),
                boot_to_real_ns: Some(0),
                total_forks: Some(count),
                ticks: Some(clock_ms as u64),
                ..Machine::default()
            };
            forks.follow(&machine, is_outrun, Now::at(at as i64 * 10 * MS))
        };
        let courses = scans.iter().enumerate().map(follow).collect();
        (courses, forks)
    }

    /// A count that is set back beside a clock that is made to stand still is no silence.
    #[test]
    fn a_clock_that_stands_still_hides_no_count_that_was_set_back() {
        let scans = [(100, 50), (100, 40), (100, 40), (100, 41), (100, 41), (100, 41)];
        let (found, forks) = courses_of(&scans, true);
        assert_eq!(found[1..5], [UNCLEAR, UNCLEAR, UNCLEAR, ON]);
        assert!(forks.set_back().is_some());
        assert!(courses_of(&scans, false).0[1..].iter().all(|course| *course == UNCLEAR));
    }

    #[test]
    fn clocks_that_a_guest_chose_overflow_nothing() {
        let mut forks = Forks::default();
        for boot_to_real_ns in [i64::MAX, i64::MIN, i64::MAX] {
            let machine = Machine {
                calendar_ns: Some(-1),
                boot_to_real_ns: Some(boot_to_real_ns),
                total_forks: Some(1),
                ..Machine::default()
            };
            let _ = forks.follow(&machine, false, Now::at(0));
        }
    }

    const ON: Result<Course, ScanError> = Ok(Course::GoesOn);
    const UNCLEAR: Result<Course, ScanError> = Ok(Course::Unclear);
    const BACK: Result<Course, ScanError> = Err(ScanError::WentBack);

    #[test]
    fn a_lower_count_under_a_clock_that_goes_on_was_set_back() {
        let scans = [(10, 900), (20, 5), (30, 5), (30, 6), (40, 7), (50, 5), (60, 5), (70, 9)];
        let (found, mut forks) = courses(&scans);
        assert_eq!(found, [ON, UNCLEAR, UNCLEAR, UNCLEAR, UNCLEAR, ON, ON, ON]);
        let set_back = forks.set_back().map(|it| (it.from, it.to, it.scans));
        assert_eq!(set_back, Some((900, 5, 4)));
        forks.set_reported();
        assert_eq!(forks.set_back(), None);
    }

    #[test]
    fn a_count_that_is_set_back_and_forth_gives_no_cover() {
        let scans =
            [(10, 900), (20, 5), (30, 900), (40, 5), (50, 901), (60, 5), (70, 902), (80, 5)];
        let expected = [ON, UNCLEAR, ON, UNCLEAR, ON, UNCLEAR, ON, ON];
        assert_eq!(courses(&scans).0, expected);
    }

    #[test]
    fn a_restored_state_has_an_earlier_clock() {
        assert_eq!(courses(&[(1000, 900), (500, 800)]).0, [ON, BACK]);
        // The clock's page is loaded later than the count's.
        let scans = [(1000, 900), (1005, 800), (1005, 800), (1005, 800), (500, 800)];
        let (found, forks) = courses(&scans);
        assert_eq!(found, [ON, UNCLEAR, UNCLEAR, UNCLEAR, BACK]);
        assert_eq!(forks.set_back(), None);
        // A state that was saved later, in another course of events.
        assert_eq!(courses(&[(1000, 900), (9000, 800)]).0, [ON, BACK]);
    }

    #[test]
    fn a_state_whose_clock_is_loaded_first_is_not_used() {
        let mut scans = vec![(1000, 900), (1000, 900)];
        // The page of the count is still that of the machine that was overwritten.
        scans.extend([(500, 900); 50]);
        scans.extend([(500, 800), (504, 800)]);
        let (found, forks) = courses(&scans);
        assert_eq!(found[..2], [ON; 2]);
        assert_eq!(found[2..52], [UNCLEAR; 50]);
        assert_eq!(found[52..], [BACK; 2]);
        assert_eq!(forks.set_back(), None);
    }

    #[test]
    fn a_machine_that_runs_on_with_an_earlier_clock_and_no_lower_count_is_compared() {
        // Read in the middle of an update: a second early, or a second late.
        let early = [(1000, 9), (10, 9), (1020, 9), (1030, 9), (1020, 9)];
        assert_eq!(courses(&early).0, [ON, UNCLEAR, ON, ON, ON]);
        let late = [(1000, 9), (2010, 9), (1020, 9), (1030, 9), (1040, 9), (1050, 9), (1060, 9)];
        assert_eq!(courses(&late).0, [ON, ON, UNCLEAR, UNCLEAR, UNCLEAR, UNCLEAR, ON]);
    }

    #[test]
    fn a_clock_that_is_set_back_again_and_again_gives_no_cover() {
        let scans: Vec<_> = (0..6000_u32).map(|scan| (i64::from(1_000_000 - scan), 9)).collect();
        let (found, _) = courses(&scans);
        let unclear = found.iter().filter(|course| **course == UNCLEAR).count();
        // A minute of scans 10 ms apart.
        assert_eq!(unclear, LATER_CLOCKS_MIN as usize);
    }

    #[test]
    fn a_state_that_is_restored_later_has_an_earlier_clock_too() {
        let scans = [(10, 900), (20, 5), (30, 5), (40, 5), (50, 5), (60, 5), (40, 5)];
        assert_eq!(courses(&scans).0.last(), Some(&BACK));
    }
}
