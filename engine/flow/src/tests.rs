//! Whole flows, from packets that tests put together.

use panoptes_decoders::packet::transport::{flag, protocol};
use panoptes_decoders::packet::{Ether, Fragment, Ip, Network, Packet};
use panoptes_records::flow::{
    Cause, Detail, Extra, FlowKeyKind, FlowRecord, Tcp, TcpState, status, tcp_status,
};
use panoptes_tables::HashKey;
use proptest::prelude::*;

use crate::{FlowTableSettings, Flows, Reports, Timeouts};

mod fallow;
mod order;
mod overlays;
mod parts;
mod starts;
mod time;

const SECOND_NS: i64 = 1_000_000_000;
const BEGIN_NS: i64 = 1_700_000_000 * SECOND_NS;

/// Keeps all records, and the lengths of their user data.
#[derive(Debug, Default)]
struct Kept(Vec<(FlowRecord, [Vec<u8>; 2])>);

impl Reports for Kept {
    fn report(&mut self, record: &FlowRecord, extra: &Extra<'_>) {
        self.0.push((*record, extra.user.map(<[u8]>::to_vec)));
    }
}

struct Wire {
    flows: Flows,
    kept: Kept,
    now_ns: i64,
}

impl Wire {
    fn new(capacity: usize) -> Self {
        let settings = FlowTableSettings {
            capacity,
            status_interval_ns: 5 * SECOND_NS,
            timeouts: Timeouts::default(),
            has_jitter: true,
            user_bytes: 8,
            ..FlowTableSettings::default()
        };
        let flows = Flows::new(&settings, HashKey::new(7));
        Self { flows, kept: Kept::default(), now_ns: BEGIN_NS }
    }

    /// Sends a packet a millisecond after the last one.
    fn send(&mut self, ip: Ip<'_>) {
        self.send_in(None, ip);
    }

    /// The same in an overlay.
    fn send_in(&mut self, vni: Option<u32>, ip: Ip<'_>) {
        self.now_ns += 1_000_000;
        let packet = Packet {
            ether: Some(Ether { kind: 0x800, ..Ether::default() }),
            network: Network::Ip(ip),
            vni,
            ..Packet::default()
        };
        let length = 34 + ip.payload_length;
        self.flows.packet(&packet, self.now_ns, length, &mut self.kept);
    }

    fn segment(&mut self, end: u32, numbers: (u32, u32), flags: u8, data: &[u8]) {
        let bytes = segment(end, numbers, flags, data);
        self.send(ip(end, protocol::TCP, &bytes));
    }

    fn finish(mut self) -> Vec<FlowRecord> {
        self.flows.finish(&mut self.kept);
        let counts = self.flows.counts();
        assert_eq!((counts.tracked, counts.fallow), (0, 0));
        self.kept.0.into_iter().map(|(record, _)| record).collect()
    }
}

/// A packet from one of two hosts to the other one.
fn ip(end: u32, protocol: u8, payload: &[u8]) -> Ip<'_> {
    Ip {
        source: u128::from(1 + end),
        destination: u128::from(2 - end),
        protocol,
        ttl: 64,
        id: 0,
        payload,
        payload_length: payload.len() as u32,
        ..Ip::default()
    }
}

fn segment(end: u32, (sequence, acknowledged): (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    let ports = if end == 0 { [0x9c, 0x40, 0, 80] } else { [0, 80, 0x9c, 0x40] };
    let mut bytes = ports.to_vec();
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledged.to_be_bytes());
    bytes.extend([0x50, flags, 0xff, 0, 0, 0, 0, 0]);
    bytes.extend(data);
    bytes
}

fn tcp(record: &FlowRecord) -> &Tcp {
    let Detail::Tcp(tcp) = &record.detail else { panic!("no TCP: {record:?}") };
    tcp
}

/// The handshake; sequence numbers are such that those of the client begin anew soon.
fn handshake(wire: &mut Wire) -> (u32, u32) {
    let (client, server) = (u32::MAX - 4, 5000);
    wire.segment(0, (client, 0), flag::SYN, b"");
    wire.segment(1, (server, client.wrapping_add(1)), flag::SYN | flag::ACK, b"");
    wire.segment(0, (client.wrapping_add(1), server + 1), flag::ACK, b"");
    (client.wrapping_add(1), server + 1)
}

