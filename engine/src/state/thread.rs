//! Tracked threads: all but each process's leader, which is the process itself.

use panoptes_decoders::kernel::task_struct::Task;

use super::absence::absence;
use super::change::Change;
use super::children::{Children, ComparedProcess, UntrackedStart};
use super::emit::Emitter;
use super::facts::ThreadFacts;
use super::process::is_dead;
use crate::walk::{Index, Snapshot, ThreadRow};
use panoptes_tables::{ListPool, PoolCursor, Tag};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thread {
    start_boottime: u64,
    number: u32,
    self_exec_id: u32,
    /// Its `task_struct`.
    address: Tag<4>,
    /// The low half of `EXIT_*`, which has all of them.
    exit_state: u16,
    absent_scans: u8,
}

const _: () = assert!(size_of::<Thread>() == 24);

impl Thread {
    fn new(task: &Task) -> Self {
        Self {
            number: task.pid,
            self_exec_id: task.self_exec_id,
            exit_state: task.exit_state as u16,
            absent_scans: 0,
            start_boottime: task.start_boottime,
            address: Tag::of(task.address.0),
        }
    }

    fn is(&self, task: &Task) -> bool {
        self.number == task.pid
            && self.start_boottime == task.start_boottime
            && self.address == Tag::of(task.address.0)
    }

    /// Its facts. The exit state is known only while the thread is still there.
    fn facts(&self, there: bool) -> ThreadFacts {
        ThreadFacts {
            thread_id: self.number,
            self_exec_id: self.self_exec_id,
            exit_state: there.then_some(self.exit_state.into()),
        }
    }
}

/// Number of a process's threads that have not ended.
pub(super) fn living(snapshot: &Snapshot, group: &[Index<ThreadRow>]) -> u32 {
    let tasks = group.iter().filter_map(|&index| snapshot.threads.at(index));
    tasks.filter(|row| row.task.exit_state == 0).count() as u32
}

/// Compares a process's threads with those of the last scan, and returns the number of new ones.
/// `group` has them all, ascending. `absent_scans_max` is the number of consecutive scans from
/// which a thread must be absent to have ended; `None` if absence from this scan proves nothing.
pub(super) fn update(
    threads: &mut ListPool<Thread>,
    entry: &mut ComparedProcess<'_>,
    group: &[Index<ThreadRow>],
    absent_scans_max: Option<u32>,
    emitter: &mut Emitter<'_>,
) -> u32 {
    let process = entry.process;
    let snapshot = emitter.snapshot;
    let quiet = entry.quiet(entry.children.threads_taken);
    let unknown = entry.children.untracked.threads;
    let allowed = entry.allowed.threads;
    let mut untracked = UntrackedStart::default().threads;
    let (mut born, mut kept) = (0, 0);
    let mut cursor = ListPool::<Thread>::start(entry.children.threads);
    for row in group.iter().filter_map(|&index| snapshot.threads.at(index)) {
        if !emitter.goes_on() {
            return born;
        }
        let task = &row.task;
        if task.is_leader() || is_dead(task) {
            continue;
        }
        let tid = Some(task.pid);
        if !miss_before(threads, entry, &mut cursor, tid, absent_scans_max, emitter) {
            return born;
        }
        if kept >= allowed {
            // The oldest threads stay.
            threads.refuse(1);
            untracked = untracked.min(task.pid);
            while threads.remove(&mut entry.children.threads, &mut cursor).is_some() {}
            continue;
        }
        match threads.row_mut(cursor) {
            Some(old) if old.is(task) => {
                *old = Thread::new(task);
                threads.advance(&mut cursor);
                kept += 1;
                continue;
            }
            Some(old) if old.number == task.pid => {
                // Another thread has the number now.
                let thread = old.facts(false);
                threads.remove(&mut entry.children.threads, &mut cursor);
                emitter.emit(&Change::ThreadTerminated { process, thread });
            }
            _ => {}
        }
        let new = Thread::new(task);
        if threads.insert(&mut entry.children.threads, &mut cursor, new) {
            kept += 1;
            let quiet = quiet || task.pid >= unknown;
            born += u32::from(!quiet);
            if !quiet {
                emitter.emit(&Change::ThreadCreated { process, thread: new.facts(true) });
            }
        }
    }
    if !miss_before(threads, entry, &mut cursor, None, absent_scans_max, emitter) {
        return born;
    }
    entry.children.threads_taken = true;
    entry.children.untracked.threads = untracked;
    born
}

/// Moves past the rows before a thread, or past all rows. Returns `false` if the comparison stops,
/// and some of them are still there.
fn miss_before(
    threads: &mut ListPool<Thread>,
    entry: &mut ComparedProcess<'_>,
    cursor: &mut PoolCursor,
    tid: Option<u32>,
    absent_scans_max: Option<u32>,
    emitter: &mut Emitter<'_>,
) -> bool {
    while let Some(old) = threads.row(*cursor)
        && tid.is_none_or(|tid| old.number < tid)
        && emitter.goes_on()
    {
        miss(threads, entry, cursor, absent_scans_max, emitter);
    }
    !emitter.is_stopped()
}

/// Removes the threads of a process after the first `allowed` ones, which is not reported.
pub(super) fn cut(threads: &mut ListPool<Thread>, children: &mut Children, allowed: usize) {
    let mut cursor = ListPool::<Thread>::start(children.threads);
    for _ in 0..allowed {
        threads.advance(&mut cursor);
    }
    if let Some(first) = threads.row(cursor) {
        children.untracked.threads = children.untracked.threads.min(first.number);
    }
    while threads.remove(&mut children.threads, &mut cursor).is_some() {}
}

/// Handles a thread that the scan did not show, and moves on.
fn miss(
    threads: &mut ListPool<Thread>,
    entry: &mut ComparedProcess<'_>,
    cursor: &mut PoolCursor,
    absent_scans_max: Option<u32>,
    emitter: &mut Emitter<'_>,
) {
    let Some(old) = threads.row_mut(*cursor) else { return };
    let absence = absence(absent_scans_max, emitter.snapshot);
    old.absent_scans = old.absent_scans.saturating_add(absence);
    if absent_scans_max.is_some_and(|max| u32::from(old.absent_scans) >= max) {
        let thread = old.facts(false);
        threads.remove(&mut entry.children.threads, cursor);
        emitter.emit(&Change::ThreadTerminated { process: entry.process, thread });
    } else {
        threads.advance(cursor);
    }
}
