//! Records byte by byte, against a file that argus's clients 3.0.8.2 and 5.0.2 were seen to read.

use panoptes_records::flow::{
    Address, Arp, Cause, Detail, FlowKey, FlowKeyKind, FlowSide, Icmp, Interval, Intervals, Jitter,
    Labels, Tcp, TcpSide, TcpState, USER_BYTES_MAX, header, status, tcp_status,
};

use super::*;

/// Midnight of the captures: 2023-11-14 22:13:20 UTC, in nanoseconds.
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;

fn words(text: &str) -> Vec<u8> {
    let words = text.split_whitespace().map(|word| u32::from_str_radix(word, 16).expect("digits"));
    words.flat_map(u32::to_be_bytes).collect()
}

fn written(options: &ArgusOptions, record: &FlowRecord, extra: &Extra<'_>) -> Vec<u8> {
    let mut out = [0; PLAIN_BYTES_MAX];
    let length = write(&mut out, options, record, extra).expect("there is room");
    out[..length].to_vec()
}

/// A number as the sensor's id, which the file has.
fn options() -> ArgusOptions {
    ArgusOptions { source_id: SourceId::Address(0), ..ArgusOptions::default() }
}

fn key(protocol: u8, source_port: u16, destination_port: u16) -> FlowKey {
    FlowKey {
        source: Address::new(0x0a01_0001),
        destination: Address::new(0xc0a8_0009),
        source_port,
        destination_port,
        protocol,
        ..FlowKey::default()
    }
}

fn side(packets: u64, bytes: u64, first_us: i64, last_us: i64, ip: (u8, u16)) -> FlowSide {
    FlowSide {
        packets,
        bytes,
        first_ns: BEGIN_NS + first_us * 1000,
        last_ns: BEGIN_NS + last_us * 1000,
        encapsulation: 2,
        ttl: ip.0,
        ip_id: ip.1,
        status: status::IP,
        ..FlowSide::default()
    }
}

#[test]
fn a_tcp_connection_is_written_as_argus_does() {
    let tcp_side = |last_us: i64, status: u32, numbers: [u32; 5]| TcpSide {
        last_ns: BEGIN_NS + last_us * 1000,
        status,
        sequence_base: numbers[0],
        sequence: numbers[1],
        acknowledged: numbers[2],
        bytes: numbers[3],
        retransmitted: numbers[4],
        window: 0xfaf0,
        flags: 0x1b,
        window_scale: 7,
        ..TcpSide::default()
    };
    let tcp = Tcp {
        syn_ns: 0,
        has_random_ids: [false; 2],
        status: 0x1f,
        state: TcpState::FinWait2,
        options: 0x0070_0000,
        syn_ack_us: 5544,
        ack_data_us: 1658,
        source: tcp_side(900_000, 0x1c, [1000, 2000, 5000, 700, 1]),
        destination: tcp_side(899_000, 0x1a, [4000, 5000, 2000, 8300, 2]),
        has_continued: true,
    };
    let record = FlowRecord {
        key: key(6, 40_000, 443),
        source: side(10, 1500, 100_000, 900_000, (64, 0x1111)),
        destination: side(8, 9000, 105_000, 899_000, (52, 0x2222)),
        detail: Detail::Tcp(tcp),
        sequence: 1,
        hardware: [[2, 0, 0xc0, 0, 0, 9], [2, 0, 0x0a, 0, 0, 1]],
        ethertype: 0x800,
        ..FlowRecord::default()
    };
    let expected = words(
        "1310003a 01030103 00000000 00000001 02010105 0a010001 c0a80009 06009c40 01bb0000 03021805 \
         6553f100 000186a0 6553f100 000dbba0 10010203 000a05dc 00082328 3005001e 0000001f 00000009 \
         00700000 000015a8 0000067a 6553f100 000dbba0 0000001c 000003e8 000007d0 00001388 00000000 \
         000002bc 00000001 00000000 00000000 faf01b07 6553f100 000db7b8 0000001a 00000fa0 00001388 \
         000007d0 00000000 0000206c 00000002 00000000 00000000 faf01b07 48000303 40001111 34002222 \
         42000005 0200c000 00090200 0a000001 08000000 20000003 00000002 00000002",
    );
    let options = ArgusOptions { hardware: true, ..options() };
    assert_eq!(written(&options, &record, &Extra::default()), expected);
}

