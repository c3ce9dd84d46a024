//! Threads, through three views: the pid IDR, the task list and the thread groups.
//!
//! About four rounds read all `struct pid`s of the IDR; each leads to its task. The two lists are
//! then followed over the tasks already read; a task that is only in a list is read in addition.
//! Differences between the views reveal hidden processes, so each row has the views that show it.
//! Other ways to tasks are in `views`.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::layout::{View, u64_at};

use super::copied::MemoryCopyMode;
use super::fair_share::room_of_shown;
use super::idr::IdrKind;
use super::losses::WalkedStructure;
use super::snapshot::{Index, ThreadRow, view};
use super::views::{Candidates, is_sane};
use super::{
    Kernel, Losses, Reads, ScanError, ScannedMemory, WalkScratch, Walker, fetch, fetch_groups,
};
use panoptes_tables::{AddressedRows, Insertion};

/// How the pid IDR is counted.
const PIDS: IdrKind =
    IdrKind { node: WalkedStructure::PidTreeNode, tree: WalkedStructure::PidTree };
/// Maximum number of rounds, in one scan, that read tasks found only in a list: one round for
/// newborn tasks, the rest for chains of hidden ones. In a copy of memory, the tree of numbers may
/// have got a new root after its page was copied: then each task is found by the one before it.
const EXTRA_ROUNDS_MAX: u32 = 64;
/// The same for tasks that neither the IDR nor a list shows.
const TASK_HINT_ROUNDS_MAX: u32 = 8;

/// How far the task list and the thread groups were followed in this scan. Each entry is followed
/// once, however many rounds it takes to read the tasks that no row shows.
#[derive(Debug)]
struct TaskListCursor {
    /// The next task of the task list; `None` at the list's end.
    task: Option<KernelVa>,
    way: TaskListDirection,
    /// Position of the first row that was not looked at.
    row: usize,
    rounds_left: u32,
    /// Number of entries looked at.
    steps: u64,
}

/// The direction in which the task list is followed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TaskListDirection {
    Forth,
    /// From the end, if the list is torn.
    Back,
}

impl TaskListDirection {
    const fn next(self, task: &Task) -> KernelVa {
        match self {
            Self::Forth => task.tasks_next,
            Self::Back => task.tasks_prev,
        }
    }
}

impl TaskListCursor {
    /// The lists as `init_task` begins them.
    fn begin(threads: &AddressedRows<ThreadRow>, copied: MemoryCopyMode, kernel: &Kernel) -> Self {
        let link = u64::from(kernel.layouts.task_struct.tasks.offset);
        let task = threads.first().map(|row| row.task.tasks_next.minus(link));
        let rounds_left = Self::rounds(threads, copied);
        // Row 0 is `init_task`, which is in no group.
        Self { task, way: TaskListDirection::Forth, row: 1, rounds_left, steps: 0 }
    }

    /// Number of rounds that may read tasks which only the lists show.
    fn rounds(threads: &AddressedRows<ThreadRow>, copied: MemoryCopyMode) -> u32 {
        if copied.is_copy() { threads.capacity() as u32 } else { EXTRA_ROUNDS_MAX }
    }

    /// Continues the task list from its end.
    fn turn_back(&mut self, threads: &AddressedRows<ThreadRow>, kernel: &Kernel) {
        let link = u64::from(kernel.layouts.task_struct.tasks.offset);
        self.way = TaskListDirection::Back;
        self.task = threads.first().map(|row| row.task.tasks_prev.minus(link));
    }
}

