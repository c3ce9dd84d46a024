//! Views of processes: other ways to tasks than the IDR and the lists, and which view lacks a
//! process that it must show.
//!
//! Most of these lists run through `task_struct`s that are read anyway, so following them costs no
//! read. Tasks that only these lists show are read in addition. They must pass stricter checks than
//! tasks of the IDR: the lists change while they are followed, and a wrong turn must not create a
//! process.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::early_stop::EarlyStop;
use panoptes_decoders::kernel::rq::RunQueueState;
use panoptes_decoders::kernel::task_struct::{PID_MAX_LIMIT, PIDTYPE_PGID, PIDTYPE_SID, Task};
use panoptes_decoders::layout::{PackedField, View};

use super::budget::Resume;
use super::carry_over::{HINTS_MAX, Hint, RUN_QUEUES_MAX, WalkCheckpoint};
use super::cgroups::CSS_SET_HEADS;
use super::losses::WalkedStructure;
use super::snapshot::{Index, ThreadRow, row_at, view};
use super::tables::Snapshot;
use super::{Kernel, Losses, ScannedMemory, Walker, fetch};
use panoptes_tables::{AddressMap, AddressedRows, Insertion, room};

/// Maximum number of control groups' queues read to find run queues: each group has one per
/// processor.
const CFS_RUN_QUEUES_MAX: usize = 8192;
/// Number of scans for which the list of run queues is valid: processors are rarely hot-plugged.
pub(super) const RUN_QUEUES_EVERY_SCANS: u32 = 128;

/// Ways to tasks beside the IDR and the lists. These are only addresses; each scan reads the tasks
/// anew.
#[derive(Debug)]
pub(super) struct Hints {
    /// Whether the IDR and all its tasks were read, so that absence from it is meaningful.
    pub(super) idr_trusted: bool,
    /// `struct rq *`, one per processor; kept from scan to scan.
    pub(super) run_queues: Vec<KernelVa>,
    pub(super) run_queues_age: u32,
    /// Whether they are those of all processors.
    pub(super) run_queues_whole: bool,
    running: Vec<(KernelVa, RunQueueState)>,
    /// First entries of the lists of process groups and sessions, each with its `PIDTYPE_*`.
    groups: Vec<(KernelVa, usize)>,
    /// Heads of the lists of `css_set_table`.
    pub(super) css_sets: Vec<KernelVa>,
    kept: Vec<Hint>,
    kept_next: Vec<Hint>,
    /// The reason if one of these lists was full in this scan.
    full: Option<EarlyStop>,
    /// Positions at which the next scan continues with what this one leaves.
    pub(super) resume: Resume,
}

impl Hints {
    pub(super) fn new(processes: usize) -> Self {
        Self {
            idr_trusted: false,
            run_queues: room::list(RUN_QUEUES_MAX),
            run_queues_age: 0,
            run_queues_whole: false,
            running: room::list(RUN_QUEUES_MAX),
            groups: room::list(processes * 2),
            css_sets: room::list(CSS_SET_HEADS),
            kept: room::list(processes + HINTS_MAX),
            kept_next: room::list(processes + HINTS_MAX),
            full: None,
            resume: Resume::default(),
        }
    }

    /// Continues with what is kept of a system.
    pub(super) fn resume(&mut self, kept: &mut WalkCheckpoint) {
        self.exchange(kept);
        mem::swap(&mut self.kept_next, &mut kept.tasks);
    }

    /// Returns what is kept of a system after a scan, which has its list of tasks in `self.kept`.
    pub(super) fn keep(&mut self, kept: &mut WalkCheckpoint) {
        self.exchange(kept);
        refill(&mut self.kept, &self.kept_next);
        mem::swap(&mut self.kept, &mut kept.tasks);
    }

    fn exchange(&mut self, kept: &mut WalkCheckpoint) {
        mem::swap(&mut self.run_queues, &mut kept.run_queues);
        mem::swap(&mut self.run_queues_age, &mut kept.run_queues_age);
        mem::swap(&mut self.run_queues_whole, &mut kept.run_queues_whole);
        mem::swap(&mut self.resume, &mut kept.resume);
    }

