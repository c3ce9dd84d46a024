//! `panoptes flow --system`: flows of a guest have the processes that hold their sockets, and a
//! connection or datagrams without a socket are an alert.
//!
//! The guest's second interface is a tap in a network namespace of the test. The peer of all
//! connections is the test itself.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use panoptes_bounded as bounded;
use panoptes_rig::{Flavor, Guest, GuestSpec, WIRE, gate, tied};
use serde_json::Value;
use tempfile::TempDir;

use crate::watcher::PATIENCE;
use crate::{inside, module};

/// The guest, and its peer.
const GUEST: [u8; 4] = [10, 9, 0, 2];
const PEER: &str = "10.9.0.1";
/// A port at which a program listens, one at which the peer does, and one at which nobody does.
const SERVED: u16 = 5555;
const CALLED: u16 = 7777;
const HIDDEN: u16 = 4444;
/// A port from which the peer sends a file.
const SENDER: u16 = 6001;
/// How long connections last: several status intervals.
const LASTING: Duration = Duration::from_secs(6);
/// The time between two messages on a connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Boots a guest, and moves this thread into its network; `None` without the permission.
fn boot(change: impl FnOnce(&mut GuestSpec)) -> Option<Guest> {
    if !panoptes_needs::skip::can_make_networks() || !panoptes_needs::skip::has("/dev/net/tun") {
        return None;
    }
    let mut guest = inside::boot_with(Flavor::V6_1, |spec| {
        spec.network = true;
        change(spec);
    });
    let namespace = File::open(format!("/proc/{}/ns/net", guest.qemu_pid())).unwrap();
    setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    // Else the kernels send neighbour discovery.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{WIRE}/disable_ipv6"), "1");
    for arguments in [format!("addr add {PEER}/24 dev {WIRE}"), format!("link set {WIRE} up")] {
        let output =
            bounded::output(Command::new("ip").args(arguments.split(' '))).expect("iproute2");
        assert!(output.status.success(), "ip {arguments}: {output:?}");
    }
    inside::run(&mut guest, "ip addr add 10.9.0.2/24 dev eth1 && ip link set eth1 up");
    inside::until(&mut guest, &format!("ping -c 1 -W 1 {PEER} >/dev/null 2>&1"));
    Some(guest)
}

/// `panoptes flow` on the wire of a guest.
struct Auditor {
    process: Child,
    folder: TempDir,
}

impl Auditor {
    fn start(guest: &Guest) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let process = tied(env!("CARGO_BIN_EXE_panoptes"))
            .args(["flow", "-X", "-S", "1", "-i", WIRE, "--system"])
            .arg(guest.ram_path())
            .arg("--alerts")
            .arg(place("alerts"))
            .arg("-w")
            .arg(format!("json:{}", place("flows").display()))
            .arg("-D1")
            .stderr(File::create(place("messages")).unwrap())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program starts");
        let auditor = Self { process, folder };
        // The first record, of the sensor, comes when all is open and the system was scanned.
        let begin = Instant::now();
        while auditor.lines("flows").is_empty() {
            assert!(begin.elapsed() < PATIENCE, "{}", auditor.messages());
            std::thread::sleep(PAUSE);
        }
        auditor
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn messages(&self) -> String {
        std::fs::read_to_string(self.path("messages")).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<Value> {
        read(&self.path(name))
    }

    /// Ends the auditor. Its flow records, and its alerts.
    fn stop(mut self) -> (Vec<Value>, Vec<Value>) {
        kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM).unwrap();
        let status = bounded::wait(&mut self.process).unwrap();
        let messages = self.messages();
        assert!(status.success(), "{status}: {messages}");
        println!("{messages}");
        let mut flows = self.lines("flows");
        flows.retain(|line| line["kind"] == "flow");
        (flows, self.lines("alerts"))
    }
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Connects to a port of the guest, which may not listen yet.
fn connect(port: u16) -> TcpStream {
    let begin = Instant::now();
    loop {
        match bounded::connect(SocketAddr::from((GUEST, port))) {
            Ok(stream) => return stream,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "port {port}: {error}"),
        }
        std::thread::sleep(PAUSE);
    }
}

/// Sends messages for a while, and reads what comes back if the other end `answers`.
fn talk(stream: &mut TcpStream, answers: bool) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < LASTING {
        stream.write_all(b"hello\n").unwrap();
        if answers {
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"hello\n");
        }
        std::thread::sleep(PAUSE);
    }
}

