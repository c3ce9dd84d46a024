//! The lists that a process is in, and what in them proves that they lack it.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{EXIT_DEAD, Task};
use panoptes_decoders::layout::PackedField;

use super::super::snapshot::view;
use super::{FORK_MAX_NS, LINK_BYTES, TearProbe};

/// A list that processes are in, as one of them sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProcessList {
    /// All processes.
    Tasks,
    /// The children of its parent.
    Children,
    /// The threads of the process.
    Threads,
    /// The tasks of its control groups.
    ControlGroup,
}

impl ProcessList {
    pub(super) const ALL: [Self; 4] =
        [Self::Tasks, Self::Children, Self::Threads, Self::ControlGroup];

    /// The view that follows the list.
    pub(super) const fn view(self) -> u16 {
        match self {
            Self::Tasks => view::TASK_LIST,
            Self::Children => view::CHILDREN,
            Self::Threads => view::THREAD_GROUP,
            Self::ControlGroup => view::CONTROL_GROUP,
        }
    }

    /// Whether each entry began after the one before it. Children that have another parent since
    /// are the exception.
    const fn is_by_age(self) -> bool {
        matches!(self, Self::Tasks | Self::Children)
    }
}

/// A neighbour in a list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NeighbourSide {
    Before,
    Behind,
}

impl TearProbe<'_, '_> {
    /// Offset of the link of a list in a task.
    fn link_of(&self, list: ProcessList) -> Option<u64> {
        let layout = &self.memory.kernel.layouts.task_struct;
        let field = match list {
            ProcessList::Tasks => Some(layout.tasks),
            ProcessList::Children => layout.sibling,
            ProcessList::Threads => Some(layout.thread_node),
            ProcessList::ControlGroup => layout.cg_list,
        };
        field.map(|field| field.offset.into())
    }

    /// Heads of a list that has the process.
    fn heads_of(&self, list: ProcessList, css_set: Option<KernelVa>) -> [KernelVa; 2] {
        let kernel = self.memory.kernel;
        let layouts = &kernel.layouts;
        let at = |object: KernelVa, field: Option<PackedField>| {
            field.map_or(KernelVa::NULL, |field| object.plus(field.offset.into()))
        };
        let one = |head: KernelVa| [head, head];
        match list {
            ProcessList::Tasks => one(at(kernel.roots.init_task, Some(layouts.task_struct.tasks))),
            ProcessList::Children => one(at(self.task.real_parent, layouts.task_struct.children)),
            ProcessList::Threads => {
                one(at(self.task.signal, Some(layouts.signal_struct.thread_head)))
            }
            ProcessList::ControlGroup => {
                let Some((set, layout)) = css_set.zip(layouts.css_set.as_ref()) else {
                    return one(KernelVa::NULL);
                };
                [at(set, layout.tasks), at(set, layout.mg_tasks)]
            }
        }
    }

    /// Notes what shows the process in a list. If the list lacks it (`is_missing`), notes what
    /// proves that, and returns whether something does.
    pub(super) fn look_at_list(
        &mut self,
        list: ProcessList,
        css_set: Option<KernelVa>,
        is_missing: bool,
    ) -> bool {
        let Some(link) = self.link_of(list) else { return false };
        let heads = self.heads_of(list, css_set);
        let node = self.task.address.plus(link);
        let (Some(next), Some(before)) = (self.word(node), self.word(node.plus(LINK_BYTES))) else {
            return false;
        };
        let (next, before) = (KernelVa(next), KernelVa(before));
        let mut is_shown = false;
        let leads_to_itself = next == node || before == node;
        for place in [before, next.plus(LINK_BYTES)].into_iter().filter(|_| !leads_to_itself) {
            if place.is_plausible() && self.word(place) == Some(node.0) {
                self.show_link(place);
                is_shown = true;
            }
        }
        if !is_missing || is_shown {
            return false;
        }
        // `list_del_init` leaves a link that leads to itself, and `list_del` one that leads nowhere
        // (include/linux/list.h).
        if leads_to_itself || !before.is_plausible() || !next.is_plausible() {
            return self.lack(node);
        }
        let mut is_proven = false;
        if self.is_neighbour(list, before, heads, NeighbourSide::Before)
            && self.skips(list, heads, before, Some(node))
        {
            is_proven |= self.lack(before);
        }
        if self.is_neighbour(list, next, heads, NeighbourSide::Behind)
            && self.skips_back(list, heads, next, node)
        {
            is_proven |= self.lack(next.plus(LINK_BYTES));
            let is_old = self.member(list, next).is_some_and(|it| !self.clock.is_young(&it));
            self.evidence.is_followed |= !heads.contains(&next) && (list.is_by_age() || is_old);
        }
        is_proven
            || match list {
                ProcessList::Tasks => self.look_at_gap(link, heads),
                ProcessList::Children => self.look_at_ring(heads[0]),
                ProcessList::Threads | ProcessList::ControlGroup => false,
            }
    }

