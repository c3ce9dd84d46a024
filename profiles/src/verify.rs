//! Verifies a bound profile against the memory, before it is trusted.
//!
//! Each check has a name and an outcome. The checks cover the foundations of the walk: the first
//! task, the list of tasks, the tree of pids, process 1, and that the pointers of these translate.

use std::collections::HashSet;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::Layouts;
use panoptes_decoders::kernel::task_struct::{PF_KTHREAD, Task};
use panoptes_decoders::kernel::xarray::{self, Slot};
use panoptes_decoders::layout::{View, c_string};

use crate::memory::KernelMemory;
use crate::object::read_object;
use crate::report::{Check, CheckOutcome};
use crate::symbols::Symbols;

/// The complete names, with and without SMP.
const INIT_TASK_NAMES: [&[u8]; 2] = [b"swapper/0", b"swapper"];

/// Maximum number of tasks that are walked; a longer list passes.
const TASKS_MAX: usize = 1 << 16;

/// One of so many links may be inconsistent, because a live list changes during the walk. With a
/// wrong layout all are.
const LINKS_FOR_ONE_BROKEN: usize = 8;

/// The outcome of a check: `Ok(None)` passed, `Ok(Some(why))` skipped, `Err(how)` failed.
type Outcome = Result<Option<&'static str>, String>;

/// Runs all checks. The profile is valid if none has failed.
pub fn verify(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    symbols: &Symbols,
    release: &str,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut check = |name, outcome: Outcome| {
        let outcome = match outcome {
            Ok(None) => CheckOutcome::Passed,
            Ok(Some(why)) => CheckOutcome::Skipped(why),
            Err(how) => CheckOutcome::Failed(how),
        };
        checks.push(Check { name, outcome });
    };
    let init_task = symbols.init_task.unwrap_or_default();
    check(
        "init_task is the swapper with pid 0",
        if is_init_task(memory, layouts, init_task) {
            Ok(None)
        } else {
            Err(format!("the task at {init_task} is not"))
        },
    );
    check(
        "the release of init_uts_ns is the kernel's",
        uts_release(memory, layouts, symbols, release),
    );
    let list = task_list(memory, layouts, init_task);
    let first =
        list.as_ref().ok().and_then(|tasks| tasks.iter().find(|task| task.pid == 1)).copied();
    check("the list of tasks closes both ways", list.map(|_| None));
    check(
        "process 1 is in the list and a child of init_task",
        match &first {
            None => Err("no process was found".to_owned()),
            Some(task) if task.tgid != 1 => Err(format!("its tgid is {}", task.tgid)),
            Some(task) if task.real_parent != init_task => {
                Err(format!("its parent is {}", task.real_parent))
            }
            Some(_) => Ok(None),
        },
    );
    check(
        "the pid namespace leads to process 1",
        pid_one(memory, layouts, symbols, first.as_ref()),
    );
    check("process 1's memory and files can be read", reach(memory, layouts, first.as_ref()));
    checks
}

fn uts_release(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    symbols: &Symbols,
    release: &str,
) -> Outcome {
    let Some(at) = symbols.init_uts_ns else { return Ok(Some("nobody says where it is")) };
    let bytes =
        read_object(memory, &layouts.uts_namespace, at).map_err(|fault| fault.to_string())?;
    let found = c_string(View::new(&bytes).bytes(layouts.uts_namespace.release));
    if found == release.as_bytes() {
        return Ok(None);
    }
    Err(format!("it is \"{}\"", found.escape_ascii()))
}

/// Walks the list of tasks; each task must point back to the previous one.
fn task_list(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    init_task: KernelVa,
) -> Result<Vec<Task>, String> {
    let layout = &layouts.task_struct;
    let link = u64::from(layout.tasks.offset);
    let head = init_task.plus(link);
    let mut tasks: Vec<Task> = Vec::new();
    let mut seen = HashSet::new();
    let mut broken = 0;
    let mut at = init_task;
    let mut last = KernelVa::NULL;
    loop {
        let bytes = read_object(memory, layout, at).map_err(|fault| fault.to_string())?;
        let task = Task::decode(layout, at, &bytes);
        // The first task is read again at the end, when the last one is known.
        broken += usize::from(!last.is_null() && task.tasks_prev != last);
        if tasks.len() >= TASKS_MAX || (at == init_task && !last.is_null()) {
            break;
        }
        if !seen.insert(at) {
            return Err(format!("it comes back to {at}, which is not its head"));
        }
        last = at.plus(link);
        at = if task.tasks_next == head { init_task } else { task.tasks_next.minus(link) };
        tasks.push(task);
    }
    if broken > 1 + tasks.len() / LINKS_FOR_ONE_BROKEN {
        return Err(format!("{broken} of {} tasks do not point back", tasks.len()));
    }
    Ok(tasks)
}

