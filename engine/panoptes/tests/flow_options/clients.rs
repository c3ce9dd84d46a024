//! Clients on TCP and receivers of datagrams: -P, -B, --allow, `ra -S`, `radium`, argus-udp://.

use std::fs::read_to_string;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use panoptes_bounded as bounded;
use panoptes_traffic::Flow;

use crate::live::{facts, listen, truth};
use crate::network::{LEFT, RIGHT, enter, ip, send_all};
use crate::programs::{BOTH, Folder, PATIENCE, Running, Sensor, client, until};
use crate::stream::{Management, START, group, records};

/// The state of sockets in `/proc/net/tcp` (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";
const LISTENING: &str = "0A";

/// Local addresses of sockets of this network, in hexadecimal, that have a state.
fn sockets(protocol: &str, state: &str) -> Vec<String> {
    let table = read_to_string(format!("/proc/thread-self/net/{protocol}")).expect("procfs");
    let words = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let words = words.filter(|words| state.is_empty() || words[3] == state);
    words.map(|words| words[1].to_owned()).collect()
}

/// A port, as sockets have it in tables.
fn hexadecimal(port: u16) -> String {
    format!(":{port:04X}")
}

/// Waits until so many clients of a port are connected.
#[track_caller]
fn wait_for_clients(port: u16, count: usize) {
    let connected = || {
        let all = sockets("tcp", ESTABLISHED);
        all.iter().filter(|local| local.ends_with(&hexadecimal(port))).count()
    };
    until(|| format!("{} clients of port {port}", connected()), || connected() == count);
}

/// A sensor that serves clients at a port.
#[track_caller]
fn serving(sensor: Sensor, port: u16, options: &[&str]) -> Running {
    let port = port.to_string();
    let base = ["-S", "60", "-i", RIGHT[0], "-P", &port];
    listen(sensor, &mut sensor.with(&[&base, options].concat()), &[RIGHT[0]])
}

/// `ra` at this address, which writes what it receives to a file.
fn ra(address: &str, folder: &Folder, name: &str, filter: &[&str]) -> (Running, PathBuf) {
    let file = folder.path(name);
    let mut command = client("ra", &["-n", "-S", address, "-w"]);
    command.arg(&file).args(filter);
    (Running::start(&mut command), file)
}

/// Ends `ra` when it has read everything. By itself it would wait for the sensor to come back.
#[track_caller]
fn end_of_client(ra: Running) {
    ra.settle();
    ra.end(Signal::SIGINT);
}

/// Fails unless a client has received these flows. Argus may end before it has sent all or any.
#[track_caller]
fn has_received(sensor: Sensor, file: &Path, flows: &[Flow]) {
    if sensor == Sensor::Argus && !file.exists() {
        return;
    }
    let (mut received, expected) = (facts(file), truth(flows, "0.0.0.0"));
    if sensor == Sensor::Argus {
        received.extend(expected.clone());
        received.sort();
        received.dedup();
    }
    assert_eq!(received, expected, "{sensor:?}");
}

/// The ports of both sensors, as [`BOTH`] has them.
const PORTS: [u16; 2] = [5610, 5611];

#[test]
fn option_p_upper_serves_clients() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let [theirs, own] = [0, 1].map(|at| {
        let sensor = serving(BOTH[at], PORTS[at], &[]);
        let (ra, file) = ra(&format!("127.0.0.1:{}", PORTS[at]), &folder, &format!("{at}"), &[]);
        wait_for_clients(PORTS[at], 1);
        (sensor, ra, file)
    });
    own.0.wait_for("receives all records");
    theirs.0.settle();
    let capture = group(0);
    send_all(LEFT[0], &capture);
    for ((sensor, ra, file), name) in [theirs, own].into_iter().zip(BOTH) {
        sensor.settle();
        sensor.end(Signal::SIGTERM).succeeded();
        end_of_client(ra);
        has_received(name, &file, capture.flows());
    }
}

#[test]
fn option_p_upper_of_zero_serves_nobody() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let records = folder.text("records");
    for sensor in BOTH {
        let running = serving(sensor, 0, &["-w", &records]);
        assert!(sockets("tcp", LISTENING).is_empty());
        running.end(Signal::SIGTERM).succeeded();
    }
}