/// A socket that waits only as long as messages are apart.
fn datagrams(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((PEER, port)).unwrap();
    socket.set_read_timeout(Some(PAUSE)).unwrap();
    socket
}

/// Sends datagrams to a port of the guest for a while. The number of answers.
fn ask(socket: &UdpSocket, port: u16) -> usize {
    let begin = Instant::now();
    let mut answers = 0;
    while begin.elapsed() < LASTING {
        // The guest may answer that nobody is there.
        let _ = socket.send_to(b"hello\n", SocketAddr::from((GUEST, port)));
        let mut answer = [0; 6];
        answers += usize::from(socket.recv(&mut answer).is_ok());
        std::thread::sleep(PAUSE);
    }
    answers
}

/// The process at an end of the flows that have a port there.
fn processes<'a>(flows: &'a [Value], end: &str, port: u16) -> Vec<&'a Value> {
    let has_port = |flow: &&Value| flow[format!("{end}_port")] == port;
    let process = |flow: &'a Value| &flow[format!("{end}_process")];
    flows.iter().filter(has_port).map(process).collect()
}

/// Both ends of connections, and harmless packets without a socket: connections that are shorter
/// than the time between two scans, that have just ended, that were reset, TIME_WAIT, and ICMP.
#[test]
fn flows_have_the_processes_that_hold_their_sockets_and_nothing_harmless_is_an_alert() {
    let Some(mut guest) = boot(|_| ()) else { return };
    let auditor = Auditor::start(&guest);
    let listener = TcpListener::bind((PEER, CALLED)).unwrap();
    let server = inside::start(&mut guest, &format!("nc -l -p {SERVED} -e cat"));
    // With an input that does not end.
    let input = "mkfifo /tmp/input; sleep 600 >/tmp/input &";
    let call = format!("sh -c '{input} exec nc {PEER} {CALLED} </tmp/input'");
    let client = inside::start(&mut guest, &call);
    let mut served = connect(SERVED);
    let mut called = bounded::accept(&listener).unwrap();
    let calls = std::thread::spawn(move || {
        talk(&mut called, false);
        called
    });
    talk(&mut served, true);
    let called = calls.join().unwrap();
    // The server ends while its peer continues to send: the kernel answers by RST.
    inside::run(&mut guest, &format!("kill -9 {server}; ping -c 2 {PEER} >/dev/null"));
    let begin = Instant::now();
    while begin.elapsed() < LASTING && served.write_all(b"hello\n").is_ok() {
        std::thread::sleep(PAUSE);
    }
    drop(called);
    let many = format!("for i in 1 2 3 4 5 6 7 8; do nc -l -p {SERVED} -e true; done");
    inside::start(&mut guest, &format!("sh -c '{many}'"));
    for _ in 0..8 {
        let mut rest = Vec::new();
        let _ = connect(SERVED).read_to_end(&mut rest);
    }
    inside::run(&mut guest, &format!("echo datagram | nc -u -w 1 {PEER} 9; true"));
    std::thread::sleep(Duration::from_secs(3));
    let (flows, alerts) = auditor.stop();
    let number = |process: &Value| process["process_id"].as_u64();
    let of_server = processes(&flows, "destination", SERVED);
    let known = of_server.iter().filter(|process| number(process) == Some(server)).count();
    // One record a second.
    assert!(known >= 4, "{server}: {of_server:?}");
    let of_client = processes(&flows, "source", of_called(&flows));
    assert!(
        of_client.iter().filter(|one| number(one) == Some(client)).count() >= 4,
        "{of_client:?}"
    );
    assert!(of_client.iter().all(|one| one.is_null() || one["process_name"] == "nc"));
    assert_eq!(alerts, Vec::<Value>::new());
}

