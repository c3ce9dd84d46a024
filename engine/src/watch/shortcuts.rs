//! Which scans may keep the rows of the scan before.
//!
//! A machine on which no task has run needs no new rows ([`Walker::scan_changes`]). The kernel's
//! own counts show that, and code inside the kernel can forge them. So at least one scan in a
//! second reads everything. What that finds on a machine that has rested by its counts is counted.
//!
//! [`Walker::scan_changes`]: crate::walk::Walker::scan_changes

use crate::time::Monotonic;
use crate::walk::Snapshot;

/// Maximum time without a scan that reads everything.
const SWEEP_NS: i64 = 1_000_000_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct Shortcuts {
    are_used: bool,
    /// When a scan read everything last.
    swept: Option<Monotonic>,
    /// Whether the last scan has kept the rows, and whether it read everything although the
    /// machine had rested since others had kept them.
    has_kept: bool,
    was_sweep: bool,
}

impl Shortcuts {
    pub(super) const fn new() -> Self {
        Self { are_used: false, swept: None, has_kept: false, was_sweep: false }
    }

    pub(super) const fn set_used(&mut self, are_used: bool) {
        self.are_used = are_used;
    }

    /// Whether a scan at this time may keep the rows.
    pub(super) fn may_keep(&self, now: Monotonic) -> bool {
        self.are_used && self.swept.is_some_and(|swept| now.since(swept) < SWEEP_NS)
    }

    /// Notes a scan. Returns whether what it finds is what scans that keep the rows had missed. A
    /// new process may be reported only by the scan after the one that found it.
    pub(super) fn note(&mut self, snapshot: &Snapshot, now: Monotonic) -> bool {
        let had_kept = core::mem::replace(&mut self.has_kept, snapshot.is_kept);
        if !snapshot.is_kept {
            self.swept = Some(now);
        }
        let is_sweep = had_kept && snapshot.has_rested && !snapshot.is_kept;
        core::mem::replace(&mut self.was_sweep, is_sweep) || is_sweep
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn one_scan_in_a_second_reads_everything() {
        let mut shortcuts = Shortcuts::new();
        shortcuts.set_used(true);
        let mut snapshot = Snapshot::empty(&Limits::default());
        snapshot.has_rested = true;
        let mut whole = Vec::new();
        for scan in 0..250 {
            let now = Monotonic::from_ns(scan * 10_000_000);
            snapshot.is_kept = shortcuts.may_keep(now);
            let finds = shortcuts.note(&snapshot, now);
            if !snapshot.is_kept || finds {
                whole.push((scan, finds));
            }
        }
        assert_eq!(whole, [(0, false), (100, true), (101, true), (200, true), (201, true)]);
    }

    #[test]
    fn they_can_be_switched_off() {
        let mut shortcuts = Shortcuts::new();
        shortcuts.set_used(true);
        shortcuts.note(&Snapshot::empty(&Limits::default()), Monotonic::from_ns(0));
        assert!(shortcuts.may_keep(Monotonic::from_ns(1)));
        shortcuts.set_used(false);
        assert!(!shortcuts.may_keep(Monotonic::from_ns(1)));
    }
}
