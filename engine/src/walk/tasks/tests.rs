//! Lists made by hand: each entry is followed once, and what is cut is counted.

use panoptes_decoders::kernel::task_struct::PIDTYPE_PGID;
use panoptes_decoders::layout::PackedField;

use panoptes_decoders::kernel::xarray::XARRAY_DEPTH_MAX;

use super::*;
use crate::walk::tests::memory::{Sparse, kernel, small, va, walker};

/// Tasks in memory, and how a scan finds them.
struct Tasks {
    memory: Sparse,
    kernel: Kernel,
    /// The tasks that the IDR shows.
    shown: Vec<KernelVa>,
}

impl Tasks {
    fn new() -> Self {
        let mut memory = Sparse::default();
        let mut kernel = kernel();
        kernel.roots.init_task = va(memory.structure());
        kernel.roots.init_pid_ns = va(memory.structure());
        let init = kernel.roots.init_task.0;
        let name = u64::from_le_bytes(*b"swapper/");
        memory.put(Sparse::field(init, "task_struct", "comm"), name);
        for field in ["real_cred", "group_leader"] {
            memory.set(init, "task_struct", field, init);
        }
        let mut tasks = Self { memory, kernel, shown: Vec::new() };
        tasks.chain("tasks", init, &[], init);
        tasks
    }

    /// A thread of a process, or a new process's leader.
    fn task(&mut self, leader: Option<u64>) -> u64 {
        let at = self.memory.structure();
        let leader = leader.unwrap_or(at);
        for (field, value) in [
            ("pid", self.id(at)),
            ("tgid", self.id(leader)),
            ("tasks", at),
            ("real_cred", at),
            ("group_leader", leader),
            // Any address without a task.
            ("signal", leader + 1000),
            ("thread_node", leader + 1000),
        ] {
            self.memory.set(at, "task_struct", field, value);
        }
        at
    }

    /// The id of a thread.
    fn id(&self, task: u64) -> u64 {
        (task - self.kernel.roots.init_task.0) / 64
    }

    fn processes(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.task(None)).collect()
    }

    /// Links tasks by a field, from one to the last, which leads to `end`.
    fn chain(&mut self, field: &str, first: u64, others: &[u64], end: u64) {
        let all: Vec<u64> = [&[first], others].concat();
        let next = |task: &u64| Sparse::field(*task, "task_struct", field);
        let links = others.iter().map(next).chain([match field {
            "tasks" => next(&end),
            _ => end,
        }]);
        for (task, link) in all.iter().zip(links.collect::<Vec<_>>()) {
            self.memory.set(*task, "task_struct", field, link);
        }
    }

    fn show(&mut self, tasks: &[u64]) {
        self.shown.extend(tasks.iter().map(|&task| va(task)));
    }

    /// Follows the lists after the IDR showed some of the tasks.
    fn follow(&mut self) -> (Walker, TaskListCursor) {
        let mut walker = walker(&small());
        let init = [self.kernel.roots.init_task];
        let (shown, kernel) = (&self.shown, &self.kernel);
        let lists = self.memory.walk(&mut walker, kernel, |walker, memory| {
            walker.fetch_tasks(memory, &init, 0, &[]);
            walker.fetch_tasks(memory, shown, view::IDR, &[]);
            let mut lists =
                TaskListCursor::begin(&walker.snapshot.threads, MemoryCopyMode::No, kernel);
            walker.follow_lists(memory, &mut lists, &mut Vec::with_capacity(4096));
            lists
        });
        (walker, lists)
    }
}

/// Numbers of rows with a view, and of all rows but `init_task`'s.
fn rows(walker: &Walker, bit: u16) -> (usize, usize) {
    let threads = &walker.snapshot.threads;
    (threads.iter().filter(|row| row.views & bit != 0).count(), threads.len() - 1)
}

/// The reasons to stop early.
fn stops(walker: &Walker) -> Vec<String> {
    walker.snapshot.losses.frequent_stops().iter().map(ToString::to_string).collect()
}

#[test]
fn a_chain_of_hidden_tasks_is_followed_once() {
    let steps_of = |count: usize| {
        let mut tasks = Tasks::new();
        let shown = tasks.processes(count);
        let hidden = tasks.processes(count / 100);
        tasks.show(&shown);
        let init = tasks.kernel.roots.init_task.0;
        tasks.chain("tasks", init, &[shown, hidden].concat(), init);
        let (walker, lists) = tasks.follow();
        let all = count + count / 100;
        assert_eq!(rows(&walker, view::TASK_LIST), (all, all));
        assert!(walker.snapshot.task_list_closed);
        assert_eq!(walker.snapshot.losses.unbounded, 0);
        lists.steps
    };
    let (some, twice) = (steps_of(3000), steps_of(6000));
    assert!(some <= 4 * 3000, "{some}");
    assert!(twice <= 2 * some + 100, "{some}, {twice}");
}