    pub(super) fn begin_scan(&mut self) {
        self.idr_trusted = false;
        self.running.clear();
        self.groups.clear();
        self.full = None;
        mem::swap(&mut self.kept, &mut self.kept_next);
        self.kept_next.clear();
    }

    /// Drops what was kept from earlier scans.
    pub(super) fn forget(&mut self) {
        self.run_queues.clear();
        self.run_queues_age = 0;
        self.run_queues_whole = false;
        self.kept.clear();
        self.kept_next.clear();
        self.resume = Resume::default();
    }

    /// Decodes a run queue; ignores an unreadable one.
    pub(super) fn take_run_queue(&mut self, kernel: &Kernel, at: KernelVa, bytes: Option<&[u8]>) {
        let Some((layout, bytes)) = kernel.layouts.rq.as_ref().zip(bytes) else { return };
        let running = (at, RunQueueState::decode(layout, bytes));
        self.full = push(&mut self.running, running).or(self.full);
    }

    /// Notes the process group and the session that have the number of a `struct pid`.
    pub(super) fn take_group_heads(&mut self, pid: View<'_>, tasks: PackedField) {
        for kind in [PIDTYPE_PGID, PIDTYPE_SID] {
            let first = KernelVa(pid.u64_at(tasks, kind));
            if !first.is_null() {
                self.full = push(&mut self.groups, (first, kind)).or(self.full);
            }
        }
    }

    fn hint(&mut self, task: KernelVa, views: u16) {
        self.full = push(&mut self.kept_next, Hint { task, views }).or(self.full);
    }
}

/// Copies a list, as far as there is room.
fn refill<T: Copy>(list: &mut Vec<T>, from: &[T]) {
    list.clear();
    list.extend_from_slice(&from[..from.len().min(list.capacity())]);
}

/// Adds to a list that was allocated at start. Returns the reason if there is no room.
fn push<T>(list: &mut Vec<T>, entry: T) -> Option<EarlyStop> {
    if list.len() == list.capacity() {
        return Some(EarlyStop::NoRoom { rows: list.len() as u32 });
    }
    list.push(entry);
    None
}

/// Tasks to read that have no row: each once in a scan.
pub(super) struct Candidates<'a> {
    pub(super) visited: &'a mut AddressMap,
    pub(super) found: &'a mut Vec<KernelVa>,
    pub(super) losses: &'a mut Losses,
}

impl Candidates<'_> {
    pub(super) fn add(&mut self, task: KernelVa) {
        if !task.is_plausible() {
            return;
        }
        let mut stop = None;
        if self.found.len() == self.found.capacity() {
            stop = Some(EarlyStop::NoRoom { rows: self.found.len() as u32 });
        } else {
            match self.visited.insert(task.0, 1) {
                Insertion::New => self.found.push(task),
                Insertion::Old(_) => {}
                Insertion::Full => {
                    stop = Some(EarlyStop::NoRoom { rows: self.visited.len() as u32 });
                }
            }
        }
        if let Some(stop) = stop {
            self.losses.stop(WalkedStructure::HintList, stop);
        }
    }
}

impl Walker {
    /// Follows every way to tasks other than the IDR and the two lists, over the rows; collects
    /// tasks without a row.
    pub(super) fn follow_task_hints(&mut self, kernel: &Kernel, found: &mut Vec<KernelVa>) {
        let layout = &kernel.layouts.task_struct;
        let threads = &mut self.snapshot.threads;
        let (visited, losses) = (&mut self.visited, &mut self.snapshot.losses);
        let mut candidates = Candidates { visited, found, losses };
        for row in threads.iter_mut() {
            row.views &= view::IDR | view::TASK_LIST | view::THREAD_GROUP | view::PID_LIST;
        }
        for hint in &self.hints.kept {
            match threads.find(hint.task.0).map(|at| &mut threads[at]) {
                Some(row) if row.views & (view::IDR | view::TASK_LIST) != 0 => {}
                Some(row) => row.views |= hint.views,
                None => candidates.add(hint.task),
            }
        }
        if let (Some(children), Some(sibling)) = (layout.children, layout.sibling) {
            let offsets = (children.offset.into(), sibling.offset.into());
            for parent in threads.indexes() {
                follow_children(threads, parent, offsets, &mut candidates);
            }
        }
        for &(first, kind) in &self.hints.groups {
            follow_group(threads, layout.pid_links, first, kind, &mut candidates);
        }
        follow_run_queues(&self.hints, kernel, threads, &mut candidates);
        for at in threads.indexes().skip(1) {
            let task = threads[at].task;
            for named in [task.real_parent, task.group_leader] {
                match threads.find(named.0).map(|at| &mut threads[at]) {
                    Some(row) if row.views & (view::IDR | view::TASK_LIST) != 0 => {}
                    Some(row) if named != task.address => row.views |= view::NAMED,
                    Some(_) => {}
                    None => candidates.add(named),
                }
            }
        }
    }

