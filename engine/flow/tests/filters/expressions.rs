//! Expressions, and what is known to differ.

use panoptes_records::flow::{Detail, FlowKeyKind, FlowRecord, Jitter, status, tcp_status};

/// Both keep the same records. Semicolons separate expressions.
pub(crate) const SAME: &str = r"
ip; ipv4; ipv6; tcp; udp; icmp; igmp; mpls; vlan; rtp; rtcp; udt; isis; far; man; event; index
not man; man or (tcp); not tcp; not ip; ; host 1.2.3.4; ipv6 and tcp; not (ipv6 or udp)
ip proto 6; ip proto 17; ip proto ipv6-icmp; ip proto gre; ip proto \tcp; ipv4 proto 6
ipv6 proto 6; ipv6 proto 58; proto 50; proto ah; ip proto 132; ip proto 2; ip proto sctp
ether proto 2048; ether proto \ip; ether proto 0x86dd; ether proto 2054; ether proto \arp
ether proto 0x88cc; ether proto 35020; ether proto \ipv6

host 10.1.0.1; src host 10.1.0.1; dst host 10.1.0.1; src or dst host 10.1.0.1
src and dst host 10.1.0.1; ip host 10.1.0.1; ipv4 host 10.1.0.1; arp host 10.1.0.1
src 10.1.0.1; dst 10.1.0.1; host 10.1.0.1 and 10.1.0.2; host 10.1.0.1 or 10.1.0.5
dst or src host 10.1.0.101; dst and src net 10.1.0.0/16; src host 10.1.0.1 or dst host 10.1.0.5
host (10.1.0.1 or 10.1.0.5); not host 10.1.0.1; host not 10.1.0.1; ! host 10.1.0.1
not host 10.1.0.1 and 10.1.0.101; not (host 10.1.0.1 or 10.1.0.5); host 10.1.0.1 and not 10.1.0.101
net 10.1.0.0/16; src net 10.1.0.0/24; dst net 192.168.0.0/16; net 10.1.0.0 mask 255.255.0.0
net 10.0.0.0/7; net 224.0.0.0/4; src net 10.1.0.0/16 and dst net 10.1.0.0/16; net 10.1.0.1
host fd00::1; net fd00::/8; src net fd00::/16; ipv6 host fd00::1; host 255.255.255.255
host 239.1.2.3; ip broadcast; ether broadcast; ipv6 net fd00::/64; net 10.1.0.64/26
ether host ff:ff:ff:ff:ff:ff; ether dst ff:ff:ff:ff:ff:ff; ether src ff:ff:ff:ff:ff:ff
ether host 1:0:5e:1:2:3; ether dst host ff:ff:ff:ff:ff:ff; not ether host ff:ff:ff:ff:ff:ff

port 53; port 443; src port 443; dst port 443; src or dst port 53; src and dst port 5353
tcp port 443; udp port 443; udp port 53; tcp dst port 80; port http; port domain; port ssh
udp port domain; tcp port https; port 80 or 443; port 80 and 443; port (80 or 443)
tcp port 80 or 443 or 22; dst port 20-100 and tcp; src port 1-1023; dst port gt 1000
port gt 40000; port gte 443 and tcp; tcp dst port lt 100; dst port gte 443; tcp dst port lte 443
port eq 53; port 0x1bb; port 0673; tcp src port gt 40000; udp dst port greater 5000
tcp and not port 443; not tcp port 443; not (tcp and port 443); tcp and (port 80 or port 443)
tcp or udp and port 53; udp and port 53 or tcp; tcp && port 443; tcp || udp; !tcp; not not tcp
((tcp)); (tcp or udp) and (port 53 or port 443); host 10.1.0.1 and (port 443 or port 53)
not (not (tcp or udp) or port 443); tcp and port 443 or udp and port 53 or icmp; (tcp) or (udp)
tcp and dst port 443 and src host 10.1.0.1 or 10.1.0.5; tcp port 443 and host 10.1.0.1

pkts gt 5; src pkts gt 5; dst pkts gt 5; src and dst pkts gt 5; src or dst pkts eq 1; pkts 1
pkts lt 2; pkts lte 2; pkts gte 10; pkts equal 3; dst pkts 0; bytes gt 1000; src bytes lt 100
dst bytes gte 3000; bytes 60; appbytes gt 0; src appbytes gt 1000; dst data eq 0; data gt 100
src byte greater 100; src pkt less 3; seq 7; seq lt 10; seq gt 100; seq gte 100 and seq lte 110
seq gte 100 and lte 110; pkts gt 5 and lt 10; trans 1; trans gt 1; dst appbytes lte 100
src and dst bytes gt 1000; not pkts gt 5; pkts gt 5 or seq lt 20; pkts >= 5; src bytes <= 100

