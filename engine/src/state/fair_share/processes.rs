//! Makes room in the table of processes for those whose user or container has less than its share.
//!
//! Groups are those of [`Snapshot::group_of`]. Only if a newcomer of a group below its share finds
//! no room, the newest processes of groups above theirs are evicted. That is no end, so it is not
//! reported. The newcomers of such a group are not tracked.
//!
//! An evicted process is remembered as long as it exists. If it is tracked again, it is not
//! reported as new, and neither is what it has by then. It is not reported if it ends before that.

use panoptes_tables::{HashIndex, HashKey, Row, RowId, ScanNumber, Shares, Table, room};

use crate::limits::{Limit, Limits};
use crate::state::MachineState;
use crate::state::emit::Update;
use crate::state::keys::ProcessKey;
use crate::state::process::{LifeStage, Process};
use crate::walk::{ProcessRow, Snapshot};

/// Maximum number of groups; all further ones count as one.
const GROUPS_MAX: usize = 4096;
/// Number of consecutive scans that must lack an evicted process for it to have ended.
const UNSEEN_PROCESS_SCANS_MAX: u32 = 8;

/// A process that made room for others after it was reported.
#[derive(Debug)]
pub(in crate::state) struct EvictedProcess {
    key: ProcessKey,
    existing: bool,
    first_exec_id: u32,
    unseen_scans: u32,
}

impl Row for EvictedProcess {
    type Key = ProcessKey;

    fn key(&self) -> ProcessKey {
        self.key
    }
}

/// A user or a container, in this scan.
#[derive(Clone, Copy, Debug)]
struct Group {
    key: u64,
    wanted: u32,
    tracked: u32,
}

/// Which processes are tracked while there are more than fit.
#[derive(Debug)]
pub(in crate::state) struct Admission {
    groups: Vec<Group>,
    /// [`Self::groups`] by key.
    index: HashIndex,
    key: HashKey,
    shares: Shares,
    evicted: Table<EvictedProcess>,
    is_crowded: bool,
}

impl Admission {
    pub(in crate::state) fn new(limits: &Limits, key: HashKey) -> Self {
        let groups = (limits.processes as usize).min(GROUPS_MAX);
        Self {
            groups: room::list(groups),
            index: HashIndex::new(groups),
            key: key.derive("state: groups of processes"),
            shares: Shares::new(groups),
            evicted: Table::new(limits.processes as usize, key.derive("state: evicted processes")),
            is_crowded: false,
        }
    }

    pub(in crate::state) fn clear(&mut self) {
        self.evicted.clear();
    }

    fn begin(&mut self) {
        self.groups.clear();
        self.index.clear();
        self.shares.begin();
        self.is_crowded = true;
    }

    /// The number of a group.
    fn group(&mut self, key: u64) -> usize {
        let hash = self.key.hash_numbers([key]);
        let Self { groups, index, .. } = self;
        let is_it = |at: u32| groups.get(at as usize).is_some_and(|group| group.key == key);
        if let Some(at) = index.find(hash, is_it) {
            return at as usize;
        }
        let next = groups.len();
        if next == groups.capacity() || !index.insert(hash, next as u32) {
            return next.saturating_sub(1);
        }
        groups.push(Group { key, wanted: 0, tracked: 0 });
        next
    }

    /// Number of processes that each group may have.
    fn divide(&mut self, capacity: usize) {
        for (at, group) in (0..).zip(&self.groups) {
            self.shares.want(group.key, at, group.wanted);
        }
        self.shares.divide(capacity);
    }

    /// Number of processes for which there must be room.
    fn admitted(&self) -> usize {
        let groups = (0..).zip(&self.groups);
        let admitted = groups.map(|(at, group)| {
            let most = self.shares.allowed(at).min(group.wanted);
            most.saturating_sub(group.tracked) as usize
        });
        admitted.sum()
    }

    /// Whether a process of a group is tracked; counts it if so.
    pub(in crate::state) fn admits(&mut self, snapshot: &Snapshot, row: &ProcessRow) -> bool {
        if !self.is_crowded {
            return true;
        }
        let at = self.group(snapshot.group_of(row));
        let allowed = self.shares.allowed(at as u32);
        let Some(group) = self.groups.get_mut(at).filter(|group| group.tracked < allowed) else {
            return false;
        };
        group.tracked += 1;
        true
    }

