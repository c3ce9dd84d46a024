//! Threads beside the control thread's: a few workers for what may take minutes.
//!
//! Not here: the work itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::exit::{Exit, Failure};
use crate::scanner_cores::searches;
use crate::watch::signals::Waker;

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    thread::Builder::new()
        .name(format!("panoptes-{name}"))
        .spawn(run)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start a thread: {error}")))
}

/// The cores for everything but scans: those that this process may use, without those of scanners.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherCores {
    /// `None`: every allowed core has a scanner, or the allowed ones are not known.
    set: Option<CpuSet>,
    /// The number of allowed cores.
    allowed: usize,
}

impl OtherCores {
    /// `scanners`: the cores on which scanners may run.
    pub(super) fn without(scanners: &[usize]) -> Self {
        let Ok(mut set) = sched_getaffinity(Pid::from_raw(0)) else {
            return Self { set: None, allowed: 1 };
        };
        let count = |set: &CpuSet| (0..CpuSet::count()).filter(|&cpu| is_set(set, cpu)).count();
        let allowed = count(&set);
        for cpu in scanners {
            // An error here is a core that does not exist.
            let _ = set.unset(*cpu);
        }
        Self { set: (count(&set) > 0).then_some(set), allowed }
    }

    /// Starts a thread on these cores that nobody waits for.
    pub(super) fn spawn(
        self,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), Failure> {
        let run = move || {
            self.enter();
            run();
        };
        spawn(name, run).map(drop)
    }

    /// Keeps the present thread on these cores.
    pub(super) fn enter(self) {
        if let Some(set) = &self.set {
            // If the cores are gone, any core is as good.
            let _ = sched_setaffinity(Pid::from_raw(0), set);
        }
    }

    /// Frees a value on a thread of its own: to unmap much memory takes long.
    pub(super) fn free(self, value: impl Send + 'static) {
        // If no thread can be started, the value is freed here.
        let _ = self.spawn("free", move || drop(value));
    }
}

fn is_set(set: &CpuSet, cpu: usize) -> bool {
    set.is_set(cpu).unwrap_or(false)
}

/// The number of a task of [`Workers`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct TaskId(u64);

/// A task that has ended.
#[derive(Debug)]
pub(super) struct EndedTask<T> {
    pub(super) id: TaskId,
    /// An error if it panicked.
    pub(super) result: thread::Result<T>,
}

/// How soon a task must be started.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Urgency {
    /// One worker is kept free of the others for such tasks.
    New,
    /// It failed before, and may fail again after a long time.
    Again,
}

/// Runs tasks that may take minutes, each on its own thread, with a bound on their number.
#[derive(Debug)]
pub(super) struct Workers<T> {
    name: &'static str,
    most: usize,
    cores: OtherCores,
    waker: Waker,
    last: u64,
    running: Vec<RunningTask>,
    sender: Sender<EndedTask<T>>,
    ended: Receiver<EndedTask<T>>,
}

#[derive(Debug)]
struct RunningTask {
    id: TaskId,
    urgency: Urgency,
    is_cancelled: Arc<AtomicBool>,
    since: Instant,
    is_overdue: bool,
}

