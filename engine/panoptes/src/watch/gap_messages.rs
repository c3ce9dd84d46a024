//! Messages about what the scans of a system miss: one when a gap begins, one when it is over.
//!
//! The engine decides what is a gap, and reports it as a record (`policy::gaps`).

use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_engine::policy::gaps::{GAPS_MAX, words_of};

/// How much was missed since each gap began; 0 if there is no gap. The scanner sets it, the control
/// thread reads it.
#[derive(Debug, Default)]
pub(super) struct GapCounts([AtomicU64; GAPS_MAX]);

impl GapCounts {
    /// Scanner: sets the current counts.
    pub(super) fn set(&self, counts: [u64; GAPS_MAX]) {
        for (place, count) in self.0.iter().zip(counts) {
            place.store(count, Ordering::Relaxed);
        }
    }
}

/// The gaps of which a message was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LoggedGaps([bool; GAPS_MAX]);

/// A message about a gap.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum GapMessage {
    Begins(String),
    IsOver(String),
}

impl LoggedGaps {
    /// Control thread: the messages about what changed since the last call.
    pub(super) fn update(&mut self, counts: &GapCounts) -> impl Iterator<Item = GapMessage> {
        let gaps = self.0.iter_mut().zip(&counts.0).enumerate();
        gaps.filter_map(|(gap, (is_logged, count))| {
            let count = count.load(Ordering::Relaxed);
            let was_logged = std::mem::replace(is_logged, count > 0);
            let words = words_of(gap);
            match (was_logged, count > 0) {
                (false, true) => Some(GapMessage::Begins(format!("{count} {words}"))),
                (true, false) => Some(GapMessage::IsOver(format!("over: {words}"))),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gap_is_reported_when_it_begins_and_when_it_is_over() {
        let (counts, mut logged) = (GapCounts::default(), LoggedGaps::default());
        let mut update = |first, last| {
            let mut all = [0; GAPS_MAX];
            (all[0], all[GAPS_MAX - 1]) = (first, last);
            counts.set(all);
            logged.update(&counts).collect::<Vec<_>>()
        };
        let begins = |count, gap| GapMessage::Begins(format!("{count} {}", words_of(gap)));
        let is_over = |gap| GapMessage::IsOver(format!("over: {}", words_of(gap)));
        assert_eq!(update(0, 0), []);
        assert_eq!(update(0, 3), [begins(3, GAPS_MAX - 1)]);
        assert_eq!(update(2, 4), [begins(2, 0)]);
        assert_eq!(update(0, 0), [is_over(0), is_over(GAPS_MAX - 1)]);
        assert_eq!(update(0, 1), [begins(1, GAPS_MAX - 1)]);
    }
}
