//! Records on their way from the thread that has their flows to the one that writes them.

use panoptes_flow::Reports;
use panoptes_records::flow::application::Application;
use panoptes_records::flow::{Cause, Extra, FlowRecord, Jitter, NameResolution, Sequence};

use super::PAUSE;
use super::batches::{Filler, ThreadBatch};
use crate::flow::thread_counts::ThreadReport;

/// Records of a batch.
pub(super) const BATCH_RECORDS: usize = 256;
/// Bytes of user data and of answers of DNS after which a batch is full.
const RECORD_BATCH_BYTES: usize = 64 << 10;

/// When it was reported, and of which stream.
#[derive(Clone, Copy, Debug)]
struct ThreadRecord {
    /// Nanoseconds of the clock that all threads have.
    time_ns: i64,
    stream: usize,
    what: ThreadRecordContent,
}

/// Its parts that have a fixed size, and which others there are. These are in lists of the batch,
/// in the same order.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "answers are rare")]
enum ThreadRecordContent {
    Flow {
        record: FlowRecord,
        has_jitter: bool,
        /// Bytes of data of both ends.
        user: [usize; 2],
        size_squares: Option<[u64; 2]>,
        has_application: bool,
        has_later_application: bool,
        has_sequence: bool,
    },
    Answer {
        resolution: NameResolution<'static>,
        /// Bytes of the name and of the answer.
        lengths: [usize; 2],
    },
}

/// A batch of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    rows: Vec<ThreadRecord>,
    bytes: Vec<u8>,
    jitter: Vec<Jitter>,
    applications: Vec<Application>,
    sequences: Vec<Sequence>,
    /// The places of the next ones to be taken.
    next: ThreadRecordCursor,
}

#[derive(Clone, Copy, Debug, Default)]
struct ThreadRecordCursor {
    row: usize,
    byte: usize,
    jitter: usize,
    application: usize,
    sequence: usize,
}

impl ThreadBatch for Records {
    /// If each record has all that records can have.
    const BYTES: usize = 2 * RECORD_BATCH_BYTES
        + BATCH_RECORDS
            * (size_of::<ThreadRecord>()
                + size_of::<Jitter>()
                + 2 * size_of::<Application>()
                + size_of::<Sequence>());

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH_RECORDS || self.bytes.len() >= RECORD_BATCH_BYTES
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
        self.jitter.clear();
        self.applications.clear();
        self.sequences.clear();
        self.next = ThreadRecordCursor::default();
    }
}

impl Records {
    fn push(&mut self, (time_ns, stream): (i64, usize), record: &FlowRecord, extra: &Extra<'_>) {
        self.jitter.extend(extra.jitter);
        self.applications.extend(extra.application);
        self.applications.extend(extra.later_application);
        self.sequences.extend(extra.sequence);
        for data in extra.user {
            self.bytes.extend_from_slice(data);
        }
        let what = ThreadRecordContent::Flow {
            record: *record,
            has_jitter: extra.jitter.is_some(),
            user: extra.user.map(<[u8]>::len),
            size_squares: extra.size_squares,
            has_application: extra.application.is_some(),
            has_later_application: extra.later_application.is_some(),
            has_sequence: extra.sequence.is_some(),
        };
        self.rows.push(ThreadRecord { time_ns, stream, what });
    }

    fn push_answer(&mut self, (time_ns, stream): (i64, usize), resolution: &NameResolution<'_>) {
        self.bytes.extend_from_slice(resolution.name);
        self.bytes.extend_from_slice(resolution.answer);
        let lengths = [resolution.name.len(), resolution.answer.len()];
        let resolution = without_texts(resolution);
        self.rows.push(ThreadRecord {
            time_ns,
            stream,
            what: ThreadRecordContent::Answer { resolution, lengths },
        });
    }

    /// When the next one was reported; `None` if there is no more.
    pub(super) fn next_time(&self) -> Option<i64> {
        self.rows.get(self.next.row).map(|row| row.time_ns)
    }

