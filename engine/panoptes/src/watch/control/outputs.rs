//! The writer's thread and its outputs: reports the records that they lose.
//!
//! [`changes`] adds, changes and removes outputs. [`left`] looks for records without a receiver.

mod changes;
mod left;

pub(super) use changes::NewOutputs;
pub(super) use left::{LeftoverBacklogs, LeftoverPlace};

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use panoptes_records::activities::Activity;
use panoptes_records::queue::Waker;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::output::{Output, OutputCounters};
use panoptes_sinks::panics::{Restarts, caught};
use panoptes_sinks::writer::{OutputChange, STOPPED_NS, Writer, WriterEnd};

use self::left::LeftoverSearch;
use super::POLL_INTERVAL_AT_END;
use crate::exit::{Exit, Failure};
use crate::message::Messages;
use crate::sandbox::Role;
use crate::watch::clocks::nanoseconds;
use crate::watch::outputs::{ConfiguredOutput, WatchedOutput};
use crate::watch::signals::{Signals, StopRequest};
use crate::watch::system_events::{SystemEvents, because};
use crate::watch::threads::{TaskId, Workers, spawn};

/// Number of times that the writer is started again without a break before the program ends.
const RESTARTS_MAX: u32 = 6;
/// How long the writer may take for what is under way when records are left out.
const STOP_WAIT: Duration = Duration::from_millis(500);
const _: () = assert!(STOPPED_NS < STOP_WAIT.as_nanos() as u64, "the writer ends in time");

/// What was reported of an output: its counters then.
#[derive(Debug, Default)]
struct ReportedCounters {
    dropped: u64,
    mended: u64,
    remade: u64,
    failed_syncs: u64,
    errors: u64,
    refused: u64,
    accepting: u64,
    /// The number of errors when the receiver last began to take records.
    accepting_after: Option<u64>,
    /// The same when a connection was reported, and when the next one may be.
    connected_after: Option<u64>,
    next_connected: Option<Instant>,
    /// When errors and failed syncs may be reported again, and when refused records.
    next_errors: Option<Instant>,
    next_refused: Option<Instant>,
    /// How often it has panicked, why, and when another one is opened in its place.
    panics: Restarts,
    panic: Option<String>,
    replaced_at: Option<Instant>,
    /// When lost records may be reported again.
    next_dropped: Option<Instant>,
    /// Whether it was reported that the next one can't be opened.
    has_not_opened: bool,
    /// Whether it was reported that its disk does not answer.
    is_stalled: bool,
}

/// An output that the writer has.
#[derive(Debug)]
struct OutputEntry {
    output: WatchedOutput,
    reported: ReportedCounters,
    next: OutputFate,
    /// When it began to end, or the next one to be opened.
    since: Instant,
    /// The task that opens another one in its place.
    opening: Option<TaskId>,
}

/// What becomes of an output.
#[derive(Debug)]
enum OutputFate {
    /// It stays.
    Stays,
    /// It ends.
    Ends,
    /// It ends, and another one follows in its place.
    Becomes(Box<ConfiguredOutput>),
}

impl OutputEntry {
    fn new(output: WatchedOutput) -> Self {
        let (reported, since) = (ReportedCounters::default(), Instant::now());
        Self { output, reported, next: OutputFate::Stays, since, opening: None }
    }

    /// Whether the writer has dropped the output: its counters change no more.
    fn is_over(&self) -> bool {
        Arc::strong_count(&self.output.counters) == 1
    }
}

/// How often errors of an output, and refused records, are reported: a full disk makes ten errors
/// a second.
const ERRORS_PERIOD: Duration = Duration::from_mins(1);
/// How often a connection of an output is reported: a receiver may accept each one and close it.
const CONNECTIONS_PERIOD: Duration = Duration::from_mins(1);
/// How often lost records of an output are reported: a full disk loses some fifty times a second.
const DROPS_PERIOD: Duration = Duration::from_secs(1);

