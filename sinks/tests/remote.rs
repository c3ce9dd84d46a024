//! Records through queue and writer to receivers on this machine that read, stop, restart, or are
//! not there, by both ways of sending.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "../../engine/records/tests/common/mod.rs"]
mod common;
#[path = "common/receivers.rs"]
mod receivers;

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use panoptes_bounded::{self as bounded, Port};
use panoptes_records::filter::Filter;
use panoptes_records::queue::{Producer, Waker, queue};
use panoptes_sinks::output::backlog::Backlog;
use panoptes_sinks::output::file::{FileOptions, FileOutput};
use panoptes_sinks::output::form::Schema;
use panoptes_sinks::output::form::syslog::{MessageFraming, Syslog};
use panoptes_sinks::output::remote::{Forward, Messages, RemoteOutput, RemoteSettings};
use panoptes_sinks::output::socket::{Peer, UnixKind};
use panoptes_sinks::output::{Output as _, OutputCounters, OutputKind};
use panoptes_sinks::writer::{Writer, WriterEnd};
use receivers::{
    JSON, KINDS, LARGE, Running, check_way, number, push, push_real, read_all, remote, start, tcp,
    text, wait_for,
};
use serde_json::Value;

#[test]
fn a_receiver_gets_every_record_once_in_order() {
    const COUNT: usize = 50_000;
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reader = thread::spawn(move || read_all(bounded::accept(&listener).unwrap()));
        let (mut producer, running) =
            start(vec![Box::new(remote(tcp(address), JSON, kind, 64 << 20))]);
        push(&mut producer, 0..COUNT);
        drop(producer);
        let counters = Arc::clone(&running.counters[0]);
        running.end();
        assert!(reader.join().unwrap().into_iter().eq(0..COUNT));
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
        assert_eq!((counters.connections(), counters.errors()), (1, 0));
        check_way(&counters, kind);
    }
}

#[test]
fn a_receiver_that_is_not_there_at_first_gets_everything_later() {
    const COUNT: usize = 10_000;
    for kind in KINDS {
        let port = Port::reserve().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let (mut producer, running) =
            start(vec![Box::new(remote(tcp(address), JSON, kind, 16 << 20))]);
        push(&mut producer, 0..COUNT / 2);
        wait_for("refusal", || running.counters[0].errors() >= 2);
        let failure = running.counters[0].failure();
        assert!(failure.starts_with(&format!("cannot connect to {address} (tcp): ")), "{failure}");
        let listener = TcpListener::bind(address).unwrap();
        let reader = thread::spawn(move || read_all(bounded::accept(&listener).unwrap()));
        push(&mut producer, COUNT / 2..COUNT);
        drop(producer);
        running.end();
        assert!(reader.join().unwrap().into_iter().eq(0..COUNT));
    }
}

/// A receiver that ends its connections reads what has arrived until then, as one does that stops
/// in good order: then nothing is lost, and nothing comes twice within a connection.
#[test]
fn a_receiver_that_restarts_goes_on_with_whole_records() {
    const COUNT: usize = 40_000;
    const CONNECTIONS: usize = 5;
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reader = thread::spawn(move || {
            let mut connections = Vec::new();
            for connection in 1..=CONNECTIONS {
                let stream = bounded::accept(&listener).unwrap();
                if connection == CONNECTIONS {
                    connections.push(read_all(stream));
                    return connections;
                }
                let mut part = vec![0; 100_000];
                (&stream).read_exact(&mut part).unwrap();
                // What lies unread in the receiver's kernel is lost.
                drop(stream);
                let whole = part.iter().rposition(|&byte| byte == b'\n').unwrap();
                let text = String::from_utf8(part[..whole].to_vec()).unwrap();
                connections.push(text.lines().map(number).collect());
            }
            connections
        });
        let (mut producer, running) =
            start(vec![Box::new(remote(tcp(address), JSON, kind, 16 << 20))]);
        push(&mut producer, 0..COUNT);
        drop(producer);
        let counters = Arc::clone(&running.counters[0]);
        running.end();
        let connections = reader.join().unwrap();
        assert_eq!(connections.len(), CONNECTIONS);
        for connection in &connections {
            let first = connection[0];
            assert!(connection.iter().copied().eq(first..first + connection.len()));
        }
        assert_eq!(connections[0][0], 0);
        assert_eq!(connections[CONNECTIONS - 1].last(), Some(&(COUNT - 1)));
        assert_eq!(counters.connections(), CONNECTIONS as u64);
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
    }
}

