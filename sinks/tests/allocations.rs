//! After start nothing is allocated: neither when records are written, nor by the queue, nor by the
//! outputs, rotation included, nor by a backlog, nor for messages to receivers. Requests of HTTP
//! allocate a few times for each answer, and never for a record.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{NOW_NS, STRING_LENGTH, bash, connection, set_web_1, stdin_socket, web_1_header};
use panoptes_allocations::HookAllocator;
use panoptes_bounded as bounded;
use panoptes_records::activities::{Activity, Severity};
use panoptes_records::filter::{Activities, Filter, FilterSubject};
use panoptes_records::flow::{Cause, Extra, FlowRecord, Jitter};
use panoptes_records::json::time::Timestamp;
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_records::record::file_descriptor::FileDescriptorDetails;
use panoptes_records::record::scan::ScanLine;
use panoptes_records::record::{Details, RECORD_BYTES_MAX, Record, RecordWriter};
use panoptes_sinks::flow::argus::SourceId;
use panoptes_sinks::flow::filter::{self, RecordFilter};
use panoptes_sinks::output::backlog::Backlog;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::form::Schema;
use panoptes_sinks::output::form::otlp::Otlp;
use panoptes_sinks::output::form::syslog::{
    FRAME_BYTES_MAX, MessageFraming, MessageSubject, RecordKind, Syslog,
};
use panoptes_sinks::output::lines::LineForm;
use panoptes_sinks::output::remote::{Body, Http, Messages, RemoteOutput, RemoteSettings};
use panoptes_sinks::output::socket::{Peer, PeerResolver, PendingConnection, Socket};
use panoptes_sinks::output::stream::StreamOutput;
use panoptes_sinks::output::transport::TransportSettings;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind};
use panoptes_sinks::writer::{WorkLeft, Writer};

#[global_allocator]
static ALLOCATOR: HookAllocator = HookAllocator::counting();

/// One test in this file, and everything on one thread: no other code may allocate meanwhile.
#[test]
fn nothing_is_allocated_after_start() {
    for kind in [OutputKind::IoUring, OutputKind::Plain] {
        a_hundred_thousand_records_allocate_nothing(kind);
        a_socket_allocates_nothing(kind);
        let syslog = Syslog::new(MessageFraming::OctetCounting, 16, "sensor-1", 4711);
        let stream = MessageFraming::OctetCounting;
        for messages in [
            Messages::Json { is_compact: true },
            Messages::Syslog { syslog, stream },
            Messages::Events(Schema::Ocsf),
            Messages::Events(Schema::Ecs),
        ] {
            assert_eq!(allocations_for_a_receiver(messages, kind), 0, "{kind:?}");
        }
        // The receiver's answers do, and what is made of them. A part takes a few requests.
        for body in [Body::Lines, Body::Otlp(Otlp::new("sensor-1"))] {
            let http = Messages::Http(Http::new("a", "/", &[], body));
            let allocations = allocations_for_a_receiver(http, kind);
            let parts = (COUNT / PART) as u64;
            assert!(allocations <= 40 * parts, "{allocations} for {parts} parts");
        }
    }
    backlogs_and_messages_allocate_nothing();
    filters_of_flow_records_allocate_nothing();
}

fn filters_of_flow_records_allocate_nothing() {
    let text = "not (man or tcp and host 10.1.0.1 or net fd00::/8) and dst port 53-80 or http \
                or pkts gt 5 and dur gt 1.5 or src intpkt gt 1 or unreach or multicast or syn";
    let filter = RecordFilter::parse(text, filter::NameSource::BuiltIn).unwrap();
    let (record, jitter) = (FlowRecord::default(), Jitter::default());
    let extra = Extra { jitter: Some(&jitter), ..Extra::default() };
    let before = panoptes_allocations::of_process();
    for _ in 0..100 {
        assert!(!filter.matches(&record, &extra, SourceId::None));
        assert!(!filter.matches_management(SourceId::None, Cause::Start));
    }
    assert_eq!(panoptes_allocations::of_process() - before, 0);
}

