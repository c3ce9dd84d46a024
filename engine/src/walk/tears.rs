//! Tears: disagreements of views in a copy of memory that was made while the machine ran.
//!
//! LiME, AVML and other tools copy page after page, in ascending order of physical addresses. So
//! what lies lower was copied earlier. All places that show a process that ended during the copy
//! lie below all that lack it. For a process that began during the copy it is the reverse. In any
//! other order, something took the process out of a list.
//!
//! A place lacks a process only if it proves that: a link that skips the process and leads back, or
//! the process's own link that leads nowhere. A link into memory that another task has by then
//! proves nothing.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{EXIT_DEAD, PIDTYPE_PGID, PIDTYPE_SID, Task};
use panoptes_decoders::kernel::xarray::{self, Slot};
use panoptes_decoders::layout::{Field, View};
use panoptes_decoders::source::PAGE_BYTES;

use super::snapshot::{ProcessRow, ThreadRow, view};
use super::{Memory, Snapshot, Views, Walker};
use crate::address::Reader;
use panoptes_tables::Keyed;

/// Whether memory is a copy, and what the machine did meanwhile.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Copied {
    /// It is the machine's own.
    #[default]
    No,
    /// The machine stood still: all of the copy is of one moment.
    AtOnce,
    /// The machine may have run: page after page was copied, in ascending order of addresses.
    PageByPage,
}

/// Pages that are copied, at most, while a process leaves or enters all its lists: the kernel holds
/// a lock meanwhile, for some microseconds.
const SLACK: u64 = 8;
/// A process that began so many nanoseconds before the newest one is young.
const YOUNG_NS: u64 = 5_000_000_000;
/// Bytes of a link.
const LINK_BYTES: u64 = 8;

/// The pages, in the order in which they were copied, that show a process or lack it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Evidence {
    /// The page with the task's state. A process gets its end's state before it leaves a list, and
    /// loses its beginning's state after it has entered all lists.
    state: Pages,
    /// Those with the process's own number.
    shows: Pages,
    /// Links to its task. If it has ended, they may be those of the next task at its address.
    links: Pages,
    lacks: Pages,
    /// Whether an entry that is behind the process in a list lacks it. Entries are added at the end
    /// of a list, so the process was in the list before that one.
    is_followed: bool,
}

impl Evidence {
    /// Whether everything that shows the process was copied before everything that lacks it.
    fn is_end(&self, has_links: bool) -> bool {
        let shows = self.shows_with(has_links);
        self.state.precede(self.lacks, 0) && (shows.is_empty() || shows.precede(self.lacks, SLACK))
    }

    /// Whether everything that lacks the process was copied before everything that shows it.
    fn is_begin(&self, has_links: bool) -> bool {
        let shows = self.shows_with(has_links);
        !self.is_followed
            && self.lacks.precede(self.state, 0)
            && (shows.is_empty() || self.lacks.precede(shows, SLACK))
    }

    fn shows_with(&self, has_links: bool) -> Pages {
        if has_links { self.shows.and(self.links) } else { self.shows }
    }

    /// Whether the process may have entered the list after all that lacks it was copied, and before
    /// a page of its own was.
    fn has_entered(&self, page: u64) -> bool {
        !self.is_followed && self.lacks.precede(Pages(Some((page, page))), 0)
    }

    /// Whether the process may have left the list after a page of its own was copied, and before
    /// all that lacks it was.
    fn has_left(&self, page: u64) -> bool {
        Pages(Some((page, page))).precede(self.lacks, 0)
    }
}

/// The first and the last of some pages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Pages(Option<(u64, u64)>);

impl Pages {
    fn add(&mut self, page: u64) {
        *self = self.and(Self(Some((page, page))));
    }

