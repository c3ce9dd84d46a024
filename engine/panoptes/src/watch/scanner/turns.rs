//! Which system a scanner scans next, and what scans cost: pure functions of times.
//!
//! All times are nanoseconds since the program started.

/// The kind of a scanner thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::watch) enum ScannerKind {
    /// Its systems are scanned at the configured interval.
    Quick,
    /// Its systems cost too much for that. It runs when no quick scanner needs the core, and each
    /// of its systems gets the same time.
    Slow,
}

/// A system's place in the order of a scanner.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::watch) struct ScannerTurn {
    /// When the last scan was due. Being late does not move it, so that the rate is kept.
    last: Option<u64>,
    /// When an early scan is due, if one is.
    early: Option<u64>,
    /// The time that a slow scanner has spent on it.
    pub(in crate::watch) used: u64,
    /// The least time from scan to scan, if it is more than the interval: a system whose scans cost
    /// more than its share is scanned less often.
    pub(in crate::watch) pause: u64,
}

/// The least time from scan to scan of a system whose scans cost this much, so that it uses no more
/// than `share` of each interval.
pub(in crate::watch) fn pause(cost: u64, share: u64, interval: u64) -> u64 {
    /// One scan may have waited for long.
    const MOST: u64 = 1_000_000_000;
    let pause = u128::from(cost) * u128::from(interval) / u128::from(share.max(1));
    u64::try_from(pause).unwrap_or(MOST).min(MOST)
}

impl ScannerTurn {
    /// When it is due; at once before its first scan.
    pub(in crate::watch) fn due(self, interval: u64) -> u64 {
        let due = self.last.map_or(0, |last| last.saturating_add(interval.max(self.pause)));
        self.early.map_or(due, |early| early.min(due))
    }

    /// Makes it due now, for an early scan.
    pub(in crate::watch) const fn advance(&mut self, now: u64) {
        self.early = Some(now);
    }

    /// Whether the scan that is due is an early one.
    pub(in crate::watch) const fn is_early(&self) -> bool {
        self.early.is_some()
    }

    /// How late it is, as a part of its own time from scan to scan, in millionths; 0 before it is
    /// due.
    fn lateness(self, now: u64, interval: u64) -> u64 {
        let period = u128::from(interval.max(self.pause).max(1));
        let late = u128::from(now.saturating_sub(self.due(interval)));
        u64::try_from(late * 1_000_000 / period).unwrap_or(u64::MAX)
    }

    /// Notes a scan from `begin` to `end`. Returns whether it began so late that another one should
    /// have begun meanwhile. If it `goes_on`, it is due again at once.
    pub(in crate::watch) fn scanned(
        &mut self,
        begin: u64,
        end: u64,
        interval: u64,
        goes_on: bool,
    ) -> bool {
        let due = if self.last.is_some() { self.due(interval) } else { begin };
        self.early = None;
        let now = end.saturating_sub(interval);
        // The pause counts from the beginning of a scan, so one that took longer is due at once.
        let soonest = end.saturating_sub(interval.max(self.pause));
        self.last = Some(if goes_on { now } else { due.max(soonest) });
        begin.saturating_sub(due) > interval
    }
}

/// What a scanner does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::watch) enum ScannerStep {
    /// Scan the system with this place in the list.
    Scan(usize),
    /// Wait until the next system is due.
    Wait(u64),
    /// There is no system.
    Nothing,
}

/// The next turn, of those that are due. A quick scanner takes the system that is late by the
/// largest part of its own time from scan to scan; a slow one takes the one that has used the least
/// time.
pub(in crate::watch) fn next(
    turns: impl Iterator<Item = ScannerTurn>,
    kind: ScannerKind,
    now: u64,
    interval: u64,
) -> ScannerStep {
    let mut best: Option<((u64, u64), usize, u64)> = None;
    for (at, turn) in turns.enumerate() {
        let due = turn.due(interval);
        let key = match kind {
            // Those that are not due come after all others, by time.
            _ if due > now => (u64::MAX, due),
            ScannerKind::Quick => (u64::MAX - 1 - turn.lateness(now, interval), due),
            ScannerKind::Slow => (turn.used, due),
        };
        if best.is_none_or(|(least, ..)| key < least) {
            best = Some((key, at, due));
        }
    }
    match best {
        Some((_, at, due)) if due <= now => ScannerStep::Scan(at),
        Some((.., due)) => ScannerStep::Wait(due),
        None => ScannerStep::Nothing,
    }
}

