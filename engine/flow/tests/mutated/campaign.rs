//! Mutated packets through the whole path: decoders, flows, filters, and records in every form.

use std::collections::VecDeque;
use std::io::Cursor;

use panoptes_decoders::packet::{self, Tunnels};
use panoptes_flow::{ApplicationSettings, FlowTableSettings, Flows, Protocols, Reports, Timeouts};
use panoptes_packet_files::{CaptureFile, CaptureOptions};
use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_sinks::flow::argus::{ArgusOptions, PLAIN_BYTES_MAX, Version};
use panoptes_sinks::flow::filter::{NameSource, RecordFilter};
use panoptes_sinks::flow::ipfix::{MESSAGE_BYTES_MAX, Session};
use panoptes_sinks::flow::json::{JsonLineFormat, PLAIN_LINE_BYTES_MAX};
use panoptes_tables::HashKey;
use panoptes_traffic::{BEGIN_NS, Capture, Clock, Random, kinds};

use super::mutation::{FRAME_BYTES_MAX, Frame, Mutator};

/// Bytes of user data that are kept of each end.
const USER_BYTES: usize = 48;
/// Flows at once: few, so that the table is full most of the time.
const CAPACITY: usize = 5000;
/// The number of packets after which a mutated capture is read.
const PACKETS_PER_CAPTURE: u64 = 2000;
/// One line of JSON of so many is parsed.
const LINES_PER_CHECK: u64 = 512;

/// What a campaign has done.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) packets: u64,
    /// Mutated captures, and the packets that were still found in them.
    pub(crate) captures: u64,
    pub(crate) found: u64,
    pub(crate) records: u64,
    pub(crate) unaccounted: u64,
}

/// Writes each record in every form, and checks it.
struct Forms {
    argus: Vec<u8>,
    line: Vec<u8>,
    message: [u8; MESSAGE_BYTES_MAX],
    session: Session,
    filter: RecordFilter,
    options: ArgusOptions,
    records: u64,
    packets: u64,
    /// The records of the last packet.
    last: VecDeque<FlowRecord>,
}

impl Forms {
    fn new() -> Self {
        let text = "tcp and (port 443 or ttl lt 9) or loss gt 1 or not (udp or vid eq 5) and \
            rate gt 0.5 or syn or unreach or ether host 00:01:02:03:04:05 or ipv6";
        Self {
            argus: vec![0; PLAIN_BYTES_MAX + 2 * USER_BYTES],
            line: vec![0; PLAIN_LINE_BYTES_MAX + 4 * USER_BYTES],
            message: [0; MESSAGE_BYTES_MAX],
            session: Session::new(1, 1_000_000_000),
            filter: RecordFilter::parse(text, NameSource::BuiltIn).expect("an expression"),
            options: ArgusOptions {
                application_bytes: true,
                hardware: true,
                packet_sizes: true,
                ..ArgusOptions::default()
            },
            records: 0,
            packets: 0,
            last: VecDeque::new(),
        }
    }
}

/// Compares the records of flows for which nothing is kept but their counts.
struct Expected<'a>(&'a mut VecDeque<FlowRecord>);

impl Reports for Expected<'_> {
    fn report(&mut self, record: &FlowRecord, _: &Extra<'_>) {
        assert_eq!(Some(*record), self.0.pop_front(), "the same record without extras");
    }
}

impl Reports for Forms {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        self.last.push_back(*record);
        self.records += 1;
        self.packets += record.source.packets + record.destination.packets;
        for version in [Version::Three, Version::Five] {
            let length = version.write(&mut self.argus, &self.options, record, extra);
            let length = length.expect("there is room for a record");
            let words = usize::from(u16::from_be_bytes([self.argus[2], self.argus[3]]));
            assert_eq!(words * 4, length, "the length in the record's header");
        }
        let lines = JsonLineFormat { options: self.options, community_id_seed: Some(0) };
        let length = lines.write(&mut self.line, record, extra).expect("there is room for a line");
        if self.records.is_multiple_of(LINES_PER_CHECK) {
            let line = &self.line[..length];
            serde_json::from_slice::<serde_json::Value>(line).expect("a line of JSON");
        }
        let now_ns = record.times().1;
        if self.session.write(&mut self.message, record, extra, now_ns).is_none() {
            self.session.finish(&mut self.message, now_ns);
            let written = self.session.write(&mut self.message, record, extra, now_ns);
            assert!(written.is_some(), "a record fits into an empty message");
        }
        self.filter.matches(record, extra, self.options.source_id);
    }
}

/// Frames of all kinds of conversations.
fn seeds() -> Vec<Frame> {
    let mut captures: Vec<_> = kinds().into_iter().map(|(_, capture)| capture).collect();
    captures.push(Capture::mix_of_packets(5, 5000, None));
    captures.iter().flat_map(|capture| frames(&capture.pcap(Clock::Nanoseconds))).collect()
}