    fn and(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some((first, last)), Some((from, to))) => Self(Some((first.min(from), last.max(to)))),
            (one, another) => Self(one.or(another)),
        }
    }

    const fn is_empty(self) -> bool {
        self.0.is_none()
    }

    /// Whether all of these were copied before all others, or fewer than `slack` pages later.
    fn precede(self, others: Self, slack: u64) -> bool {
        let last = self.0.map(|(_, last)| last);
        let first = others.0.map(|(first, _)| first);
        last.zip(first).is_some_and(|(last, first)| last < first.saturating_add(slack))
    }
}

/// A list that processes are in, as one of them sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum List {
    /// All processes.
    Tasks,
    /// The children of its parent.
    Children,
    /// The threads of the process.
    Threads,
    /// The tasks of its control groups.
    ControlGroup,
}

impl List {
    const ALL: [Self; 4] = [Self::Tasks, Self::Children, Self::Threads, Self::ControlGroup];

    /// The view that follows the list.
    const fn view(self) -> u16 {
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
enum Side {
    Before,
    Behind,
}

/// Looks for the places that show a process or lack it.
struct Probe<'a, 'm> {
    reader: &'a mut Reader,
    memory: &'a mut Memory<'m>,
    threads: &'a Keyed<ThreadRow>,
    /// Nanoseconds since boot by the machine's clock.
    clock_ns: u64,
    task: Task,
    evidence: Evidence,
}

impl Walker {
    /// Sets whether the memory is a copy.
    pub const fn set_copied(&mut self, copied: Copied) {
        self.snapshot.copied = copied;
    }

    /// In a copy, leaves of the views that lack a process only those that prove that somebody took
    /// it out of a list.
    pub(super) fn ignore_tears(&mut self, memory: &mut Memory<'_>) {
        if self.snapshot.copied != Copied::PageByPage {
            return;
        }
        for index in self.snapshot.processes.indexes() {
            let process = self.snapshot.processes[index];
            if process.missing.is_empty() {
                continue;
            }
            let proven = self.proven_views(memory, &process);
            let snapshot = &mut self.snapshot;
            snapshot.torn += u32::from(proven.is_empty());
            let row = &mut snapshot.processes[index];
            row.unknown.0 |= row.missing.0 & !proven.0;
            row.missing = proven;
        }
    }

    /// The views whose lack of a process only a change by somebody else explains.
    fn proven_views(&mut self, memory: &mut Memory<'_>, process: &ProcessRow) -> Views {
        let Snapshot { threads, css_sets, machine, .. } = &self.snapshot;
        let leader = &threads[process.leader];
        let task = leader.task;
        // A thread that calls exec takes the number of the first thread, and its place in all lists
        // (`de_thread`, fs/exec.c).
        let is_heir =
            |row: &ThreadRow| row.task.pid == task.pid && row.task.address != task.address;
        if threads.iter().any(is_heir) {
            return Views::NONE;
        }
        let heads = css_sets.at(process.css_set).map(|set| set.address);
        let evidence = Evidence::default();
        let reader = &mut self.reader;
        let clock_ns = machine.boot_ns().map_or(0, |ns| ns.max(0) as u64);
        let mut probe = Probe { reader, memory, threads, clock_ns, task, evidence };
        probe.look_at_task();
        let mut proven = 0;
        for list in List::ALL {
            let is_missing = process.missing.has(list.view());
            if probe.look_at_list(list, heads, is_missing) {
                proven |= list.view();
            }
        }
        let numbers = [
            (view::IDR, probe.look_at_idr(process.missing.has(view::IDR))),
            (view::PID_LIST, probe.look_at_pid(process)),
        ];
        for (bit, is_lacking) in numbers {
            proven |= if is_lacking { process.missing.0 & bit } else { 0 };
        }
        let proven = Views(proven);
        if proven.is_empty() || probe.is_torn(proven) { Views::NONE } else { proven }
    }
}

impl Probe<'_, '_> {
    /// Whether something that the kernel does explains that these views lack the process.
    fn is_torn(&self, lacking: Views) -> bool {
        let layout = &self.memory.kernel.layouts.task_struct;
        let has_links = !self.is_young();
        let is_begin = self.evidence.is_begin(has_links) && self.began_during_copy();
        if is_begin || self.evidence.is_end(has_links) || self.lived_during_copy() {
            return true;
        }
        let own = |field: Option<Field>| {
            let at = self.task.address.plus(field?.offset.into());
            self.page(at)
        };
        match lacking.0 {
            // It moves from one control group to another.
            view::CONTROL_GROUP => own(layout.cgroups)
                .is_none_or(|page| self.evidence.has_entered(page) || self.evidence.has_left(page)),
            // Its parent ended, and it has another one (`reparent_leader`, kernel/exit.c).
            view::CHILDREN => own(layout.sibling).is_none_or(|page| {
                self.evidence.has_entered(page)
                    || self.evidence.has_left(page) && self.is_parent_ending()
            }),
            _ => false,
        }
    }

    /// Whether the process began after everything that lacks it was copied, as far as the copy
    /// shows.
    fn began_during_copy(&self) -> bool {
        let Some((_, last)) = self.evidence.lacks.0 else { return false };
        self.task.start_boottime >= self.time_of(last)
    }

    /// Whether the process may have begun and ended during the copy: some of what lacks it was
    /// copied before it began.
    fn lived_during_copy(&self) -> bool {
        let Some((first, _)) = self.evidence.lacks.0 else { return false };
        let is_before = self.evidence.state.0.is_some_and(|(state, _)| first < state);
        is_before && self.is_young() && self.task.start_boottime >= self.time_of(first)
    }

    /// Nanoseconds since boot after which a page was copied: the clock and the starts of tasks in
    /// pages that were copied before it.
    fn time_of(&self, last: u64) -> u64 {
        let is_earlier = |at: KernelVa| self.page(at).is_some_and(|page| page <= last);
        let tasks = self.threads.iter().skip(1).map(|row| &row.task);
        let starts = tasks.filter(|task| is_earlier(task.address)).map(|task| task.start_boottime);
        let clock = Some(self.clock_ns).filter(|_| is_earlier(self.memory.kernel.roots.timekeeper));
        starts.chain(clock).max().unwrap_or(0)
    }

    /// Whether the process began so late that it may well have ended during the copy, and another
    /// one have its address since: the kernel reuses the newest memory first.
    fn is_young(&self) -> bool {
        self.time_of(u64::MAX).saturating_sub(self.task.start_boottime) < YOUNG_NS
    }

    fn is_parent_ending(&self) -> bool {
        let parent = self.threads.find(self.task.real_parent.0).map(|at| self.threads[at].task);
        parent.is_none_or(|parent| !parent.is_settled() || parent.is_exiting())
    }

    /// Number of the page, in the order of the copy, that has an address.
    fn page(&self, at: KernelVa) -> Option<u64> {
        self.memory.kernel.space.linear(at).map(|at| at.0 / PAGE_BYTES)
    }

    fn word(&mut self, at: KernelVa) -> Option<u64> {
        let bytes = self.memory.read_bytes(self.reader, at, LINK_BYTES as u32)?;
        Some(u64::from_le_bytes(*bytes.first_chunk()?))
    }

    fn show(&mut self, at: KernelVa) {
        self.page(at).into_iter().for_each(|page| self.evidence.shows.add(page));
    }

    fn show_link(&mut self, at: KernelVa) {
        if let Some(page) = self.page(at) {
            self.evidence.links.add(page);
        }
    }

    fn lack(&mut self, at: KernelVa) -> bool {
        let page = self.page(at);
        if let Some(page) = page {
            self.evidence.lacks.add(page);
        }
        page.is_some()
    }

    /// Notes the task itself, its other threads, its children, and its neighbours in its process
    /// group and its session.
    fn look_at_task(&mut self) {
        let layout = &self.memory.kernel.layouts.task_struct;
        let task = self.task;
        let state = self.page(task.address.plus(layout.exit_state.offset.into()));
        if let Some(page) = state {
            self.evidence.state.add(page);
        }
        for row in self.threads.iter().skip(1) {
            let other = row.task;
            if other.address == task.address || !other.is_settled() {
                continue;
            }
            if other.real_parent == task.address {
                self.show_link(other.address.plus(layout.real_parent.offset.into()));
            }
            if other.group_leader == task.address && other.tgid == task.tgid {
                self.show(other.address.plus(layout.group_leader.offset.into()));
            }
        }
        for kind in [PIDTYPE_PGID, PIDTYPE_SID] {
            // A `struct hlist_node`: the next one, and the place of the link to this one.
            let node = task.address.plus(u64::from(layout.pid_links.offset) + kind as u64 * 16);
            let Some(place) = self.word(node.plus(LINK_BYTES)) else { continue };
            if self.word(KernelVa(place)) == Some(node.0) {
                self.show_link(KernelVa(place));
            }
        }
    }

    /// Offset of the link of a list in a task.
    fn link_of(&self, list: List) -> Option<u64> {
        let layout = &self.memory.kernel.layouts.task_struct;
        let field = match list {
            List::Tasks => Some(layout.tasks),
            List::Children => layout.sibling,
            List::Threads => Some(layout.thread_node),
            List::ControlGroup => layout.cg_list,
        };
        field.map(|field| field.offset.into())
    }

    /// Heads of a list that has the process.
    fn heads_of(&self, list: List, css_set: Option<KernelVa>) -> [KernelVa; 2] {
        let kernel = self.memory.kernel;
        let layouts = &kernel.layouts;
        let at = |object: KernelVa, field: Option<Field>| {
            field.map_or(KernelVa::NULL, |field| object.plus(field.offset.into()))
        };
        let one = |head: KernelVa| [head, head];
        match list {
            List::Tasks => one(at(kernel.roots.init_task, Some(layouts.task_struct.tasks))),
            List::Children => one(at(self.task.real_parent, layouts.task_struct.children)),
            List::Threads => one(at(self.task.signal, Some(layouts.signal_struct.thread_head))),
            List::ControlGroup => {
                let Some((set, layout)) = css_set.zip(layouts.css_set.as_ref()) else {
                    return one(KernelVa::NULL);
                };
                [at(set, layout.tasks), at(set, layout.mg_tasks)]
            }
        }
    }

    /// Notes what shows the process in a list. If the list lacks it (`is_missing`), notes what
    /// proves that, and returns whether something does.
    fn look_at_list(&mut self, list: List, css_set: Option<KernelVa>, is_missing: bool) -> bool {
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
        if self.is_neighbour(list, before, heads, Side::Before) && self.skips(before, node) {
            is_proven |= self.lack(before);
        }
        if self.is_neighbour(list, next, heads, Side::Behind) && self.skips_back(next, node) {
            is_proven |= self.lack(next.plus(LINK_BYTES));
            self.evidence.is_followed |= !heads.contains(&next);
        }
        is_proven
            || match list {
                List::Tasks => self.look_at_gap(link, heads[0]),
                List::Children => self.look_at_ring(heads[0]),
                List::Threads | List::ControlGroup => false,
            }
    }

    /// Whether the entry at `before` leads past the process, to an entry that leads back.
    fn skips(&mut self, before: KernelVa, node: KernelVa) -> bool {
        let Some(next) = self.word(before).map(KernelVa) else { return false };
        next != node && self.word(next.plus(LINK_BYTES)) == Some(before.0)
    }

    /// The same from the entry at `next`, backwards.
    fn skips_back(&mut self, next: KernelVa, node: KernelVa) -> bool {
        let Some(before) = self.word(next.plus(LINK_BYTES)).map(KernelVa) else { return false };
        before != node && self.word(before) == Some(next.0)
    }

    /// Whether an entry belongs to the list: a head, or a task that is in it by its own fields and
    /// its age.
    fn is_neighbour(&self, list: List, entry: KernelVa, heads: [KernelVa; 2], side: Side) -> bool {
        if heads.contains(&entry) {
            return list != List::Children || self.is_parent_older();
        }
        let Some(link) = self.link_of(list) else { return false };
        let Some(at) = self.threads.find(entry.minus(link).0) else { return false };
        let other = &self.threads[at].task;
        let is_in_order = match side {
            Side::Before => other.start_boottime <= self.task.start_boottime,
            Side::Behind => other.start_boottime >= self.task.start_boottime,
        };
        self.is_member(list, other) && (is_in_order || !list.is_by_age())
    }

    /// Whether a task is in a list of the process by its own fields.
    fn is_member(&self, list: List, other: &Task) -> bool {
        let task = &self.task;
        if other.address == task.address || other.exit_state == EXIT_DEAD || other.is_unfinished() {
            return false;
        }
        match list {
            List::Tasks => other.is_leader() && other.group_leader == other.address,
            List::Children => other.is_leader() && other.real_parent == task.real_parent,
            List::Threads => other.signal == task.signal,
            List::ControlGroup => other.cgroups == task.cgroups,
        }
    }

    /// Whether the parent is older than the process, as the memory of a parent is.
    fn is_parent_older(&self) -> bool {
        let parent = self.threads.find(self.task.real_parent.0);
        parent.is_some_and(|at| self.threads[at].task.start_boottime <= self.task.start_boottime)
    }

    /// Notes the gap in the task list where the process belongs by its age, between an older entry
    /// and a younger one that lead to each other.
    fn look_at_gap(&mut self, link: u64, head: KernelVa) -> bool {
        let start = self.task.start_boottime;
        let is_older = |other: &Task| other.start_boottime <= start;
        let members = self.threads.iter().skip(1).filter(|row| row.views & view::TASK_LIST != 0);
        let older = members.map(|row| &row.task);
        let older = older.filter(|other| is_older(other) && self.is_member(List::Tasks, other));
        let last = older.max_by_key(|other| other.start_boottime);
        let before = last.map_or(head, |task| task.address.plus(link));
        let Some(next) = self.word(before).map(KernelVa) else { return false };
        let is_younger = next == head
            || self.threads.find(next.minus(link).0).is_some_and(|at| {
                let other = &self.threads[at].task;
                self.is_member(List::Tasks, other) && !is_older(other)
            });
        let leads_back = self.word(next.plus(LINK_BYTES)) == Some(before.0);
        if !is_younger || !leads_back {
            return false;
        }
        self.evidence.is_followed |= next != head;
        let is_noted = self.lack(before);
        self.lack(next.plus(LINK_BYTES)) || is_noted
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

    /// Notes the slot of the process's number in the pid IDR. Returns whether the slot lacks it.
    /// A node proves that only if it leads to another living process: its memory may be another
    /// tree's.
    fn look_at_idr(&mut self, is_missing: bool) -> bool {
        let kernel = self.memory.kernel;
        let layout = &kernel.layouts.xa_node;
        let offset = kernel.layouts.pid_namespace.idr.offset + kernel.layouts.idr.xa_head.offset;
        let mut place = kernel.roots.init_pid_ns.plus(offset.into());
        let number = u64::from(self.task.pid);
        let mut above: Option<u64> = None;
        for _ in 0..xarray::DEPTH_MAX {
            let Some(word) = self.word(place) else { return false };
            match xarray::slot(word) {
                Slot::Entry(pid) if pid == self.task.thread_pid => {
                    if !self.has_group_members(pid) {
                        self.show(place);
                    }
                    return false;
                }
                Slot::Node(node) => {
                    let view = self.memory.read_one(self.reader, node, &layout.packing);
                    let Some(shift) = view.map(|view: View<'_>| view.unsigned(layout.shift)) else {
                        return false;
                    };
                    if shift >= 64 || above.is_some_and(|above| above != shift + 6) {
                        return false;
                    }
                    let slot = number >> shift & 63;
                    place = node.plus(u64::from(layout.slots.offset) + slot * LINK_BYTES);
                    above = Some(shift);
                }
                Slot::Entry(_) | Slot::Empty => {
                    let Some(shift) = above.filter(|_| is_missing) else { return false };
                    return self.has_relatives(number, shift) && self.lack(place);
                }
            }
        }
        false
    }

    /// Whether the IDR shows another living process whose number is below the same node.
    fn has_relatives(&self, number: u64, shift: u64) -> bool {
        self.threads.iter().any(|row| {
            let is_near = u64::from(row.task.pid) >> shift >> 6 == number >> shift >> 6;
            is_near && row.views & view::IDR != 0 && row.task.address != self.task.address
        })
    }

    /// Whether other processes have the number as their process group or session: it stays in the
    /// IDR until the last of them has ended (`__change_pid`, kernel/pid.c).
    fn has_group_members(&mut self, pid: KernelVa) -> bool {
        let layouts = &self.memory.kernel.layouts;
        let heads = pid.plus(layouts.pid.tasks.offset.into());
        let links = self.task.address.plus(layouts.task_struct.pid_links.offset.into());
        [PIDTYPE_PGID, PIDTYPE_SID].into_iter().any(|kind| {
            let kind = kind as u64;
            let own = links.plus(kind * 2 * LINK_BYTES);
            match self.word(heads.plus(kind * LINK_BYTES)) {
                Some(0) => false,
                Some(first) if first == own.0 => self.word(own) != Some(0),
                _ => true,
            }
        })
    }

    /// Notes the `struct pid`. Returns whether it leads to another task or to none.
    fn look_at_pid(&mut self, process: &ProcessRow) -> bool {
        let layouts = &self.memory.kernel.layouts;
        let pid = self.task.thread_pid;
        let place = pid.plus(layouts.pid.tasks.offset.into());
        let number = pid.plus(layouts.pid.numbers.offset.into());
        let number = number.plus(layouts.upid.nr.offset.into());
        let own = self.task.address.plus(layouts.task_struct.pid_links.offset.into());
        match process.first_of_pid {
            Some(first) if first == own => {
                if self.word(number).is_some_and(|word| word as u32 == self.task.pid) {
                    self.show(place);
                }
                false
            }
            Some(_) if process.missing.has(view::PID_LIST) => self.lack(place),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(of: &[u64]) -> Pages {
        let mut pages = Pages::default();
        for &page in of {
            pages.add(page);
        }
        pages
    }

    #[test]
    fn a_process_that_ended_is_shown_by_what_was_copied_first() {
        let evidence = |lacks: &[u64]| {
            let (state, links) = (pages(&[2000]), pages(&[5000]));
            let (shows, lacks) = (pages(&[3000, 1000]), pages(lacks));
            Evidence { state, shows, links, lacks, is_followed: false }
        };
        assert!(!evidence(&[]).is_end(false) && !evidence(&[]).is_begin(false));
        assert!(evidence(&[4000]).is_end(false) && !evidence(&[4000]).is_begin(false));
        assert!(!evidence(&[4000]).is_end(true), "a link to it was copied later");
        assert!(evidence(&[2999]).is_end(false), "pages that are copied while it ends");
        assert!(!evidence(&[2990]).is_end(false));
        assert!(!evidence(&[2000]).is_end(false) && !evidence(&[2000]).is_begin(false));
        assert!(!evidence(&[500, 4000]).is_end(false));
    }

    #[test]
    fn a_process_that_began_is_lacked_by_what_was_copied_first() {
        let (state, lacks) = (pages(&[5000]), pages(&[4000]));
        let evidence = Evidence { state, lacks, ..Evidence::default() };
        assert!(evidence.is_begin(true) && !evidence.is_end(true));
        assert!(evidence.has_entered(5000) && evidence.has_left(3000));
        assert!(!evidence.has_entered(3000) && !evidence.has_left(5000));
        let evidence = Evidence { is_followed: true, ..evidence };
        assert!(!evidence.is_begin(true) && !evidence.has_entered(5000));
    }
}
