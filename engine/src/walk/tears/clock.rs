//! When the pages of a copy were copied, as far as their contents show.

use panoptes_decoders::kernel::task_struct::Task;

use super::super::snapshot::ThreadRow;
use super::super::{Kernel, Memory, Snapshot};
use super::page_of;
use panoptes_tables::Keyed;

/// A process that began so many nanoseconds before the copy did is not young.
const YOUNG_NS: u64 = 5_000_000_000;
/// The speed of a copy is measured over at least this part of all pages: the machine's clock moves
/// by milliseconds.
const MEASURED_PART: u64 = 8;

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
    duration: u64,
}

impl CopyClock {
    pub(super) fn of(memory: &Memory<'_>, snapshot: &Snapshot) -> Self {
        let kernel = memory.kernel;
        let now = snapshot.machine.boot_ns().map_or(0, |ns| ns.max(0) as u64);
        let page = page_of(kernel, kernel.roots.timekeeper);
        let pages = memory.source.regions().last().map_or(0, |region| region.end) >> 12;
        let mut clock = Self { now, page, newest: now, duration: 0 };
        for row in snapshot.threads.iter().skip(1) {
            let start = row.task.start_boottime;
            clock.newest = clock.newest.max(start);
            let later = page_of(kernel, row.task.address).zip(page);
            let distance = later.map_or(0, |(task, clock)| task.saturating_sub(clock));
            if distance > pages / MEASURED_PART {
                let time = start.saturating_sub(now);
                clock.duration = clock.duration.max(time.saturating_mul(pages) / distance);
            }
        }
        clock
    }

    /// Nanoseconds since boot after which a page was copied: the clock and the starts of tasks in
    /// pages that were copied before it.
    pub(super) fn time_of(self, kernel: &Kernel, threads: &Keyed<ThreadRow>, page: u64) -> u64 {
        let tasks = threads.iter().skip(1).map(|row| &row.task);
        let earlier =
            tasks.filter(|task| page_of(kernel, task.address).is_some_and(|at| at <= page));
        let clock = Some(self.now).filter(|_| self.page.is_some_and(|at| at <= page));
        earlier.map(|task| task.start_boottime).chain(clock).max().unwrap_or(0)
    }

    /// Whether a task began during the copy, or not long before it.
    pub(super) const fn is_young(self, task: &Task) -> bool {
        let age = self.newest.saturating_sub(task.start_boottime);
        age < YOUNG_NS.saturating_add(self.duration)
    }
}
