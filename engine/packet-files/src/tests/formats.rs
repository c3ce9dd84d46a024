//! Each format with bytes made by hand.

use super::*;

#[test]
fn classic_pcap_of_both_byte_orders_and_all_resolutions() {
    // Magic, bytes after the usual record header, nanoseconds of a unit.
    let kinds = [(0xa1b2_c3d4_u32, 0_usize, 1000_i64), (0xa1b2_3c4d, 0, 1), (0xa1b2_cd34, 8, 1000)];
    for order in ORDERS {
        for (magic, more, unit) in kinds {
            let mut out = ByteOrderWriter::new(order);
            out.u32s(&[magic]);
            out.u16s(&[2, 4]);
            // The snapshot length is wrong, and the link type has the length of the FCS above it.
            out.u32s(&[0, 0, 2, 0x2400_0000 | 0x71]);
            for (stamp, bytes) in [(3, &b"four"[..]), (999_999, b""), (u32::MAX, b"x")] {
                out.u32s(&[SECOND, stamp, bytes.len() as u32, 2]);
                out.bytes.extend(vec![0xff; more]);
                out.bytes.extend(bytes);
            }
            assert_eq!(open(&out.bytes).unwrap().format(), CaptureFormat::Pcap);
            let outcome = read(&out.bytes);
            let stamps: Vec<i64> = outcome.packets.iter().map(|found| found.time_ns).collect();
            let expected = [3, 999_999, i64::from(u32::MAX)];
            assert_eq!(stamps, expected.map(|stamp| SECOND_NS + stamp * unit));
            assert_eq!(outcome.packets[0].bytes, b"four");
            assert_eq!((outcome.packets[0].link, outcome.packets[0].wire_length), (113, 2));
            assert_eq!((outcome.error, outcome.skipped), (None, SkippedCounts::default()));
        }
    }
}

#[test]
fn the_end_within_a_record_is_counted() {
    let packets = three();
    let whole = pcap(Order::Big, &packets);
    let last = whole.len() - 16;
    for length in last + 1..whole.len() {
        let outcome = read(&whole[..length]);
        assert_eq!((outcome.packets.len(), outcome.error), (2, None));
        assert_eq!(outcome.skipped.cut_bytes, (length - last) as u64);
    }
    assert_eq!(
        refused(&whole[..23]),
        "test is damaged at byte 0: its header is incomplete; copy or convert it again"
    );
}

#[test]
fn a_pcap_record_of_impossible_length_is_an_error() {
    let mut whole = pcap(Order::Little, &three());
    let place = whole.len();
    let mut record = ByteOrderWriter::new(Order::Little);
    record.u32s(&[SECOND, 0, (256 << 10) + 1, 60]);
    whole.extend(record.bytes);
    let outcome = read(&whole);
    assert_eq!(outcome.packets, three());
    assert_eq!(
        outcome.error.unwrap(),
        format!(
            "test is damaged at byte {place}: a packet of 262145 bytes is longer than the 262144 \
             bytes that any may have; copy or convert it again"
        )
    );
    let longest = [packet(0, 1 << 20, &vec![9; 256 << 10])];
    assert_eq!(read(&pcap(Order::Big, &longest)).packets, longest);
}

#[test]
fn pcapng_of_several_sections() {
    let mut out = ByteOrderWriter::new(Order::Big);
    let mut expected = Vec::new();
    for (section, order) in [Order::Big, Order::Little].into_iter().enumerate() {
        out.order = order;
        out.section();
        out.interface(1, 4, &[]);
        // 2^-10 s since 1000 s before 1970.
        let before = match order {
            Order::Little => (-1000_i64).to_le_bytes(),
            Order::Big => (-1000_i64).to_be_bytes(),
        };
        out.interface(105, 0, &[(9, &[0x8a]), (14, &before), (0, &[])]);
        out.enhanced(0, u64::from(SECOND) * 1_000_000 + 5, 60, b"abcde");
        out.block(5, &[0; 8]); // statistics
        out.block(0xbad, b"custom");
        let simple = out.body(|body| {
            body.u32s(&[60]);
            body.bytes.extend(b"abcd");
        });
        out.block(3, &simple);
        let obsolete = out.body(|body| {
            body.u16s(&[1, 77]);
            body.u32s(&[0, 2000 << 10 | 512, 3, 3]);
            body.bytes.extend(b"xyz");
        });
        out.block(2, &obsolete);
        let first = section as u32 * 2;
        let time_ns = SECOND_NS + 5000;
        expected.push(OwnedFrame { interface: first, ..packet(time_ns, 60, b"abcde") });
        expected.push(OwnedFrame { interface: first, ..packet(time_ns, 60, b"abcd") });
        let from = OwnedFrame { interface: first + 1, ..packet(1_000_500_000_000, 3, b"xyz") };
        expected.push(OwnedFrame { link: 105, ..from });
    }
    assert_eq!(open(&out.bytes).unwrap().format(), CaptureFormat::PcapNg);
    let outcome = read(&out.bytes);
    assert_eq!((outcome.packets, outcome.error), (expected, None));
    assert_eq!(outcome.skipped, SkippedCounts { unknown_records: 2, ..SkippedCounts::default() });
}