impl Walker {
    /// Fills `threads`.
    pub(super) fn read_tasks(&mut self, memory: &mut ScannedMemory<'_>) -> Result<(), ScanError> {
        let mut found = mem::take(&mut self.scratch.addresses);
        found.clear();
        let kernel = memory.kernel;
        found.push(kernel.roots.init_task);
        self.fetch_tasks(memory, &found, 0, &[]);
        let is_swapper =
            |row: &ThreadRow| row.task.pid == 0 && row.task.name().starts_with(b"swapper");
        if !self.snapshot.threads.first().is_some_and(is_swapper) {
            if !kernel.lacks_init_task {
                self.scratch.addresses = found;
                return Err(ScanError::NoInitTask);
            }
            self.stand_in(kernel);
        }
        self.read_pid_idr(memory, &mut found);
        // Makes room for the lists in case a forged tree filled the set.
        self.visited.clear();
        let mut numbers = mem::take(&mut self.scratch.numbers);
        if found.len() <= room_of_shown(self.snapshot.threads.capacity()) {
            self.fetch_tasks(memory, &found, view::IDR | view::PID_LIST, &numbers);
        } else {
            self.fetch_task_shares(memory, &mut found, &mut numbers);
        }
        self.scratch.numbers = numbers;

        // The view is incomplete if a task of the tree is unreadable or does not look like a task.
        // A tree that leads to no task at all is none: process 1 never ends.
        let is_tree = self.snapshot.threads.iter().any(|row| row.views & view::IDR != 0);
        self.hints.idr_trusted =
            is_tree && self.snapshot.idr_complete && self.snapshot.losses.unreadable == 0;

        let mut lists = TaskListCursor::begin(&self.snapshot.threads, self.snapshot.copied, kernel);
        self.scratch.groups.clear();
        self.follow_lists(memory, &mut lists, &mut found);
        self.read_task_hints(memory, &mut lists, &mut found);
        if !self.snapshot.task_list_closed {
            lists.turn_back(&self.snapshot.threads, kernel);
            self.follow_lists(memory, &mut lists, &mut found);
        }
        self.scratch.addresses = found;
        Ok(())
    }

    /// Puts an empty task in the place of an `init_task` that a dump lacks.
    fn stand_in(&mut self, kernel: &Kernel) {
        let task = Task { address: kernel.roots.init_task, ..Task::default() };
        self.snapshot.threads.clear();
        self.snapshot.threads.row_of(task.address.0, || ThreadRow::new(task));
    }

    /// Reads the tasks that neither the IDR nor a list shows, and what these lead to.
    fn read_task_hints(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        lists: &mut TaskListCursor,
        found: &mut Vec<KernelVa>,
    ) {
        for round in 1..=TASK_HINT_ROUNDS_MAX {
            found.clear();
            let before = self.snapshot.losses.stops;
            self.follow_task_hints(memory.kernel, found);
            if found.is_empty() || !self.fetch_task_hints(memory, found) {
                return;
            }
            // The next round follows the same lists again, and counts what then ends early.
            if round < TASK_HINT_ROUNDS_MAX {
                self.snapshot.losses.stops = before;
            }
            self.follow_lists(memory, lists, found);
        }
        let stop = EarlyStop::TooLong { limit: TASK_HINT_ROUNDS_MAX };
        self.snapshot.losses.stop(WalkedStructure::TaskHints, stop);
    }

    /// Follows the task list and the thread groups, and reads the tasks that only they show.
    fn follow_lists(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        lists: &mut TaskListCursor,
        found: &mut Vec<KernelVa>,
    ) {
        loop {
            found.clear();
            self.follow_task_list(memory.kernel, lists, found);
            self.follow_thread_groups(memory.kernel, lists, found);
            if found.is_empty() {
                return;
            }
            let Some(left) = lists.rounds_left.checked_sub(1) else {
                let snapshot = &mut self.snapshot;
                let limit = TaskListCursor::rounds(&snapshot.threads, snapshot.copied);
                snapshot.losses.stop(WalkedStructure::TaskList, EarlyStop::TooLong { limit });
                return;
            };
            lists.rounds_left = left;
            self.fetch_tasks(memory, found, 0, &[]);
        }
    }

    /// Collects the address of every task that the initial pid namespace's IDR leads to, and its
    /// expected number in `numbers`.
    fn read_pid_idr(&mut self, memory: &mut ScannedMemory<'_>, found: &mut Vec<KernelVa>) {
        found.clear();
        let Kernel { layouts, roots, .. } = memory.kernel;
        let root = roots.init_pid_ns.plus(layouts.pid_idr_root());
        let Some(head) = memory.read_bytes(&mut self.reader, root, 8) else {
            self.snapshot.losses.miss(WalkedStructure::PidTree, root);
            return;
        };
        let head = u64_at(head, 0);
        let tree_is_whole = self.find_entries(memory, head, found, PIDS);
        let pids_are_whole = self.read_pids(memory, found);
        self.snapshot.idr_complete = tree_is_whole && pids_are_whole;
    }

