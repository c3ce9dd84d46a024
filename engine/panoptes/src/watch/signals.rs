//! Signals, read from a file descriptor instead of interrupting the threads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Exit, Failure};

/// The request of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StopRequest {
    Stop,
    /// Read the configuration again.
    Reload,
}

/// The signals that Panoptes handles. SIGBUS is not among them: the source of a mapped file uses
/// it.
#[derive(Debug)]
pub(super) struct Signals {
    receiver: SignalFd,
    /// Requests that were received, but not returned by [`Self::wait`] yet.
    received: RefCell<VecDeque<StopRequest>>,
}

impl Signals {
    /// Blocks the signals in this thread and in the threads that it starts later, and opens the
    /// file descriptor that receives them.
    pub(super) fn take() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGHUP);
        let failed = |error| Failure::new(Exit::Failed, format!("cannot handle signals: {error}"));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let receiver = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { receiver, received: RefCell::default() })
    }

    /// Waits for the next request, at most for the given time.
    pub(super) fn wait(&self, at_most: Duration) -> Option<StopRequest> {
        let first = self.received.borrow_mut().pop_front();
        if first.is_some() {
            return first;
        }
        let mut polled = [PollFd::new(self.receiver.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        // An error here is an interrupted wait, the same as no signal.
        let _ = poll(&mut polled, timeout);
        self.receive()
    }

    /// Whether a request to stop waits to be returned by [`Self::wait`].
    pub(super) fn has_stop_request(&self) -> bool {
        let mut received = self.received.borrow_mut();
        received.extend(std::iter::from_fn(|| self.receive()));
        received.contains(&StopRequest::Stop)
    }

    /// Reads the next request, without waiting.
    fn receive(&self) -> Option<StopRequest> {
        let signal = self.receiver.read_signal().ok().flatten()?;
        let is_hangup = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
        Some(if is_hangup { StopRequest::Reload } else { StopRequest::Stop })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn a_request_to_stop_is_seen_and_still_returned() {
        let signals = Signals::take().unwrap();
        assert!(!signals.has_stop_request());
        pthread_kill(pthread_self(), Signal::SIGHUP).unwrap();
        assert!(!signals.has_stop_request());
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        assert!(signals.has_stop_request() && signals.has_stop_request());
        let next = || signals.wait(Duration::ZERO);
        let expected = [Some(StopRequest::Reload), Some(StopRequest::Stop), None];
        assert_eq!([next(), next(), next()], expected);
        assert!(!signals.has_stop_request());
    }
}
