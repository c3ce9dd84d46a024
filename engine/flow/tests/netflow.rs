//! Flows that exporters tell, as argus records.
//!
//! The expected words are those that argus 3.0.8.2 wrote for `-r cisco:FILE`. FILE had the same
//! datagrams, captured on the loopback interface: `decoders/src/netflow/tests/exports.rs` has how
//! they were made. What is not compared is listed in docs/flow.md.

use panoptes_decoders::netflow::{
    Datagram, ExportFormat, Exporters, Item, NetFlow, NetFlowCounters, decode,
};
use panoptes_flow::netflow::{exporter_of, record_of};
use panoptes_records::flow::{Cause, Detail, Extra, FlowKeyKind, FlowSide, status, tcp_status};
use panoptes_sinks::flow::argus::{self, ArgusOptions, PLAIN_BYTES_MAX};

/// softflowd 1.1.0 with `-v 5`: TCP with FIN, UDP and an echo, each direction on its own.
const V5: &str = "\
    0005000600000bcc6553f10307270e0000000000000000000a0100010a01006500000000000000000000000c\
    000004d800000000000000099c4001bb001b060000000000000000000a0100650a0100010000000000000000\
    0000000e000029ec000000000000000901bb9c40001f060000000000000000000a0100010a01006500000000\
    0000000000000002000000d80000000100000004c35013880000110000000000000000000a0100650a010001\
    0000000000000000000000020000067800000001000000041388c3500000110000000000000000000a010001\
    0a010065000000000000000000000004000001500000000000000bb800000800000001000000000000000000\
    0a0100650a010001000000000000000000000004000001500000001400000bcc000000000000010000000000\
    00000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The words of a record, by the codes of its parts.
fn parts(record: &[u8]) -> Vec<(u8, String)> {
    let (mut parts, mut rest) = (Vec::new(), &record[4..]);
    while let [code, _, _, words, ..] = *rest {
        let (part, after) = rest.split_at(4 * usize::from(words));
        let word = |bytes: &[u8]| {
            let number = u32::from_be_bytes(bytes.try_into().expect("four bytes"));
            format!("{number:08x}")
        };
        let words: Vec<_> = part.chunks(4).map(word).collect();
        parts.push((code, words.join(" ")));
        rest = after;
    }
    parts
}

fn written(flow: &NetFlow) -> Vec<u8> {
    let mut out = [0; PLAIN_BYTES_MAX];
    let extra = Extra { exporter: Some(exporter_of(flow)), ..Extra::default() };
    let length = argus::write(&mut out, &ArgusOptions::default(), &record_of(flow), &extra);
    out[..length.expect("there is room")].to_vec()
}

fn exported(payload: &[u8]) -> Vec<NetFlow> {
    let datagram = Datagram {
        exporter: 0x7f00_0001,
        received_ns: 0,
        payload,
        wire_length: payload.len() as u32,
    };
    let mut flows = Vec::new();
    decode(&datagram, &mut Exporters::default(), |item| {
        if let Item::Flow(flow) = item {
            flows.push(*flow);
        }
    });
    flows
}

#[test]
fn flows_of_version_5_are_written_as_argus_does() {
    let udp = "03021805 6553f100 00018a88 6553f100 00019640";
    // Addresses and ports; times; packets and bytes.
    let expected = [
        [
            "0a010001 0a010065 06009c40 01bb0000",
            "03021805 6553f100 000186a0 6553f100 0001a9c8",
            "10010602 000c04d8",
        ],
        [
            "0a010065 0a010001 060001bb 9c400000",
            "03021805 6553f100 000186a0 6553f100 0001a9c8",
            "10010602 000e29ec",
        ],
        ["0a010001 0a010065 1100c350 13880000", udp, "10010602 000200d8"],
        ["0a010065 0a010001 11001388 c3500000", udp, "10010602 00020678"],
        [
            "0a010001 0a010065 01000800 00000000",
            "03021805 6553f100 000186a0 6553f103 000186a0",
            "10010602 00040150",
        ],
        [
            "0a010065 0a010001 01000000 00000000",
            "03021805 6553f100 0001d4c0 6553f103 0001d4c0",
            "10010602 00040150",
        ],
    ];
    let flows = exported(&bytes(V5));
    assert_eq!(flows.len(), expected.len());
    for (number, (flow, [key, time, meter])) in flows.iter().zip(expected).enumerate() {
        let record = written(flow);
        assert_eq!(record[..2], [0x33, 0x20]);
        let found = parts(&record);
        let part =
            |code: u8| found.iter().find(|(other, _)| *other == code).map(|(_, words)| words);
        assert_eq!(part(0x01), Some(&format!("01030103 7f000001 {number:08x}")));
        assert_eq!(part(0x02), Some(&format!("02010105 {key}")));
        assert_eq!(part(0x03).map(String::as_str), Some(time));
        assert_eq!(part(0x10).map(String::as_str), Some(meter));
        assert_eq!(part(0x48).map(String::as_str), Some("48000102 00000000"));
    }
    // argus's status of the connection, and the flags and the reset of the answers, which it loses.
    let found = [0, 1].map(|at| match record_of(&flows[at]).detail {
        Detail::Tcp(tcp) => (tcp.status, tcp.source.status, tcp.source.flags),
        other => panic!("{other:?}"),
    });
    assert_eq!(found, [(0xa, 0, 0x1b), (0xa, tcp_status::RESET, 0x1f)]);
}

