//! Limits how many guests run at once on the host: one, or the number in `PANOPTES_GUESTS`.
//!
//! Emulation is slow and memory short, and measurements need the host for themselves; but a guest
//! under test mostly waits. Each guest holds a [`Turn`]: one that runs alone locks the file `.turn`
//! exclusively; those that may run together share it and lock one of as many places.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use crate::cache;
use crate::error::{Error, Result};

/// The variable with the number of guests that may run at once; `cargo xtask test` sets it.
pub const VARIABLE: &str = "PANOPTES_GUESTS";
/// How often a waiting guest tries again to lock a place.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The right to run a guest, until it is dropped. The lock files have no content.
#[derive(Debug)]
pub(crate) struct Turn {
    _files: [Option<File>; 2],
}

impl Turn {
    /// Waits until another guest of this user may run.
    pub(crate) fn wait() -> Result<Self> {
        let places = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        Self::wait_in(&cache::folder("guests")?, places)
    }

    fn wait_in(folder: &Path, places: usize) -> Result<Self> {
        let path = folder.join(".turn");
        let file = open(&path)?;
        let alone = places <= 1;
        if alone {
            if !is_free(file.try_lock(), &path)? {
                eprintln!("rig: waiting for another guest to end");
                file.lock().map_err(|e| Error::io("lock", &path, &e))?;
            }
            return Ok(Self { _files: [Some(file), None] });
        }
        file.lock_shared().map_err(|e| Error::io("lock", &path, &e))?;
        loop {
            for place in 0..places {
                let path = folder.join(format!(".turn-{place}"));
                let taken = open(&path)?;
                if is_free(taken.try_lock(), &path)? {
                    return Ok(Self { _files: [Some(file), Some(taken)] });
                }
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }
}

/// The right to prepare the cache for guests: one process at a time, until it is dropped.
pub fn to_prepare() -> Result<File> {
    lock(&cache::folder("guests")?.join(".preparing"))
}

/// Locks a file, which is created if it is missing, until it is dropped.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = open(path)?;
    file.lock().map_err(|e| Error::io("lock", path, &e))?;
    Ok(file)
}

fn open(path: &Path) -> Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).map_err(|e| Error::io("open", path, &e))
}

/// Whether the lock was acquired; false while another process holds it.
fn is_free(result: std::result::Result<(), TryLockError>, path: &Path) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Requests a turn in a thread of its own.
    fn ask(folder: &Path, places: usize) -> mpsc::Receiver<Turn> {
        let (sender, receiver) = mpsc::channel();
        let folder = folder.to_owned();
        std::thread::spawn(move || sender.send(Turn::wait_in(&folder, places).unwrap()));
        receiver
    }

    const SOON: Duration = Duration::from_millis(300);
    const LATE: Duration = Duration::from_secs(20);

    #[test]
    fn as_many_have_a_turn_as_there_are_places() {
        let folder = tempfile::tempdir().unwrap();
        let first = Turn::wait_in(folder.path(), 2).unwrap();
        let _second = Turn::wait_in(folder.path(), 2).unwrap();
        let third = ask(folder.path(), 2);
        assert!(third.recv_timeout(SOON).is_err());
        drop(first);
        assert!(third.recv_timeout(LATE).is_ok());
    }

    #[test]
    fn a_guest_that_runs_alone_excludes_others() {
        let folder = tempfile::tempdir().unwrap();
        let other = Turn::wait_in(folder.path(), 2).unwrap();
        let alone = ask(folder.path(), 1);
        assert!(alone.recv_timeout(SOON).is_err());
        drop(other);
        let alone = alone.recv_timeout(LATE).unwrap();
        let other = ask(folder.path(), 2);
        assert!(other.recv_timeout(SOON).is_err());
        drop(alone);
        assert!(other.recv_timeout(LATE).is_ok());
    }
}