#[test]
fn a_query_is_written_as_argus_does() {
    let mut record = FlowRecord {
        key: FlowKey { extra: 0, ..key(17, 5353, 53) },
        source: side(1, 69, 1_000_005, 1_000_005, (64, 1)),
        destination: side(1, 85, 1_040_005, 1_040_005, (119, 2)),
        sequence: 2,
        ..FlowRecord::default()
    };
    record.source.application_bytes = 27;
    record.destination.application_bytes = 43;
    let expected = words(
        "13100018 01030103 00000000 00000002 02010105 0a010001 c0a80009 110014e9 00350000 03021805 \
         6553f101 00000005 6553f101 00009c45 10040103 01451b01 552b0000 30000001 48000303 40000001 \
         77000002 20000003 00000002 00000002",
    );
    let options = ArgusOptions { application_bytes: true, ..options() };
    assert_eq!(written(&options, &record, &Extra::default()), expected);
}

#[test]
fn an_echo_and_arp_are_written_in_network_order() {
    let icmp = Icmp { kind: 8, sequence: 7, ..Icmp::default() };
    let record = FlowRecord {
        key: FlowKey { kind: FlowKeyKind::Icmp, protocol: 0, ..key(0, 0x0800, 0x1234) },
        source: side(1, 98, 2_000_000, 2_000_000, (64, 1)),
        destination: side(1, 98, 2_020_000, 2_020_000, (64, 2)),
        detail: Detail::Icmp(icmp),
        sequence: 3,
        ..FlowRecord::default()
    };
    let expected = words(
        "1310001d 01030103 00000000 00000003 02010105 0a010001 c0a80009 01000800 12340000 03021805 \
         6553f102 00000000 6553f102 00004e20 10010102 01620162 30340007 08000007 00000000 00000000 \
         00000000 00000000 00000000 48000303 40000001 40000002 20000003 00000002 00000002",
    );
    assert_eq!(written(&options(), &record, &Extra::default()), expected);

    let hardware = Address::hardware([2, 0, 0xc0, 0, 0, 0]).0[1];
    let without_ip =
        |first_us: i64| FlowSide { status: 0, ..side(1, 42, first_us, first_us, (0, 0)) };
    let record = FlowRecord {
        key: FlowKey {
            kind: FlowKeyKind::Arp,
            source: Address([hardware, 0x0a01_0001]),
            destination: Address::new(0xc0a8_0009),
            ..FlowKey::default()
        },
        source: without_ip(3_000_000),
        destination: without_ip(3_000_150),
        detail: Detail::Arp(Arp { responder: [2, 0, 0xc0, 0, 0, 9] }),
        sequence: 4,
        hardware: [[0xff; 6], [2, 0, 0x0a, 0, 0, 1]],
        ethertype: 0x0806,
        ..FlowRecord::default()
    };
    let expected = words(
        "1310001d 01030103 00000000 00000004 02060407 00010800 06040001 0a010001 c0a80009 0200c000 \
         00000000 03021805 6553f103 00000000 6553f103 00000096 10010102 012a012a 30100003 0200c000 \
         00090000 42000005 ffffffff ffff0200 0a000001 08060000 20000003 00000002 00000002",
    );
    let options = ArgusOptions { hardware: true, ..options() };
    assert_eq!(written(&options, &record, &Extra::default()), expected);
}

/// The part FLOW is that of argus 3.0.8.2, without the address and the name of the access point.
#[test]
fn a_frame_of_802_11_is_written_as_argus_does() {
    let record = FlowRecord {
        key: FlowKey {
            kind: FlowKeyKind::Wireless,
            source: Address::hardware([2, 0, 0, 0, 0, 0x0a]),
            destination: Address::hardware([0xff; 6]),
            ..FlowKey::default()
        },
        source: FlowSide { status: 0, ..side(1, 42, 0, 0, (0, 0)) },
        sequence: 1,
        ..FlowRecord::default()
    };
    let flow = "0201080e ffffffff ffff0200 0000000a 00000000 00000000 00000000 00000000 00000000 \
                00000000 00000000 00000000 00000000 00000000";
    let bytes = written(&options(), &record, &Extra::default());
    // Behind the header of the record and the part TRANSPORT.
    assert_eq!(bytes[16..16 + 56], words(flow));
}