    /// Takes the next one, if there is one, with its stream.
    pub(super) fn take(&mut self, take: impl FnOnce(usize, &ThreadReport<'_>)) {
        let Some(row) = self.rows.get(self.next.row) else { return };
        let next = &mut self.next;
        next.row += 1;
        let mut bytes = |length: usize| {
            let begin = next.byte;
            next.byte += length;
            self.bytes.get(begin..next.byte).unwrap_or_default()
        };
        match &row.what {
            ThreadRecordContent::Answer { resolution, lengths: [name, answer] } => {
                let (name, answer) = (bytes(*name), bytes(*answer));
                take(
                    row.stream,
                    &ThreadReport::Answer(NameResolution { name, answer, ..*resolution }),
                );
            }
            ThreadRecordContent::Flow {
                record, user: [source, destination], size_squares, ..
            } => {
                let user = [bytes(*source), bytes(*destination)];
                let mut extra = Extra { user, size_squares: *size_squares, ..Extra::default() };
                if let ThreadRecordContent::Flow {
                    has_jitter,
                    has_application,
                    has_later_application,
                    has_sequence,
                    ..
                } = row.what
                {
                    extra.jitter = following(&self.jitter, &mut next.jitter, has_jitter);
                    let applications = &self.applications;
                    extra.application =
                        following(applications, &mut next.application, has_application);
                    extra.later_application =
                        following(applications, &mut next.application, has_later_application);
                    extra.sequence = following(&self.sequences, &mut next.sequence, has_sequence);
                }
                take(row.stream, &ThreadReport::Flow(record, &extra));
            }
        }
    }
}

/// What has a fixed size of an answer of DNS.
const fn without_texts(resolution: &NameResolution<'_>) -> NameResolution<'static> {
    let NameResolution { server, client, is_known_server, kind, response_code, .. } = *resolution;
    let NameResolution { count, first_ns, last_ns, .. } = *resolution;
    NameResolution {
        server,
        client,
        is_known_server,
        name: &[],
        kind,
        answer: &[],
        response_code,
        count,
        first_ns,
        last_ns,
    }
}

/// The next one of a list, if it is there.
fn following<'a, T>(list: &'a [T], at: &mut usize, is_there: bool) -> Option<&'a T> {
    let one = list.get(*at).filter(|_| is_there);
    *at += usize::from(is_there);
    one
}

/// Receives the records of a thread. What finds no room is counted: nothing waits for outputs, but
/// at the end.
#[derive(Debug)]
pub(super) struct RecordSender {
    filler: Filler<Records>,
    /// The time, and the stream, of those that come now.
    time_ns: i64,
    stream: usize,
    lost: u64,
    /// Those that come now are the last ones.
    is_ending: bool,
}

impl RecordSender {
    pub(super) const fn new(filler: Filler<Records>) -> Self {
        Self { filler, time_ns: i64::MIN, stream: 0, lost: 0, is_ending: false }
    }

    /// Receives records of a stream.
    pub(super) const fn of(&mut self, stream: usize) -> &mut Self {
        self.stream = stream;
        self
    }

    /// Those that come now have a later time than those before; the time.
    pub(super) fn pass_time(&mut self, now_ns: i64) -> i64 {
        self.time_ns = now_ns.max(self.time_ns.saturating_add(1));
        self.time_ns
    }

    /// Those that come now are the last ones of flows that have not ended.
    pub(super) const fn begin_to_end(&mut self) {
        self.is_ending = true;
    }

    /// Passes on what was reported; up to which time that is.
    pub(super) fn pass_on(&mut self) -> i64 {
        self.filler.pass_on();
        self.time_ns
    }

    /// Whether something was reported that was not passed on.
    pub(super) fn has_some(&self) -> bool {
        self.filler.has_some()
    }

    /// Records that found no room.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    /// Calls `push` with a batch that has room, and with the time and the stream.
    fn push(&mut self, push: impl FnOnce(&mut Records, (i64, usize))) {
        // If the main thread panics, nobody makes room.
        while self.is_ending && !self.filler.is_abandoned() && self.filler.batch().is_none() {
            std::thread::sleep(PAUSE);
        }
        match self.filler.batch() {
            Some(batch) => push(batch, (self.time_ns, self.stream)),
            None => self.lost += 1,
        }
    }
}