#[test]
fn every_resolution_of_pcapng() {
    for (option, units, expected) in [
        (0, 3, 3_000_000_000),
        (3, 3, 3_000_000),
        (6, 3, 3000),
        (9, 3, 3),
        (12, 3999, 3),
        (29, u64::MAX, 0),
        (127, u64::MAX, 0),
        (0x80, 3, 3_000_000_000),
        (0x81, 3, 1_500_000_000),
        (0xa0, 3 << 31, 1_500_000_000),
        (0xbf, u64::MAX, 1_999_999_999),
        (0xff, u64::MAX, 0),
        // Times that do not fit are the last that does.
        (0, u64::MAX, i64::MAX),
        (0x80, u64::MAX, i64::MAX),
    ] {
        let mut out = ByteOrderWriter::new(Order::Little);
        out.section();
        out.interface(1, 0, &[(9, &[option])]);
        out.enhanced(0, units, 0, b"");
        out.interface(1, 0, &[(9, &[option]), (14, &i64::MIN.to_le_bytes())]);
        out.enhanced(1, 0, 0, b"");
        let times: Vec<i64> = read(&out.bytes).packets.iter().map(|found| found.time_ns).collect();
        assert_eq!(times, [expected, i64::MIN], "{option:#x}");
    }
}

#[test]
fn damaged_packets_of_pcapng_are_skipped() {
    let mut out = ByteOrderWriter::new(Order::Little);
    out.section();
    out.enhanced(0, 1, 1, b"no interface yet");
    out.interface(1, 0, &[(2, b"an option of ")]);
    out.block(6, &[0; 16]);
    let long = out.body(|body| body.u32s(&[0, 0, 0, 5, 5, 0]));
    out.block(6, &long);
    out.enhanced(0, 1, 1, &vec![1; (256 << 10) + 1]);
    out.enhanced(0, 1, 1, &vec![1; 600_000]);
    out.block(77, &vec![1; 3_000_000]);
    out.enhanced(0, 1, 1, b"good");
    let outcome = read(&out.bytes);
    assert_eq!((outcome.packets, outcome.error), (vec![packet(1000, 1, b"good")], None));
    let skipped = outcome.skipped;
    assert_eq!((skipped.damaged_packets, skipped.oversized_packets), (3, 2));
    assert_eq!((skipped.unknown_records, skipped.cut_bytes), (1, 0));
}

#[test]
fn impossible_blocks_of_pcapng_are_errors() {
    let wrong = |write: &dyn Fn(&mut ByteOrderWriter)| {
        let mut out = ByteOrderWriter::new(Order::Little);
        out.section();
        out.interface(1, 0, &[]);
        write(&mut out);
        out.bytes.extend([0; 64]);
        let error = read(&out.bytes).error.expect("it is damaged");
        error.strip_prefix("test is damaged at byte 48: ").unwrap_or(&error).to_owned()
    };
    for length in [0, 4, 11, 13] {
        let error = wrong(&|out| out.u32s(&[6, length, 0]));
        assert_eq!(
            error,
            format!(
                "a record claims {length} bytes, which no record of this format has; copy or \
                 convert it again"
            )
        );
    }
    let error = wrong(&|out| out.u32s(&[4, 12, 16]));
    assert!(
        error.starts_with("the two lengths of a block, 12 and 16, are not the same"),
        "{error}"
    );
    let error = wrong(&|out| out.u32s(&[1, 16, 0, 16]));
    assert!(error.starts_with("a record claims 16 bytes, which"), "{error}");
    let error = wrong(&|out| out.u32s(&[0x0a0d_0d0a, 28, 7, 1, 0, 0, 28]));
    assert!(error.starts_with("a section has no byte order"), "{error}");
    let error = wrong(&|out| out.u32s(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 2, 0, 0, 28]));
    assert!(error.starts_with("unknown version 2 of the format"), "{error}");
}

