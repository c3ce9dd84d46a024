//! How many births there were, by the kernel's own count, and how many of them were seen.
//!
//! The kernel counts every fork, of processes and of threads (`total_forks`, kernel/fork.c). What was born
//! and has gone between two scans is seen by none; this says how much that was.

/// Births over some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Births {
    /// How many, by the kernel's count.
    pub born: u64,
    /// How many of them a scan saw.
    pub seen: u64,
}

impl Births {
    /// How many came and went between two scans.
    pub fn unseen(&self) -> u64 {
        self.born.saturating_sub(self.seen)
    }
}

/// Counts births.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Coverage {
    last: Option<u64>,
    births: Births,
}

impl Coverage {
    /// Takes in one scan; `total` is the kernel's count as the scan began.
    pub(super) fn update(&mut self, total: Option<u64>, seen: u64) {
        let Some(total) = total else { return };
        if let Some(last) = self.last {
            // The count is the guest's word.
            self.births.born = self.births.born.saturating_add(total.saturating_sub(last));
            self.births.seen = self.births.seen.saturating_add(seen);
        }
        self.last = Some(total);
    }

    /// The births since this was last asked; nothing where the kernel's count is not known.
    pub(super) fn take(&mut self) -> Option<Births> {
        self.last?;
        let births = core::mem::take(&mut self.births);
        // Those seen that the count, read first, did not have yet: they are in the next.
        self.births.seen = births.seen.saturating_sub(births.born);
        Some(Births { born: births.born, seen: births.seen.min(births.born) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn births_that_no_scan_saw_are_counted() {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.take(), None);
        coverage.update(Some(1000), 300);
        assert_eq!(coverage.take(), Some(Births::default()), "what was there before is no birth");
        coverage.update(Some(1100), 68);
        let births = coverage.take().unwrap();
        assert_eq!(births, Births { born: 100, seen: 68 });
        assert_eq!(births.unseen(), 32);
    }

    #[test]
    fn a_count_that_swings_does_not_overflow() {
        let mut coverage = Coverage::default();
        for total in [0, u64::MAX, 0, u64::MAX, 0, 7] {
            coverage.update(Some(total), u64::MAX);
        }
        assert_eq!(coverage.take(), Some(Births { born: u64::MAX, seen: u64::MAX }));
        assert_eq!(coverage.take(), Some(Births::default()));
    }

    #[test]
    fn one_seen_before_it_is_counted_is_counted_once() {
        let mut coverage = Coverage::default();
        coverage.update(Some(10), 0);
        coverage.update(Some(10), 1);
        assert_eq!(coverage.take(), Some(Births { born: 0, seen: 0 }));
        coverage.update(Some(11), 0);
        assert_eq!(coverage.take(), Some(Births { born: 1, seen: 1 }));
    }
}