#[test]
fn version_5_is_written_as_argus_5_does() {
    let tcp_side = |last_ns: i64, status: u32, numbers: [u32; 4], window: u16| TcpSide {
        last_ns: BEGIN_NS + last_ns,
        status,
        sequence_base: numbers[0],
        sequence: numbers[1],
        acknowledged: numbers[2],
        bytes: numbers[3],
        window,
        flags: 0x1b,
        window_scale: 7,
        ..TcpSide::default()
    };
    let tcp = Tcp {
        syn_ns: 0,
        has_random_ids: [false; 2],
        status: 0x1f,
        state: TcpState::FinWait2,
        options: 0x0470_0000,
        syn_ack_us: 5544,
        ack_data_us: 1658,
        source: TcpSide {
            windows: 2,
            ..tcp_side(109_898_000, 0x1c, [1000, 1301, 2_005_001, 300], 0x01f6)
        },
        destination: TcpSide {
            windows: 3,
            ..tcp_side(109_648_000, 0x1a, [2_000_000, 2_005_001, 1301, 5000], 0x0104)
        },
        has_continued: true,
    };
    let sized = |side: FlowSide, application_bytes: u64, size_max: u16| FlowSide {
        application_bytes,
        size_min: 0x4e,
        size_max,
        mpls: 0x003e_8040,
        mpls_depth: 3,
        encapsulation: 3,
        ..side
    };
    let source = side(7, 854, 100_000, 109_898, (64, 0x3d9e));
    let destination = side(7, 5554, 105_544, 109_648, (64, 0x68cb));
    let record = FlowRecord {
        key: FlowKey { destination: Address::new(0x0a01_0065), ..key(6, 40_000, 443) },
        source: sized(source, 300, 0x17a),
        destination: sized(destination, 5000, 0x5c6),
        detail: Detail::Tcp(tcp),
        sequence: 1,
        hardware: [[2, 0, 0, 4, 0, 0x65], [2, 0, 0, 4, 0, 1]],
        ethertype: 0x8847,
        ..FlowRecord::default()
    };
    // Sums that give the means and deviations of argus.
    let interval = |count: u32, [min, mean, deviation, max]: [f64; 4]| Interval {
        count,
        min: min as u32,
        max: max as u32,
        sum: mean * f64::from(count),
        square_sum: f64::from(count) * (mean * mean + deviation * deviation),
    };
    let jitter = Jitter {
        source: Intervals {
            idle: interval(6, [112.0, 1649.667, 2523.0, 7202.0]),
            ..Intervals::default()
        },
        destination: Intervals {
            active: interval(2, [12.0, 12.0, 0.0, 12.0]),
            idle: interval(4, [512.0, 1020.0, 618.0, 2032.0]),
            last_ns: 0,
        },
    };
    let user: [&[u8]; 2] = [b"abcdefghijklmnop"; 2];
    let extra = Extra { jitter: Some(&jitter), user, ..Extra::default() };
    let options = ArgusOptions {
        source_id: SourceId::Address(0x0a01_0001),
        application_bytes: true,
        hardware: true,
        packet_sizes: true,
        ..ArgusOptions::default()
    };
    let mut out = [0; PLAIN_BYTES_MAX];
    let length = Version::Five.write(&mut out, &options, &record, &extra).expect("there is room");
    // Argus 5.0.2 with `-X -A -m -Z -J -U 16`, without the name of its interface. The largest
    // segments, and the numbers of the jitter that are rounded, are zeros here.
    let expected = words(
        "15100065 01030103 0a010001 00000001 02010105 0a010001 0a010065 06009c40 01bb0000 03021905 \
         6553f100 05f5e100 6553f100 068ce910 10040204 00070356 012c0007 15b21388 30050220 0000001f \
         00000009 04700000 000015a8 0000067a 6553f100 068ce910 0000001c 000003e8 00000515 001e9809 \
         00000002 0000012c 00000000 00000000 00000000 01f61b07 00000000 6553f100 06891880 0000001a \
         001e8480 001e9809 00000515 00000003 00001388 00000000 00000000 00000000 01041b07 00000000 \
         44031103 003e8040 003e8040 46000e16 00000006 47dac000 00000000 00000000 4adbc9a0 00000000 \
         00000000 00000002 463b8000 463b8000 00000000 463b8000 00000000 00000000 00000004 48fa0000 \
         00000000 00000000 49f80c00 00000000 00000000 48000303 40003d9e 400068cb 12030203 004e017a \
         004e05c6 50900006 00100010 61626364 65666768 696a6b6c 6d6e6f70 50a00006 00100010 61626364 \
         65666768 696a6b6c 6d6e6f70 42000005 02000004 00650200 00040001 47880000 20000003 00000003 \
         00000003",
    );
    let jitter_at = expected.windows(4).position(|word| word == [0x46, 0, 0x0e, 0x16]);
    let jitter_at = jitter_at.expect("there is jitter");
    for rounded in [3, 4, 17, 18].map(|word| jitter_at + 4 * word) {
        out[rounded..rounded + 4].fill(0);
    }
    let mut expected = expected;
    // An Ethernet type in network order; argus 5 writes that of its machine.
    let end = expected.len();
    expected[end - 16..end - 12].copy_from_slice(&[0x88, 0x47, 0, 0]);
    assert_eq!(out[..length], expected);
}

