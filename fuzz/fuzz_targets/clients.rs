//! Conversations of a client at the port of `-P`, in segments of any bytes: each is answered as the
//! protocol has it, and costs another client no record.
#![cfg_attr(fuzzing, no_main)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use panoptes_fuzz::fuzz_target;
use panoptes_records::flow::{Detail, Extra, FlowKey, FlowKeyKind, FlowRecord, FlowSide, Tcp};
use panoptes_sinks::flow::argus::SourceId;
use panoptes_sinks::flow::filter::{NameSource, RecordFilter};
use panoptes_sinks::flow::output::{AllowedNetworks, ClientEvent, Clients};
use rustix::net::sockopt::set_socket_linger;

const FIRST: &[u8] = b"first";
const RECORD: &[u8] = b"record";
const STEP_NS: u64 = 50_000_000;

fn compile(expression: &str) -> Result<RecordFilter, String> {
    RecordFilter::parse(expression, NameSource::BuiltIn).map_err(|error| error.to_string())
}

fn record() -> FlowRecord {
    let side =
        FlowSide { packets: 3, bytes: 200, first_ns: 1, last_ns: 1 << 30, ..FlowSide::default() };
    FlowRecord {
        key: FlowKey { kind: FlowKeyKind::Ipv4, protocol: 6, ..FlowKey::default() },
        source: side,
        destination: side,
        detail: Detail::Tcp(Tcp::default()),
        ..FlowRecord::default()
    }
}

/// Connects. The end of the connection leaves nothing behind in the kernel.
fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("a listener");
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a setting of sockets");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a setting of sockets");
    stream
}

/// What a client has received up to the end of its connection.
fn received(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Fails unless these are the answers to a client; whether it has received the record.
fn is_served(bytes: &[u8]) -> bool {
    let mut rest = bytes.strip_prefix(FIRST).expect("the first record");
    while let Some(after) = rest.strip_prefix(b"OK") {
        rest = after;
    }
    assert!(matches!(rest, b"" | b"SY") || rest == RECORD, "{:?}", rest.escape_ascii());
    rest == RECORD
}

// A segment: the time before it, its length, its bytes.
fuzz_target!(|data: &[u8]| {
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let mut clients =
        Clients::listen(&addresses, AllowedNetworks::default(), compile).expect("a port");
    let to = clients.addresses().next().expect("an address");
    let (hostile, plain) = (connect(to), connect(to));
    let mut now_ns = 0;
    let mut events: Vec<_> = clients.step(FIRST, now_ns).collect();
    let own = hostile.local_addr().expect("connected");
    (&plain).write_all(b"FILTER: tcp\0START: ").expect("sent");
    events.extend(clients.step(FIRST, now_ns));
    let mut rest = data;
    while let Some((&[time, length], after)) = rest.split_first_chunk() {
        let (segment, after) = after.split_at(after.len().min(usize::from(length)));
        rest = after;
        now_ns += u64::from(time) * STEP_NS;
        // It may be disconnected already.
        let _ = (&hostile).write_all(segment);
        events.extend(clients.step(FIRST, now_ns));
    }
    let (record, extra) = (record(), Extra::default());
    clients.push(RECORD, |filter| filter.matches(&record, &extra, SourceId::Number(7)));
    events.extend(clients.finish(Duration::from_secs(10)));
    assert_eq!(clients.count(), 0);
    assert!(is_served(&received(&plain)), "another client has lost the record");
    let has_record = is_served(&received(&hostile));
    let begins =
        |event: &&ClientEvent| matches!(event, ClientEvent::Started(address, _) if *address == own);
    let begun = events.iter().filter(begins).count();
    assert!(begun <= 1 && (begun == 1 || !has_record), "{events:?}");
    for event in &events {
        assert_eq!(event.to_string().lines().count(), 1, "one line: {event}");
    }
});
