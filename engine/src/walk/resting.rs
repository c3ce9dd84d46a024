//! Processes that have not run since the last whole scan: a light scan leaves what they have.
//!
//! A process changes its descriptors and its address space only while one of its threads runs. The
//! kernel adds up the run time of each thread (`update_curr`, kernel/sched/fair.c), and a thread
//! that waits for a processor is in state 0. So a process rests if it has the same threads as
//! before, none of them can run, and none has run.
//!
//! A light scan reads the tasks, the processes and all TCP sockets. Of a process that rests it
//! reads standard input, output and error. The rest is left like what a budget leaves
//! ([`Deferred`]), and the next scan that is not light reads it. Parents of processes that do not
//! rest are read, too: what a new process inherited is known from them.
//!
//! What others change in the files of a process that rests (names, sizes, times) is seen by the
//! next scan that is not light.
//!
//! [`Deferred`]: super::Deferred

use core::mem;

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::room;

use super::descriptors::KEPT_MIN;
use super::snapshot::{FilesRow, Index, ProcessRow};
use super::{Snapshot, Walker};

/// A process that began at most so many nanoseconds before the newest one is young. A light scan
/// reads all that it has.
const YOUNG_NS: u64 = 100_000_000;
/// Maximum number of ancestors of one process that are read. Real ones have a few, and forged ones
/// may be their own.
const ANCESTORS_MAX: u32 = 64;

/// One process of the last whole scan.
#[derive(Clone, Copy, Debug)]
struct Before {
    /// Its start and its id, by which scans are sorted.
    key: (u64, u32),
    /// A hash of its threads and their run times; `None` if one of them could run.
    runs: Option<u64>,
}

/// The processes of the last scan of a system that was not light, oldest first.
#[derive(Debug)]
pub(super) struct Resting {
    before: Vec<Before>,
    /// Of a light scan: whether each of its processes rests.
    rests: Vec<bool>,
}

impl Resting {
    /// Allocates for so many processes.
    pub(super) fn with_capacity(processes: usize) -> Self {
        Self { before: room::list(processes), rests: room::list(processes) }
    }

    pub(super) fn forget(&mut self) {
        self.before.clear();
    }

    /// Notes the processes of a scan that was not light. What has left something may have left what
    /// they have.
    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        self.before.clear();
        if !snapshot.left.is_empty() {
            return;
        }
        let rows = snapshot.processes.iter().take(self.before.capacity());
        self.before.extend(rows.map(|row| {
            let task = &snapshot.threads[row.leader].task;
            Before { key: key_of(task), runs: runs(snapshot, row) }
        }));
    }

    /// Finds the processes that have not run, and are not young. Both lists have the same order.
    fn find(&mut self, snapshot: &Snapshot) {
        let task = |row: &ProcessRow| &snapshot.threads[row.leader].task;
        let newest = snapshot.processes.iter().map(|row| task(row).start_boottime).max();
        let newest = newest.unwrap_or(0);
        let mut before = self.before.iter().peekable();
        self.rests.clear();
        let rows = snapshot.processes.iter().take(self.rests.capacity());
        self.rests.extend(rows.map(|row| {
            let key = key_of(task(row));
            while before.next_if(|it| it.key < key).is_some() {}
            let known = before.peek().filter(|it| it.key == key).and_then(|it| it.runs);
            let is_young = newest.saturating_sub(key.0) < YOUNG_NS;
            !is_young && known.is_some() && runs(snapshot, row) == known
        }));
        self.wake_ancestors(snapshot);
    }

    /// Takes the ancestors of processes that do not rest for such, too.
    fn wake_ancestors(&mut self, snapshot: &Snapshot) {
        for mut at in 0..self.rests.len() {
            for _ in 0..ANCESTORS_MAX {
                let row = snapshot.processes.get(at).filter(|_| !self.rests(Index::new(at)));
                let parent = row.and_then(|row| snapshot.index_by_pid(row.parent_pid));
                let Some(parent) = parent.map(Index::position) else { break };
                // The turn of one that did not rest before has its own ancestors.
                let Some(true) = self.rests.get_mut(parent).map(mem::take) else { break };
                at = parent;
            }
        }
    }

    fn rests(&self, process: Option<Index<ProcessRow>>) -> bool {
        process.and_then(|at| self.rests.get(at.position())) == Some(&true)
    }
}

fn key_of(task: &Task) -> (u64, u32) {
    (task.start_boottime, task.pid)
}

/// A hash of the threads of a process and of how long they have run; `None` if one of them can run.
fn runs(snapshot: &Snapshot, process: &ProcessRow) -> Option<u64> {
    let mut hash = 0_u64;
    for row in snapshot.threads_of(process) {
        let task = &row.task;
        if task.on_cpu || task.state == 0 && task.exit_state == 0 {
            return None;
        }
        for value in [task.address.0, task.sum_exec_runtime, task.mm.0, task.files.0] {
            hash = (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
    Some(hash)
}

impl Walker {
    /// Marks the descriptor tables and address spaces that a light scan leaves: all that no process
    /// has which runs.
    pub(super) fn mark_resting(&mut self) {
        if !self.snapshot.is_light {
            return;
        }
        self.resting.find(&self.snapshot);
        let Self { resting, snapshot, .. } = self;
        let Snapshot { processes, threads, by_tid, files_structs, mms, .. } = snapshot;
        files_structs.iter_mut().for_each(|table| table.rests = true);
        mms.iter_mut().for_each(|mm| mm.rests = true);
        let mut wake_table = |table: Option<Index<FilesRow>>| {
            if let Some(table) = files_structs.at_mut(table) {
                table.rests = false;
            }
        };
        for thread in by_tid.iter().map(|&index| &threads[index]) {
            if !resting.rests(thread.process) {
                wake_table(thread.files);
            }
        }
        for (index, process) in processes.indexed() {
            if !resting.rests(Some(index)) {
                wake_table(process.files);
                if let Some(mm) = mms.at_mut(process.mm) {
                    mm.rests = false;
                }
            }
        }
    }

    /// Leaves the slots of tables that rest, except for the first ones.
    pub(super) fn leave_resting_tables(&mut self) {
        for table in self.snapshot.files_structs.iter_mut().filter(|table| table.rests) {
            table.rests = table.max_fds > KEPT_MIN;
            table.max_fds = table.max_fds.min(KEPT_MIN);
        }
    }

    /// Counts the tables that rest as left, once their first slots were read.
    pub(super) fn count_resting_tables(&mut self) {
        let Snapshot { files_structs, left, .. } = &mut self.snapshot;
        for table in files_structs.iter_mut().filter(|table| table.rests) {
            if mem::take(&mut table.complete) {
                table.first_slots = KEPT_MIN;
            }
            left.tables += 1;
        }
    }
}