    /// Whether the entry at `before`, which belongs before the process, proves that the process is
    /// not behind it. `node` is the process's link if that leads to the entry.
    ///
    /// The entry leads past the process. What it leads to leads back to it, or is younger than the
    /// process, or the entry was copied after the process: nothing enters a list but at its end.
    fn skips(
        &mut self,
        list: ProcessList,
        heads: [KernelVa; 2],
        before: KernelVa,
        node: Option<KernelVa>,
    ) -> bool {
        let Some(next) = self.word(before).map(KernelVa) else { return false };
        if Some(next) == node || !next.is_plausible() {
            return false;
        }
        if self.word(next.plus(LINK_BYTES)) == Some(before.0) {
            return true;
        }
        let is_later = node.is_some_and(|node| self.precedes(node, before));
        list.is_by_age() && (heads.contains(&next) || is_later)
            // A task that was copied before the entry was as young then.
            || list == ProcessList::Tasks
                && self.precedes(next, before)
                && self.member(list, next).is_some_and(|other| self.is_younger(&other))
    }

    /// Whether the entry at `next`, which is behind the process by the process's own link, proves
    /// that the process is not before it.
    fn skips_back(
        &mut self,
        list: ProcessList,
        heads: [KernelVa; 2],
        next: KernelVa,
        node: KernelVa,
    ) -> bool {
        let Some(before) = self.word(next.plus(LINK_BYTES)).map(KernelVa) else { return false };
        if before == node || !before.is_plausible() {
            return false;
        }
        if self.word(before) == Some(next.0) {
            return true;
        }
        // A task that began before the copy is the same one all the time.
        let is_old = self.member(list, next).is_some_and(|task| !self.clock.is_young(&task));
        if list.is_by_age() && is_old && !heads.contains(&next) && self.precedes(node, next) {
            return true;
        }
        list == ProcessList::Tasks
            && (is_old || self.precedes(next, before))
            && self.member(list, before).is_some_and(|other| self.is_older(&other))
    }

    /// The task that has a link, if it is in the list by its own fields.
    fn member(&self, list: ProcessList, entry: KernelVa) -> Option<Task> {
        let link = self.link_of(list)?;
        let at = self.threads.find(entry.minus(link).0)?;
        Some(self.threads[at].task).filter(|other| self.is_member(list, other))
    }

    /// Whether a task entered the lists before the process.
    fn is_older(&self, other: &Task) -> bool {
        other.start_boottime.saturating_add(self.disorder_ns()) <= self.task.start_boottime
    }

    /// Whether a task entered the lists after the process.
    fn is_younger(&self, other: &Task) -> bool {
        other.start_boottime >= self.task.start_boottime.saturating_add(self.disorder_ns())
    }

    /// Nanoseconds between two starts that leave the order in the lists open: a process gets its
    /// start before it enters them. The neighbours of a process that is not young show it in any
    /// order, unless they end.
    fn disorder_ns(&self) -> u64 {
        if self.is_young() { FORK_MAX_NS } else { 0 }
    }

