//! Names that sweeps see late, or not at all.

use super::sweep::{Path, Sweep};
use crate::loss::Loss;
use crate::time::Monotonic;

/// Names without a file that delay sweeps by more than this make a gap.
const LATE_NS: i64 = 10_000_000_000;
/// So many of them in one sweep: fewer are usual, and rare scans pass them slowly.
const LATE_ABSENT: u32 = 16_384;

/// How late sweeps are.
#[derive(Debug)]
pub(super) struct SweepDelay {
    loss: Loss,
    /// The folder with most names without a file, or one that is not read whole.
    folder: Path,
    /// When the last scan was.
    last: Monotonic,
    /// Time between the last two scans.
    step_ns: i64,
    /// How long names without a file have delayed sweeps since one was complete.
    delay_ns: i64,
    /// Whether the last complete sweep was late.
    was_delayed: bool,
    /// Number of lists that the last sweep did not read to their end.
    cut: u64,
}

impl SweepDelay {
    pub(super) fn new() -> Self {
        Self {
            // No process is to blame.
            loss: Loss::default(),
            folder: Path::new(),
            last: Monotonic::default(),
            step_ns: 0,
            delay_ns: 0,
            was_delayed: false,
            cut: 0,
        }
    }

    pub(super) fn begin_scan(&mut self, now: Monotonic) {
        self.loss.begin_scan();
        self.step_ns = now.since(core::mem::replace(&mut self.last, now));
    }

    /// Follows the end of a sweep.
    pub(super) fn end_sweep(&mut self, sweep: &Sweep) {
        self.cut = sweep.cut().into();
        self.was_delayed = self.is_late(sweep);
        self.delay_ns = 0;
        if self.cut > 0 {
            self.note_folder(sweep);
        }
    }

    fn is_late(&self, sweep: &Sweep) -> bool {
        self.delay_ns > LATE_NS && sweep.absent() > LATE_ABSENT
    }

    /// Counts what this scan's part of a sweep leaves.
    pub(super) fn count(&mut self, sweep: &Sweep) {
        if sweep.is_held_up() {
            self.delay_ns = self.delay_ns.saturating_add(self.step_ns);
        }
        let is_late = self.is_late(sweep);
        if is_late {
            self.note_folder(sweep);
        }
        let late = if is_late || self.was_delayed { sweep.unread().max(1) as u64 } else { 0 };
        self.loss.stand(late.max(self.cut), None);
    }

    fn note_folder(&mut self, sweep: &Sweep) {
        self.folder.clone_from(sweep.fullest());
    }

    /// The folders that are read late, or not whole, and one of them.
    pub(super) fn parts(&mut self) -> (&mut Loss, &[u8]) {
        (&mut self.loss, &self.folder)
    }
}