#[test]
fn ids_have_up_to_16_bytes_and_an_interface() {
    let record = FlowRecord { sequence: 2, ..FlowRecord::default() };
    let id = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
    let interface = *b"tcap";
    // Argus 5.0.2 writes the interface always. Version 3 has no such ids.
    for (source_id, expected, three) in [
        (
            SourceId::Uuid(id),
            "01133207 00112233 44556677 8899aabb ccddeeff 74636170 00000002",
            "01032003 00000000 00000002",
        ),
        (
            SourceId::Address6(0x2001_0db8_0000_0000_0000_0000_0000_0001_u128.to_be_bytes()),
            "01131207 20010db8 00000000 00000000 00000001 74636170 00000002",
            "01032003 20010db9 00000002",
        ),
        (
            SourceId::Address(0x0a01_0001),
            "01131104 0a010001 74636170 00000002",
            "01030103 0a010001 00000002",
        ),
        (SourceId::Text(*b"ab\0\0"), "01133104 61620000 74636170 00000002", "01032103 61620000"),
        (SourceId::Number(7), "01133004 00000007 74636170 00000002", "01032003 00000007"),
    ] {
        let options = ArgusOptions { source_id, interface, ..ArgusOptions::default() };
        let mut out = [0; PLAIN_BYTES_MAX];
        let length = Version::Five.write(&mut out, &options, &record, &Extra::default());
        assert!(out[4..length.expect("there is room")].starts_with(&words(expected)));
        let bytes = written(&options, &record, &Extra::default());
        assert!(bytes[4..].starts_with(&words(three)), "{bytes:02x?}");
    }
}

#[test]
fn counters_take_as_many_bytes_as_they_need() {
    for (packets, application, expected) in [
        ((1, 0), false, "10010602 00010064"),
        ((0, 1), false, "10010a02 00010064"),
        ((1, 0), true, "10040502 01640000"),
        ((1, 1), false, "10010102 01640164"),
        ((0x100, 1), false, "10010203 01000064 00010064"),
        ((0x1_0000, 1), false, "10010305 00010000 00000064 00000001 00000064"),
        ((1 << 32, 0), false, "10010805 00000001 00000000 00000000 00000064"),
    ] {
        let of = |packets: u64| side(packets, 100, 0, 0, (64, 1));
        let record = FlowRecord {
            source: if packets.0 == 0 { FlowSide::default() } else { of(packets.0) },
            destination: if packets.1 == 0 { FlowSide::default() } else { of(packets.1) },
            ..FlowRecord::default()
        };
        let options = ArgusOptions { application_bytes: application, ..options() };
        let bytes = written(&options, &record, &Extra::default());
        let expected = words(expected);
        assert!(bytes.windows(expected.len()).any(|part| part == expected), "{packets:?}");
    }
}

#[test]
fn both_ends_have_their_bits_in_the_status() {
    let tcp = Tcp {
        syn_ns: 0,
        status: tcp_status::ESTABLISHED | tcp_status::RESET,
        source: TcpSide { status: tcp_status::RETRANSMITTED, ..TcpSide::default() },
        destination: TcpSide { status: tcp_status::RESET, ..TcpSide::default() },
        has_continued: true,
        ..Tcp::default()
    };
    let record = FlowRecord { detail: Detail::Tcp(tcp), ..FlowRecord::default() };
    let bytes = written(&options(), &record, &Extra::default());
    let expected = words("3005001e 00002104");
    assert!(bytes.windows(8).any(|part| part == expected), "{bytes:02x?}");
}

