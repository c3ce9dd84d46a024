//! Views of processes: other ways to tasks than the IDR and the lists, and which view lacks a
//! process that it must show.
//!
//! Most of these lists run through `task_struct`s that are read anyway, so following them costs no
//! read. Tasks that only these lists show are read in addition. They must pass stricter checks than
//! tasks of the IDR: the lists change while they are followed, and a wrong turn must not create a
//! process.

use core::mem;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::rq::RunQueueState;
use panoptes_decoders::kernel::task_struct::{PID_MAX_LIMIT, PIDTYPE_PGID, PIDTYPE_SID, Task};
use panoptes_decoders::layout::{PackedField, View};

use super::budget::Resume;
use super::carry_over::{HINTS_MAX, Hint, RUN_QUEUES_MAX, WalkCheckpoint};
use super::cgroups::CSS_SET_HEADS;
use super::snapshot::{Index, ProcessRow, ThreadRow, row_at, view};
use super::{Kernel, ScannedMemory, Walker, fetch};
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
        push(&mut self.running, (at, RunQueueState::decode(layout, bytes)));
    }

    /// Notes the process group and the session that have the number of a `struct pid`.
    pub(super) fn take_group_heads(&mut self, pid: View<'_>, tasks: PackedField) {
        for kind in [PIDTYPE_PGID, PIDTYPE_SID] {
            let first = KernelVa(pid.u64_at(tasks, kind));
            if !first.is_null() {
                push(&mut self.groups, (first, kind));
            }
        }
    }

    fn hint(&mut self, task: KernelVa, views: u16) {
        push(&mut self.kept_next, Hint { task, views });
    }
}

/// Copies a list, as far as there is room.
fn refill<T: Copy>(list: &mut Vec<T>, from: &[T]) {
    list.clear();
    list.extend_from_slice(&from[..from.len().min(list.capacity())]);
}

/// Adds to a list that was allocated at start, if there is room.
fn push<T>(list: &mut Vec<T>, entry: T) {
    if list.len() < list.capacity() {
        list.push(entry);
    }
}

/// Tasks to read that have no row: each once in a scan.
pub(super) struct Candidates<'a> {
    pub(super) visited: &'a mut AddressMap,
    pub(super) found: &'a mut Vec<KernelVa>,
}

impl Candidates<'_> {
    pub(super) fn add(&mut self, task: KernelVa) {
        if task.is_plausible()
            && self.found.len() < self.found.capacity()
            && self.visited.insert(task.0, 1) == Insertion::New
        {
            self.found.push(task);
        }
    }
}

impl Walker {
    /// Follows every way to tasks other than the IDR and the two lists, over the rows; collects
    /// tasks without a row.
    pub(super) fn follow_hearsay(&mut self, kernel: &Kernel, found: &mut Vec<KernelVa>) {
        let layout = &kernel.layouts.task_struct;
        let threads = &mut self.snapshot.threads;
        let mut candidates = Candidates { visited: &mut self.visited, found };
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
        let fair = kernel.layouts.rq.as_ref().and_then(|layout| layout.cfs_tasks);
        let offsets = layout.group_node.zip(fair);
        let offsets = offsets.map(|(node, head)| (u64::from(node.offset), u64::from(head.offset)));
        // All lists together have at most as many entries as there are tasks; forged lists may be
        // longer.
        let mut steps = threads.len();
        for (queue, running) in &self.hints.running {
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
            while steps > 0 && link.minus(head) != *queue {
                steps -= 1;
                let task = link.minus(node);
                let known = threads.find(task.0);
                // A task that moved to another processor leads to the end of another list.
                if known.is_none() && self.hints.run_queues.contains(&link.minus(head)) {
                    break;
                }
                match see(threads, task, known) {
                    Some(next) if next != link => link = next,
                    _ => break,
                }
            }
        }
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
    pub(super) fn fetch_hearsay(
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
        let (sets, threads) = (&mut self.snapshot.css_sets, &mut self.snapshot.threads);
        for index in sets.indexes() {
            let set = &sets[index];
            let mut follow = |first: KernelVa, head: u64| {
                let mut link = first;
                for _ in 0..=threads.len() {
                    if link == set.address.plus(head) {
                        return true;
                    }
                    // A task that was moved leads to the end of another list.
                    if heads.iter().any(|&head| sets.find(link.minus(head).0).is_some()) {
                        return false;
                    }
                    let at = link.minus(node.offset.into());
                    let row = threads.find(at.0);
                    let Some(row) = threads.at_mut(row) else {
                        if at.is_plausible() && !first.is_null() {
                            self.hints.hint(at, 0);
                        }
                        return false;
                    };
                    if row.views & view::CONTROL_GROUP != 0 {
                        return false;
                    }
                    row.views |= view::CONTROL_GROUP;
                    link = row.task.cg_next;
                }
                false
            };
            let closed = [follow(set.first_task, heads[0]), follow(set.first_moving, heads[1])];
            sets[index].closed = closed == [true, true];
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
        let mut unread = 0;
        fetch(&mut self.reader, memory, &layout.packing, addresses, |_, bytes| {
            let queue = bytes.map(|bytes| View::new(bytes).pointer(rq));
            let Some(queue) = queue.filter(|queue| queue.is_plausible()) else {
                unread += 1;
                return;
            };
            if visited.insert(queue.0, 0) == Insertion::New {
                push(queues, queue);
            }
        });
        let has_room = addresses.len() < CFS_RUN_QUEUES_MAX && queues.len() < queues.capacity();
        self.hints.run_queues_whole = has_room && unread == 0 && self.snapshot.threads.dropped == 0;
    }

    /// Notes which views lack a process that they must show, and records hints for tasks that no
    /// list shows.
    pub(super) fn note_missing(&mut self, kernel: &Kernel) {
        let snapshot = &mut self.snapshot;
        let threads = &mut snapshot.threads;
        // A task that leaves all lists but lives on stays at its address.
        for row in threads.iter().skip(1) {
            let is_unlisted = row.views & (view::IDR | view::TASK_LIST) == 0;
            let is_leader = row.task.is_leader() && row.process.is_some();
            if (is_unlisted || is_leader) && row.task.is_settled() {
                let kept = row.views & view::RUN_QUEUE;
                self.hints.hint(row.task.address, kept | view::REMEMBERED);
            }
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
            let group = group_shows(threads, process, kernel, &mut steps);
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
            }
            return;
        };
        let row = &mut threads[at];
        // A child is in one list only, so this also ends a forged ring.
        if row.views & view::CHILDREN != 0 {
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
        let Some(row) = threads.at_mut(at).filter(|row| row.views & bit == 0) else {
            return;
        };
        row.views |= bit;
        link = match kind {
            PIDTYPE_PGID => row.task.process_group_next,
            _ => row.task.session_next,
        };
    }
}

/// Whether a process's list of threads contains its leader; `None` if the list cannot be followed.
fn group_shows(
    threads: &AddressedRows<ThreadRow>,
    process: &ProcessRow,
    kernel: &Kernel,
    steps: &mut usize,
) -> Option<bool> {
    let leader = &threads[process.leader].task;
    let node = u64::from(kernel.layouts.task_struct.thread_node.offset);
    let head = leader.signal.plus(kernel.layouts.signal_struct.thread_head.offset.into());
    let mut link = process.first_thread?;
    loop {
        if link == head {
            return Some(false);
        }
        if link.minus(node) == leader.address {
            return Some(true);
        }
        *steps = steps.checked_sub(1)?;
        let row = threads.at(threads.find(link.minus(node).0))?;
        link = row.task.thread_next;
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