fn frames(pcap: &[u8]) -> Vec<Frame> {
    let bytes = Cursor::new(pcap.to_vec());
    let options = CaptureOptions::default();
    let mut file = CaptureFile::from_reader(bytes, "a capture", &options).expect("a capture");
    let mut frames = Vec::new();
    while let Some(frame) = file.next().expect("a whole capture") {
        let length = frame.bytes.len().min(FRAME_BYTES_MAX);
        frames.push(Frame { link: frame.link, bytes: frame.bytes[..length].to_vec() });
    }
    frames
}

/// All that is kept of applications.
fn applications() -> ApplicationSettings {
    ApplicationSettings {
        protocols: Protocols::ALL,
        has_passive_dns: true,
        sequence_packets: 8,
        ..ApplicationSettings::default()
    }
}

/// Everything between packets and records.
struct Path {
    flows: Flows,
    /// The same flows, without anything that can be left out.
    plain: Flows,
    forms: Forms,
    random: Random,
    now_ns: i64,
}

impl Path {
    fn new(seed: u64) -> Self {
        let plain = FlowTableSettings {
            capacity: CAPACITY,
            status_interval_ns: 5_000_000_000,
            timeouts: Timeouts::default(),
            ..FlowTableSettings::default()
        };
        let settings = FlowTableSettings {
            has_jitter: true,
            user_bytes: USER_BYTES,
            application: applications(),
            ..plain
        };
        Self {
            plain: Flows::new(&plain, HashKey::new(seed)),
            flows: Flows::new(&settings, HashKey::new(seed)),
            forms: Forms::new(),
            random: Random::new(seed ^ 0x5eed),
            now_ns: BEGIN_NS as i64,
        }
    }

    /// Sends a packet. Its time is usually less than 20 µs after the previous one; now and then it
    /// jumps.
    fn packet(&mut self, link: u16, bytes: &[u8], wire_length: u32) {
        self.now_ns = match self.random.below(100_000) {
            0 => (self.random.next() % (u64::from(u32::MAX) * 1_000_000_000)) as i64,
            1..100 => self.now_ns - self.random.below(3_000_000_000) as i64,
            100..200 => self.now_ns + self.random.below(60_000_000_000) as i64,
            _ => self.now_ns + self.random.below(20_000) as i64,
        };
        self.send(link, bytes, wire_length, self.now_ns);
    }

    fn send(&mut self, link: u16, bytes: &[u8], wire_length: u32, time_ns: i64) {
        let tunnels = [Tunnels::Declared, Tunnels::Discover][self.random.below(2) as usize];
        // As the auditor does.
        let length = wire_length.max(bytes.len() as u32);
        let packet = packet::decode(link, bytes, length, tunnels);
        self.flows.packet(&packet, time_ns, length, &mut self.forms);
        let last = &mut self.forms.last;
        self.plain.packet(&packet, time_ns, length, &mut Expected(last));
        assert!(last.is_empty(), "no record less without extras: {last:?}");
    }

    fn finish(&mut self) {
        self.flows.finish(&mut self.forms);
        self.plain.finish(&mut Expected(&mut self.forms.last));
        assert!(self.forms.last.is_empty(), "no record less without extras");
    }

    /// Reads a capture that was mutated, to its end or to an error. Returns its packets.
    fn capture(&mut self, bytes: Vec<u8>) -> u64 {
        let length = bytes.len() as u64;
        let as_tsh = self.random.below(50) == 0;
        let options = CaptureOptions { as_tsh, ..CaptureOptions::default() };
        let opened = CaptureFile::from_reader(Cursor::new(bytes), "a capture", &options);
        let Ok(mut file) = opened else { return 0 };
        let mut found = 0;
        while let Ok(Some(frame)) = file.next() {
            found += 1;
            assert!(found <= length, "each packet takes some bytes");
            self.send(frame.link, frame.bytes, frame.wire_length, frame.time_ns);
        }
        assert!(matches!(file.next(), Ok(None)), "nothing comes after the end or an error");
        found
    }
}

/// Sends mutated packets. `progress` gets their number at times.
///
/// # Panics
///
/// A packet is in no record and not counted as such, or a record is damaged.
pub(crate) fn run(packets: u64, seed: u64, mut progress: impl FnMut(u64)) -> Outcome {
    let seeds = seeds();
    let mut mutator = Mutator::new(&seeds, seed);
    let mut path = Path::new(seed);
    let mut outcome = Outcome::default();
    while outcome.packets < packets {
        let (link, bytes, wire_length) = mutator.packet();
        path.packet(link, bytes, wire_length);
        outcome.packets += 1;
        if outcome.packets.is_multiple_of(PACKETS_PER_CAPTURE) {
            outcome.captures += 1;
            outcome.found += path.capture(mutator.capture());
            progress(outcome.packets);
        }
    }
    path.finish();
    let counts = path.flows.counts();
    (outcome.records, outcome.unaccounted) = (path.forms.records, counts.unaccounted);
    assert_eq!(counts.packets, outcome.packets + outcome.found, "all were seen");
    let accounted = path.forms.packets + counts.unaccounted;
    assert_eq!(accounted, counts.packets, "each packet is in one record, or counted");
    outcome
}
