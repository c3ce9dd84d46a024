//! Syncs a file on a thread of its own, where io_uring is refused: a disk may take seconds, and
//! other outputs must not wait for it.

use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A thread that syncs, and ends after this.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<SharedSyncer>,
    is_syncing: bool,
}

/// What both threads have. Channels allocate where they wait.
#[derive(Debug, Default)]
struct SharedSyncer {
    state: Mutex<SyncerState>,
    has_changed: Condvar,
}

#[derive(Debug, Default)]
enum SyncerState {
    /// The thread has not begun, which allocates.
    #[default]
    Starting,
    Idle,
    Wanted(File),
    UnderWay,
    Done(io::Result<()>),
    /// The thread is to end.
    Over,
}

impl Syncer {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(SharedSyncer::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("panoptes-sync".to_owned()).spawn(move || of_thread.serve())?;
        let is_starting = |state: &mut SyncerState| matches!(state, SyncerState::Starting);
        drop(shared.has_changed.wait_while(shared.lock(), is_starting));
        Ok(Self { shared, is_syncing: false })
    }

    /// Begins a sync, unless one is under way.
    pub(super) fn begin(&mut self, file: &File) -> io::Result<()> {
        if !self.is_syncing {
            // The file may be replaced meanwhile.
            self.shared.set(SyncerState::Wanted(file.try_clone()?));
            self.is_syncing = true;
        }
        Ok(())
    }

    pub(super) const fn is_syncing(&self) -> bool {
        self.is_syncing
    }

    /// The result of the sync under way, once it is known; waits for it for so long.
    pub(super) fn result(&mut self, wait: Duration) -> Option<io::Result<()>> {
        if !self.is_syncing {
            return None;
        }
        let is_under_way = |state: &mut SyncerState| !matches!(state, SyncerState::Done(_));
        let state = self.shared.lock();
        let waited = self.shared.has_changed.wait_timeout_while(state, wait, is_under_way);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, SyncerState::Idle) {
            SyncerState::Done(result) => {
                self.is_syncing = false;
                Some(result)
            }
            other => {
                *state = other;
                None
            }
        }
    }
}

impl Drop for Syncer {
    /// Does not wait: a disk may never answer.
    fn drop(&mut self) {
        self.shared.set(SyncerState::Over);
    }
}

impl SharedSyncer {
    fn lock(&self) -> MutexGuard<'_, SyncerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, state: SyncerState) {
        *self.lock() = state;
        self.has_changed.notify_all();
    }

    /// Syncs what is wanted until that is over.
    fn serve(&self) {
        self.set(SyncerState::Idle);
        let is_idle =
            |state: &mut SyncerState| !matches!(state, SyncerState::Wanted(_) | SyncerState::Over);
        loop {
            let waited = self.has_changed.wait_while(self.lock(), is_idle);
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let SyncerState::Wanted(file) = std::mem::replace(&mut *state, SyncerState::UnderWay)
            else {
                return;
            };
            drop(state);
            let result = file.sync_data();
            let mut state = self.lock();
            if matches!(*state, SyncerState::Over) {
                return;
            }
            *state = SyncerState::Done(result);
            self.has_changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use super::*;

    #[test]
    fn a_file_is_synced_and_a_failure_is_known() {
        let file = tempfile::tempfile().unwrap();
        let mut syncer = Syncer::start().unwrap();
        assert!(syncer.result(Duration::ZERO).is_none());
        for _ in 0..3 {
            syncer.begin(&file).unwrap();
            assert!(syncer.is_syncing());
            syncer.result(Duration::from_mins(1)).unwrap().unwrap();
            assert!(!syncer.is_syncing());
        }
        // A pipe cannot be synced.
        let (_reader, writer) = io::pipe().unwrap();
        syncer.begin(&File::from(std::os::fd::OwnedFd::from(writer))).unwrap();
        assert!(syncer.result(Duration::from_mins(1)).unwrap().is_err());
    }
}