    /// Reads tasks found only through hints and adds a row for each that is certainly one.
    /// Returns whether it added any.
    pub(super) fn fetch_task_hints(
        &mut self,
        memory: &mut ScannedMemory<'_>,
        addresses: &[KernelVa],
    ) -> bool {
        let kernel = memory.kernel;
        let layout = &kernel.layouts.task_struct;
        let threads = &mut self.snapshot.threads;
        let hints = &mut self.hints;
        let before = threads.len();
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let Some(bytes) = bytes else { return };
            let task = Task::decode(layout, addresses[index], bytes);
            if !is_living(&task, kernel) {
                return;
            }
            if !task.is_leader() {
                let leader = threads.at(threads.find(task.group_leader.0));
                if leader.is_none() {
                    hints.hint(task.group_leader, view::NAMED);
                }
                if leader.is_none_or(|leader| leader.task.tgid != task.tgid) {
                    return;
                }
            }
            threads.row_of(task.address.0, || ThreadRow::new(task));
        });
        threads.len() > before
    }

    /// Adds a row for every set of control groups at the head of a list in the kernel's table. The
    /// sets behind it follow.
    pub(super) fn list_css_sets(&mut self, kernel: &Kernel) {
        let Some(hlist) = kernel.layouts.css_set.and_then(|layout| layout.hlist) else { return };
        for &first in &self.hints.css_sets {
            if first.is_plausible() {
                row_at(&mut self.snapshot.css_sets, first.minus(hlist.offset.into()));
            }
        }
    }

    /// Follows the control groups' lists of tasks over the rows; the next scan checks tasks without
    /// a row.
    pub(super) fn follow_control_groups(&mut self, kernel: &Kernel) {
        let Some(layout) = &kernel.layouts.css_set else { return };
        let (Some(node), Some(tasks), Some(moving)) =
            (kernel.layouts.task_struct.cg_list, layout.tasks, layout.mg_tasks)
        else {
            return;
        };
        let heads = [u64::from(tasks.offset), u64::from(moving.offset)];
        let Snapshot { css_sets: sets, threads, losses, .. } = &mut self.snapshot;
        for index in sets.indexes() {
            let set = &sets[index];
            let mut follow = |first: KernelVa, head: u64| {
                let mut link = first;
                for _ in 0..=threads.len() {
                    if link == set.address.plus(head) {
                        return Ok(());
                    }
                    // A task that was moved leads to the end of another list.
                    if heads.iter().any(|&head| sets.find(link.minus(head).0).is_some()) {
                        return Err(EarlyStop::Changed { address: set.address });
                    }
                    let at = link.minus(node.offset.into());
                    let row = threads.find(at.0);
                    let Some(row) = threads.at_mut(row) else {
                        if !at.is_plausible() {
                            return Err(EarlyStop::Unreadable { address: at });
                        }
                        if !first.is_null() {
                            self.hints.hint(at, 0);
                        }
                        // A task that began or ended meanwhile has no row.
                        return Err(EarlyStop::Changed { address: at });
                    };
                    if row.views & view::CONTROL_GROUP != 0 {
                        return Err(EarlyStop::Loop { address: at });
                    }
                    row.views |= view::CONTROL_GROUP;
                    link = row.task.cg_next;
                }
                Err(EarlyStop::TooLong { limit: threads.len() as u32 })
            };
            let lists = [(set.first_task, heads[0]), (set.first_moving, heads[1])];
            let ends = lists.map(|(first, head)| (first, follow(first, head)));
            // A set that could not be read, which is counted, has no first task.
            for (_, end) in ends.iter().filter(|(first, _)| !first.is_null()) {
                if let Err(stop) = *end {
                    losses.stop(WalkedStructure::ControlGroupTaskList, stop);
                }
            }
            sets[index].closed = ends.iter().all(|(_, end)| end.is_ok());
        }
    }

    /// Finds the run queue of each processor, once in `RUN_QUEUES_EVERY_SCANS` scans. Every task
    /// names its control group's queue on its processor, and each processor has tasks of its own.
    pub(super) fn find_run_queues(&mut self, memory: &mut ScannedMemory<'_>) {
        let age = self.hints.run_queues_age;
        self.hints.run_queues_age = (age + 1) % RUN_QUEUES_EVERY_SCANS;
        let layout = memory.kernel.layouts.cfs_rq.as_ref();
        let Some(layout) = layout.filter(|_| age == 0) else { return };
        let Some(rq) = layout.rq else { return };
        let visited = &mut self.visited;
        let addresses = &mut self.scratch.addresses;
        visited.clear();
        addresses.clear();
        for row in self.snapshot.threads.iter() {
            let queue = row.task.cfs_rq;
            if queue.is_plausible()
                && addresses.len() < CFS_RUN_QUEUES_MAX
                && visited.insert(queue.0, 0) == Insertion::New
            {
                addresses.push(queue);
            }
        }
        let queues = &mut self.hints.run_queues;
        queues.clear();
        visited.clear();
        let (losses, mut full, mut unread) = (&mut self.snapshot.losses, None, 0);
        fetch(&mut self.reader, memory, &layout.packing, addresses, |index, bytes| {
            let queue = bytes.map(|bytes| View::new(bytes).pointer(rq));
            let Some(queue) = queue.filter(|queue| queue.is_plausible()) else {
                losses.miss(WalkedStructure::RunQueueList, addresses[index]);
                unread += 1;
                return;
            };
            if visited.insert(queue.0, 0) == Insertion::New {
                full = push(queues, queue).or(full);
            }
        });
        if addresses.len() == CFS_RUN_QUEUES_MAX {
            full = Some(EarlyStop::NoRoom { rows: CFS_RUN_QUEUES_MAX as u32 });
        }
        if let Some(stop) = full {
            losses.stop(WalkedStructure::RunQueueList, stop);
        }
        let has_room = addresses.len() < CFS_RUN_QUEUES_MAX && queues.len() < queues.capacity();
        self.hints.run_queues_whole = has_room && unread == 0 && self.snapshot.threads.dropped == 0;
    }

    /// Notes which views lack a process that they must show, and records hints for tasks that no
    /// list shows.
    pub(super) fn note_missing(&mut self, kernel: &Kernel) {
        let snapshot = &mut self.snapshot;
        let (threads, losses) = (&mut snapshot.threads, &mut snapshot.losses);
        // A task that leaves all lists but lives on stays at its address.
        for row in threads.iter().skip(1) {
            let is_unlisted = row.views & (view::IDR | view::TASK_LIST) == 0;
            let is_leader = row.task.is_leader() && row.process.is_some();
            if (is_unlisted || is_leader) && row.task.is_settled() {
                let kept = row.views & view::RUN_QUEUE;
                self.hints.hint(row.task.address, kept | view::REMEMBERED);
            }
        }
        if let Some(stop) = self.hints.full.take() {
            losses.stop(WalkedStructure::HintList, stop);
        }
        let layouts = &kernel.layouts;
        let task_layout = &layouts.task_struct;
        let has_families = task_layout.children.is_some() && task_layout.sibling.is_some();
        let has_groups = task_layout.cg_list.is_some()
            && layouts.css_set.as_ref().is_some_and(|css_set| css_set.tasks.is_some());
        let mut steps = 2 * threads.len();
        for process in snapshot.processes.iter_mut() {
            let leader = &mut threads[process.leader];
            let task = leader.task;
            // A thread that replaces its leader is in the lists once it is its own leader
            // (`de_thread`, fs/exec.c).
            if !task.is_settled() || task.group_leader != task.address {
                continue;
            }
            if self.pids.get(task.thread_pid.0).is_some() {
                leader.views |= view::IDR;
            }
            let own = task.address.plus(task_layout.pid_links.offset.into());
            if process.first_of_pid == Some(own) {
                leader.views |= view::PID_LIST;
            }
            let views = leader.views;
            let group = process.first_thread.and_then(|first| {
                let shows = group_shows(threads, (&task, first), kernel, &mut steps);
                shows.inspect_err(|&stop| losses.stop(WalkedStructure::ThreadList, stop)).ok()
            });
            if group == Some(true) {
                threads[process.leader].views |= view::THREAD_GROUP;
            }
            let parent = threads.at(threads.find(task.real_parent.0));
            let set = snapshot.css_sets.at(process.css_set);
            let mut check =
                |bit: u16, is_whole: bool, shows: bool| match (is_whole && process.stable, shows) {
                    (_, true) => {}
                    (true, false) => process.missing.0 |= bit,
                    (false, false) => process.unknown.0 |= bit,
                };
            let sees = |bit: u16| views & bit != 0;
            check(view::TASK_LIST, snapshot.task_list_closed, sees(view::TASK_LIST));
            check(view::IDR, self.hints.idr_trusted, sees(view::IDR));
            check(view::PID_LIST, process.first_of_pid.is_some(), sees(view::PID_LIST));
            check(view::THREAD_GROUP, group.is_some(), group == Some(true));
            if has_families {
                let closed = parent.is_some_and(|row| row.views & view::CHILDREN_CLOSED != 0);
                check(view::CHILDREN, closed, sees(view::CHILDREN));
            }
            if has_groups && !task.is_exiting() {
                let closed = set.is_some_and(|set| set.closed);
                check(view::CONTROL_GROUP, closed, sees(view::CONTROL_GROUP));
            }
        }
    }
}

