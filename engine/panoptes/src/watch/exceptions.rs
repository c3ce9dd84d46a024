//! Reports how many alerts exceptions silence: in a record once a minute at most, and in messages
//! at the end.
//!
//! Scanners count in the exceptions themselves, which they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_records::activities::Activity;
use panoptes_records::record::system_activity::SystemActivityDetails;

use super::system_events::{SystemEvents, because};
use crate::message::Messages;

/// Least time from one report to the next.
const EXCEPTION_REPORT_PERIOD: Duration = Duration::from_mins(1);

/// The exceptions of all systems, and what was reported of each.
#[derive(Debug)]
pub(super) struct SilencedAlerts {
    current: CountedExceptions,
    /// Earlier ones that scanners may still have.
    earlier: Vec<CountedExceptions>,
    next: Instant,
}

/// Exceptions, and how many alerts of each were reported as silenced.
#[derive(Debug)]
struct CountedExceptions {
    exceptions: Arc<Exceptions>,
    reported: Vec<u64>,
}

impl CountedExceptions {
    fn new(exceptions: Exceptions) -> Self {
        let reported = exceptions.counts().map(|_| 0).collect();
        Self { exceptions: Arc::new(exceptions), reported }
    }
}

impl SilencedAlerts {
    pub(super) fn new(exceptions: Exceptions, start: Instant) -> Self {
        Self { current: CountedExceptions::new(exceptions), earlier: Vec::new(), next: start }
    }

    /// The exceptions, for a system.
    pub(super) fn exceptions(&self) -> Arc<Exceptions> {
        Arc::clone(&self.current.exceptions)
    }

    /// Sets other exceptions.
    pub(super) fn replace(&mut self, exceptions: Exceptions) {
        let before = std::mem::replace(&mut self.current, CountedExceptions::new(exceptions));
        self.earlier.push(before);
    }

    /// Reports what was silenced since the last report, if that is due.
    pub(super) fn report(&mut self, now: Instant, events: &mut SystemEvents) {
        if now >= self.next && self.write(events) {
            self.next = now + EXCEPTION_REPORT_PERIOD;
        }
    }

    /// Reports the rest, and all together.
    pub(super) fn finish(&mut self, messages: &Messages, events: &mut SystemEvents) {
        self.write(events);
        for (exception, count) in self.current.exceptions.counts().filter(|(_, count)| *count > 0) {
            let (name, reason) = (exception.activity.name(), &exception.reason);
            messages.info(format_args!(
                "{count} alerts {name} were silenced by an exception: {reason}"
            ));
        }
    }

    /// Writes a record of each exception that has silenced more alerts than were reported; returns
    /// whether there was any.
    fn write(&mut self, events: &mut SystemEvents) -> bool {
        // Nobody counts in those that only this list has, from here on.
        let (left, over): (Vec<_>, Vec<_>) = std::mem::take(&mut self.earlier)
            .into_iter()
            .partition(|counted| Arc::strong_count(&counted.exceptions) > 1);
        self.earlier = left;
        let mut is_any = false;
        for mut counted in over {
            is_any |= counted.write(events);
        }
        for counted in self.earlier.iter_mut().chain([&mut self.current]) {
            is_any |= counted.write(events);
        }
        is_any
    }
}

impl CountedExceptions {
    /// The same for these exceptions.
    fn write(&mut self, events: &mut SystemEvents) -> bool {
        let mut is_any = false;
        for ((exception, count), reported) in self.exceptions.counts().zip(&mut self.reported) {
            let new = count.saturating_sub(*reported);
            if new == 0 {
                continue;
            }
            (is_any, *reported) = (true, count);
            let name = exception.activity.name();
            let reason = &exception.reason;
            let reason = format!("{new} alerts {name} were silenced by an exception: {reason}");
            let details = SystemActivityDetails {
                activity: Some(name),
                count: Some(new),
                ..because(&reason)
            };
            events.service(Activity::EventsSummedUp, &details);
        }
        is_any
    }
}
