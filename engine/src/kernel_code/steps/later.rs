//! Code that runs by itself: threads of the kernel, timers, and delayed work.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::PF_KTHREAD;
use panoptes_decoders::layout::{u32_at, u64_at};

use super::lists::follow_list;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// Maximum number of processors.
const PROCESSORS_MAX: u64 = 8192;
/// Maximum number of `struct timer_base` of a processor (`NR_BASES`, kernel/time/timer.c), and of
/// lists of one (`WHEEL_SIZE`).
const BASES_MAX: u64 = 3;
const LISTS_MAX: usize = 1024;
/// Maximum number of timers of a list.
const TIMERS_MAX: usize = 4096;

/// Checks threads, then the timers of each processor.
pub(super) fn step(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    if cursor.part == 0 {
        check_threads(cx);
        cursor.part = 1;
    }
    check_timers(cx, cursor)
}

fn check_threads(cx: &mut CheckContext<'_>) {
    let check = Check::KernelThreads;
    let kernel = cx.kernel();
    let layouts = (&kernel.layouts.kernel_task, &kernel.layouts.kthread);
    let (Some(task), Some(kthread)) = layouts else { return };
    let (Some(function), false) = (kthread.threadfn, kernel.roots.init_task.is_null()) else {
        cx.not_checked(check, "the kernel does not keep the functions of its threads");
        return;
    };
    let head = kernel.roots.init_task.plus(task.tasks.offset.into());
    let is_whole = follow_list(cx, head, &mut |cx, link| {
        let at = link.minus(task.tasks.offset.into());
        let Some(view) = cx.structure(at, &task.packing) else {
            cx.unread(check);
            return;
        };
        let field = task.worker_private.unwrap_or(task.set_child_tid);
        let (flags, private) = (view.unsigned(task.flags) as u32, view.pointer(field));
        if flags & PF_KTHREAD == 0 || private.is_null() {
            return;
        }
        let name = cx.text::<16>(at.plus(task.comm.offset.into()));
        // A thread that ends has none any more.
        if let Some(view) = cx.structure(private, &kthread.packing) {
            let target = view.pointer(function);
            cx.pointer(check, (at, &name), target);
        }
    });
    if !is_whole {
        cx.unread(check);
    }
}

fn check_timers(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let check = Check::Timers;
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let places = symbols.timer_bases.zip(symbols.per_cpu_offset).zip(symbols.nr_cpu_ids);
    let base = layouts.timer_base.as_ref();
    let (Some(((bases, offsets), count)), Some(base), Some(_)) =
        (places, base, &layouts.timer_list)
    else {
        cx.not_checked(check, "the addresses of the timers are unknown");
        return Progress::Done;
    };
    let Some(processors) = cx.word(count).map(|count| (count as u32).into()) else {
        cx.unread(check);
        return Progress::Done;
    };
    while cursor.count < PROCESSORS_MAX.min(processors) {
        if !cx.has_budget() {
            return Progress::More;
        }
        let offset = cx.word(offsets.plus(8 * cursor.count)).unwrap_or(0);
        for index in 0..BASES_MAX {
            let at = bases.plus(offset).plus(index * u64::from(base.size));
            check_base(cx, at, cursor.count);
        }
        cursor.count += 1;
    }
    Progress::Done
}

/// Checks the lists of timers of one base, if it is one: it has the number of its processor, and a
/// bit for each list with timers. Kernels up to v6.8 have one base less.
fn check_base(cx: &mut CheckContext<'_>, at: KernelVa, processor: u64) {
    let Some(layout) = &cx.kernel().layouts.timer_base else { return };
    let Some(map) = layout.pending_map else { return };
    let Some(bytes) = cx.read(at, layout.size) else { return };
    let (cpu, map_at) = (layout.cpu.offset as usize, map.offset as usize);
    if u64::from(u32_at(bytes, cpu)) != processor {
        return;
    }
    let lists_at = (map_at + map.size as usize).next_multiple_of(8);
    let (pending, lists) = (bytes.get(map_at..lists_at), bytes.get(lists_at..));
    let (Some(pending), Some(lists)) = (pending, lists) else { return };
    let mut heads = [0; LISTS_MAX];
    let count = (map.size as usize * 8).min(LISTS_MAX);
    for (index, head) in heads.iter_mut().enumerate().take(count) {
        let is_pending = pending.get(index / 8).is_some_and(|bits| bits >> (index % 8) & 1 != 0);
        *head = u64_at(lists, 8 * index);
        if *head != 0 && !is_pending {
            return;
        }
    }
    for (index, &head) in heads.iter().enumerate().filter(|(_, head)| **head != 0) {
        follow_timers(cx, at.plus((lists_at + 8 * index) as u64), KernelVa(head));
    }
    cx.checked(Check::Timers, 1);
}

/// Checks the timers of a list, until one does not lead back: the list changes all the time, and a
/// place that is no list leads anywhere.
fn follow_timers(cx: &mut CheckContext<'_>, head: KernelVa, first: KernelVa) {
    let (mut before, mut link) = (head, first);
    for _ in 0..TIMERS_MAX {
        if link.is_null() {
            return;
        }
        let Some(bytes) = cx.read(link, 16) else { return };
        let (next, back) = (u64_at(bytes, 0), u64_at(bytes, 8));
        if back != before.0 {
            return;
        }
        check_timer(cx, link);
        (before, link) = (link, KernelVa(next));
    }
}

/// Checks the function of a timer, and of the work that it starts.
fn check_timer(cx: &mut CheckContext<'_>, link: KernelVa) {
    let (symbols, layouts) = (&cx.kernel().symbols, &cx.kernel().layouts);
    let Some(layout) = &layouts.timer_list else { return };
    let timer = link.minus(layout.entry.offset.into());
    let Some(view) = cx.structure(timer, &layout.packing) else { return };
    let function = view.pointer(layout.function);
    cx.pointer(Check::Timers, (timer, "timer"), function);
    if Some(function) == symbols.delayed_work_timer_fn
        && let Some(layout) = &layouts.delayed_work
    {
        let work = timer.minus(layout.timer.offset.into());
        let Some(view) = cx.structure(work, &layout.packing) else { return };
        let function = view.pointer(layout.func);
        cx.pointer(Check::WorkItems, (work, "delayed work"), function);
    }
}
