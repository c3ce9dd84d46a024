//! Signals, taken in when there is time for them instead of interrupting whatever runs.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Exit, Failure};

/// What somebody wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// To stop.
    Stop,
    /// To have the configuration read again.
    Reload,
}

/// The signals that mean something to us. SIGBUS stays as it is: the source of a mapped file needs it.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals in this thread, and in all that it will make, and takes them in here instead.
    pub(super) fn take() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGHUP);
        let failed = |error| Failure::new(Exit::Failed, format!("cannot take signals: {error}"));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        SignalFd::with_flags(&set, flags).map(Self).map_err(failed)
    }

    /// The next wish, waiting at most so long for one.
    pub(super) fn wait(&self, at_most: Duration) -> Option<Wish> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        // An error here is an interrupted wait: the same as none.
        let _ = poll(&mut polled, timeout);
        let signal = self.0.read_signal().ok().flatten()?;
        let is_hangup = i32::try_from(signal.ssi_signo) == Ok(Signal::SIGHUP as i32);
        Some(if is_hangup { Wish::Reload } else { Wish::Stop })
    }
}