impl Reports for RecordSender {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        let cause = if self.is_ending { Cause::Shutdown } else { record.cause };
        let record = FlowRecord { cause, ..*record };
        self.push(|batch, place| batch.push(place, &record, extra));
    }

    fn resolved(&mut self, resolution: &NameResolution<'_>) {
        self.push(|batch, place| batch.push_answer(place, resolution));
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use panoptes_records::flow::application::{Dns, TlsHellos};

    use super::super::batches::circle;
    use super::*;

    fn record(sequence: u32) -> FlowRecord {
        FlowRecord { sequence, ..FlowRecord::default() }
    }

    /// What threads pass on beside a record.
    type Parts<'a> = (
        Option<&'a Jitter>,
        [&'a [u8]; 2],
        [Option<&'a Application>; 2],
        Option<&'a Sequence>,
        Option<[u64; 2]>,
    );

    fn parts<'a>(extra: &Extra<'a>) -> Parts<'a> {
        let Extra { jitter, user, application, later_application, sequence, size_squares, .. } =
            *extra;
        (jitter, user, [application, later_application], sequence, size_squares)
    }

    #[test]
    fn what_was_reported_comes_as_it_was() {
        let jitter = |last_ns| {
            let mut jitter = Jitter::default();
            jitter.source.last_ns = last_ns;
            jitter
        };
        let jitters = [jitter(5), jitter(6)];
        let [dns, tls] = [Application::Dns(Dns::default()), Application::Tls(TlsHellos::default())];
        let sequence = Sequence::default();
        let extras = [
            Extra { jitter: Some(&jitters[0]), user: [b"one", b""], ..Extra::default() },
            Extra::default(),
            Extra {
                jitter: Some(&jitters[1]),
                user: [b"", b"two"],
                application: Some(&dns),
                later_application: Some(&tls),
                sequence: Some(&sequence),
                size_squares: Some([7, 8]),
                ..Extra::default()
            },
            Extra { application: Some(&tls), ..Extra::default() },
        ];
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let resolution = NameResolution {
            server: address,
            client: address,
            is_known_server: Some(true),
            name: b"name",
            kind: 1,
            answer: b"answer",
            response_code: 0,
            count: 3,
            first_ns: 4,
            last_ns: 5,
        };
        let (filler, mut emptier) = circle(2);
        let mut sender = RecordSender::new(filler);
        for round in 0..2 {
            assert!(sender.pass_time(9 + round) >= 9 + round);
            for (number, extra) in (0..).zip(&extras) {
                sender.of(number as usize).report(&record(number), extra);
                sender.resolved(&resolution);
            }
            sender.pass_on();
            let mut batch = emptier.next().expect("a batch");
            for (number, expected) in (0..).zip(&extras) {
                assert_eq!(batch.next_time(), Some(9 + round));
                batch.take(|stream, reported| {
                    let ThreadReport::Flow(its, extra) = reported else { panic!("a flow") };
                    assert_eq!((stream, *its), (number as usize, &record(number)));
                    assert_eq!(parts(extra), parts(expected));
                });
                batch.take(|stream, reported| {
                    let ThreadReport::Answer(its) = reported else { panic!("an answer") };
                    assert_eq!((stream, its), (number as usize, &resolution));
                });
            }
            assert_eq!(batch.next_time(), None);
            emptier.give_back(batch);
        }
    }

    #[test]
    fn records_without_room_are_counted() {
        let (filler, mut emptier) = circle(2);
        let mut sender = RecordSender::new(filler);
        for number in 0..3 * BATCH_RECORDS {
            sender.report(&record(number as u32), &Extra::default());
        }
        assert_eq!(sender.lost(), BATCH_RECORDS as u64);
        // At the end, it waits for room.
        sender.begin_to_end();
        let reading = std::thread::spawn(move || {
            let mut causes = Vec::new();
            while causes.len() < 2 * BATCH_RECORDS + 10 {
                let Some(mut batch) = emptier.next() else { continue };
                while batch.next_time().is_some() {
                    batch.take(|_, reported| {
                        let ThreadReport::Flow(record, _) = reported else { panic!("a flow") };
                        causes.push(record.cause);
                    });
                }
                emptier.give_back(batch);
            }
            causes
        });
        for number in 0..10 {
            sender.report(&record(number), &Extra::default());
        }
        sender.pass_on();
        let causes = reading.join().expect("no panic");
        assert!(causes[2 * BATCH_RECORDS..].iter().all(|cause| *cause == Cause::Shutdown));
        assert_eq!(sender.lost(), BATCH_RECORDS as u64);
    }
}