/// What the first part of a scan may cost in a slow scanner, and how often that doubles.
const SLICE_NS: u64 = 10_000_000;
const SLICE_DOUBLINGS: u32 = 4;
/// The weight of the last scan in the mean.
const SMOOTHING: u64 = 8;

/// A second scan within this time, or within so many times the time from scan to scan, that costs
/// more than its share shows that the system does; a single one may have been delayed by the host.
const OVERRUNS_NS: u64 = 1_000_000_000;
const OVERRUNS_SCANS: u64 = 4;

/// What a scan of a system costs.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::watch) struct Cost {
    mean: u64,
    /// The cost so far of a scan that ends early again and again.
    unfinished: u64,
    /// How often it has ended early.
    parts: u32,
    /// Number of scans that were finished.
    pub(in crate::watch) scans: u64,
    /// When a scan cost more than its share last.
    overran: Option<u64>,
}

impl Cost {
    pub(in crate::watch) fn add(&mut self, cost: u64, is_partial: bool) {
        self.unfinished = self.unfinished.saturating_add(cost);
        self.parts += u32::from(is_partial);
        if is_partial {
            return;
        }
        self.parts = 0;
        let whole = std::mem::take(&mut self.unfinished);
        self.scans += 1;
        // The first scan finds everything new, so it does not count as soon as there is another.
        let weight = (self.scans - 1).clamp(1, SMOOTHING);
        self.mean = self.mean - self.mean / weight + whole / weight;
    }

    /// Notes that a scan cost more than its share; returns whether that happens again and again.
    /// `period` is the time from scan to scan.
    pub(in crate::watch) fn overran(&mut self, now: u64, period: u64) -> bool {
        let most = OVERRUNS_NS.max(period.saturating_mul(OVERRUNS_SCANS));
        let last = self.overran.replace(now);
        last.is_some_and(|last| now.saturating_sub(last) <= most)
    }

    /// What the next part of a scan may cost in a slow scanner while other systems wait there. It
    /// doubles with each part: a part repeats some work, and has to make progress.
    pub(in crate::watch) fn slice(self) -> u64 {
        SLICE_NS << self.parts.min(SLICE_DOUBLINGS)
    }

