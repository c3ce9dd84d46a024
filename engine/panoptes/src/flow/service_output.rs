//! The service as the output of its sensor: records of flows go through a queue to the service's
//! writer, and what happens to the sensor goes to its control thread, which reports it.
//!
//! The queue is the sensor's own, so that packets cost the scanners no record. A record that finds
//! no room is lost and counted. Only the last records, when no packets follow, wait for room.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::thread::sleep;
use std::time::{Duration, Instant};

use panoptes_records::activities::{Activity, Preset, Severity};
use panoptes_records::json::text::Text;
use panoptes_records::json::time::Timestamp;
use panoptes_records::queue::{HeaderLists, Producer, QueueSize, RecordClass};
use panoptes_records::record::RECORD_BYTES_MAX;
use panoptes_records::record::system_activity::SystemActivityDetails;
use panoptes_sinks::failpoints;

use super::figures::{OutputFigures, SensorFigures};
use super::live_output::{LOSSES_NS, Loss};
use super::patience::LAST_WAIT;

/// The name of the queue in records and metrics.
pub(super) const NAME: &str = "queue";
/// The queue: 8 MiB. The writer may stand still for some seconds before blocks run out that are
/// passed on in time.
pub(crate) const QUEUE: QueueSize = QueueSize { blocks: 64, block_bytes: 128 << 10 };
const _: () = assert!(QUEUE.block_bytes >= RECORD_BYTES_MAX, "a block holds the longest record");
/// How often a block that is not full is passed on, in nanoseconds.
const FLUSH_NS: u64 = 100_000_000;
/// The pause between two attempts to pass on one of the last records.
const RECORD_RETRY_PAUSE: Duration = Duration::from_millis(1);

/// What queues must know of a record. The activity, the severity and the preset mean nothing.
const CLASS: RecordClass = RecordClass {
    activity: Activity::NetworkConnectionTerminated,
    severity: Severity::Info,
    is_urgent: false,
    is_alert: false,
    is_flow: true,
    preset: Preset::Everything,
    middle: 0,
    lists: HeaderLists { system: 0, content: 0, places: [(0, 0); 2] },
};

/// What has happened to the sensor, for the service to report.
#[derive(Clone, Debug)]
pub(crate) struct SensorEvent {
    pub(crate) activity: Activity,
    reason: Vec<u8>,
    output: Option<Vec<u8>>,
    limit: Option<&'static str>,
    capacity: Option<u64>,
    untracked: Option<u64>,
    dropped: Option<u64>,
    gap: Option<&'static str>,
    missed: Option<u64>,
    since: Option<Timestamp>,
}

impl SensorEvent {
    pub(super) fn new(activity: Activity, details: &SystemActivityDetails<'_>) -> Self {
        Self {
            activity,
            reason: details.reason.to_bytes(),
            output: details.output.map(Text::to_bytes),
            limit: details.limit,
            capacity: details.capacity,
            untracked: details.untracked,
            dropped: details.dropped,
            gap: details.gap,
            missed: details.missed,
            since: details.since_iso_8601_ns,
        }
    }

    /// The details of the record.
    pub(crate) fn details(&self) -> SystemActivityDetails<'_> {
        SystemActivityDetails {
            reason: self.reason.as_slice().into(),
            output: self.output.as_deref().map(Into::into),
            limit: self.limit,
            capacity: self.capacity,
            untracked: self.untracked,
            dropped: self.dropped,
            gap: self.gap,
            missed: self.missed,
            since_iso_8601_ns: self.since,
            ..SystemActivityDetails::default()
        }
    }
}

/// The sensor's end of both.
#[derive(Debug)]
pub(super) struct ServiceOutput {
    records: Producer,
    happened: Sender<SensorEvent>,
    figures: Arc<SensorFigures>,
    next_flush_ns: u64,
    /// The lost records that were reported, and when the next report may be.
    reported: u64,
    next_report_ns: u64,
    /// Since when the last records wait for room; `None` while none does.
    waits_since: Option<Instant>,
}

impl ServiceOutput {
    pub(super) const fn new(
        records: Producer,
        happened: Sender<SensorEvent>,
        figures: Arc<SensorFigures>,
    ) -> Self {
        Self {
            records,
            happened,
            figures,
            next_flush_ns: 0,
            reported: 0,
            next_report_ns: 0,
            waits_since: None,
        }
    }

    pub(super) const fn figures(&self) -> &Arc<SensorFigures> {
        &self.figures
    }

    fn of_queue(&self) -> Option<&OutputFigures> {
        self.figures.outputs.iter().find(|(name, _)| *name == NAME).map(|(_, figures)| figures)
    }