/// Encrypted data of IEEE 802.11, and of a frame of PPP that only controls the link.
#[test]
fn frames_without_a_packet_have_their_hop() {
    let mut wire = Wire::new(4);
    let [station, access_point] = [[2, 0, 0, 0, 0, 0xb], [2, 0, 0, 0, 0, 0xa]];
    for (source, destination) in [(station, access_point), (access_point, station)] {
        let ether = Some(Ether { destination, source, kind: 0 });
        let packet = Packet { ether, network: Network::Wireless, ..Packet::default() };
        wire.flows.packet(&packet, BEGIN_NS, 68, &mut wire.kept);
    }
    let packet = Packet { network: Network::Control, ..Packet::default() };
    wire.flows.packet(&packet, BEGIN_NS, 10, &mut wire.kept);
    assert_eq!(wire.flows.counts().unaccounted, 1);
    let records = wire.finish();
    let [record] = &records[..] else { panic!("one record: {records:?}") };
    assert_eq!(record.key.kind, FlowKeyKind::Wireless);
    assert_eq!(record.key.source.hardware_in(1), station);
    assert_eq!(record.key.destination.hardware_in(1), access_point);
    assert_eq!((record.source.packets, record.destination.bytes), (1, 68));
    assert_eq!(record.hardware, [access_point, station]);
}

#[test]
fn a_connection_has_its_times_and_counts() {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    wire.segment(0, (client, server), flag::ACK | flag::PSH, b"GET / HTTP/1.0");
    wire.segment(1, (server, client.wrapping_add(14)), flag::ACK, &[b'a'; 100]);
    wire.segment(0, (client.wrapping_add(14), server + 100), flag::ACK | flag::FIN, b"");
    wire.segment(1, (server + 100, client.wrapping_add(15)), flag::ACK | flag::FIN, b"");
    wire.segment(0, (client.wrapping_add(15), server + 101), flag::ACK, b"");
    let records = wire.finish();
    let [record] = &records[..] else { panic!("one flow: {records:?}") };
    assert_eq!((record.source.packets, record.destination.packets), (5, 3));
    assert_eq!((record.source.application_bytes, record.destination.application_bytes), (14, 100));
    let tcp = tcp(record);
    assert_eq!((tcp.syn_ack_us, tcp.ack_data_us), (1000, 1000));
    assert_eq!((tcp.source.retransmitted, tcp.destination.retransmitted), (0, 0));
    assert_eq!(
        tcp.status,
        tcp_status::SAW_SYN
            | tcp_status::SAW_SYN_ACK
            | tcp_status::ESTABLISHED
            | tcp_status::FIN
            | tcp_status::FIN_ACKNOWLEDGED
    );
    assert_eq!(record.times(), (BEGIN_NS + 1_000_000, BEGIN_NS + 8_000_000));
}

#[test]
fn data_that_was_sent_again_is_counted_once_each_time() {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    for offset in [0, 10, 20, 10, 20] {
        wire.segment(0, (client.wrapping_add(offset), server), flag::ACK, &[0; 10]);
    }
    wire.segment(1, (server, client.wrapping_add(30)), flag::ACK, b"");
    // Acknowledged already.
    wire.segment(0, (client, server), flag::ACK, &[0; 10]);
    let records = wire.finish();
    assert_eq!(tcp(&records[0]).source.retransmitted, 3);
    assert_eq!(tcp(&records[0]).destination.retransmitted, 0);
}

/// Two segments are lost. The identifications tell that what fills the gaps was sent later.
#[test]
fn data_that_fills_any_of_several_gaps_was_sent_again() {
    let count = |ids: [u16; 5]| {
        let mut wire = Wire::new(8);
        let (client, server) = handshake(&mut wire);
        for (offset, id) in [0, 20, 40, 30, 10].into_iter().zip(ids) {
            let numbers = (client.wrapping_add(offset), server);
            let bytes = segment(0, numbers, flag::ACK, &[0; 10]);
            wire.send(Ip { id, ..ip(0, protocol::TCP, &bytes) });
        }
        tcp(&wire.finish()[0]).source.retransmitted
    };
    assert_eq!(count([1, 3, 5, 6, 7]), 2);
    // They were overtaken.
    assert_eq!(count([1, 3, 5, 4, 2]), 0);
}

