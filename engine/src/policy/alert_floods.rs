//! Floods of alerts: of one process and kind, the first in each minute are reported in full.
//! Further ones are counted, and one record gives their number.
//!
//! The first alerts of a process are never dropped for those of another. A process is counted from
//! its first alert on; in a full table, alerts of further processes are all reported.

use panoptes_sinks::activities::Activity;
use panoptes_tables::{HashKey, Row, RowId, Scan, Table};

use crate::limits::Limits;
use crate::state::process::ProcessKey;
use crate::time::Monotonic;

/// The alerts that one process can cause in any number.
const ACTIVITIES: [Activity; 10] = [
    Activity::ForeignBinaryExecuted,
    Activity::ForeignBinaryExecutedFileSizeMismatch,
    Activity::ForeignLibraryLoaded,
    Activity::ForeignLibraryLoadedFileSizeMismatch,
    Activity::BinaryExecutedNotAsIntended,
    Activity::ExecutablePermissionsAdded,
    Activity::ExecutablePermissionsRemoved,
    Activity::ReverseShellDetected,
    Activity::ShellHistoryCleared,
    Activity::ShellHistoryDisabled,
];
/// Maximum number of alerts of one process and kind in a period.
const ALERTS_MAX: u32 = 64;
/// The time over which alerts are counted.
const PERIOD_NS: i64 = 60_000_000_000;

/// The alerts of one process in the present period.
#[derive(Clone, Copy, Debug)]
struct Count {
    process: ProcessKey,
    alerts: [u32; ACTIVITIES.len()],
}

impl Row for Count {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.process
    }
}

/// Alerts that were counted and not reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct More {
    pub(super) process: ProcessKey,
    pub(super) activity: Activity,
    pub(super) count: u32,
}

/// Counts the alerts of each process.
#[derive(Debug)]
pub(super) struct AlertFloods {
    table: Table<Count>,
    period_start: Monotonic,
}

impl AlertFloods {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            table: Table::new(limits.processes as usize, key.derive("floods of alerts")),
            period_start: Monotonic::default(),
        }
    }

    /// Whether an alert of a process is reported in full.
    pub(super) fn admits(&mut self, process: ProcessKey, activity: Activity) -> bool {
        self.place(process, activity).is_none_or(|count| *count < ALERTS_MAX)
    }

    /// Counts an alert that was reported, or is one too many.
    pub(super) fn count(&mut self, process: ProcessKey, activity: Activity) {
        if let Some(count) = self.place(process, activity) {
            *count = count.saturating_add(1);
        }
    }

    fn place(&mut self, process: ProcessKey, activity: Activity) -> Option<&mut u32> {
        let kind = ACTIVITIES.iter().position(|&one| one == activity)?;
        let found = self.table.find(&process).or_else(|| {
            let count = Count { process, alerts: [0; ACTIVITIES.len()] };
            self.table.insert(count, Scan::default())
        });
        self.table.get_mut(found?)?.alerts.get_mut(kind)
    }

    /// Whether the period ends now. If so, the caller reads all of [`next_more`](Self::next_more)
    /// and calls [`begin_period`](Self::begin_period).
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        !self.table.is_empty() && now.since(self.period_start) >= PERIOD_NS
    }

    /// The next alerts that were counted and not reported; `row` is 0 at first.
    pub(super) fn next_more(&self, row: &mut u32) -> Option<More> {
        while *row < self.table.end() {
            let more = self.table.get(RowId(*row)).and_then(|count| {
                let mut alerts = ACTIVITIES.into_iter().zip(count.alerts);
                let (activity, alerts) = alerts.find(|(_, alerts)| *alerts > ALERTS_MAX)?;
                let (process, count) = (count.process, alerts - ALERTS_MAX);
                Some(More { process, activity, count })
            });
            if more.is_some() {
                return more;
            }
            *row += 1;
        }
        None
    }

    /// Forgets what was reported. What could not be is reported by the next scan.
    pub(super) fn forget(&mut self, more: &More) {
        if let Some(count) = self.place(more.process, more.activity) {
            *count = 0;
        }
    }

    pub(super) fn begin_period(&mut self, now: Monotonic) {
        self.period_start = now;
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const LIBRARY: Activity = Activity::ForeignLibraryLoaded;

    const fn process(process_id: u32, start_boottime: u64) -> ProcessKey {
        ProcessKey { process_id, start_boottime }
    }

    /// How many of so many alerts of a process are reported in full.
    fn admitted(floods: &mut AlertFloods, process: ProcessKey, alerts: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..alerts {
            admitted += u32::from(floods.admits(process, LIBRARY));
            floods.count(process, LIBRARY);
        }
        admitted
    }

    #[test]
    fn the_alerts_of_a_flood_are_summed_up_by_process_and_kind() {
        let mut floods = AlertFloods::new(&Limits::default(), HashKey::new(1));
        assert_eq!(admitted(&mut floods, process(7, 1), 34_000), ALERTS_MAX);
        // Other kinds and processes are not concerned.
        assert!(floods.admits(process(7, 1), Activity::ForeignBinaryExecuted));
        assert_eq!(admitted(&mut floods, process(8, 1), 1), 1);
        assert_eq!(admitted(&mut floods, process(7, 2), 10), 10, "its number is used again");
        assert!(!floods.is_over(Now::at(PERIOD_NS - 1).monotonic));
        assert!(floods.is_over(Now::at(PERIOD_NS).monotonic));
        let count = 34_000 - ALERTS_MAX;
        let more = More { process: process(7, 1), activity: LIBRARY, count };
        assert_eq!(floods.next_more(&mut 0), Some(more));
        let mut row = 0;
        assert_eq!(floods.next_more(&mut row), Some(more), "it could not be reported");
        floods.forget(&more);
        assert_eq!(floods.next_more(&mut row), None);
        floods.begin_period(Now::at(PERIOD_NS).monotonic);
        assert!(!floods.is_over(Now::at(3 * PERIOD_NS).monotonic), "there is nothing");
        assert_eq!(admitted(&mut floods, process(7, 1), 100), ALERTS_MAX);
    }
}