#[test]
fn option_b_upper_limits_where_clients_connect() {
    if !enter(1) {
        return;
    }
    let listening = |sensor, options: &[&str]| {
        let running = serving(sensor, PORTS[0], options);
        let sockets = sockets("tcp", LISTENING);
        running.end(Signal::SIGTERM).succeeded();
        sockets
    };
    let port = hexadecimal(PORTS[0]);
    for sensor in BOTH {
        // Addresses are in the byte order of the machine.
        assert_eq!(listening(sensor, &["-B", "127.0.0.1"]), [format!("0100007F{port}")]);
    }
    // Where argus listens on all addresses.
    assert_eq!(listening(Sensor::Panoptes, &[]), [format!("0100007F{port}")]);
    let two = listening(Sensor::Panoptes, &["-B", "127.0.0.1,127.0.0.2"]);
    assert_eq!(two.len(), 2);
}

#[test]
fn option_allow_refuses_other_networks() {
    if !enter(1) {
        return;
    }
    let sensor = serving(Sensor::Panoptes, PORTS[0], &["--allow", "10.0.0.0/8,127.0.0.2"]);
    let answer = |from: [u8; 4]| {
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket,
        };
        use std::os::fd::AsRawFd as _;
        let [a, b, c, d] = from;
        let stream = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
        let stream = stream.expect("a socket");
        bind(stream.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).expect("an address");
        connect(stream.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, PORTS[0]))
            .expect("a connection");
        let mut stream = TcpStream::from(stream);
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer");
        answer
    };
    // An error: no access. Else the first management record.
    assert_eq!(answer([127, 0, 0, 1]), [0x83, 0x81, 0, 1]);
    sensor.wait_for("127.0.0.1");
    assert_eq!(answer([127, 0, 0, 2]), [0x83, 0x10, 0, 32]);
    sensor.end(Signal::SIGTERM).succeeded();
}

#[test]
fn clients_have_filters_of_their_own() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let capture = group(0);
    let is_tcp = |flow: &&Flow| flow.protocol == "tcp";
    let tcp: Vec<_> = capture.flows().iter().filter(is_tcp).cloned().collect();
    let others: Vec<_> = capture.flows().iter().filter(|flow| !is_tcp(flow)).cloned().collect();
    let served = [0, 1].map(|at| {
        let sensor = serving(BOTH[at], PORTS[at], &[]);
        let address = format!("127.0.0.1:{}", PORTS[at]);
        let first = ra(&address, &folder, &format!("{at}.tcp"), &["-", "tcp"]);
        let second = ra(&address, &folder, &format!("{at}.others"), &["-", "not", "tcp"]);
        wait_for_clients(PORTS[at], 2);
        (sensor, first, second)
    });
    served[1].0.wait_for("receives records: man or (tcp)");
    served[1].0.wait_for("receives records: man or (not tcp)");
    served[0].0.settle();
    send_all(LEFT[0], &capture);
    for ((sensor, first, second), name) in served.into_iter().zip(BOTH) {
        sensor.settle();
        sensor.end(Signal::SIGTERM).succeeded();
        for ((ra, file), flows) in [(first, &tcp), (second, &others)] {
            end_of_client(ra);
            has_received(name, &file, flows);
        }
    }
}

#[test]
fn a_mistake_in_the_filter_of_a_client_is_answered() {
    use std::io::Write as _;
    if !enter(1) {
        return;
    }
    for (sensor, port) in BOTH.into_iter().zip(PORTS) {
        let running = serving(sensor, port, &[]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = bounded::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let mut first = [0; 128];
        stream.read_exact(&mut first).expect("a management record");
        assert_eq!(Management::read(&first).expect("a management record").cause, START);
        stream.write_all(b"FILTER: tcp and (").expect("sent");
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"SY", "{sensor:?}");
        running.end(Signal::SIGTERM).succeeded();
    }
}