/// Argus writes the outermost one of several labels, and a count of one. Clients read as many words
/// as are counted, and lose what follows if there are fewer.
#[test]
fn one_label_of_each_end_is_counted() {
    let labelled =
        |depth: u8| FlowSide { mpls: 0x003e_8040, mpls_depth: depth, ..FlowSide::default() };
    for (source, destination, expected) in [
        (1, 1, "44031103 003e8040 003e8040"),
        (3, 2, "44031103 003e8040 003e8040"),
        (3, 0, "44011002 003e8040"),
        (0, 2, "44020102 003e8040"),
    ] {
        let record = FlowRecord {
            source: labelled(source),
            destination: labelled(destination),
            ..FlowRecord::default()
        };
        let bytes = written(&options(), &record, &Extra::default());
        let expected = words(expected);
        assert!(bytes.windows(expected.len()).any(|part| part == expected), "{bytes:02x?}");
    }
}

#[test]
fn user_data_has_its_length_and_is_padded() {
    let record = FlowRecord { source: side(1, 100, 0, 0, (64, 1)), ..FlowRecord::default() };
    let extra = Extra { user: [b"GET /", b""], ..Extra::default() };
    let bytes = written(&options(), &record, &extra);
    let expected = words("50900004 00050005 47455420 2f000000");
    assert!(bytes.windows(16).any(|part| part == expected), "{bytes:02x?}");
    let long = vec![7; USER_BYTES_MAX];
    let extra = Extra { user: [&long, &long], ..Extra::default() };
    let mut out = vec![0; RECORD_BYTES_MAX];
    let length = write(&mut out, &options(), &record, &extra).expect("two ends fit");
    assert_eq!(usize::from(u16::from_be_bytes([out[2], out[3]])) * 4, length);
    assert_eq!(write(&mut out[..length - 1], &options(), &record, &extra), None);
}

#[test]
fn later_records_have_their_cause() {
    for (cause, expected) in [(Cause::Start, 0x10), (Cause::Status, 0x20), (Cause::Stop, 0x30)] {
        let record = FlowRecord { cause, ..FlowRecord::default() };
        assert_eq!(written(&options(), &record, &Extra::default())[..2], [0x13, expected]);
    }
}

#[test]
fn labels_are_one_text() {
    // `ra -s label` 3.0.8.2 and 5.0.2 were seen to print this part.
    let mut labels = Labels::default();
    assert!(labels.add("saddr=dmz") && labels.add("comm=a:b\n"));
    let extra = Extra { labels, ..Extra::default() };
    let bytes = written(&options(), &FlowRecord::default(), &extra);
    let mut expected = words("66000006");
    expected.extend(b"saddr=dmz:comm=a_b_\0");
    assert!(bytes.ends_with(&expected), "{bytes:02x?}");
}

/// The facts of both versions of `include/argus_encapsulations.h`; what one has no bit for is what
/// the protocol below it is.
#[test]
fn headers_around_packets_are_those_of_each_version() {
    let written = |version: Version, encapsulation: u32| {
        let side = FlowSide { packets: 1, encapsulation, ..FlowSide::default() };
        let record = FlowRecord { source: side, ..FlowRecord::default() };
        let mut out = [0; PLAIN_BYTES_MAX];
        let length = version.write(&mut out, &ArgusOptions::default(), &record, &Extra::default());
        // The part is the last one.
        let part = &out[..length.expect("there is room")];
        let part: [u8; 12] = *part.last_chunk().expect("a part");
        assert_eq!((part[..4].to_vec(), part[8..].to_vec()), (vec![0x20, 0, 0, 3], vec![0; 4]));
        u32::from_be_bytes([part[4], part[5], part[6], part[7]])
    };
    let (ether, ppp, gre, ip_in_ip) = (0x2, 0x10, 0x40, 0x100);
    for (bits, three, five) in [
        (ether | header::VXLAN, ether | ip_in_ip, ether | 0x400_0000),
        (ether | header::GENEVE, ether | ip_in_ip, ether | 0x1000_0000),
        (ether | ppp | header::L2TP, ether | ppp, ether | ppp | 0x800_0000),
        (ether | gre | header::ERSPAN, ether | gre | 0x400_0000, ether | gre),
        (ether | header::GTP_USER, ether | ip_in_ip, ether | ip_in_ip),
        (ether | 0x5 | gre | ip_in_ip, ether | 0x5 | gre | ip_in_ip, ether | 0x5 | gre | ip_in_ip),
    ] {
        let all = [Version::Three, Version::Five].map(|version| written(version, bits));
        assert_eq!(all, [three, five], "{bits:#x}");
    }
}