    /// Completes the new row of a process that was evicted before.
    pub(in crate::state) fn return_to(&mut self, new: &mut Process) {
        let id = self.evicted.find(&new.key);
        let Some(evicted) = id.and_then(|id| self.evicted.remove(id)) else { return };
        new.life.stage = LifeStage::Announced;
        new.life.returned = true;
        new.set_program_known();
        new.life.existing = evicted.existing;
        new.first_exec_id = evicted.first_exec_id;
    }

    /// Forgets the evicted processes that have ended. `shown` has the scan's processes that have
    /// no row.
    pub(in crate::state) fn forget_ended(
        &mut self,
        shown: impl Iterator<Item = ProcessKey>,
        scan: ScanNumber,
        counts: u8,
    ) {
        if self.evicted.is_empty() {
            return;
        }
        for key in shown {
            if let Some(id) = self.evicted.find(&key) {
                self.evicted.see(id, scan);
            }
        }
        for number in 0..self.evicted.end() {
            let id = RowId(number);
            let is_shown = self.evicted.last_seen(id) == Some(scan);
            let Some(row) = self.evicted.get_mut(id) else { continue };
            row.unseen_scans = if is_shown { 0 } else { row.unseen_scans + u32::from(counts) };
            if row.unseen_scans >= UNSEEN_PROCESS_SCANS_MAX {
                self.evicted.remove(id);
            }
        }
    }
}

impl MachineState {
    /// Evicts processes of groups above their share, if there are more newcomers of other groups
    /// than free rows.
    pub(in crate::state) fn make_room(&mut self, update: &mut Update<'_>) {
        let snapshot = update.snapshot;
        self.admission.is_crowded = false;
        let newcomers = self.rows.iter().filter(|row| row.is_none()).count();
        let capacity = self.processes.capacity();
        if self.processes.len() + newcomers <= capacity {
            return;
        }
        self.admission.begin();
        let mut unseen = self.processes.len();
        for (index, row) in snapshot.processes.indexed().take(self.rows.len()) {
            let is_tracked = self.rows[index.position()].is_some();
            if !is_tracked && self.newcomer(row, snapshot).is_none() {
                continue;
            }
            unseen -= usize::from(is_tracked);
            let at = self.admission.group(snapshot.group_of(row));
            if let Some(group) = self.admission.groups.get_mut(at) {
                group.wanted += 1;
                group.tracked += u32::from(is_tracked);
            }
        }
        self.admission.divide(capacity.saturating_sub(unseen));
        let free = capacity - self.processes.len();
        let mut missing = self.admission.admitted().saturating_sub(free);
        // The newest first.
        for place in (0..self.rows.len()).rev() {
            if missing == 0 {
                return;
            }
            let found = self.rows[place].zip(snapshot.processes.get(place));
            let Some((id, row)) = found else { continue };
            let at = self.admission.group(snapshot.group_of(row));
            let allowed = self.admission.shares.allowed(at as u32);
            let Some(group) = self.admission.groups.get_mut(at) else { continue };
            if group.tracked > allowed {
                group.tracked -= 1;
                missing -= 1;
                if !self.evict(id, update) {
                    return;
                }
                self.rows[place] = None;
            }
        }
    }

    /// Removes a process; `false` if it could not be remembered.
    fn evict(&mut self, id: RowId, update: &mut Update<'_>) -> bool {
        if !self.report_held(id, update) {
            return false;
        }
        let Some(row) = self.processes.get(id) else { return false };
        if row.life.is_announced() {
            let evicted = EvictedProcess {
                key: row.key,
                existing: row.life.existing,
                first_exec_id: row.first_exec_id,
                unseen_scans: 0,
            };
            if self.admission.evicted.insert(evicted, self.scan).is_none() {
                return false;
            }
        }
        self.row_shares.blame(Limit::Processes, row.process_id());
        self.free_children(id);
        if let Some(mut row) = self.processes.remove(id) {
            row.release(&mut self.names.strings);
        }
        true
    }
}