/// Outputs that are gone whose losses the exit code and its message have; guests may come and go.
const GONE_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Outputs {
    /// Returns `None` if it panics again and again.
    writer: JoinHandle<Option<WriterEnd>>,
    stop: Arc<AtomicBool>,
    changes: Sender<OutputChange>,
    /// Numbers the blocks of records.
    waker: Waker,
    /// The panics of the writer itself.
    panics: Receiver<String>,
    /// Each output that the writer has.
    entries: Vec<OutputEntry>,
    /// Outputs that others have followed, until all that they lose is reported.
    replaced: Vec<OutputEntry>,
    /// What outputs have lost that are gone.
    gone: Vec<String>,
    /// The threads that open outputs: a file system may not answer.
    opener: Workers<io::Result<Box<dyn Output>>>,
    left: LeftoverSearch,
    /// Whether there are others than at the last call of [`Self::take_changed`].
    have_changed: bool,
    /// How many records that did not fit in a queue were reported.
    refused: u64,
    /// When they may be reported again.
    next_refused: Option<Instant>,
    /// How many records of flows did not fit in the queues of sensors, which report that.
    refused_flows: u64,
}

impl Outputs {
    /// Starts the writer's thread; the writer is at the other end of `changes`.
    pub(super) fn start(
        mut writer: Writer,
        changes: Sender<OutputChange>,
        watched: Vec<WatchedOutput>,
        start: Instant,
        (opener, lookers): (Workers<io::Result<Box<dyn Output>>>, Workers<LeftoverBacklogs>),
        messages: &Arc<Messages>,
    ) -> Result<Self, Failure> {
        let waker = writer.waker().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = Arc::clone(&stop);
        let (sender, panics) = channel();
        let messages = Arc::clone(messages);
        let writer = spawn("writer", move || {
            Role::Writer.enter(&messages);
            let mut restarts = Restarts::default();
            loop {
                let clock = || nanoseconds(start.elapsed());
                // Outputs have guards of their own. All else that a panic could leave half changed
                // is the list of blocks, of which one may be missing.
                match caught(|| writer.run(&clock, &stops)) {
                    Ok(end) => return Some(end),
                    Err(_) if restarts.count() == RESTARTS_MAX => return None,
                    Err(panic) => {
                        // Without a receiver, the program ends.
                        let _ = sender.send(panic);
                        pause(restarts.add(Instant::now()), &stops);
                    }
                }
            }
        })?;
        let entries = watched.into_iter().map(OutputEntry::new).collect();
        Ok(Self {
            writer,
            stop,
            changes,
            waker,
            panics,
            entries,
            replaced: Vec::new(),
            gone: Vec::new(),
            opener,
            left: LeftoverSearch::new(lookers),
            have_changed: true,
            refused: 0,
            next_refused: None,
            refused_flows: 0,
        })
    }

    /// One more output.
    #[cfg(test)]
    pub(super) fn add(&mut self, output: Box<dyn Output>, watched: WatchedOutput) {
        self.changes.send(OutputChange::Add(output, 0)).unwrap();
        self.watch(vec![watched]);
    }

    /// Sequence counter for the blocks of records.
    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Has the writer change something.
    pub(super) fn change(&self, change: OutputChange) {
        // Without a writer, the program ends.
        let _ = self.changes.send(change);
        self.wake();
    }

    /// Reports from now on what these outputs lose, too.
    pub(super) fn watch(&mut self, opened: Vec<WatchedOutput>) {
        self.have_changed |= !opened.is_empty();
        self.entries.extend(opened.into_iter().map(OutputEntry::new));
    }

    /// The names and counters of all outputs, if there are others than at the last call.
    pub(super) fn take_changed(&mut self) -> Option<Vec<(String, Weak<OutputCounters>)>> {
        let of = |OutputEntry { output, .. }: &OutputEntry| {
            (output.name.clone(), Arc::downgrade(&output.counters))
        };
        let have_changed = std::mem::take(&mut self.have_changed);
        have_changed.then(|| self.entries.iter().map(of).collect())
    }