ipv4 and ttl 64; ipv4 and src ttl gt 60; ipv4 and src ttl lt 64; ipv4 and ttl gte 64
ipv4 and tos 0; ipv4 and src tos gt 0; ipv4 and dsb 0; ipv4 and src dsb gt 0; ipv4 and src dsb ef
ipv4 and tcp and src ipid gt 5; vid 100; src vid 100; vid 7; mid 1000; src mid 1000; mid 1001
encaps eth; encaps 802q; encaps gre; encaps llc; encaps teredo; encaps ipnip; src encaps gre
encaps pppoe; encaps sll; src and dst encaps eth; encaps erspan

rate gt 1; rate gt 1.5; src rate gt 10; dst rate lt 10.0; rate lte 5; load gt 1000.0
src load gt 100000; dst load gt 100000.5; src and dst load gt 1000; dur gt 1; dur gt .5; dur lt 0.1
dur eq 0; dur gte 1.5; pcr gt 0; pcr lt -0.5; pcr gt -0.5; pcr eq 0.0; pcr gt .25
src intpkt gt 10.0; intpkt gt 1.5; src jitter gt 1.5; src intpktact gt 1.0; jit gt .5
src intpktidle gt 1.0; src jitidle gt 0.5; dst jitact gt 0.5; src or dst intpkt gt 10.0

start; init; status; stop; timeout; shut; normal; wait; ipv4 and est; ipv4 and con; tcp and con
not start; syn; src syn; dst syn; synack; fin; finack; reset; src reset; dst rst; ack; push; urg
ece; cwr; src and dst fin; retrans; src retrans; dst retrans; src and dst retrans; drop; outoforder
src ooo; dst outoforder; winshut; src winshut; dst winshut; ecn; src ecn; dst ecn
ipv4 and frag; ipv4 and src frag; ipv4 and dst frag; multipath; src mpath; dst multipath
ipv4 and tcp and mss; ipv4 and tcp and wscale; ipv4 and tcp and selackok; ipv4 and tcp and secn
ipv4 and tcp and tcptimestamp; ipv4 and tcp and selack; ipv4 and tcp and decn
icmp and echo; icmp and unreach; udp and unreach; icmp and timexed; udp and ipv4 and timexed
src port 443 and syn; src host 10.1.0.1 and fin; src host 10.1.0.1 and fin and dst host 10.1.0.101
tcp and src base gt 1000000; tcp and dst tcpb 2004999; inode 10.1.0.101

srcid 10.9.8.7; srcid 168364039; srcid 0x0a090807; srcid 1.2.3.4; not srcid 10.9.8.7
srcid 1.2.3.4 or 10.9.8.7; co US; asn 5; nstroke 5; deldur gt 5
";

/// Terms that both understand equally, and operands that may follow alone.
pub(crate) const TERMS: &[(&str, &[&str])] = &[
    ("tcp", &[]),
    ("udp", &[]),
    ("ipv6", &[]),
    ("icmp", &[]),
    ("man", &[]),
    ("finack", &[]),
    ("src retrans", &[]),
    ("synack", &[]),
    ("start", &[]),
    ("host 10.1.0.1", &["10.1.0.101", "10.1.0.5"]),
    ("src host 10.1.0.1", &["10.1.0.7"]),
    ("dst net 10.1.0.0/25", &["10.1.0.128/25", "fd00::/8"]),
    ("port 443", &["80", "53"]),
    ("tcp dst port 443", &["http", "22"]),
    ("src or dst port gt 45000", &["gte 5000", "eq 443"]),
    ("pkts gt 5", &["lt 12", "9"]),
    ("src and dst bytes gte 500", &["lte 2000"]),
    ("seq lt 200", &["gt 250", "7"]),
    ("encaps eth", &["gre"]),
    ("ip proto 6", &["17", "58"]),
];

