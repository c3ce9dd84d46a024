//! Processes that have not run since the last scan: a light scan leaves what they have.
//!
//! A process changes its descriptors and its address space only while one of its threads runs. The
//! kernel adds up the run time of each thread (`update_curr`, kernel/sched/fair.c), and a thread
//! that waits for a processor is in state 0. So a process rests if it has the same threads as
//! before, none of them can run, and none has run. A kernel whose clock counts only ticks has no
//! such processes.
//!
//! A light scan reads the tasks, the processes and all TCP sockets. Of a process that rests it
//! reads standard input, output and error. The rest is left like what a budget leaves
//! ([`DeferredWork`]), and the next scan that is not light reads it. Parents of processes that do
//! not rest are read, too: what a new process inherited is known from them.
//!
//! What others change in the files of a process that rests (names, sizes, times) is seen by the
//! next scan that is not light.
//!
//! [`DeferredWork`]: super::DeferredWork

use core::mem;
use core::num::NonZeroU64;

use panoptes_decoders::kernel::task_struct::Task;
use panoptes_tables::room;

use super::descriptors::KEPT_MIN;
use super::snapshot::{Index, ProcessRow};
use super::{Snapshot, Walker};

/// A process that began at most so many nanoseconds ago is young. A light scan reads all that it
/// has.
const YOUNG_NS: u64 = 100_000_000;
/// Where every run time is a multiple of this, the kernel's clock only counts ticks
/// (`sched_clock`, kernel/sched/clock.c), and a thread may run without a growing run time.
const COARSE_NS: u64 = 1_000_000;
/// Maximum number of ancestors of one process that are read. Real ones have a few, and forged ones
/// may be their own.
const ANCESTORS_MAX: u32 = 64;

/// One process of the last scan.
#[derive(Clone, Copy, Debug)]
struct PreviousProcess {
    /// Its start and its id, by which scans are sorted.
    start_boottime: u64,
    process_id: u32,
    /// Whether that scan has left what it has.
    was_left: bool,
    /// A hash of its threads and their run times; `None` if one of them could run.
    runs: Option<NonZeroU64>,
}

const _: () = assert!(size_of::<PreviousProcess>() == 24);

impl PreviousProcess {
    const fn key(&self) -> (u64, u32) {
        (self.start_boottime, self.process_id)
    }
}

/// The processes of the last scan of a system, oldest first, as many as are tracked. It has none if
/// that scan has left more than what processes have that rested.
#[derive(Debug)]
pub(super) struct PreviousProcesses {
    before: Vec<PreviousProcess>,
}

impl PreviousProcesses {
    /// Allocates for so many processes.
    pub(super) fn with_capacity(processes: usize) -> Self {
        Self { before: room::list(processes) }
    }

    pub(super) fn forget(&mut self) {
        self.before.clear();
    }

    /// Notes the processes of a scan.
    pub(super) fn note(&mut self, snapshot: &Snapshot) {
        self.before.clear();
        let is_fine = |task: &Task| !task.sum_exec_runtime.is_multiple_of(COARSE_NS);
        if snapshot.is_partial() || !snapshot.threads.iter().any(|row| is_fine(&row.task)) {
            return;
        }
        let rows = snapshot.processes.iter().zip(snapshot.rests.iter()).zip(snapshot.runs.iter());
        self.before.extend(rows.take(self.before.capacity()).map(|((row, &rests), &runs)| {
            let task = &snapshot.threads[row.leader].task;
            let (start_boottime, process_id) = key_of(task);
            let was_left = snapshot.is_light && rests;
            PreviousProcess { start_boottime, process_id, was_left, runs }
        }));
    }
}