/// Datagrams of several kinds: of a socket that is not connected, and to which a peer has begun; of
/// one that has just closed, of sockets that live as long as a question, of a log that has no
/// answers, of traceroute, and of the client of DHCP.
#[test]
fn datagrams_have_the_processes_of_their_sockets_and_no_harmless_ones_are_an_alert() {
    let Some(mut guest) = boot(|_| ()) else { return };
    let auditor = Auditor::start(&guest);
    // TFTP (RFC 1350): a server sends its data from a port of its own.
    let requests = datagrams(69);
    let client = inside::start(&mut guest, &format!("tftp -g -r a -l /tmp/a -b 512 {PEER}"));
    let sender = datagrams(SENDER);
    let answers = send_file(&requests, &sender, LASTING);
    assert!(answers >= 10, "{answers}");
    inside::run(&mut guest, &format!("kill -9 {client}; syslogd -R {PEER}:514"));
    // Its peer continues to send, and the kernel answers by ICMP.
    let begin = Instant::now();
    while begin.elapsed() < LASTING {
        let _ = sender.send(&[0, 3, 0, 9]);
        inside::run(&mut guest, "logger a");
        std::thread::sleep(PAUSE);
    }
    let names = datagrams(53);
    let many = format!("for i in 1 2 3 4 5 6; do nslookup a.b {PEER}; done");
    inside::start(&mut guest, &format!("sh -c '{many}'"));
    answer_names(&names, LASTING);
    let others = format!("udhcpc -i eth1 -s /bin/true -n -q -t 2 -T 1; traceroute -m 2 {PEER}");
    inside::run(&mut guest, &format!("({others}) 2>&1; true"));
    let (flows, alerts) = auditor.stop();
    let of_client = processes(&flows, "destination", sender_of(&flows));
    let is_it = |process: &&&Value| process["process_id"].as_u64() == Some(client);
    assert!(of_client.iter().filter(is_it).count() >= 4, "{client}: {of_client:?}");
    for port in [514, 53] {
        assert!(flows.iter().any(|flow| flow["destination_port"] == port), "no flow of {port}");
    }
    assert_eq!(alerts, Vec::<Value>::new());
}

/// The port of the guest to which the sender of a file has sent.
fn sender_of(flows: &[Value]) -> u16 {
    let flow = flows.iter().find(|flow| flow["source_port"] == SENDER).expect("the file");
    flow["destination_port"].as_u64().unwrap() as u16
}

/// Answers a request of TFTP by blocks, for a while. The number of blocks that were acknowledged.
fn send_file(requests: &UdpSocket, sender: &UdpSocket, time: Duration) -> usize {
    let mut bytes = [0; 600];
    let begin = Instant::now();
    let client = loop {
        assert!(begin.elapsed() < PATIENCE, "no request");
        if let Ok((_, from)) = requests.recv_from(&mut bytes) {
            break from;
        }
    };
    sender.connect(client).unwrap();
    let mut answers = 0;
    let begin = Instant::now();
    for number in 1_u16.. {
        if begin.elapsed() > time {
            break;
        }
        let mut block = [b'a'; 4 + 512];
        block[..2].copy_from_slice(&[0, 3]);
        block[2..4].copy_from_slice(&number.to_be_bytes());
        sender.send(&block).unwrap();
        answers += usize::from(sender.recv(&mut bytes).is_ok());
        std::thread::sleep(PAUSE);
    }
    answers
}

/// Answers queries of DNS by themselves, until none has come for a while.
fn answer_names(socket: &UdpSocket, patience: Duration) {
    let mut last = Instant::now();
    let mut bytes = [0; 512];
    while last.elapsed() < patience {
        if let Ok((length, from)) = socket.recv_from(&mut bytes) {
            // QR (RFC 1035 section 4.1.1).
            bytes[2] |= 0x80;
            socket.send_to(&bytes[..length], from).unwrap();
            last = Instant::now();
        }
    }
}

/// The port from which the guest has called.
fn of_called(flows: &[Value]) -> u16 {
    let flow = flows.iter().find(|flow| flow["destination_port"] == CALLED).expect("the call");
    flow["source_port"].as_u64().unwrap() as u16
}

