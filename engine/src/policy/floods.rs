//! Floods of events: one process may cause a number of events of one kind in a second. Further ones
//! are counted, and one record a second gives their number. Beginnings and ends of processes count
//! for their parent.
//!
//! Alerts are not events. A process is counted from its first event on; in a full table, further
//! processes are not counted and all their events are reported.

use panoptes_records::activities::Activity;
use panoptes_tables::{HashKey, Row, RowId, ScanNumber, Table};

use crate::limits::Limits;
use crate::state::process::ProcessKey;
use crate::time::Monotonic;

/// The events that one process can cause in any number.
const ACTIVITIES: [Activity; 17] = [
    Activity::ProcessCreated,
    Activity::ProcessExecuted,
    Activity::ProcessTerminated,
    Activity::ProcessZombie,
    Activity::NetworkConnectionCreated,
    Activity::NetworkConnectionTerminated,
    Activity::TcpNetworkConnectionStateChange,
    Activity::TcpNetworkConnectionStatus,
    Activity::ProcessMemoryCreated,
    Activity::ProcessMemoryTerminated,
    Activity::NewExecutableAnonymousMemoryMapped,
    Activity::NewFileMapped,
    Activity::FileUnmapped,
    Activity::FileDescriptorOpen,
    Activity::FileDescriptorClose,
    Activity::ThreadCreated,
    Activity::ThreadTerminated,
];
/// The time over which events are counted.
const PERIOD_NS: i64 = 1_000_000_000;

/// The events of one process in the present period.
#[derive(Clone, Copy, Debug)]
struct ProcessEventCount {
    process: ProcessKey,
    events: [u32; ACTIVITIES.len()],
    /// Whether one of them exceeds the maximum.
    is_flooding: bool,
}

const _: () = {
    let counts = size_of::<[u32; ACTIVITIES.len()]>();
    assert!(size_of::<Option<ProcessEventCount>>() <= size_of::<ProcessKey>() + counts + 4);
};

impl Row for ProcessEventCount {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.process
    }
}

/// Counts the events of each process.
#[derive(Debug)]
pub(super) struct Floods {
    table: Table<ProcessEventCount>,
    /// Maximum number of events of one activity and process in a period.
    most: u32,
    period_start: Monotonic,
    /// Whether a process has exceeded the maximum in this period.
    is_flooded: bool,
    /// Events beyond the maximum, of processes that are not tracked any more.
    untracked: [u64; ACTIVITIES.len()],
}

impl Floods {
    pub(super) fn new(limits: &Limits, key: HashKey) -> Self {
        Self {
            table: Table::without_scans(limits.processes as usize, key.derive("floods")),
            most: limits.events_per_second,
            period_start: Monotonic::default(),
            is_flooded: false,
            untracked: [0; ACTIVITIES.len()],
        }
    }

    /// Counts an event; returns whether it is written.
    pub(super) fn admit(&mut self, process: ProcessKey, activity: Activity) -> bool {
        let Some(kind) = ACTIVITIES.iter().position(|&one| one == activity) else { return true };
        let found = self.table.find(&process).or_else(|| {
            let events = [0; ACTIVITIES.len()];
            let none = ProcessEventCount { process, events, is_flooding: false };
            self.table.insert(none, ScanNumber::default())
        });
        let Some(count) = found.and_then(|id| self.table.get_mut(id)) else { return true };
        let events = &mut count.events[kind];
        *events = events.saturating_add(1);
        let is_too_many = *events > self.most;
        count.is_flooding |= is_too_many;
        self.is_flooded |= is_too_many;
        !is_too_many
    }

    /// Removes a process; returns its counts that exceeded the maximum, and by how much.
    pub(super) fn take(
        &mut self,
        process: &ProcessKey,
    ) -> Option<impl Iterator<Item = (Activity, u32)> + use<>> {
        let id = self.table.find(process)?;
        let exceeded = self.exceeded(id);
        self.table.remove(id);
        Some(exceeded)
    }

    /// Whether the period ends now. If so, the caller reads [`flooding`](Self::flooding) and calls
    /// [`begin_period`](Self::begin_period).
    pub(super) fn is_over(&self, now: Monotonic) -> bool {
        now.since(self.period_start) >= PERIOD_NS
    }

    /// The number after the last row in use; 0 if no process has exceeded the maximum.
    pub(super) fn rows(&self) -> u32 {
        if self.is_flooded { self.table.end() } else { 0 }
    }

    /// The process of a row, and its counts that exceeded the maximum, if any did.
    pub(super) fn flooding(
        &self,
        row: u32,
    ) -> Option<(ProcessKey, impl Iterator<Item = (Activity, u32)> + use<>)> {
        let id = RowId(row);
        let count = self.table.get(id).filter(|count| count.is_flooding)?;
        Some((count.process, self.exceeded(id)))
    }

    /// Counts events beyond the maximum, of a process that is not tracked any more.
    pub(super) fn add_untracked(&mut self, activity: Activity, more: u32) {
        let kinds = ACTIVITIES.iter().zip(&mut self.untracked);
        for (_, count) in kinds.filter(|(kind, _)| **kind == activity) {
            *count = count.saturating_add(more.into());
        }
    }

    /// The counts of [`Self::add_untracked`], which begin anew.
    pub(super) fn take_untracked(&mut self) -> impl Iterator<Item = (Activity, u64)> + use<> {
        let counts = core::mem::take(&mut self.untracked);
        ACTIVITIES.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    pub(super) fn begin_period(&mut self, now: Monotonic) {
        self.period_start = now;
        self.is_flooded = false;
        self.table.clear();
    }

    /// The counts that exceeded the maximum, and by how much.
    fn exceeded(&self, id: RowId) -> impl Iterator<Item = (Activity, u32)> + use<> {
        let events = self.table.get(id).map_or([0; ACTIVITIES.len()], |count| count.events);
        let most = self.most;
        ACTIVITIES
            .into_iter()
            .zip(events)
            .filter_map(move |(activity, events)| Some((activity, events.checked_sub(most)?)))
            .filter(|(_, more)| *more > 0)
    }
}
