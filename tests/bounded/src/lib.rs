//! Waits of tests: for a client, for bytes, for the end of a child, for a message of a thread. Also
//! ports for servers that start later.
//!
//! For: test code. When the other side never comes, the wait fails after [`BOUND`] and the test
//! with it. A wait without a bound would hold up the whole run. `tidy` of xtask refuses such calls
//! in test code.
//!
//! Not for: the product, or a time in which something must happen. The bound only ends a wait that
//! is lost.
//!
//! ```
//! use std::process::Command;
//!
//! let said = panoptes_bounded::output(Command::new("echo").arg("a"))?;
//! assert_eq!(said.stdout, b"a\n");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Start reading at `socket.rs` and `child.rs`.
#![forbid(unsafe_code)]

mod child;
mod port;
mod read;
mod socket;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use child::{
    output, output_within, status, status_within, wait, wait_with_output, wait_with_output_within,
    wait_within,
};
pub use port::{Port, deaf_receiver, hear};
pub use read::{Bounded, reader};
pub use socket::{Incoming, Listener, accept, accept_within, connect, connect_unix, incoming};

/// How long a wait lasts at most. A slow machine beside emulators does in less what a fast one does
/// in a second.
pub const BOUND: Duration = Duration::from_mins(1);
/// The bound for what has much to do: builds, and scans of large images by programs that are not
/// optimised.
pub const LONG: Duration = Duration::from_mins(30);

/// How often is looked whether a child or a thread has ended.
const POLL: Duration = Duration::from_millis(5);

/// The next message of a channel.
///
/// Fails after [`BOUND`], or when no sender is left.
pub fn recv<T>(receiver: &Receiver<T>) -> Result<T, RecvTimeoutError> {
    receiver.recv_timeout(BOUND)
}

/// What a thread returns.
///
/// Fails if the thread panics, or if it still runs after [`BOUND`]. Then it continues alone.
pub fn join<T>(thread: JoinHandle<T>) -> thread::Result<T> {
    join_within(thread, BOUND)
}

fn join_within<T>(thread: JoinHandle<T>, bound: Duration) -> thread::Result<T> {
    let begin = Instant::now();
    while !thread.is_finished() {
        if begin.elapsed() > bound {
            return Err(Box::new(format!("a thread still ran after {} s", bound.as_secs())));
        }
        thread::sleep(POLL);
    }
    thread.join()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn messages_and_threads_are_waited_for() {
        let (sender, receiver) = channel();
        let thread = thread::spawn(move || sender.send(1));
        assert_eq!(recv(&receiver), Ok(1));
        assert_eq!(recv(&receiver), Err(RecvTimeoutError::Disconnected));
        assert_eq!(join(thread).unwrap(), Ok(()));
        assert!(join(thread::spawn(|| panic!("on purpose"))).is_err());
    }

    #[test]
    fn a_thread_that_does_not_end_is_a_failure() {
        let (sender, receiver) = channel::<()>();
        let thread = thread::spawn(move || recv(&receiver));
        let error = join_within(thread, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.downcast_ref::<String>().unwrap(), "a thread still ran after 0 s");
        drop(sender);
    }
}
