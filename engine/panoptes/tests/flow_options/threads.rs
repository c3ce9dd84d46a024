//! Packets that several threads divide: --threads.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;

use nix::sys::signal::Signal;
use panoptes_traffic::{
    BEGIN_NS, Between, Capture, Dns, Echo, Fragments, Layer, Order, Tcp, TimeExceeded, Udp,
};

use crate::live::{Live, connection, facts, truth};
use crate::network::{LEFT, RIGHT, enter, ip, send_all};
use crate::programs::{Folder, Sensor, argus, until};
use crate::stream::{STATUS, STOP, management};

/// What records are about, but for times: more than [`facts`].
const FIELDS: [&str; 17] = [
    "proto",
    "saddr",
    "sport",
    "dir",
    "daddr",
    "dport",
    "spkts",
    "dpkts",
    "sbytes",
    "dbytes",
    "state",
    "sappbytes",
    "dappbytes",
    "svlan",
    "smpls",
    "stos",
    "sttl",
];

/// The flow records of a file without their times, in a fixed order.
fn contents(records: &Path) -> Vec<[String; 17]> {
    let rows = argus().ra_fields(records, &FIELDS).unwrap_or_else(|error| panic!("{error}"));
    let mut all: Vec<_> =
        rows.iter().map(|row| FIELDS.map(|field| row.text(field).to_owned())).collect();
    all.sort();
    all
}

/// Conversations between many addresses, also of routers that report errors.
fn traffic() -> Capture {
    let mut capture = Capture::new(3);
    for number in 1..=30 {
        let start_ns = BEGIN_NS + u64::from(number) * 1_000_000;
        let [v4, v6] = [Between::v4, Between::v6].map(|of| of(number, [40_000, 443]));
        let router = IpAddr::V4(Ipv4Addr::new(172, 16, 0, number as u8));
        let exceeded = |ports| v4.clone().with_ports(ports);
        let dns = Dns {
            between: v4.clone().with_ports([33_000, 53]),
            start_ns,
            ids: vec![0x1234],
            interval_ns: 1_000_000,
            answer_after_ns: Some(3_000_000),
        };
        let fragments = Fragments {
            between: v4.clone().with_ports([7000, 8000]),
            start_ns,
            datagrams: 1,
            bytes: 4000,
            order: Order::Sent,
        };
        capture = capture
            .with(&Tcp::new(v4.clone(), start_ns))
            .with(&Tcp::new(v6.clone(), start_ns))
            .with(&Udp::alternating(v6.with_ports([5000, 6000]), start_ns, &[100, 200]))
            .with(&dns)
            .with(&Echo::new(v4.clone(), start_ns, number, 2))
            .with(&fragments)
            .with(&TimeExceeded { between: exceeded([50_000, 33_434]), start_ns, router });
    }
    capture
}

/// The same in headers and tunnels.
fn wrapped(layers: &[Layer]) -> Capture {
    let mut capture = Capture::new(4);
    for number in 1..=20 {
        let start_ns = BEGIN_NS + u64::from(number) * 1_000_000;
        for (at, layer) in (0..).zip(layers) {
            let of = if matches!(layer, Layer::SixInFour | Layer::Teredo) {
                Between::v6
            } else {
                Between::v4
            };
            let between = of(200 * (at + 1) + number, [40_000, 443]).inside(layer.clone());
            capture = capture.with(&Tcp::new(between, start_ns));
        }
    }
    capture
}

/// Sensors with and without threads at the same interface have the same records of a capture.
/// Their messages at the end.
#[track_caller]
fn same_as_without(capture: &Capture, options: &[&str]) -> Vec<String> {
    let folder = Folder::new();
    let live = ["1", "2", "4"].map(|threads| {
        let records = folder.path(threads);
        let all = [&["-S", "60", "-D", "1", "-i", RIGHT[0], "--threads", threads][..], options];
        let mut command = Sensor::Panoptes.with(&all.concat());
        let running =
            crate::live::listen(Sensor::Panoptes, command.arg("-w").arg(&records), &[RIGHT[0]]);
        Live { running, records }
    });
    send_all(LEFT[0], capture);
    let mut messages = Vec::new();
    let mut expected = None;
    for one in live {
        one.running.settle();
        messages.push(one.running.end(Signal::SIGTERM).succeeded());
        let all = management(&one.records);
        let sum = |of: fn(&crate::stream::Management) -> u64| all.iter().map(of).sum::<u64>();
        let contents = contents(&one.records);
        assert_eq!(sum(|one| one.packets), capture.packets() as u64);
        assert_eq!(sum(|one| u64::from(one.records)), contents.len() as u64);
        assert_eq!(sum(|one| u64::from(one.dropped)), 0);
        assert_eq!(all.last().map(|last| last.cause), Some(STOP));
        let counts = (contents, sum(|one| u64::from(one.flows)));
        let expected = expected.get_or_insert_with(|| counts.clone());
        assert!(*expected == counts, "{:?}", differences(&expected.0, &counts.0));
    }
    messages
}

