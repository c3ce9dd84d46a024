//! The name of a closed file: what was read of it, and when.

use crate::time::{Monotonic, Now};
use crate::walk::Machine;

/// Time between two reads of a name, by the machine's clock.
const HOLD_NS: i64 = 150_000_000;

/// A time by both clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Moment {
    monotonic: Monotonic,
    /// Time since the machine's boot, by its own clock.
    boot_ns: Option<i64>,
}

impl Moment {
    pub(super) fn new(now: Now, machine: &Machine) -> Self {
        Self { monotonic: now.monotonic, boot_ns: machine.boot_ns() }
    }

    /// Time since an earlier one, by the machine's clock if that is known.
    fn since(self, earlier: Self) -> i64 {
        let of_machine = self.boot_ns.zip(earlier.boot_ns);
        let by_machine = of_machine.map(|(now, then)| now.saturating_sub(then));
        by_machine.unwrap_or_else(|| self.monotonic.since(earlier.monotonic))
    }
}

/// The reads of a closed file's name.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct NameReads {
    /// When it was read last.
    pub(super) read: Option<Moment>,
    /// Whether the last two reads gave the same.
    pub(super) is_settled: bool,
    /// Whether the file has this path for certain.
    pub(super) is_certain: bool,
    /// Whether its inode was there when its descriptor had closed.
    pub(super) was_there: bool,
}

impl NameReads {
    /// Whether the name is to be read at a time, since it was not for [`HOLD_NS`].
    pub(super) fn needs_read(&self, now: Moment) -> bool {
        self.read.is_none_or(|read| now.since(read) >= HOLD_NS)
    }
}