impl<T: Send + 'static> Workers<T> {
    pub(super) fn new(name: &'static str, most: usize, cores: OtherCores, waker: Waker) -> Self {
        let (sender, ended) = channel();
        Self { name, most, cores, waker, last: 0, running: Vec::new(), sender, ended }
    }

    /// Workers for searches for kernels.
    pub(super) fn for_searches(cores: OtherCores, waker: Waker) -> Self {
        Self::new("attach", searches(cores.allowed), cores, waker)
    }

    /// Whether a task of this urgency may start now.
    pub(super) fn has_room(&self, urgency: Urgency) -> bool {
        let kept = usize::from(urgency == Urgency::Again && self.most > 1);
        let again = self.running.iter().filter(|one| one.urgency == Urgency::Again).count();
        self.running.len() < self.most && (urgency == Urgency::New || again + kept < self.most)
    }

    /// Starts a task. It must end soon after the flag that it receives is set.
    pub(super) fn start(
        &mut self,
        urgency: Urgency,
        run: impl FnOnce(&AtomicBool) -> T + Send + 'static,
    ) -> Result<TaskId, Failure> {
        self.last += 1;
        let id = TaskId(self.last);
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (flag, sender) = (Arc::clone(&is_cancelled), self.sender.clone());
        let waker = self.waker.clone();
        self.cores.spawn(self.name, move || {
            let result = catch_unwind(AssertUnwindSafe(|| run(&flag)));
            // Without a receiver, the program ends.
            let _ = sender.send(EndedTask { id, result });
            waker.wake();
        })?;
        let since = Instant::now();
        self.running.push(RunningTask { id, urgency, is_cancelled, since, is_overdue: false });
        Ok(id)
    }

    /// The next task that has ended since the last call.
    pub(super) fn next_ended(&mut self) -> Option<EndedTask<T>> {
        self.next_ended_within(Duration::ZERO)
    }

    /// The same; waits for it for so long.
    pub(super) fn next_ended_within(&mut self, time: Duration) -> Option<EndedTask<T>> {
        let ended = self.ended.recv_timeout(time).ok()?;
        self.running.retain(|one| one.id != ended.id);
        Some(ended)
    }

    /// Leaves all tasks that run behind: others may start in their places.
    pub(super) fn leave_all_behind(&mut self) {
        self.running.clear();
    }

    /// The next task that has run for longer than `most`; each is returned once.
    pub(super) fn next_overdue(&mut self, most: Duration) -> Option<TaskId> {
        let is_new = |task: &&mut RunningTask| !task.is_overdue && task.since.elapsed() >= most;
        let task = self.running.iter_mut().find(is_new)?;
        task.is_overdue = true;
        Some(task.id)
    }

    /// Requests that a task ends soon.
    pub(super) fn cancel(&self, id: TaskId) {
        for task in self.running.iter().filter(|one| one.id == id) {
            task.is_cancelled.store(true, Ordering::Relaxed);
        }
    }

    /// Requests that all tasks end soon.
    pub(super) fn cancel_all(&self) {
        for task in &self.running {
            task.is_cancelled.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::watch::signals::Signals;

    fn workers(most: usize) -> (Signals, Workers<u32>) {
        let signals = Signals::take().unwrap();
        let cores = OtherCores::without(&[]);
        let workers = Workers::new("test", most, cores, signals.waker());
        (signals, workers)
    }

    fn next(signals: &Signals, workers: &mut Workers<u32>) -> EndedTask<u32> {
        loop {
            if let Some(ended) = workers.next_ended() {
                return ended;
            }
            signals.wait(Duration::from_secs(1));
        }
    }

    fn until_cancelled(flag: &AtomicBool) -> u32 {
        while !flag.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(1));
        }
        7
    }

    #[test]
    fn one_worker_is_kept_for_new_tasks() {
        let (signals, mut workers) = workers(2);
        assert!(workers.has_room(Urgency::Again));
        let first = workers.start(Urgency::Again, until_cancelled).unwrap();
        assert!(!workers.has_room(Urgency::Again) && workers.has_room(Urgency::New));
        let second = workers.start(Urgency::New, until_cancelled).unwrap();
        assert!(!workers.has_room(Urgency::New));
        workers.cancel(second);
        let ended = next(&signals, &mut workers);
        assert_eq!((ended.id, ended.result.unwrap()), (second, 7));
        assert!(!workers.has_room(Urgency::Again) && workers.has_room(Urgency::New));
        workers.cancel_all();
        assert_eq!(next(&signals, &mut workers).id, first);
        assert!(workers.has_room(Urgency::Again));
    }

    #[test]
    fn a_task_that_does_not_end_is_returned_once() {
        let (signals, mut workers) = workers(1);
        assert_eq!(workers.next_overdue(Duration::ZERO), None);
        let id = workers.start(Urgency::New, until_cancelled).unwrap();
        assert_eq!(workers.next_overdue(Duration::from_mins(1)), None);
        assert_eq!(workers.next_overdue(Duration::ZERO), Some(id));
        assert_eq!(workers.next_overdue(Duration::ZERO), None);
        workers.cancel(id);
        next(&signals, &mut workers);
    }

    #[test]
    fn a_task_that_panics_ends() {
        let (signals, mut workers) = workers(1);
        assert!(workers.has_room(Urgency::Again));
        let id = workers.start(Urgency::Again, |_| panic!("it is a test")).unwrap();
        let ended = next(&signals, &mut workers);
        assert!(ended.id == id && ended.result.is_err());
        assert!(workers.has_room(Urgency::Again));
    }

    #[test]
    fn values_are_freed_on_another_thread() {
        struct Reports(Sender<thread::ThreadId>);
        impl Drop for Reports {
            fn drop(&mut self) {
                self.0.send(thread::current().id()).unwrap();
            }
        }
        let (sender, freed) = channel();
        OtherCores::without(&[]).free(Reports(sender));
        let thread = freed.recv_timeout(Duration::from_mins(1)).unwrap();
        assert_ne!(thread, thread::current().id());
    }

    #[test]
    fn the_cores_of_scanners_are_left_out() {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let last = (0..CpuSet::count()).rfind(|&cpu| is_set(&allowed, cpu)).unwrap();
        let others = OtherCores::without(&[last]);
        let expected = (0..CpuSet::count()).filter(|&cpu| cpu != last && is_set(&allowed, cpu));
        let set = others.set.unwrap_or_default();
        let found = (0..CpuSet::count()).filter(|&cpu| is_set(&set, cpu));
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(others.allowed > 0);
    }
}
