//! Signals, read from a file descriptor instead of interrupting the threads.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::exit::{Exit, Failure};

/// The request of a signal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum StopRequest {
    Stop,
    /// Read the configuration again.
    Reload,
    /// Open the files of the outputs again: another program has moved them.
    Reopen,
}

/// Ends the control thread's wait for signals, from any thread.
#[derive(Clone, Debug)]
pub(super) struct Waker(Arc<EventFd>);

impl Waker {
    pub(super) fn wake(&self) {
        // The counter can't be full: each wait resets it.
        let _ = self.0.write(1);
    }
}

/// The signals that Panoptes handles. SIGBUS is not among them: the source of a mapped file uses
/// it.
#[derive(Debug)]
pub(super) struct Signals {
    receiver: SignalFd,
    waker: Waker,
}

impl Signals {
    /// Blocks the signals in this thread and in the threads that it starts later, and opens the
    /// file descriptor that receives them.
    pub(super) fn take() -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.add(Signal::SIGTERM);
        set.add(Signal::SIGHUP);
        set.add(Signal::SIGUSR1);
        let failed = |error| Failure::new(Exit::Failed, format!("cannot handle signals: {error}"));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let receiver = SignalFd::with_flags(&set, flags).map_err(failed)?;
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let waker = EventFd::from_flags(flags).map_err(failed)?;
        Ok(Self { receiver, waker: Waker(Arc::new(waker)) })
    }

    /// Ends a [`Self::wait`], or the next one.
    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for the next request, at most for the given time; `None` also after
    /// [`Waker::wake`].
    pub(super) fn wait(&self, at_most: Duration) -> Option<StopRequest> {
        let mut polled = [self.receiver.as_fd(), self.waker.0.as_fd()]
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::ZERO);
        // An error here is an interrupted wait, the same as no signal.
        let _ = poll(&mut polled, timeout);
        // An error here is a counter of 0.
        let _ = self.waker.0.read();
        let signal = self.receiver.read_signal().ok().flatten()?;
        let is = |other: Signal| i32::try_from(signal.ssi_signo) == Ok(other as i32);
        Some(if is(Signal::SIGHUP) {
            StopRequest::Reload
        } else if is(Signal::SIGUSR1) {
            StopRequest::Reopen
        } else {
            StopRequest::Stop
        })
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn each_request_is_returned_once() {
        let signals = Signals::take().unwrap();
        pthread_kill(pthread_self(), Signal::SIGHUP).unwrap();
        pthread_kill(pthread_self(), Signal::SIGUSR1).unwrap();
        pthread_kill(pthread_self(), Signal::SIGTERM).unwrap();
        let next = || signals.wait(Duration::ZERO);
        // The kernel returns the smallest number first.
        let requests = [StopRequest::Reload, StopRequest::Reopen, StopRequest::Stop];
        assert_eq!([next(), next(), next()], requests.map(Some));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_wait_ends_when_another_thread_wakes_it() {
        let signals = Signals::take().unwrap();
        let waker = signals.waker();
        let other = std::thread::spawn(move || waker.wake());
        // Far below the time of a test that hangs.
        assert_eq!(signals.wait(Duration::from_mins(1)), None);
        other.join().unwrap();
    }
}