/// The same of UDP. One peer asks for long, and another one later.
#[test]
fn datagrams_that_the_kernel_answers_without_a_socket_are_reported_once() {
    let name = "datagrams_that_the_kernel_answers_without_a_socket_are_reported_once";
    let Some(mut guest) = boot_with_module(name) else { return };
    let auditor = Auditor::start(&guest);
    inside::run(&mut guest, &format!("insmod /answer.ko port={HIDDEN}"));
    let ports = [5001, 5002];
    for port in ports {
        let socket = datagrams(port);
        let answers = ask(&socket, HIDDEN) + ask(&socket, HIDDEN);
        assert!(answers >= 10, "{answers}");
    }
    let sockets = inside::run(&mut guest, "cat /proc/net/udp");
    assert!(!sockets.iter().any(|line| line.contains(&format!(":{HIDDEN:04X} "))), "{sockets:?}");
    let (flows, alerts) = auditor.stop();
    for alert in &alerts {
        println!("{}", alert["detection"]["reason"]);
    }
    assert!(processes(&flows, "destination", HIDDEN).iter().all(|process| process.is_null()));
    let facts: Vec<_> = alerts
        .iter()
        .map(|alert| {
            let details = &alert["activity_data"]["network_connection_details"];
            assert_eq!(
                (&details["protocol"], &details["source_port"]),
                (&"UDP".into(), &HIDDEN.into())
            );
            assert_eq!(alert["detection"]["confidence"], "high");
            let name = alert["activity_data"]["name"].as_str().unwrap();
            (name.to_owned(), details["destination_port"].as_u64())
        })
        .collect();
    let connection = |port: u64| ("hidden_connection_detected".to_owned(), Some(port));
    let listeners = facts.iter().filter(|fact| fact.0 == "hidden_listener_detected").count();
    assert_eq!(listeners, 1, "{facts:?}");
    for port in ports {
        let count = facts.iter().filter(|fact| **fact == connection(port.into())).count();
        assert_eq!(count, 1, "{port}: {facts:?}");
    }
    assert_eq!(facts.len(), 3, "{facts:?}");
}

/// Boots a guest that has the module which answers; `None` if it may not.
fn boot_with_module(test: &str) -> Option<Guest> {
    if !gate::is_long_allowed(test, "makes a kernel module") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let module = module::make(Flavor::V6_1, folder.path(), module::ANSWER);
    let files = vec![("answer.ko".to_owned(), module)];
    boot(|spec| spec.files.extend(files))
}

/// A kernel module answers at a port. Nothing in the guest shows that.
#[test]
fn a_connection_that_the_kernel_denies_is_reported_once_with_its_listener() {
    let name = "a_connection_that_the_kernel_denies_is_reported_once_with_its_listener";
    let Some(mut guest) = boot_with_module(name) else { return };
    let auditor = Auditor::start(&guest);
    inside::run(&mut guest, &format!("insmod /answer.ko port={HIDDEN}"));
    let begin = Instant::now();
    while begin.elapsed() < 2 * LASTING && auditor.lines("alerts").len() < 2 {
        // Twice at the same port: the listener is reported once.
        talk(&mut connect(HIDDEN), true);
    }
    let sockets = inside::run(&mut guest, "cat /proc/net/tcp");
    assert!(!sockets.iter().any(|line| line.contains(&format!(":{HIDDEN:04X} "))), "{sockets:?}");
    let (flows, alerts) = auditor.stop();
    for alert in &alerts {
        println!("{}", alert["detection"]["reason"]);
    }
    assert!(processes(&flows, "destination", HIDDEN).iter().all(|process| process.is_null()));
    let named = |name: &str| {
        let is_it = |alert: &&Value| alert["activity_data"]["name"] == name;
        alerts.iter().filter(is_it).collect::<Vec<_>>()
    };
    let ports: std::collections::BTreeSet<_> = flows
        .iter()
        .filter(|flow| flow["destination_port"] == HIDDEN)
        .map(|flow| flow["source_port"].as_u64())
        .collect();
    let connections = named("hidden_connection_detected");
    assert_eq!(connections.len(), ports.len(), "{ports:?}");
    for alert in &connections {
        let details = &alert["activity_data"]["network_connection_details"];
        assert_eq!(details["source_ip_address"], "10.9.0.2");
        assert_eq!(details["source_port"], HIDDEN);
        assert_eq!(details["destination_ip_address"], PEER);
        assert!(ports.contains(&details["destination_port"].as_u64()));
        assert_eq!(alert["severity"], "HIGH");
        assert_eq!(alert["detection"]["confidence"], "high");
    }
    let listeners = named("hidden_listener_detected");
    assert_eq!(listeners.len(), 1);
    let details = &listeners[0]["activity_data"]["network_connection_details"];
    assert_eq!(
        (&details["source_port"], &details["connection_state"]),
        (&HIDDEN.into(), &"LISTEN".into())
    );
    assert_eq!(alerts.len(), connections.len() + 1);
}
