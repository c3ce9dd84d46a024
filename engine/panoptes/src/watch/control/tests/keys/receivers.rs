//! Receivers: each key of one changes the next connection to it.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};
use std::thread;

use panoptes_bounded::{self as bounded, Port};
use serde_json::json;

use super::super::load::*;
use super::super::*;
use super::{Row, row};

const RECEIVER: &str = "each_key_of_a_receiver_applies_to_the_next_connection";
const BACKLOG: &str = "what_waits_for_a_receiver_has_the_room_of_a_reload";
const DISK: &str = "what_waits_for_a_receiver_is_on_the_disk_after_a_reload";
const AUTHORITY: &str = "another_authority_of_a_receiver_applies_to_the_next_connection";
const NAME: &str = "another_name_of_a_receiver_applies_to_the_next_connection";
const CERTIFICATE: &str = "another_certificate_and_its_key_apply_to_the_next_connection";
const FIRST: &str = "output.telemetry[0]";

const ROWS: &[Row] = &[
    row("output.telemetry", "", RECEIVER),
    row("output.telemetry[0].address", "", RECEIVER),
    row("output.telemetry[0].transport", "\"udp\"", RECEIVER),
    row("output.telemetry[0].format", "\"syslog\"", RECEIVER),
    row("output.telemetry[0].framing", "\"lf\"", RECEIVER),
    row("output.telemetry[0].facility", "\"user\"", RECEIVER),
    row("output.telemetry[0].tag", "\"another tag\"", RECEIVER),
    row("output.telemetry[0].envelope", "\"splunk\"", RECEIVER),
    row("output.telemetry[0].headers", "{\"Token\": \"second\"}", RECEIVER),
    row("output.telemetry[0].preset", "\"alerts\"", RECEIVER),
    row("output.telemetry[0].severity", "\"HIGH\"", RECEIVER),
    row("output.telemetry[0].activities", "[\"process_terminated\"]", RECEIVER),
    row("output.telemetry[0].systems", "[\"other\"]", RECEIVER),
    row("output.telemetry[0].header", "\"compact\"", RECEIVER),
    row("output.telemetry[0].backlog.memory", "\"64KiB\"", BACKLOG),
    row("output.telemetry[0].backlog.disk", "\"1MiB\"", DISK),
    row("output.telemetry[0].tls.ca", "", AUTHORITY),
    row("output.telemetry[0].tls.server_name", "", NAME),
    row("output.telemetry[0].tls.certificate", "", CERTIFICATE),
    row("output.telemetry[0].tls.key", "", CERTIFICATE),
];

/// The rows of the table of keys.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    ROWS.iter().copied()
}

/// The key of the receiver and its other value.
fn changed(key: &str) -> (String, Value) {
    let key = format!("{FIRST}.{key}");
    let row = ROWS.iter().find(|row| row.key == key).unwrap();
    (key, row.value())
}

/// What arrived, by connection; all datagrams are one.
type Arrived = Arc<Mutex<Vec<Vec<u8>>>>;

/// Reads a connection to its end, and answers what wants an answer.
fn read(mut stream: impl Read + Write, number: usize, arrived: &Arrived) {
    let mut bytes = vec![0; 1 << 16];
    let mut answered = 0;
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        let mut arrived = arrived.lock().unwrap();
        let all = &mut arrived[number];
        all.extend(&bytes[..length]);
        let mut answers = Vec::new();
        if all.starts_with(b"POST ") {
            let requests = count(all, b"Content-Length: ");
            // The body of the last one may not be there yet: that delays nothing.
            (answered..requests).for_each(|_| answers.extend(b"HTTP/1.1 204 No Content\r\n\r\n"));
            answered = requests;
        } else {
            let chunks = chunks(all);
            for chunk in &chunks[answered.min(chunks.len())..] {
                answers.extend(b"\x81\xa3ack");
                answers.extend_from_slice(chunk);
            }
            answered = chunks.len();
        }
        if stream.write_all(&answers).is_err() {
            return;
        }
    }
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|window| *window == what).count()
}

/// The texts with which messages of the Forward protocol are acknowledged, as they are encoded.
fn chunks(bytes: &[u8]) -> Vec<&[u8]> {
    let name = b"\xa5chunk";
    let places = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name));
    let text = |at: usize| {
        let rest = &bytes[at + name.len()..];
        let length = match *rest.first()? {
            short @ 0xa0..=0xbf => 1 + usize::from(short & 0x1f),
            0xd9 => 2 + usize::from(*rest.get(1)?),
            _ => return None,
        };
        rest.get(..length)
    };
    places.filter_map(text).collect()
}