#[test]
fn every_hidden_thread_of_a_process_is_found() {
    let steps_of = |count: usize| {
        let mut tasks = Tasks::new();
        let leaders = tasks.processes(count);
        tasks.show(&leaders);
        let init = tasks.kernel.roots.init_task.0;
        tasks.chain("tasks", init, &leaders, init);
        for &leader in &leaders {
            let threads: Vec<u64> = (0..5).map(|_| tasks.task(Some(leader))).collect();
            tasks.chain("thread_node", leader, &threads, leader + 1000);
        }
        let (walker, lists) = tasks.follow();
        assert_eq!(rows(&walker, view::THREAD_GROUP), (5 * count, 6 * count));
        assert_eq!(walker.snapshot.losses.unbounded, 0);
        lists.steps
    };
    let (some, twice) = (steps_of(200), steps_of(400));
    assert!(twice <= 2 * some + 100, "{some}, {twice}");
}

#[test]
fn a_chain_that_is_too_long_is_cut_and_counted() {
    let batches_of = |count: usize| {
        let mut tasks = Tasks::new();
        let hidden = tasks.processes(count);
        let init = tasks.kernel.roots.init_task.0;
        tasks.chain("tasks", init, &hidden, init);
        let (walker, _) = tasks.follow();
        let read = EXTRA_ROUNDS_MAX as usize;
        assert_eq!(rows(&walker, view::TASK_LIST), (read, read));
        assert!(!walker.snapshot.task_list_closed);
        assert_eq!(walker.snapshot.losses.unbounded, 1);
        assert_eq!(stops(&walker), [format!("task list: longer than {EXTRA_ROUNDS_MAX}")]);
        tasks.memory.batches
    };
    assert_eq!(batches_of(100), batches_of(200));
}

#[test]
fn a_ring_without_its_head_is_counted() {
    let mut tasks = Tasks::new();
    let all = tasks.processes(10);
    tasks.show(&all);
    let init = tasks.kernel.roots.init_task.0;
    tasks.chain("tasks", init, &all, all[4]);
    let (walker, lists) = tasks.follow();
    assert_eq!(rows(&walker, view::TASK_LIST), (10, 10));
    assert!(!walker.snapshot.task_list_closed);
    assert_eq!(walker.snapshot.losses.unbounded, 1);
    assert_eq!(stops(&walker), [format!("task list: loop at {:#x}", all[4])]);
    assert!(lists.steps < 40, "{}", lists.steps);
}

#[test]
fn a_ring_of_threads_and_a_task_that_cannot_be_read_are_named() {
    let mut tasks = Tasks::new();
    let leader = tasks.task(None);
    let threads: Vec<u64> = (0..3).map(|_| tasks.task(Some(leader))).collect();
    tasks.show(&[leader]);
    tasks.show(&threads);
    let back = Sparse::field(threads[1], "task_struct", "thread_node");
    tasks.chain("thread_node", leader, &threads, back);
    let missing = tasks.task(None);
    tasks.memory.missing.push(missing..missing + 1024);
    tasks.show(&[missing]);
    let (walker, _) = tasks.follow();
    let expected = [
        format!("task: unreadable at {missing:#x}"),
        format!("thread list: loop at {:#x}", threads[1]),
    ];
    assert_eq!(stops(&walker), expected);
    assert_eq!((walker.snapshot.losses.unreadable, walker.snapshot.losses.unbounded), (1, 0));
}

/// A task that the lists show, and so many others, each of which only the one before it names.
fn hidden_chain(count: usize) -> (Tasks, Vec<u64>) {
    let mut tasks = Tasks::new();
    let all = tasks.processes(count + 1);
    tasks.show(&all[..1]);
    let init = tasks.kernel.roots.init_task.0;
    tasks.chain("tasks", init, &all[..1], init);
    for (&task, &parent) in all.iter().zip(all[1..].iter().chain([&init])) {
        tasks.memory.set(task, "task_struct", "real_parent", parent);
        tasks.memory.set(task, "task_struct", "start_boottime", 1);
        tasks.memory.set(task, "task_struct", "thread_pid", task);
    }
    (tasks, all)
}

#[test]
fn a_chain_of_tasks_that_no_list_shows_is_cut_and_named() {
    let stops_of = |count: usize| {
        let (mut tasks, _) = hidden_chain(count);
        let (mut walker, mut lists) = tasks.follow();
        let kernel = &tasks.kernel;
        tasks.memory.walk(&mut walker, kernel, |walker, memory| {
            walker.read_task_hints(memory, &mut lists, &mut Vec::with_capacity(4096));
        });
        (walker.snapshot.threads.len() - 2, stops(&walker))
    };
    assert_eq!(stops_of(7), (7, vec![]));
    let stop = format!("chain of tasks that no list shows: longer than {TASK_HINT_ROUNDS_MAX}");
    assert_eq!(stops_of(20), (TASK_HINT_ROUNDS_MAX as usize, vec![stop]));
}

