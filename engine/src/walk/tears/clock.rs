//! When the pages of a copy were copied, as far as their contents show.

use core::ops::Range;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::{PID_MAX_LIMIT, Task, TaskStruct};
use panoptes_decoders::layout::PackedField;
use panoptes_decoders::source::PAGE_BYTES;

use super::super::snapshot::ThreadRow;
use super::super::{Kernel, ScannedMemory, Snapshot};
use super::page_of;
use crate::address::MemoryReader;
use panoptes_tables::AddressedRows;

/// A process that began so many nanoseconds before the copy did is not young.
const YOUNG_NS: u64 = 5_000_000_000;
/// The speed of a copy is measured over at least this part of all pages: the machine's clock moves
/// by milliseconds.
const MEASURED_PART: u64 = 8;
/// Nobody copies for longer, so what would show a longer copy shows an idle machine.
const COPY_MAX_NS: u64 = 900_000_000_000;
/// Large holes of a machine's memory. A PC has one below 4 GiB.
const HOLES_MAX: usize = 4;
/// A hole of at least this part of the memory is large.
const HOLE_PART: u64 = 64;
/// Some parts of a copy are made so many times slower than the whole, on average.
const UNEVEN: u64 = 2;

/// The times that the pages of a copy show.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CopyClock {
    /// Nanoseconds since boot by the machine's clock.
    now: u64,
    /// Page of the machine's clock.
    page: Option<u64>,
    /// The newest start of a task, or the clock.
    newest: u64,
    /// Nanoseconds that the copy took at least, at an even speed.
    at_least: u64,
    /// Nanoseconds that it took at most, if the pages before that of the clock show it.
    at_most: Option<u64>,
    /// Number of pages that were copied.
    pages: u64,
    /// First page of each large hole between the ranges of memory, and the first one behind it.
    holes: [(u64, u64); HOLES_MAX],
}

impl CopyClock {
    pub(super) fn of(
        reader: &mut MemoryReader,
        memory: &mut ScannedMemory<'_>,
        snapshot: &Snapshot,
    ) -> Self {
        let kernel = memory.kernel;
        let now = snapshot.machine.boot_ns().map_or(0, |ns| ns.max(0) as u64);
        let page = page_of(kernel, kernel.roots.timekeeper);
        let (pages, holes) = extent(memory.source.regions());
        let mut clock = Self { now, page, newest: now, pages, holes, ..Self::default() };
        let layout = &kernel.layouts.task_struct;
        for row in snapshot.threads.iter().skip(1) {
            clock.newest = clock.newest.max(row.task.start_boottime);
            clock.note(page_of(kernel, row.task.address), row.task.start_boottime);
            for at in neighbours(layout, &row.task) {
                if !at.is_plausible() || snapshot.threads.find(at.0).is_some() {
                    continue;
                }
                reader.clear();
                reader.push(&kernel.space, at, &layout.packing);
                memory.run(reader);
                let other = reader.object(0).map(|bytes| Task::decode(layout, at, bytes));
                if let Some(other) = other.filter(was_task) {
                    clock.note(page_of(kernel, at), other.start_boottime);
                }
            }
        }
        clock.at_most = clock.at_most.filter(|&time| time <= COPY_MAX_NS);
        clock.at_least = clock.at_least.min(COPY_MAX_NS);
        clock
    }

    /// Notes when a task began, and its page: that was copied later.
    fn note(&mut self, page: Option<u64>, start: u64) {
        let Some((at, clock_at)) = page.zip(self.page) else { return };
        let distance = self.distance(at, clock_at);
        if distance <= self.pages / MEASURED_PART {
            return;
        }
        let whole = |ns: u64| ns.saturating_mul(self.pages) / distance;
        if at > clock_at {
            self.at_least = self.at_least.max(whole(start.saturating_sub(self.now)));
        } else if start <= self.now {
            // The process in question never proves itself to be old: what lacks it was copied
            // earlier still.
            let time = whole(self.now.saturating_sub(start));
            self.at_most = Some(self.at_most.map_or(time, |shortest| shortest.min(time)));
        }
    }

    /// Nanoseconds since boot after which a page was copied: the clock and the starts of tasks in
    /// pages that were copied before it, or the clock less the time that the pages between them
    /// took at most.
    pub(super) fn time_of(
        self,
        kernel: &Kernel,
        threads: &AddressedRows<ThreadRow>,
        page: u64,
    ) -> u64 {
        let tasks = threads.iter().skip(1).map(|row| &row.task);
        let earlier =
            tasks.filter(|task| page_of(kernel, task.address).is_some_and(|at| at <= page));
        let clock = Some(self.now).filter(|_| self.page.is_some_and(|at| at <= page));
        let times = earlier.map(|task| task.start_boottime).chain(clock);
        times.chain(self.time_before_clock(page)).max().unwrap_or(0)
    }

    /// The least that the clock shows of the time at which a page before its own was copied.
    fn time_before_clock(self, page: u64) -> Option<u64> {
        let clock_at = self.page.filter(|&at| at >= page)?;
        let distance = self.distance(page, clock_at);
        let time = self.at_most?.saturating_mul(distance) / self.pages.max(1);
        Some(self.now.saturating_sub(time.saturating_mul(UNEVEN).saturating_add(YOUNG_NS)))
    }

    /// Number of pages that were copied between two.
    fn distance(self, one: u64, other: u64) -> u64 {
        let (from, to) = (one.min(other), one.max(other));
        let inside = |&(start, end): &(u64, u64)| end.min(to).saturating_sub(start.max(from));
        (to - from).saturating_sub(self.holes.iter().map(inside).sum())
    }

