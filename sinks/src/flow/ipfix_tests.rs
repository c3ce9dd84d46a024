//! Messages, read by a parser that knows RFC 7011 and nothing of the writer.

use std::collections::BTreeMap;

use panoptes_records::flow::{Address, FlowKey, Tcp};

use super::*;

/// 2023-11-14 22:13:20 UTC, in nanoseconds.
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Values by element, with its enterprise number or 0.
type IpfixValues = BTreeMap<(u32, u16), u128>;
/// Elements and their lengths by template.
type Templates = BTreeMap<u16, Vec<((u32, u16), usize)>>;

struct IpfixReader<'a>(&'a [u8]);

impl<'a> IpfixReader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn number(&mut self, count: usize) -> u128 {
        self.bytes(count).iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }
}

/// The sequence number of a message, and its records.
fn read(message: &[u8], templates: &mut Templates) -> (u32, Vec<(u16, IpfixValues)>) {
    let mut reader = IpfixReader(message);
    assert_eq!(reader.number(2), 10, "version");
    assert_eq!(reader.number(2), message.len() as u128, "length");
    assert_eq!(reader.number(4), 1_700_000_000, "export time");
    let sequence = reader.number(4) as u32;
    assert_eq!(reader.number(4), 7, "domain");
    let mut records = Vec::new();
    while !reader.0.is_empty() {
        let id = reader.number(2) as u16;
        let length = reader.number(2) as usize;
        let mut set = IpfixReader(reader.bytes(length - 4));
        while !set.0.is_empty() {
            if id == 2 {
                let template = set.number(2) as u16;
                let count = set.number(2);
                let mut elements = Vec::new();
                for _ in 0..count {
                    let number = set.number(2) as u16;
                    let length = set.number(2) as usize;
                    let enterprise = if number & 0x8000 == 0 { 0 } else { set.number(4) as u32 };
                    elements.push(((enterprise, number & 0x7fff), length));
                }
                templates.insert(template, elements);
            } else {
                let elements = templates.get(&id).expect("its template came before");
                let values = elements.iter().map(|(name, length)| (*name, set.number(*length)));
                records.push((id, values.collect()));
            }
        }
    }
    (sequence, records)
}

fn record(kind: FlowKeyKind, source: u128) -> FlowRecord {
    let side = |packets: u64, ttl: u8| FlowSide {
        packets,
        bytes: packets << 33,
        first_ns: BEGIN_NS + 5_000_000,
        last_ns: BEGIN_NS + 7_999_999,
        ttl,
        tos: 0x28,
        vlan: 0xe064,
        status: status::IP | status::VLAN,
        ..FlowSide::default()
    };
    let tcp = Tcp {
        status: tcp_status::SAW_SYN_ACK,
        source: TcpSide { flags: 0x12, ..TcpSide::default() },
        destination: TcpSide { flags: 0x10, ..TcpSide::default() },
        ..Tcp::default()
    };
    FlowRecord {
        key: FlowKey {
            source: Address::new(source),
            destination: Address::new(9),
            source_port: 443,
            destination_port: 40_000,
            protocol: 6,
            kind,
            ..FlowKey::default()
        },
        source: side(3, 64),
        destination: side(4, 52),
        detail: Detail::Tcp(tcp),
        sequence: 11,
        hardware: [[2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]],
        ethertype: 0x0806,
        ..FlowRecord::default()
    }
}

