//! What the detectors of a system had to skip, for example because a table was full: one warning
//! for each kind, at the first time.
//!
//! Not for: what scans could not read (`losses`), which can be over again.

use std::sync::atomic::{AtomicU64, Ordering};

use panoptes_engine::watch::Watched;

/// The kinds: the words of each warning before and after the number.
const KINDS: [(&str, &str); 4] = [
    ("not all shell commands are reported:", "shells or commands did not fit or could not be read"),
    (
        "changes of permissions may be missed:",
        "times a process changed more of its memory in one scan than is checked",
    ),
    (
        "reverse shells may be missed or reported late:",
        "times there were more links between shells and connections than one scan follows",
    ),
    ("", "times a reverse shell was not reported, because the list of reported ones is full"),
];

/// How much was skipped of each kind since a system was attached to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Skipped([u64; KINDS.len()]);

impl Skipped {
    /// The counts of a system that is watched.
    pub(super) fn of(watched: &Watched) -> Self {
        let shells = watched.shells_usage();
        Self([
            watched.shell_history_refused(),
            watched.permissions_refused(),
            shells.cut_short,
            shells.unreported,
        ])
    }

    /// The warnings for the kinds of which nothing was skipped `before`.
    pub(super) fn warnings_since(self, before: Self) -> impl Iterator<Item = String> {
        let counts = self.0.into_iter().zip(before.0).zip(KINDS);
        counts.filter(|((now, before), _)| *now > 0 && *before == 0).map(
            |((count, _), (subject, what))| {
                let space = if subject.is_empty() { "" } else { " " };
                format!("{subject}{space}{count} {what} (reported once)")
            },
        )
    }
}

/// Passes the counts from the scanner to the control thread.
#[derive(Debug, Default)]
pub(super) struct SkippedCounts([AtomicU64; KINDS.len()]);

impl SkippedCounts {
    /// Scanner: sets the current counts.
    pub(super) fn set(&self, skipped: Skipped) {
        for (count, value) in self.0.iter().zip(skipped.0) {
            count.store(value, Ordering::Relaxed);
        }
    }

    /// Control thread: the current counts.
    pub(super) fn get(&self) -> Skipped {
        Skipped(self.0.each_ref().map(|count| count.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_reported_once_and_never_if_its_number_is_0() {
        let counts = SkippedCounts::default();
        let mut reported = Skipped::default();
        let mut take = |values| {
            counts.set(Skipped(values));
            let before = std::mem::replace(&mut reported, counts.get());
            reported.warnings_since(before).collect::<Vec<_>>()
        };
        assert_eq!(take([0, 0, 0, 0]), [""; 0]);
        assert_eq!(
            take([0, 3, 0, 0]),
            ["changes of permissions may be missed: 3 times a process changed more of its memory \
              in one scan than is checked (reported once)"]
        );
        assert_eq!(
            take([0, 4, 0, 1]),
            ["1 times a reverse shell was not reported, because the list of reported ones is \
                 full (reported once)"]
        );
        assert_eq!(take([0, 5, 0, 2]), [""; 0]);
    }
}