/// The rows that only one of two lists has.
fn differences(one: &[[String; 17]], other: &[[String; 17]]) -> Vec<String> {
    let lacks = |list: &[[String; 17]], row: &[String; 17]| !list.contains(row);
    let of_one = one.iter().filter(|row| lacks(other, row)).map(|row| format!("-{row:?}"));
    let of_other = other.iter().filter(|row| lacks(one, row)).map(|row| format!("+{row:?}"));
    of_one.chain(of_other).take(6).collect()
}

/// Whether all packets came to their threads at once.
fn are_divided_by_the_kernel(messages: &str) -> bool {
    messages.contains(" 0 packets came to another thread than their own")
}

#[test]
fn option_threads_changes_no_record() {
    if !enter(1) {
        return;
    }
    let messages = same_as_without(&traffic(), &[]);
    assert!(messages[1..].iter().all(|one| are_divided_by_the_kernel(one)), "{messages:?}");
}

#[test]
fn option_threads_divides_tagged_packets() {
    if !enter(1) {
        return;
    }
    let capture = wrapped(&[Layer::Vlan(7), Layer::Provider(9)]);
    let messages = same_as_without(&capture, &[]);
    assert!(messages[1..].iter().all(|one| are_divided_by_the_kernel(one)), "{messages:?}");
}

/// The kernel sees only the ends of tunnels, so threads pass packets on.
#[test]
fn option_threads_divides_packets_in_tunnels() {
    if !enter(1) {
        return;
    }
    // Room for the headers of tunnels around packets of 1,500 bytes.
    for end in [LEFT[0], RIGHT[0]] {
        ip(&format!("link set {end} mtu 2000"));
    }
    let layers = [
        Layer::Mpls(vec![16, 17]),
        Layer::Pppoe(5),
        Layer::Gre,
        Layer::Ipip,
        Layer::SixInFour,
        Layer::Vxlan(7),
        Layer::Geneve(8),
        Layer::Teredo,
    ];
    let messages = same_as_without(&wrapped(&layers), &[]);
    assert!(!messages[1..].iter().any(|one| are_divided_by_the_kernel(one)), "{messages:?}");
}

#[test]
fn option_threads_keeps_what_records_have_beside_flows() {
    if !enter(1) {
        return;
    }
    let options = ["-A", "-J", "-Z", "-U", "64", "--application", "all", "--sequence", "5"];
    same_as_without(&traffic(), &options);
}

/// A flood of flows of one thread takes no room of the others.
#[test]
fn option_threads_divides_the_room_for_flows() {
    const FLOOD: u16 = 20_000;
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0], "--threads", "2", "--flows", "2000"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let mut flows = Vec::new();
    for number in 1..=40 {
        send_all(LEFT[0], &connection(number));
        flows.extend(connection(number).flows().to_vec());
    }
    // Else the last connection may have packets behind the first of the flood.
    live.running.settle();
    let flood = (0..FLOOD).map(|port| Between::v4(500, [port + 1, 9]));
    let flood = flood.fold(Capture::new(5), |capture, between| {
        capture.with(&Udp::one_way(between, BEGIN_NS, &[18]))
    });
    send_all(LEFT[0], &flood);
    let messages = {
        live.running.settle();
        live.running.end(Signal::SIGTERM).succeeded()
    };
    assert!(messages.contains("flows were reported early because the table was full"));
    let (connections, others): (Vec<_>, Vec<_>) =
        facts(&live.records).into_iter().partition(|fact| fact[0] == "tcp");
    let expected = truth(&flows, "0.0.0.0");
    let keys = |facts: &[[String; 12]]| -> Vec<_> {
        facts.iter().map(|fact| fact[..10].to_vec()).collect()
    };
    assert_eq!(keys(&connections), keys(&expected));
    assert_eq!(others.len(), usize::from(FLOOD));
}