#[test]
fn a_receiver_that_does_not_read_delays_no_other_output_and_costs_the_oldest_events() {
    const COUNT: usize = 60_000;
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let file = FileOutput::open(&path, FileOptions::default()).unwrap();
        let frozen = remote(tcp(address), JSON, kind, 4 << 20);
        let (mut producer, running) = start(vec![Box::new(frozen), Box::new(file)]);
        let stream = bounded::accept(&listener).unwrap();
        push(&mut producer, 0..COUNT);
        wait_for("log", || running.counters[1].records() == COUNT as u64);
        let counters = Arc::clone(&running.counters[0]);
        wait_for("drop", || counters.dropped() > 0);
        let reader = thread::spawn(move || read_all(stream));
        drop(producer);
        running.end();
        let received = reader.join().unwrap();
        assert!(received.is_sorted());
        assert_eq!(received.last(), Some(&(COUNT - 1)));
        assert_eq!(received.len() as u64 + counters.dropped(), COUNT as u64);
        assert_eq!(counters.records(), received.len() as u64);
        assert_eq!((counters.waiting(), counters.waiting_bytes()), (0, 0));
        let alerts = received.iter().filter(|number| number.is_multiple_of(10)).count();
        assert_eq!(alerts, COUNT / 10, "alerts go last");
    }
}

/// A writer with 1000 records for a receiver that has refused a connection.
fn start_away() -> (Port, Producer, Running, Arc<OutputCounters>) {
    let port = Port::reserve().unwrap();
    let away = remote(tcp(port.address()), JSON, OutputKind::IoUring, 16 << 20);
    let (mut producer, running) = start(vec![Box::new(away)]);
    push(&mut producer, 0..1000);
    let counters = Arc::clone(&running.counters[0]);
    wait_for("refusal", || counters.errors() > 0);
    (port, producer, running, counters)
}

#[test]
fn what_a_receiver_never_took_is_counted_at_the_end() {
    let (_port, producer, running, counters) = start_away();
    wait_for("backlog", || counters.waiting() == 1000);
    let bytes: usize = (0..1000).map(|number| text(number).len()).sum();
    assert!(counters.waiting_bytes() >= bytes as u64);
    let begin = Instant::now();
    drop(producer);
    running.end();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!((counters.records(), counters.dropped()), (0, 1000));
}

#[test]
fn a_stop_leaves_out_what_a_receiver_does_not_take() {
    let (_port, producer, running, counters) = start_away();
    let begin = Instant::now();
    running.stop.store(true, Ordering::Relaxed);
    assert_eq!(running.thread.join().unwrap(), WriterEnd::Stopped);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    assert_eq!((counters.records(), counters.dropped()), (0, 1000));
    drop(producer);
}

fn syslog(stream: MessageFraming) -> Messages {
    Messages::Syslog { syslog: Syslog::new(stream, 16, "sensor-1", 4711), stream }
}

/// Checks a syslog message's header, and that it ends with a whole record.
fn check_syslog(message: &str) {
    let header = "<134>1 2026-11-";
    assert!(message.starts_with(header), "{message}");
    let mut parts = message.splitn(8, ' ');
    assert_eq!(parts.nth(2), Some("sensor-1"));
    let record: Value = serde_json::from_str(parts.nth(4).unwrap()).unwrap();
    assert_eq!(record["activity_data"]["name"], "process_created");
}

