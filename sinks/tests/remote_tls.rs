//! Records over TLS to receivers on this machine, and what each mistake in certificates says.

#![allow(clippy::unwrap_used, reason = "a test may")]

#[path = "common/certificates.rs"]
mod certificates;
#[path = "../../engine/records/tests/common/mod.rs"]
mod common;
#[path = "common/receivers.rs"]
mod receivers;

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use certificates::{Authority, Identity, Kind};
use panoptes_bounded as bounded;
use panoptes_sinks::output::OutputKind;
use panoptes_sinks::output::remote::{TlsConnector, TlsFiles};
use receivers::{JSON, KINDS, check_way, number, push, remote_over, start, tcp, wait_for};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

const NAME: &str = "logs.example.com";
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

type Encrypted = StreamOwned<ServerConnection, TcpStream>;

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Encrypted {
    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
    StreamOwned::new(connection, bounded::accept(listener).unwrap())
}

/// Reads a connection to its end; returns the numbers of its records, and whether the end was
/// announced.
fn read_all(stream: Encrypted) -> (Vec<usize>, bool) {
    let mut lines = BufReader::new(stream);
    let mut numbers = Vec::new();
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            Ok(0) => return (numbers, true),
            Ok(_) if line.ends_with('\n') => numbers.push(number(line.trim_end())),
            Ok(_) | Err(_) => return (numbers, false),
        }
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_receiver_gets_every_record_once_in_order_and_a_clean_end() {
    const COUNT: usize = 20_000;
    let authority = Authority::new("an authority");
    let identity = authority.sign(NAME, Kind::default());
    for (kind, version) in KINDS.into_iter().flat_map(|kind| [(kind, &TLS12), (kind, &TLS13)]) {
        let (listener, address) = listener();
        let config = identity.server(&[version], None);
        let reader = thread::spawn(move || read_all(accept(&listener, &config)));
        let tls = Some(authority.client(NAME, None));
        let output = remote_over(tls, tcp(address), JSON, kind, 64 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        push(&mut producer, 0..COUNT);
        drop(producer);
        let counters = Arc::clone(&running.counters[0]);
        running.end();
        let (numbers, is_clean) = reader.join().unwrap();
        assert!(numbers.into_iter().eq(0..COUNT));
        assert!(is_clean);
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
        assert_eq!((counters.connections(), counters.errors()), (1, 0));
        check_way(&counters, kind);
    }
}

/// Connects as `tls` has it to a receiver with `config`; returns why that fails.
fn failure(config: Arc<ServerConfig>, tls: TlsConnector) -> String {
    let (listener, address) = listener();
    thread::spawn(move || {
        loop {
            let (numbers, _) = read_all(accept(&listener, &config));
            assert_eq!(numbers, Vec::<usize>::new());
        }
    });
    let output = remote_over(Some(tls), tcp(address), JSON, OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push(&mut producer, 0..10);
    let counters = Arc::clone(&running.counters[0]);
    wait_for("failure", || counters.errors() > 1);
    assert_eq!((counters.records(), counters.dropped()), (0, 0));
    let failure = counters.failure();
    let start = format!("cannot make a secure connection to {address} (tcp): ");
    let reason = failure.strip_prefix(&start);
    reason.unwrap_or_else(|| panic!("{failure}")).to_owned()
}

#[test]
fn a_receiver_without_the_right_certificate_gets_nothing() {
    let authority = Authority::new("an authority");
    let other = Authority::new("another authority");
    let check = |identity: &Identity, expected: &str| {
        let reason = failure(identity.server(BOTH, None), authority.client(NAME, None));
        assert_eq!(reason, expected);
    };
    check(
        &other.sign(NAME, Kind::default()),
        "nobody who is trusted has signed the receiver's certificate; name the file of who has in \
         `tls.ca`",
    );
    check(
        &authority.sign("other.example.com", Kind::default()),
        "the receiver's certificate is not for `logs.example.com`, but for \
         DnsName(\"other.example.com\"); set `tls.server_name`",
    );
    let kind = Kind { is_expired: true, ..Kind::default() };
    check(&authority.sign(NAME, kind), "the receiver's certificate has expired");
    let kind = Kind { is_authority: true, ..Kind::default() };
    check(
        &authority.sign(NAME, kind),
        "the receiver shows the certificate of an authority as its own; make one for it that the \
         authority signs",
    );
}

#[test]
fn a_receiver_that_does_not_speak_tls_is_recognised() {
    let authority = Authority::new("an authority");
    let (listener, address) = listener();
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let mut stream = stream.unwrap();
            let _ = std::io::Write::write_all(&mut stream, b"220 hello\r\n");
            let _ = stream.read(&mut [0; 100]);
        }
    });
    let tls = Some(authority.client(NAME, None));
    let output = remote_over(tls, tcp(address), JSON, OutputKind::IoUring, 1 << 20);
    let (mut producer, running) = start(vec![Box::new(output)]);
    push(&mut producer, 0..10);
    let counters = Arc::clone(&running.counters[0]);
    wait_for("failure", || counters.errors() > 0);
    let failure = counters.failure();
    assert!(failure.ends_with("the receiver does not speak TLS on this port"), "{failure}");
}

