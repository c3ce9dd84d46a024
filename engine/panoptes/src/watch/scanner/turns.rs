//! Which system a scanner scans next, and what scans cost: pure functions of times.
//!
//! All times are nanoseconds since the program started.

/// The kind of a scanner thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::watch) enum Kind {
    /// Its systems are scanned at the configured interval.
    Quick,
    /// Its systems cost too much for that. It runs when no quick scanner needs the core, and each
    /// of its systems gets the same time.
    Slow,
}

/// A system's place in the order of a scanner.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::watch) struct Turn {
    /// When the last scan was due. Being late does not move it, so that the rate is kept.
    last: Option<u64>,
    /// The time that a slow scanner has spent on it.
    pub(in crate::watch) used: u64,
    /// The least time from scan to scan, if it is more than the interval: a scanner whose systems
    /// cost too much leaves time to others.
    pub(in crate::watch) pause: u64,
}

impl Turn {
    /// When it is due; at once before its first scan.
    pub(in crate::watch) fn due(self, interval: u64) -> u64 {
        self.last.map_or(0, |last| last.saturating_add(interval.max(self.pause)))
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
        let soonest = end.saturating_sub(interval);
        self.last = Some(if goes_on { soonest } else { due.max(soonest) });
        begin.saturating_sub(due) > interval
    }
}

/// What a scanner does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::watch) enum Next {
    /// Scan the system with this place in the list.
    Scan(usize),
    /// Wait until the next system is due.
    Wait(u64),
    /// There is no system.
    Nothing,
}

/// The next turn. A quick scanner takes the system that has waited longest; a slow one takes the
/// one that has used the least time, of those that are due.
pub(in crate::watch) fn next(
    turns: impl Iterator<Item = Turn>,
    kind: Kind,
    now: u64,
    interval: u64,
) -> Next {
    let mut best: Option<((u64, u64), usize, u64)> = None;
    for (at, turn) in turns.enumerate() {
        let due = turn.due(interval);
        let key = match kind {
            Kind::Quick => (0, due),
            // Those that are not due come after all others, by time.
            Kind::Slow if due > now => (u64::MAX, due),
            Kind::Slow => (turn.used, due),
        };
        if best.is_none_or(|(least, ..)| key < least) {
            best = Some((key, at, due));
        }
    }
    match best {
        Some((_, at, due)) if due <= now => Next::Scan(at),
        Some((.., due)) => Next::Wait(due),
        None => Next::Nothing,
    }
}

/// What the first part of a scan may cost in a slow scanner, and how often that doubles.
const SLICE_NS: u64 = 10_000_000;
const SLICE_DOUBLINGS: u32 = 4;
/// The weight of the last scan in the mean.
const SMOOTHING: u64 = 8;

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
        self.mean = if self.scans == 1 {
            whole
        } else {
            self.mean - self.mean / SMOOTHING + whole / SMOOTHING
        };
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

    fn turn(last: u64, used: u64) -> Turn {
        Turn { last: Some(last), used, pause: 0 }
    }

    #[test]
    fn a_quick_scanner_takes_the_system_that_has_waited_longest() {
        let turns = [turn(9 * MS, 0), turn(4 * MS, 9), turn(6 * MS, 0)];
        let at = |now| next(turns.into_iter(), Kind::Quick, now, INTERVAL);
        assert_eq!(at(0), Next::Wait(14 * MS));
        assert_eq!(at(14 * MS), Next::Scan(1));
        assert_eq!(at(30 * MS), Next::Scan(1));
        let new = turns.into_iter().chain([Turn::default()]);
        assert_eq!(next(new, Kind::Quick, 0, INTERVAL), Next::Scan(3));
        assert_eq!(next([].into_iter(), Kind::Quick, 0, INTERVAL), Next::Nothing);
    }

    #[test]
    fn a_slow_scanner_takes_the_system_that_used_the_least_time() {
        let turns = [turn(0, 7), turn(4 * MS, 3), turn(9 * MS, 1)];
        let at = |now| next(turns.into_iter(), Kind::Slow, now, INTERVAL);
        assert_eq!(at(9 * MS), Next::Wait(INTERVAL));
        assert_eq!(at(13 * MS), Next::Scan(0), "the others are not due");
        assert_eq!(at(14 * MS), Next::Scan(1));
        assert_eq!(at(30 * MS), Next::Scan(2));
    }

    #[test]
    fn a_late_scan_keeps_the_rate_and_lost_scans_are_not_made_up_for() {
        let mut turn = Turn::default();
        assert!(!turn.scanned(5 * MS, 6 * MS, INTERVAL, false));
        assert_eq!(turn.due(INTERVAL), 15 * MS);
        assert!(!turn.scanned(18 * MS, 19 * MS, INTERVAL, false), "it is a little late");
        assert_eq!(turn.due(INTERVAL), 25 * MS);
        assert!(turn.scanned(90 * MS, 91 * MS, INTERVAL, false));
        assert_eq!(turn.due(INTERVAL), 91 * MS);
        assert!(!turn.scanned(91 * MS, 92 * MS, INTERVAL, true));
        assert_eq!(turn.due(INTERVAL), 92 * MS, "it goes on at once");
        turn.pause = 30 * MS;
        assert_eq!(turn.due(INTERVAL), 112 * MS);
    }

    #[test]
    fn the_cost_of_a_scan_in_parts_is_their_sum() {
        let mut cost = Cost::default();
        cost.add(800, false);
        assert_eq!((cost.ns(), cost.scans), (800, 1));
        cost.add(1600, false);
        assert_eq!(cost.ns(), 900);
        for _ in 0..3 {
            cost.add(1000, true);
        }
        assert_eq!((cost.ns(), cost.scans), (3000, 2));
        assert_eq!(cost.slice(), 80 * MS);
        cost.add(1000, false);
        assert_eq!((cost.ns(), cost.scans, cost.slice()), (1288, 3, 10 * MS));
    }
}
