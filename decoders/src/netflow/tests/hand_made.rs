//! Datagrams made by hand, by the documents of their formats.

use std::string::String;
use std::vec;

use super::*;

/// The header of versions 5 to 8 behind the version: count, an hour of uptime, the time, sequence.
fn header(version: u16, count: u16, rest: &str) -> Vec<u8> {
    let mut bytes = [version.to_be_bytes(), count.to_be_bytes()].concat();
    bytes.extend(3_600_000_u32.to_be_bytes());
    bytes.extend(hex("6553f104 1dcd6500 00000007")); // 22:13:24.5
    bytes.extend(hex(rest));
    bytes
}

/// First and last: 2 s and 1 s before the header.
const TIMES: &str = "0036e6b0 0036ea98"; // 3,598,000 and 3,599,000
const FIRST_NS: i64 = 1_700_000_002_500_000_000;
const LAST_NS: i64 = 1_700_000_003_500_000_000;

fn counters(packets: u64, bytes: u64, tcp_flags: u8) -> NetFlowCounters {
    NetFlowCounters { packets, bytes, first_ns: FIRST_NS, last_ns: LAST_NS, tcp_flags }
}

/// Decodes one datagram that contains one flow.
fn only(payload: Vec<u8>) -> NetFlow {
    let (flows, counts) = decoded(&[payload]);
    assert_eq!((counts.flows, counts.malformed), (1, 0));
    flows[0]
}

#[test]
fn all_fields_of_versions_5_6_and_7_are_read() {
    let ends = "0a000001 0a000002 0a000003 0004 0005 00000006 00000700";
    let behind = "1234 0050 00 12 06 b8 fc01 fc02 18 10";
    let record = |tail: &str| [hex(ends), hex(TIMES), hex(behind), hex(tail)].concat();
    let expected = NetFlow {
        exporter: 1,
        sequence: 7,
        sampling: 1,
        source: v4([10, 0, 0, 1]),
        destination: v4([10, 0, 0, 2]),
        next_hop: v4([10, 0, 0, 3]),
        source_port: 0x1234,
        destination_port: 80,
        protocol: 6,
        tos: 0xb8,
        forward: counters(6, 0x700, 0x12),
        input: 4,
        output: 5,
        source_as: 0xfc01,
        destination_as: 0xfc02,
        source_mask: 24,
        destination_mask: 16,
        ..NetFlow::default()
    };
    // Engine 2/3, one of 100 packets at random; padding.
    let v5 = [header(5, 1, "0203 4064"), record("0000")].concat();
    let with_engine = NetFlow { domain: 0x203, ..expected };
    assert_eq!(only(v5), NetFlow { format: ExportFormat::NetflowV5, sampling: 100, ..with_engine });
    // Sizes of encapsulations, next hop of the peer.
    let v6 = [header(6, 1, "0203 0000"), record("0e0e 0a000009")].concat();
    assert_eq!(only(v6), NetFlow { format: ExportFormat::NetflowV6, ..with_engine });
    // Flags, the router that is bypassed.
    let v7 = [header(7, 1, "00000000"), record("0000 0a000009")].concat();
    assert_eq!(only(v7), NetFlow { format: ExportFormat::NetflowV7, ..expected });
}

/// What a record adds to a flow.
type Expected<'a> = &'a dyn Fn(NetFlow) -> NetFlow;

