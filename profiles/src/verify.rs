//! Verifies a bound profile against the memory, before it is trusted.
//!
//! Memory may be damaged: a dump of a running machine is torn, and pages may be missing. So each
//! check asks many objects where there are many, and the majority of those that can be read
//! decides. With a wrong layout nearly all of them contradict; a tear concerns few. What cannot be
//! read, or lies in a page of zeros, proves nothing. Nor do a few objects that disagree.

mod anchors;
mod poll;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::{PF_KTHREAD, PID_MAX_LIMIT, Task};
use panoptes_decoders::layout::{Layout, View, c_string};

use self::anchors::Anchors;
use self::poll::{Poll, Silence, object};
use crate::memory::KernelMemory;
use crate::object::read_object;
use crate::report::{CheckOutcome, INIT_TASK, ProfileCheck};
use crate::symbols::Symbols;

/// The complete names, with and without SMP.
const INIT_TASK_NAMES: [&[u8]; 2] = [b"swapper/0", b"swapper"];

/// Number of objects that a check asks, spread over all of their kind.
const ASKED_MAX: usize = 64;

/// So many checks must pass, whatever cannot be read.
const PASSED_MIN: usize = 3;

/// Whether checks confirm a profile: none is contradicted, and enough of them could be made.
pub fn confirms(checks: &[ProfileCheck]) -> bool {
    let is_passed = |check: &&ProfileCheck| check.outcome == CheckOutcome::Passed;
    let is_failed = |check: &ProfileCheck| matches!(check.outcome, CheckOutcome::Failed(_));
    checks.iter().filter(is_passed).count() >= PASSED_MIN && !checks.iter().any(is_failed)
}

/// Runs all checks.
pub fn verify(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    symbols: &Symbols,
    release: &str,
) -> Vec<ProfileCheck> {
    let init_task = symbols.init_task.unwrap_or_default();
    let anchors = Anchors::read(memory, layouts, init_task, symbols.init_pid_ns);
    let own_pids = own_pids(memory, layouts, &anchors);
    vec![
        ProfileCheck { name: INIT_TASK, outcome: swapper(memory, layouts, init_task) },
        ProfileCheck {
            name: "the release of init_uts_ns is the kernel's",
            outcome: uts_release(memory, layouts, symbols, release),
        },
        ProfileCheck {
            name: "tasks of the list point to each other",
            outcome: anchors.links.outcome_of_pairs(),
        },
        ProfileCheck {
            name: "process 1 is a child of init_task",
            outcome: first_process(&anchors, init_task),
        },
        ProfileCheck {
            name: "the pid namespace leads to its tasks",
            outcome: tree_of_pids(&anchors, &own_pids),
        },
        ProfileCheck { name: "tasks have their pids", outcome: own_pids },
        ProfileCheck { name: "parents are tasks", outcome: parents(memory, layouts, &anchors) },
        ProfileCheck {
            name: "the memory of processes can be read",
            outcome: address_spaces(memory, layouts, &anchors),
        },
        ProfileCheck {
            name: "the files of processes can be read",
            outcome: descriptor_tables(memory, layouts, &anchors),
        },
    ]
}

fn swapper(memory: &mut KernelMemory<'_>, layouts: &Layouts, init_task: KernelVa) -> CheckOutcome {
    match object(memory, &layouts.task_struct, init_task) {
        Err(silence) => silence.outcome(),
        Ok(bytes) if is_swapper(&Task::decode(&layouts.task_struct, init_task, &bytes)) => {
            CheckOutcome::Passed
        }
        Ok(_) => CheckOutcome::Failed(format!("the task at {init_task} is not")),
    }
}

fn uts_release(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    symbols: &Symbols,
    release: &str,
) -> CheckOutcome {
    let Some(at) = symbols.init_uts_ns else {
        return CheckOutcome::Skipped("the address of init_uts_ns is unknown");
    };
    let bytes = match object(memory, &layouts.uts_namespace, at) {
        Ok(bytes) => bytes,
        Err(silence) => return silence.outcome(),
    };
    let found = c_string(View::new(&bytes).bytes(layouts.uts_namespace.release));
    if found == release.as_bytes() {
        return CheckOutcome::Passed;
    }
    CheckOutcome::Failed(format!("it is \"{}\"", found.escape_ascii()))
}

fn first_process(anchors: &Anchors, init_task: KernelVa) -> CheckOutcome {
    let Some(task) = anchors.tasks.iter().find(|task| task.pid == 1) else {
        if anchors.tasks.iter().any(|task| task.pid != 0) {
            return CheckOutcome::Unread("no view leads to it".to_owned());
        }
        if anchors.links.lacks_any() && anchors.pids.lacks_any() {
            return CheckOutcome::Unread("all views end before a process".to_owned());
        }
        return CheckOutcome::Failed("no process was found".to_owned());
    };
    if task.tgid != 1 {
        return CheckOutcome::Failed(format!("its tgid is {}", task.tgid));
    }
    if task.real_parent != init_task {
        return CheckOutcome::Failed(format!("its parent is {}", task.real_parent));
    }
    CheckOutcome::Passed
}

/// Some of the tasks, spread over all of them.
fn spread(tasks: &[Task], is_asked: impl Fn(&Task) -> bool) -> impl Iterator<Item = &Task> {
    let asked: Vec<_> = tasks.iter().filter(|task| is_asked(task)).collect();
    let step = asked.len().div_ceil(ASKED_MAX).max(1);
    asked.into_iter().step_by(step)
}

