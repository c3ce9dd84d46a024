//! Detects from a machine's clock whether the machine runs.
//!
//! Nothing happens in a machine whose clock stands still. Its memory may change all the same: a
//! reset or another kernel overwrites it, and QEMU loads a saved machine into it.
//!
//! A machine that runs on while its clock stands still has a kernel that someone tampered with.

use super::run_times::{RunProgress, RunTimes};
use crate::policy::ClockTampering;
use crate::time::{Monotonic, Now};
use crate::walk::{Machine, Snapshot};

/// A machine is idle or stopped after this time without a tick: a busy machine's ticks come at
/// least every 10 ms.
const STILL_NS: i64 = 100_000_000;
/// The same if the counts of tasks in memory have changed: what wakes a processor brings the clock
/// up to date (`tick_nohz_update_jiffies`, kernel/time/tick-sched.c). So something outside has
/// changed the memory, such as a QEMU that loads a state, which takes longer than this to start.
const STILL_RUNNING_NS: i64 = 40_000_000;
/// Number of changes, beside the first value, after which a clock counts as running.
const TICKS_SEEN: u8 = 3;
/// A machine that ran without its clock has stopped if no counter has grown for this time.
const STOPPED_NS: i64 = 10_000_000_000;
/// A clock that stands still for longer, while the machine runs, was tampered with. Kernels up to
/// v5.16 wait for the one processor that keeps the time (`tick_do_timer_cpu`,
/// kernel/time/tick-sched.c), and a busy host may not run that for seconds.
const TAMPERED_NS: i64 = 5_000_000_000;
/// Minimum time between two reports.
const APART_NS: i64 = 60_000_000_000;
const _: () = {
    assert!(STILL_RUNNING_NS < STILL_NS, "what runs shows it earlier");
    assert!(STILL_NS < TAMPERED_NS && TAMPERED_NS < STOPPED_NS);
};

/// The state of a clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Motion {
    /// It goes, or nothing proves that the machine has stopped.
    Goes,
    /// It went before and stands still now.
    StandsStill,
    /// It was not seen to go often enough.
    Unproven {
        /// Whether it went forward since the last scan: anything that started since then is new.
        went_forward: bool,
    },
}

/// A machine's clock, as scans have seen it.
#[derive(Debug)]
pub(super) struct Clock {
    /// Changes with every tick.
    ticks: Option<u64>,
    /// When `ticks` changed last, or was first read.
    ticked: Option<Now>,
    /// The machine's own time, and its forks: both only grow while it runs.
    progress: (Option<i64>, Option<u64>),
    /// Number of different values seen, saturating.
    seen: u8,
    must_be_seen: bool,
    run_times: RunTimes,
    /// What was found since the clock stopped.
    standstill: Standstill,
    /// When a standstill was last reported.
    reported: Option<Monotonic>,
}

/// What scans have shown since the clock stopped.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Standstill {
    /// Number of scans in which a counter of the run times has grown, and the last of them.
    scans: u32,
    ran: Monotonic,
    /// Whether it is proven that the machine runs.
    is_proven: bool,
    /// Whether that has to be proven again, since the clock stands still for [`TAMPERED_NS`]: a
    /// machine may run for a moment, and then stop, while a busy host delays its clock.
    is_late: bool,
    /// Whether that was proven, too.
    is_tampered: bool,
    is_reported: bool,
}

impl Clock {
    /// Allocates for a number of processes. With `must_be_seen`, the clock counts as running only
    /// after it was seen to change a few times.
    pub(super) fn new(must_be_seen: bool, processes: usize) -> Self {
        Self {
            ticks: None,
            ticked: None,
            progress: (None, None),
            seen: 0,
            must_be_seen,
            run_times: RunTimes::new(processes),
            standstill: Standstill::default(),
            reported: None,
        }
    }

    /// Notes the clock before the first scan.
    pub(super) fn begin(&mut self, machine: &Machine) {
        (self.ticks, self.seen) = (machine.ticks, u8::from(machine.ticks.is_some()));
        self.progress = progress(machine);
    }