    /// Reads every `struct pid` and collects the one task with its thread id: the first of
    /// `tasks[PIDTYPE_PID]`. Returns whether all were read.
    ///
    /// Its number in the initial namespace is `numbers[0]`. That is read separately, since newer
    /// kernels have a flexible array there, which has no size.
    fn read_pids(&mut self, memory: &mut ScannedMemory<'_>, found: &mut Vec<KernelVa>) -> bool {
        #[derive(Clone, Copy)]
        enum PidObjectKind {
            Number,
            Pid,
            RunQueue,
        }
        let kernel = memory.kernel;
        let layouts = &kernel.layouts;
        let link = u64::from(layouts.task_struct.pid_links.offset);
        let first_number = u64::from(layouts.pid.numbers.offset);
        let WalkScratch { pids, numbers, more: upids, .. } = &mut self.scratch;
        found.clear();
        numbers.clear();
        numbers.resize(pids.len(), 0);
        upids.clear();
        upids.extend(pids.iter().map(|pid| pid.plus(first_number)));
        let rq = layouts.rq.as_ref().map(|layout| layout.packing).unwrap_or_default();
        let hints = &mut self.hints;
        let queues = mem::take(&mut hints.run_queues);
        let mut whole = true;
        let batch = [
            (PidObjectKind::Number, &layouts.upid.packing, upids.as_slice()),
            (PidObjectKind::Pid, &layouts.pid.packing, pids.as_slice()),
            (PidObjectKind::RunQueue, &rq, &queues),
        ];
        fetch_groups(&mut self.reader, memory, batch, |kind, index, bytes| {
            match (kind, bytes.map(View::new)) {
                (PidObjectKind::RunQueue, _) => hints.take_run_queue(kernel, queues[index], bytes),
                (PidObjectKind::Number, Some(view)) => {
                    numbers[index] = view.unsigned(layouts.upid.nr) as u32;
                }
                (PidObjectKind::Number, None) => {
                    // A `struct pid` that cannot be read is counted once.
                    self.snapshot.losses.miss(WalkedStructure::PidTree, upids[index]);
                    whole = false;
                }
                (PidObjectKind::Pid, None) => {
                    self.snapshot.losses.miss(WalkedStructure::Pid, pids[index]);
                    whole = false;
                }
                (PidObjectKind::Pid, Some(view)) => {
                    if self.pids.insert(pids[index].0, 0) == Insertion::Full {
                        let stop = EarlyStop::NoRoom { rows: self.pids.len() as u32 };
                        self.snapshot.losses.stop(WalkedStructure::PidTree, stop);
                        whole = false;
                    }
                    hints.take_group_heads(view, layouts.pid.tasks);
                    let first = view.u64_at(layouts.pid.tasks, 0);
                    // A `struct pid` outlives its thread while a process group or session has its
                    // number.
                    if first != 0 {
                        // All numbers have been read; those of tasks move to the positions of their
                        // tasks.
                        numbers[found.len()] = numbers[index];
                        found.push(KernelVa(first).minus(link));
                    }
                }
            }
        });
        self.hints.run_queues = queues;
        whole
    }

