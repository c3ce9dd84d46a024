//! The tasks that a profile leads to, by each view: the list in both directions, and the tree of
//! pids. A view that is torn ends there; the others continue.

use std::collections::HashSet;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::Task;
use panoptes_decoders::kernel::xarray::{self, XaSlot};
use panoptes_decoders::layout::View;

use super::ASKED_MAX;
use super::poll::{Poll, object};
use crate::memory::KernelMemory;

/// Maximum number of tasks that are walked; a longer list is cut.
const LISTED_MAX: usize = 1 << 16;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Anchors {
    /// Each task once.
    pub(super) tasks: Vec<Task>,
    /// Their addresses.
    pub(super) known: HashSet<KernelVa>,
    /// Whether each task of the list points back to the one before.
    pub(super) links: Poll,
    /// Whether the entries of the tree lead to tasks with their numbers.
    pub(super) pids: Poll,
    /// Whether the root of the tree is no node: since process 1 began, it always is one.
    pub(super) has_no_tree: bool,
}

impl Anchors {
    pub(super) fn read(
        memory: &mut KernelMemory<'_>,
        layouts: &Layouts,
        init_task: KernelVa,
        pid_namespace: Option<KernelVa>,
    ) -> Self {
        let mut anchors = Self::default();
        anchors.follow(memory, layouts, init_task, true);
        anchors.follow(memory, layouts, init_task, false);
        if let Some(namespace) = pid_namespace {
            anchors.read_pids(memory, layouts, namespace);
        }
        anchors
    }

    fn add(&mut self, task: Task) {
        if self.known.insert(task.address) {
            self.tasks.push(task);
        }
    }

    /// Follows the list of tasks in one direction, as far as it can be read.
    fn follow(
        &mut self,
        memory: &mut KernelMemory<'_>,
        layouts: &Layouts,
        init_task: KernelVa,
        is_forward: bool,
    ) {
        let layout = &layouts.task_struct;
        let link = u64::from(layout.tasks.offset);
        let mut seen = HashSet::new();
        let (mut at, mut before) = (init_task, None);
        while seen.len() < LISTED_MAX {
            let bytes = match object(memory, layout, at) {
                Ok(bytes) => bytes,
                Err(silence) => return self.links.silence(&silence),
            };
            let task = Task::decode(layout, at, &bytes);
            let (mut next, mut back) = (task.tasks_next, task.tasks_prev);
            if !is_forward {
                std::mem::swap(&mut next, &mut back);
            }
            if let Some(before) = before {
                self.links.vote(back == before, || format!("{at} points to {back}"));
            }
            if !seen.insert(at) {
                // The head is read again at the end.
                if at != init_task {
                    self.links.contradict(|| format!("the list comes back to {at}"));
                }
                return;
            }
            self.add(task);
            before = Some(at.plus(link));
            at = next.minus(link);
        }
    }

    /// Asks the oldest tasks of the tree of pids, process 1 among them, and some of the others.
    fn read_pids(&mut self, memory: &mut KernelMemory<'_>, layouts: &Layouts, namespace: KernelVa) {
        let idr = namespace.plus(u64::from(layouts.pid_namespace.idr.offset));
        let head = match object(memory, &layouts.idr, idr) {
            Ok(bytes) => View::new(&bytes).unsigned(layouts.idr.xa_head),
            Err(silence) => return self.pids.silence(&silence),
        };
        self.has_no_tree = !matches!(xarray::slot(head), XaSlot::Node(_));
        if self.has_no_tree {
            return self.pids.contradict(|| format!("its root is {head:#x}, which is no node"));
        }
        let entries = self.entries(memory, layouts, head);
        // The lowest numbers are those of the oldest tasks, which a tear concerns least.
        let (old, others) = entries.split_at(entries.len().min(ASKED_MAX / 2));
        let step = others.len().div_ceil(ASKED_MAX / 2).max(1);
        for &(number, pid) in old.iter().chain(others.iter().step_by(step)) {
            self.ask_pid(memory, layouts, number, pid);
        }
    }

    /// Whether a `struct pid` leads to the task with its number.
    fn ask_pid(
        &mut self,
        memory: &mut KernelMemory<'_>,
        layouts: &Layouts,
        number: u64,
        pid: KernelVa,
    ) {
        let at = match object(memory, &layouts.pid, pid) {
            Ok(bytes) => KernelVa(View::new(&bytes).u64_at(layouts.pid.tasks, 0)),
            Err(silence) => return self.pids.silence(&silence),
        };
        if at.is_null() {
            // It outlives its thread while a process group or a session has its number.
            return;
        }
        let at = at.minus(u64::from(layouts.task_struct.pid_links.offset));
        match object(memory, &layouts.task_struct, at) {
            Ok(bytes) => {
                let task = Task::decode(&layouts.task_struct, at, &bytes);
                let is_right = u64::from(task.pid) == number;
                self.pids.vote(is_right, || format!("{number} leads to pid {}", task.pid));
                if is_right {
                    self.add(task);
                }
            }
            Err(silence) => self.pids.silence(&silence),
        }
    }

    /// The entries of a tree with their numbers, ascending, as far as it can be read.
    fn entries(
        &mut self,
        memory: &mut KernelMemory<'_>,
        layouts: &Layouts,
        head: u64,
    ) -> Vec<(u64, KernelVa)> {
        let layout = &layouts.xa_node;
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        let mut open = vec![(0_u64, xarray::slot(head))];
        while let Some((first, slot)) = open.pop() {
            match slot {
                XaSlot::Entry(pid) => entries.push((first, pid)),
                XaSlot::Node(node) if seen.len() < LISTED_MAX && seen.insert(node) => {
                    let bytes = match object(memory, layout, node) {
                        Ok(bytes) => bytes,
                        Err(silence) => {
                            self.pids.silence(&silence);
                            continue;
                        }
                    };
                    let shift = View::new(&bytes).unsigned(layout.shift).min(63);
                    let begin = open.len();
                    xarray::for_each_slot(layout, &bytes, |index, slot| {
                        open.push((first.wrapping_add((index as u64) << shift), slot));
                    });
                    // A stack: lower numbers are read first.
                    open[begin..].reverse();
                }
                XaSlot::Empty | XaSlot::Node(_) => {}
            }
            if entries.len() >= LISTED_MAX {
                break;
            }
        }
        entries
    }
}