/// Follows the run queues over the rows.
fn follow_run_queues(
    hints: &Hints,
    kernel: &Kernel,
    threads: &mut AddressedRows<ThreadRow>,
    candidates: &mut Candidates<'_>,
) {
    let fair = kernel.layouts.rq.as_ref().and_then(|layout| layout.cfs_tasks);
    let offsets = kernel.layouts.task_struct.group_node.zip(fair);
    let offsets = offsets.map(|(node, head)| (u64::from(node.offset), u64::from(head.offset)));
    // All lists together have at most as many entries as there are tasks; forged lists may be
    // longer.
    let mut steps = threads.len();
    for (queue, running) in &hints.running {
        let mut see = |threads: &mut AddressedRows<ThreadRow>, task: KernelVa, known| {
            match threads.at_mut(known) {
                _ if task == running.idle => {}
                Some(row) => row.views |= view::RUN_QUEUE,
                None => candidates.add(task),
            }
            threads.at(known).map(|row| row.task.run_queue_next)
        };
        let current = threads.find(running.current.0);
        see(threads, running.current, current);
        let Some((node, head)) = offsets else { continue };
        let mut link = running.first_fair;
        let mut stop = None;
        while link.minus(head) != *queue {
            if steps == 0 {
                stop = Some(EarlyStop::TooLong { limit: threads.len() as u32 });
                break;
            }
            steps -= 1;
            let task = link.minus(node);
            let known = threads.find(task.0);
            // A task that moved to another processor leads to the end of another list.
            if known.is_none() && hints.run_queues.contains(&link.minus(head)) {
                stop = Some(EarlyStop::Changed { address: *queue });
                break;
            }
            match see(threads, task, known) {
                Some(next) if next != link => link = next,
                Some(_) => {
                    stop = Some(EarlyStop::Loop { address: task });
                    break;
                }
                // It is read if it can be a task.
                None => break,
            }
        }
        if let Some(stop) = stop {
            candidates.losses.stop(WalkedStructure::RunQueueList, stop);
        }
    }
}

