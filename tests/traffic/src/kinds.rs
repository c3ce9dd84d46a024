//! One capture for each kind of conversation.

use std::net::IpAddr;

use crate::between::{Between, Host, Layer};
use crate::capture::{Capture, Conversation};
use crate::icmp::{Discovery, Echo, Neighbour, Redirect, TimeExceeded, Timestamp};
use crate::link::{Arp, Content, Frames, Rarp};
use crate::other::{Esp, Igmp, Sctp};
use crate::tcp::{Closing, Exchange, Opening, Tcp};
use crate::udp::{Dhcp, Dns, Fragments, Order, Rtp, Udp};

/// When the captures begin, in nanoseconds since 1970.
pub const BEGIN_NS: u64 = 1_700_000_000_100_000_000;

/// A kind of conversation: its name, and a capture with nothing else.
pub type Kind = (&'static str, Capture);

/// All kinds. Names are unique, and begin with the name of a protocol.
pub fn kinds() -> Vec<Kind> {
    let mut all = tcp();
    all.extend(tcp_oddities());
    all.extend(udp());
    all.extend(exchanged());
    all.extend(icmp());
    all.extend(link());
    all.extend(protocols());
    all.extend(layers());
    all
}

fn v4() -> Between {
    Between::v4(1, [40000, 443])
}

fn v6() -> Between {
    Between::v6(1, [40000, 443])
}

fn one(name: &'static str, conversation: &dyn Conversation) -> Kind {
    (name, Capture::of(conversation))
}

fn connection() -> Tcp {
    Tcp::new(v4(), BEGIN_NS)
}

fn tcp() -> Vec<Kind> {
    let first = connection();
    let reset = Tcp { closing: Closing::Reset, ..connection() };
    let again = Tcp {
        start_ns: BEGIN_NS + 3_000_000_000,
        sequences: [77_000_000, 88_000_000],
        syn_ack_us: 700,
        ..connection()
    };
    let unanswered = Opening::Unanswered { retries: 3 };
    let each_second = Exchange { pause_ns: 1_000_000_000, bytes: [200, 900] };
    vec![
        one("tcp", &first),
        one("tcp over ipv6", &Tcp::new(v6(), BEGIN_NS)),
        one("tcp reset", &reset),
        one("tcp refused", &Tcp { opening: Opening::Refused, ..connection() }),
        one("tcp unanswered", &Tcp { opening: unanswered, ..connection() }),
        one("tcp half open", &Tcp { opening: Opening::HalfOpen, ..connection() }),
        one("tcp reset twice", &Tcp { opening: Opening::ResetTwice, ..connection() }),
        one("tcp open", &Tcp { closing: Closing::Unseen, ..connection() }),
        one(
            "tcp from the middle",
            &Tcp { opening: Opening::Unseen, closing: Closing::Unseen, ..connection() },
        ),
        one("tcp end only", &Tcp { opening: Opening::Unseen, ..connection() }),
        ("tcp port reuse", Capture::of(&first).with(&again)),
        ("tcp port reuse after a reset", Capture::of(&reset).with(&again)),
        one("tcp long", &Tcp { exchanges: vec![each_second; 30], ..connection() }),
        one("tcp keep-alive", &Tcp { keep_alive: 3, ..connection() }),
    ]
}

fn tcp_oddities() -> Vec<Kind> {
    let exchanges = vec![Exchange { pause_ns: 200_000, bytes: [9000, 30_000] }; 2];
    let busy = || Tcp { exchanges: exchanges.clone(), ..connection() };
    let lost_and_reset = Tcp { closing: Closing::Reset, retransmitted: [2, 3], ..busy() };
    vec![
        one("tcp retransmitted by destination", &Tcp { retransmitted: [0, 1], ..busy() }),
        one("tcp retransmitted by both", &Tcp { retransmitted: [2, 3], ..busy() }),
        one("tcp retransmitted before a reset", &lost_and_reset),
        one("tcp retransmitted in vain", &Tcp { retransmitted_in_vain: [1, 2], ..busy() }),
        one("tcp out of order", &Tcp { swapped: [1, 2], ..busy() }),
        one("tcp unseen segment", &Tcp { unseen: [0, 1], ..busy() }),
        one("tcp lost before the sensor", &Tcp { lost_before: [0, 2], ..busy() }),
        one("tcp zero window", &Tcp { zero_window: true, ..connection() }),
        one("tcp sequence wraps", &Tcp { sequences: [0xffff_f000, 0xffff_fff0], ..busy() }),
        one("tcp urgent", &Tcp { urgent: true, ..connection() }),
        one("tcp congestion", &Tcp { ecn: true, ..connection() }),
    ]
}

/// Conversations whose source has the higher address.
fn exchanged() -> Vec<Kind> {
    let between = || v4().exchanged();
    let tcp = || Tcp::new(between(), BEGIN_NS);
    let start_ns = BEGIN_NS;
    let unseen = Tcp { opening: Opening::Unseen, ..tcp() };
    let no_syn = Tcp { opening: Opening::SynUnseen, ..tcp() };
    let unanswered = Tcp { opening: Opening::Unanswered { retries: 1 }, ..tcp() };
    let exchanges = vec![Exchange { pause_ns: 200_000, bytes: [9000, 30_000] }];
    let lossy = Tcp { exchanges, retransmitted: [2, 1], ..tcp() };
    let esp = Esp { between: between(), start_ns, spi: 7, sequences: vec![1, 4], bytes: 104 };
    let fragments =
        Fragments { between: between(), start_ns, datagrams: 1, bytes: 4000, order: Order::Sent };
    let unreachable =
        Udp { unreachable_after_ns: Some(30_000_000), ..Udp::one_way(between(), BEGIN_NS, &[100]) };
    vec![
        one("tcp from the higher address", &tcp()),
        one("tcp over ipv6 from the higher address", &Tcp::new(v6().exchanged(), BEGIN_NS)),
        one("tcp without the syn", &Tcp { between: v4(), ..no_syn.clone() }),
        one("tcp without the syn from the higher address", &no_syn),
        one("tcp end only from the higher address", &unseen),
        one("tcp unanswered from the higher address", &unanswered),
        one("tcp retransmitted from the higher address", &lossy),
        one("udp from the higher address", &Udp::alternating(between(), BEGIN_NS, &[9, 99, 999])),
        one("udp one-way from the higher address", &Udp::one_way(between(), BEGIN_NS, &[9, 99])),
        one("udp unreachable from the higher address", &unreachable),
        one("fragments from the higher address", &fragments),
        one("icmp echo from the higher address", &Echo::new(between(), BEGIN_NS, 0x1234, 2)),
        one("icmpv6 echo from the higher address", &Echo::new(v6().exchanged(), BEGIN_NS, 7, 2)),
        one("esp from the higher address", &esp),
    ]
}

fn udp() -> Vec<Kind> {
    let ports = v4().with_ports([50000, 5000]);
    let ports_v6 = v6().with_ports([50000, 5000]);
    let two_way = Udp::alternating(ports.clone(), BEGIN_NS, &[100, 400, 60, 1200]);
    let group = |host: Host| {
        let group = host.with_address(IpAddr::from([239, 1, 2, 3])).with_mac([1, 0, 94, 1, 2, 3]);
        Between::new([Host::v4(1), group], [5353, 5353])
    };
    let unreachable = |between| Udp {
        unreachable_after_ns: Some(30_000_000),
        ..Udp::one_way(between, BEGIN_NS, &[100])
    };
    let dns = |between: Between| Dns {
        between: between.with_ports([40000, 53]),
        start_ns: BEGIN_NS,
        ids: vec![0x1234, 0x1235, 0x0001],
        interval_ns: 10_000_000,
        answer_after_ns: Some(15_000_000),
    };
    let pieces = |between: Between, order| Fragments {
        between: between.with_ports([50000, 5000]),
        start_ns: BEGIN_NS,
        datagrams: 1,
        bytes: 4000,
        order,
    };
    let sound = |sequences| Rtp { between: ports.clone(), start_ns: BEGIN_NS, sequences };
    let gap: Vec<u16> = (100..120).chain(122..150).collect();
    vec![
        one("rtp", &sound((1..40).collect())),
        one("rtp with a gap", &sound(gap)),
        one("udp", &two_way),
        one("udp over ipv6", &Udp::alternating(ports_v6.clone(), BEGIN_NS, &[100, 400])),
        one("udp one-way", &Udp::one_way(ports.clone(), BEGIN_NS, &[100, 200, 300])),
        one("udp multicast", &Udp::one_way(group(Host::v4(2)), BEGIN_NS, &[100, 200])),
        one("udp unreachable", &unreachable(ports.clone())),
        one("udp unreachable over ipv6", &unreachable(ports_v6)),
        one("udp dhcp", &Dhcp { client: Host::v4(9), start_ns: BEGIN_NS, requests: 2 }),
        one("dns", &dns(v4())),
        one("dns over ipv6", &dns(v6())),
        one("dns unanswered", &Dns { answer_after_ns: None, ..dns(v4()) }),
        one("fragments", &pieces(v4(), Order::Sent)),
        one(
            "fragments of three datagrams",
            &Fragments { datagrams: 3, ..pieces(v4(), Order::Sent) },
        ),
        one("fragments reversed", &pieces(v4(), Order::Reversed)),
        one("fragments without the first", &pieces(v4(), Order::FirstMissing)),
        one("fragments over ipv6", &pieces(v6(), Order::Sent)),
        one("fragments reversed over ipv6", &pieces(v6(), Order::Reversed)),
    ]
}

fn icmp() -> Vec<Kind> {
    let between = v4().with_ports([33000, 33434]);
    let between_v6 = v6().with_ports([33000, 33434]);
    let echo = |between| Echo::new(between, BEGIN_NS, 0x1234, 4);
    let discovery =
        |what| Discovery { asker: Host::v6(1), target: Host::v6(2), start_ns: BEGIN_NS, what };
    let router = Host::v4(7).address;
    let router_v6 = Host::v6(7).address;
    let start_ns = BEGIN_NS;
    vec![
        one("icmp echo", &echo(v4())),
        one("icmp echo with lost replies", &Echo { lost: vec![1, 2], ..echo(v4()) }),
        one("icmp timestamp", &Timestamp { between: v4(), start_ns, id: 0x4321 }),
        one("icmp time exceeded", &TimeExceeded { between, start_ns, router }),
        one("icmp redirect", &Redirect { between: v4(), start_ns, gateway: [10, 1, 0, 9] }),
        one("icmpv6 echo", &echo(v6())),
        one("icmpv6 echo with lost replies", &Echo { lost: vec![1, 2], ..echo(v6()) }),
        one(
            "icmpv6 time exceeded",
            &TimeExceeded { between: between_v6, start_ns, router: router_v6 },
        ),
        one("icmpv6 neighbour", &discovery(Neighbour::Found)),
        one("icmpv6 missing neighbour", &discovery(Neighbour::Missing(3))),
        one("icmpv6 router", &discovery(Neighbour::Router(2))),
    ]
}

fn link() -> Vec<Kind> {
    let arp = || Arp::new(Host::v4(1), Host::v4(2), BEGIN_NS);
    let unanswered = Arp { requests: 3, answer_after_ns: None, ..arp() };
    let gratuitous = Arp { answer_after_ns: None, gratuitous: true, ..arp() };
    let frames = |content, to| Frames {
        from: [2, 0, 0, 0, 0, 9],
        to,
        start_ns: BEGIN_NS,
        count: 3,
        content,
    };
    let bridges = [1, 0x80, 0xc2, 0, 0, 0];
    let neighbours = [1, 0x80, 0xc2, 0, 0, 14];
    vec![
        one("arp", &arp()),
        one("arp from the higher address", &Arp::new(Host::v4(2), Host::v4(1), BEGIN_NS)),
        one("arp unanswered", &unanswered),
        one("arp gratuitous", &gratuitous),
        one("rarp", &Rarp { asker: Host::v4(1), server: Host::v4(2), start_ns: BEGIN_NS }),
        one("llc stp", &frames(Content::SpanningTree, bridges)),
        one("lldp", &frames(Content::Ethertype(0x88cc), neighbours)),
        one("ethertype unknown", &frames(Content::Ethertype(0x9999), [2, 0, 0, 0, 0, 8])),
        one(
            "ethertype unknown to a higher address",
            &frames(Content::Ethertype(0x9999), [2, 0, 0, 0, 0, 10]),
        ),
    ]
}

fn protocols() -> Vec<Kind> {
    let to_group = |group: [u8; 4]| {
        let mac = [1, 0, 94, group[1], group[2], group[3]];
        let group = Host::v4(2).with_address(IpAddr::from(group)).with_mac(mac);
        Between::new([Host::v4(1), group], [0, 0])
    };
    let start_ns = BEGIN_NS;
    let between = to_group([239, 1, 2, 3]);
    let report = Igmp { between, start_ns, kind: 0x16, group: [239, 1, 2, 3], count: 2 };
    let between = to_group([224, 0, 0, 1]);
    let query = Igmp { between, start_ns, kind: 0x11, group: [0; 4], count: 2 };
    let sequences = vec![1, 2, 3, 5, 6];
    vec![
        one("igmp report", &report),
        one("igmp query", &query),
        one("esp", &Esp { between: v4(), start_ns, spi: 0x0001_e240, sequences, bytes: 104 }),
        one("sctp", &Sctp { between: v4(), start_ns }),
        one(
            "tcp with record route",
            &Tcp::new(v4().with_options(&[7, 7, 8, 10, 1, 0, 254, 0]), BEGIN_NS),
        ),
        one(
            "tcp over ipv6 with hop-by-hop options",
            &Tcp::new(v6().with_options(&[5, 2, 0, 0, 1, 0]), BEGIN_NS),
        ),
    ]
}

fn layers() -> Vec<Kind> {
    let inside = |layers: &[Layer], between: Between| {
        let between = layers.iter().fold(between, |between, layer| between.inside(layer.clone()));
        Tcp::new(between, BEGIN_NS)
    };
    let vlans = [Layer::Vlan(0x2064), Layer::Vlan(0x00c8)];
    let provider = [Layer::Provider(10), Layer::Vlan(20)];
    vec![
        one("vlan", &inside(&[Layer::Vlan(0x6064)], v4())),
        one("vlan with ipv6", &inside(&[Layer::Vlan(0x6064)], v6())),
        one("vlan stacked", &inside(&vlans, v4())),
        one("vlan of a provider", &inside(&provider, v4())),
        one("mpls", &inside(&[Layer::Mpls(vec![1000])], v4())),
        one("mpls of three labels", &inside(&[Layer::Mpls(vec![1000, 2000, 3000])], v4())),
        one("pppoe", &inside(&[Layer::Pppoe(7)], v4())),
        one("gre", &inside(&[Layer::Gre], v4())),
        one("ipip", &inside(&[Layer::Ipip], v4())),
        one("6in4", &inside(&[Layer::SixInFour], v6())),
        one("ah", &inside(&[Layer::Ah(0x99)], v4())),
        one("vxlan", &inside(&[Layer::Vxlan(42)], v4())),
        one("geneve", &inside(&[Layer::Geneve(42)], v4())),
        one("teredo", &inside(&[Layer::Teredo], v6())),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::capture::Clock;

    #[test]
    fn names_are_unique() {
        let kinds = kinds();
        let names: BTreeSet<_> = kinds.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), kinds.len());
    }

    /// The truth counts what the file has.
    #[test]
    fn flows_have_all_packets() {
        for (name, capture) in kinds() {
            let total: u64 = capture.flows().iter().flat_map(|flow| flow.packets).sum();
            assert_eq!(total, capture.packets() as u64, "{name}");
        }
    }

    #[test]
    fn captures_are_the_same_each_time() {
        for ((name, first), (_, second)) in kinds().iter().zip(kinds()) {
            assert_eq!(first.pcap(Clock::Nanoseconds), second.pcap(Clock::Nanoseconds), "{name}");
        }
    }
}