/// A probe for a lost tail overtakes the data that it repeats.
#[test]
fn a_copy_that_overtakes_its_data_was_sent_again() {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    for (offset, id) in [(0, 1), (10, 3), (10, 2)] {
        let numbers = (client.wrapping_add(offset), server);
        let bytes = segment(0, numbers, flag::ACK, &[0; 10]);
        wire.send(Ip { id, ..ip(0, protocol::TCP, &bytes) });
    }
    assert_eq!(tcp(&wire.finish()[0]).source.retransmitted, 1);
}

/// A copy overtakes the segment behind it, which continues the data with an earlier identification.
/// A segment that is overtaken later in the connection was still sent once.
#[test]
fn identifications_count_packets_though_a_copy_overtook_new_data() {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    for (offset, id) in [(0, 1), (20, 3), (10, 5), (30, 4), (50, 7), (40, 6)] {
        let numbers = (client.wrapping_add(offset), server);
        let bytes = segment(0, numbers, flag::ACK, &[0; 10]);
        wire.send(Ip { id, ..ip(0, protocol::TCP, &bytes) });
        if offset == 50 {
            wire.segment(1, (server, client.wrapping_add(40)), flag::ACK, b"");
        }
    }
    assert_eq!(tcp(&wire.finish()[0]).source.retransmitted, 1);
}

#[test]
fn a_new_connection_ends_the_record_of_the_old_one() {
    let mut wire = Wire::new(8);
    let (client, server) = handshake(&mut wire);
    wire.segment(0, (client, server), flag::ACK | flag::RST, b"");
    handshake(&mut wire);
    let records = wire.finish();
    let causes: Vec<_> = records.iter().map(|record| record.cause).collect();
    assert_eq!(causes, [Cause::Stop, Cause::Start]);
    assert_eq!(records[0].source.packets, 3);
    assert_eq!((records[1].source.packets, records[1].destination.packets), (2, 1));
    assert_ne!(records[0].sequence, records[1].sequence);
}

#[test]
fn a_refusal_is_no_connection() {
    let mut wire = Wire::new(8);
    wire.segment(0, (9, 0), flag::SYN, b"");
    wire.segment(1, (0, 10), flag::ACK | flag::RST, b"");
    let records = wire.finish();
    assert_eq!(tcp(&records[0]).status, tcp_status::SAW_SYN | tcp_status::RESET);
    assert_eq!(tcp(&records[0]).destination.status & tcp_status::RESET, tcp_status::RESET);
}

#[test]
fn a_long_flow_has_a_record_each_interval() {
    let mut wire = Wire::new(8);
    for turn in 0..20 {
        wire.now_ns = BEGIN_NS + turn * SECOND_NS;
        wire.send(ip(0, 99, &[0; 30]));
    }
    let records = wire.finish();
    let packets: Vec<_> = records.iter().map(|record| record.source.packets).collect();
    assert_eq!(packets.iter().sum::<u64>(), 20);
    assert!((4..=5).contains(&packets.len()), "{packets:?}");
    let causes: Vec<_> = records.iter().map(|record| record.cause).collect();
    assert_eq!(causes[0], Cause::Start);
    assert!(causes[1..].iter().all(|cause| *cause == Cause::Status));
    assert!(records.iter().all(|record| record.sequence == 1));
}

#[test]
fn fragments_belong_to_the_flow_of_the_first_one() {
    const UDP: [u8; 12] = [0, 9, 0, 10, 0, 30, 0, 0, 1, 2, 3, 4];
    let fragment = |offset: u16, more: bool| Some(Fragment { offset, more, id: 77 });
    for order in [[0, 1], [1, 0]] {
        let mut wire = Wire::new(8);
        for which in order {
            let packet = ip(0, protocol::UDP, &UDP);
            let fragment = if which == 0 { fragment(0, true) } else { fragment(16, false) };
            wire.send(Ip { fragment, ..packet });
        }
        let records = wire.finish();
        let [record] = &records[..] else { panic!("one flow: {records:?}") };
        assert_eq!((record.key.kind, record.source.packets), (FlowKeyKind::Ipv4, 2), "{order:?}");
        assert_ne!(record.source.status & status::FRAGMENTS, 0);
    }
    // Without the first one, they are a flow of their own.
    let mut wire = Wire::new(8);
    wire.send(Ip { fragment: fragment(16, false), ..ip(0, protocol::UDP, &UDP) });
    assert_eq!(wire.finish()[0].key.kind, FlowKeyKind::FragmentV4);
}