/// Looks up pid 1 like the kernel: in the initial namespace's tree, then the task of that `struct
/// pid`.
fn pid_one(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    symbols: &Symbols,
    first: Option<&Task>,
) -> Outcome {
    let namespace = symbols.init_pid_ns.ok_or("nobody says where it is")?;
    let text = |fault: crate::memory::Fault| fault.to_string();
    let idr = namespace.plus(u64::from(layouts.pid_namespace.idr.offset));
    let root = memory.read_u64(idr.plus(u64::from(layouts.idr.xa_head.offset))).map_err(text)?;
    let pid = entry(memory, layouts, root, 1)?;
    let head = memory.read_pointer(pid.plus(u64::from(layouts.pid.tasks.offset))).map_err(text)?;
    let task = head.minus(u64::from(layouts.task_struct.pid_links.offset));
    match first {
        Some(first) if first.address == task => Ok(None),
        Some(first) => Err(format!("it leads to {task}, the list to {}", first.address)),
        None => Err(format!("it leads to {task}, the list to none")),
    }
}

/// The entry at an index in the tree under `root`.
fn entry(
    memory: &mut KernelMemory<'_>,
    layouts: &Layouts,
    root: u64,
    index: u64,
) -> Result<KernelVa, String> {
    let layout = &layouts.xa_node;
    let mut slot = xarray::slot(root);
    for _ in 0..=xarray::DEPTH_MAX {
        match slot {
            Slot::Entry(entry) => return Ok(entry),
            Slot::Empty => break,
            Slot::Node(node) => {
                let bytes = read_object(memory, layout, node).map_err(|fault| fault.to_string())?;
                let view = View::new(&bytes);
                let shift = view.unsigned(layout.shift).min(63);
                let slots = u64::from(layout.slots.size / 8).max(1);
                let position = (index >> shift) % slots;
                slot = xarray::slot(view.u64_at(layout.slots, position as usize));
            }
        }
    }
    Err(format!("its tree has no entry for {index}"))
}

/// Process 1 must have readable structures of its address space and files. Skipped if it has none,
/// because it is exiting.
fn reach(memory: &mut KernelMemory<'_>, layouts: &Layouts, first: Option<&Task>) -> Outcome {
    let task = first.ok_or("no process was found")?;
    if task.mm.is_null() || task.files.is_null() {
        return Ok(Some("it has none"));
    }
    let text = |fault: crate::memory::Fault| fault.to_string();
    let bytes = read_object(memory, &layouts.mm_struct, task.mm).map_err(text)?;
    let pgd = View::new(&bytes).pointer(layouts.mm_struct.pgd);
    memory.translate(pgd).map_err(text)?;
    let bytes = read_object(memory, &layouts.files_struct, task.files).map_err(text)?;
    let fdt = View::new(&bytes).pointer(layouts.files_struct.fdt);
    let bytes = read_object(memory, &layouts.fdtable, fdt).map_err(text)?;
    let fds = View::new(&bytes).unsigned(layouts.fdtable.max_fds);
    if fds == 0 || !fds.is_multiple_of(64) {
        return Err(format!("its table has room for {fds} files"));
    }
    Ok(None)
}

pub(crate) fn is_init_task(memory: &mut KernelMemory<'_>, layouts: &Layouts, at: KernelVa) -> bool {
    let Ok(bytes) = read_object(memory, &layouts.task_struct, at) else { return false };
    let task = Task::decode(&layouts.task_struct, at, &bytes);
    INIT_TASK_NAMES.contains(&task.name())
        && task.pid == 0
        && task.tgid == 0
        && task.group_leader == at
        && task.real_parent == at
        && task.flags & PF_KTHREAD != 0
        && task.tasks_next.is_plausible()
        && task.tasks_prev.is_plausible()
}
