//! The rule, with hand-made machines and packets.

mod datagrams;

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use panoptes_decoders::address::KernelVa;
use panoptes_decoders::kernel::sock::Endpoints;
use panoptes_tables::HashKey;

use super::{
    HiddenConnection, HiddenConnectionKind, HiddenConnections, SeenEnd, SeenFlow, TrafficLink,
};
use crate::limits::Limits;
use crate::state::tests::world::{FakeFile, FakeProcess, FakeSocket, LISTEN, TIME_WAIT, World};
use crate::time::Now;
use crate::walk::{InterfaceRow, Snapshot, SocketRow};

const MS: i64 = 1_000_000;
/// The time between two scans.
const INTERVAL: i64 = 100 * MS;
/// When the test begins.
const BEGIN: i64 = 1_800_000_000_000_000_000;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A system with the packets on its wire.
struct Scene {
    world: World,
    interfaces: Vec<&'static str>,
    /// Sockets of other kinds: family, type, protocol; the process holds them.
    others: Vec<(u16, u16, u16)>,
    /// The ports of UDP sockets, and what scans show of them.
    udp_ports: Vec<u16>,
    is_udp_whole: bool,
    may_translate: bool,
    /// Number of chains of TCP sockets that scans do not show.
    connections_cut: u32,
    traffic_link: Arc<TrafficLink>,
    detector: HiddenConnections,
    snapshot: Snapshot,
    now: i64,
}

impl Scene {
    fn new() -> Self {
        let limits = Limits::default();
        let traffic_link = Arc::new(TrafficLink::new(&limits, HashKey::new(7)));
        let mut detector = HiddenConnections::default();
        detector.set_traffic_link(Arc::clone(&traffic_link));
        Self {
            world: World::default().with(FakeProcess::new(100)),
            interfaces: vec!["10.0.2.15"],
            others: Vec::new(),
            udp_ports: vec![68],
            is_udp_whole: true,
            may_translate: false,
            connections_cut: 0,
            traffic_link,
            detector,
            snapshot: Snapshot::empty(&limits),
            now: BEGIN,
        }
    }

    fn scan(&mut self) {
        self.world.show(&mut self.snapshot);
        self.snapshot.interfaces.clear();
        for (index, address) in self.interfaces.iter().enumerate() {
            let mut row = InterfaceRow { index: index as u32 + 2, ..InterfaceRow::default() };
            row.ipv4.push(address.parse().unwrap());
            self.snapshot.interfaces.push(row);
        }
        let udp = &mut self.snapshot.udp_ports;
        udp.all.clear();
        self.udp_ports.iter().for_each(|&port| udp.all.insert(port));
        (udp.is_whole, udp.may_translate) = (self.is_udp_whole, self.may_translate);
        self.snapshot.connections_cut = self.connections_cut;
        // Process 1 has no files here.
        let process = self.snapshot.processes.indexed().last().map(|(index, _)| index);
        self.snapshot.files.iter_mut().for_each(|file| file.process = process);
        let holder = self.snapshot.files.indexed().last().map(|(index, _)| index);
        for &(family, kind, protocol) in &self.others {
            let file = holder.expect("a process has a file");
            let ends = Endpoints {
                family,
                state: 7,
                source: [0; 4].into(),
                source_port: 0,
                destination: [0; 4].into(),
                destination_port: 0,
                bound_device: 0,
                net: KernelVa::NULL,
                prot: KernelVa::NULL,
                next: 1,
            };
            let socket = self.snapshot.sockets.push(SocketRow {
                address: KernelVa(0xffff_8880_0000_9000),
                file,
                endpoints: Some(ends),
                kind,
                protocol,
                peer_address: KernelVa::NULL,
                peer: None,
                net: None,
            });
            let row = self.snapshot.files.at_mut(file).expect("the file");
            (row.socket, row.connection) = (socket, None);
        }
        self.detector.note_scan(&self.snapshot, Now::at(self.now));
        self.now += INTERVAL;
    }

    fn scans(&mut self, count: u32) {
        (0..count).for_each(|_| self.scan());
    }