#[test]
fn a_receiver_that_demands_a_certificate_says_what_is_missing() {
    let authority = Authority::new("an authority");
    let identity = authority.sign(NAME, Kind::default());
    for &version in BOTH {
        let config = identity.server(&[version], Some(&authority));
        let reason = failure(config, authority.client(NAME, None));
        // TLS 1.2 has no word for it.
        let is_named = reason.starts_with("the receiver demands a certificate of its senders")
            || reason.starts_with("the receiver refuses the certificate in `tls.certificate`, or")
            || reason.starts_with("the receiver has refused (HandshakeFailure)");
        assert!(is_named, "{reason}");
        let stranger = Authority::new("another authority").sign("sensor", Kind::default());
        let config = identity.server(&[version], Some(&authority));
        let reason = failure(config, authority.client(NAME, Some(&stranger)));
        let expected = "the receiver refuses the certificate in `tls.certificate`, or the lack of";
        assert!(reason.starts_with(expected), "{reason}");
    }
}

/// In TLS 1.3, this side can send before the receiver refuses it. What it sent then is not lost.
#[test]
fn what_was_sent_before_a_certificate_was_refused_is_sent_again() {
    const COUNT: usize = 5000;
    let (authority, other) = (Authority::new("an authority"), Authority::new("another"));
    let identity = authority.sign(NAME, Kind::default());
    let refusing = identity.server(BOTH, Some(&other));
    let accepting = identity.server(BOTH, Some(&authority));
    for kind in KINDS {
        let (listener, address) = listener();
        let (refusing, accepting) = (Arc::clone(&refusing), Arc::clone(&accepting));
        let reader = thread::spawn(move || {
            for _ in 0..3 {
                let mut stream = accept(&listener, &refusing);
                while !stream.conn.wants_write() {
                    stream.conn.read_tls(&mut stream.sock).unwrap();
                    stream.conn.process_new_packets().unwrap();
                }
                while stream.conn.wants_write() {
                    stream.conn.write_tls(&mut stream.sock).unwrap();
                }
                // Records lie behind the certificate when this side looks at it.
                thread::sleep(Duration::from_millis(50));
                let error = stream.read(&mut [0; 100]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidData);
            }
            read_all(accept(&listener, &accepting))
        });
        let sensor = authority.sign("sensor", Kind::default());
        let tls = Some(authority.client(NAME, Some(&sensor)));
        let output = remote_over(tls, tcp(address), JSON, kind, 16 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        push(&mut producer, 0..COUNT);
        let counters = Arc::clone(&running.counters[0]);
        wait_for("record", || counters.records() == COUNT as u64);
        drop(producer);
        running.end();
        let (numbers, is_clean) = reader.join().unwrap();
        assert!(numbers.into_iter().eq(0..COUNT));
        assert!(is_clean);
        assert_eq!((counters.connections(), counters.dropped()), (4, 0));
    }
}

/// As over TCP: what a receiver reads until it stops is whole. The next connection begins with a
/// whole record.
#[test]
fn a_receiver_that_restarts_goes_on_with_whole_records() {
    const COUNT: usize = 20_000;
    const CONNECTIONS: usize = 4;
    let authority = Authority::new("an authority");
    let config = authority.sign(NAME, Kind::default()).server(BOTH, None);
    for kind in KINDS {
        let (listener, address) = listener();
        let config = Arc::clone(&config);
        let reader = thread::spawn(move || {
            let mut connections = Vec::new();
            for _ in 1..CONNECTIONS {
                let mut part = vec![0; 100_000];
                accept(&listener, &config).read_exact(&mut part).unwrap();
                let whole = part.iter().rposition(|&byte| byte == b'\n').unwrap();
                let text = String::from_utf8(part[..whole].to_vec()).unwrap();
                connections.push(text.lines().map(number).collect());
            }
            connections.push(read_all(accept(&listener, &config)).0);
            connections
        });
        let tls = Some(authority.client(NAME, None));
        let output = remote_over(tls, tcp(address), JSON, kind, 16 << 20);
        let (mut producer, running) = start(vec![Box::new(output)]);
        push(&mut producer, 0..COUNT);
        drop(producer);
        let counters = Arc::clone(&running.counters[0]);
        running.end();
        let connections: Vec<Vec<usize>> = reader.join().unwrap();
        for connection in &connections {
            let first = connection[0];
            assert!(connection.iter().copied().eq(first..first + connection.len()));
        }
        assert_eq!(connections[0][0], 0);
        assert_eq!(connections[CONNECTIONS - 1].last(), Some(&(COUNT - 1)));
        assert_eq!((counters.records(), counters.dropped()), (COUNT as u64, 0));
    }
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (authority, other) = (Authority::new("an authority"), Authority::new("another"));
    let own = authority.sign("sensor", Kind::default());
    let certificate = authority.write("me.pem", &own.certificate.pem());
    let key = authority.write("me.key", &own.key.serialize_pem());
    let empty = authority.write("empty", "");
    let missing = authority.file().with_file_name("missing");
    let check = |ca: &std::path::Path, own: [&std::path::PathBuf; 2], name: &str, words: &str| {
        let [certificate, key] = own.map(Clone::clone);
        let own = Some((certificate, key));
        let files = TlsFiles { ca: Some(ca.to_owned()), own, server_name: name.to_owned() };
        let error = TlsConnector::read(&files, None).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    let ca = authority.file();
    check(&missing, [&certificate, &key], NAME, "missing: No such file or directory");
    check(&empty, [&certificate, &key], NAME, "empty: it has no certificate");
    check(&ca, [&empty, &key], NAME, "empty: it has no certificate");
    check(&ca, [&certificate, &empty], NAME, "empty: it has no private key in PEM form");
    check(&ca, [&certificate, &key], "a b", "`a b` is no valid name for a certificate");
    let stranger = other.sign("sensor", Kind::default());
    let key = authority.write("other.key", &stranger.key.serialize_pem());
    check(&ca, [&certificate, &key], NAME, "other.key do not fit: ");
}