#[test]
fn syslog_messages_are_framed_as_the_transport_needs() {
    const COUNT: usize = 500;
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = tcp(listener.local_addr().unwrap());
        let framing = MessageFraming::OctetCounting;
        let (mut producer, running) =
            start(vec![Box::new(remote(peer, syslog(framing), kind, 16 << 20))]);
        push_real(&mut producer, COUNT);
        let mut stream = BufReader::new(bounded::accept(&listener).unwrap());
        drop(producer);
        for _ in 0..COUNT {
            let mut length = Vec::new();
            stream.read_until(b' ', &mut length).unwrap();
            let length: usize = str::from_utf8(&length).unwrap().trim_end().parse().unwrap();
            let mut message = vec![0; length];
            stream.read_exact(&mut message).unwrap();
            check_syslog(str::from_utf8(&message).unwrap());
        }
        running.end();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_datagram_is_a_message() {
    const COUNT: usize = 100;
    for kind in KINDS {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
        let address = receiver.local_addr().unwrap();
        let peer = Peer::udp(&address.ip().to_string(), address.port());
        let (mut producer, running) = start(vec![Box::new(remote(
            peer,
            syslog(MessageFraming::OctetCounting),
            kind,
            1 << 20,
        ))]);
        push_real(&mut producer, COUNT);
        let counters = Arc::clone(&running.counters[0]);
        wait_for("datagrams", || counters.records() == COUNT as u64);
        drop(producer);
        running.end();
        receiver.set_nonblocking(true).unwrap();
        let mut message = [0; 9000];
        let length = receiver.recv(&mut message).unwrap();
        check_syslog(str::from_utf8(&message[..length]).unwrap());
    }
}

/// Checks that a text is one event, and returns the identifier of its record.
fn event_id(schema: Schema, text: &str) -> String {
    assert!(!text.contains('\n'), "{text}");
    let event: Value = serde_json::from_str(text).unwrap();
    let id = match schema {
        Schema::Ocsf => {
            assert_eq!(event["class_uid"], 1007, "{event}");
            &event["metadata"]["uid"]
        }
        Schema::Ecs => {
            assert_eq!(event["event"]["action"], "process_created", "{event}");
            &event["event"]["id"]
        }
    };
    id.as_str().unwrap_or_else(|| panic!("no identifier in {event}")).to_owned()
}

#[test]
fn events_of_a_schema_are_lines_of_a_stream_or_datagrams() {
    const COUNT: usize = 100;
    for (kind, schema) in KINDS.into_iter().zip([Schema::Ocsf, Schema::Ecs]) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = datagrams.local_addr().unwrap();
        let stream = remote(tcp(address), Messages::Events(schema), kind, 1 << 20);
        let peer = Peer::udp(&to.ip().to_string(), to.port());
        let udp = remote(peer, Messages::Events(schema), kind, 1 << 20);
        let reader = thread::spawn(move || {
            let lines = BufReader::new(bounded::accept(&listener).unwrap()).lines();
            lines.map(|line| event_id(schema, &line.unwrap())).collect::<Vec<_>>()
        });
        let (mut producer, running) = start(vec![Box::new(stream), Box::new(udp)]);
        push_real(&mut producer, COUNT);
        let counters = running.counters.clone();
        wait_for("datagrams", || counters[1].records() == COUNT as u64);
        drop(producer);
        running.end();
        let ids = reader.join().unwrap();
        assert_eq!((ids.len(), counters[0].dropped()), (COUNT, 0));
        assert!(ids.is_sorted_by(|left, right| left < right));
        datagrams.set_nonblocking(true).unwrap();
        let mut message = vec![0; 65536];
        for id in &ids[..10] {
            let length = datagrams.recv(&mut message).unwrap();
            assert_eq!(event_id(schema, str::from_utf8(&message[..length]).unwrap()), *id);
        }
    }
}

#[test]
fn a_unix_socket_of_either_kind_takes_messages() {
    const COUNT: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    let send = |path: &Path| {
        let peer = Peer::unix(path, UnixKind::Any);
        let output = remote(peer, syslog(MessageFraming::LineFeed), OutputKind::IoUring, 1 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        push_real(&mut producer, COUNT);
        drop(producer);
        running.end();
    };
    let path = folder.path().join("datagrams");
    let receiver = UnixDatagram::bind(&path).unwrap();
    receiver.set_read_timeout(Some(bounded::BOUND)).unwrap();
    let reader = thread::spawn(move || {
        for _ in 0..COUNT {
            let mut message = [0; 9000];
            let length = receiver.recv(&mut message).unwrap();
            check_syslog(str::from_utf8(&message[..length]).unwrap());
        }
    });
    send(&path);
    reader.join().unwrap();

    let path = folder.path().join("stream");
    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || {
        let lines = BufReader::new(bounded::accept(&listener).unwrap()).lines();
        lines.map(|line| check_syslog(&line.unwrap())).count()
    });
    send(&path);
    assert_eq!(reader.join().unwrap(), COUNT);
    fs::remove_file(&path).unwrap();
}

#[test]
fn a_compact_header_is_whole_again_on_a_new_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = tcp(listener.local_addr().unwrap());
    let output = remote(peer, Messages::Json { is_compact: true }, OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    for _ in 0..2 {
        let mut stream = BufReader::new(bounded::accept(&listener).unwrap());
        push_real(&mut producer, 3);
        let mut has_lists = Vec::new();
        for _ in 0..3 {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let record: Value = serde_json::from_str(&line).unwrap();
            let workload = &record["workload_information"];
            has_lists.push(workload.get("workload_networking_interfaces").is_some());
        }
        assert_eq!(has_lists, [true, false, false]);
    }
    running.stop.store(true, Ordering::Relaxed);
    drop(producer);
    running.thread.join().unwrap();
}