/// The `struct pid` of each task has its number, and leads back to it.
fn own_pids(memory: &mut KernelMemory<'_>, layouts: &Layouts, anchors: &Anchors) -> CheckOutcome {
    let links = u64::from(layouts.task_struct.pid_links.offset);
    let upid = u64::from(layouts.pid.numbers.offset);
    let mut poll = Poll::after(&anchors.links);
    for task in spread(&anchors.tasks, |task| task.pid != 0 && !task.thread_pid.is_null()) {
        let pid = task.thread_pid;
        let asked = object(memory, &layouts.pid, pid).and_then(|bytes| {
            let first = View::new(&bytes).u64_at(layouts.pid.tasks, 0);
            let bytes = object(memory, &layouts.upid, pid.plus(upid))?;
            Ok((first, View::new(&bytes).unsigned(layouts.upid.nr)))
        });
        match asked {
            Err(silence) => poll.silence(&silence),
            Ok((first, number)) => {
                let is_its = number == u64::from(task.pid) && first == task.address.plus(links).0;
                let how = || format!("that of {} has number {number}, task {first:#x}", task.pid);
                poll.vote(is_its, how);
            }
        }
    }
    poll.outcome_of_pairs()
}

/// The tree of pids leads to tasks with their numbers.
///
/// All of it hangs from one root. A copy may have what the page of a new root held before
/// (`radix_tree_extend`, lib/radix-tree.c). If the tasks themselves lead to their pids and back,
/// the tree is torn, and the profile is right.
fn tree_of_pids(anchors: &Anchors, own_pids: &CheckOutcome) -> CheckOutcome {
    match anchors.pids.outcome_of_pairs() {
        CheckOutcome::Failed(how) if *own_pids == CheckOutcome::Passed && !anchors.has_no_tree => {
            CheckOutcome::Undecided(how)
        }
        outcome => outcome,
    }
}

/// Each task's parent is a task.
fn parents(memory: &mut KernelMemory<'_>, layouts: &Layouts, anchors: &Anchors) -> CheckOutcome {
    let mut poll = Poll::default();
    for task in spread(&anchors.tasks, |task| task.pid != 0) {
        let at = task.real_parent;
        if anchors.known.contains(&at) {
            poll.confirm();
            continue;
        }
        // A list may be torn before the parent.
        match object(memory, &layouts.task_struct, at) {
            Err(silence) => poll.silence(&silence),
            Ok(bytes) => {
                let parent = Task::decode(&layouts.task_struct, at, &bytes);
                let is_task = parent.tgid <= PID_MAX_LIMIT && parent.group_leader.is_plausible();
                poll.vote(is_task, || format!("that of {} is {at}", task.pid));
            }
        }
    }
    poll.outcome()
}

/// The page tables of each process are mapped.
fn address_spaces(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    anchors: &Anchors,
) -> CheckOutcome {
    let mut poll = Poll::default();
    for task in spread(&anchors.tasks, |task| !task.mm.is_null()) {
        let asked = object(memory, &layouts.mm_struct, task.mm).and_then(|bytes| {
            let pgd = View::new(&bytes).pointer(layouts.mm_struct.pgd);
            memory.translate(pgd).map_err(Silence::Fault)
        });
        poll.ask(asked.map(drop), || format!("of {}", task.pid));
    }
    poll.outcome()
}

/// The descriptor table of each process has a size that the kernel gives them.
fn descriptor_tables(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    anchors: &Anchors,
) -> CheckOutcome {
    let mut poll = Poll::default();
    for task in spread(&anchors.tasks, |task| !task.files.is_null()) {
        let asked = object(memory, &layouts.files_struct, task.files).and_then(|bytes| {
            let fdt = View::new(&bytes).pointer(layouts.files_struct.fdt);
            object(memory, &layouts.fdtable, fdt)
        });
        match asked {
            Err(silence) => poll.ask(Err(silence), || format!("of {}", task.pid)),
            Ok(bytes) => {
                let count = View::new(&bytes).unsigned(layouts.fdtable.max_fds);
                let is_right = count > 0 && count.is_multiple_of(64);
                let how = || format!("the table of {} has room for {count} files", task.pid);
                poll.vote(is_right, how);
            }
        }
    }
    poll.outcome()
}

pub(crate) fn is_init_task(memory: &mut KernelMemory<'_>, layouts: &Layouts, at: KernelVa) -> bool {
    let Ok(bytes) = read_object(memory, &layouts.task_struct, at) else { return false };
    is_swapper(&Task::decode(&layouts.task_struct, at, &bytes))
}

/// Whether the memory lacks an object to which the page tables lead.
pub(crate) fn is_missing(
    memory: &mut KernelMemory<'_>,
    layout: &impl Layout,
    at: KernelVa,
) -> bool {
    object(memory, layout, at).is_err_and(|silence| silence.is_missing())
}

fn is_swapper(task: &Task) -> bool {
    INIT_TASK_NAMES.contains(&task.name())
        && task.pid == 0
        && task.tgid == 0
        && task.group_leader == task.address
        && task.real_parent == task.address
        && task.flags & PF_KTHREAD != 0
        && task.tasks_next.is_plausible()
        && task.tasks_prev.is_plausible()
}