/// What `ra` does not understand, and what it says instead.
pub(crate) const EXTENSIONS: &[(&str, &str)] = &[
    ("ip6", "ipv6"),
    ("icmp6", "proto 58"),
    ("esp", "proto 50"),
    ("ah", "proto 51"),
    ("sctp", "proto 132"),
    ("ip proto tcp", "ip proto 6"),
    ("ether proto ip", "ether proto 2048"),
    ("ip proto icmp6", "ip proto 58"),
    ("pkts > 5", "pkts gt 5"),
    ("pkts < 5", "pkts lt 5"),
    ("pkts = 5", "pkts eq 5"),
    ("src pkts == 5", "src pkts eq 5"),
    ("src pkts != 5", "not src pkts eq 5"),
    ("dst port != 443 and tcp", "not tcp dst port 443 and tcp"),
    ("encaps mpls", r"encaps \mpls"),
    ("tcp AND NOT port 443", "tcp and not port 443"),
    ("host 10.1.0.1 and (10.1.0.5 or tcp)", "host 10.1.0.1 and 10.1.0.5 or host 10.1.0.1 and tcp"),
];

/// Expressions of which neither makes anything. `ra` aborts at some.
pub(crate) const MISTAKES: &[&str] = &[
    "tcp udp",
    "tcp and",
    "and tcp",
    "(tcp",
    "tcp)",
    "not",
    "10.1.0.1",
    "portt",
    "port",
    "host",
    "host 10.1.0.0/24",
    "host a",
    "net 10.1",
    "pkts gt 1.5",
    "pkts gt",
    "gt 5",
    "ip proto nothing",
    "encaps nothing",
    "encaps 2",
    "broadcast",
    "tcp host 10.1.0.1",
    "icmp port 5",
    "udp port http",
    "link",
    "tcprtt gt 0",
    "gap gt 0",
    "len gt 5",
    "svc",
    "cor",
    "@",
    "ether host 10.1.0.1",
];

/// Expressions by which `ra` keeps other records.
pub(crate) struct Difference {
    pub expressions: &'static [&'static str],
    /// Only these records differ, and some do.
    pub of: fn(&FlowRecord, Option<&Jitter>) -> bool,
    pub reason: &'static str,
}

/// Records that `ra` turns round when it reads them: of connections whose SYN was not seen. A
/// filter of the sensor compares them as they are.
pub(crate) fn is_turned_round(record: &FlowRecord) -> bool {
    let Detail::Tcp(tcp) = &record.detail else { return false };
    tcp.status & (tcp_status::SAW_SYN | tcp_status::SAW_SYN_ACK) == tcp_status::SAW_SYN_ACK
}

fn is_ipv6(record: &FlowRecord) -> bool {
    matches!(
        record.key.kind,
        FlowKeyKind::Ipv6 | FlowKeyKind::Icmpv6 | FlowKeyKind::EspV6 | FlowKeyKind::FragmentV6
    )
}

fn is_tcp(record: &FlowRecord) -> bool {
    matches!(record.detail, Detail::Tcp(_))
}

fn is_arp(record: &FlowRecord) -> bool {
    matches!(record.key.kind, FlowKeyKind::Arp | FlowKeyKind::Rarp)
}

fn has_no_times(jitter: &Jitter) -> bool {
    let ends = [&jitter.source, &jitter.destination];
    ends.iter().all(|end| end.active.count == 0 && end.idle.count == 0)
}