#[test]
fn option_threads_shares_a_port() {
    let address = crate::ports::own_address(4);
    let folder = Folder::new();
    for (kind, port, header) in [
        ("udp", 4789, &[8, 0, 0, 0, 0, 0, 7, 0][..]),
        ("geneve", 6081, &[1, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 4]),
        // Tags, behind which the kernel finds nothing.
        ("tzsp", 37008, &[1, 0, 0, 1, 10, 1, 0xc0, 1]),
    ] {
        let name = format!("{kind}:{address}:{port}");
        let capture = traffic();
        let records = folder.path(kind);
        let options = ["-S", "60", "-D", "1", "-i", &name, "--threads", "2"];
        let mut command = Sensor::Panoptes.with(&options);
        let running =
            crate::live::listen(Sensor::Panoptes, command.arg("-w").arg(&records), &[&name]);
        // Several senders: each has a hash of its own, and the kernel does not choose by that.
        let senders = [0; 4].map(|_| UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        for (number, frame) in capture.frames().iter().enumerate() {
            let datagram = [header, frame].concat();
            senders[number % 4].send_to(&datagram, (address, port)).expect("loopback");
        }
        running.settle();
        let messages = running.end(Signal::SIGTERM).succeeded();
        assert_eq!(are_divided_by_the_kernel(&messages), kind != "tzsp", "{kind}: {messages}");
        let expected = truth(capture.flows(), "0.0.0.0");
        assert_eq!(facts(&records).len(), expected.len(), "{kind}");
        let packets: u64 = management(&records).iter().map(|one| one.packets).sum();
        assert_eq!(packets, capture.packets() as u64, "{kind}");
    }
}

#[test]
fn threads_open_an_interface_again_that_comes_back() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0], "--threads", "2"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    send_all(LEFT[0], &connection(1));
    live.running.settle();
    live.interface_comes_back();
    let numbers = 2..30;
    let mut flows = connection(1).flows().to_vec();
    for number in numbers {
        send_all(LEFT[0], &connection(number));
        flows.extend(connection(number).flows().to_vec());
    }
    assert_eq!(facts(&live.end()), truth(&flows, "0.0.0.0"));
}

#[test]
fn threads_join_an_interface_once_it_is_up() {
    if !enter(2) {
        return;
    }
    ip(&format!("link set {} down", RIGHT[1]));
    let folder = Folder::new();
    let options = ["-S", "60", "-i", RIGHT[0], "-i", RIGHT[1], "--threads", "3"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    live.running.wait_for("network interface right1 is down");
    let mut flows = Vec::new();
    let mut send = |interface: &str, numbers: std::ops::Range<u16>| {
        for number in numbers {
            send_all(interface, &connection(number));
            flows.extend(connection(number).flows().to_vec());
        }
    };
    send(LEFT[0], 1..15);
    ip(&format!("link set {} up", RIGHT[1]));
    live.running.wait_for("right1: auditing again");
    send(LEFT[1], 15..30);
    assert_eq!(facts(&live.end()), truth(&flows, "0.0.0.0"));
}

#[test]
fn threads_report_what_came_right_before_the_end() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    for milliseconds in 1..=5 {
        let options = ["-S", "60", "-i", RIGHT[0], "--threads", "4"];
        let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let mut flows = Vec::new();
        for number in 1..=12 {
            send_all(LEFT[0], &connection(number));
            flows.extend(connection(number).flows().to_vec());
        }
        live.running.end(Signal::SIGTERM).succeeded();
        assert_eq!(facts(&live.records), truth(&flows, "0.0.0.0"));
        std::fs::remove_file(&live.records).expect("the file");
    }
}

/// Management records have the sums of all threads while they run.
#[test]
fn threads_report_their_state_together() {
    if !enter(1) {
        return;
    }
    let folder = Folder::new();
    let options = ["-M", "1", "-S", "60", "-i", RIGHT[0], "--threads", "3"];
    let live = Live::start(Sensor::Panoptes, &folder, &options, &[RIGHT[0]]);
    let capture = traffic();
    send_all(LEFT[0], &capture);
    let status = || -> Vec<_> {
        let all = if live.records.exists() { management(&live.records) } else { Vec::new() };
        all.into_iter().filter(|record| record.cause == STATUS).collect()
    };
    let packets = || status().iter().map(|record| record.packets).sum::<u64>();
    until(|| format!("{} packets", packets()), || packets() == capture.packets() as u64);
    live.end();
}