    /// Updates from a scan at the time `now`.
    pub(super) fn read(&mut self, snapshot: &Snapshot, now: Now) -> Motion {
        let machine = &snapshot.machine;
        if machine.ticks.is_none() {
            return Motion::Goes;
        }
        let has_changed = machine.ticks != self.ticks;
        if has_changed {
            self.seen = self.seen.saturating_add(1);
            (self.ticks, self.ticked) = (machine.ticks, Some(now));
            self.run_times.clear();
            self.standstill = Standstill::default();
        }
        let ticked = *self.ticked.get_or_insert(now);
        let still_ns = now.monotonic.since(ticked.monotonic);
        if still_ns > STILL_NS {
            self.watch_run_times(snapshot, still_ns, now.monotonic);
        }
        let runs = self.standstill.runs(now.monotonic);
        let before = std::mem::replace(&mut self.progress, progress(machine));
        if self.seen <= TICKS_SEEN {
            return self.unproven(before, runs);
        }
        let most_ns = if snapshot.has_run { STILL_RUNNING_NS } else { STILL_NS };
        if still_ns > most_ns && !runs { Motion::StandsStill } else { Motion::Goes }
    }

    /// The motion of a clock that was not seen to go often enough.
    fn unproven(&mut self, (time, forks): (Option<i64>, Option<u64>), runs: bool) -> Motion {
        // A clock that was never seen to go proves nothing by standing still.
        if !self.must_be_seen {
            return Motion::Goes;
        }
        let is_first = time.is_none() && forks.is_none();
        if is_first || self.progress.0 < time || self.progress.1 < forks {
            // Another state of the machine was loaded.
            self.seen = 1;
            return Motion::Unproven { went_forward: false };
        }
        if runs {
            self.must_be_seen = false;
            return Motion::Goes;
        }
        Motion::Unproven { went_forward: (time, forks) != self.progress }
    }

    /// Looks for a proof that the machine runs although its clock stands still.
    fn watch_run_times(&mut self, snapshot: &Snapshot, still_ns: i64, now: Monotonic) {
        let standstill = &mut self.standstill;
        if still_ns > TAMPERED_NS && !standstill.is_late {
            standstill.is_late = true;
            self.run_times.prove_again();
        }
        if self.run_times.compare(snapshot) {
            standstill.scans = standstill.scans.saturating_add(1);
            standstill.ran = now;
        }
        let is_proof = self.run_times.is_proof();
        standstill.is_proven |= is_proof;
        standstill.is_tampered |= is_proof && standstill.is_late;
        if standstill.is_proven && !standstill.is_tampered && !standstill.runs(now) {
            standstill.is_proven = false;
            self.run_times.prove_again();
        }
    }

    /// Whether the machine runs although its clock stands still.
    pub(super) fn is_outrun(&self, now: Monotonic) -> bool {
        self.standstill.runs(now)
    }

    /// What to report of a clock that stands still while the machine runs, if that is due.
    pub(super) fn tampering(&self, now: Monotonic) -> Option<ClockTampering> {
        let standstill = &self.standstill;
        let is_apart = self.reported.is_none_or(|reported| now.since(reported) >= APART_NS);
        if !standstill.is_tampered || standstill.is_reported || !is_apart {
            return None;
        }
        let (ticked, RunProgress { forks, processes, runtime_ns }) =
            (self.ticked?, self.run_times.progress());
        Some(ClockTampering {
            since: ticked.real,
            still_ns: now.since(ticked.monotonic),
            scans: standstill.scans,
            forks,
            processes,
            runtime_ns,
        })
    }

    /// Notes that this standstill was reported.
    pub(super) fn set_reported(&mut self, now: Monotonic) {
        (self.standstill.is_reported, self.reported) = (true, Some(now));
    }
}

impl Standstill {
    /// Whether the machine is proven to run, and has not stopped since.
    fn runs(&self, now: Monotonic) -> bool {
        self.is_proven && now.since(self.ran) <= STOPPED_NS
    }
}

