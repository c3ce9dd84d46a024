//! An output that nothing waits for, on a thread of its own, and what is reported of it.

use std::io;

use panoptes_sinks::flow::output::{Background, BlockingOutput};

use super::patience::Patience;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;

/// The time between two reports of records that an output loses, in nanoseconds.
pub(super) const LOSSES_NS: u64 = 60_000_000_000;

/// An output, and what was reported of it.
#[derive(Debug)]
pub(super) struct LiveOutput {
    background: Background,
    name: String,
    is_failing: bool,
    has_ended: bool,
    /// Records that were not written.
    lost: u64,
    /// How many of them were reported, and when the next report may be.
    reported: u64,
    next_report_ns: u64,
    /// The first failure.
    failure: Option<Failure>,
}

/// Report about an output that fails or loses records.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) output: String,
    pub(super) reason: String,
    /// The records that were lost since the last report.
    pub(super) dropped: Option<u64>,
}

impl LiveOutput {
    /// Starts the thread. `name` is the path of a file, or the address of a receiver.
    pub(super) fn start(
        output: impl BlockingOutput,
        name: &str,
        (messages, queue_bytes): (&Messages, usize),
    ) -> io::Result<Self> {
        let messages = messages.clone();
        let background =
            Background::start(output, queue_bytes, move || Role::Writer.enter(&messages))?;
        Ok(Self {
            background,
            name: name.to_owned(),
            is_failing: false,
            has_ended: false,
            lost: 0,
            reported: 0,
            next_report_ns: 0,
            failure: None,
        })
    }

    pub(super) fn push(&mut self, record: &[u8]) {
        self.background.push(record);
    }

    /// Passes on what was added.
    pub(super) fn pass_on(&mut self) {
        self.background.pass_on();
    }

    /// Whether its reader has gone.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns what is to be reported: at once that it fails, and each minute what it loses.
    /// `now_ns` never goes back; `None` is the end, when all losses are due.
    pub(super) fn look(&mut self, now_ns: Option<u64>, messages: &Messages) -> Option<Loss> {
        let health = self.background.health();
        (self.lost, self.has_ended) = (health.lost, health.has_ended);
        let was_failing = std::mem::replace(&mut self.is_failing, health.failure.is_some());
        if let Some(failure) = health.failure.filter(|_| !was_failing) {
            let failure = self.failed(&failure);
            messages.error(&failure);
            return Some(self.loss(failure.message, None));
        }
        if was_failing && !self.is_failing {
            let (name, lost) = (&self.name, self.lost);
            messages.warning(format_args!("{name} accepts records again; {lost} were lost"));
        }
        let new = self.lost.saturating_sub(self.reported);
        if new == 0 || now_ns.is_some_and(|now_ns| now_ns < self.next_report_ns) {
            return None;
        }
        self.reported = self.lost;
        self.next_report_ns = now_ns.map_or(u64::MAX, |now_ns| now_ns + LOSSES_NS);
        let reason = "the output could not accept records in time";
        messages.warning(format_args!("{}: {new} records were lost: {reason}", self.name));
        Some(self.loss(reason.to_owned(), Some(new)))
    }

    /// Lets the records to come, which are the last ones, wait for room.
    pub(super) fn wait_for_room(&mut self, patience: &Patience) {
        let patience = patience.clone();
        self.background.wait_for_room(Box::new(move || patience.goes_on()));
    }

    /// Has everything written, without waiting for that.
    pub(super) fn close(&mut self) {
        self.background.close();
    }

    /// Writes everything, as far as that is possible in time. The failure, if records were lost.
    pub(super) fn finish(&mut self, patience: &Patience, messages: &Messages) -> Option<Failure> {
        let health = self.background.finish(|| patience.goes_on());
        self.lost = health.lost;
        if let Some(failure) = &health.failure {
            self.failed(failure);
        }
        if self.lost > 0 {
            let (lost, name) = (self.lost, &self.name);
            let message = format!("{lost} records could not be written to {name}");
            messages.warning(&message);
            self.failure.get_or_insert_with(|| Failure::new(Exit::Output, message));
        }
        self.failure.take().filter(|_| self.lost > 0 || health.failure.is_some())
    }

    fn failed(&mut self, error: &str) -> Failure {
        let message = format!("cannot write to {}: {error}", self.name);
        let failure = Failure::new(Exit::Output, message);
        self.failure.get_or_insert_with(|| failure.clone());
        failure
    }

    fn loss(&self, reason: String, dropped: Option<u64>) -> Loss {
        Loss { output: self.name.clone(), reason, dropped }
    }
}