#[test]
fn records_have_the_elements_of_the_registry() {
    let mut session = Session::new(7, MINUTE_NS);
    let mut out = [0; MESSAGE_BYTES_MAX];
    let icmp = FlowRecord {
        key: FlowKey {
            kind: FlowKeyKind::Icmp,
            source_port: 0x0301,
            protocol: 17,
            ..record(FlowKeyKind::Icmp, 5).key
        },
        detail: Detail::None,
        ..record(FlowKeyKind::Icmp, 5)
    };
    for record in [
        record(FlowKeyKind::Ipv4, 5),
        record(FlowKeyKind::Ipv6, 1 << 127),
        icmp,
        record(FlowKeyKind::Arp, 5),
    ] {
        session.write(&mut out, &record, &Extra::default(), BEGIN_NS).expect("there is room");
    }
    let length = session.finish(&mut out, BEGIN_NS).expect("records");
    assert_eq!(session.finish(&mut out, BEGIN_NS), None);
    let mut templates = Templates::new();
    let (sequence, records) = read(&out[..length], &mut templates);
    assert_eq!((sequence, records.len()), (0, 4));
    // Numbers of IANA's "IPFIX Information Elements".
    let both = [
        ((0, 152), 1_700_000_000_005), // flowStartMilliseconds
        ((0, 153), 1_700_000_000_007), // flowEndMilliseconds
        ((0, 148), 11),                // flowId
        ((0, 1), 3 << 33),             // octetDeltaCount
        ((0, 2), 3),                   // packetDeltaCount
        ((REVERSE, 1), 4 << 33),
        ((REVERSE, 2), 4),
        ((0, 58), 100), // vlanId
    ];
    let transport = [
        ((0, 7), 443),     // sourceTransportPort
        ((0, 11), 40_000), // destinationTransportPort
        ((0, 4), 6),       // protocolIdentifier
        ((0, 6), 0x12),    // tcpControlBits
        ((REVERSE, 6), 0x10),
        ((0, 192), 64), // ipTTL
        ((REVERSE, 192), 52),
        ((0, 5), 0x28), // ipClassOfService
        ((0, 136), 2),  // flowEndReason: active timeout
        ((0, 239), 2),  // biflowDirection: reverseInitiator
    ];
    let v4 = [((0, 8), 5), ((0, 12), 9)]; // sourceIPv4Address, destinationIPv4Address
    let v6 = [((0, 27), 1 << 127), ((0, 28), 9)]; // sourceIPv6Address, destinationIPv6Address
    let icmp = [((0, 32), 0x0301), ((0, 4), 1), ((0, 7), 0), ((0, 239), 1)]; // icmpTypeCodeIPv4
    // sourceMacAddress, destinationMacAddress, ethernetType
    let link = [((0, 56), 0x0200_0000_0001), ((0, 80), 0x0200_0000_0009), ((0, 256), 0x0806)];
    let check = |at: usize, parts: &[&[((u32, u16), u128)]]| {
        for (name, expected) in parts.iter().copied().flatten() {
            assert_eq!(records[at].1.get(name), Some(expected), "{at} {name:?}");
        }
    };
    check(0, &[&both, &transport, &v4]);
    check(1, &[&both, &transport, &v6]);
    check(2, &[&both, &v4, &icmp]);
    check(3, &[&both, &link]);
}

#[test]
fn messages_are_short_and_templates_come_again() {
    let mut session = Session::new(7, MINUTE_NS);
    let mut out = [0; 2 * MESSAGE_BYTES_MAX];
    let (mut messages, mut sent, mut with_templates) = (0_u32, 0, Vec::new());
    let mut templates = Templates::new();
    let mut flush = |session: &mut Session, out: &mut [u8]| {
        let length = session.finish(out, BEGIN_NS).expect("records");
        assert!(length <= MESSAGE_BYTES_MAX);
        let (sequence, records) = read(&out[..length], &mut templates);
        assert_eq!(sequence, sent, "records before the message");
        sent += records.len() as u32;
        with_templates.push(out[17] == 2);
        messages += 1;
    };
    for number in 0..100 {
        // Two templates by turns: each record needs a set of its own.
        let kind = if number % 2 == 0 { FlowKeyKind::Ipv4 } else { FlowKeyKind::Ipv6 };
        let now_ns = BEGIN_NS + number * MINUTE_NS / 60;
        let record = record(kind, number as u128);
        if session.write(&mut out, &record, &Extra::default(), now_ns).is_none() {
            flush(&mut session, &mut out);
            session
                .write(&mut out, &record, &Extra::default(), now_ns)
                .expect("an empty message has room");
        }
    }
    flush(&mut session, &mut out);
    assert_eq!(sent, 100);
    assert!(messages > 5, "{messages} messages");
    let repeated = with_templates.iter().filter(|has| **has).count();
    assert_eq!(repeated, 2, "100 s, and templates each minute: {with_templates:?}");
    assert!(with_templates[0]);
}

#[test]
fn a_buffer_without_room_changes_nothing() {
    let mut session = Session::new(7, MINUTE_NS);
    for room in [0, 15, 16, 20, 300] {
        let mut out = vec![0; room];
        assert_eq!(
            session.write(&mut out, &record(FlowKeyKind::Ipv4, 1), &Extra::default(), BEGIN_NS),
            None
        );
        assert_eq!(session.finish(&mut out, BEGIN_NS), None);
    }
    let mut out = [0; MESSAGE_BYTES_MAX];
    assert!(
        session
            .write(&mut out, &record(FlowKeyKind::Ipv4, 1), &Extra::default(), BEGIN_NS)
            .is_some()
    );
}

#[test]
fn sums_of_squares_are_there_with_sizes() {
    let mut session = Session::new(7, MINUTE_NS).with_sizes(true);
    let mut out = [0; MESSAGE_BYTES_MAX];
    let extra = Extra { size_squares: Some([9 << 40, 5]), ..Extra::default() };
    session
        .write(&mut out, &record(FlowKeyKind::Ipv4, 5), &extra, BEGIN_NS)
        .expect("there is room");
    let length = session.finish(&mut out, BEGIN_NS).expect("a message");
    let (_, records) = read(&out[..length], &mut Templates::new());
    let (_, values) = &records[0];
    assert_eq!((values[&(0, 198)], values[&(REVERSE, 198)]), (9 << 40, 5));
}
