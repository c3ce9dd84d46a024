//! Proves that a machine runs although its clock stands still: its forks and the run times of its
//! processes still increase.
//!
//! Memory also changes in a machine that does not run: QEMU loads a saved state into it, and a
//! reset or another kernel overwrites it. Such a change writes each page once or twice. So only a
//! counter that grows in more scans than that is a proof.

use crate::walk::Snapshot;
use panoptes_tables::room;

/// Number of scans in which a counter must grow, for a proof.
const SCANS_MIN: u32 = 4;
/// The same for each thread of a process: every thread has a counter of its own, in another page.
const SCANS_PER_THREAD: u32 = 2;

/// A process, by its start and its id, and how its run time grew.
#[derive(Clone, Copy, Debug)]
struct ProcessRunTime {
    start_ns: u64,
    runtime_ns: u64,
    pid: u32,
    growth: Growth,
}

const _: () = assert!(size_of::<ProcessRunTime>() == 24);

/// Number of scans that showed a longer run time than before and, in its highest bit, whether any
/// scan showed that.
#[derive(Clone, Copy, Debug, Default)]
struct Growth(u32);

impl Growth {
    const ANY: u32 = 1 << 31;

    /// Counts one more scan; returns whether it is the first of all.
    const fn count(&mut self) -> bool {
        let is_first = self.0 & Self::ANY == 0;
        if self.scans() < Self::ANY - 1 {
            self.0 += 1;
        }
        self.0 |= Self::ANY;
        is_first
    }

    const fn scans(self) -> u32 {
        self.0 & !Self::ANY
    }

    /// Counts anew from 0. Whether any scan showed it stays.
    const fn forget_scans(&mut self) {
        self.0 &= Self::ANY;
    }
}

/// The activity since the clock stopped.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct RunProgress {
    pub(super) forks: u64,
    /// Number of processes that ran.
    pub(super) processes: u32,
    /// Their run time.
    pub(super) runtime_ns: u64,
}

/// The counters of a machine, in memory allocated at start.
#[derive(Debug)]
pub(super) struct RunTimes {
    forks: Option<u64>,
    fork_scans: u32,
    /// The processes of the last scan, oldest first.
    last: Vec<ProcessRunTime>,
    next: Vec<ProcessRunTime>,
    progress: RunProgress,
    is_proof: bool,
}

impl RunTimes {
    pub(super) fn new(processes: usize) -> Self {
        Self {
            forks: None,
            fork_scans: 0,
            last: room::list(processes),
            next: room::list(processes),
            progress: RunProgress::default(),
            is_proof: false,
        }
    }

    /// Drops all that is known: the clock goes.
    pub(super) fn clear(&mut self) {
        (self.forks, self.fork_scans) = (None, 0);
        self.last.clear();
        (self.progress, self.is_proof) = (RunProgress::default(), false);
    }

    /// Asks for another proof, from later scans only.
    pub(super) fn prove_again(&mut self) {
        self.fork_scans = 0;
        self.last.iter_mut().for_each(|run| run.growth.forget_scans());
        self.is_proof = false;
    }

    /// Whether the scans since the last call of [`Self::prove_again`] prove that the machine runs.
    pub(super) fn is_proof(&self) -> bool {
        self.is_proof
    }

    pub(super) fn progress(&self) -> RunProgress {
        self.progress
    }

    /// Compares a scan with the last. Returns whether a counter has grown.
    pub(super) fn compare(&mut self, snapshot: &Snapshot) -> bool {
        let mut has_grown = false;
        if let Some((before, now)) = self.forks.zip(snapshot.machine.total_forks)
            && now > before
        {
            has_grown = true;
            self.fork_scans = self.fork_scans.saturating_add(1);
            self.is_proof |= self.fork_scans >= SCANS_MIN;
            self.progress.forks = self.progress.forks.saturating_add(now - before);
        }
        self.forks = snapshot.machine.total_forks.or(self.forks);
        has_grown |= self.compare_processes(snapshot);
        has_grown
    }

