//! Limits the work for address spaces that many processes share.
//!
//! Thousands of processes can share one address space with thousands of areas (`CLONE_VM`), and
//! each of them has these areas.

use crate::walk::{Index, MmRow};
use panoptes_tables::{ScanNumber, room};

/// Which address spaces were compared in this scan, and how many areas may still be.
#[derive(Debug, Default)]
pub(super) struct ComparedSpaces {
    /// Last scan in which each address space was compared.
    compared_in: Box<[ScanNumber]>,
    scan: ScanNumber,
    /// Number of areas that may be compared again in this scan, for other processes.
    left: usize,
}

impl ComparedSpaces {
    /// Allocates for so many address spaces.
    pub(super) fn new(spaces: usize) -> Self {
        let compared_in = room::copies(ScanNumber::default(), spaces);
        Self { compared_in, scan: ScanNumber::default(), left: 0 }
    }

    /// Begins a scan with as many comparisons with other processes as it can have areas.
    pub(super) fn begin_scan(&mut self, areas: usize) {
        self.left = areas;
        self.scan = self.scan.next();
        if self.scan == ScanNumber::default() {
            // The numbers begin anew, and nothing was compared in this scan.
            self.compared_in.fill(ScanNumber::default());
            self.scan = self.scan.next();
        }
    }

    /// Whether the areas of an address space are compared with those of one more process. The
    /// first process of each address space is always compared.
    pub(super) fn admits(&mut self, space: Index<MmRow>, areas: usize) -> bool {
        let Some(compared_in) = self.compared_in.get_mut(space.position()) else { return false };
        if core::mem::replace(compared_in, self.scan) != self.scan {
            return true;
        }
        let left = self.left.checked_sub(areas);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(number: usize) -> Index<MmRow> {
        Index::new(number).expect("it is not the last number")
    }

    #[test]
    fn areas_that_are_compared_do_not_grow_with_the_processes_that_share_them() {
        let compared_by = |processes: usize| {
            let mut sharing = ComparedSpaces::new(10);
            (0..3).fold(0, |sum, _| {
                sharing.begin_scan(1000);
                let hog = (0..processes).filter(|_| sharing.admits(space(0), 300)).count() * 300;
                // Those that share nothing are compared all the same.
                assert!((1..10).all(|other| sharing.admits(space(other), 100)));
                sum + hog
            })
        };
        assert_eq!(compared_by(100), 3 * (300 + 900));
        assert_eq!(compared_by(100), compared_by(200));
    }

    #[test]
    fn numbers_of_scans_may_wrap() {
        let mut sharing = ComparedSpaces::new(2);
        sharing.scan = ScanNumber(u32::MAX - 1);
        for _ in 0..4 {
            sharing.begin_scan(0);
            assert!(sharing.admits(space(1), 5));
            assert!(!sharing.admits(space(1), 5));
        }
    }
}
