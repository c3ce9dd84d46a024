//! What waits to run on a host with few processors: one at a time, and more while the host is idle.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::busy;

/// The number of processors that must have been idle before one more starts.
const IDLE_MIN: f64 = 0.8;

/// What waits, and the number of what runs.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Held by the thread that checks whether the host is idle.
    door: Mutex<()>,
    idle_for: Duration,
}

struct State<T> {
    waiting: VecDeque<T>,
    running: usize,
}

impl<T: Send> Queue<T> {
    /// `idle_for` is how long the host must be idle before another one starts.
    fn new(waiting: Vec<T>, idle_for: Duration) -> Self {
        let state = Mutex::new(State { waiting: waiting.into(), running: 0 });
        Self { state, door: Mutex::new(()), idle_for }
    }

    /// Runs all that wait, up to `most` at once. It returns when all have ended.
    pub(crate) fn run(waiting: Vec<T>, most: usize, idle_for: Duration, work: impl Fn(T) + Sync) {
        let queue = Self::new(waiting, idle_for);
        std::thread::scope(|scope| {
            for _ in 0..most {
                scope.spawn(|| {
                    while let Some(one) = queue.next() {
                        work(one);
                        queue.lock().running -= 1;
                    }
                });
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one more may run: none runs, or the host is idle.
    fn next(&self) -> Option<T> {
        let _door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let state = self.lock();
            let may_run = state.running == 0 || state.waiting.is_empty();
            drop(state);
            // Meanwhile the number of running ones can only fall: this thread holds the door.
            if may_run || busy::idle_processors(self.idle_for) >= IDLE_MIN {
                let mut state = self.lock();
                let next = state.waiting.pop_front();
                state.running += usize::from(next.is_some());
                return next;
            }
        }
    }
}