    /// Whether an entry belongs to the list: a head, or a task that is in it by its own fields and
    /// its age.
    fn is_neighbour(
        &self,
        list: ProcessList,
        entry: KernelVa,
        heads: [KernelVa; 2],
        side: NeighbourSide,
    ) -> bool {
        if heads.contains(&entry) {
            return list != ProcessList::Children || self.is_parent_older();
        }
        let Some(other) = self.member(list, entry) else { return false };
        let is_in_order = match side {
            NeighbourSide::Before => self.is_older(&other),
            NeighbourSide::Behind => self.is_younger(&other),
        };
        is_in_order || !list.is_by_age()
    }

    /// Whether a task is in a list of the process by its own fields.
    fn is_member(&self, list: ProcessList, other: &Task) -> bool {
        let task = &self.task;
        if other.address == task.address || other.exit_state == EXIT_DEAD || other.is_unfinished() {
            return false;
        }
        match list {
            ProcessList::Tasks => other.is_leader() && other.group_leader == other.address,
            ProcessList::Children => other.is_leader() && other.real_parent == task.real_parent,
            ProcessList::Threads => other.signal == task.signal,
            ProcessList::ControlGroup => other.cgroups == task.cgroups,
        }
    }

    /// Whether the parent is older than the process, as the memory of a parent is.
    fn is_parent_older(&self) -> bool {
        let parent = self.threads.find(self.task.real_parent.0);
        parent.is_some_and(|at| self.threads[at].task.start_boottime <= self.task.start_boottime)
    }

    /// Notes the gap in the task list where the process belongs by its age: behind the youngest of
    /// the older entries.
    fn look_at_gap(&mut self, link: u64, heads: [KernelVa; 2]) -> bool {
        let members = self.threads.iter().skip(1).filter(|row| row.views & view::TASK_LIST != 0);
        let older = members.map(|row| &row.task);
        let older = older.filter(|it| self.is_older(it) && self.is_member(ProcessList::Tasks, it));
        let last = older.max_by_key(|other| other.start_boottime);
        let head = heads[0];
        let before = last.map_or(head, |task| task.address.plus(link));
        let Some(next) = self.word(before).map(KernelVa) else { return false };
        let is_younger = next == head
            || self.member(ProcessList::Tasks, next).is_some_and(|it| self.is_younger(&it));
        let is_gap = is_younger && self.skips(ProcessList::Tasks, heads, before, None);
        if is_gap {
            self.evidence.is_followed |= next != head;
            self.lack(before);
        }
        // Behind the list's last entry is nothing.
        let end = head.plus(LINK_BYTES);
        let is_last = self.word(end) == Some(before.0);
        let is_old = last.is_none_or(|task| !self.clock.is_young(task));
        if is_last && (is_old || self.precedes(head, before)) {
            return self.lack(end) || is_gap;
        }
        if is_gap && self.word(next.plus(LINK_BYTES)) == Some(before.0) {
            self.lack(next.plus(LINK_BYTES));
        }
        is_gap
    }

    /// Follows the parent's list of children. If all its entries lead to each other, one of its
    /// links lacks the process, and notes the one that was copied last. A process that is in the
    /// list all the time is missed only where a link does not lead back.
    fn look_at_ring(&mut self, head: KernelVa) -> bool {
        if !self.is_parent_older() {
            return false;
        }
        let (mut at, mut last) = (head, None);
        for _ in 0..=self.threads.len() {
            let Some(next) = self.word(at).map(KernelVa) else { return false };
            if self.word(next.plus(LINK_BYTES)) != Some(at.0) {
                return false;
            }
            last = last.max(self.page(at)).max(self.page(next));
            if next == head {
                if let Some(page) = last {
                    self.evidence.lacks.add(page);
                }
                return last.is_some();
            }
            at = next;
        }
        false
    }
}