#[test]
fn echoes_are_pairs_and_errors_refer_to_their_flow() {
    let mut wire = Wire::new(8);
    let echo = |kind: u8| [kind, 0, 0, 0, 0, 9, 0, 1];
    wire.send(ip(0, protocol::ICMP, &echo(8)));
    wire.send(ip(1, protocol::ICMP, &echo(0)));
    // The other end asks with the same numbers.
    wire.send(ip(1, protocol::ICMP, &echo(8)));
    let udp = [0, 9, 0, 10, 0, 8, 0, 0];
    wire.send(ip(0, protocol::UDP, &udp));
    let quoted = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2][..], &udp];
    let error = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted.concat()].concat();
    wire.send(ip(1, protocol::ICMP, &error));
    let records = wire.finish();
    let packets: Vec<_> =
        records.iter().map(|record| (record.source.packets, record.destination.packets)).collect();
    assert_eq!(packets, [(1, 1), (1, 0), (1, 0), (1, 0)]);
    let error = records[2].error.expect("the error of UDP");
    assert_eq!((error.kind, error.code, error.quoted_source), (3, 3, 1));
    assert_eq!(records[2].times().1, records[3].times().1, "its time includes the error");
}

#[test]
fn a_full_table_reports_whom_it_removes() {
    let mut wire = Wire::new(4);
    for port in 0..100_u8 {
        wire.send(ip(0, protocol::UDP, &[0, port, 0, 1, 0, 8, 0, 0]));
    }
    let counts = wire.flows.counts();
    assert_eq!((counts.evicted, counts.tracked, counts.unaccounted), (96, 4, 0));
    let records = wire.finish();
    assert_eq!(records.len(), 100);
    let ports: Vec<_> = records.iter().map(|record| record.key.source_port).collect();
    assert!(ports.is_sorted(), "those that were idle for longest come first: {ports:?}");
}

#[test]
fn the_first_bytes_of_both_ends_are_kept() {
    let mut wire = Wire::new(4);
    let (client, server) = handshake(&mut wire);
    wire.segment(0, (client, server), flag::ACK, b"GET");
    wire.segment(1, (server, client.wrapping_add(3)), flag::ACK, b"HTTP/1.0 200");
    wire.segment(0, (client.wrapping_add(3), server + 12), flag::ACK, b" / HTTP");
    wire.flows.finish(&mut wire.kept);
    assert_eq!(wire.kept.0[0].1, [b"GET / HT".to_vec(), b"HTTP/1.0".to_vec()]);
}

/// Up to so many bytes.
fn bytes(count: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..count)
}

proptest! {
    /// Whatever comes, each packet is in one record, and no flow is left.
    #[test]
    fn each_packet_is_in_one_record(
        packets in proptest::collection::vec(
            (0..3_u32, 0..9_u8, bytes(60), 0..4_u16, 0..900_u64),
            0..300,
        ),
        capacity in 1_usize..20,
    ) {
        let mut wire = Wire::new(capacity);
        let count = packets.len() as u64;
        for (end, protocol, payload, place, milliseconds) in packets {
            wire.now_ns += milliseconds as i64 * 1_000_000;
            let protocol = [1, 2, 6, 6, 6, 17, 17, 50, 132][usize::from(protocol)];
            let fragment = [
                None,
                None,
                Some(Fragment { offset: 0, more: true, id: 1 }),
                Some(Fragment { offset: 8, more: false, id: 1 }),
            ][usize::from(place)];
            let packet = ip(end.min(1), protocol, &payload);
            wire.send(Ip { is_v6: end == 2, fragment, ..packet });
        }
        let unaccounted = wire.flows.counts().unaccounted;
        let records = wire.finish();
        let sum = |record: &FlowRecord| record.source.packets + record.destination.packets;
        prop_assert_eq!(records.iter().map(sum).sum::<u64>() + unaccounted, count);
        for record in &records {
            let (first, last) = record.times();
            prop_assert!(first > 0 && first <= last, "{:?}", record);
        }
    }
}
