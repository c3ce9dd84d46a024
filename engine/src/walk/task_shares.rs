//! Which tasks have rows while there are more than fit.
//!
//! Rows are divided by max-min fairness: processes first among root, processes in containers and
//! all users, and then among users; threads in the same way, and then among processes. So each
//! process with a row has its first thread, and only who is above its share is cut. The tasks of
//! the IDR are read again for that, so only a crowded machine costs more.
//!
//! A sixteenth of the rows is for tasks that the IDR does not show.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::View;
use panoptes_tables::room;

use super::fair_share::{CONTAINERS, OwnedRow, divide_parts, room_of_shown};
use super::losses::WalkedStructure;
use super::processes::CHUNK;
use super::queries::user;
use super::snapshot::{ThreadRow, view};
use super::tables::Snapshot;
use super::tasks::place_task;
use super::{ScannedMemory, WalkScratch, Walker, fetch, fetch_groups};

/// The owner of the process of a task that leads none.
const NO_LEADER: u32 = u32::MAX;

/// A leader whose owner is being read: its place in a list, and its user.
#[derive(Clone, Copy, Debug)]
struct Leader {
    place: u32,
    login: Option<u32>,
    user: u32,
}

/// Lists for the choice.
#[derive(Debug)]
pub(super) struct TaskShares {
    /// Number of the owner of the process that each task leads, by the task's place in a list.
    owners: Vec<u32>,
    leaders: Vec<Leader>,
    creds: Vec<KernelVa>,
    pids: Vec<KernelVa>,
    processes: Vec<OwnedRow<ThreadRow>>,
    /// Number of further threads that each process may have, by the row of its leader.
    threads_left: Vec<u32>,
}

impl TaskShares {
    /// Allocates for lists of `tasks` entries.
    pub(super) fn new(snapshot: &Snapshot, tasks: usize) -> Self {
        Self {
            owners: room::list(tasks),
            leaders: room::list(CHUNK),
            creds: room::list(CHUNK),
            pids: room::list(CHUNK),
            processes: room::list(snapshot.processes.capacity()),
            threads_left: room::list(snapshot.threads.capacity()),
        }
    }

    /// Begins with so many tasks.
    fn begin(&mut self, tasks: usize) {
        self.owners.clear();
        self.owners.resize(tasks.min(self.owners.capacity()), NO_LEADER);
    }

    fn begin_batch(&mut self) {
        self.leaders.clear();
        self.creds.clear();
        self.pids.clear();
    }

    fn add(&mut self, place: usize, task: &Task) {
        if self.leaders.len() < self.leaders.capacity() {
            self.leaders.push(Leader { place: place as u32, login: task.loginuid.get(), user: 0 });
            self.creds.push(task.real_cred);
            self.pids.push(task.thread_pid);
        }
    }
}

impl Walker {
    /// Adds rows for tasks of the IDR of which not all fit. `numbers` are their thread ids.
    #[cold]
    pub(super) fn fetch_task_shares(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        found: &mut [KernelVa],
        numbers: &mut [u32],
    ) {
        self.find_leaders(memory, found);
        let Snapshot { threads, processes, .. } = &self.snapshot;
        let most = threads.capacity().min(processes.capacity());
        self.scratch.shares.divide_processes(room_of_shown(most));
        let count = self.choose_leaders(found, numbers);
        let (leaders, others) = found.split_at(count);
        let (leader_numbers, other_numbers) = numbers.split_at(count);
        self.fetch_tasks(memory, leaders, view::IDR | view::PID_LIST, leader_numbers);
        self.divide_threads(memory, leaders);
        self.fetch_threads(memory, others, other_numbers);
    }

    /// Reads the owners of all processes.
    fn find_leaders(&mut self, memory: &mut ScannedMemory<'_>, found: &[KernelVa]) {
        let layout = &memory.kernel.layouts.task_struct;
        self.scratch.shares.begin_owners();
        self.scratch.task_shares.begin(found.len());
        for (at, tasks) in found.chunks(CHUNK).enumerate() {
            let task_shares = &mut self.scratch.task_shares;
            task_shares.begin_batch();
            fetch(&mut self.reader, memory, &layout.packing, tasks, |index, bytes| {
                let task = bytes.map(|bytes| Task::decode(layout, tasks[index], bytes));
                if let Some(task) = task.filter(Task::is_leader) {
                    task_shares.add(at * CHUNK + index, &task);
                }
            });
            self.read_owners(memory);
        }
    }