/// A receiver over TCP; its address, and what arrives.
fn receive() -> (SocketAddr, Arrived) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, arrived) = (listener.local_addr().unwrap(), Arrived::default());
    let kept = Arc::clone(&arrived);
    thread::spawn(move || {
        for (number, stream) in bounded::incoming(&listener).enumerate() {
            kept.lock().unwrap().push(Vec::new());
            let (stream, kept) = (stream.unwrap(), Arc::clone(&kept));
            thread::spawn(move || read(stream, number, &kept));
        }
    });
    (address, arrived)
}

/// Waits for so many bytes of the next connection after `number` others; returns what arrived.
fn next(service: &Service<'_>, arrived: &Arrived, number: usize) -> Vec<u8> {
    const ENOUGH: usize = 20_000;
    let bytes = || arrived.lock().unwrap().get(number).map_or(0, Vec::len);
    service.driver.wait_for("connection", || bytes() > ENOUGH);
    arrived.lock().unwrap()[number].clone()
}

/// The whole lines of what arrived.
fn lines_of(bytes: &[u8]) -> Vec<Value> {
    let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let lines = bytes[..whole].split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// The settings that each check begins with.
fn plain(address: SocketAddr) -> Value {
    json!([{"address": address.to_string()}])
}

/// Sets the receiver to `begin`, and then the key to its other value; returns what arrives on the
/// next connection.
fn change(
    service: &Service<'_>,
    receiver: &(SocketAddr, Arrived),
    begin: &Value,
    key: &str,
) -> Vec<u8> {
    let (_, arrived) = receiver;
    let connections = || arrived.lock().unwrap().len();
    let before = connections();
    service.set(&[("output.telemetry", begin.clone())]);
    next(service, arrived, before);
    let (key, value) = changed(key);
    let before = connections();
    service.set(&[(key.as_str(), value)]);
    let bytes = next(service, arrived, before);
    service.set(&[("output.telemetry", json!([]))]);
    bytes
}

#[test]
fn each_key_of_a_receiver_applies_to_the_next_connection() {
    let (first, second) = (receive(), receive());
    let base = plain(first.0);
    let with = |more: Value| {
        let mut base = base.clone();
        let more = more.as_object().unwrap().clone();
        base[0].as_object_mut().unwrap().extend(more);
        base
    };
    let is_of_live = |record: &Value| record["workload_information"]["unique_identifier"] == LIVE;
    under_load(&[], REAL, |service| {
        let text = |begin: Value, key: &str| {
            String::from_utf8_lossy(&change(service, &first, &begin, key)).into_owned()
        };
        let records = |key: &str| lines_of(text(base.clone(), key).as_bytes());
        // A list that was empty, and another address.
        service.set(&[("output.telemetry", base.clone())]);
        next(service, &first.1, 0);
        let address = json!(second.0.to_string());
        service.set(&[("output.telemetry[0].address", address)]);
        next(service, &second.1, 0);
        service.set(&[("output.telemetry", json!([]))]);

        assert!(text(base.clone(), "format").contains(" <134>1 "), "octets are counted");
        let syslog = || with(json!({"format": "syslog"}));
        assert!(text(syslog(), "framing").starts_with("<134>1 "));
        assert!(text(syslog(), "facility").contains(" <14>1 "));
        assert!(text(with(json!({"format": "forward"})), "tag").contains("another tag"));
        let url = format!("http://{}/", first.0);
        let http = json!({"transport": "http", "address": url, "headers": {"Token": "first"}});
        assert!(text(with(http.clone()), "headers").contains("Token: second\r\n"));
        assert!(text(with(http), "envelope").contains(",\"event\":{"));

        let all = records("header");
        let lists =
            |record: &&Value| record["bluefield_system_information"].to_string().len() > 100;
        let of_live: Vec<_> = all.iter().filter(|record| is_of_live(record)).collect();
        assert!(of_live.len() > 3 && of_live.into_iter().filter(lists).count() <= 1);
        assert!(records("activities").iter().all(|one| name(one) == "process_terminated"));
    });
    // Each record that a connection has is whole, and follows the one before.
    for arrived in [&first.1, &second.1] {
        for bytes in arrived.lock().unwrap().iter().filter(|bytes| bytes.starts_with(b"{")) {
            let has_all = |records: &Vec<Value>| {
                records.iter().any(|one| name(one) == "file_descriptor_open")
            };
            if let Some(records) = Some(lines_of(bytes)).filter(has_all) {
                check_row(&records);
            }
        }
    }
}

/// Keys with which little arrives, and other transports.
#[test]
fn each_choice_of_a_receiver_applies_to_the_next_connection() {
    let (address, arrived) = receive();
    let datagrams = UdpSocket::bind(address).unwrap();
    let (_, kept) = under_load(&[], REAL, |service| {
        for key in ["preset", "severity", "systems"] {
            let before = arrived.lock().unwrap().len();
            service.set(&[("output.telemetry", plain(address))]);
            next(service, &arrived, before);
            let (path, value) = changed(key);
            service.set_and_scan(&[(path.as_str(), value)]);
            // What it gets: an alert of the machine, or a record of the service.
            let pid = service.live.act(|machine| {
                let pid = machine.fork(1);
                machine.hide(pid);
                pid
            });
            let all = || -> Vec<Value> {
                let arrived = arrived.lock().unwrap();
                arrived[before + 1..].iter().flat_map(|bytes| lines_of(bytes)).collect()
            };
            if key == "systems" {
                service.set(&[("service.log_level", json!(60))]);
                service.driver.wait_for(key, || {
                    all().iter().any(|one| name(one) == "configuration_reloaded")
                });
                service.set(&[("service.log_level", json!(50))]);
                assert!(
                    all()
                        .iter()
                        .all(|one| one["workload_information"]["unique_identifier"] != LIVE)
                );
            } else {
                service.driver.wait_for(key, || {
                    all().iter().any(|one| name(one) == "process_hidden" && is_of(one, pid))
                });
                assert!(all().iter().all(|one| name(one) != "process_created"), "{key}");
            }
            service.live.act(move |machine| machine.kill(pid));
            service.set(&[("output.telemetry", json!([]))]);
        }
        service.set(&[("output.telemetry", plain(address))]);
        let (path, value) = changed("transport");
        service.set(&[(path.as_str(), value)]);
        datagrams.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut bytes = vec![0; 1 << 16];
        let length = datagrams.recv(&mut bytes).unwrap();
        assert_eq!(lines_of(&[&bytes[..length], b"\n"].concat()).len(), 1);
        // A socket on this machine.
        let path = service.driver.folder.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let unix = json!([{"transport": "unix", "address": path.display().to_string()}]);
        service.set(&[("output.telemetry", unix)]);
        let mut stream = bounded::accept(&listener).unwrap();
        stream.read_exact(&mut bytes[..1]).unwrap();
        assert_eq!(bytes[0], b'{');
        let drain = thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        service.set(&[("output.telemetry", json!([]))]);
        drain.join().unwrap().unwrap();
    });
    let text = kept.text();
    // Memory may be limited here (`ulimit -l`).
    let is_wrong = |line: &&str| line.contains("cannot") && !line.contains("cannot lock memory");
    assert_eq!(text.lines().filter(is_wrong).collect::<Vec<_>>(), [""; 0], "{text}");
}

/// Receives from now on, so that the end waits for nothing.
fn drain(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for stream in bounded::incoming(&listener) {
            let _ = std::io::copy(&mut stream.unwrap(), &mut std::io::sink());
        }
    });
}