    /// Reads tasks and adds a row for each new one. `numbers` are the expected thread ids, where
    /// known.
    pub(super) fn fetch_tasks(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        addresses: &[KernelVa],
        seen_in: u16,
        numbers: &[u32],
    ) {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.task_struct;
        let (threads, losses) = (&mut self.snapshot.threads, &mut self.snapshot.losses);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let address = addresses[index];
            let Some(bytes) = bytes else {
                losses.miss(WalkedStructure::Task, address);
                return;
            };
            let task = Task::decode(layout, address, bytes);
            place_task(threads, losses, kernel, task, seen_in, numbers.get(index));
        });
    }

    /// Follows the task list over the rows, from where it was left; adds the first task without a
    /// row to `unknown`.
    fn follow_task_list(
        &mut self,
        kernel: &Kernel,
        lists: &mut TaskListCursor,
        unknown: &mut Vec<KernelVa>,
    ) {
        let (visited, losses) = (&mut self.visited, &mut self.snapshot.losses);
        let mut unknown = Candidates { visited, found: unknown, losses };
        let link = u64::from(kernel.layouts.task_struct.tasks.offset);
        let head = kernel.roots.init_task;
        let threads = &mut self.snapshot.threads;
        while let Some(at) = lists.task {
            lists.steps += 1;
            if at == head {
                self.snapshot.task_list_closed |= lists.way == TaskListDirection::Forth;
                lists.task = None;
                return;
            }
            let Some(index) = threads.find(at.0) else {
                unknown.add(at);
                return;
            };
            let row = &mut threads[index];
            lists.task = Some(lists.way.next(&row.task).minus(link));
            if row.views & view::TASK_LIST != 0 {
                // A forged ring without the head, or the place where the way forth ended.
                if lists.way == TaskListDirection::Forth {
                    let stop = EarlyStop::Loop { address: at };
                    unknown.losses.stop(WalkedStructure::TaskList, stop);
                }
                lists.task = None;
            }
            row.views |= view::TASK_LIST;
        }
    }

    /// Follows each process's list of threads over the rows, from where it was left; adds tasks
    /// without a row to `unknown`.
    fn follow_thread_groups(
        &mut self,
        kernel: &Kernel,
        lists: &mut TaskListCursor,
        unknown: &mut Vec<KernelVa>,
    ) {
        let (visited, losses) = (&mut self.visited, &mut self.snapshot.losses);
        let mut unknown = Candidates { visited, found: unknown, losses };
        let node = u64::from(kernel.layouts.task_struct.thread_node.offset);
        let Reads { rows: leaders, addresses: links } = &mut self.scratch.groups;
        let threads = &mut self.snapshot.threads;
        let mut kept = 0;
        for at in 0..leaders.len() {
            let (leader, link) = (leaders[at], links[at]);
            if threads.find(link.minus(node).0).is_none() {
                // It was read, and is no task.
                lists.steps += 1;
                continue;
            }
            let end = follow_group(threads, kernel, leader, link, &mut lists.steps);
            if let Some(link) = unknown.losses.link_of(end) {
                unknown.add(link.minus(node));
                (leaders[kept], links[kept]) = (leader, link);
                kept += 1;
            }
        }
        leaders.truncate(kept);
        links.truncate(kept);
        for leader in threads.span_from(lists.row).indexes() {
            lists.steps += 1;
            let first = threads[leader].task;
            if !first.is_leader() {
                // A thread leads to its process's leader, even if that was taken out of the lists.
                if threads.find(first.group_leader.0).is_none() {
                    unknown.add(first.group_leader);
                }
                continue;
            }
            let link = first.thread_next;
            let end = follow_group(threads, kernel, leader, link, &mut lists.steps);
            if let Some(link) = unknown.losses.link_of(end) {
                unknown.add(link.minus(node));
                if leaders.len() < leaders.capacity() {
                    leaders.push(leader);
                    links.push(link);
                } else {
                    let stop = EarlyStop::NoRoom { rows: leaders.len() as u32 };
                    unknown.losses.stop(WalkedStructure::ThreadList, stop);
                }
            }
        }
        lists.row = threads.len();
    }
}

/// Adds a row for a task, if it is new. `number` is its expected thread id, where known.
#[inline]
pub(super) fn place_task(
    threads: &mut AddressedRows<ThreadRow>,
    losses: &mut Losses,
    kernel: &Kernel,
    task: Task,
    seen_in: u16,
    number: Option<&u32>,
) {
    // An attacker who makes a task look like none cannot change its number in the IDR.
    let is_numbered = number.is_some_and(|&nr| nr != 0 && nr == task.pid);
    if !is_numbered && !is_sane(&task, kernel) {
        losses.miss(WalkedStructure::Task, task.address);
        return;
    }
    let row = threads.row_of(task.address.0, || ThreadRow::new(task));
    if let Some(row) = threads.at_mut(row) {
        row.views |= seen_in;
    }
}

impl Losses {
    /// The link at which a list of threads continues. Notes the reason if the list is not followed
    /// further.
    fn link_of(&mut self, end: Result<Option<KernelVa>, EarlyStop>) -> Option<KernelVa> {
        end.unwrap_or_else(|stop| {
            self.stop(WalkedStructure::ThreadList, stop);
            None
        })
    }
}

/// Follows a process's list of threads over the rows, from a link on. Returns the link to the first
/// thread without a row, or the reason if the list leads to a thread for the second time.
fn follow_group(
    threads: &mut AddressedRows<ThreadRow>,
    kernel: &Kernel,
    leader: Index<ThreadRow>,
    mut link: KernelVa,
    steps: &mut u64,
) -> Result<Option<KernelVa>, EarlyStop> {
    let layouts = &kernel.layouts;
    let node = u64::from(layouts.task_struct.thread_node.offset);
    let first = threads[leader].task;
    let head = first.signal.plus(layouts.signal_struct.thread_head.offset.into());
    loop {
        *steps += 1;
        let at = link.minus(node);
        if link == head || at == first.address {
            return Ok(None);
        }
        let Some(index) = threads.find(at.0) else {
            return Ok(Some(link).filter(|_| !first.signal.is_null()));
        };
        let row = &mut threads[index];
        if row.task.tgid != first.tgid {
            return Ok(None);
        }
        // A thread is in one list only, so this also ends a forged ring.
        if row.views & view::THREAD_GROUP != 0 {
            return Err(EarlyStop::Loop { address: at });
        }
        row.views |= view::THREAD_GROUP;
        link = row.task.thread_next;
    }
}

#[cfg(test)]
mod tests;
