//! Lines against hand-made ones, and their keys against the documentation.

use std::collections::BTreeSet;

use panoptes_records::flow::application::{
    ANSWERS_MAX, Application, ApplicationProtocol, Dns, DnsAnswer, DnsAnswerList, Hello, Http,
    Quic, ServerHello, Ssh, TlsHellos,
};
use panoptes_records::flow::{
    Arp, Cause, Detail, Esp, FlowDirection, FlowSide, Icmp, Interval, Intervals, Jitter, Labels,
    Rtp, RtpSide, SEQUENCE_PACKETS_MAX, Sequence, Tcp, TcpSide, TcpState, status, tcp_status,
};
use panoptes_records::json::read::{JsonReader, Token};
use serde_json::Value;

use super::*;
use crate::flow::argus::{Interim, Management};

/// 2023-11-14 22:13:20 UTC, in nanoseconds.
const BEGIN_NS: i64 = 1_700_000_000_000_000_000;
const DOCUMENTATION: &str = include_str!("../../../../docs/flow-record.md");
/// Objects whose keys the documentation has as `NAME.KEY`.
const APPLICATIONS: &[ApplicationProtocol] = ApplicationProtocol::ALL;

fn written(lines: &JsonLineFormat, record: &FlowRecord, extra: &Extra<'_>) -> String {
    let mut out = [0; PLAIN_LINE_BYTES_MAX];
    let length = lines.write(&mut out, record, extra).expect("there is room");
    for room in 0..length {
        assert_eq!(lines.write(&mut out[..room], record, extra), None, "{room} bytes");
    }
    lines.write(&mut out, record, extra).expect("there is room");
    let line = std::str::from_utf8(&out[..length]).expect("UTF-8");
    let line = line.strip_suffix('\n').expect("a line");
    // Other forms are made from it.
    let mut reader = JsonReader::new(line.as_bytes()).expect("UTF-8");
    while reader.read().unwrap_or_else(|error| panic!("{error:?}: {line}")) != Token::End {}
    line.to_owned()
}