#[test]
fn all_ways_of_adding_up_in_version_8_are_read() {
    let add = |method: u8, record: &str| {
        let engine = std::format!("0203 {method:02x}02 00000000");
        let flow = only([header(8, 1, &engine), hex(record)].concat());
        let rest = NetFlow {
            format: ExportFormat::NetflowV8,
            exporter: 1,
            domain: 0x203,
            sequence: 7,
            sampling: 1,
            flows: if matches!(method, 6..=8) { 0 } else { 3 },
            forward: counters(6, 0x700, 0),
            ..NetFlow::default()
        };
        (flow, rest)
    };
    let flows = std::format!("00000003 00000006 00000700 {TIMES}");
    let one = std::format!("00000006 00000700 {TIMES}");
    let (source, destination) = (v4([10, 1, 0, 0]), v4([10, 2, 0, 0]));
    let systems = |rest| NetFlow { source_as: 1, destination_as: 2, input: 4, output: 5, ..rest };
    let ports = |rest| NetFlow { protocol: 6, source_port: 8, destination_port: 9, ..rest };
    let from = |rest| NetFlow { source, source_mask: 16, source_as: 1, input: 4, ..rest };
    let to =
        |rest| NetFlow { destination, destination_mask: 24, destination_as: 2, output: 5, ..rest };
    let tos = |rest| NetFlow { tos: 0xb8, ..rest };
    let ends = |rest| NetFlow { source, destination, ..rest };
    let masks = |rest| NetFlow { source_mask: 16, destination_mask: 24, ..ends(rest) };
    let links = |rest| NetFlow { input: 4, output: 5, ..rest };

    let all: [(u8, String, Expected<'_>); 14] = [
        (1, flows.clone() + "0001 0002 0004 0005", &systems),
        (2, flows.clone() + "06 ff ffff 0008 0009", &ports),
        (3, flows.clone() + "0a010000 10 ff 0001 0004 0000", &from),
        (4, flows.clone() + "0a020000 18 ff 0002 0005 0000", &to),
        (5, flows.clone() + "0a010000 0a020000 18 10 ffff 0001 0002 0004 0005", &|rest| {
            masks(systems(rest))
        }),
        (6, std::format!("0a020000 {one} 0005 b8 00 00000000 0a000009"), &|rest| {
            tos(NetFlow { destination, output: 5, ..rest })
        }),
        (
            7,
            std::format!("0a020000 0a010000 {one} 0005 0004 b8 00 0000 00000000 0a000009"),
            &|rest| tos(ends(links(rest))),
        ),
        (
            8,
            std::format!(
                "0a020000 0a010000 0009 0008 {one} 0005 0004 b8 06 00 00 00000000 0a000009"
            ),
            &|rest| tos(ends(links(ports(rest)))),
        ),
        (9, flows.clone() + "0001 0002 0004 0005 b8 00 0000", &|rest| tos(systems(rest))),
        (10, flows.clone() + "06 b8 0000 0008 0009 0004 0005", &|rest| tos(links(ports(rest)))),
        (11, flows.clone() + "0a010000 10 b8 0001 0004 0000", &|rest| tos(from(rest))),
        (12, flows.clone() + "0a020000 18 b8 0002 0005 0000", &|rest| tos(to(rest))),
        (13, flows.clone() + "0a010000 0a020000 18 10 b8 ff 0001 0002 0004 0005", &|rest| {
            tos(masks(systems(rest)))
        }),
        (14, flows.clone() + "0a010000 0a020000 18 10 b8 06 0008 0009 0004 0005", &|rest| {
            tos(masks(links(ports(rest))))
        }),
    ];
    for (method, record, expected) in &all {
        let (flow, rest) = add(*method, record);
        assert_eq!(flow, expected(rest), "{method}");
    }
}

#[test]
fn the_uptime_begins_anew() {
    // The header is 1 s after that: the flow began 2 s and ended 1 s before the header.
    let mut datagram = hex("0005 0001 000003e8 6553f104 00000000 00000000 0000 0000");
    datagram.extend([0; 16]);
    datagram.extend(hex("00000001 00000001 fffffc18 00000000"));
    datagram.extend([0; 16]);
    let flow = only(datagram);
    assert_eq!(flow.forward.first_ns, 1_700_000_002_000_000_000);
    assert_eq!(flow.forward.last_ns, 1_700_000_003_000_000_000);
}

/// RFC 3954 §10.
#[test]
fn the_example_of_rfc_3954_is_read() {
    let template = "0000 001c 0100 0005 0008 0004 000c 0004 000f 0004 0002 0004 0001 0004";
    let flows = "0100 0040 c6a8010c 0a050cfe c0a80101 00001391 00518c81 \
        c0a8011b 0a050c17 c0a80101 000002ec 0005ef46 \
        c0a80138 0a050c41 c0a80101 00000005 00001986";
    // For line cards: datagrams that were exported, and flows.
    let options = "0001 0018 0101 0004 0008 0003 0002 0029 0002 002a 0002 0000";
    let cards = "0101 0010 0001 0159 27d9 0002 02b2 4fb2";
    let header = "0009 0007 0036ee80 6553f104 00000009 00000011";
    let (flows, counts) =
        decoded(&[hex(&std::format!("{header} {template} {flows} {options} {cards}"))]);
    let found: Vec<_> = flows
        .iter()
        .map(|flow| {
            let NetFlow { source, destination, next_hop, forward, .. } = *flow;
            (source, destination, next_hop, forward.packets, forward.bytes)
        })
        .collect();
    let hop = v4([192, 168, 1, 1]);
    let expected = [
        (v4([198, 168, 1, 12]), v4([10, 5, 12, 254]), hop, 5009, 0x0051_8c81),
        (v4([192, 168, 1, 27]), v4([10, 5, 12, 23]), hop, 748, 388_934),
        (v4([192, 168, 1, 56]), v4([10, 5, 12, 65]), hop, 5, 6534),
    ];
    assert_eq!(found, expected);
    assert_eq!((flows[2].domain, flows[2].sequence), (0x11, 9));
    // No times were told: they are those of the header.
    assert_eq!(flows[0].forward.last_ns, 1_700_000_004_000_000_000);
    let expected = ExporterCounts {
        datagrams: 1,
        flows: 3,
        templates: 2,
        options: 2,
        ..ExporterCounts::default()
    };
    assert_eq!(counts, expected);
}

/// RFC 7011 appendix A.
#[test]
fn the_examples_of_rfc_7011_are_read() {
    let template = "0002 001c 0100 0005 0008 0004 000c 0004 000f 0004 0002 0004 0001 0004";
    let with_enterprises = "0002 001e 0101 0004 0008 0004 000c 0004 800f 0004 00000010 0002 0004 \
        0000";
    let flows = "0100 0040 c000020c c00002fe c0000201 00001391 00518c81 \
        c000021b c0000217 c0000202 000002ec 0005ef46 \
        c0000238 c0000241 c0000203 00000005 00001986";
    let message = message(&[template, with_enterprises, flows]);
    let (flows, counts) = decoded(&[message]);
    let found: Vec<_> = flows.iter().map(|flow| (flow.source, flow.next_hop)).collect();
    let expected = [
        (v4([192, 0, 2, 12]), v4([192, 0, 2, 1])),
        (v4([192, 0, 2, 27]), v4([192, 0, 2, 2])),
        (v4([192, 0, 2, 56]), v4([192, 0, 2, 3])),
    ];
    assert_eq!(found, expected);
    assert_eq!(flows[1].forward.packets, 748);
    assert_eq!(flows.iter().map(|flow| flow.sequence).collect::<Vec<_>>(), [4, 5, 6]);
    assert_eq!((counts.templates, counts.malformed), (2, 0));
}

/// A message of IPFIX with sequence number 4, exported at 22:13:24.
fn message(sets: &[&str]) -> Vec<u8> {
    let sets: Vec<u8> = sets.iter().flat_map(|set| hex(set)).collect();
    let mut bytes = hex("000a");
    bytes.extend((16 + sets.len() as u16).to_be_bytes());
    bytes.extend(hex("6553f104 00000004 00000001"));
    bytes.extend(sets);
    bytes
}

#[test]
fn values_of_any_length_are_skipped() {
    // A text of variable length, an enterprise's element of variable length, packets of two bytes.
    let template =
        "0002 0020 0100 0005 0052 ffff 8001 ffff 0000 7279 0008 0004 0002 0002 0001 0003";
    let long = std::format!("ff 0100 {}", "55".repeat(256));
    let record = std::format!("03 616263 {long} 0a000001 0102 030405");
    let set = std::format!("0100 {:04x} {record}", 4 + hex(&record).len());
    let (flows, counts) = decoded(&[message(&[template, &set])]);
    assert_eq!(counts.malformed, 0);
    assert_eq!(flows.len(), 1);
    assert_eq!(flows[0].source, v4([10, 0, 0, 1]));
    assert_eq!((flows[0].forward.packets, flows[0].forward.bytes), (0x0102, 0x0003_0405));
}

#[test]
fn times_come_in_every_unit() {
    let seconds = (150, 151, "6553f102", "6553f103", 0);
    let milliseconds = (152, 153, "0000018bcfe571c4", "0000018bcfe575ac", 500);
    // Seconds since 1900 and 2^-32 seconds: one half.
    let microseconds = (154, 155, "e8fe6f82 80000000", "e8fe6f83 80000000", 500);
    let nanoseconds = (156, 157, "e8fe6f82 80000000", "e8fe6f83 80000000", 500);
    // Microseconds before the export at 22:13:24.
    let before = (158, 159, "0016e360", "0007a120", 500);
    for (first, last, from, to, part_ms) in
        [seconds, milliseconds, microseconds, nanoseconds, before]
    {
        let length = hex(from).len();
        let template = std::format!(
            "0002 0014 0100 0003 {first:04x} {length:04x} {last:04x} {length:04x} 0002 0004"
        );
        let set = std::format!("0100 {:04x} {from} {to} 00000001", 8 + 2 * length);
        let (flows, _) = decoded(&[message(&[&template, &set])]);
        let expected = NetFlowCounters {
            packets: 1,
            first_ns: 1_700_000_002_000_000_000 + part_ms * 1_000_000,
            last_ns: 1_700_000_003_000_000_000 + part_ms * 1_000_000,
            ..NetFlowCounters::default()
        };
        assert_eq!(flows[0].forward, expected, "{first}");
    }
    // A duration, and uptimes without the time of the start: only their difference is known.
    let start = message(&[
        "0002 0014 0100 0003 0098 0008 00a1 0004 0002 0004",
        "0100 0014",
        "0000018bcfe571c4 000003e8 00000001",
    ]);
    let uptimes = message(&[
        "0002 0014 0100 0003 0016 0004 0015 0004 0002 0004",
        "0100 0010",
        "ffffff00 000002e8 00000001",
    ]);
    let (flows, _) = decoded(&[start, uptimes]);
    let times: Vec<_> =
        flows.iter().map(|flow| (flow.forward.first_ns, flow.forward.last_ns)).collect();
    let expected = [
        (1_700_000_002_500_000_000, 1_700_000_003_500_000_000),
        (1_700_000_003_000_000_000, 1_700_000_004_000_000_000),
    ];
    assert_eq!(times, expected);
}

#[test]
fn options_tell_the_rate_of_sampling() {
    // Scope: exporting process. One packet is taken, 99 are left (RFC 5477).
    let options = "0003 0016 0102 0003 0001 0090 0004 0131 0004 0132 0004";
    let rate = "0102 0010 00000001 00000001 00000063";
    let template = "0002 0010 0100 0002 0008 0004 0002 0004";
    let flow = "0100 000c 0a000001 00000005";
    let (flows, counts) = decoded(&[message(&[options, rate, template, flow])]);
    assert_eq!((flows[0].sampling, counts.options), (100, 1));
    // Version 9: of the system, the interval of field 34.
    let v9 = "0009 0003 00000000 6553f104 00000001 00000000 \
        0001 0014 0102 0004 0004 0001 0004 0022 0004 0000 \
        0102 000c 00000000 00000032 \
        0000 0010 0100 0002 0008 0004 0002 0004 0100 000c 0a000001 00000005";
    let (flows, counts) = decoded(&[hex(v9)]);
    assert_eq!((flows[0].sampling, counts.malformed), (50, 0));
}

#[test]
fn counters_of_other_elements_are_taken_if_there_are_no_others() {
    // Counters of the whole flow, behind the exporter, and of both ends, as firewalls export them.
    for (packets, bytes) in [("0056", "0055"), ("0018", "0017"), ("012a", "00e7")] {
        let template = std::format!("0002 0010 0100 0002 {packets} 0004 {bytes} 0004");
        let set = "0100 000c 00000005 00000007";
        let (flows, _) = decoded(&[message(&[&template, set])]);
        assert_eq!((flows[0].forward.packets, flows[0].forward.bytes), (5, 7), "{packets}");
    }
    let answer = "0002 0010 0100 0002 012b 0004 00e8 0004";
    let none = "0002 000c 0101 0001 0008 0004";
    let sets = ["0100 000c 00000005 00000007", "0101 0008 0a000001"];
    let (flows, counts) = decoded(&[message(&[answer, none, sets[0], sets[1]])]);
    assert_eq!(flows[0].reverse.map(|reverse| (reverse.packets, reverse.bytes)), Some((5, 7)));
    assert_eq!((counts.flows, counts.without_counters), (1, 1));
}

#[test]
fn templates_are_withdrawn() {
    let template = "0002 0010 0100 0002 0008 0004 0002 0004";
    let flow = "0100 000c 0a000001 00000005";
    for (withdrawal, flows) in [
        ("0002 0008 0100 0000", 0),
        ("0002 0008 0002 0000", 0),
        ("0002 0008 0101 0000", 1),
        ("0002 0008 0000 0000", 1),
    ] {
        let (found, counts) = decoded(&[message(&[template, withdrawal, flow])]);
        assert_eq!((found.len(), counts.malformed), (flows, 0), "{withdrawal}");
    }
}

/// sFlow.org, "sFlow Version 5" §5: an expanded sample with all extended data, and no raw header.
#[test]
fn expanded_samples_and_extended_data_of_sflow_are_read() {
    let start = "00000005 00000002 20010db8000000000000000000000001 00000003 00000009 00001000";
    let sample = "00000001 00000000 00000002 00000200 00000400 00000000 \
        00000000 00000002 00000000 80000003 00000005";
    let packet = "00000003 00000020 00000064 00000006 0a000001 0a000002 00001234 00000050 00000012 \
        000000b8";
    let switch = "000003e9 00000010 00000064 00000000 000000c8 00000000";
    let router = "000003ea 00000010 00000001 0a000003 00000018 00000010";
    let gateway = "000003eb 0000003c 00000001 0a000004 0000fc00 0000fc01 0000fc09 \
        00000002 00000002 00000001 0000fc05 00000001 00000002 0000fc06 0000fc07 00000000 00000064";
    let unknown = "00000bb8 00000004 ffffffff";
    let records = [packet, switch, router, gateway, unknown].concat();
    let sample = hex(sample).into_iter().chain(hex(&records)).collect::<Vec<_>>();
    let mut payload = hex(start);
    payload.extend(hex("00000002 00000004 00000004 00000000")); // counters of an interface
    payload.extend(hex("00000003"));
    payload.extend((sample.len() as u32).to_be_bytes());
    payload.extend(sample);
    let expected = NetFlow {
        format: ExportFormat::Sflow,
        exporter: 0x2001_0db8 << 96 | 1,
        domain: 3,
        sequence: 9,
        sampling: 512,
        source: v4([10, 0, 0, 1]),
        destination: v4([10, 0, 0, 2]),
        next_hop: v4([10, 0, 0, 3]),
        source_port: 0x1234,
        destination_port: 80,
        protocol: 6,
        tos: 0xb8,
        forward: NetFlowCounters {
            packets: 1,
            bytes: 100,
            first_ns: NOW_NS,
            last_ns: NOW_NS,
            tcp_flags: 0x12,
        },
        input: 2,
        output: 0x8000_0003,
        source_as: 0xfc01,
        destination_as: 0xfc07,
        source_mask: 24,
        destination_mask: 16,
        source_vlan: Some(100),
        destination_vlan: Some(200),
        ..NetFlow::default()
    };
    let (flows, counts) = decoded(&[payload]);
    assert_eq!(flows, vec![expected]);
    assert_eq!((counts.options, counts.malformed, counts.samples), (1, 0, 0));
}
