//! Scans before the interval is over.
//!
//! A process that lives for a millisecond ends between two scans. So a scanner that waits looks at
//! one number of each system, its kernel's count of forks. A system whose count has grown is
//! scanned early, and again while what began may still change fast: a shell is forked, calls exec,
//! and gets its connection. Such scans leave what processes have that have not run
//! ([`Snapshot::is_light`]), so they cost less than others. A system whose findings wait for what
//! was left is scanned early, too, and whole.
//!
//! All times are nanoseconds. What early scans use comes from a stock that time refills.
//!
//! [`Snapshot::is_light`]: panoptes_engine::walk::Snapshot::is_light

use super::turns::Cost;

/// There are no early scans if the interval is longer: such an interval is there to save time.
pub(super) const INTERVAL_MAX_NS: u64 = 100_000_000;
/// Time between two looks at the count of a system. A look that finds nothing costs a wakeup of the
/// thread, which takes up to 15 us on a virtual core.
const POLL_INTERVAL_NS: u64 = 1_000_000;
/// The same while a system is scanned early.
const LIVELY_POLL_INTERVAL_NS: u64 = 250_000;
/// A look takes at most this part of the time until the next one: memory may answer slowly.
const LOOK_PART: u64 = 100;
/// Minimum time from the end of a scan to an early one. A scan that costs more leaves as much time
/// as it costs.
const APART_NS: u64 = 1_000_000;
/// The same just after the count has grown, and while the stock is plenty.
const CLOSE_APART_NS: u64 = 250_000;
/// How long that is.
const FRESH_NS: u64 = 5_000_000;
/// How long a system is scanned early after its count has grown.
const LIVELY_NS: u64 = 50_000_000;
/// Looks and early scans use at most this part of the time of a core.
const PART: u64 = 10;
/// Maximum stock.
const STOCK_NS: u64 = 20_000_000;
/// A stock is plenty if it has more than this: after a pause, what begins may take some time.
const PLENTY_NS: u64 = STOCK_NS / 2;

/// What a scanner may still use for early scans.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stock {
    left: u64,
    filled: u64,
}

impl Stock {
    /// Refills it for the time since the last call; returns what there is.
    pub(super) fn fill(&mut self, now: u64) -> u64 {
        let since = now.saturating_sub(self.filled);
        self.filled = now;
        self.left = self.left.saturating_add(since / PART).min(STOCK_NS);
        self.left
    }

    /// What there is.
    pub(super) const fn left(self) -> u64 {
        self.left
    }

    /// Whether early scans may come close together, whatever began.
    pub(super) const fn is_plenty(self) -> bool {
        self.left > PLENTY_NS
    }

    /// Takes what a look or an early scan has cost.
    pub(super) const fn take(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(cost);
    }
}

/// The early scans of one system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EarlyScans {
    /// When the last scan ended.
    ended: u64,
    /// What early scans of it cost.
    pub(super) cost: Cost,
    /// When its count was seen to have grown.
    grew: Option<u64>,
    /// When to look at its count again.
    look_at: u64,
}

impl EarlyScans {
    /// What an early scan costs. Until there was one, it may cost as much as others.
    pub(super) fn cost_ns(&self, others: u64) -> u64 {
        if self.cost.scans == 0 { others } else { self.cost.ns() }
    }

    /// Whether a system may be scanned early whose early scans cost this much.
    pub(super) fn may(&self, now: u64, cost: u64, stock: Stock) -> bool {
        let is_close = stock.is_plenty() || self.has_grown_within(FRESH_NS, now);
        let apart = if is_close { CLOSE_APART_NS } else { APART_NS };
        now.saturating_sub(self.ended) >= apart.max(cost)
    }

    fn has_grown_within(&self, time: u64, now: u64) -> bool {
        self.grew.is_some_and(|grew| now.saturating_sub(grew) < time)
    }

    /// Whether to look at its count.
    pub(super) const fn is_due(&self, now: u64) -> bool {
        now >= self.look_at
    }

    /// Notes a look that took so long, and whether the count has grown.
    pub(super) fn looked(&mut self, now: u64, took: u64, has_grown: bool) {
        if has_grown {
            self.grew = Some(now);
        }
        let pause = if self.is_lively(now) { LIVELY_POLL_INTERVAL_NS } else { POLL_INTERVAL_NS };
        self.look_at = now.saturating_add(pause.max(took.saturating_mul(LOOK_PART)));
    }

