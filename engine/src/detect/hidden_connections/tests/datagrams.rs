//! The rule for UDP, with hand-made machines and packets.

use super::super::{HiddenConnection, HiddenConnectionKind, SeenFlow};
use super::{INTERVAL, MS, OWN, PEER, Scene, at, end};
use crate::state::tests::world::FakeFile;

/// `IPPROTO_UDP`
const UDP: u8 = 17;

/// What a peer has begun, as a record shows it.
fn inbound(from: i64, to: i64) -> SeenFlow {
    SeenFlow { protocol: UDP, ends: [end(PEER, 0, from, to), end(OWN, 0, from, to)] }
}

/// The datagrams of ten scans, in one record. What is found.
fn judged(change: impl Fn(&mut Scene, &mut SeenFlow)) -> Vec<HiddenConnection> {
    let mut scene = Scene::new();
    let mut flow = inbound(0, 0);
    change(&mut scene, &mut flow);
    scene.scans(3);
    let from = scene.now;
    scene.scans(10);
    for end in &mut flow.ends {
        (end.first_ns, end.last_ns) = (from, scene.now);
    }
    scene.traffic_link.seen(&flow);
    scene.found()
}

fn what(found: &[HiddenConnection]) -> Vec<HiddenConnectionKind> {
    found.iter().map(|hidden| hidden.what).collect()
}

#[test]
fn answers_without_a_socket_are_found_with_their_port() {
    let found = judged(|_, _| ());
    assert_eq!(what(&found), [HiddenConnectionKind::Connection, HiddenConnectionKind::Listener]);
    for hidden in &found {
        assert_eq!((hidden.protocol, hidden.own, hidden.peer), (UDP, at(OWN), at(PEER)));
        assert_eq!((hidden.scans, &hidden.suspect), (9, &None));
    }
}

#[test]
fn each_is_reported_once() {
    let mut scene = Scene::new();
    scene.scans(3);
    let from = scene.now;
    scene.scans(10);
    scene.traffic_link.seen(&inbound(from, scene.now));
    assert_eq!(scene.found().len(), 2);
    scene.scans(10);
    scene.traffic_link.seen(&inbound(from + 10 * INTERVAL, scene.now));
    assert_eq!(scene.found(), []);
    // Another peer at the same port.
    let mut other = inbound(from + 10 * INTERVAL, scene.now);
    other.ends[0].address = at("203.0.113.10:50000");
    scene.traffic_link.seen(&other);
    assert_eq!(what(&scene.found()), [HiddenConnectionKind::Connection]);
}

#[test]
fn any_socket_at_the_port_accounts_for_datagrams() {
    // A socket of a process or of the kernel, at whatever address, connected or not.
    assert_eq!(judged(|scene, _| scene.udp_ports.push(4444)), []);
    assert_eq!(judged(|scene, _| scene.udp_ports.push(4443)).len(), 2);
}

#[test]
fn a_socket_that_has_just_closed_accounts_for_its_datagrams() {
    let mut scene = Scene::new();
    scene.udp_ports.push(4444);
    let from = scene.now;
    scene.scan();
    scene.udp_ports.clear();
    scene.scans(20);
    scene.traffic_link.seen(&inbound(from, scene.now));
    assert_eq!(scene.found(), []);
    // For one to two minutes after that. Then packets of that time prove nothing any more.
    for _ in 0..3 {
        scene.now += 61_000 * MS;
        scene.scan();
    }
    scene.traffic_link.seen(&inbound(from, scene.now));
    assert_eq!(scene.found(), []);
    // But new ones do.
    let from = scene.now;
    scene.scans(10);
    scene.traffic_link.seen(&inbound(from, scene.now));
    assert_eq!(scene.found().len(), 2);
}

#[test]
fn datagrams_of_one_direction_are_no_finding() {
    // As netconsole, VXLAN and pktgen send them, and as nobody answers.
    assert_eq!(judged(|_, flow| flow.ends[0].packets = 0), []);
    assert_eq!(judged(|_, flow| flow.ends[1].packets = 0), []);
    // One answer may be of a socket that nobody has seen.
    assert_eq!(judged(|_, flow| flow.ends[1].packets = 2), []);
    assert_eq!(judged(|_, flow| flow.ends[0].packets = 2), []);
    // A group's address is not the system's.
    assert_eq!(judged(|_, flow| flow.ends[1].address = at("224.0.0.251:5353")), []);
    assert_eq!(judged(|_, flow| flow.ends[1].address = at("10.0.2.255:4444")), []);
}

