//! Scans that come before the interval is over.
//!
//! In many places a number of scans stands for a time: something is hidden only if two scans in a
//! row lack it. Scans that follow each other at once would count as such a time, too. So an early
//! scan counts only if the last one that counted is most of an interval ago.

use crate::time::Monotonic;

/// The part of an interval after which an early scan counts.
const PART: (u64, u64) = (4, 5);

/// Decides which scans count.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct EarlyScanFilter {
    /// Whether the next scan is an early one.
    is_next: bool,
    /// When the last scan began that counts.
    counted: Option<Monotonic>,
}

impl EarlyScanFilter {
    pub(super) const fn set_next(&mut self, is_early: bool) {
        self.is_next = is_early;
    }

    /// Whether the next scan is an early one.
    pub(super) const fn is_next(&self) -> bool {
        self.is_next
    }

    /// Notes that a scan begins. Returns whether it is one that does not count.
    pub(super) fn begin_scan(&mut self, now: Monotonic, interval_ns: u64) -> bool {
        let least = i64::try_from(interval_ns / PART.1 * PART.0).unwrap_or(i64::MAX);
        let is_early = std::mem::take(&mut self.is_next)
            && self.counted.is_some_and(|counted| now.since(counted) < least);
        if !is_early {
            self.counted = Some(now);
        }
        is_early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_scans_count_once_in_an_interval() {
        const MS: i64 = 1_000_000;
        let mut early = EarlyScanFilter::default();
        let mut counted = Vec::new();
        for (ms, is_early) in [
            (0, true),
            (2, true),
            (10, false),
            (11, true),
            (17, true),
            (18, true),
            (20, true),
            (28, false),
        ] {
            early.set_next(is_early);
            if !early.begin_scan(Monotonic::from_ns(ms * MS), 10 * MS as u64) {
                counted.push(ms);
            }
        }
        assert_eq!(counted, [0, 10, 18, 28]);
    }
}
