//! One scan while it is compared with the state, and the way that its changes take.

use core::cell::Cell;

use super::change::{Change, Changes, ScanContext};
use super::container::Containers;
use super::file_names::FileNames;
use crate::time::Now;
use crate::walk::Snapshot;

/// A scan and what it proves.
pub(super) struct Update<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Time of the scan.
    pub(super) now: Now,
    /// Number of consecutive scans from which an object must be absent to have ended, as of this
    /// scan. `None` if absence from it proves nothing.
    pub(super) absent_scans_max: Option<u32>,
    /// Whether all that is new belongs to the baseline, except later arrivals.
    pub(super) quiet: bool,
    pub(super) must_stop: &'a dyn Fn() -> bool,
    pub(super) out: &'a mut dyn Changes,
}

impl Update<'_> {
    /// Whether the comparison must end.
    pub(super) fn must_stop(&self) -> bool {
        (self.must_stop)()
    }

    /// Borrows what changes refer to, and leaves the other parts of the state free.
    pub(super) fn emitter<'b>(
        &'b mut self,
        containers: &'b Containers,
        names: &'b mut FileNames,
    ) -> Emitter<'b> {
        let Self { snapshot, now, must_stop, .. } = *self;
        let (rows_left, stopped) = (Cell::new(ROWS_A_QUESTION), Cell::new(false));
        Emitter {
            snapshot,
            containers,
            names,
            now,
            must_stop,
            rows_left,
            stopped,
            is_silent: false,
            out: self.out,
        }
    }
}

/// Everything needed to report a change.
pub(super) struct Emitter<'a> {
    pub(super) snapshot: &'a Snapshot,
    containers: &'a Containers,
    pub(super) names: &'a mut FileNames,
    pub(super) now: Now,
    must_stop: &'a dyn Fn() -> bool,
    /// Number of rows until the next question.
    rows_left: Cell<u32>,
    /// Whether an answer was that the comparison must end.
    stopped: Cell<bool>,
    /// Whether changes are left out, because everything present will be reported later.
    pub(super) is_silent: bool,
    out: &'a mut dyn Changes,
}

/// Number of rows that are compared from one question whether to stop to the next.
pub(super) const ROWS_A_QUESTION: u32 = 256;

impl Emitter<'_> {
    /// Asks whether the comparison must end; not again after a yes.
    pub(super) fn must_stop(&self) -> bool {
        if !self.stopped.get() && (self.must_stop)() {
            self.stopped.set(true);
            self.rows_left.set(0);
        }
        self.stopped.get()
    }

    /// Whether an answer was yes: what follows would be compared with a part of the rows.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Counts one more row; `false` if the comparison must end before it. Asks about that only once
    /// for many rows, and then for each.
    #[inline]
    pub(super) fn goes_on(&mut self) -> bool {
        if let Some(left) = self.rows_left.get().checked_sub(1) {
            self.rows_left.set(left);
            return true;
        }
        self.begins_more_rows()
    }

    #[cold]
    fn begins_more_rows(&mut self) -> bool {
        let goes_on = !self.must_stop();
        self.rows_left.set(if goes_on { ROWS_A_QUESTION } else { 0 });
        goes_on
    }

    pub(super) fn emit(&mut self, change: &Change<'_>) {
        self.emit_named(|_| *change);
    }

    /// Reports a change that borrows names.
    pub(super) fn emit_named<'b>(&'b mut self, change: impl FnOnce(&'b FileNames) -> Change<'b>) {
        if self.is_silent {
            return;
        }
        let names = &*self.names;
        let context = ScanContext {
            snapshot: self.snapshot,
            containers: self.containers,
            strings: &names.strings,
            now: self.now,
        };
        self.out.change(&context, &change(names));
    }
}