pub(super) fn snoop(packets: &[OwnedFrame]) -> Vec<u8> {
    let mut out = ByteOrderWriter::new(Order::Big);
    out.bytes.extend(b"snoop\0\0\0");
    out.u32s(&[2, 4]);
    for packet in packets {
        let length = packet.bytes.len() as u32;
        let record = (24 + length).next_multiple_of(4);
        let microseconds = (packet.time_ns % 1_000_000_000 / 1000) as u32;
        let seconds = (packet.time_ns / 1_000_000_000) as u32;
        out.u32s(&[packet.wire_length, length, record, 0, seconds, microseconds]);
        out.bytes.extend(&packet.bytes);
        out.bytes.resize(out.bytes.len().next_multiple_of(4), 0);
    }
    out.bytes
}

#[test]
fn snoop_is_read() {
    let packets = [
        packet(SECOND_NS + 5000, 1500, b"some"),
        packet(SECOND_NS, 60, b""),
        packet(0, 5, b"other"),
    ];
    let mut whole = snoop(&packets);
    let long = ByteOrderWriter::new(Order::Big).body(|body| {
        body.u32s(&[400_000, 400_000, 400_024, 0, 0, 0]);
        body.bytes.resize(400_024, 1);
    });
    whole.extend(&long);
    assert_eq!(open(&whole).unwrap().format(), CaptureFormat::Snoop);
    let outcome = read(&whole);
    assert_eq!((outcome.packets, outcome.error), (packets.to_vec(), None));
    assert_eq!(outcome.skipped, SkippedCounts { oversized_packets: 1, ..SkippedCounts::default() });

    let with = |place: usize, value: u8| {
        let mut bytes = snoop(&packets);
        bytes[place] = value;
        bytes
    };
    assert_eq!(read(&with(15, 8)).packets[0].link, 10);
    let error = refused(&with(15, 5));
    assert!(error.starts_with("test has a snoop data link of type 5, which is not supported"));
    let error = refused(&with(11, 3));
    assert!(error.starts_with("test is damaged at byte 8: unknown version 3 of the format"));
    let error = read(&with(16 + 11, 27)).error.unwrap();
    assert!(error.starts_with("test is damaged at byte 16: a record claims 27 bytes, which"));
}

/// A record of ERF with extension headers.
fn erf_record(kind: u8, extensions: usize, time: u64, wire: u16, content: &[u8]) -> Vec<u8> {
    let mut out = ByteOrderWriter::new(Order::Big);
    out.bytes.extend(time.to_le_bytes());
    let flag = |has_more: bool| if has_more { 0x80 } else { 0 };
    out.bytes.extend([kind | flag(extensions > 0), 0x06]);
    let length = (16 + extensions * 8 + content.len()).next_multiple_of(8) as u16;
    out.u16s(&[length, 0, wire]);
    for index in 0..extensions {
        out.bytes.extend([flag(index + 1 < extensions) | 3, 1, 1, 1, 1, 1, 1, 1]);
    }
    out.bytes.extend(content);
    out.bytes.resize(length.into(), 0);
    out.bytes
}

pub(super) fn erf(packets: &[OwnedFrame]) -> Vec<u8> {
    let record = |packet: &OwnedFrame| {
        let seconds = u64::from(SECOND) + packet.time_ns as u64 % 1000;
        erf_record(2, 0, seconds << 32, packet.wire_length as u16, &packet.bytes)
    };
    packets.iter().flat_map(record).collect()
}

/// Type of a record, content, bytes on the wire; link and bytes of the packet.
type Case = (u8, &'static [u8], u16, u16, &'static [u8]);