fn side(packets: u64, bytes: u64, first_us: i64, last_us: i64) -> FlowSide {
    FlowSide {
        packets,
        bytes,
        first_ns: BEGIN_NS + first_us * 1000,
        last_ns: BEGIN_NS + last_us * 1000,
        encapsulation: 2,
        size_min: 60,
        size_max: 1514,
        ttl: 64,
        ip_id: 0x1111,
        status: status::IP,
        ..FlowSide::default()
    }
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

fn tcp() -> FlowRecord {
    let tcp_side = |status: u32| TcpSide {
        status,
        sequence_base: 1000,
        sequence: 2000,
        acknowledged: 5000,
        bytes: 1700,
        retransmitted: 1,
        window: 0xfaf0,
        flags: 0x1b,
        window_scale: 7,
        has_begun: true,
        has_acknowledged: true,
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
        source: tcp_side(tcp_status::RETRANSMITTED),
        destination: tcp_side(tcp_status::PAIRS),
        has_continued: true,
    };
    FlowRecord {
        key: key(6, 40_000, 443),
        source: side(10, 1501, 100_000, 900_000),
        destination: FlowSide { status: 0, ..side(8, 9000, 105_000, 899_000) },
        detail: Detail::Tcp(tcp),
        sequence: 1,
        hardware: [[2, 0, 0xc0, 0, 0, 9], [2, 0, 0x0a, 0, 0, 1]],
        ethertype: 0x800,
        ..FlowRecord::default()
    }
}

#[test]
fn a_tcp_connection_is_one_line() {
    let options = ArgusOptions {
        source_id: SourceId::Text(*b"ab\"\0"),
        hardware: true,
        packet_sizes: true,
        ..ArgusOptions::default()
    };
    let lines = JsonLineFormat { options, community_id_seed: None };
    let expected = concat!(
        r#"{"kind":"flow","source_id":"ab\"","sequence":1,"cause":"start","#,
        r#""first_time":"2023-11-14T22:13:20.100000000+00:00","#,
        r#""last_time":"2023-11-14T22:13:20.900000000+00:00","duration_us":800000,"#,
        r#""protocol":"tcp","protocol_number":6,"#,
        r#""source_address":"10.1.0.1","destination_address":"192.168.0.9","#,
        r#""source_port":40000,"destination_port":443,"direction":"->","state":"RST","#,
        r#""source_packets":10,"source_bytes":1501,"#,
        r#""source_first_time":"2023-11-14T22:13:20.100000000+00:00","#,
        r#""source_last_time":"2023-11-14T22:13:20.900000000+00:00","#,
        r#""source_packet_size_min":60,"source_packet_size_max":1514,"#,
        r#""source_packet_size_mean":150.1,"#,
        r#""source_ttl":64,"source_tos":0,"source_ip_id":4369,"#,
        r#""source_encapsulation":["ethernet"],"#,
        r#""destination_packets":8,"destination_bytes":9000,"#,
        r#""destination_first_time":"2023-11-14T22:13:20.105000000+00:00","#,
        r#""destination_last_time":"2023-11-14T22:13:20.899000000+00:00","#,
        r#""destination_packet_size_min":60,"destination_packet_size_max":1514,"#,
        r#""destination_packet_size_mean":1125,"destination_encapsulation":["ethernet"],"#,
        r#""tcp_state":"fin_wait_2","tcp_options":["mss","window_scale","sack_permitted"],"#,
        r#""syn_ack_us":5544,"ack_data_us":1658,"round_trip_us":7202,"#,
        r#""source_tcp_flags":"FSPA","source_window":8222720,"source_tcp_sequence_base":1000,"#,
        r#""source_tcp_sequence":2000,"source_tcp_acknowledged":5001,"source_tcp_bytes":1700,"#,
        r#""source_tcp_in_flight":0,"source_retransmissions":1,"#,
        r#""destination_tcp_flags":"FSPA","destination_window":8222720,"#,
        r#""destination_tcp_sequence_base":1000,"destination_tcp_sequence":2000,"#,
        r#""destination_tcp_acknowledged":5001,"destination_tcp_bytes":1700,"#,
        r#""destination_tcp_in_flight":0,"destination_retransmissions":1,"#,
        r#""destination_out_of_order":true,"destination_window_closed":true,"#,
        r#""destination_reset":true,"destination_congested":true,"#,
        r#""source_hardware_address":"02:00:0a:00:00:01","#,
        r#""destination_hardware_address":"02:00:c0:00:00:09","ethernet_type":2048}"#,
    );
    assert_eq!(written(&lines, &tcp(), &Extra::default()), expected);
}

#[test]
fn parts_of_a_microsecond_are_kept() {
    let mut record = tcp();
    record.source.last_ns = BEGIN_NS + 1_000_000_050;
    record.source.first_ns = BEGIN_NS + 100_000_000;
    let value: Value =
        serde_json::from_str(&written(&JsonLineFormat::default(), &record, &Extra::default()))
            .expect("JSON");
    assert_eq!(value["duration_us"].to_string(), "900000.05");
    assert_eq!(value["last_time"], "2023-11-14T22:13:21.000000050+00:00");
    assert_eq!(value.get("source_packet_size_min"), None);
    assert_eq!(value.get("source_hardware_address"), None);
}

/// The longest line: every number has all its digits.
fn longest() -> FlowRecord {
    let side = FlowSide {
        packets: 1,
        bytes: u64::MAX,
        application_bytes: u64::MAX,
        first_ns: i64::MAX - 1,
        last_ns: i64::MAX,
        encapsulation: u32::MAX,
        mpls: u32::MAX,
        ip_options: u32::MAX,
        size_min: u16::MAX,
        size_max: u16::MAX,
        vlan: u16::MAX,
        ip_id: u16::MAX,
        ttl: u8::MAX,
        tos: u8::MAX,
        mpls_depth: u8::MAX,
        status: u8::MAX,
    };
    let end = TcpSide {
        last_ns: i64::MAX,
        status: u32::MAX,
        sequence_base: u32::MAX,
        sequence: u32::MAX,
        acknowledged: u32::MAX - 1,
        windows: u32::MAX,
        bytes: u32::MAX,
        retransmitted: u32::MAX,
        in_flight: u32::MAX,
        ip_id: u16::MAX,
        window: u16::MAX,
        flags: u8::MAX,
        window_scale: u8::MAX,
        has_begun: true,
        has_acknowledged: true,
    };
    let tcp = Tcp {
        syn_ns: 0,
        has_random_ids: [false; 2],
        status: u32::MAX,
        options: u32::MAX,
        syn_ack_us: u32::MAX,
        ack_data_us: u32::MAX,
        source: end,
        destination: end,
        state: TcpState::SynReceived,
        has_continued: true,
    };
    let address = Address::new(0xffff_ffff_ffff_ffff_ffff_ffff_ffff_ffff);
    let error =
        Icmp { kind: 5, code: u8::MAX, sender: u32::MAX, gateway: u32::MAX, ..Icmp::default() };
    FlowRecord {
        overlay: u32::MAX,
        vnis: [Some(0xff_ffff); 2],
        key: FlowKey {
            source: address,
            destination: address,
            source_port: u16::MAX,
            destination_port: u16::MAX,
            extra: u16::MAX,
            protocol: 132,
            kind: FlowKeyKind::Ipv6,
        },
        source: side,
        destination: side,
        detail: Detail::Tcp(tcp),
        error: Some(error),
        sequence: u32::MAX,
        hardware: [[0xff; 6]; 2],
        ethertype: u16::MAX,
        cause: Cause::Shutdown,
    }
}

/// One of every kind, with everything that it can have.
fn all_kinds() -> Vec<FlowRecord> {
    let mut all = vec![tcp(), longest()];
    let icmp = Icmp {
        kind: 5,
        sender: 1,
        quoted_source: 2,
        quoted_destination: 3,
        gateway: 4,
        ..Icmp::default()
    };
    let end = RtpSide { has_begun: true, ..RtpSide::default() };
    let rtp = Rtp { source: end, destination: end, is_certain: true, ..Rtp::default() };
    let full = FlowSide {
        ip_options: 0x7f,
        encapsulation: u32::MAX,
        vlan: 0xe064,
        mpls: 0x1234_5678,
        mpls_depth: 2,
        status: u8::MAX,
        ..side(1, 60, 0, 1)
    };
    for kind in [
        FlowKeyKind::Ipv4,
        FlowKeyKind::Ipv6,
        FlowKeyKind::Icmp,
        FlowKeyKind::Icmpv6,
        FlowKeyKind::Igmp,
        FlowKeyKind::EspV4,
        FlowKeyKind::EspV6,
        FlowKeyKind::FragmentV4,
        FlowKeyKind::FragmentV6,
        FlowKeyKind::Arp,
        FlowKeyKind::Rarp,
        FlowKeyKind::Ethernet,
        FlowKeyKind::Llc,
        FlowKeyKind::Wireless,
    ] {
        for (protocol, detail) in [
            (17, Detail::Icmp(Icmp { kind: 8, ..icmp })),
            (253, Detail::Esp(Esp { spi: 1, ..Esp::default() })),
            (1, Detail::Arp(Arp { responder: [1; 6] })),
            (3, Detail::Icmp(icmp)),
            (2, Detail::None),
            (17, Detail::Rtp(rtp)),
        ] {
            all.push(FlowRecord {
                vnis: [Some(42); 2],
                key: FlowKey { kind, extra: 7, ..key(protocol, 0x0801, 2) },
                source: full,
                destination: full,
                detail,
                error: Some(icmp),
                hardware: [[1; 6]; 2],
                ethertype: 0x800,
                ..tcp()
            });
        }
    }
    all
}

/// A hello whose texts are as long as they can be, and have no printable character.
fn longest_hello() -> Hello {
    Hello {
        version: 0x0304,
        server_name: [1; 300][..].into(),
        protocols: [&[62][..], &[0xff; 62]].concat()[..].into(),
        ja4: Some(*b"t13d1516h2_8daaf6152771_e5627efa2ab1"),
    }
}

/// One of each kind, as long as it can be.
fn applications() -> [Application; APPLICATIONS.len()] {
    let client = Some(longest_hello());
    let protocol = [0x7f; 32][..].into();
    let server = Some(ServerHello { version: 0x0303, cipher: 0xc02c, protocol });
    let mut answers = DnsAnswerList::default();
    for _ in 0..ANSWERS_MAX {
        answers.push(DnsAnswer { kind: 65_534, ttl_s: u32::MAX, data: &[0; 32] });
    }
    answers.push(DnsAnswer { kind: 1, ttl_s: 1, data: b"" });
    let dns = Dns {
        name: [0xff; 300][..].into(),
        kind: 65_535,
        response_code: Some(15),
        is_authoritative: true,
        is_truncated: true,
        queries: u32::MAX,
        responses: u32::MAX,
        is_known_server: Some(false),
        answers,
    };
    let http = Http {
        method: [1; 40][..].into(),
        host: Some([1; 300][..].into()),
        target: [1; 300][..].into(),
        user_agent: Some([1; 300][..].into()),
        status: 999,
    };
    let ssh = Ssh { client: [1; 300][..].into(), server: [0xff; 300][..].into() };
    [
        Application::Dns(dns),
        Application::Http(http),
        Application::Quic(Quic { version: u32::MAX, client }),
        Application::Ssh(ssh),
        Application::Tls(TlsHellos { client, server }),
    ]
}

/// The longest one.
fn sequence() -> Sequence {
    let mut sequence = Sequence::default();
    for number in 0..SEQUENCE_PACKETS_MAX as i64 {
        sequence.push(u32::MAX, FlowDirection::FromDestination, number * 10_000_000_000_000);
    }
    sequence
}

#[test]
fn texts_are_escaped_and_marked_when_cut() {
    let client = Some(Hello { server_name: b"a\"\\\n\xff"[..].into(), ..longest_hello() });
    let application = Application::Quic(Quic { version: 1, client });
    let extra = Extra { application: Some(&application), ..Extra::default() };
    let line = written(&JsonLineFormat::default(), &tcp(), &extra);
    let value: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["quic"]["server_name"], "a\"\\\n\u{fffd}");
    assert_eq!(value["quic"].get("truncated"), None);
    let [_, http, ..] = applications();
    let extra = Extra { application: Some(&http), ..Extra::default() };
    let value: Value =
        serde_json::from_str(&written(&JsonLineFormat::default(), &tcp(), &extra)).expect("JSON");
    assert_eq!(value["http"]["host"], "\u{1}".repeat(255));
    assert_eq!(value["http"]["truncated"], true);
}

