//! The signals of argus(8): SIGHUP, SIGINT and SIGTERM end the program, SIGUSR1 and SIGUSR2 change
//! how much it reports about itself. In a service, whose own thread receives signals, it ends the
//! sensor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::config::LogLevel;
use crate::exit::{Exit, Failure};
use crate::message::Messages;

/// The most verbose level of `-D`.
const LEVEL_MAX: u8 = 8;

/// The signals, read from a descriptor. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Signals(Arc<FlowSignalState>);

#[derive(Debug)]
struct FlowSignalState {
    receiver: Receiver,
    level: AtomicU8,
    /// How many signals have come that end the program.
    ends: AtomicU32,
    /// Packets from this time on belong to the sensor that follows.
    until_ns: AtomicI64,
    messages: Messages,
}

/// Where requests to end come from.
#[derive(Debug)]
enum Receiver {
    Signals(SignalFd),
    /// The service.
    Service(EventFd),
}

impl Signals {
    /// Those of a sensor that a service ends ([`Self::end`]).
    pub(super) fn of_service(messages: &Messages) -> io::Result<Self> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let receiver = Receiver::Service(EventFd::from_flags(flags)?);
        Ok(Self::of(receiver, 0, messages))
    }

    fn of(receiver: Receiver, level: u8, messages: &Messages) -> Self {
        let (level, ends, until_ns) = (level.into(), AtomicU32::new(0), AtomicI64::new(i64::MAX));
        Self(Arc::new(FlowSignalState {
            receiver,
            level,
            ends,
            until_ns,
            messages: messages.clone(),
        }))
    }

    /// Leaves the packets from a time on, in nanoseconds since 1970, to the sensor that follows.
    pub(super) fn leave_from(&self, until_ns: i64) {
        self.0.until_ns.store(until_ns, Ordering::Relaxed);
    }

    /// From when on packets are left to another sensor; the largest number for never.
    pub(super) fn until_ns(&self) -> i64 {
        self.0.until_ns.load(Ordering::Relaxed)
    }

    /// Ends the sensor of a service, or its waits for outputs.
    pub(super) fn end(&self) {
        self.0.ends.fetch_add(1, Ordering::Relaxed);
        if let Receiver::Service(event) = &self.0.receiver {
            // The counter can't be full.
            let _ = event.write(1);
        }
    }

    /// Blocks the signals in this thread and in those that it starts later.
    pub(super) fn take(level: u8, messages: &Messages) -> Result<Self, Failure> {
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
        Ok(Self::of(Receiver::Signals(receiver), level, messages))
    }

    /// What becomes readable when a signal comes.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.0.receiver {
            Receiver::Signals(signals) => signals.as_fd(),
            Receiver::Service(event) => event.as_fd(),
        }
    }

    /// Takes the signals that have come. Whether one of them, now or before, ends the program.
    pub(super) fn have_ended(&self) -> bool {
        self.ends() > 0
    }

    /// Takes the signals that have come. How many of them, now and before, end the program.
    pub(super) fn ends(&self) -> u32 {
        let FlowSignalState { receiver, level: known, ends, messages, .. } = &*self.0;
        let next = || match receiver {
            Receiver::Signals(signals) => signals.read_signal().ok().flatten(),
            Receiver::Service(_) => None,
        };
        while let Some(signal) = next() {
            let is = |other: Signal| i32::try_from(signal.ssi_signo) == Ok(other as i32);
            let level_now = if is(Signal::SIGUSR1) {
                (known.load(Ordering::Relaxed) + 1).min(LEVEL_MAX)
            } else if is(Signal::SIGUSR2) {
                0
            } else {
                ends.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            known.store(level_now, Ordering::Relaxed);
            messages.set_level(level(level_now));
            messages.info(format_args!("the debug level is {level_now}"));
        }
        ends.load(Ordering::Relaxed)
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
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::pthread::{pthread_kill, pthread_self};

    use super::*;

    #[test]
    fn signals_change_the_level_or_end_the_program() {
        let messages = Messages::new(Box::new(std::io::sink()), false, LogLevel::Info);
        let signals = Signals::take(0, &messages).expect("signals");
        let send = |signal| {
            pthread_kill(pthread_self(), signal).expect("a signal");
            (signals.have_ended(), signals.0.level.load(Ordering::Relaxed))
        };
        assert_eq!(send(Signal::SIGUSR1), (false, 1));
        assert_eq!(send(Signal::SIGUSR1), (false, 2));
        assert_eq!(send(Signal::SIGUSR2), (false, 0));
        assert_eq!(send(Signal::SIGUSR1), (false, 1));
        assert_eq!(send(Signal::SIGHUP), (true, 1));
        assert!(signals.have_ended(), "it stays");
        send(Signal::SIGTERM);
        assert_eq!(signals.clone().ends(), 2);
    }

    #[test]
    fn a_service_ends_its_sensor() {
        let messages = Messages::new(Box::new(std::io::sink()), false, LogLevel::Info);
        let signals = Signals::of_service(&messages).expect("an event");
        let its = signals.clone();
        let is_readable = || {
            let mut polled = [PollFd::new(its.descriptor(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::ZERO).expect("it is open") > 0
        };
        assert!(!is_readable() && !its.have_ended());
        signals.end();
        assert!(is_readable() && its.have_ended());
        assert!(is_readable(), "each wait ends");
        signals.end();
        assert_eq!(its.ends(), 2);
    }
}