#[test]
fn radium_relays_records_to_ra() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let sensor = serving(Sensor::Panoptes, PORTS[0], &[]);
    let from = format!("127.0.0.1:{}", PORTS[0]);
    let port = PORTS[1].to_string();
    let radium =
        Running::start(&mut client("radium", &["-S", &from, "-B", "127.0.0.1", "-P", &port]));
    sensor.wait_for("receives all records");
    until(
        || "radium does not listen".to_owned(),
        || sockets("tcp", LISTENING).iter().any(|local| local.ends_with(&hexadecimal(PORTS[1]))),
    );
    let (ra, file) = ra(&format!("127.0.0.1:{}", PORTS[1]), &folder, "records", &[]);
    wait_for_clients(PORTS[1], 1);
    radium.settle();
    let capture = group(0);
    send_all(LEFT[0], &capture);
    sensor.settle();
    sensor.end(Signal::SIGTERM).succeeded();
    radium.settle();
    end_of_client(ra);
    assert_eq!(facts(&file), truth(capture.flows(), "0.0.0.0"));
}

/// `ra -S argus-udp://`, once it listens.
#[track_caller]
fn ra_of_datagrams(address: &str, port: u16, folder: &Folder, name: &str) -> (Running, PathBuf) {
    let listener = ra(&format!("argus-udp://{address}:{port}"), folder, name, &[]);
    until(
        || format!("no listener at {port}"),
        || sockets("udp", "").iter().any(|local| local.ends_with(&hexadecimal(port))),
    );
    listener
}

#[test]
fn option_w_sends_datagrams() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let sent = [0, 1].map(|at| {
        let listener = ra_of_datagrams("127.0.0.1", PORTS[at], &folder, &format!("{at}"));
        let to = format!("argus-udp://127.0.0.1:{}", PORTS[at]);
        let options = ["-S", "60", "-i", RIGHT[0], "-w", &to];
        (listen(BOTH[at], &mut BOTH[at].with(&options), &[RIGHT[0]]), listener)
    });
    let capture = group(0);
    send_all(LEFT[0], &capture);
    for (sensor, (ra, file)) in sent {
        sensor.settle();
        sensor.end(Signal::SIGTERM).succeeded();
        end_of_client(ra);
        assert_eq!(facts(&file), truth(capture.flows(), "0.0.0.0"));
    }
}

#[test]
fn option_w_sends_datagrams_to_a_group() {
    const GROUP: &str = "224.0.20.21";
    if !enter(1) {
        return;
    }
    ip("link set lo multicast on");
    ip("route add 224.0.0.0/4 dev lo");
    let folder = Folder::new();
    let (ra, file) = ra_of_datagrams(GROUP, PORTS[0], &folder, "records");
    let to = format!("argus-udp://{GROUP}:{}", PORTS[0]);
    let options = ["-S", "60", "-i", RIGHT[0], "-w", &to];
    let sensor = Sensor::Panoptes;
    let running = listen(sensor, &mut sensor.with(&options), &[RIGHT[0]]);
    let capture = group(0);
    send_all(LEFT[0], &capture);
    running.settle();
    running.end(Signal::SIGTERM).succeeded();
    end_of_client(ra);
    assert_eq!(facts(&file), truth(capture.flows(), "0.0.0.0"));
}

#[test]
fn option_w_filters_datagrams() {
    let folder = Folder::new();
    let receiver = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    receiver.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let to = format!("argus-udp://{}", receiver.local_addr().expect("bound"));
    let capture = group(0);
    let file = folder.capture("a.pcap", &capture);
    let options = ["-S", "3600", "-r", &file, "-w", &to, "udp and port 53"];
    let program = Running::start(&mut Sensor::Panoptes.with(&options));
    let mut datagram = [0; 2000];
    let length = receiver.recv(&mut datagram).expect("a datagram");
    // One flow record, and no management record.
    let all: Vec<_> = records(&datagram[..length]).collect();
    assert_eq!((all.len(), all[0].len(), all[0][0]), (1, length, 0x13));
    program.ended().succeeded();
    receiver.set_nonblocking(true).expect("a setting");
    assert!(receiver.recv(&mut datagram).is_err(), "one flow matches");
}