#[test]
fn applications_are_objects() {
    let json = |application: Application| {
        let extra = Extra { application: Some(&application), ..Extra::default() };
        let value: Value =
            serde_json::from_str(&written(&JsonLineFormat::default(), &tcp(), &extra))
                .expect("JSON");
        let objects = APPLICATIONS.iter().filter_map(|protocol| value.get(protocol.name()));
        objects.map(ToString::to_string).collect::<String>()
    };
    let mut answers = DnsAnswerList::default();
    answers.push(DnsAnswer { kind: 5, ttl_s: 300, data: b"b.example" });
    answers.push(DnsAnswer { kind: 1, ttl_s: 60, data: b"192.0.2.80" });
    answers.push(DnsAnswer { kind: 257, ttl_s: 1, data: b"" });
    let name = b"a.example"[..].into();
    let dns = Dns { name, kind: 1, response_code: Some(3), queries: 1, answers, ..Dns::default() };
    let expected = concat!(
        r#"{"answers":[{"data":"b.example","ttl_s":300,"type":"CNAME"},"#,
        r#"{"data":"192.0.2.80","ttl_s":60,"type":"A"},{"ttl_s":1,"type":"CAA"}],"#,
        r#""name":"a.example","queries":1,"response_code":"NXDOMAIN","responses":0,"type":"A"}"#,
    );
    assert_eq!(json(Application::Dns(dns)), expected);
    let protocols = b"\x02h2\x08http/1.1"[..].into();
    let client = Some(Hello { version: 0x0a0a, protocols, ..Hello::default() });
    let tls = Application::Tls(TlsHellos { client, server: None });
    let expected = r#"{"offered_protocols":["h2","http/1.1"],"offered_version":"0a0a"}"#;
    assert_eq!(json(tls), expected);
    let quic = Application::Quic(Quic { version: 0x6b33_43cf, client: None });
    assert_eq!(json(quic), r#"{"version":2}"#);
    let ssh = Ssh { client: b"SSH-2.0-a"[..].into(), ..Ssh::default() };
    assert_eq!(json(Application::Ssh(ssh)), r#"{"client_banner":"SSH-2.0-a"}"#);
    assert_eq!(json(Application::Unknown), "");
}

#[test]
fn packets_are_signed_sizes_and_times() {
    let mut sequence = Sequence::default();
    sequence.push(517, FlowDirection::FromSource, BEGIN_NS);
    sequence.push(1448, FlowDirection::FromDestination, BEGIN_NS + 20_000_999);
    let extra = Extra { sequence: Some(&sequence), ..Extra::default() };
    let line = written(&JsonLineFormat::default(), &tcp(), &extra);
    assert!(line.ends_with(r#","packet_sequence":[[517,0],[-1448,20000]]}"#), "{line}");
    let extra = Extra { sequence: Some(&Sequence::default()), ..Extra::default() };
    assert!(!written(&JsonLineFormat::default(), &tcp(), &extra).contains("packet_sequence"));
}

#[test]
fn the_documentation_has_every_key_and_no_other() {
    let options = ArgusOptions {
        source_id: SourceId::Number(7),
        application_bytes: true,
        hardware: true,
        packet_sizes: true,
        ..ArgusOptions::default()
    };
    let lines = JsonLineFormat { options, community_id_seed: Some(0) };
    let interval = Interval { count: 2, min: 1, max: 4, sum: 5.0, square_sum: 17.0 };
    let intervals = Intervals { active: interval, idle: interval, last_ns: 0 };
    let jitter = Jitter { source: intervals, destination: intervals };
    let mut labels = Labels::default();
    assert!(labels.add("saddr=dmz") && labels.add("comm=a:\"\u{1}"));
    let user: [&[u8]; 2] = [b"GET /\xff", b"\0"];
    let process =
        FlowProcess { id: 7, name: b"a\"b", user_id: Some(0), container_id: b"0123456789ab" };
    let extra = Extra {
        jitter: Some(&jitter),
        user,
        labels,
        owners: [Some(process); 2],
        size_squares: Some([1 << 40; 2]),
        ..Extra::default()
    };
    let mut keys = BTreeSet::new();
    let mut add = |line: &str| {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let object = value.as_object().expect("an object");
        let names = APPLICATIONS.iter().map(|protocol| protocol.name());
        let parts = names.filter_map(|name| Some((name, object.get(name)?)));
        for (name, part) in parts {
            let part = part.as_object().expect("an object");
            let part = part.keys().filter(|key| *key != "truncated");
            keys.extend(part.map(|key| format!("{name}.{key}")));
        }
        let is_plain = |key: &str| ApplicationProtocol::from_name(key).is_none();
        for (key, value) in object.iter().filter(|(key, _)| is_plain(key)) {
            assert!(!value.is_null(), "{key}");
            // A key that comes twice is lost in the value.
            assert_eq!(line.matches(&format!("\"{key}\":")).count(), 1, "{key}: {line}");
            // The tables have one row for both ends.
            let name = ["source_", "destination_"].iter().find_map(|end| key.strip_prefix(end));
            let is_pair = name.is_some_and(|name| name != "id");
            keys.insert(
                name.filter(|_| is_pair).map_or(key.clone(), |name| format!("source_{name}")),
            );
        }
    };
    for record in all_kinds() {
        let line = written(&lines, &record, &extra);
        assert!(line.contains(r#""source_user_data":"R0VUIC//","destination_user_data":"AA==""#));
        let jitter = concat!(
            r#""source_jitter_active":{"count":2,"min_us":1,"mean_us":2.5,"#,
            r#""deviation_us":1.5,"max_us":4}"#
        );
        assert!(line.contains(jitter), "{line}");
        let process = concat!(
            r#""destination_process":{"process_id":7,"process_name":"a\"b","#,
            r#""process_real_user_id":0,"process_container_id":"0123456789ab"}"#
        );
        assert!(line.contains(process), "{line}");
        let labels = r#","labels":["saddr=dmz","comm=a:\"\u0001"]}"#;
        assert!(line.trim_end().ends_with(labels), "{line}");
        add(&line);
    }
    for application in &applications() {
        let sequence = sequence();
        let (application, sequence) = (Some(application), Some(&sequence));
        let extra = Extra { application, sequence, ..Extra::default() };
        add(&written(&lines, &tcp(), &extra));
        add(&written(&lines, &longest(), &extra));
    }
    for cause in [Cause::Start, Cause::Status, Cause::Stop] {
        let management = Management { link: 1, ..Management::default() };
        let management = Management { source_id: SourceId::Address(1), ..management };
        let mut out = [0; PLAIN_LINE_BYTES_MAX];
        let length = lines.sensor(&mut out, cause, &management, &Interim::default());
        add(std::str::from_utf8(&out[..length.expect("there is room")]).expect("UTF-8"));
    }
    let rows = DOCUMENTATION.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> =
        rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    assert_eq!(keys, documented, "(left: written, right: documented)");
}

#[test]
fn what_is_open_when_the_sensor_ends_has_a_state() {
    // `ra` 3.0.8.2 reads such records of argus 3.0.8.2 so.
    let closed = FlowRecord { cause: Cause::Shutdown, ..tcp() };
    assert_eq!(super::words::state(&closed), "RST");
    let open = Tcp { state: TcpState::Established, status: tcp_status::SAW_SYN, ..Tcp::default() };
    let open = FlowRecord { detail: Detail::Tcp(open), ..closed };
    assert_eq!(super::words::state(&open), "TIM");
    let udp = FlowRecord {
        key: key(17, 5000, 6000),
        source: side(1, 100, 0, 0),
        cause: Cause::Shutdown,
        ..FlowRecord::default()
    };
    assert_eq!(super::words::state(&udp), "REQ");
}

#[test]
fn ids_of_16_bytes_are_texts() {
    let bytes = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
    for (source_id, expected) in [
        (SourceId::Uuid(bytes), "00112233-4455-6677-8899-aabbccddeeff"),
        (SourceId::Address6(bytes), "11:2233:4455:6677:8899:aabb:ccdd:eeff"),
    ] {
        let options = ArgusOptions { source_id, ..ArgusOptions::default() };
        let line = written(
            &JsonLineFormat { options, ..JsonLineFormat::default() },
            &tcp(),
            &Extra::default(),
        );
        assert!(line.contains(&format!("\"source_id\":\"{expected}\",")), "{line}");
    }
}

#[test]
fn sensors_have_lines_of_their_own() {
    let management = Management {
        source_id: SourceId::Address(0x0a01_0001),
        begin_ns: BEGIN_NS,
        flow_interval_s: 5,
        interval_s: 300,
        ..Management::default()
    };
    let interim = Interim {
        since_ns: BEGIN_NS,
        now_ns: BEGIN_NS + 1,
        packets: 1 << 40,
        dropped: 3,
        fallow: 4,
        interfaces: 2,
        ..Interim::default()
    };
    let mut out = [0; PLAIN_LINE_BYTES_MAX];
    let lines = JsonLineFormat::default();
    let length = lines.sensor(&mut out, Cause::Stop, &management, &interim).expect("room");
    let expected = concat!(
        r#"{"kind":"flow_sensor","source_id":"10.1.0.1","cause":"stop","#,
        r#""begin_time":"2023-11-14T22:13:20.000000000+00:00","#,
        r#""since_time":"2023-11-14T22:13:20.000000000+00:00","#,
        r#""time":"2023-11-14T22:13:20.000000001+00:00","#,
        r#""status_interval_s":5,"management_interval_s":300,"user_bytes":0,"#,
        r#""sequence":0,"packets":1099511627776,"bytes":0,"dropped_packets":3,"#,
        r#""records":0,"flows":0,"tracked_flows":0,"fallow_flows":4,"interfaces":2,"clients":0}"#,
        "\n",
    );
    assert_eq!(std::str::from_utf8(&out[..length]), Ok(expected));
}