    fn compare_processes(&mut self, snapshot: &Snapshot) -> bool {
        let mut has_grown = false;
        self.next.clear();
        // Both lists are sorted by start and id.
        let mut last = self.last.iter().peekable();
        for process in snapshot.processes.as_slice().iter().take(self.next.capacity()) {
            let Some(leader) = snapshot.leader(process) else { continue };
            let (start_ns, pid) = (leader.task.start_boottime, leader.task.pid);
            let runtime_ns = process.threads_runtime_ns.saturating_add(process.ended_runtime_ns);
            let growth = Growth::default();
            let mut run = ProcessRunTime { start_ns, runtime_ns, pid, growth };
            while last.next_if(|it| (it.start_ns, it.pid) < (start_ns, pid)).is_some() {}
            if let Some(before) = last.next_if(|it| (it.start_ns, it.pid) == (start_ns, pid)) {
                run = *before;
                // A thread that ends moves its time to its process: a scan may miss it meanwhile.
                if let Some(more @ 1..) = runtime_ns.checked_sub(before.runtime_ns) {
                    has_grown = true;
                    run.runtime_ns = runtime_ns;
                    self.progress.processes += u32::from(run.growth.count());
                    let threads = process.threads.len() as u32;
                    let needed = SCANS_MIN.saturating_add(threads.saturating_mul(SCANS_PER_THREAD));
                    self.is_proof |= run.growth.scans() >= needed;
                    self.progress.runtime_ns = self.progress.runtime_ns.saturating_add(more);
                }
            }
            self.next.push(run);
        }
        std::mem::swap(&mut self.last, &mut self.next);
        has_grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::state::tests::world::{FakeProcess, World};

    /// A scan of processes, each with its run time.
    fn scan(processes: &[(FakeProcess, u64)]) -> Snapshot {
        let (mut world, mut snapshot) = (World::default(), Snapshot::empty(&Limits::default()));
        world.processes.extend(processes.iter().map(|(process, _)| process.clone()));
        world.show(&mut snapshot);
        for index in snapshot.processes.indexes() {
            let pid = snapshot.leader(&snapshot.processes[index]).map(|leader| leader.task.pid);
            let given = processes.iter().find(|(process, _)| Some(process.pid) == pid);
            if let Some((row, (_, time))) = snapshot.processes.at_mut(index).zip(given) {
                (row.threads_runtime_ns, row.ended_runtime_ns) = (*time, 0);
            }
        }
        snapshot
    }

    #[test]
    fn a_process_must_run_in_more_scans_than_its_threads_have_pages() {
        let two_more = FakeProcess::new(20).with_thread(21).with_thread(22);
        for (process, expected) in [(FakeProcess::new(20), 6), (two_more, 10)] {
            let mut run_times = RunTimes::new(64);
            let grows = (0..20).take_while(|&time| {
                assert_eq!(run_times.compare(&scan(&[(process.clone(), time)])), time > 0);
                !run_times.is_proof()
            });
            assert_eq!(grows.last(), Some(expected - 1));
            assert_eq!(
                run_times.progress(),
                RunProgress { forks: 0, processes: 1, runtime_ns: expected }
            );
            run_times.prove_again();
            run_times.compare(&scan(&[(process.clone(), 100)]));
            assert!(!run_times.is_proof(), "once more proves nothing");
        }
    }

    #[test]
    fn many_processes_that_run_once_each_prove_nothing() {
        let processes: Vec<u32> = (20..60).collect();
        let mut run_times = RunTimes::new(64);
        for ran in 0..=processes.len() {
            let times = processes.iter().enumerate();
            let times = times.map(|(at, &pid)| (FakeProcess::new(pid), u64::from(at < ran)));
            run_times.compare(&scan(&times.collect::<Vec<_>>()));
        }
        assert!(!run_times.is_proof());
        assert_eq!(run_times.progress().processes, 40);
    }

    #[test]
    fn processes_come_and_go_between_scans() {
        let mut run_times = RunTimes::new(64);
        for time in 0..5 {
            let (first, last) = (time as u32 * 3 + 100, time as u32 * 3 + 101);
            run_times.compare(&scan(&[
                (FakeProcess::new(2), 7),
                (FakeProcess::new(first), 50),
                (FakeProcess::new(50), time),
                (FakeProcess::new(last), 60),
            ]));
        }
        let expected = RunProgress { forks: 0, processes: 1, runtime_ns: 4 };
        assert_eq!((run_times.progress(), run_times.is_proof()), (expected, false));
    }

    #[test]
    fn a_time_that_shrinks_is_no_proof() {
        let mut run_times = RunTimes::new(64);
        for time in [100, 50, 100, 60, 100, 70, 100, 80, 100, 90, 100, 0, 100] {
            assert!(!run_times.compare(&scan(&[(FakeProcess::new(20), time)])));
        }
        assert!(!run_times.is_proof());
    }

    #[test]
    fn more_processes_than_there_is_room_for_are_left_out() {
        let mut run_times = RunTimes::new(2);
        for time in 0..20 {
            let times = (20..30).map(|pid| (FakeProcess::new(pid), time));
            run_times.compare(&scan(&times.collect::<Vec<_>>()));
        }
        assert!(run_times.progress().processes <= 2);
    }
}