    /// Has all files opened again, for a program that rotates logs.
    pub(super) fn reopen(&self, messages: &Messages) {
        messages.info("opens the files of its outputs again");
        self.change(OutputChange::Reopen);
    }

    /// Whether the writer has ended by itself, because the reader has closed the output.
    pub(super) fn is_closed(&self) -> bool {
        self.writer.is_finished()
    }

    /// Leaves out the records that can't be written at once. A short wait lets the last line be
    /// whole.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let begin = Instant::now();
        while !self.writer.is_finished() && begin.elapsed() < STOP_WAIT {
            self.wake();
            sleep(Duration::from_millis(1));
        }
    }

    /// Lets the writer notice that something has ended: it sleeps between blocks. Its outputs may
    /// use up one wake-up, so the caller repeats this.
    fn wake(&self) {
        self.writer.thread().unpark();
    }

    /// Waits until all records are written, whatever becomes of them.
    pub(super) fn wait(self) {
        let _ = self.writer.join();
    }

    /// The result of a writer that has ended by itself.
    pub(super) fn end(self) -> Result<Exit, Failure> {
        if let Ok(Some(_)) = self.writer.join() {
            return Ok(Exit::Done);
        }
        let message = "the writer panics again and again; this is a bug in Panoptes";
        Err(Failure::new(Exit::Failed, message))
    }

    /// Reports all that was lost, at the end of the service.
    pub(super) fn report_last(&mut self, messages: &Messages, events: &mut SystemEvents) {
        for OutputEntry { reported, .. } in self.replaced.iter_mut().chain(&mut self.entries) {
            reported.next_refused = None;
            (reported.next_dropped, reported.next_errors) = (None, None);
        }
        self.report(messages, events);
    }

    /// Reports what happened to outputs since the last report, and the records that they lost.
    /// Returns whether the log of a system has ended.
    pub(super) fn report(&mut self, messages: &Messages, events: &mut SystemEvents) -> bool {
        let (before, mut has_log_ended) = (self.entries.len(), false);
        let mut folders = Vec::new();
        let gone = &mut self.gone;
        let mut is_left = |entry: &mut OutputEntry| {
            // An output that is over now has counted all.
            let is_over = entry.is_over();
            entry.report(messages, events);
            // A failed sync has a record: the log that follows may be whole all the same.
            if is_over && gone.len() < GONE_MAX {
                gone.extend(entry.output.lost());
            }
            folders.extend(entry.output.recipe.backlog_folder().filter(|_| is_over));
            has_log_ended |= is_over && entry.output.recipe.is_of_system();
            !is_over
        };
        self.replaced.retain_mut(&mut is_left);
        self.entries.retain_mut(is_left);
        self.have_changed |= self.entries.len() < before;
        for folder in folders {
            self.look_for_left(LeftoverPlace::Folder(folder));
        }
        self.report_left(messages, events);
        has_log_ended
    }

    /// Reports the records that did not fit in the queues to the writer, once a second, and at the
    /// end; `by_scanners` is the number of those of the scanners.
    pub(super) fn report_refused(
        &mut self,
        by_scanners: u64,
        is_last: bool,
        messages: &Messages,
        events: &mut SystemEvents,
    ) {
        let refused = by_scanners + events.refused();
        // Each scan may lose some.
        let is_due = is_last || self.next_refused <= Some(Instant::now());
        if refused <= self.refused || !is_due {
            return;
        }
        self.next_refused = Some(Instant::now() + DROPS_PERIOD);
        let new = refused - self.refused;
        self.refused = refused;
        messages.warning(format_args!("{new} records were lost: the queue to the writer was full"));
        let reason = "the queue to the writer was full";
        let details = SystemActivityDetails { dropped: Some(new), ..because(reason) };
        events.service(Activity::RecordsDropped, &details);
    }

    /// Counts the records that did not fit in the queue of a sensor of flows that has ended.
    pub(super) const fn count_refused_flows(&mut self, records: u64) {
        self.refused_flows += records;
    }

    /// Waits for the writer to write the remaining records; a second request to stop ends that.
    pub(super) fn finish(self, signals: &Signals, messages: &Messages) -> Result<Exit, Failure> {
        while !self.writer.is_finished() {
            self.wake();
            if signals.wait(POLL_INTERVAL_AT_END) == Some(StopRequest::Stop) {
                self.stop();
                return Ok(Exit::Done);
            }
        }
        self.result(messages)?;
        self.end()
    }

    /// The failure of an output that lost records, or may have lost them.
    pub(super) fn result(&self, messages: &Messages) -> Result<Exit, Failure> {
        let present = self.replaced.iter().chain(&self.entries);
        let present = present.filter_map(|entry| entry.output.loss());
        let mut failure = None;
        for message in self.gone.iter().cloned().chain(present) {
            if failure.is_some() {
                messages.warning(&message);
            }
            failure.get_or_insert_with(|| Failure::new(Exit::Output, message));
        }
        for (records, of) in [(self.refused, ""), (self.refused_flows, " of flows")] {
            if records > 0 {
                let why = "the queue to the writer was full";
                let message = format!("{records} records{of} were lost: {why}");
                if failure.is_some() {
                    messages.warning(&message);
                }
                failure.get_or_insert_with(|| Failure::new(Exit::Output, message));
            }
        }
        failure.map_or(Ok(Exit::Done), Err)
    }
}

