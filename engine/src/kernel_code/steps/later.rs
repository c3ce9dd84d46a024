//! Code that runs by itself: threads of the kernel, timers, and delayed work.

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::task_struct::PF_KTHREAD;
use panoptes_decoders::layout::{u32_at, u64_at};

use super::lists::{ListProgress, follow_in_slices};
use super::work::check_worker;
use crate::kernel_code::check::Check;
use crate::kernel_code::context::{CheckContext, Cursor, Progress};

/// `PF_WQ_WORKER` (include/linux/sched.h): the thread does work items.
const PF_WQ_WORKER: u32 = 0x20;
/// Maximum number of processes and threads of the kernel.
const TASKS_MAX: u64 = 1 << 18;
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
        if check_threads(cx, cursor) == Progress::More {
            return Progress::More;
        }
        cursor.part = 1;
    }
    check_timers(cx, cursor)
}

fn check_threads(cx: &mut CheckContext<'_>, cursor: &mut Cursor) -> Progress {
    let checks = [Check::KernelThreads, Check::WorkItems];
    let kernel = cx.kernel();
    let layouts = (&kernel.layouts.kernel_task, &kernel.layouts.kthread);
    let (Some(task), Some(_), false) = (layouts.0, layouts.1, kernel.roots.init_task.is_null())
    else {
        for check in checks {
            cx.not_checked(check, "the structure of threads is unknown");
        }
        return Progress::Done;
    };
    let head = kernel.roots.init_task.plus(task.tasks.offset.into());
    let followed = follow_in_slices(cx, cursor, (head, TASKS_MAX), &mut |cx, link| {
        check_task(cx, link.minus(task.tasks.offset.into()));
    });
    match followed {
        ListProgress::Partly => return Progress::More,
        ListProgress::ToItsEnd => {}
        ListProgress::Broken => checks.into_iter().for_each(|check| cx.unread(check)),
    }
    Progress::Done
}