/// A receiver that is gone most of the time gets shortened messages.
fn backlogs_and_messages_allocate_nothing() {
    let syslog = Syslog::new(MessageFraming::OctetCounting, 16, "sensor-1", 4711);
    let mut backlog = Backlog::new(1 << 20);
    let (mut record, mut out) = (vec![0; RECORD_BYTES_MAX], [0; FRAME_BYTES_MAX]);
    let threads: Vec<u32> = (0..10_000).collect();
    let crowded =
        FileDescriptorDetails { file_descriptor_thread_id_array: Some(&threads), ..stdin_socket() };
    let activity = Activity::FileDescriptorOpen;
    let crowded = Record::new(activity, Details::FileDescriptor(&crowded));
    let length =
        RecordWriter::new(1, STRING_LENGTH).write(&mut record, &web_1_header(), &crowded, NOW_NS);
    let record = &record[..length.unwrap()];
    let time = &Timestamp::from_ns(NOW_NS).text();
    let before = panoptes_allocations::of_process();
    for number in 0..1000 {
        let about =
            MessageSubject { kind: RecordKind::Activity(activity), severity: Severity::Info, time };
        let message = syslog.write(&about, record, &mut out).unwrap();
        backlog.push(number % 10 == 0, number, &[message]);
        if number % 100 == 0 {
            let entry = backlog.peek().unwrap();
            assert!(entry.bytes.len() > 6000 && entry.bytes.len() < record.len());
            let (sequence, length) = (entry.sequence, entry.bytes.len());
            backlog.send(length);
            backlog.confirm(sequence);
            backlog.send(length / 2);
            backlog.confirm_bytes(length / 2);
            backlog.rewind();
        }
    }
    assert_eq!(panoptes_allocations::of_process(), before);
    assert!(backlog.dropped().full > 500 && backlog.waiting().bytes > 1 << 19);
}

/// Over several connections, of which some are closed while they send.
fn a_socket_allocates_nothing(kind: OutputKind) {
    const ROUNDS: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let counters = Arc::new(OutputCounters::default());
    let mut names = PeerResolver::start(&peer).unwrap();
    let mut socket = Socket::new(kind, &counters);
    assert_eq!(socket.kind(), kind);
    let (line, mut room) = ([b'x'; 1000], vec![0; 1 << 20]);

    let before = panoptes_allocations::of_process();
    for round in 0..ROUNDS {
        names.ask();
        let mut connecting = PendingConnection::new(&peer, names.answer().unwrap().unwrap());
        socket.open(connecting.advance(0, Duration::from_secs(1)).unwrap().unwrap());
        let mut stream = bounded::accept(&listener).unwrap();
        let mut taken = 0;
        for _ in 0..5000 {
            taken += socket.append(&line);
            socket.advance(Duration::ZERO).unwrap();
            if round % 2 == 0 && taken >= 1 << 20 {
                let arrived = room.len().min((socket.sent().bytes - socket.unsent()) as usize);
                taken -= stream.read(&mut room[..arrived]).unwrap();
            }
        }
        assert!(socket.sent().bytes > 100_000 && socket.received().is_empty());
        if round % 2 == 1 {
            assert!(!socket.is_idle(), "it is closed while it sends");
        }
    }
    assert_eq!(panoptes_allocations::of_process(), before, "{kind:?}");
}

const COUNT: usize = 10_000;
/// They are passed on in parts.
const PART: usize = 100;

/// How often records to a receiver allocate, which reads.
fn allocations_for_a_receiver(messages: Messages, kind: OutputKind) -> u64 {
    let is_http = matches!(messages, Messages::Http(_));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::tcp("127.0.0.1", listener.local_addr().unwrap().port());
    let (filter, backlog, seed) = (Filter::ALL, Backlog::new(1 << 20), 1);
    let settings = RemoteSettings { peer, tls: None, messages, filter, backlog, kind, seed };
    let output = RemoteOutput::new(settings).unwrap();
    let counters = output.counters().clone();
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![Box::new(output)]);
    let (header, mut records, process) =
        (web_1_header(), RecordWriter::new(1, STRING_LENGTH), bash());
    let record = Record::new(Activity::ProcessCreated, Details::Process(&process));
    let start = Instant::now();
    let now = || start.elapsed().as_nanos() as u64;
    let mut push = |producer: &mut Producer| {
        let write = |room: &mut [u8]| records.write(room, &header, &record, NOW_NS);
        producer.push_with(header.class(record.activity), write).unwrap();
    };
    // Without a record there is no request, and no connection for it.
    push(&mut producer);
    producer.flush();
    while counters.connections() == 0 {
        writer.step(now(), Duration::from_millis(1));
    }
    let mut stream = bounded::accept(&listener).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let mut arrived = 0;

    let before = panoptes_allocations::of_process();
    for number in 2..=COUNT {
        push(&mut producer);
        if number % PART == 0 {
            producer.flush();
            while counters.records() < number as u64 {
                writer.step(now(), Duration::from_millis(1));
                arrived += stream.read(&mut bytes[arrived..]).unwrap_or_default();
                if !is_http {
                    arrived = 0;
                } else if is_request(&bytes[..arrived]) {
                    arrived = 0;
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
                }
            }
        }
    }
    let after = panoptes_allocations::of_process();
    assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
    after - before
}