impl WatchedOutput {
    /// What it has lost, or may have lost.
    fn loss(&self) -> Option<String> {
        let Self { name, counters, .. } = self;
        let unsynced = || format!("{name}: {}", unsynced(counters));
        (counters.failed_syncs() > 0).then(unsynced).or_else(|| self.lost())
    }

    /// What it has lost.
    fn lost(&self) -> Option<String> {
        let Self { name, counters, .. } = self;
        let dropped = Some(counters.dropped()).filter(|dropped| *dropped > 0)?;
        let has_failed = counters.errors() + counters.refused() > 0;
        let why = if has_failed {
            last_error(counters)
        } else {
            "it could not accept them in time".to_owned()
        };
        Some(format!("{name}: {dropped} records were lost: {why}"))
    }
}

impl ReportedCounters {
    /// Whether a connection is to be reported now. `accepting` counts the connections over which
    /// the receiver has taken a record.
    fn is_connected(&mut self, accepting: u64, errors: u64, now: Instant) -> bool {
        if newer(&mut self.accepting, accepting).is_some() {
            self.accepting_after = Some(errors);
        }
        // It has failed again before it was reported.
        let is_up = self.accepting_after == Some(errors);
        let is_new = is_up && self.connected_after != Some(errors);
        if !is_new || self.next_connected > Some(now) {
            return false;
        }
        self.connected_after = Some(errors);
        self.next_connected = Some(now + CONNECTIONS_PERIOD);
        true
    }
}