    /// Runs one more scan. Returns what was found since the last call.
    fn found(&mut self) -> Vec<HiddenConnection> {
        self.scan();
        self.detector.owed.drain(..).collect()
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

const OWN: &str = "10.0.2.15:4444";
const PEER: &str = "203.0.113.9:50000";

fn end(address: &str, flags: u8, from: i64, to: i64) -> SeenEnd {
    let (address, packets) = (at(address), 9);
    SeenEnd { address, packets, first_ns: from, last_ns: to, flags, hops: 64 }
}

/// A connection of a peer to the system, as a record shows it.
fn inbound(flags: u8, from: i64, to: i64) -> SeenFlow {
    let ends = [end(PEER, flags, from, to), end(OWN, flags, from, to)];
    SeenFlow { protocol: 6, ends }
}

/// Returns the findings for a connection's packets over ten scans, in a system without that
/// connection. `change` alters the system and the packets first.
fn judged(change: impl Fn(&mut Scene, &mut SeenFlow)) -> Vec<HiddenConnection> {
    let mut scene = Scene::new();
    let mut flow = inbound(SYN | ACK, 0, 0);
    change(&mut scene, &mut flow);
    scene.scans(3);
    let from = scene.now;
    scene.scans(10);
    let to = scene.now;
    for end in &mut flow.ends {
        (end.first_ns, end.last_ns) = (from, to);
    }
    scene.traffic_link.seen(&flow);
    scene.found()
}

#[test]
fn a_connection_without_a_socket_is_found_with_its_listener() {
    let found = judged(|_, _| ());
    let what: Vec<_> = found.iter().map(|hidden| hidden.what).collect();
    assert_eq!(what, [HiddenConnectionKind::Connection, HiddenConnectionKind::Listener]);
    for hidden in &found {
        assert_eq!((hidden.own, hidden.peer), (at(OWN), at(PEER)));
        // A scan ends when the next one begins, so the last one may still run.
        assert_eq!((hidden.scans, &hidden.suspect), (9, &None));
        assert_eq!(hidden.last_ns - hidden.first_ns, 10 * INTERVAL);
    }
}

#[test]
fn an_outbound_connection_has_no_listener() {
    let found = judged(|_, flow| flow.ends.reverse());
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].what, found[0].own), (HiddenConnectionKind::Connection, at(OWN)));
}

#[test]
fn sockets_account_for_packets() {
    let tuple = |socket: FakeSocket| FakeSocket {
        source: (at(OWN).ip(), at(OWN).port()),
        destination: (at(PEER).ip(), at(PEER).port()),
        ..socket
    };
    for state in [1, 4, TIME_WAIT] {
        let socket = tuple(FakeSocket::new(0xffff_8880_0000_1000, 4444, state));
        assert_eq!(judged(|scene, _| scene.world.sockets.push(socket)), [], "state {state}");
    }
    // Behind NAT, in a container: another address, and the same peer.
    let inner = FakeSocket {
        source: ([172, 17, 0, 2].into(), 80),
        net: FakeSocket::OTHER_NET,
        ..tuple(FakeSocket::new(0xffff_8880_0000_1000, 80, 1))
    };
    assert_eq!(judged(|scene, _| scene.world.sockets.push(inner)), []);
    // The same of another peer does not.
    let other = FakeSocket::new(0xffff_8880_0000_1000, 4444, 1);
    assert_eq!(judged(|scene, _| scene.world.sockets.push(other)).len(), 2);
    // What listens does not account for a connection that lasts, but it is no hidden listener.
    let listener = FakeSocket {
        source: ([0, 0, 0, 0].into(), 4444),
        ..FakeSocket::listener(0xffff_8880_0000_1000, 4444)
    };
    assert_eq!(listener.state, LISTEN);
    let found = judged(|scene, _| scene.world.sockets.push(listener));
    assert_eq!(
        found.iter().map(|hidden| hidden.what).collect::<Vec<_>>(),
        [HiddenConnectionKind::Connection]
    );
}

#[test]
fn a_connection_that_has_just_ended_is_none() {
    let mut scene = Scene::new();
    let socket = FakeSocket {
        source: (at(OWN).ip(), 4444),
        destination: (at(PEER).ip(), 50_000),
        ..FakeSocket::new(0xffff_8880_0000_1000, 4444, 1)
    };
    scene.world.sockets.push(socket);
    let from = scene.now;
    scene.scans(3);
    scene.world.sockets.clear();
    // Packets of its end come late, and the record later still.
    scene.scans(20);
    let to = scene.now;
    scene.scans(100);
    scene.traffic_link.seen(&inbound(SYN | ACK, from, to));
    assert_eq!(scene.found(), []);
}

