//! Outputs to receivers that a test plays, and the records for them.
#![allow(dead_code, reason = "each test uses its part")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use panoptes_records::filter::Filter;
use panoptes_records::queue::{Producer, QueueSize, RecordClass, Waker, queue};
use panoptes_records::record::RecordWriter;
use panoptes_sinks::output::backlog::Backlog;
use panoptes_sinks::output::remote::{Messages, RemoteOutput, RemoteSettings, TlsConnector};
use panoptes_sinks::output::socket::Peer;
use panoptes_sinks::output::{Output, OutputCounters, OutputKind};
use panoptes_sinks::writer::{Writer, WriterEnd};
use serde_json::Value;

use crate::common::{NOW_NS, STRING_LENGTH, bash, plain_record, web_1_header};

pub(crate) const KINDS: [OutputKind; 2] = [OutputKind::IoUring, OutputKind::Plain];
/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// A queue that never overruns in these tests.
pub(crate) const LARGE: QueueSize = QueueSize { blocks: 600, block_bytes: 64 * 1024 };
pub(crate) const JSON: Messages = Messages::Json { is_compact: false };

pub(crate) fn remote(
    peer: Peer,
    messages: Messages,
    kind: OutputKind,
    backlog_bytes: usize,
) -> RemoteOutput {
    remote_over(None, peer, messages, kind, backlog_bytes)
}

/// The same, over TLS if that is given.
pub(crate) fn remote_over(
    tls: Option<TlsConnector>,
    peer: Peer,
    messages: Messages,
    kind: OutputKind,
    backlog_bytes: usize,
) -> RemoteOutput {
    let filter = Filter::ALL;
    let backlog = Backlog::new(backlog_bytes);
    let settings = RemoteSettings { peer, tls, messages, filter, backlog, kind, seed: 7 };
    let output = RemoteOutput::new(settings).unwrap();
    assert_eq!(output.kind(), kind);
    output
}

pub(crate) fn tcp(address: SocketAddr) -> Peer {
    Peer::tcp(&address.ip().to_string(), address.port())
}

/// A writer on its own thread.
pub(crate) struct Running {
    pub(crate) thread: JoinHandle<WriterEnd>,
    pub(crate) counters: Vec<Arc<OutputCounters>>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Running {
    pub(crate) fn end(self) {
        assert_eq!(self.thread.join().unwrap(), WriterEnd::Finished);
    }
}

pub(crate) fn start(outputs: Vec<Box<dyn Output>>) -> (Producer, Running) {
    let (producer, consumer) = queue(LARGE, &Waker::default());
    let counters = outputs.iter().map(|output| Arc::clone(output.counters())).collect();
    let mut writer = Writer::new(vec![consumer], outputs);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        let start = Instant::now();
        writer.run(&|| start.elapsed().as_nanos() as u64, &stopped)
    });
    (producer, Running { thread, counters, stop })
}

pub(crate) fn wait_for(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "no {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn text(number: usize) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(number % 300))
}

/// Pushes the records of these numbers; every tenth one is an alert.
pub(crate) fn push(producer: &mut Producer, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let class = RecordClass { is_alert: number.is_multiple_of(10), ..RecordClass::default() };
        while producer.try_push(class, text(number).as_bytes()).is_err() {
            thread::yield_now();
        }
        if number % 1000 == 999 {
            producer.flush();
        }
    }
    producer.flush();
}

/// The number of a line, which must be whole.
pub(crate) fn number(line: &str) -> usize {
    let value: Value = serde_json::from_str(line).unwrap();
    let number = value["number"].as_u64().unwrap() as usize;
    assert_eq!(line, text(number));
    number
}

/// Reads a connection to its end; returns the numbers of its records. A last line without a line
/// feed is no record.
pub(crate) fn read_all(stream: impl Read) -> Vec<usize> {
    let mut lines = BufReader::new(stream);
    let mut numbers = Vec::new();
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap_or(0) > 0 {
        if let Some(line) = line.strip_suffix('\n') {
            numbers.push(number(line));
        }
        line.clear();
    }
    numbers
}

pub(crate) fn check_way(counters: &OutputCounters, kind: OutputKind) {
    let (ring, plain) = (counters.ring_writes(), counters.plain_writes());
    match kind {
        OutputKind::IoUring => assert!(ring > 0 && plain == 0, "{counters:?}"),
        OutputKind::Plain => assert!(ring == 0 && plain > 0, "{counters:?}"),
    }
}

/// Pushes real records of a process.
pub(crate) fn push_real(producer: &mut Producer, count: usize) {
    let (header, mut records, process) =
        (web_1_header(), RecordWriter::new(7, STRING_LENGTH), bash());
    for _ in 0..count {
        let record = plain_record(&process);
        let class = header.class(record.activity);
        producer.push_with(class, |room| records.write(room, &header, &record, NOW_NS)).unwrap();
    }
    producer.flush();
}