    /// Whether it is scanned early at present.
    pub(super) fn is_lively(&self, now: u64) -> bool {
        self.has_grown_within(LIVELY_NS, now)
    }

    /// How long to wait until something is to be done for it.
    pub(super) fn pause(&self, now: u64) -> u64 {
        let pause = if self.is_lively(now) { 0 } else { self.look_at.saturating_sub(now) };
        pause.max(LIVELY_POLL_INTERVAL_NS)
    }

    /// Notes the end of a scan.
    pub(super) const fn end(&mut self, now: u64) {
        self.ended = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::scanner::turns::{ScannerKind, ScannerStep, ScannerTurn, next};

    const MS: u64 = 1_000_000;

    #[test]
    fn early_scans_use_no_more_than_their_part() {
        let mut stock = Stock::default();
        let mut used = 0;
        for now in (0..1000 * MS).step_by(MS as usize / 4) {
            if stock.fill(now) >= MS {
                stock.take(MS);
                used += MS;
            }
        }
        assert!((95 * MS..=100 * MS).contains(&used), "{used}");
        assert_eq!(stock.fill(100_000 * MS), STOCK_NS);
    }

    #[test]
    fn a_system_is_scanned_early_for_a_while_after_a_fork() {
        for interval in [10 * MS, 1_000_000 * MS] {
            let mut early = EarlyScans::default();
            let mut turn = ScannerTurn::default();
            turn.scanned(0, MS, interval, false);
            assert!(!turn.is_early());
            early.end(MS);
            let may = |now, cost| early.may(now, cost, Stock::default());
            assert!(!may(MS, MS) && may(2 * MS, MS) && !may(3 * MS, 3 * MS));
            assert!(early.is_due(3 * MS));
            early.looked(3 * MS, 1000, false);
            assert!(!early.is_lively(3 * MS) && !early.is_due(3 * MS));
            assert_eq!(early.pause(3 * MS), POLL_INTERVAL_NS);
            early.looked(4 * MS, 1000, true);
            assert_eq!(early.pause(5 * MS), LIVELY_POLL_INTERVAL_NS);
            assert!(early.is_lively(53 * MS) && !early.is_lively(54 * MS));
            let due = |turn: ScannerTurn, now| {
                next([turn].into_iter(), ScannerKind::Quick, now, interval)
            };
            assert_eq!(due(turn, 4 * MS), ScannerStep::Wait(interval));
            turn.advance(4 * MS);
            assert_eq!(due(turn, 4 * MS), ScannerStep::Scan(0));
            assert!(turn.is_early());
            turn.scanned(4 * MS, 5 * MS, interval, false);
            assert!(!turn.is_early());
            // The next scan comes a whole interval later.
            assert_eq!(due(turn, 5 * MS), ScannerStep::Wait(4 * MS + interval));
        }
    }

    #[test]
    fn early_scans_come_close_together_just_after_a_fork() {
        let mut early = EarlyScans::default();
        let cost = MS / 10;
        early.looked(0, 1000, true);
        for (ended, apart) in [(0, MS / 4), (4 * MS, MS / 4), (6 * MS, MS), (60 * MS, MS)] {
            early.end(ended);
            let may = |after, cost| early.may(ended + after, cost, Stock::default());
            assert!(!may(apart - 1, cost) && may(apart, cost), "{ended}");
            // One that costs more leaves as much time.
            assert!(!may(3 * MS - 1, 3 * MS), "{ended}");
        }
    }

    #[test]
    fn early_scans_come_close_together_while_there_is_plenty() {
        let (mut early, mut stock) = (EarlyScans::default(), Stock::default());
        early.end(0);
        stock.fill(100 * MS);
        assert!(!early.may(MS / 4, MS / 10, stock), "it has half of what it may have");
        stock.fill(101 * MS);
        assert!(early.may(MS / 4, MS / 10, stock) && !early.may(MS / 4 - 1, MS / 10, stock));
        assert!(!early.may(MS, 2 * MS, stock), "it costs more");
    }

    #[test]
    fn early_scans_have_a_cost_of_their_own() {
        let mut early = EarlyScans::default();
        assert_eq!(early.cost_ns(2 * MS), 2 * MS);
        early.cost.add(MS / 2, false);
        assert_eq!(early.cost_ns(2 * MS), MS / 2);
    }

    #[test]
    fn memory_that_answers_slowly_is_looked_at_rarely() {
        let mut early = EarlyScans::default();
        early.looked(0, 2 * MS, true);
        assert!(!early.is_due(199 * MS) && early.is_due(200 * MS));
    }
}