/// Each round follows all lists again.
#[test]
fn a_list_that_ends_early_in_each_round_is_counted_once() {
    for (count, rounds) in [(0, 1), (3, 4), (20, TASK_HINT_ROUNDS_MAX)] {
        let (mut tasks, all) = hidden_chain(count);
        // A process group that leads back to its first member.
        let links = Sparse::field(all[0], "task_struct", "pid_links");
        let first = links + 16 * PIDTYPE_PGID as u64;
        tasks.memory.put(first, first);
        let (mut walker, mut lists) = tasks.follow();
        let mut pid = [0; 32];
        pid[8 * PIDTYPE_PGID..][..8].copy_from_slice(&first.to_le_bytes());
        let heads = PackedField { offset: 0, size: 32, packed: 0 };
        walker.hints.take_group_heads(View::new(&pid), heads);
        let kernel = &tasks.kernel;
        tasks.memory.walk(&mut walker, kernel, |walker, memory| {
            walker.read_task_hints(memory, &mut lists, &mut Vec::with_capacity(4096));
        });
        let found = walker.snapshot.threads.len() - 2;
        assert_eq!(found, count.min(rounds as usize), "{rounds} rounds");
        let all_stops = walker.snapshot.losses.frequent_stops();
        let text = format!("list of a process group or session: loop at {:#x}", all[0]);
        let of_group: Vec<_> = all_stops.iter().filter(|stop| stop.to_string() == text).collect();
        assert_eq!(of_group.iter().map(|stop| stop.count).collect::<Vec<_>>(), [1]);
    }
}

/// A node of the pid tree, `shift` bits above the entries.
fn node(memory: &mut Sparse, shift: u64, slots: &[u64]) -> u64 {
    let at = memory.structure();
    memory.set(at, "xa_node", "shift", shift);
    for (slot, &pointer) in (0..).zip(slots) {
        memory.put(Sparse::field(at, "xa_node", "slots") + 8 * slot, pointer);
    }
    at | 2
}

/// Whether a scan reads a tree with this root whole, the number of entries that it finds, and the
/// reasons to stop early.
fn find(memory: &mut Sparse, root: u64) -> (bool, usize, Vec<String>) {
    let mut walker = walker(&small());
    let is_whole = memory.walk(&mut walker, &kernel(), |walker, memory| {
        walker.find_entries(memory, root, &mut Vec::with_capacity(4096), PIDS)
    });
    (is_whole, walker.scratch.pids.len(), stops(&walker))
}

#[test]
fn a_pid_tree_that_ends_early_is_named() {
    let mut memory = Sparse::default();
    let pids = [0; 3].map(|_| memory.structure());
    let leaf = node(&mut memory, 0, &pids);
    let root = node(&mut memory, 6, &[leaf]);
    assert_eq!(find(&mut memory, root), (true, 3, vec![]));

    let stop = |reason: String| vec![format!("pid tree: {reason}")];
    let twice = node(&mut memory, 0, &[pids[0], pids[1], pids[0]]);
    let expected = (true, 2, stop(format!("loop at {:#x}", pids[0])));
    assert_eq!(find(&mut memory, twice), expected);

    let user = node(&mut memory, 0, &[pids[0], 0x1000]);
    assert_eq!(find(&mut memory, user), (true, 1, stop("unreadable at 0x1000".to_owned())));
    let mixed = node(&mut memory, 6, &[leaf, pids[0]]);
    let expected = (true, 3, stop(format!("unreadable at {:#x}", pids[0])));
    assert_eq!(find(&mut memory, mixed), expected);

    let mut deep = leaf;
    for _ in 0..=XARRAY_DEPTH_MAX {
        deep = node(&mut memory, 6, &[deep]);
    }
    assert_eq!(find(&mut memory, deep), (false, 0, stop("longer than 11".to_owned())));

    memory.missing.push(leaf - 2..leaf);
    let expected = vec![format!("node of the pid tree: unreadable at {:#x}", leaf - 2)];
    assert_eq!(find(&mut memory, root), (false, 0, expected));
}

#[test]
fn a_pid_namespace_that_cannot_be_read_is_named() {
    let (mut memory, mut kernel, mut walker) = (Sparse::default(), kernel(), walker(&small()));
    let namespace = memory.structure();
    kernel.roots.init_pid_ns = va(namespace);
    memory.missing.push(namespace..namespace + 1024);
    memory.walk(&mut walker, &kernel, |walker, memory| {
        walker.read_pid_idr(memory, &mut Vec::new());
    });
    let root = namespace + kernel.layouts.pid_idr_root();
    assert_eq!(stops(&walker), [format!("pid tree: unreadable at {root:#x}")]);
    assert!(walker.snapshot.losses.is_whole() && !walker.snapshot.idr_complete);
}

#[test]
fn a_number_that_cannot_be_read_is_named() {
    let (mut memory, mut walker) = (Sparse::default(), walker(&small()));
    let pid = memory.structure();
    let number = Sparse::field(pid, "pid", "numbers");
    walker.scratch.pids.push(va(pid));
    memory.missing.push(number..number + 8);
    let is_whole = memory.walk(&mut walker, &kernel(), |walker, memory| {
        walker.read_pids(memory, &mut Vec::with_capacity(8))
    });
    assert!(!is_whole && walker.snapshot.losses.is_whole());
    assert_eq!(stops(&walker), [format!("pid tree: unreadable at {number:#x}")]);
}