/// Checks a task, if it is a thread of the kernel.
fn check_task(cx: &mut CheckContext<'_>, at: KernelVa) {
    let check = Check::KernelThreads;
    let layouts = &cx.kernel().layouts;
    let (Some(task), Some(kthread)) = (&layouts.kernel_task, &layouts.kthread) else { return };
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
    let Some(view) = cx.structure(private, &kthread.packing) else { return };
    let function = kthread.threadfn.map(|field| view.pointer(field));
    let data = view.pointer(kthread.data);
    match function {
        Some(function) => cx.pointer(check, (at, &name), function),
        None => cx.not_checked(check, "the kernel does not keep the functions of its threads"),
    }
    if flags & PF_WQ_WORKER != 0 {
        check_worker(cx, data, &name);
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

#[cfg(test)]
mod tests {
    use super::super::testing::{Scene, va};
    use super::*;
    use crate::kernel_code::owners::Owner;

    /// Tasks: the idle one, a program, and two threads of the kernel.
    struct Threads {
        scene: Scene,
        tasks: [u64; 4],
        kthreads: [u64; 2],
    }

    impl Threads {
        fn new() -> Self {
            let mut scene = Scene::new();
            let tasks = [0; 4].map(|_| scene.structure());
            let kthreads = [0; 2].map(|_| scene.structure());
            scene.kernel.roots.init_task = KernelVa(tasks[0]);
            let links = tasks.map(|at| scene.field(at, "task_struct", "tasks"));
            scene.list(links[0], &links[1..]);
            for (&task, kthread) in tasks[2..].iter().zip(kthreads) {
                scene.set(task, "task_struct", "flags", PF_KTHREAD.into());
                scene.set(task, "task_struct", "worker_private", kthread);
                let comm = scene.field(task, "task_struct", "comm");
                scene.put_bytes(comm, b"thread\0");
            }
            Self { scene, tasks, kthreads }
        }

        /// Makes the first thread one that does work, and the first one of a pool.
        fn make_worker(&mut self) -> (u64, u64) {
            let (worker, pool) = (self.scene.structure(), self.scene.structure());
            let flags = PF_KTHREAD | PF_WQ_WORKER;
            self.scene.set(self.tasks[2], "task_struct", "flags", flags.into());
            self.scene.set(self.kthreads[0], "kthread", "data", worker);
            self.scene.set(worker, "worker", "pool", pool);
            let node = self.scene.field(worker, "worker", "node");
            let [workers, worklist] =
                ["workers", "worklist"].map(|field| self.scene.field(pool, "worker_pool", field));
            self.scene.list(workers, &[node]);
            self.scene.list(worklist, &[]);
            (worker, pool)
        }
    }

    #[test]
    fn the_function_of_each_thread_is_checked() {
        const CHECK: Check = Check::KernelThreads;
        let mut threads = Threads::new();
        let (kernels, stray) = (threads.scene.function(16), threads.scene.stray_code());
        let module = threads.scene.code_of(Owner::Module(KernelVa(1)));
        for (index, kthread) in threads.kthreads.into_iter().enumerate() {
            for owned in [kernels, module] {
                threads.scene.set(kthread, "kthread", "threadfn", owned);
                assert!(threads.scene.run(step).holds(CHECK));
            }
            threads.scene.set(kthread, "kthread", "threadfn", stray);
            let outcome = threads.scene.run(step);
            assert_eq!(outcome.hooks(CHECK), [(threads.tasks[2 + index], stray)]);
            assert_eq!(outcome.violations[0].label.as_str(), "thread");
            threads.scene.set(kthread, "kthread", "threadfn", kernels);
        }
        // What a program has in the field is none.
        threads.scene.set(threads.kthreads[0], "kthread", "threadfn", stray);
        threads.scene.set(threads.tasks[2], "task_struct", "flags", 0);
        assert!(threads.scene.run(step).holds(CHECK));
    }

    #[test]
    fn threads_that_are_unknown_or_never_end_do_not_hold() {
        let checks = [Check::KernelThreads, Check::WorkItems];
        let mut threads = Threads::new();
        let link = threads.scene.field(threads.tasks[3], "task_struct", "tasks");
        threads.scene.put(link, 0);
        let outcome = threads.scene.run(step);
        assert!(checks.iter().all(|&check| outcome.facts(check).unread > 0));
        let mut threads = Threads::new();
        let whole = threads.scene.kernel.clone();
        if let Some(layout) = &mut threads.scene.kernel.layouts.kthread {
            layout.threadfn = None;
        }
        assert!(!threads.scene.run(step).holds(Check::KernelThreads));
        threads.scene.kernel = whole;
        threads.scene.kernel.layouts.kthread = None;
        let outcome = threads.scene.run(step);
        assert!(checks.iter().all(|&check| outcome.facts(check).not_checked.is_some()));
    }

    #[test]
    fn the_work_of_threads_and_what_waits_is_checked() {
        const CHECK: Check = Check::WorkItems;
        let mut threads = Threads::new();
        let (kernels, stray) = (threads.scene.function(16), threads.scene.stray_code());
        let (worker, pool) = threads.make_worker();
        let items = [0; 2].map(|_| threads.scene.structure());
        let links = items.map(|at| threads.scene.field(at, "work_struct", "entry"));
        let worklist = threads.scene.field(pool, "worker_pool", "worklist");
        threads.scene.set(worker, "worker", "current_func", kernels);
        for item in items {
            threads.scene.set(item, "work_struct", "func", kernels);
        }
        threads.scene.list(worklist, &links);
        let outcome = threads.scene.run(step);
        assert!(outcome.holds(CHECK));
        assert_eq!(outcome.facts(CHECK).places, 3);
        threads.scene.set(worker, "worker", "current_func", stray);
        assert_eq!(threads.scene.run(step).hooks(CHECK), [(worker, stray)]);
        threads.scene.set(worker, "worker", "current_func", 0);
        threads.scene.set(items[1], "work_struct", "func", stray);
        let outcome = threads.scene.run(step);
        assert_eq!(outcome.hooks(CHECK), [(items[1], stray)]);
        assert_eq!(outcome.violations[0].label.as_str(), "thread");
        // What does not lead back is no part of the list any more.
        threads.scene.put(links[1] + 8, links[1]);
        assert!(threads.scene.run(step).holds(CHECK));
        threads.scene.kernel.layouts.work_struct = None;
        assert!(!threads.scene.run(step).holds(CHECK));
        threads.scene.kernel.layouts.worker = None;
        assert!(!threads.scene.run(step).holds(CHECK));
    }

    /// Timers of two processors: the places of their bases, and the first list of each.
    fn timers() -> (Scene, [u64; 2]) {
        let mut scene = Scene::new();
        let (count, offsets) = (scene.variable(8), scene.variable(16));
        let bases = [scene.room(8192), scene.room(8192)];
        scene.put(count, 2);
        scene.put(offsets + 8, bases[1] - bases[0]);
        scene.kernel.symbols.timer_bases = va(bases[0]);
        scene.kernel.symbols.per_cpu_offset = va(offsets);
        scene.kernel.symbols.nr_cpu_ids = va(count);
        scene.set(bases[1], "timer_base", "cpu", 1);
        let lists = bases.map(|base| scene.field(base, "timer_base", "pending_map") + 8);
        (scene, lists)
    }

    #[test]
    fn the_function_of_each_timer_is_checked() {
        let (mut scene, lists) = timers();
        assert!(scene.run(step).holds(Check::Timers));
        let (kernels, stray) = (scene.function(16), scene.stray_code());
        let size = u64::from(scene.kernel.layouts.timer_base.unwrap_or_default().size);
        // The first list of the first base, and the last one of the last base.
        for (place, bit) in [(lists[0], 0), (lists[1] + 2 * size + 8 * 63, 63)] {
            let timers = [0; 2].map(|_| scene.structure());
            let links = timers.map(|at| scene.field(at, "timer_list", "entry"));
            let map = place - 8 * bit - 8;
            if place != lists[0] {
                scene.put(map - 16, 1);
            }
            scene.hlist(place, &links);
            scene.put(links[0] + 8, place);
            scene.put(links[1] + 8, links[0]);
            scene.put(map, 1 << bit);
            scene.set(timers[0], "timer_list", "function", kernels);
            scene.set(timers[1], "timer_list", "function", stray);
            assert_eq!(scene.run(step).hooks(Check::Timers), [(timers[1], stray)]);
            // A bit that contradicts the lists, and a link that does not lead back.
            scene.put(map, 0);
            assert!(scene.run(step).hooks(Check::Timers).is_empty());
            scene.put(map, 1 << bit);
            scene.put(links[1] + 8, links[1]);
            assert!(scene.run(step).hooks(Check::Timers).is_empty());
            scene.set(timers[1], "timer_list", "function", kernels);
        }
    }

    #[test]
    fn delayed_work_and_unknown_timers() {
        let (mut scene, lists) = timers();
        let (starts, stray) = (scene.function(16), scene.stray_code());
        let work = scene.structure();
        let timer = scene.field(work, "delayed_work", "timer");
        let link = scene.field(timer, "timer_list", "entry");
        scene.put(lists[0], link);
        scene.put(lists[0] - 8, 1);
        scene.put(link + 8, lists[0]);
        scene.set(timer, "timer_list", "function", starts);
        scene.set(work, "delayed_work", "work.func", stray);
        assert!(scene.run(step).hooks(Check::WorkItems).is_empty());
        scene.kernel.symbols.delayed_work_timer_fn = va(starts);
        assert_eq!(scene.run(step).hooks(Check::WorkItems), [(work, stray)]);
        scene.kernel.symbols.nr_cpu_ids = None;
        assert!(scene.run(step).facts(Check::Timers).not_checked.is_some());
    }
}