/// Follows a list of children over the rows; it is complete if it ends at its own head.
fn follow_children(
    threads: &mut AddressedRows<ThreadRow>,
    parent: Index<ThreadRow>,
    (children, sibling): (u64, u64),
    candidates: &mut Candidates<'_>,
) {
    let head = threads[parent].task.address.plus(children);
    let mut link = threads[parent].task.first_child;
    while link != head {
        let child = link.minus(sibling);
        let Some(at) = threads.find(child.0) else {
            // A child that moved to another parent leads to the end of another list.
            if threads.find(link.minus(children).0).is_none() {
                candidates.add(child);
            } else {
                let stop = EarlyStop::Changed { address: threads[parent].task.address };
                candidates.losses.stop(WalkedStructure::ChildList, stop);
            }
            return;
        };
        let row = &mut threads[at];
        // A child is in one list only, so this also ends a forged ring.
        if row.views & view::CHILDREN != 0 {
            let stop = EarlyStop::Loop { address: child };
            candidates.losses.stop(WalkedStructure::ChildList, stop);
            return;
        }
        row.views |= view::CHILDREN;
        link = row.task.sibling_next;
    }
    threads[parent].views |= view::CHILDREN_CLOSED;
}

/// Follows the list of a process group or a session over the rows.
fn follow_group(
    threads: &mut AddressedRows<ThreadRow>,
    pid_links: PackedField,
    first: KernelVa,
    kind: usize,
    candidates: &mut Candidates<'_>,
) {
    let bit = if kind == PIDTYPE_PGID { view::PROCESS_GROUP } else { view::SESSION };
    let offset = u64::from(pid_links.offset) + kind as u64 * 16;
    let mut link = first;
    while !link.is_null() {
        let member = link.minus(offset);
        let Some(at) = threads.find(member.0) else {
            candidates.add(member);
            return;
        };
        let row = &mut threads[at];
        if row.views & bit != 0 {
            let stop = EarlyStop::Loop { address: member };
            candidates.losses.stop(WalkedStructure::TaskGroupList, stop);
            return;
        }
        row.views |= bit;
        link = match kind {
            PIDTYPE_PGID => row.task.process_group_next,
            _ => row.task.session_next,
        };
    }
}