    /// Reads the owners of the listed leaders.
    fn read_owners(&mut self, memory: &mut ScannedMemory<'_>) {
        #[derive(Clone, Copy)]
        enum OwnerObjectKind {
            Cred,
            Pid,
        }
        let layouts = &memory.kernel.layouts;
        let WalkScratch { task_shares, shares, .. } = &mut self.scratch;
        let TaskShares { owners, leaders, creds, pids, .. } = task_shares;
        let groups = [
            (OwnerObjectKind::Cred, &layouts.cred.packing, creds.as_slice()),
            (OwnerObjectKind::Pid, &layouts.pid.packing, pids.as_slice()),
        ];
        fetch_groups(&mut self.reader, memory, groups, |kind, index, bytes| {
            let (view, leader) = (bytes.map(View::new), &mut leaders[index]);
            match kind {
                OwnerObjectKind::Cred => {
                    let uid = view.map(|view| view.unsigned(layouts.cred.uid) as u32);
                    leader.user = user(uid.unwrap_or(u32::MAX), leader.login);
                }
                // All users are known by now. Process 1 is in the first pid namespace, which is at
                // level 0.
                OwnerObjectKind::Pid => {
                    let level = view.map_or(0, |view| view.unsigned(layouts.pid.level));
                    let owner = if level == 0 { leader.user.into() } else { CONTAINERS };
                    if let Some(place) = owners.get_mut(leader.place as usize) {
                        *place = shares.count_process(owner);
                    }
                }
            }
        });
    }

    /// Moves the leaders that have room to the front; returns their number. The others are marked
    /// as visited, so that no list leads to them.
    fn choose_leaders(&mut self, found: &mut [KernelVa], numbers: &mut [u32]) -> usize {
        let WalkScratch { task_shares, shares, .. } = &mut self.scratch;
        let Snapshot { processes, losses, .. } = &mut self.snapshot;
        let mut count = 0;
        for place in 0..found.len() {
            let Some(&owner) = task_shares.owners.get(place).filter(|&&owner| owner != NO_LEADER)
            else {
                continue;
            };
            if shares.admits(owner) {
                found.swap(place, count);
                numbers.swap(place, count);
                task_shares.owners.swap(place, count);
                count += 1;
            } else {
                processes.dropped = processes.dropped.saturating_add(1);
                losses.process_id = Some(numbers[place]);
                self.visited.insert(found[place].0, 1);
            }
        }
        count
    }

    /// Divides the rows that are left among the processes that have rows.
    fn divide_threads(&mut self, memory: &mut ScannedMemory<'_>, leaders: &[KernelVa]) {
        let layout = &memory.kernel.layouts.signal_struct;
        let threads = &self.snapshot.threads;
        let WalkScratch { task_shares, shares, more: signals, .. } = &mut self.scratch;
        let TaskShares { owners, processes, threads_left, .. } = task_shares;
        processes.clear();
        signals.clear();
        for (&owner, leader) in owners.iter().zip(leaders) {
            let Some(row) = threads.find(leader.0) else { continue };
            processes.push(OwnedRow { owner: shares.key_of(owner), row, wanted: 0 });
            signals.push(threads[row].task.signal);
        }
        fetch(&mut self.reader, memory, &layout.packing, signals, |index, bytes| {
            let count = bytes.map_or(0, |bytes| View::new(bytes).unsigned(layout.nr_threads));
            processes[index].wanted = count.saturating_sub(1);
        });
        processes.sort_unstable_by_key(|it| (it.owner, it.row));
        threads_left.clear();
        threads_left.resize(threads.len(), 0);
        let room = room_of_shown(threads.capacity()).saturating_sub(threads.len());
        divide_parts(room as u64, processes, |row, most| {
            threads_left[row.position()] = u32::try_from(most).unwrap_or(u32::MAX);
        });
    }