impl OutputEntry {
    /// Reports what happened to the output since the last report.
    fn report(&mut self, messages: &Messages, events: &mut SystemEvents) {
        let is_over = self.is_over();
        let Self { output, reported, .. } = self;
        let (name, now) = (&output.name, &output.counters);
        let mut report = |dropped: Option<u64>, reason: &str| {
            let activity = match dropped {
                Some(_) => Activity::RecordsDropped,
                None => Activity::DetailsGatheringFailed,
            };
            match dropped {
                Some(count) => {
                    messages.warning(format_args!("{name}: {count} records were lost: {reason}"));
                }
                None => messages.warning(format_args!("{name}: {reason}")),
            }
            let output = Some(name.as_str().into());
            let details = SystemActivityDetails { output, dropped, ..because(reason) };
            events.service(activity, &details);
        };
        // A receiver of HTTP may end the connection after each answer; and one that refuses every
        // record is connected to no purpose.
        if reported.is_connected(now.accepting(), now.errors(), Instant::now()) {
            messages.info(format_args!("{name}: connected"));
        }
        if let Some(lines) = newer(&mut reported.mended, now.mended()) {
            report(Some(lines), "broken lines at the end of the file were removed");
        }
        if newer(&mut reported.remade, now.remade()).is_some() {
            report(None, "the file was moved or removed, and is made anew");
        }
        if reported.next_errors <= Some(Instant::now()) {
            let is_unsynced = newer(&mut reported.failed_syncs, now.failed_syncs()).is_some();
            let has_failed = newer(&mut reported.errors, now.errors()).is_some();
            if is_unsynced {
                report(None, &unsynced(now));
            }
            if has_failed {
                report(None, &format!("it is tried again: {}", last_error(now)));
            }
            if is_unsynced || has_failed {
                reported.next_errors = Some(Instant::now() + ERRORS_PERIOD);
            }
        }
        let was_stalled = std::mem::replace(&mut reported.is_stalled, now.is_stalled());
        if reported.is_stalled && !was_stalled {
            report(None, "its disk does not answer; the other outputs go on");
        } else if was_stalled && !reported.is_stalled {
            messages.info(format_args!("{name}: its disk answers again"));
        }
        let refused = now.refused();
        // A report may have the receiver's words, and be refused for them.
        if (is_over || reported.next_refused <= Some(Instant::now()))
            && let Some(records) = newer(&mut reported.refused, refused)
        {
            reported.next_refused = Some(Instant::now() + ERRORS_PERIOD);
            report(Some(records), &format!("the receiver refuses them: {}", last_error(now)));
        }
        let late = now.dropped().saturating_sub(refused);
        if (is_over || reported.next_dropped <= Some(Instant::now()))
            && let Some(records) = newer(&mut reported.dropped, late)
        {
            reported.next_dropped = Some(Instant::now() + DROPS_PERIOD);
            let reason = if matches!(self.next, OutputFate::Stays) {
                "an output could not accept records in time"
            } else {
                "the output has ended before it could send them"
            };
            report(Some(records), reason);
        }
    }
}

/// Waits for so long, or until `stop`.
fn pause(time: Duration, stop: &AtomicBool) {
    let begin = Instant::now();
    while begin.elapsed() < time && !stop.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(10));
    }
}

/// Growth of a counter since it was reported; it is reported then.
fn newer(reported: &mut u64, counter: u64) -> Option<u64> {
    let more = counter.checked_sub(*reported).filter(|more| *more > 0)?;
    *reported = counter;
    Some(more)
}

fn unsynced(counters: &OutputCounters) -> String {
    let (records, error) = (counters.unsynced(), last_error(counters));
    format!("a sync failed, and {records} records so far may not be on the disk: {error}")
}

/// Why an output failed last.
fn last_error(counters: &OutputCounters) -> String {
    match counters.failure() {
        failure if failure.is_empty() => {
            io::Error::from_raw_os_error(counters.last_error()).to_string()
        }
        failure => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_that_closes_each_connection_is_connected_once_a_minute() {
        let (mut reported, start) = (ReportedCounters::default(), Instant::now());
        let seconds = |count| start + Duration::from_secs(count);
        let is_reported = |&second: &u64| reported.is_connected(second, second, seconds(second));
        let reports: Vec<u64> = (1..=130).filter(is_reported).collect();
        assert_eq!(reports, [1, 61, 121]);
    }

    #[test]
    fn a_connection_that_holds_is_reported_when_its_minute_is_over() {
        let (mut reported, start) = (ReportedCounters::default(), Instant::now());
        let seconds = |count| start + Duration::from_secs(count);
        assert!(!reported.is_connected(0, 0, seconds(0)));
        assert!(reported.is_connected(1, 0, seconds(1)));
        // It fails once, and then holds; further connections without a failure are no news.
        assert!(!reported.is_connected(1, 1, seconds(2)));
        assert!(!reported.is_connected(2, 1, seconds(3)));
        assert!(reported.is_connected(2, 1, seconds(62)));
        assert!(!reported.is_connected(9, 1, seconds(200)));
    }
}