    /// Nanoseconds of a whole scan, as far as it is known.
    pub(in crate::watch) fn ns(self) -> u64 {
        self.mean.max(self.unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const INTERVAL: u64 = 10 * MS;

    fn turn(last: u64, used: u64) -> ScannerTurn {
        ScannerTurn { last: Some(last), used, ..ScannerTurn::default() }
    }

    #[test]
    fn a_quick_scanner_takes_the_system_that_has_waited_longest() {
        let turns = [turn(9 * MS, 0), turn(4 * MS, 9), turn(6 * MS, 0)];
        let at = |now| next(turns.into_iter(), ScannerKind::Quick, now, INTERVAL);
        assert_eq!(at(0), ScannerStep::Wait(14 * MS));
        assert_eq!(at(14 * MS), ScannerStep::Scan(1));
        assert_eq!(at(30 * MS), ScannerStep::Scan(1));
        let rare = ScannerTurn { pause: 2 * INTERVAL, ..turn(0, 0) };
        let with_rare = turns.into_iter().chain([rare]);
        assert_eq!(next(with_rare, ScannerKind::Quick, 30 * MS, INTERVAL), ScannerStep::Scan(1));
        // One is late by 3 of 10 ms, the other one by 8 of 20.
        let two = || [turn(15 * MS, 0), rare].into_iter();
        assert_eq!(next(two(), ScannerKind::Quick, 28 * MS, INTERVAL), ScannerStep::Scan(1));
        assert_eq!(next(two(), ScannerKind::Quick, 36 * MS, INTERVAL), ScannerStep::Scan(0));
        let new = turns.into_iter().chain([ScannerTurn::default()]);
        assert_eq!(next(new, ScannerKind::Quick, 0, INTERVAL), ScannerStep::Scan(3));
        assert_eq!(next([].into_iter(), ScannerKind::Quick, 0, INTERVAL), ScannerStep::Nothing);
    }

    #[test]
    fn who_costs_more_than_its_share_is_scanned_less_often() {
        let of = |cost, share| pause(cost, share, INTERVAL);
        assert_eq!(of(3 * MS, 2 * MS), 15 * MS);
        assert_eq!(of(MS, 2 * MS), 5 * MS, "that is less than the interval");
        assert_eq!(of(MS, u64::MAX), 0);
        assert_eq!((of(MS, 0), of(u64::MAX, 1)), (1000 * MS, 1000 * MS));
    }

    #[test]
    fn a_second_overrun_counts_soon_after_the_first() {
        let overruns = |times: [u64; 3], period: u64| {
            let mut cost = Cost::default();
            times.map(|now| cost.overran(now * MS, period * MS))
        };
        assert_eq!(overruns([0, 900, 2000], 10), [false, true, false]);
        assert_eq!(overruns([0, 2100, 4200], 2000), [false, true, true]);
    }

    #[test]
    fn a_longer_pause_counts_once() {
        let mut turn = turn(90 * MS, 0);
        assert!(!turn.scanned(100 * MS, 101 * MS, INTERVAL, false));
        turn.pause = 100 * MS;
        assert_eq!(turn.due(INTERVAL), 200 * MS);
    }

    #[test]
    fn a_slow_scanner_takes_the_system_that_used_the_least_time() {
        let turns = [turn(0, 7), turn(4 * MS, 3), turn(9 * MS, 1)];
        let at = |now| next(turns.into_iter(), ScannerKind::Slow, now, INTERVAL);
        assert_eq!(at(9 * MS), ScannerStep::Wait(INTERVAL));
        assert_eq!(at(13 * MS), ScannerStep::Scan(0), "the others are not due");
        assert_eq!(at(14 * MS), ScannerStep::Scan(1));
        assert_eq!(at(30 * MS), ScannerStep::Scan(2));
    }

    #[test]
    fn a_late_scan_keeps_the_rate_and_lost_scans_are_not_made_up_for() {
        let mut turn = ScannerTurn::default();
        assert!(!turn.scanned(5 * MS, 6 * MS, INTERVAL, false));
        assert_eq!(turn.due(INTERVAL), 15 * MS);
        assert!(!turn.scanned(18 * MS, 19 * MS, INTERVAL, false), "it is a little late");
        assert_eq!(turn.due(INTERVAL), 25 * MS);
        assert!(turn.scanned(90 * MS, 91 * MS, INTERVAL, false));
        assert_eq!(turn.due(INTERVAL), 91 * MS);
        assert!(!turn.scanned(91 * MS, 92 * MS, INTERVAL, true));
        assert_eq!(turn.due(INTERVAL), 92 * MS, "it continues at once");
        turn.pause = 30 * MS;
        assert_eq!(turn.due(INTERVAL), 112 * MS);
    }

    #[test]
    fn the_cost_of_a_scan_in_parts_is_their_sum() {
        let mut cost = Cost::default();
        cost.add(800, false);
        assert_eq!((cost.ns(), cost.scans), (800, 1));
        for _ in 0..3 {
            cost.add(1000, true);
        }
        assert_eq!((cost.ns(), cost.scans), (3000, 1));
        assert_eq!(cost.slice(), 80 * MS);
        cost.add(1000, false);
        assert_eq!((cost.ns(), cost.scans, cost.slice()), (4000, 2, 10 * MS));
    }

    #[test]
    fn the_first_scan_soon_counts_no_more() {
        let mut cost = Cost::default();
        for (scan, mean) in [(9000, 9000), (1000, 1000), (2000, 1500), (1500, 1500)] {
            cost.add(scan, false);
            assert_eq!(cost.ns(), mean);
        }
        for _ in 0..SMOOTHING {
            cost.add(1500, false);
        }
        cost.add(1500 + 80 * SMOOTHING, false);
        assert!(cost.ns().abs_diff(1580) < 10, "{}", cost.ns());
    }
}