    /// Passes on a line of JSON, with its line feed. `may_wait`: packets do not wait for it.
    pub(super) fn push(&mut self, line: &[u8], may_wait: bool) {
        let Some(record) = line.strip_suffix(b"\n") else { return };
        if may_wait {
            self.wait_for_room();
        }
        let is_accepted = self.records.try_push(CLASS, record).is_ok();
        let Some(figures) = self.of_queue() else { return };
        let place = if is_accepted { &figures.records } else { &figures.dropped };
        place.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits while more than half of the queue is on its way: then outputs would lose records.
    fn wait_for_room(&mut self) {
        self.figures.note_step();
        while !self.records.is_half_free() {
            let since = *self.waits_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= LAST_WAIT {
                return;
            }
            sleep(RECORD_RETRY_PAUSE);
        }
        self.waits_since = None;
    }

    /// Has the service report something.
    pub(super) fn report(&self, activity: Activity, details: &SystemActivityDetails<'_>) {
        // Without a receiver, the service ends.
        let _ = self.happened.send(SensorEvent::new(activity, details));
    }

    /// Passes on what was added, if that is due. `now_ns` never goes back.
    pub(super) fn step(&mut self, now_ns: u64) {
        self.figures.note_step();
        failpoints::reach("flows");
        if now_ns >= self.next_flush_ns {
            self.next_flush_ns = now_ns + FLUSH_NS;
            self.records.flush();
        }
    }

    /// The records that were lost, if a report is due; `None` is the end.
    pub(super) fn look(&mut self, now_ns: Option<u64>) -> Option<Loss> {
        let lost = self.records.refused();
        let new = lost - self.reported;
        if new == 0 || now_ns.is_some_and(|now_ns| now_ns < self.next_report_ns) {
            return None;
        }
        self.reported = lost;
        self.next_report_ns = now_ns.unwrap_or(0).saturating_add(LOSSES_NS);
        let reason = "the queue of flow records to the writer was full".to_owned();
        Some(Loss { output: NAME.to_owned(), reason, dropped: Some(new) })
    }

    /// Passes everything on.
    pub(super) fn finish(&mut self) {
        self.records.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use panoptes_records::queue::{Consumer, Waker, queue};

    use super::*;

    fn output(size: QueueSize) -> (ServiceOutput, Consumer) {
        let (producer, consumer) = queue(size, &Waker::default());
        let figures = Arc::new(SensorFigures::of(&[], &[NAME], 0));
        (ServiceOutput::new(producer, channel().0, figures), consumer)
    }

    fn figures(output: &ServiceOutput) -> [u64; 2] {
        let figures = output.of_queue().expect("the queue has figures");
        [&figures.records, &figures.dropped].map(|count| count.load(Ordering::Relaxed))
    }

    #[test]
    fn a_full_queue_loses_records_that_are_counted_and_reported() {
        const SECOND_NS: u64 = 1_000_000_000;
        let (mut output, mut consumer) = output(QueueSize { blocks: 4, block_bytes: 64 });
        // Three blocks have room for one such line each; the last block is for urgent records.
        let line = [&[b'x'; 40][..], b"\n"].concat();
        let before: Vec<u64> = (0..10)
            .map(|_| {
                output.push(&line, false);
                figures(&output)[0]
            })
            .collect();
        let [accepted, dropped] = figures(&output);
        assert_eq!(accepted + dropped, 10);
        assert!(dropped > 0 && before.contains(&1), "{before:?}");
        let loss = output.look(Some(5 * SECOND_NS)).expect("a loss");
        assert_eq!((loss.dropped, loss.output.as_str()), (Some(dropped), NAME));
        assert!(output.look(Some(6 * SECOND_NS)).is_none(), "nothing is new");
        output.push(&line, false);
        assert!(output.look(Some(6 * SECOND_NS)).is_none(), "once a minute");
        assert_eq!(output.look(Some(65 * SECOND_NS)).and_then(|loss| loss.dropped), Some(1));
        output.push(&line, false);
        assert_eq!(output.look(None).and_then(|loss| loss.dropped), Some(1), "at the end");
        let mut found = 0;
        while let Some(block) = consumer.pop() {
            assert!(block.iter().all(|record| record == &line[..40]));
            found += block.records() as u64;
            consumer.give_back(block);
        }
        output.finish();
        found += consumer.pop().map_or(0, |block| block.records() as u64);
        assert_eq!(found, accepted);
    }

    #[test]
    fn the_last_records_wait_for_room() {
        let (mut output, mut consumer) = output(QueueSize { blocks: 4, block_bytes: 64 });
        let reader = std::thread::spawn(move || {
            let mut found = 0;
            while !consumer.is_finished() {
                let Some(block) = consumer.pop() else {
                    std::thread::yield_now();
                    continue;
                };
                found += block.records();
                consumer.give_back(block);
            }
            found
        });
        for _ in 0..1000 {
            output.push(b"{\"kind\":\"flow\"}\n", true);
        }
        output.finish();
        assert_eq!(figures(&output), [1000, 0]);
        drop(output);
        assert_eq!(reader.join().expect("it does not panic"), 1000);
    }

    #[test]
    fn what_has_happened_is_the_same_on_the_other_thread() {
        let details = SystemActivityDetails {
            reason: "a reason".into(),
            output: Some("queue".into()),
            gap: Some("packets"),
            missed: Some(7),
            since_iso_8601_ns: Some(Timestamp::from_ns(9)),
            ..SystemActivityDetails::default()
        };
        let happened = SensorEvent::new(Activity::CoverageDegraded, &details);
        assert_eq!(format!("{:?}", happened.details()), format!("{details:?}"));
    }
}
