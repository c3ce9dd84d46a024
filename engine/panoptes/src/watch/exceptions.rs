//! Reports how many alerts exceptions silence: in a record once a minute at most, and in messages
//! at the end.
//!
//! Scanners count in the exceptions themselves, which they share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use panoptes_engine::policy::exceptions::Exceptions;
use panoptes_sinks::activities::Activity;
use panoptes_sinks::record::system_activity::SystemActivityDetails;

use super::system_events::{SystemEvents, because};
use crate::message::Messages;

/// Least time from one report to the next.
const PERIOD: Duration = Duration::from_mins(1);

/// The exceptions of all systems, and what was reported of each.
#[derive(Debug)]
pub(super) struct Silenced {
    exceptions: Arc<Exceptions>,
    reported: Vec<u64>,
    next: Instant,
}

impl Silenced {
    pub(super) fn new(exceptions: Exceptions, start: Instant) -> Self {
        let reported = exceptions.counts().map(|_| 0).collect();
        Self { exceptions: Arc::new(exceptions), reported, next: start }
    }

    /// The exceptions, for a system.
    pub(super) fn exceptions(&self) -> Arc<Exceptions> {
        Arc::clone(&self.exceptions)
    }

    /// Reports what was silenced since the last report, if that is due.
    pub(super) fn report(&mut self, now: Instant, events: &mut SystemEvents) {
        if now >= self.next && self.write(events) {
            self.next = now + PERIOD;
        }
    }

    /// Reports the rest, and all together.
    pub(super) fn finish(&mut self, messages: &Messages, events: &mut SystemEvents) {
        self.write(events);
        for (exception, count) in self.exceptions.counts().filter(|(_, count)| *count > 0) {
            let (name, reason) = (exception.activity.name(), &exception.reason);
            messages.info(format_args!(
                "{count} alerts {name} were silenced by an exception: {reason}"
            ));
        }
    }

    /// Writes a record of each exception that has silenced more alerts than were reported; returns
    /// whether there was any.
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
