//! Counts the contexts that a device has not stopped yet. Their buffers stay allocated, because the
//! device may still write to them. So a function may leave only a few behind.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::DocaError;
use super::library::Library;

/// Maximum number of contexts that a function may leave behind. Each has some 5 MiB, and a thread
/// that waits.
const MOST: usize = 2;

/// One entry for each context that was left behind.
static LEFT: Mutex<Vec<FunctionName>> = Mutex::new(Vec::new());

/// A function of a device.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct FunctionName {
    /// The library: two of them have nothing to do with each other.
    library: usize,
    device: String,
    vuid: String,
}

impl FunctionName {
    pub(super) fn new(library: &Library, device: &str, vuid: &str) -> Self {
        Self { library: library.number(), device: device.to_owned(), vuid: vuid.to_owned() }
    }

    /// [`DocaError::Stuck`] if the function has left as many contexts behind as it may.
    pub(super) fn check(&self) -> Result<(), DocaError> {
        let contexts = left().iter().filter(|one| *one == self).count();
        if contexts < MOST {
            return Ok(());
        }
        Err(DocaError::Stuck { device: self.device.clone(), contexts })
    }

    /// Notes that a context was left behind.
    pub(super) fn leave(&self) {
        left().push(self.clone());
    }

    /// Notes that a context that was left behind has stopped.
    pub(super) fn collect(&self) {
        let mut left = left();
        if let Some(index) = left.iter().position(|one| one == self) {
            left.swap_remove(index);
        }
    }
}

fn left() -> MutexGuard<'static, Vec<FunctionName>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}