#[test]
fn who_begins_may_have_a_socket_for_each_datagram() {
    // 10 datagrams, each with a socket for a millisecond: 9 scans in a second show none of them.
    let outbound = |packets: u64| {
        judged(move |_, flow| {
            flow.ends.reverse();
            flow.ends.iter_mut().for_each(|end| end.packets = packets);
        })
    };
    assert_eq!(outbound(10), []);
    assert_eq!(outbound(1000), []);
    // 9 scans of 1200 milliseconds in which one of 1000 has a socket: ten sightings at least.
    assert_eq!(what(&outbound(1200)), [HiddenConnectionKind::Connection]);
    // The answer to a request that came before the sensor did begins nothing.
    let late = judged(|_, flow| flow.ends[1].packets = 9);
    assert_eq!(late.len(), 2);
}

#[test]
fn a_kernel_that_may_translate_ports_is_not_judged() {
    assert_eq!(judged(|scene, _| scene.may_translate = true), []);
    assert_eq!(judged(|scene, _| scene.is_udp_whole = false), []);
    let mut scene = Scene::new();
    scene.may_translate = true;
    scene.scans(7);
    let scans = scene.traffic_link.scans();
    assert_eq!((scans.all, scans.without_tcp, scans.without_udp), (7, 0, 7));
}

#[test]
fn what_may_be_of_others_is_no_finding() {
    let forwarded = |hops: u8| {
        judged(move |scene, flow| {
            scene.interfaces = vec!["10.0.2.15", "192.168.7.1"];
            flow.ends[1].hops = hops;
        })
    };
    assert_eq!(forwarded(63), []);
    assert_eq!(forwarded(64).len(), 2);
    // Both ends are the system's, or none is.
    assert_eq!(judged(|_, flow| flow.ends[1].address = at("10.0.2.16:4444")), []);
    assert_eq!(judged(|_, flow| flow.ends[0].address = at("10.0.2.15:50000")), []);
    // Fragments without ports, and UDP-Lite.
    assert_eq!(judged(|_, flow| flow.ends.iter_mut().for_each(|end| end.address.set_port(0))), []);
    assert_eq!(judged(|_, flow| flow.protocol = 136), []);
    // A management controller answers at the machine's address.
    assert_eq!(judged(|_, flow| flow.ends[1].address.set_port(623)), []);
}

#[test]
fn raw_sockets_account_for_datagrams_and_packet_sockets_for_dhcp() {
    let with = |family: u16, kind: u16, protocol: u16, port: u16| {
        judged(move |scene, flow| {
            let file = FakeFile::socket(0xffff_8880_0000_5000, 77, 0);
            scene.world.process(100).files.push((3, file));
            scene.others = vec![(family, kind, protocol)];
            scene.udp_ports.clear();
            flow.ends[1].address.set_port(port);
        })
    };
    // SOCK_RAW of IPPROTO_UDP and IPPROTO_RAW, AF_XDP.
    assert_eq!(with(2, 3, 17, 4444), []);
    assert_eq!(with(10, 3, 255, 4444), []);
    assert_eq!(with(44, 3, 0, 4444), []);
    // A raw socket of TCP sends no UDP.
    assert_eq!(with(2, 3, 6, 4444).len(), 2);
    // A client of DHCP has a packet socket; other ports name it.
    assert_eq!(with(17, 3, 0, 68), []);
    assert_eq!(with(2, 3, 1, 68).len(), 2);
    let found = with(17, 3, 0, 4444);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].suspect.as_ref().map(|owner| owner.process_id), Some(100));
}

#[test]
fn datagrams_of_several_records_count_together() {
    let mut scene = Scene::new();
    scene.scans(3);
    let judge = |scene: &mut Scene, scans: u32| {
        let from = scene.now;
        scene.scans(scans);
        let mut flow = inbound(from, scene.now);
        flow.ends.iter_mut().for_each(|end| end.packets = 1);
        scene.traffic_link.seen(&flow);
        scene.found().len()
    };
    // Too few scans, and too few datagrams.
    assert_eq!(judge(&mut scene, 2), 0);
    assert_eq!(judge(&mut scene, 10), 0);
    assert_eq!(judge(&mut scene, 2), 2);
}