#[test]
fn packets_that_no_socket_sends_are_no_finding() {
    // The kernel answers for a socket that is gone.
    assert_eq!(judged(|_, flow| flow.ends[1].flags |= RST), []);
    // Nobody has answered.
    assert_eq!(judged(|_, flow| flow.ends[1].packets = 0), []);
    assert_eq!(judged(|_, flow| flow.ends[0].packets = 0), []);
    // Another machine's.
    assert_eq!(judged(|_, flow| flow.ends[1].address = at("10.0.2.16:4444")), []);
    assert_eq!(judged(|_, flow| flow.protocol = 132), []);
}

#[test]
fn what_is_forwarded_for_others_is_no_finding() {
    let forwarded = |hops: u8, interfaces: &[&'static str]| {
        judged(|scene, flow| {
            scene.interfaces = interfaces.to_vec();
            flow.ends[1].hops = hops;
        })
    };
    assert_eq!(forwarded(63, &["10.0.2.15", "192.168.7.1"]), []);
    // It sends these itself, and one interface forwards nothing.
    assert_eq!(forwarded(64, &["10.0.2.15", "192.168.7.1"]).len(), 2);
    assert_eq!(forwarded(63, &["10.0.2.15"]).len(), 2);
}

#[test]
fn raw_sockets_account_for_packets_and_packet_sockets_are_named() {
    let with = |family: u16, kind: u16, protocol: u16| {
        judged(move |scene, _| {
            let file = FakeFile::socket(0xffff_8880_0000_5000, 77, 0);
            scene.world.process(100).files.push((3, file));
            scene.others = vec![(family, kind, protocol)];
        })
    };
    // SOCK_RAW of IPPROTO_TCP and IPPROTO_RAW, AF_XDP.
    assert_eq!(with(2, 3, 6), []);
    assert_eq!(with(10, 3, 255), []);
    assert_eq!(with(44, 3, 0), []);
    // ping sends no TCP.
    assert_eq!(with(2, 3, 1).len(), 2);
    let found = with(17, 3, 0);
    assert_eq!(found.len(), 2);
    let suspect = found[0].suspect.as_ref().expect("a suspect");
    assert_eq!(suspect.process_id, 100);
}

#[test]
fn a_short_connection_proves_nothing() {
    let mut scene = Scene::new();
    scene.scans(10);
    let from = scene.now;
    scene.scans(3);
    let to = scene.now;
    scene.scans(50);
    scene.traffic_link.seen(&inbound(SYN | ACK, from, to));
    assert_eq!(scene.found(), []);
    // A later record shows that it continues.
    let from = scene.now;
    scene.scans(3);
    scene.traffic_link.seen(&inbound(ACK, from, scene.now));
    assert_eq!(scene.found().len(), 2);
    // It is reported once.
    scene.scans(20);
    scene.traffic_link.seen(&inbound(ACK, from, scene.now));
    assert_eq!(scene.found(), []);
}

#[test]
fn a_clock_that_was_set_proves_nothing() {
    let mut scene = Scene::new();
    scene.scans(3);
    let from = scene.now;
    scene.scans(10);
    let now = Now::at(scene.now);
    let later = Now { real: now.after(3_600_000 * MS).real, ..now };
    scene.world.show(&mut scene.snapshot);
    scene.detector.note_scan(&scene.snapshot, later);
    scene.traffic_link.seen(&inbound(SYN | ACK, from, later.real.ns()));
    assert!(scene.detector.owed.is_empty());
}

#[test]
fn scans_that_do_not_show_all_sockets_prove_nothing() {
    let mut scene = Scene::new();
    let from = scene.now;
    scene.connections_cut = 1;
    scene.scans(20);
    scene.traffic_link.seen(&inbound(SYN | ACK, from, scene.now));
    let scans = scene.traffic_link.scans();
    assert_eq!((scans.all, scans.without_tcp), (20, 20));
    assert_eq!(scene.found(), []);
}