/// A machine's calendar time, as scans have seen it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CalendarClock {
    is_known: bool,
    /// Its distance from the time since boot. Only setting the clock changes it: NTP lets both go
    /// faster or slower.
    boot_to_real_ns: Option<i64>,
}

impl CalendarClock {
    /// Whether somebody has set it since the last scan. A time out of all bounds is none.
    pub(super) fn was_set(&mut self, machine: &Machine) -> bool {
        let before = std::mem::replace(&mut self.boot_to_real_ns, machine.boot_to_real_ns);
        std::mem::replace(&mut self.is_known, true) && before != self.boot_to_real_ns
    }
}

fn progress(machine: &Machine) -> (Option<i64>, Option<u64>) {
    (machine.boot_ns().or(machine.calendar_ns), machine.total_forks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::state::tests::world::{FakeProcess, World};
    use crate::time::RealTime;

    const MS: i64 = 1_000_000;
    const NEVER: [i64; 0] = [];

    fn ms(ms: i64) -> Now {
        Now::at(ms * MS)
    }

    /// Scans of a machine with two processes, and its clock.
    struct Scans {
        clock: Clock,
        snapshot: Snapshot,
        ticks: u64,
        forks: u64,
        runtime_ns: [u64; 2],
        now: Now,
    }

    impl Scans {
        fn new(must_be_seen: bool) -> Self {
            Self {
                clock: Clock::new(must_be_seen, 64),
                snapshot: Snapshot::empty(&Limits::default()),
                ticks: 0,
                forks: 0,
                runtime_ns: [0; 2],
                now: ms(0),
            }
        }

        /// One whose clock was seen to go.
        fn running() -> Self {
            let mut scans = Self::new(false);
            for tick in 0..8 {
                scans.ticks = tick;
                assert_eq!(scans.scan(), Motion::Goes);
            }
            scans
        }

        /// Scans the machine ten milliseconds later.
        fn scan(&mut self) -> Motion {
            self.scan_after(10)
        }

        fn scan_after(&mut self, time_ms: i64) -> Motion {
            let world = World::default().with(FakeProcess::new(20)).with(FakeProcess::new(30));
            world.show(&mut self.snapshot);
            let machine = &mut self.snapshot.machine;
            machine.ticks = Some(self.ticks);
            machine.calendar_ns = Some(self.ticks as i64 * 4 * MS);
            (machine.boot_to_real_ns, machine.total_forks) = (Some(0), Some(self.forks));
            let rows = self.snapshot.processes.as_mut_slice();
            let last = rows.len() - 2;
            for (row, runtime_ns) in rows[last..].iter_mut().zip(self.runtime_ns) {
                row.threads_runtime_ns = runtime_ns;
            }
            self.now = self.now.after(time_ms * MS);
            self.clock.read(&self.snapshot, self.now)
        }

        fn tampering(&self) -> Option<ClockTampering> {
            self.clock.tampering(self.now.monotonic)
        }

        /// Scans for some seconds while the machine works; returns when tampering was reported.
        fn work(&mut self, seconds: i64, work: impl Fn(&mut Self)) -> Vec<i64> {
            let mut reported = Vec::new();
            for scan in 0..seconds * 100 {
                work(self);
                self.scan();
                if self.tampering().is_some() {
                    reported.push(scan * 10);
                    self.clock.set_reported(self.now.monotonic);
                }
            }
            reported
        }
    }

    #[test]
    fn a_clock_that_went_and_stops_stands_still() {
        let mut scans = Scans::running();
        assert_eq!(scans.scan_after(100), Motion::Goes);
        assert_eq!(scans.scan_after(1), Motion::StandsStill);
        scans.ticks += 1;
        assert_eq!(scans.scan(), Motion::Goes);
    }

    #[test]
    fn memory_that_changes_without_a_tick_is_of_something_outside() {
        let mut scans = Scans::running();
        assert_eq!(scans.scan_after(50), Motion::Goes);
        scans.snapshot.has_run = true;
        assert_eq!(scans.scan_after(1), Motion::StandsStill);
        scans.ticks += 1;
        assert_eq!([scans.scan(), scans.scan_after(30)], [Motion::Goes; 2]);
        scans.snapshot.has_run = false;
        assert_eq!(scans.scan_after(60), Motion::Goes);
    }

    #[test]
    fn a_clock_that_never_went_proves_nothing() {
        let mut scans = Scans::new(false);
        for _ in 0..10 {
            assert_eq!(scans.scan_after(1000), Motion::Goes);
        }
    }

    #[test]
    fn a_step_of_the_real_time_changes_nothing() {
        for step_ns in [3_600_000 * MS, -3_600_000 * MS, i64::MAX, i64::MIN] {
            let mut scans = Scans::running();
            let mut motions = Vec::new();
            for _ in 0..20 {
                let real = scans.now.real.ns().wrapping_add(step_ns);
                scans.now.real = RealTime::from_ns(real);
                motions.push(scans.scan());
            }
            let expected = [[Motion::Goes; 10], [Motion::StandsStill; 10]].concat();
            assert_eq!(motions, expected, "{step_ns}");
        }
    }

    #[test]
    fn a_clock_that_must_be_seen_is_waited_for() {
        let mut scans = Scans::new(true);
        // Memory of an earlier state is loaded over it; nothing runs yet.
        for (scan, (ticks, forks)) in
            [(9, 50), (9, 50), (9, 30), (2, 30), (2, 30)].into_iter().enumerate()
        {
            (scans.ticks, scans.forks) = (ticks, forks);
            let motion = scans.scan_after(200);
            assert_eq!(motion, Motion::Unproven { went_forward: false }, "{scan}");
        }
        // It runs: its forks show that within a tick, its clock at the next.
        let forward = Motion::Unproven { went_forward: true };
        for (ticks, expected) in [(2, forward), (3, forward), (4, forward), (5, Motion::Goes)] {
            (scans.ticks, scans.forks) = (ticks, 31);
            assert_eq!(scans.scan(), expected);
        }
        assert_eq!(scans.scan_after(170), Motion::StandsStill);
    }

    #[test]
    fn an_unknown_clock_is_not_waited_for() {
        let snapshot = Snapshot::empty(&Limits::default());
        assert_eq!(Clock::new(true, 64).read(&snapshot, ms(0)), Motion::Goes);
    }

    #[test]
    fn a_machine_that_sets_its_time_back_is_not_waited_for_longer() {
        let mut scans = Scans::new(true);
        let motions = (0..10).map(|scan| {
            let mut snapshot = Snapshot::empty(&Limits::default());
            let machine = &mut snapshot.machine;
            machine.ticks = Some(scan as u64);
            // The time since boot advances; the calendar is set back each time.
            machine.calendar_ns = Some((1000 - 10 * scan) * MS);
            machine.boot_to_real_ns = Some((1000 - 14 * scan) * MS);
            scans.clock.read(&snapshot, ms(scan * 10))
        });
        assert_eq!(motions.last(), Some(Motion::Goes));
    }

    #[test]
    fn a_machine_that_runs_without_its_clock_is_scanned_and_reported_once() {
        let mut scans = Scans::running();
        let mut skipped = 0;
        for _ in 0..100 {
            scans.runtime_ns[1] += 1000;
            skipped += u32::from(scans.scan() == Motion::StandsStill);
        }
        assert!(skipped < 10, "{skipped} scans were skipped");
        assert_eq!(scans.tampering(), None, "a busy host may delay the clock");
        let reported = scans.work(100, |scans| scans.runtime_ns[1] += 1000);
        assert_eq!(reported.len(), 1, "{reported:?}");
        assert!((4000..4200).contains(&reported[0]), "{reported:?}");
    }

    #[test]
    fn a_report_has_what_went_on() {
        let mut scans = Scans::running();
        let stopped = scans.now;
        let mut tampering = None;
        while tampering.is_none() {
            scans.runtime_ns[0] += 1000;
            scans.forks += 2;
            scans.scan();
            tampering = scans.tampering();
        }
        let ClockTampering { since, still_ns, forks, processes, runtime_ns, scans: count } =
            tampering.unwrap();
        assert_eq!(since, stopped.real);
        assert_eq!(still_ns, scans.now.monotonic.since(stopped.monotonic));
        // The first scan after 0.1 s is the base.
        assert_eq!((u64::from(count) * 2, u64::from(count) * 1000), (forks, runtime_ns));
        assert_eq!(forks, scans.forks - 2 * 11);
        assert_eq!(processes, 1);
    }

    #[test]
    fn forks_alone_show_that_a_machine_runs() {
        let mut scans = Scans::running();
        let reported = scans.work(20, |scans| {
            scans.forks +=
                u64::from(scans.now.monotonic.since(Monotonic::default()) % (MS * 500) == 0);
        });
        assert_eq!(reported.len(), 1);
    }

    #[test]
    fn a_calendar_time_was_set_if_its_distance_from_the_boot_has_changed() {
        let mut calendar = CalendarClock::default();
        let distances = [5, 5, 5, 4, 4, 0, 0, 5, 5];
        let found = distances.map(|distance| {
            let boot_to_real_ns = Some(distance).filter(|&distance| distance != 0);
            let machine = Machine { boot_to_real_ns, ..Machine::default() };
            calendar.was_set(&machine)
        });
        assert_eq!(found, [false, false, false, true, false, true, false, true, false]);
    }

    #[test]
    fn a_clock_that_never_went_is_reported_too() {
        for must_be_seen in [false, true] {
            let mut scans = Scans::new(must_be_seen);
            scans.clock.begin(&Machine { ticks: Some(0), ..Machine::default() });
            let reported = scans.work(10, |scans| scans.runtime_ns[1] += 1000);
            assert_eq!(reported.len(), 1, "{must_be_seen}");
            assert_eq!(scans.scan(), Motion::Goes);
        }
    }

    #[test]
    fn a_paused_machine_is_not_reported() {
        let mut scans = Scans::running();
        assert_eq!(scans.work(1000, |_| ()), NEVER);
        assert_eq!(scans.scan(), Motion::StandsStill);
    }

    #[test]
    fn a_machine_that_stops_later_than_its_clock_is_not_reported() {
        let mut scans = Scans::running();
        assert_eq!(scans.work(2, |scans| scans.runtime_ns[0] += 1000), NEVER);
        assert_eq!(scans.scan(), Motion::Goes);
        assert_eq!(scans.work(1000, |_| ()), NEVER);
        assert_eq!(scans.scan(), Motion::StandsStill);
        // Another state is loaded.
        (scans.runtime_ns, scans.forks) = ([50, 60], 70);
        assert_eq!(scans.scan(), Motion::StandsStill);
    }

    #[test]
    fn memory_that_is_loaded_over_a_paused_machine_proves_nothing() {
        let mut scans = Scans::running();
        scans.work(1, |_| ());
        // Each counter grows up to three times, in some order.
        for _ in 0..3 {
            for counter in 0..3 {
                match counter {
                    0 => scans.forks += 10,
                    _ => scans.runtime_ns[counter - 1] += 1_000_000,
                }
                assert_eq!(scans.scan(), Motion::StandsStill);
                assert_eq!(scans.work(5, |_| ()), NEVER);
            }
        }
    }

    #[test]
    fn a_machine_that_rests_without_its_clock_is_scanned_when_it_runs_again() {
        let mut scans = Scans::running();
        assert_eq!(scans.work(10, |scans| scans.forks += 1).len(), 1);
        assert_eq!(scans.work(60, |_| ()), NEVER);
        assert_eq!(scans.scan(), Motion::StandsStill);
        scans.forks += 1;
        assert_eq!(scans.scan(), Motion::Goes);
    }

    #[test]
    fn standstills_in_a_row_are_reported_once_a_minute() {
        let mut scans = Scans::running();
        let mut reported = 0;
        for _ in 0..20 {
            scans.ticks += 1;
            reported += scans.work(6, |scans| scans.forks += 1).len();
        }
        assert_eq!(reported, 2);
    }
}