/// Whether a whole request of HTTP is there.
fn is_request(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let (head, body) = bytes.split_at(head);
    let digits = head.rsplit(|byte| *byte == b' ').next().unwrap();
    let length: usize = str::from_utf8(digits).unwrap().parse().unwrap();
    body.len() == 4 + length
}

fn a_hundred_thousand_records_allocate_nothing(kind: OutputKind) {
    const COUNT: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let transport = TransportSettings { kind, ..TransportSettings::default() };
    let options = FileOptions {
        rotate_size: 20 << 20,
        max_files: 2,
        sync_ns: Some(50_000_000),
        filter: Filter::ALL,
        form: LineForm::Compact,
        transport,
    };
    let file = FileOutput::open(&folder.path().join("events.jsonl"), options).unwrap();
    let stream = || {
        let null = File::options().write(true).open("/dev/null").unwrap();
        StreamOutput::new(null, transport)
    };
    let activities = Activities::of([Activity::NetworkConnectionCreated]);
    let some = Filter { activities, receiver: Some(0), ..Filter::ALL };
    let outputs: Vec<Box<dyn Output>> =
        vec![Box::new(file), Box::new(stream()), Box::new(stream().with_filter(some))];
    let counters: Vec<_> = outputs.iter().map(|output| output.counters().clone()).collect();
    let (mut producer, consumer) = queue(QueueSize::default(), &Waker::default());
    let mut writer = Writer::new(vec![consumer], outputs);
    let mut header = web_1_header();
    let mut records = RecordWriter::new(1, STRING_LENGTH);
    let threads: Vec<u32> = (0..10_000).collect();
    let mut line = vec![0; 4096];
    let start = Instant::now();
    let now = || start.elapsed().as_nanos() as u64;

    let before = panoptes_allocations::of_process();
    let (process, descriptor, connection) = (bash(), stdin_socket(), connection());
    let crowded =
        FileDescriptorDetails { file_descriptor_thread_id_array: Some(&threads), ..descriptor };
    let parents = [Details::FileDescriptor(&descriptor), Details::Process(&process)];
    let connected =
        Record::new(Activity::NetworkConnectionCreated, Details::NetworkConnection(&connection))
            .with_parents(&parents);
    let cut = Record::new(Activity::FileDescriptorOpen, Details::FileDescriptor(&crowded));
    for number in 0..COUNT {
        if number % 10_000 == 0 {
            set_web_1(&mut header);
            header.set_severity(Activity::ProcessZombie, Severity::High);
            ScanLine::new(&process).write(&mut line, STRING_LENGTH).unwrap();
        }
        let record = if number % 1000 == 0 { &cut } else { &connected };
        let write = |room: &mut [u8]| records.write(room, &header, record, NOW_NS);
        let class = RecordClass { activity: record.activity, ..RecordClass::default() };
        // Two systems in turn, 100 records of each; one receiver takes the first alone.
        let receivers = u64::from(number / 100 % 2 == 0);
        producer.set_subject(FilterSubject { receivers, ..FilterSubject::SERVICE });
        producer.push_with(class, write).unwrap();
        if number % 256 == 0 {
            producer.flush();
            while writer.step(now(), Duration::from_millis(1)) == WorkLeft::Backlog {}
        }
    }
    producer.flush();
    writer.finish(&now);
    assert_eq!(panoptes_allocations::of_process(), before, "{kind:?}");

    // Half of them, without those of another activity.
    let some = COUNT / 2 - COUNT / 1000;
    for (counters, count) in counters.iter().zip([COUNT, COUNT, some]) {
        assert_eq!((counters.records(), counters.dropped()), (count as u64, 0), "{counters:?}");
    }
    assert!(counters[0].rotations() > 3 && counters[0].syncs() > 0);
}
