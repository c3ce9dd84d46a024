//! Floods of alerts: of one process and kind, a number is reported at once, and then a few a
//! second. One too many is not accepted: its detector offers it again, until all are reported.
//!
//! The first alerts of a process never wait for those of another. A process is counted from its
//! first alert on, until it has not exceeded its rate for a while; in a full table, alerts of
//! further processes are all reported.

use panoptes_records::activities::Activity;
use panoptes_tables::{HashKey, Row, RowId, ScanNumber, Table};

use crate::limits::Limits;
use crate::state::process::ProcessKey;
use crate::time::{Monotonic, SECOND_NS};

/// The alerts that one process can cause in any number.
const ACTIVITIES: [Activity; 11] = [
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
    Activity::EbpfProgramDangerous,
];
/// Maximum number of alerts of one process and kind at once.
const ALERTS_MAX: u8 = 64;
/// Number of further ones in each second.
const A_SECOND: u8 = 8;

/// The alerts of one process that count against its rate.
#[derive(Clone, Copy, Debug)]
struct ProcessAlertCount {
    process: ProcessKey,
    alerts: [u8; ACTIVITIES.len()],
}

impl Row for ProcessAlertCount {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.process
    }
}

/// Counts the alerts of each process.
#[derive(Debug)]
pub(super) struct AlertFloods {
    table: Table<ProcessAlertCount>,
    /// When the counts were last lowered.
    lowered: Monotonic,
    /// Whether everything is admitted: nothing can be offered again.
    is_over: bool,
}

impl AlertFloods {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            table: Table::without_scans(
                (limits.processes as usize / 4).max(64),
                key.derive("floods of alerts"),
            ),
            lowered: Monotonic::default(),
            is_over: false,
        }
    }

    /// Whether an alert of a process is accepted now. Alerts without a process always are.
    pub(super) fn admits(&self, process: ProcessKey, activity: Activity) -> bool {
        let count = self.table.find(&process).and_then(|id| self.table.get(id));
        let alerts = count.zip(kind_of(activity)).map_or(0, |(count, kind)| count.alerts[kind]);
        self.is_over || alerts < ALERTS_MAX
    }

    /// Counts an alert that was accepted.
    pub(super) fn count(&mut self, process: ProcessKey, activity: Activity) {
        let Some(kind) = kind_of(activity).filter(|_| process.process_id != 0) else { return };
        let found = self.table.find(&process).or_else(|| {
            self.table.insert(
                ProcessAlertCount { process, alerts: [0; ACTIVITIES.len()] },
                ScanNumber::default(),
            )
        });
        if let Some(count) = found.and_then(|id| self.table.get_mut(id)) {
            count.alerts[kind] = count.alerts[kind].saturating_add(1);
        }
    }

    /// Lowers the counts by what the time since then allows.
    pub(super) fn note_time(&mut self, now: Monotonic) {
        let seconds = now.since(self.lowered) / SECOND_NS;
        if seconds == 0 {
            return;
        }
        self.lowered = now;
        let less = A_SECOND.saturating_mul(u8::try_from(seconds).unwrap_or(u8::MAX));
        for number in 0..self.table.end() {
            let id = RowId(number);
            let Some(count) = self.table.get_mut(id) else { continue };
            count.alerts = count.alerts.map(|alerts| alerts.saturating_sub(less));
            if count.alerts.iter().all(|&alerts| alerts == 0) {
                self.table.remove(id);
            }
        }
    }

    /// Admits everything from now on.
    pub(super) fn end(&mut self) {
        self.is_over = true;
    }
}

fn kind_of(activity: Activity) -> Option<usize> {
    ACTIVITIES.iter().position(|&one| one == activity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Now;

    const LIBRARY: Activity = Activity::ForeignLibraryLoaded;

    const fn process(process_id: u32, start_boottime: u64) -> ProcessKey {
        ProcessKey { process_id, start_boottime }
    }

    /// How many of so many alerts of a process are accepted.
    fn admitted(floods: &mut AlertFloods, process: ProcessKey, alerts: u32) -> u32 {
        let mut admitted = 0;
        for _ in 0..alerts {
            if floods.admits(process, LIBRARY) {
                floods.count(process, LIBRARY);
                admitted += 1;
            }
        }
        admitted
    }

    #[test]
    fn a_process_has_a_number_of_alerts_at_once_and_then_a_few_a_second() {
        let mut floods = AlertFloods::new(&Limits::default(), HashKey::new(1));
        floods.note_time(Now::at(7 * SECOND_NS).monotonic);
        assert_eq!(admitted(&mut floods, process(7, 1), 34_000), 64);
        // Other kinds and processes are not concerned.
        assert!(floods.admits(process(7, 1), Activity::ForeignBinaryExecuted));
        assert_eq!(admitted(&mut floods, process(8, 1), 1), 1);
        assert_eq!(admitted(&mut floods, process(7, 2), 10), 10, "its number is used again");
        floods.note_time(Now::at(8 * SECOND_NS - 1).monotonic);
        assert_eq!(admitted(&mut floods, process(7, 1), 100), 0);
        floods.note_time(Now::at(8 * SECOND_NS).monotonic);
        assert_eq!(admitted(&mut floods, process(7, 1), 100), 8);
        floods.note_time(Now::at(11 * SECOND_NS).monotonic);
        assert_eq!(admitted(&mut floods, process(7, 1), 100), 24);
        // A rate that nobody exceeds needs no room.
        floods.note_time(Now::at(19 * SECOND_NS).monotonic);
        assert!(floods.table.is_empty());
        assert_eq!(admitted(&mut floods, process(7, 1), 100), 64);
        floods.end();
        assert_eq!(admitted(&mut floods, process(7, 1), 100), 100);
    }
}
