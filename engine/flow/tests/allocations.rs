//! After start, no packet and no record allocates: from captures through decoders, flows and
//! filters to records in every form.

use std::hint::black_box;
use std::io::Cursor;

use panoptes_allocations::HookAllocator;
use panoptes_decoders::packet::{self, Tunnels};
use panoptes_flow::{ApplicationSettings, FlowTableSettings, Flows, Protocols, Reports, Timeouts};
use panoptes_packet_files::{CaptureFile, CaptureOptions};
use panoptes_records::flow::{Extra, FlowRecord};
use panoptes_sinks::flow::argus::{ArgusOptions, PLAIN_BYTES_MAX, Version};
use panoptes_sinks::flow::filter::{NameSource, RecordFilter};
use panoptes_sinks::flow::ipfix::{MESSAGE_BYTES_MAX, Session};
use panoptes_sinks::flow::json::{JsonLineFormat, PLAIN_LINE_BYTES_MAX};
use panoptes_tables::HashKey;
use panoptes_traffic::{BEGIN_NS, Capture, Clock, kinds};

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::counting();

/// Bytes of user data that are kept of each end.
const USER_BYTES: usize = 64;
/// A word of each kind that the language of filters has.
const FILTERS: [&str; 6] = [
    "tcp and port 443 or host 10.0.0.1 or not src net 192.168.0.0/16",
    "udp and (bytes gt 1000 or pkts lte 3) and rate lt 1.5",
    "syn or synack or fin or reset or retrans or outoforder",
    "icmp or echo or unreach or arp or man",
    "ttl gt 10 or tos eq 0 or vid eq 10 or ether host 00:01:02:03:04:05",
    "multicast or appbytes gt 10 or ipv6",
];

/// Writes each record in all forms, and counts.
struct Forms {
    argus: Vec<u8>,
    line: Vec<u8>,
    message: [u8; MESSAGE_BYTES_MAX],
    session: Session,
    filters: Vec<RecordFilter>,
    options: ArgusOptions,
    records: u64,
    matched: u64,
}

impl Forms {
    fn new() -> Self {
        let filter = |text| RecordFilter::parse(text, NameSource::BuiltIn).expect("an expression");
        Self {
            argus: vec![0; PLAIN_BYTES_MAX + 2 * USER_BYTES],
            line: vec![0; PLAIN_LINE_BYTES_MAX + 4 * USER_BYTES],
            message: [0; MESSAGE_BYTES_MAX],
            session: Session::new(1, 1_000_000_000),
            filters: FILTERS.into_iter().map(filter).collect(),
            options: ArgusOptions {
                application_bytes: true,
                hardware: true,
                packet_sizes: true,
                ..ArgusOptions::default()
            },
            records: 0,
            matched: 0,
        }
    }
}

impl Reports for Forms {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        self.records += 1;
        for version in [Version::Three, Version::Five] {
            let written = version.write(&mut self.argus, &self.options, record, extra);
            assert!(written.is_some(), "there is room");
        }
        let lines = JsonLineFormat { options: self.options, community_id_seed: Some(0) };
        assert!(lines.write(&mut self.line, record, extra).is_some(), "there is room");
        let now_ns = record.times().1;
        if self.session.write(&mut self.message, record, extra, now_ns).is_none() {
            self.session.finish(&mut self.message, now_ns);
        }
        for filter in &self.filters {
            let matches = filter.matches(record, extra, self.options.source_id);
            self.matched += u64::from(matches);
        }
    }
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

/// Sends a capture through everything. The number of allocations, of packets and of records.
fn allocations(capture: &Capture, capacity: usize) -> (u64, u64, u64) {
    let settings = FlowTableSettings {
        capacity,
        status_interval_ns: 5_000_000_000,
        timeouts: Timeouts::default(),
        has_jitter: true,
        user_bytes: USER_BYTES,
        application: applications(),
        ..FlowTableSettings::default()
    };
    let bytes = Cursor::new(capture.pcap(Clock::Nanoseconds));
    let options = CaptureOptions::default();
    let mut file = CaptureFile::from_reader(bytes, "a capture", &options).expect("a capture");
    let mut flows = Flows::new(&settings, HashKey::new(1));
    let mut forms = Forms::new();
    let before = panoptes_allocations::of_thread();
    while let Some(frame) = file.next().expect("packets") {
        let tunnels = Tunnels::Discover;
        let packet = packet::decode(frame.link, frame.bytes, frame.wire_length, tunnels);
        flows.packet(&packet, frame.time_ns, frame.wire_length, &mut forms);
    }
    flows.pass_time_to(i64::try_from(BEGIN_NS).expect("a time"), &mut forms);
    flows.finish(&mut forms);
    let count = panoptes_allocations::of_thread() - before;
    assert!(forms.matched > 0, "some filter matches");
    (count, flows.counts().packets, forms.records)
}

#[test]
fn allocations_are_counted() {
    let before = panoptes_allocations::of_thread();
    drop(black_box(Box::new(1)));
    assert_eq!(panoptes_allocations::of_thread() - before, 1);
}

#[test]
fn no_packet_of_any_kind_allocates() {
    for (name, capture) in kinds() {
        let (count, packets, records) = allocations(&capture, 1000);
        assert_eq!(count, 0, "{name}");
        assert_eq!(packets, capture.packets() as u64, "{name}");
        assert!(records > 0, "{name}");
    }
}

/// Also while the index grows, and while flows are evicted.
#[test]
fn many_flows_and_full_tables_do_not_allocate() {
    let capture = Capture::mix_of_packets(7, 300_000, None);
    for capacity in [100, 50_000] {
        let (count, packets, records) = allocations(&capture, capacity);
        assert_eq!((count, packets), (0, capture.packets() as u64), "{capacity} flows at once");
        assert!(records > 10_000, "{records}");
    }
}