impl Snapshot {
    /// Finds the processes that have not run, and which of them the last scan has left. Both lists
    /// have the same order.
    fn find_resting(&mut self, resting: &PreviousProcesses) {
        let mut before = resting.before.iter().peekable();
        self.runs.clear();
        self.rests.clear();
        self.left_before.clear();
        for row in self.processes.iter() {
            let key = key_of(&self.threads[row.leader].task);
            while before.next_if(|it| it.key() < key).is_some() {}
            let known = before.peek().filter(|it| it.key() == key);
            let runs = runs(self, row);
            let rests = runs.is_some() && known.is_some_and(|it| it.runs == runs);
            self.runs.push(runs);
            self.rests.push(rests);
            self.left_before.push(rests && known.is_some_and(|it| it.was_left));
        }
    }

    /// Takes young processes for such that do not rest.
    fn wake_young(&mut self) {
        let Self { machine, processes, threads, rests, .. } = self;
        let start = |row: &ProcessRow| threads[row.leader].task.start_boottime;
        let newest = || processes.iter().map(start).max().unwrap_or(0);
        let now = machine.boot_ns().and_then(|ns| u64::try_from(ns).ok()).unwrap_or_else(newest);
        for (row, rests) in processes.iter().zip(rests.iter_mut()) {
            *rests &= now.saturating_sub(start(row)) >= YOUNG_NS;
        }
    }

    /// Takes the ancestors of processes that do not rest for such, too.
    fn wake_ancestors(&mut self) {
        for mut at in 0..self.rests.len() {
            for _ in 0..ANCESTORS_MAX {
                let row = self.processes.get(at).filter(|_| self.rests.get(at) == Some(&false));
                let parent = row.and_then(|row| self.index_by_pid(row.parent_pid));
                let Some(parent) = parent.map(Index::position) else { break };
                // The turn of one that did not rest before has its own ancestors.
                let Some(true) = self.rests.get_mut(parent).map(mem::take) else { break };
                at = parent;
            }
        }
    }

    /// Marks what processes have that rest: the descriptor tables and address spaces that no
    /// process has which runs.
    fn mark_left(&mut self) {
        self.wake_ancestors();
        let Self { processes, threads, by_tid, files_structs, mms, rests, .. } = self;
        let rests = |process: Option<Index<ProcessRow>>| {
            process.and_then(|at| rests.get(at.position())) == Some(&true)
        };
        files_structs.iter_mut().for_each(|table| table.rests = true);
        mms.iter_mut().for_each(|mm| mm.rests = true);
        for thread in by_tid.iter().map(|&index| &threads[index]) {
            if !rests(thread.process)
                && let Some(table) = files_structs.at_mut(thread.files)
            {
                table.rests = false;
            }
        }
        for (index, process) in processes.indexed() {
            if !rests(Some(index))
                && let Some(mm) = mms.at_mut(process.mm)
            {
                mm.rests = false;
            }
        }
    }

    /// Whether a process has not run since the last scan, and that scan has left what it has.
    pub fn was_left(&self, process: Option<Index<ProcessRow>>) -> bool {
        process.and_then(|at| self.left_before.get(at.position())) == Some(&true)
    }
}

fn key_of(task: &Task) -> (u64, u32) {
    (task.start_boottime, task.pid)
}

/// A hash of the threads of a process and of how long they have run; `None` if one of them can run.
fn runs(snapshot: &Snapshot, process: &ProcessRow) -> Option<NonZeroU64> {
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
    NonZeroU64::new(hash | 1)
}

impl Walker {
    /// Sets whether the next scan may leave what processes have that rest ([`Snapshot::is_light`]).
    pub const fn set_light(&mut self, may_be_light: bool) {
        self.may_be_light = may_be_light;
    }

    /// Finds the processes that rest, and in a light scan marks what it leaves.
    pub(super) fn mark_resting(&mut self) {
        let snapshot = &mut self.snapshot;
        snapshot.find_resting(&self.resting);
        if snapshot.is_light {
            snapshot.wake_young();
            snapshot.mark_left();
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
            left.of_resting += 1;
        }
    }
}
