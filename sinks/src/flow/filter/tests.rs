//! Filters, against records made by hand. `engine/flow/tests/filters` compares them with ra.

use panoptes_records::flow::{
    Address, Detail, Esp, FlowKey, FlowKeyKind, FlowSide, Icmp, Interval, Intervals, Jitter, Tcp,
    header, status,
};
use proptest::prelude::*;

use super::*;

const SOURCE: SourceId = SourceId::Text(*b"eth0");

fn filter(text: &str) -> RecordFilter {
    RecordFilter::parse(text, NameSource::BuiltIn).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn error(text: &str) -> String {
    RecordFilter::parse(text, NameSource::BuiltIn).expect_err(text).to_string()
}

fn matches(text: &str, record: &FlowRecord) -> bool {
    filter(text).matches(record, &Extra::default(), SOURCE)
}

/// A record of a kind, from 10.1.0.1 port 40000 to 192.168.0.9 port 443.
fn record(kind: FlowKeyKind, protocol: u8) -> FlowRecord {
    let side = FlowSide { packets: 1, bytes: 60, first_ns: 1, last_ns: 1, ..FlowSide::default() };
    FlowRecord {
        key: FlowKey {
            source: Address::new(0x0a01_0001),
            destination: Address::new(0xc0a8_0009),
            source_port: 40_000,
            destination_port: 443,
            protocol,
            kind,
            ..FlowKey::default()
        },
        source: side,
        destination: side,
        ..FlowRecord::default()
    }
}

/// What ra gets wrong, and so no comparison with it can show.
#[test]
fn conditions_hold_as_documented() {
    let (arp, rarp) = (record(FlowKeyKind::Arp, 0), record(FlowKeyKind::Rarp, 0));
    assert!(matches("arp", &arp) && !matches("rarp", &arp));
    assert!(matches("rarp", &rarp) && matches("ether proto rarp", &rarp) && !matches("arp", &rarp));

    let tcp = record(FlowKeyKind::Ipv4, 6);
    for (text, expected) in [
        ("port 53-80", false),
        ("port 80-500", true),
        ("port 443-443 and 40000-40000", true),
        ("src port 80-500", false),
        ("net 0.0.0.0/0", true),
        ("udp pkts gt 0", false),
        ("tcp pkts gt 0", true),
        ("icmp host 10.1.0.1", false),
        ("multicast", false),
        ("pkts gt -1", true),
        ("rate lt 0", false),
        ("rate gte 0", true),
        ("asn lt 5", false),
        ("ttl lt 5", false),
        ("net 10", true),
        ("net 0x0a01", true),
        ("host 167837697", true),
    ] {
        assert_eq!(matches(text, &tcp), expected, "{text}");
    }

    let mut tagged = tcp;
    tagged.source = FlowSide { vlan: 0x7007, mpls: 0x003e_8040, mpls_depth: 2, ..tcp.source };
    tagged.source.status = status::VLAN | status::IP;
    (tagged.source.ttl, tagged.source.ip_id) = (64, 9);
    (tagged.vnis, tagged.source.encapsulation) = ([Some(0), Some(7)], header::VXLAN);
    for (text, expected) in [
        ("vpri 3", true),
        ("vid gt 6", true),
        ("vid gt 7", false),
        ("dst vid lt 9", false),
        ("vni 7", true),
        ("src vni 7", false),
        ("src vni 0", true),
        ("dst vni gte 7", true),
        ("encaps vxlan", true),
        ("encaps geneve", false),
        ("mid 1000", true),
        ("dst mid 1000", false),
        ("ipid 9", true),
        ("dst ttl lt 65", false),
        ("src ttl lt 65", true),
    ] {
        assert_eq!(matches(text, &tagged), expected, "{text}");
    }
}

#[test]
fn states_are_those_of_the_protocol() {
    let mut esp = record(FlowKeyKind::EspV4, 50);
    esp.detail = Detail::Esp(Esp { spi: 7, status: 0x20, lost: 3, ..Esp::default() });
    assert!(
        matches("spi 7", &esp) && matches("dst retrans", &esp) && !matches("src retrans", &esp)
    );
    assert!(matches("loss 3", &esp) && matches("ploss eq 75", &esp));

    let mut tcp = record(FlowKeyKind::Ipv6, 6);
    tcp.detail = Detail::Tcp(Tcp { options: 0x0020_0000, ..Tcp::default() });
    assert!(matches("tcpopt", &tcp) && matches("wscale", &tcp) && !matches("mss", &tcp));
    assert!(matches("con", &tcp) && !matches("tcpopt", &esp));

    let mut redirect = record(FlowKeyKind::Icmp, 17);
    redirect.detail = Detail::Icmp(Icmp { kind: 5, ..Icmp::default() });
    assert!(matches("redirect", &redirect) && matches("icmp", &redirect));
    assert!(!matches("udp", &redirect) && !matches("icmpmap", &redirect));
    let mut udp = record(FlowKeyKind::Ipv4, 17);
    udp.error = Some(Icmp { kind: 3, sender: 0x0a01_00fe, ..Icmp::default() });
    assert!(matches("unreach and icmpmap", &udp) && matches("inode 10.1.0.254", &udp));
    assert!(!matches("redirect or timexed", &udp));

    let mut query = record(FlowKeyKind::Igmp, 2);
    query.key.source_port = 0x1164;
    assert!(matches("rtr", &query) && !matches("mbr", &query));
    query.key.source_port = 0x1700;
    assert!(matches("mbr and lvg", &query) && !matches("rtr", &query));
    assert!(
        matches("fragonly", &record(FlowKeyKind::FragmentV6, 17)) && !matches("fragonly", &udp)
    );
    assert!(!matches("port 443", &record(FlowKeyKind::FragmentV4, 17)));
}

#[test]
fn groups_are_those_of_both_versions_and_of_hardware() {
    let mut group = record(FlowKeyKind::Ipv6, 17);
    group.key.destination = Address::new(0xff02 << 112 | 1);
    group.hardware = [[0x33, 0x33, 0, 0, 0, 1], [2, 0, 0, 0, 0, 1]];
    assert!(matches("multicast", &group) && matches("ether multicast", &group));
    assert!(!matches("ether broadcast", &group) && !matches("ip broadcast", &group));
    assert!(matches("ether dst 33:33:0:0:0:1 and ether src 2:0:0:0:0:1", &group));
    assert!(matches("dst net ff02::/16 and not src net ff02::/16", &group));
    let mut all = record(FlowKeyKind::Ipv4, 17);
    all.key.destination = Address::new(0xffff_ffff);
    assert!(matches("ip broadcast", &all) && !matches("multicast", &all));
}

#[test]
fn times_between_packets_are_in_milliseconds() {
    let mut source = Intervals::default();
    for time_us in [1000, 3000] {
        source.active.add(time_us);
    }
    source.idle = Interval { count: 1, sum: 9000.0, square_sum: 81e6, ..Interval::default() };
    let jitter = Jitter { source, ..Jitter::default() };
    let extra = Extra { jitter: Some(&jitter), ..Extra::default() };
    let record = record(FlowKeyKind::Ipv4, 6);
    for (text, expected) in [
        ("src intpkt eq 2", true),
        ("src jit eq 1", true),
        ("src intpktidle eq 9", true),
        ("intpkt gt 1", false),
        ("src or dst intpkt gt 1", true),
        ("src or dst intpktidle gt 8.5", true),
    ] {
        assert_eq!(filter(text).matches(&record, &extra, SOURCE), expected, "{text}");
        assert!(!matches(text, &record), "{text}: unknown times");
    }
}

#[test]
fn management_records_match_what_is_for_them() {
    let of = |text: &str| filter(text).matches_management(SOURCE, Cause::Start);
    for (text, expected) in [
        ("", true),
        ("man", true),
        ("man or (tcp)", true),
        ("not tcp", true),
        ("not man", false),
        ("far", false),
        ("tcp", false),
        ("start", true),
        ("stop", false),
        ("srcid \"eth0\"", true),
        ("srcid 1", false),
        ("pkts gte 0", false),
    ] {
        assert_eq!(of(text), expected, "{text}");
    }
}

#[test]
fn names_are_looked_up_only_if_allowed() {
    let known = RecordFilter::parse("host localhost", NameSource::System);
    assert!(known.is_ok(), "{known:?}");
    assert!(error("host localhost").contains("not looked up for clients"));
    assert!(error("gateway localhost").contains("not looked up for clients"));
    assert!(error("srcid localhost").contains("not looked up for clients"));
    let dns = record(FlowKeyKind::Ipv4, 17);
    assert!(matches("port https", &dns) && !matches("port http", &dns));
    assert!(!matches(
        "port ssh",
        &FlowRecord { key: FlowKey { destination_port: 22, ..dns.key }, ..dns }
    ));
    assert!(error("port nothing").contains("port 'nothing' is unknown"));
}

#[test]
fn mistakes_are_one_line_with_a_place() {
    for (text, at, expected) in [
        ("tcp udp", 5, "'and' or 'or' is missing before 'udp'"),
        ("tcp and", 8, "a condition is missing here"),
        ("(tcp", 5, "')' is missing"),
        ("10.1.0.1", 1, "a qualifier, such as 'host', is missing before '10.1.0.1'"),
        ("tcp and \u{1b}[0m", 9, "'\\u{1b}' begins no word of a filter"),
        ("port \"a\nb\"", 6, "port 'a\\nb' is unknown"),
        ("pkts gt", 8, "a whole number is missing here"),
        ("pkts gt 1.5", 9, "a whole number is missing here"),
        ("port gt http", 9, "a port is missing here"),
        ("tcp host 1.2.3.4", 10, "join this protocol to an address by 'and'"),
        ("len gt 5", 1, "this word of argus(8) is not supported"),
        ("net 10.0.0.0/33", 14, "the length of a network is 0 to 32"),
        ("host 10.0.0.0/8", 14, "'net' goes before a network"),
        ("seq 99999999999999999999", 5, "a whole number is missing here"),
    ] {
        assert_eq!(error(text), format!("filter, character {at}: {expected}"));
    }
}

#[test]
fn hostile_expressions_are_limited() {
    let nested = |depth: usize| format!("{}tcp{}", "(".repeat(depth), ")".repeat(depth));
    assert!(matches(&nested(50), &record(FlowKeyKind::Ipv4, 6)));
    assert!(error(&nested(51)).contains("more than 50 open parentheses"));
    assert!(error(&"(".repeat(EXPRESSION_BYTES_MAX)).contains("open parentheses"));
    assert!(error(&" ".repeat(EXPRESSION_BYTES_MAX + 1)).contains("more than 4096 bytes"));
    let reversed = format!("{}tcp", "!".repeat(4000));
    assert!(matches(&reversed, &record(FlowKeyKind::Ipv4, 6)));
    // The shortest conditions; with a protocol, they take more steps than a program has.
    let many = |first: &str| format!("{first} 1{}", "||1".repeat(1360));
    assert!(!matches(&many("seq"), &record(FlowKeyKind::Ipv4, 6)));
    assert!(error(&many("ip pkts")).contains("too many conditions"));
    assert!(error("host 1.2.3.4 && not not \u{e9}").contains("character 25"));
}

const WORDS: [&str; 3] = [
    "tcp udp ip ipv6 arp ether host net port proto src dst and or not ( ) ! && || gt lte eq > !=",
    "mask / pkts bytes dur rate ttl vid srcid inode gateway encaps co syn frag con man start mss",
    "multicast broadcast len gre ef",
];
const OPERANDS: [&str; 2] =
    ["10.1.0.1 10.1.0.0/16 ::1 fd00::/8 1:2:3:4:5:6 443 0x1bb 1.5 -3", "53-80 http \"ab\" \\tcp"];

/// Words of the language, and some that are none.
fn word() -> impl Strategy<Value = String> {
    let one_of = |lines: &[&str]| {
        let words = lines.iter().flat_map(|line| line.split_whitespace());
        prop::sample::select(words.map(str::to_owned).collect::<Vec<_>>())
    };
    prop_oneof![8 => one_of(&WORDS), 2 => one_of(&OPERANDS), 1 => "\\PC{0,6}"]
}

proptest! {
    #[test]
    fn any_words_are_compiled_or_refused(words in prop::collection::vec(word(), 0..40)) {
        let text = words.join(" ");
        match RecordFilter::parse(&text, NameSource::BuiltIn) {
            Err(error) => {
                prop_assert!(error.at <= text.len());
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
            Ok(filter) => {
                // Reversed, it matches the other records.
                let reversed = RecordFilter::parse(&format!("not ({text})"), NameSource::BuiltIn);
                let kinds = [FlowKeyKind::Ipv4, FlowKeyKind::Arp, FlowKeyKind::Ipv6];
                let protocols = [6, 0, 17].into_iter();
                let flows = kinds.into_iter().zip(protocols);
                let flows: Vec<_> = flows.map(|(kind, protocol)| record(kind, protocol)).collect();
                for flow in &flows {
                    let matches = |of: &RecordFilter| of.matches(flow, &Extra::default(), SOURCE);
                    if let Ok(reversed) = &reversed {
                        prop_assert_ne!(matches(reversed), matches(&filter));
                    } else {
                        prop_assert!(words.is_empty() || text.trim().is_empty());
                    }
                }
            }
        }
    }

    #[test]
    fn any_text_is_compiled_or_refused(text in "\\PC{0,200}") {
        if let Err(error) = RecordFilter::parse(&text, NameSource::BuiltIn) {
            prop_assert!(error.at <= text.len());
        }
    }
}
