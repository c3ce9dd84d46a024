//! The signals of argus(8): SIGHUP, SIGINT and SIGTERM end the program, SIGUSR1 and SIGUSR2 change
//! how much it reports about itself.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::LogLevel;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// The most verbose level of `-D`.
const LEVEL_MAX: u8 = 8;

/// The signals, read from a descriptor.
#[derive(Debug)]
pub(super) struct Signals {
    receiver: SignalFd,
    level: u8,
    has_ended: bool,
}

impl Signals {
    /// Blocks the signals in this thread and in those that it starts later.
    pub(super) fn take(level: u8) -> Result<Self, Failure> {
        let mut set = SigSet::empty();
        for signal in
            [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2]
        {
            set.add(signal);
        }
        let failed = |error| Failure::new(Exit::Failed, format!("cannot handle signals: {error}"));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let receiver = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { receiver, level, has_ended: false })
    }

    /// What becomes readable when a signal comes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }

    /// Takes the signals that have come. Whether one of them, now or before, ends the program.
    pub(super) fn have_ended(&mut self, messages: &Messages) -> bool {
        while let Ok(Some(signal)) = self.receiver.read_signal() {
            let is = |other: Signal| i32::try_from(signal.ssi_signo) == Ok(other as i32);
            if is(Signal::SIGUSR1) {
                self.level = (self.level + 1).min(LEVEL_MAX);
            } else if is(Signal::SIGUSR2) {
                self.level = 0;
            } else {
                self.has_ended = true;
                continue;
            }
            messages.set_level(level(self.level));
            messages.info(format_args!("the debug level is {}", self.level));
        }
        self.has_ended
    }
}

/// The level of messages for a level of `-D`.
pub(super) const fn level(debug: u8) -> LogLevel {
    match debug {
        0 => LogLevel::Info,
        1..=3 => LogLevel::Debug,
        _ => LogLevel::Trace,
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn signals_change_the_level_or_end_the_program() {
        let messages = Messages::new(Box::new(std::io::sink()), false, LogLevel::Info);
        let mut signals = Signals::take(0).expect("signals");
        let mut send = |signal| {
            pthread_kill(pthread_self(), signal).expect("a signal");
            (signals.have_ended(&messages), signals.level)
        };
        assert_eq!(send(Signal::SIGUSR1), (false, 1));
        assert_eq!(send(Signal::SIGUSR1), (false, 2));
        assert_eq!(send(Signal::SIGUSR2), (false, 0));
        assert_eq!(send(Signal::SIGUSR1), (false, 1));
        assert_eq!(send(Signal::SIGHUP), (true, 1));
        assert!(signals.have_ended(&messages), "it stays");
    }
}