/// A TCP flow with all fields.
fn flow() -> NetFlow {
    NetFlow {
        format: ExportFormat::Ipfix,
        exporter: 0x0a00_0009,
        sequence: 77,
        source: 0x0a00_0001,
        destination: 0x0a00_0002,
        source_port: 40_000,
        destination_port: 443,
        protocol: 6,
        tos: 0xb8,
        ttl: 63,
        ip_id: 9,
        forward: NetFlowCounters {
            packets: 3,
            bytes: 300,
            first_ns: 1_000,
            last_ns: 2_000,
            tcp_flags: 0x1b,
        },
        input: 2,
        output: 0x0102_0304,
        source_as: 70_000,
        destination_as: 65_001,
        source_mask: 24,
        destination_mask: 16,
        source_vlan: Some(100),
        ..NetFlow::default()
    }
}

#[test]
fn what_only_exporters_tell_is_kept() {
    let found = parts(&written(&flow()));
    let has = |words: &str| assert!(found.iter().any(|(_, part)| part == words), "{found:?}");
    has("01030103 0a000009 0000004d"); // the exporter and its number
    has("02010105 0a000001 0a000002 06009c40 01bb1810"); // with masks
    has("30030005 0000000c 00000000 00000000 00001b00"); // FIN, established; flags
    has("32000003 00011170 0000fde9"); // autonomous systems
    has("40000102 00640000"); // tag
    has("42000005 00000102 03040000 00000002 00000000"); // interfaces
    has("48000102 3fb80009"); // TTL, type of service, identification
}

#[test]
fn the_other_direction_is_the_answer() {
    let answer = NetFlowCounters { packets: 2, bytes: 200, tcp_flags: 0x14, ..flow().forward };
    let record = record_of(&NetFlow { reverse: Some(answer), ..flow() });
    assert_eq!((record.destination.packets, record.destination.bytes), (2, 200));
    assert_eq!(record.destination.status, status::IP);
    let Detail::Tcp(tcp) = record.detail else { panic!("{record:?}") };
    assert_eq!((tcp.source.flags, tcp.destination.flags), (0x1b, 0x14));
    assert_eq!((tcp.source.status, tcp.destination.status), (0, tcp_status::RESET));
    assert!(tcp.has_continued);
    // An answer alone: the other end has nothing.
    let flow = NetFlow { forward: NetFlowCounters::default(), reverse: Some(answer), ..flow() };
    let record = record_of(&flow);
    assert_eq!(
        FlowSide { vlan: 0, status: 0, ttl: 0, ip_id: 0, ..record.source },
        FlowSide::default()
    );
    assert_eq!(record.times(), (1_000, 2_000));
}

#[test]
fn a_synchronisation_is_that_of_who_asks_or_of_who_answers() {
    let status = |format, packets, tcp_flags| {
        let forward = NetFlowCounters { packets, tcp_flags, ..flow().forward };
        match record_of(&NetFlow { format, forward, ..flow() }).detail {
            Detail::Tcp(tcp) => tcp.status,
            other => panic!("{other:?}"),
        }
    };
    // As ArgusNetflow.c of argus 3.0.8.2: of version 5, and of version 9.
    for (packets, flags, old, new) in [
        (1, 0x02, 0x1, 0x1),
        (1, 0x12, 0x6, 0x4),
        (2, 0x12, 0x2, 0x4),
        (9, 0x1b, 0xa, 0xc),
        (9, 0x10, 0x4, 0x4),
        (9, 0x01, 0x8, 0x8),
        (9, 0x00, 0x0, 0x0),
    ] {
        assert_eq!(status(ExportFormat::NetflowV5, packets, flags), old, "{flags:x}");
        assert_eq!(status(ExportFormat::NetflowV9, packets, flags), new, "{flags:x}");
    }
}

#[test]
fn icmp_and_other_protocols_have_their_keys() {
    let echo = NetFlow { protocol: 1, icmp: Some([8, 0]), destination_port: 0x800, ..flow() };
    let record = record_of(&echo);
    assert_eq!((record.key.kind, record.key.source_port), (FlowKeyKind::Icmp, 0x800));
    assert_eq!((record.detail, record.cause), (Detail::None, Cause::Status));
    let words = &parts(&written(&echo))[1].1;
    assert_eq!(words, "02010105 0a000001 0a000002 01000800 00000000");
    let v6 = NetFlow { is_v6: true, protocol: 58, icmp: Some([128, 0]), ..flow() };
    assert_eq!(record_of(&v6).key.kind, FlowKeyKind::Icmpv6);
    let gre = NetFlow { protocol: 47, source_port: 0, destination_port: 0, ..flow() };
    assert_eq!(record_of(&gre).key.protocol, 47);
    // Hardware addresses take the place of interfaces.
    let with = NetFlow { source_hardware: [2, 0, 0, 0, 0, 1], ..flow() };
    assert_eq!(record_of(&with).hardware, [[0; 6], [2, 0, 0, 0, 0, 1]]);
    assert_eq!(record_of(&with).ethertype, 0x800);
}