pub(crate) const DIFFERENT: &[Difference] = &[
    Difference {
        expressions: &["arp", "rarp", "ether proto 0x8035"],
        of: |record, _| is_arp(record),
        reason: "ra takes ARP for RARP",
    },
    Difference {
        expressions: &["ttl 64", "src ttl gt 60", "tos 0", "dsb 0", "con", "est", "frag"],
        of: |record, _| is_ipv6(record),
        reason: "ra compares these for IPv4 only",
    },
    Difference {
        expressions: &["mss", "wscale", "selackok", "tcptimestamp"],
        of: |record, _| is_ipv6(record) || !is_tcp(record),
        reason: "for ra, what is no TCP has all options, and IPv6 none",
    },
    Difference {
        expressions: &["tcpopt", "ipv4 and tcp and tcpopt"],
        of: |_, _| true,
        reason: "ra asks for all options at once",
    },
    Difference {
        expressions: &["ipv4 and dst ttl lt 64", "ipv4 and dst tos lt 5"],
        of: |record, _| record.destination.packets == 0,
        reason: "for ra, the TTL of an end that sent nothing is 0",
    },
    Difference {
        expressions: &["multicast", "ip multicast"],
        of: |record, _| is_ipv6(record) || record.key.destination.v4() == u32::MAX,
        reason: "ra has no groups of IPv6, and takes 240.0.0.0/4 for multicast",
    },
    Difference {
        expressions: &["ether multicast"],
        of: |_, _| true,
        reason: "ra looks at other bytes of its memory",
    },
    Difference {
        expressions: &["net 0.0.0.0/0"],
        of: |_, _| true,
        reason: "ra takes a length of 0 for 32",
    },
    Difference {
        expressions: &["dst port lt 100", "dst port lte 443"],
        of: |record, _| {
            matches!(record.key.kind, FlowKeyKind::FragmentV4 | FlowKeyKind::FragmentV6)
        },
        reason: "fragments without the first one have no ports; for ra, these are 0",
    },
    Difference {
        expressions: &["port 53-80", "tcp port 1000-30000", "src or dst port 5000-5353"],
        of: |record, _| matches!(record.key.kind, FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6),
        reason: "ra compares one limit with one port, and the other one with the other",
    },
    Difference {
        expressions: &["tcp pkts gt 5", "udp bytes gt 100", "udp dst pkts gt 1"],
        of: |_, _| true,
        reason: "ra forgets the protocol before such words",
    },
    Difference {
        expressions: &["icmp host 10.1.0.1"],
        of: |record, _| record.key.kind != FlowKeyKind::Icmp,
        reason: "ra takes it for ipv4 host",
    },
    Difference {
        expressions: &["ipid gt 5", "src ipid gt 5"],
        of: |record, _| !is_tcp(record),
        reason: "ra compares it for TCP only",
    },
    Difference {
        expressions: &["vid gt 5", "src vid lt 200", "vid lte 99"],
        of: |record, _| (record.source.status | record.destination.status) & status::VLAN != 0,
        reason: "ra looks for equal tags whatever is asked",
    },
    Difference {
        expressions: &["vpri 3"],
        of: |record, _| (record.source.status | record.destination.status) & status::VLAN != 0,
        reason: "ra takes the bit behind the priority for a part of it",
    },
    Difference {
        expressions: &["pcr lt 0", "rate gte 0", "rate lt 0", "dur lt 0", "dur gte 0", "pcr gte 0"],
        of: |_, _| true,
        reason: "for ra, 0 is below 0",
    },
    Difference {
        expressions: &["dst intpkt lt 100.0", "intpkt lt 5.0", "dst jitter lt 1.0"],
        of: |_, jitter| jitter.is_none_or(has_no_times),
        reason: "for ra, an unknown time is -1",
    },
    Difference {
        expressions: &["intpkt gt 1", "jitter gte 1"],
        of: |_, _| true,
        reason: "of a whole number, ra forgets what it is compared with",
    },
    Difference {
        expressions: &["src or dst intpktidle gt 1.0"],
        of: |_, _| true,
        reason: "for the destination, ra compares the active time",
    },
    Difference {
        expressions: &["ploss gt 0", "ploss gt 1.0", "src ploss gt 0", "dst ploss gt 0.5"],
        of: |record, _| {
            is_tcp(record) || record.key.kind == FlowKeyKind::EspV4 || record.rtp().is_some()
        },
        reason: "ra computes it after the filter",
    },
    Difference {
        expressions: &["avgdur gt 0.5"],
        of: |_, _| true,
        reason: "ra compares bytes of a number with a fraction with a whole number",
    },
    Difference {
        expressions: &["pkts gt -1", "bytes gt 4294967300"],
        of: |_, _| true,
        reason: "ra has the lowest 32 bits of a number",
    },
    Difference {
        expressions: &["echo", "unreach", "timexed", "icmpmap"],
        of: |record, _| is_ipv6(record) || record.error.is_none(),
        reason: "ra compares ICMP of IPv4 only, and takes all records for icmpmap",
    },
    Difference {
        expressions: &["redirect", "icmp and redirect"],
        of: |record, _| record.key.kind == FlowKeyKind::Icmp,
        reason: "ra compares bytes of the record that only other records have",
    },
    Difference {
        expressions: &["rtr", "mbr"],
        of: |record, _| record.key.kind == FlowKeyKind::Igmp,
        reason: "ra forgets the type of a message of IGMP",
    },
    Difference {
        expressions: &["spi 7", "spi lt 5000"],
        of: |record, _| matches!(record.detail, Detail::Esp(_)),
        reason: "ra replaces bytes of the index",
    },
    Difference {
        expressions: &["base lt 2000", "dst base lt 100"],
        of: |record, _| !is_tcp(record) || record.destination.packets == 0,
        reason: "ra compares bytes of other protocols, and numbers that were not seen",
    },
    Difference {
        expressions: &["asn lt 5", "nstroke lte 5", "cocode", "error", "fragonly"],
        of: |_, _| true,
        reason: "ra takes all records where it knows nothing",
    },
    Difference {
        expressions: &["asn 5 or dur gt 1"],
        of: |_, _| true,
        reason: "behind an unknown number, no number with a fraction is equal for ra",
    },
];