#[test]
fn what_waits_for_a_receiver_has_the_room_of_a_reload() {
    const MOST: u64 = 1 << 20;
    let port = Port::reserve().unwrap();
    let absent = port.address();
    // What waits is lost at the end.
    let _ = watch(&[("output.telemetry", plain(absent))], REAL, |service| {
        let counters = || service.figures.counters(&format!("{absent} (tcp)"));
        let has_much = || counters().is_some_and(|it| it.waiting_bytes() > MOST);
        service.driver.wait_for("more than there will be room for", has_much);
        let before = counters().unwrap();
        assert_eq!(before.dropped(), 0);
        let (path, value) = changed("backlog.memory");
        service.set(&[(path.as_str(), value)]);
        let after = || counters().filter(|after| !Arc::ptr_eq(after, &before));
        service.driver.wait_for("losses", || after().is_some_and(|after| after.dropped() > 0));
        let waiting = after().unwrap().waiting_bytes();
        // The least room is some blocks.
        assert!(waiting <= MOST, "{waiting} bytes");
        drain(absent);
    });
}

#[test]
fn what_waits_for_a_receiver_is_on_the_disk_after_a_reload() {
    let port = Port::reserve().unwrap();
    let absent = port.address();
    let more = [
        ("output.telemetry", plain(absent)),
        ("output.telemetry[0].backlog.memory", json!("64KiB")),
    ];
    let _ = watch(&more, REAL, |service| {
        let folder = service.driver.folder.join("state/backlog");
        assert!(!folder.exists());
        let (path, value) = changed("backlog.disk");
        service.set(&[(path.as_str(), value)]);
        let files = || fs::read_dir(&folder).into_iter().flatten().flatten();
        let has_files =
            || files().any(|entry| fs::read_dir(entry.path()).is_ok_and(|all| all.count() > 1));
        service.driver.wait_for("files", has_files);
        drain(absent);
    });
}