#[test]
fn erf_is_read() {
    let time = u64::from(SECOND) << 32 | 1 << 31;
    let cases: [Case; 10] = [
        (2, b"\0\0ether", 1504, 1, b"ether\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        (11, b"\0\0et", 6, 1, b"et"),
        (16, b"\0\0et", 6, 1, b"et"),
        (20, b"\0\0et", 6, 1, b"et"),
        (1, b"\xff\x03\0\x21", 4, 50, b"\xff\x03\0\x21"),
        (15, b"\x0f\0\x08\0", 4, 104, b"\x0f\0\x08\0"),
        (5, b"head\x8f\0", 2, 104, b"\x8f\0"),
        (17, b"head\xff\x03", 2, 50, b"\xff\x03"),
        (22, b"\x45", 1, 228, b"\x45"),
        (23, b"\x60", 1, 229, b"\x60"),
    ];
    let mut whole = Vec::new();
    for (index, (kind, content, wire, _, _)) in cases.iter().enumerate() {
        whole.extend(erf_record(*kind, index % 3, time, *wire, content));
        for skipped in [27, 48, 3, 99] {
            whole.extend(erf_record(skipped, 0, time, 10, b"nothing"));
        }
    }
    assert_eq!(open(&whole).unwrap().format(), CaptureFormat::Erf);
    let outcome = read(&whole);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.skipped, SkippedCounts { unknown_records: 20, ..SkippedCounts::default() });
    for (found, (kind, _, wire, link, bytes)) in outcome.packets.iter().zip(cases) {
        assert_eq!((found.time_ns, found.interface), (SECOND_NS + 500_000_000, 2), "{kind}");
        let is_ethernet = link == 1;
        let wire = u32::from(wire) - if is_ethernet { 4 } else { 0 };
        assert_eq!((found.link, found.wire_length), (link, wire), "{kind}");
        assert!(bytes.starts_with(&found.bytes) && !found.bytes.is_empty(), "{kind} {found:?}");
    }
    assert_eq!(outcome.packets.len(), cases.len());
}

#[test]
fn erf_of_other_types_or_lengths_is_an_error() {
    let time = u64::from(SECOND) << 32;
    let error = refused(&erf_record(3, 0, time, 10, b"atm"));
    assert!(error.starts_with("test has an ERF record of type 3, which is not supported"));
    let good = erf_record(22, 0, time, 1, b"\x45");
    for length in [0, 15] {
        let mut bad = good.clone();
        bad[11] = length;
        let whole = [&good[..], &good, &bad].concat();
        let outcome = read(&whole);
        assert_eq!(outcome.packets.len(), 2);
        let error = outcome.error.unwrap();
        let expected = format!("test is damaged at byte 48: a record claims {length} bytes, which");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn tsh_is_read_if_it_is_chosen() {
    let mut out = ByteOrderWriter::new(Order::Big);
    for index in 0..3_u32 {
        out.u32s(&[SECOND, 5 << 24 | (7 + index)]);
        out.bytes.extend(b"\x45\0\x05\xdc");
        out.bytes.extend([index as u8; 32]);
    }
    out.bytes.extend(b"cut");
    let options = CaptureOptions { as_tsh: true, ..CaptureOptions::default() };
    for bytes in [out.bytes.clone(), gzip(&out.bytes)] {
        let file = CaptureFile::from_reader(Cursor::new(bytes), "test", &options).unwrap();
        assert_eq!(file.format(), CaptureFormat::Tsh);
        let outcome = drain(file);
        assert_eq!((outcome.packets.len(), outcome.skipped.cut_bytes), (3, 3));
        let second = &outcome.packets[1];
        assert_eq!((second.link, second.interface, second.wire_length), (228, 5, 1500));
        assert_eq!(second.time_ns, SECOND_NS + 8000);
        assert_eq!(second.bytes, [&b"\x45\0\x05\xdc"[..], &[1; 32]].concat());
    }
    let file = CaptureFile::from_reader(Cursor::new([0; 44]), "test", &options);
    let error = file.expect_err("no IPv4").to_string();
    assert!(error.starts_with("test is damaged at byte 0: a record does not begin with an IPv4"));
}
