//! When what a scan does not show has ended.

use super::process;
use crate::walk::{Index, Snapshot, ThreadRow};

/// Number of consecutive scans from which an object must be absent if scans have unreadable parts.
const ABSENT_SCANS_MAX: u32 = 2;

/// Number of consecutive scans from which an object must be absent to have ended, as of this scan.
/// One if the scan read everything; `None` if a view is incomplete.
pub(super) fn absent_scans_max(snapshot: &Snapshot) -> Option<u32> {
    let whole = snapshot.task_list_closed
        && snapshot.idr_complete
        && snapshot.threads.dropped == 0
        && snapshot.processes.dropped == 0;
    whole.then_some(if snapshot.losses.unreadable == 0 { 1 } else { ABSENT_SCANS_MAX })
}

/// How much a scan that does not show something adds to the number of such scans. A scan that read
/// everything is enough by itself, however soon it came.
pub(super) fn absence(absent_scans_max: Option<u32>, snapshot: &Snapshot) -> u8 {
    match absent_scans_max {
        Some(1) => 1,
        Some(_) => snapshot.counts(),
        None => 0,
    }
}

/// Start of the newest process, if the scan shows all processes.
pub(super) fn newest_of_all(snapshot: &Snapshot) -> Option<u64> {
    absent_scans_max(snapshot).map(|_| newest(snapshot))
}

/// Start of the newest process of a scan.
pub(super) fn newest(snapshot: &Snapshot) -> u64 {
    let leaders = snapshot.processes.iter().filter_map(|process| snapshot.leader(process));
    leaders.map(|leader| leader.task.start_boottime).max().unwrap_or(0)
}

/// Occupant of a process id whose process the scan does not show.
pub(super) enum PidOccupant {
    /// No thread.
    NoThread,
    /// Threads without their leader.
    ItsThreads,
    /// Another process.
    Another,
}

pub(super) fn whose(snapshot: &Snapshot, process_id: u32) -> PidOccupant {
    let tgid = |at: Index<ThreadRow>| snapshot.threads.at(at).map(|row| row.task.tgid);
    let at = snapshot.by_tid.partition_point(|&at| tgid(at) < Some(process_id));
    let mut threads = snapshot.by_tid.as_slice()[at..]
        .iter()
        .filter_map(|&at| snapshot.threads.at(at))
        .take_while(|row| row.task.tgid == process_id)
        .peekable();
    if threads.peek().is_none() {
        PidOccupant::NoThread
    } else if threads.any(|row| row.task.is_leader() && !process::is_dead(&row.task)) {
        PidOccupant::Another
    } else {
        PidOccupant::ItsThreads
    }
}