/// Reads messages of the Forward protocol and acknowledges so many; returns the counters of all
/// records that came.
fn read_forward(mut stream: TcpStream, acknowledged: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0.. {
        let Ok(message) = rmpv::decode::read_value(&mut stream) else { break };
        let parts = message.as_array().unwrap();
        assert_eq!(parts[0].as_str(), Some("sensor"));
        let entries = parts[1].as_array().unwrap();
        let option = |key: &str| {
            let mut options = parts[2].as_map().unwrap().iter();
            options.find(|(found, _)| found.as_str() == Some(key)).unwrap().1.clone()
        };
        assert_eq!(option("size").as_u64(), Some(entries.len() as u64));
        for entry in entries {
            let [time, record] = &entry.as_array().unwrap()[..] else { panic!("{entry}") };
            let (kind, time) = time.as_ext().unwrap();
            assert_eq!((kind, time.len()), (0, 8));
            let record = serde_json::to_value(record).unwrap();
            assert_eq!(record["activity_data"]["name"], "process_created");
            ids.push(record["message_id"].as_str().unwrap().to_owned());
        }
        if number == acknowledged {
            break;
        }
        let answer = rmpv::Value::Map(vec![("ack".into(), option("chunk"))]);
        rmpv::encode::write_value(&mut stream, &answer).unwrap();
    }
    ids
}

#[test]
fn forward_messages_are_sent_until_they_are_acknowledged() {
    const COUNT: usize = 2000;
    for kind in KINDS {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = tcp(listener.local_addr().unwrap());
        let messages = Messages::Forward(Forward::new("sensor", false, 0xfeed));
        let (mut producer, running) = start(vec![Box::new(remote(peer, messages, kind, 16 << 20))]);
        let reader = thread::spawn(move || {
            let first = read_forward(bounded::accept(&listener).unwrap(), 2);
            (first, read_forward(bounded::accept(&listener).unwrap(), usize::MAX))
        });
        push_real(&mut producer, COUNT);
        drop(producer);
        let counters = Arc::clone(&running.counters[0]);
        running.end();
        let (first, second) = reader.join().unwrap();
        assert!(first.is_sorted() && second.is_sorted());
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
        assert_eq!(counters.connections(), 2);
        let again = first.iter().filter(|id| second.contains(id)).count();
        assert!(again > 0, "the third message was not acknowledged");
        assert_eq!(first.len() + second.len() - again, COUNT);
    }
}

/// Further messages, which it reads, are no sign that it will.
#[test]
fn a_receiver_that_acknowledges_nothing_gets_everything_again_after_a_minute() {
    /// How much faster the writer's clock is.
    const FASTER: u128 = 200;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = tcp(listener.local_addr().unwrap());
    let messages = Messages::Forward(Forward::new("sensor", false, 0xfeed));
    let output = remote(peer, messages, OutputKind::IoUring, 16 << 20);
    let counters = Arc::clone(output.counters());
    let (mut producer, consumer) = queue(LARGE, &Waker::default());
    let mut writer = Writer::new(vec![consumer], vec![Box::new(output)]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let start = Instant::now();
            writer.run(&|| (start.elapsed().as_nanos() * FASTER) as u64, &stop)
        });
        scope.spawn(|| {
            // Both connections stay open, and everything is read.
            for stream in bounded::incoming(&listener).take(2) {
                let mut stream = stream.unwrap();
                thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        // A record every two seconds, by that clock.
        wait_for("second connection", || {
            push_real(&mut producer, 1);
            thread::sleep(Duration::from_millis(10));
            counters.connections() == 2
        });
        stop.store(true, Ordering::Relaxed);
        drop(producer);
    });
    assert_eq!(counters.records(), 0);
}

#[test]
fn what_waits_on_the_disk_is_sent_after_a_restart() {
    const COUNT: usize = 5000;
    let folder = tempfile::tempdir().unwrap();
    let port = Port::reserve().unwrap();
    let address = port.address();
    let output = || {
        RemoteOutput::new(RemoteSettings {
            peer: tcp(address),
            tls: None,
            messages: JSON,
            filter: Filter::ALL,
            backlog: Backlog::open(1 << 20, folder.path(), 64 << 20).unwrap(),
            kind: OutputKind::IoUring,
            seed: 7,
        })
    };
    let (mut producer, running) = start(vec![Box::new(output().unwrap())]);
    push(&mut producer, 0..COUNT / 2);
    drop(producer);
    let counters = Arc::clone(&running.counters[0]);
    running.end();
    assert_eq!((counters.records(), counters.dropped()), (0, 0));

    let listener = TcpListener::bind(address).unwrap();
    let reader = thread::spawn(move || read_all(bounded::accept(&listener).unwrap()));
    let (mut producer, running) = start(vec![Box::new(output().unwrap())]);
    push(&mut producer, COUNT / 2..COUNT);
    drop(producer);
    let counters = Arc::clone(&running.counters[0]);
    running.end();
    assert!(reader.join().unwrap().into_iter().eq(0..COUNT));
    assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
}