    /// Adds rows for threads, as many of each process as have room.
    fn fetch_threads(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        tasks: &[KernelVa],
        numbers: &[u32],
    ) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.task_struct;
        let Snapshot { threads, losses, .. } = &mut self.snapshot;
        let (left, visited) = (&mut self.scratch.task_shares.threads_left, &mut self.visited);
        fetch(&mut self.reader, memory, &layout.packing, tasks, |index, bytes| {
            let Some(bytes) = bytes else {
                losses.miss(WalkedStructure::Task, tasks[index]);
                return;
            };
            let task = Task::decode(layout, tasks[index], bytes);
            if task.is_leader() {
                return;
            }
            let leader = threads.find(task.group_leader.0);
            let has_room = match leader.and_then(|row| left.get_mut(row.position())) {
                Some(left) => {
                    let has_room = *left > 0;
                    *left -= u32::from(has_room);
                    has_room
                }
                // A leader that the IDR does not show.
                None => visited.get(task.group_leader.0).is_none(),
            };
            if has_room {
                let views = view::IDR | view::PID_LIST;
                place_task(threads, losses, kernel, task, views, numbers.get(index));
            } else {
                threads.dropped = threads.dropped.saturating_add(1);
                losses.process_id = Some(task.tgid);
                visited.insert(task.address.0, 1);
            }
        });
    }

    /// Removes leaders from the list of those that become processes, if there are more than fit.
    /// The oldest of each owner stay, and those that the IDR does not show as far as there is room.
    #[cold]
    pub(super) fn cut_leaders(&mut self, memory: &mut ScannedMemory<'_>) {
        let count = self.scratch.leaders.len();
        self.scratch.shares.begin_owners();
        self.scratch.task_shares.begin(count);
        for start in (0..count).step_by(CHUNK) {
            let WalkScratch { leaders, task_shares, .. } = &mut self.scratch;
            task_shares.begin_batch();
            for (place, &row) in leaders.iter().enumerate().skip(start).take(CHUNK) {
                task_shares.add(place, &self.snapshot.threads[row].task);
            }
            self.read_owners(memory);
        }
        let Snapshot { threads, processes, losses, .. } = &mut self.snapshot;
        let WalkScratch { leaders, task_shares, shares, .. } = &mut self.scratch;
        let shown = room_of_shown(processes.capacity());
        shares.divide_processes(shown);
        let mut spare = processes.capacity() - shown;
        let mut owners = task_shares.owners.iter();
        leaders.retain(|&row| {
            let row = &threads[row];
            let has_room = owners.next().is_some_and(|&owner| shares.admits(owner)) || {
                let is_first = row.views & view::IDR == 0 && spare > 0;
                spare -= usize::from(is_first);
                is_first
            };
            if !has_room {
                processes.dropped = processes.dropped.saturating_add(1);
                losses.process_id = Some(row.task.tgid);
            }
            has_room
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

    /// The tasks of an IDR, with their numbers.
    #[derive(Default)]
    struct Shown {
        memory: Sparse,
        found: Vec<KernelVa>,
        numbers: Vec<u32>,
    }

    impl Shown {
        fn task(&mut self, leader: Option<(u64, u32)>, fields: &[(&str, u64)]) -> (u64, u32) {
            let (at, number) = (self.memory.structure(), self.numbers.len() as u32 + 1);
            let (leader, tgid) = leader.unwrap_or((at, number));
            let ids = [("pid", number.into()), ("tgid", tgid.into()), ("group_leader", leader)];
            for &(field, value) in ids.iter().chain(fields) {
                self.memory.set(at, "task_struct", field, value);
            }
            self.found.push(va(at));
            self.numbers.push(number);
            (at, number)
        }

        /// Adds a process with so many further threads; returns its id.
        fn process(&mut self, uid: u64, level: u64, threads: u64) -> u32 {
            let [cred, pid, signal] = [(); 3].map(|()| self.memory.structure());
            self.memory.set(cred, "cred", "uid", uid);
            self.memory.set(pid, "pid", "level", level);
            self.memory.set(signal, "signal_struct", "nr_threads", threads + 1);
            let fields = [("real_cred", cred), ("thread_pid", pid), ("signal", signal)];
            let leader = self.task(None, &fields);
            (0..threads).for_each(|_| _ = self.task(Some(leader), &[]));
            leader.1
        }
    }

    /// A user has more processes than there are rows, and one of these very many threads.
    #[test]
    fn processes_beyond_the_rows_are_divided_among_owners() {
        let mut shown = Shown::default();
        let hog = shown.process(1000, 0, 1000);
        let crowd: Vec<_> = (0..399).map(|_| shown.process(1000, 0, 0)).collect();
        let last_of_crowd = crowd[398];
        let contained: Vec<_> = (0..100).map(|_| shown.process(0, 1, 0)).collect();
        let roots = [(); 5].map(|()| shown.process(0, 0, 20));
        let users = [(); 5].map(|()| shown.process(999, 0, 10));
        // Its leader is in no list.
        let absent = (shown.memory.structure(), 7777);
        shown.task(Some(absent), &[]);
        let mut walker = walker(&small());
        walker.snapshot.threads.set_capacity(640);
        walker.snapshot.processes.set_capacity(320);
        let Shown { mut memory, mut found, mut numbers } = shown;
        memory.walk(&mut walker, &kernel(), |walker, memory| {
            walker.fetch_task_shares(memory, &mut found, &mut numbers);
        });
        let Snapshot { threads, processes, losses, .. } = &walker.snapshot;
        let count =
            |ids: &dyn Fn(&Task) -> bool| threads.iter().filter(|row| ids(&row.task)).count();
        assert_eq!(count(&|task| contained.contains(&task.pid)), 100);
        assert_eq!(count(&|task| roots.contains(&task.tgid)), 5 + 5 * 20);
        assert_eq!(count(&|task| users.contains(&task.tgid)), 5 + 5 * 10);
        assert_eq!(count(&|task| task.tgid == 7777), 1);
        // A sixteenth of the rows is for what the IDR does not show.
        let of_crowd = count(&|task| task.tgid <= last_of_crowd && task.is_leader());
        assert_eq!(of_crowd, 300 - 110);
        assert_eq!(count(&|task| task.tgid == hog), 1 + 600 - 300 - 150);
        assert_eq!((processes.dropped, threads.dropped), (400 - 190, 850));
        assert!(losses.process_id.is_some_and(|id| id <= last_of_crowd), "{losses:?}");
        let is_shown = |row: &ThreadRow| row.views == view::IDR | view::PID_LIST;
        assert!(threads.iter().all(is_shown));
        let is_known = |task: &KernelVa| {
            threads.find(task.0).is_some() || walker.visited.get(task.0).is_some()
        };
        assert!(found.iter().all(is_known), "no list leads to what has no row");
    }

    /// There are rows for all threads, but not for all processes.
    #[test]
    fn the_oldest_processes_of_each_owner_have_rows() {
        let mut shown = Shown::default();
        let crowd: Vec<_> = (0..400).map(|_| shown.process(1000, 0, 0)).collect();
        let root = shown.process(0, 0, 0);
        let mut walker = walker(&small());
        walker.snapshot.processes.set_capacity(320);
        let Shown { mut memory, found, numbers } = shown;
        memory.walk(&mut walker, &kernel(), |walker, memory| {
            // Row 0 is that of `init_task`.
            walker.fetch_tasks(memory, &found[..1], 0, &numbers);
            walker.fetch_tasks(memory, &found[1..], view::IDR, &numbers[1..]);
            // A process that the IDR does not show began last.
            let hidden = walker.snapshot.threads.find(found[300].0);
            let hidden = walker.snapshot.threads.at_mut(hidden).expect("it has a row");
            (hidden.views, hidden.task.start_boottime) = (0, 1);
            walker.group_threads(memory);
        });
        let Snapshot { threads, processes, .. } = &walker.snapshot;
        let ids: Vec<_> = processes.iter().map(|row| threads[row.leader].task.pid).collect();
        let oldest = crowd[1..].iter().filter(|&&id| id != crowd[300]).take(299);
        let expected: Vec<_> = oldest.copied().chain([root, crowd[300]]).collect();
        assert_eq!(ids, expected);
        assert_eq!((processes.dropped, walker.snapshot.losses.process_id), (99, Some(crowd[399])));
    }
}
