//! Signals, read from a file descriptor instead of interrupting the threads.

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
pub(super) struct Signals(SignalFd);

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
        SignalFd::with_flags(&set, flags).map(Self).map_err(failed)
    }

    /// Waits for the next request, at most for the given time.
    pub(super) fn wait(&self, at_most: Duration) -> Option<StopRequest> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        // An error here is an interrupted wait, the same as no signal.
        let _ = poll(&mut polled, timeout);
        let signal = self.0.read_signal().ok().flatten()?;
        let is_hangup = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
        Some(if is_hangup { StopRequest::Reload } else { StopRequest::Stop })
    }
}
