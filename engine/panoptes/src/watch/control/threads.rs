//! What starting threads needs.

use std::thread::JoinHandle;
use std::time::Duration;

use crate::exit::{Exit, Failure};

pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Failure> {
    std::thread::Builder::new()
        .name(format!("panoptes-{name}"))
        .spawn(run)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start a thread: {error}")))
}

pub(super) fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