    /// Whether a task began during the copy, or not long before it.
    pub(super) fn is_young(self, task: &Task) -> bool {
        let age = self.newest.saturating_sub(task.start_boottime);
        let duration = self.at_most.unwrap_or(0).max(self.at_least);
        age < YOUNG_NS.saturating_add(duration)
    }
}

/// Number of pages in the ranges of memory, and the large holes between them.
fn extent(regions: &[Range<u64>]) -> (u64, [(u64, u64); HOLES_MAX]) {
    let pages = |range: &Range<u64>| range.end.saturating_sub(range.start) / PAGE_BYTES;
    let all: u64 = regions.iter().map(pages).sum();
    let gaps = regions.array_windows().map(|[one, next]| one.end..next.start);
    let large = gaps.filter(|gap| pages(gap) >= (all / HOLE_PART).max(1));
    let mut holes = [(0, 0); HOLES_MAX];
    for (hole, gap) in holes.iter_mut().zip(large) {
        *hole = (gap.start / PAGE_BYTES, gap.end / PAGE_BYTES);
    }
    (all, holes)
}

/// Whether memory is that of a task, also of one that has ended.
fn was_task(task: &Task) -> bool {
    let is_number = |number: u32| number != 0 && number <= PID_MAX_LIMIT;
    is_number(task.pid)
        && is_number(task.tgid)
        && task.start_boottime != 0
        && task.comm.last() == Some(&0)
        && [task.group_leader, task.real_parent, task.signal]
            .into_iter()
            .all(KernelVa::is_plausible)
}

/// Tasks to which a task's links lead. Where one is in no list any more, its memory shows when the
/// last task began that had it.
fn neighbours(layout: &TaskStruct, task: &Task) -> impl Iterator<Item = KernelVa> {
    let at = |link: KernelVa, field: Option<PackedField>| {
        let begin = field.map(|field| link.minus(field.offset.into()));
        begin.unwrap_or(KernelVa::NULL)
    };
    [
        at(task.tasks_next, Some(layout.tasks)),
        at(task.tasks_prev, Some(layout.tasks)),
        at(task.thread_next, Some(layout.thread_node)),
        at(task.first_child, layout.sibling),
        at(task.sibling_next, layout.sibling),
        at(task.cg_next, layout.cg_list),
    ]
    .into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A machine of 1,000 pages, whose clock is in this one and shows 100 s.
    fn clock(page: u64) -> CopyClock {
        let now = 100 * SECOND;
        CopyClock { now, page: Some(page), newest: now, pages: 1000, ..CopyClock::default() }
    }

    #[test]
    fn tasks_before_the_clock_show_how_long_the_copy_took_at_most() {
        let mut clock = clock(800);
        clock.note(Some(300), 101 * SECOND);
        assert_eq!(clock.at_most, None, "a time to come");
        clock.note(Some(300), 50 * SECOND);
        assert_eq!(clock.at_most, Some(100 * SECOND), "half of the pages in 50 s");
        clock.note(Some(300), 95 * SECOND);
        assert_eq!(clock.at_most, Some(10 * SECOND), "half of the pages in 5 s");
        clock.note(Some(400), 20 * SECOND);
        clock.note(Some(750), 100 * SECOND);
        clock.note(None, 100 * SECOND);
        assert_eq!(clock.at_most, Some(10 * SECOND), "an old task, a near one, one elsewhere");
        assert_eq!(clock.at_least, 0);
    }

    #[test]
    fn tasks_behind_the_clock_show_how_long_the_copy_took_at_least() {
        let mut clock = clock(200);
        clock.note(Some(700), 105 * SECOND);
        clock.note(Some(900), 90 * SECOND);
        assert_eq!((clock.at_least, clock.at_most), (10 * SECOND, None));
    }

    #[test]
    fn a_page_before_the_clock_was_copied_at_most_so_much_earlier() {
        let clock = CopyClock { at_most: Some(10 * SECOND), ..clock(800) };
        // 500 pages took 5 s, at an uneven speed 10 s, and 5 s are granted.
        assert_eq!(clock.time_before_clock(300), Some(85 * SECOND));
        assert_eq!(clock.time_before_clock(900), None, "a page behind the clock");
        assert_eq!(CopyClock { at_most: None, ..clock }.time_before_clock(300), None);
    }

    #[test]
    fn nobody_copies_what_is_between_the_ranges_of_memory() {
        let page = |number: u64| number * PAGE_BYTES;
        let regions = [page(1)..page(100), page(101)..page(600), page(5600)..page(6000)];
        let (pages, holes) = extent(&regions);
        assert_eq!((pages, holes[0], holes[1]), (998, (600, 5600), (0, 0)));
        let mut clock = CopyClock { pages: 1000, holes, ..clock(5700) };
        clock.note(Some(400), 97 * SECOND);
        // 200 pages up to the hole, and 100 behind it.
        assert_eq!(clock.at_most, Some(10 * SECOND), "300 pages in 3 s");
        // 400 pages took 4 s, at an uneven speed 8 s.
        assert_eq!(clock.time_before_clock(300), Some(87 * SECOND));
    }

    #[test]
    fn a_task_is_young_if_it_may_have_begun_during_the_copy() {
        let clock = CopyClock { at_most: Some(10 * SECOND), ..clock(800) };
        let is_young = |start| clock.is_young(&Task { start_boottime: start, ..Task::default() });
        assert!(is_young(100 * SECOND) && is_young(86 * SECOND));
        assert!(!is_young(85 * SECOND) && !is_young(0));
    }
}