#[test]
fn many_connections_without_a_socket_hide_no_other() {
    let mut scene = Scene::new();
    scene.scans(3);
    let from = scene.now;
    scene.scans(10);
    // More than are followed, and more findings than wait.
    for port in 1..=20_000 {
        let mut flow = inbound(ACK, from, scene.now);
        flow.ends[0].address.set_port(port);
        flow.ends[1].address.set_port(5000);
        scene.traffic_link.seen(&flow);
    }
    // Those before have taken all places until the next scan.
    scene.traffic_link.seen(&inbound(SYN | ACK, from, scene.now));
    assert_eq!(scene.found().len(), 64);
    // The others are counted, and so are those that were followed when there was no room.
    let missed = scene.detector.lost.missed();
    assert!(missed >= 19_938 + 8192, "{missed}");
    scene.traffic_link.seen(&inbound(ACK, from, scene.now));
    let found: Vec<_> = scene.found().iter().map(|hidden| (hidden.what, hidden.own)).collect();
    assert_eq!(
        found,
        [(HiddenConnectionKind::Connection, at(OWN)), (HiddenConnectionKind::Listener, at(OWN))]
    );
}

#[test]
fn scans_that_show_too_little_again_and_again_are_a_gap() {
    let mut scene = Scene::new();
    let mut standing = |change: &dyn Fn(&mut Scene), scans: u32| {
        change(&mut scene);
        scene.scans(scans);
        scene.detector.lost.standing()
    };
    assert_eq!(standing(&|_| (), 20), 0);
    // What one scan does not show, the next ones do.
    assert_eq!(standing(&|scene| scene.connections_cut = 1, 4), 0);
    assert_eq!(standing(&|scene| scene.connections_cut = 0, 1), 0);
    assert_eq!(standing(&|scene| scene.connections_cut = 1, 4), 0);
    assert_eq!(standing(&|_| (), 1), 1);
    assert_eq!(standing(&|_| (), 100), 1);
    assert_eq!(standing(&|scene| scene.is_udp_whole = false, 5), 2);
    // The sensor reports that UDP is not judged.
    assert_eq!(standing(&|scene| scene.may_translate = true, 5), 1);
    assert_eq!(standing(&|scene| scene.connections_cut = 0, 1), 0);
}

#[test]
fn addresses_without_room_are_a_gap() {
    let mut scene = Scene::new();
    scene.scan();
    assert_eq!(scene.detector.lost.standing(), 0);
    scene.snapshot.interfaces.clear();
    for index in 0..200_u32 {
        let mut row = InterfaceRow { index: index + 2, ..InterfaceRow::default() };
        row.ipv4.extend((0..16).map(|at| Ipv4Addr::from_bits(0x0a00_0000 | index << 8 | at)));
        let ipv6 = |at| Ipv6Addr::from_bits(0x2001_0db8_u128 << 96 | u128::from(index) << 8 | at);
        row.ipv6.extend((0..16).map(ipv6));
        scene.snapshot.interfaces.push(row);
    }
    scene.detector.note_scan(&scene.snapshot, Now::at(scene.now));
    assert_eq!(scene.detector.lost.standing(), 1);
}

#[test]
fn flows_have_the_owners_of_their_sockets() {
    let mut scene = Scene::new();
    let address = 0xffff_8880_0000_1000;
    let socket = FakeSocket {
        source: (at(OWN).ip(), 4444),
        destination: (at(PEER).ip(), 50_000),
        ..FakeSocket::new(address, 4444, 1)
    };
    scene.world.sockets.push(socket);
    let file = FakeFile::socket(0xffff_8880_0000_5000, 77, address);
    scene.world.process(100).files.push((3, file));
    scene.scan();
    let owners = scene.traffic_link.seen(&inbound(ACK, BEGIN, BEGIN));
    assert_eq!(owners[0], None);
    assert_eq!(owners[1].as_ref().map(|owner| owner.process_id), Some(100));
    // Its socket was closed, and its record is late.
    scene.world.sockets.clear();
    scene.scans(100);
    assert_eq!(scene.traffic_link.seen(&inbound(ACK, BEGIN, BEGIN))[1], owners[1]);
    // After two minutes, it is forgotten.
    scene.now += 61_000 * MS;
    scene.scan();
    scene.now += 61_000 * MS;
    scene.scan();
    assert_eq!(scene.traffic_link.seen(&inbound(ACK, BEGIN, BEGIN)), [None, None]);
}