/// Whether a process's list of threads, which begins with `link`, contains its leader. An error is
/// the reason why the list cannot be followed.
fn group_shows(
    threads: &AddressedRows<ThreadRow>,
    (leader, mut link): (&Task, KernelVa),
    kernel: &Kernel,
    steps: &mut usize,
) -> Result<bool, EarlyStop> {
    let node = u64::from(kernel.layouts.task_struct.thread_node.offset);
    let head = leader.signal.plus(kernel.layouts.signal_struct.thread_head.offset.into());
    loop {
        if link == head {
            return Ok(false);
        }
        let thread = link.minus(node);
        if thread == leader.address {
            return Ok(true);
        }
        let too_long = EarlyStop::TooLong { limit: threads.len() as u32 };
        *steps = steps.checked_sub(1).ok_or(too_long)?;
        // A thread that began or ended meanwhile has no row.
        let row = threads.at(threads.find(thread.0));
        link = row.ok_or(EarlyStop::Changed { address: thread })?.task.thread_next;
    }
}

/// Whether the bytes that a list led to can be a task, so that arbitrary memory does not pass as
/// one.
pub(super) fn is_sane(task: &Task, kernel: &Kernel) -> bool {
    let is_init = task.address == kernel.roots.init_task;
    let ids = task.pid <= PID_MAX_LIMIT && task.tgid <= PID_MAX_LIMIT && (is_init || task.pid != 0);
    let pointer = |address: KernelVa| address.is_null() || address.is_plausible();
    ids && task.tasks_next.is_plausible()
        && task.real_cred.is_plausible()
        && task.group_leader.is_plausible()
        && [task.mm, task.files, task.fs, task.signal, task.nsproxy].into_iter().all(pointer)
}

/// Whether a task found through hints is certainly a living task.
fn is_living(task: &Task, kernel: &Kernel) -> bool {
    let has_groups = kernel.layouts.task_struct.cgroups.is_some();
    is_sane(task, kernel)
        && task.is_settled()
        && task.start_boottime != 0
        && (task.is_leader() == (task.group_leader == task.address))
        && [task.signal, task.real_parent].into_iter().all(KernelVa::is_plausible)
        && (!has_groups || task.cgroups.is_plausible())
}

#[cfg(test)]
mod tests;
