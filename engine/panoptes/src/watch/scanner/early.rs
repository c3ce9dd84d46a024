//! Scans before the interval is over.
//!
//! A process that lives for a millisecond ends between two scans. So a scanner that waits looks at
//! one number of each system, its kernel's count of forks. A system whose count has grown is
//! scanned early, and again while what began may still change fast: a shell is forked, calls exec,
//! and gets its connection.
//!
//! All times are nanoseconds. What early scans use comes from a stock that time refills.

use super::turns::Turn;

/// Time between two looks at the counts. A look that finds nothing costs a wakeup of the thread,
/// which takes up to 15 us on a virtual core.
const LOOK_NS: u64 = 1_000_000;
/// The same while a system is scanned early.
const LIVELY_LOOK_NS: u64 = 250_000;
/// Minimum time from the end of a scan to an early one. A scan that costs more leaves as much time
/// as it costs.
const APART_NS: u64 = 1_000_000;
/// How long a system is scanned early after its count has grown.
const LIVELY_NS: u64 = 50_000_000;
/// Early scans use at most this part of the time of a core.
const PART: u64 = 10;
/// Maximum stock.
const STOCK_NS: u64 = 20_000_000;

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

    /// Takes what an early scan has cost.
    pub(super) const fn take(&mut self, cost: u64) {
        self.left = self.left.saturating_sub(cost);
    }
}

/// The early scans of one system.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Early {
    /// When the last scan ended.
    ended: u64,
    /// Until when it is scanned early.
    lively_until: u64,
    /// Whether the scan that is due is an early one.
    is_next: bool,
}

impl Early {
    /// Whether a system may be scanned early whose scans cost this much.
    pub(super) fn may(&self, now: u64, cost: u64) -> bool {
        now.saturating_sub(self.ended) >= APART_NS.max(cost)
    }

    /// Notes whether the count of forks has grown. Returns whether to scan now.
    pub(super) fn look(&mut self, now: u64, has_grown: bool) -> bool {
        if has_grown {
            self.lively_until = now.saturating_add(LIVELY_NS);
        }
        now < self.lively_until
    }

    /// How long to wait until the next look.
    pub(super) const fn pause(&self, now: u64) -> u64 {
        if now < self.lively_until { LIVELY_LOOK_NS } else { LOOK_NS }
    }

    /// Whether the scan that is due is an early one.
    pub(super) const fn is_next(&self) -> bool {
        self.is_next
    }

    /// Makes a system due.
    pub(super) fn begin(&mut self, turn: &mut Turn, now: u64, interval: u64) {
        turn.advance(now, interval);
        self.is_next = true;
    }

    /// Notes the end of a scan. Returns whether it was an early one.
    pub(super) fn end(&mut self, now: u64) -> bool {
        self.ended = now;
        std::mem::take(&mut self.is_next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::scanner::turns::{Kind, Next, next};

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
        let mut early = Early::default();
        let mut turn = Turn::default();
        turn.scanned(0, MS, 10 * MS, false);
        assert!(!early.end(MS));
        assert!(!early.may(MS, MS) && early.may(2 * MS, MS) && !early.may(3 * MS, 3 * MS));
        assert_eq!(early.pause(3 * MS), LOOK_NS);
        assert!(!early.look(3 * MS, false));
        assert!(early.look(4 * MS, true));
        assert_eq!(early.pause(5 * MS), LIVELY_LOOK_NS);
        assert!(early.look(53 * MS, false) && !early.look(54 * MS, false));
        let due = |turn: Turn, now| next([turn].into_iter(), Kind::Quick, now, 10 * MS);
        assert_eq!(due(turn, 4 * MS), Next::Wait(10 * MS));
        early.begin(&mut turn, 4 * MS, 10 * MS);
        assert_eq!(due(turn, 4 * MS), Next::Scan(0));
        turn.scanned(4 * MS, 5 * MS, 10 * MS, false);
        assert!(early.end(5 * MS));
        // The next scan comes a whole interval later.
        assert_eq!(due(turn, 5 * MS), Next::Wait(14 * MS));
    }
}
