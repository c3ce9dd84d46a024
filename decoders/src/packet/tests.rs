//! Frames made by hand, and what is read of them.

use std::vec::Vec;

use proptest::prelude::*;

use super::transport::{Icmp, Tcp, flag, option, ports};
use super::*;

/// An Ethernet header.
fn ether(kind: u16) -> Vec<u8> {
    let mut bytes = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]].concat();
    bytes.extend(kind.to_be_bytes());
    bytes
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = 20 + payload.len() as u16;
    let mut bytes = Vec::from([0x45, 0x10]);
    bytes.extend(length.to_be_bytes());
    bytes.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}

/// An IPv6 packet from ::1 to ::2.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::from([0x6a, 0xb1, 0x23, 0x45]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 63]);
    bytes.extend(1_u128.to_be_bytes());
    bytes.extend(2_u128.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const UDP: [u8; 12] = [0x14, 0xe9, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];

fn read(bytes: &[u8]) -> Packet<'_> {
    decode(1, bytes, bytes.len() as u32, Tunnels::Declared)
}

fn ip<'a>(packet: &Packet<'a>) -> Ip<'a> {
    let Network::Ip(ip) = packet.network else { panic!("no IP: {packet:?}") };
    ip
}

#[test]
fn a_packet_of_each_version_is_read() {
    let bytes = [ether(ethertype::IPV4), ipv4(17, &UDP), Vec::from([0; 6])].concat();
    let packet = read(&bytes);
    let four = ip(&packet);
    assert_eq!((four.source, four.destination), (0x0a00_0001, 0x0a00_0002));
    assert_eq!((four.protocol, four.ttl, four.tos, four.id), (17, 64, 0x10, 0x1234));
    assert_eq!((four.payload, four.payload_length), (&UDP[..], 12), "without padding");
    assert_eq!(four.fragment, None);
    assert_eq!(ports(four.payload), Some((5353, 53)));
    assert_eq!(packet.ether.expect("a header").source, [2, 0, 0, 0, 0, 1]);
    assert_eq!(packet.encapsulation.0, Encapsulation::ETHERNET);

    let bytes = [ether(ethertype::IPV6), ipv6(17, &UDP)].concat();
    let packet = read(&bytes);
    let six = ip(&packet);
    assert_eq!((six.source, six.destination, six.is_v6), (1, 2, true));
    assert_eq!((six.protocol, six.ttl, six.tos, six.flow_label), (17, 63, 0xab, 0x1_2345));
    assert_eq!((six.payload, six.payload_length), (&UDP[..], 12));
}

#[test]
fn tags_labels_and_sessions_lead_to_the_packet_behind() {
    let inner = ipv4(17, &UDP);
    let tags = |kind: u16, between: &[u8]| [&ether(kind)[..], between, &inner[..]].concat();
    for (bytes, bits) in [
        (tags(ethertype::VLAN, &[0, 7, 8, 0]), Encapsulation::VLAN),
        (tags(ethertype::QINQ, &[0, 9, 0x81, 0, 0, 7, 8, 0]), Encapsulation::VLAN),
        (tags(ethertype::MPLS, &[0, 1, 0x00, 64, 0, 2, 1, 64]), Encapsulation::MPLS),
        (tags(ethertype::PPPOE_SESSION, &[0x11, 0, 0, 1, 0, 46, 0, 0x21]), Encapsulation::PPP),
        (tags(38, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]), Encapsulation::LLC),
    ] {
        let packet = read(&bytes);
        assert_eq!(ip(&packet).payload, UDP);
        assert_eq!(packet.encapsulation.0, bits | Encapsulation::ETHERNET);
        assert_eq!(packet.vlan, (bits == Encapsulation::VLAN).then_some(7));
        let mpls = Mpls { word: 0x0001_0040, depth: 2 };
        assert_eq!(packet.mpls, (bits == Encapsulation::MPLS).then_some(mpls));
    }
}

#[test]
fn tunnels_are_opened_as_asked() {
    let inner = ipv6(17, &UDP);
    let gre = [&[0x20, 0, 0x86, 0xdd, 0, 0, 0, 9][..], &inner].concat();
    let vxlan_inner = [ether(ethertype::IPV6), inner.clone()].concat();
    let vxlan = [&[0x80, 0, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 5, 0][..], &vxlan_inner];
    let geneve = [&[0x80, 0, 0x17, 0xc1, 0, 0, 0, 0, 1, 0, 0x86, 0xdd, 0, 0, 5, 0][..]];
    let geneve = [geneve[0], &[1, 2, 3, 4][..], &inner];
    let teredo = [&[0xd, 0xd8, 0xd, 0xd8, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6][..], &inner];
    let gtp = [&[8, 0x68, 8, 0x68, 0, 0, 0, 0, 0x30, 0xff, 0, 9, 0, 0, 0, 1][..], &inner];
    // With an extension, as between a base station and the core of 5G, and with two.
    let header = [8, 0x68, 8, 0x68, 0, 0, 0, 0, 0x34, 0xff, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x85];
    let extended = [&header[..], &[1, 0x10, 9, 0], &inner];
    let twice = [&header[..], &[1, 0x10, 9, 0xc0], &[2, 0, 0, 0, 0, 0, 0, 0], &inner];
    // An end of L2TP may have a port of its own.
    let l2tp = [&[6, 0xa5, 0x80, 1, 0, 0, 0, 0, 0, 2, 0, 7, 0, 8, 0xff, 3, 0, 0x57][..], &inner];
    for (protocol, payload, declared) in [
        (47, gre, true),
        (41, inner.clone(), true),
        (17, vxlan.concat(), false),
        (17, geneve.concat(), false),
        (17, teredo.concat(), false),
        (17, gtp.concat(), false),
        (17, extended.concat(), false),
        (17, twice.concat(), false),
        (17, l2tp.concat(), false),
    ] {
        let bytes = [ether(ethertype::IPV4), ipv4(protocol, &payload)].concat();
        let length = bytes.len() as u32;
        assert_eq!(ip(&decode(1, &bytes, length, Tunnels::Discover)).payload, UDP);
        let packet = decode(1, &bytes, length, Tunnels::Declared);
        assert_eq!(ip(&packet).payload == UDP, declared, "{protocol}");
    }
}

/// A tunnel's length that is 0 leads nowhere, nor does a chain without an end.
#[test]
fn extensions_of_gtp_have_a_bound() {
    let header = [8, 0x68, 8, 0x68, 0, 0, 0, 0, 0x34, 0xff, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0x85];
    for chain in [[0; 4], [1, 0x10, 9, 0x85]].map(|one| one.repeat(64)) {
        let payload = [&header[..], &chain].concat();
        let bytes = [ether(ethertype::IPV4), ipv4(17, &payload)].concat();
        let packet = decode(1, &bytes, bytes.len() as u32, Tunnels::Discover);
        assert_eq!(ip(&packet).payload, payload);
    }
}

/// The bits of `include/argus_encapsulations.h` of argus 5.0.3, and the number of the overlay.
#[test]
fn tunnels_have_their_names_and_numbers() {
    let six = ipv6(17, &UDP);
    let frame = [ether(ethertype::IPV6), six.clone()].concat();
    let udp = |port: u16, header: &[u8], inner: &[u8]| {
        let [high, low] = port.to_be_bytes();
        (17, [&[high, low, high, low, 0, 0, 0, 0], header, inner].concat())
    };
    let gre = |header: &[u8], inner: &[u8]| (47, [header, inner].concat());
    let eth = 0x2;
    for ((protocol, payload), bits, vni) in [
        (udp(4789, &[8, 0, 0, 0, 0x12, 0x34, 0x56, 0], &frame), eth | 0x400_0000, Some(0x12_3456)),
        (udp(8472, &[8, 0, 0, 0, 0, 0, 5, 0], &frame), eth | 0x400_0000, Some(5)),
        // With a word of options.
        (
            udp(6081, &[1, 0, 0x65, 0x58, 0xff, 0xff, 0xff, 0, 1, 2, 3, 4], &frame),
            eth | 0x1000_0000,
            Some(0xff_ffff),
        ),
        (udp(1701, &[0, 2, 0, 7, 0, 8, 0xff, 3, 0, 0x57], &six), eth | 0x800_0000 | 0x10, None),
        (udp(2152, &[0x30, 0xff, 0, 9, 0, 0, 0, 1], &six), eth | Encapsulation::GTP_USER, None),
        (gre(&[0, 0, 0x86, 0xdd], &six), eth | 0x40, None),
        // NVGRE: a segment of three bytes, and a flow of one.
        (gre(&[0x20, 0, 0x65, 0x58, 0, 0, 9, 0xee], &frame), eth | 0x40, Some(9)),
        // Ethernet in GRE without a key.
        (gre(&[0, 0, 0x65, 0x58], &frame), eth | 0x40, None),
        // A key that is no segment.
        (gre(&[0x20, 0, 0x86, 0xdd, 0, 0, 9, 0], &six), eth | 0x40, None),
        // ERSPAN type II: version 1, VLAN 100, session 0x155.
        (
            gre(&[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 100, 1, 0x55, 0, 0, 0, 0], &frame),
            eth | 0x40 | Encapsulation::ERSPAN,
            Some(0x155),
        ),
        ((41, six.clone()), eth | 0x100, None),
    ] {
        let bytes = [ether(ethertype::IPV4), ipv4(protocol, &payload)].concat();
        let packet = decode(1, &bytes, bytes.len() as u32, Tunnels::Discover);
        assert_eq!(ip(&packet).payload, UDP);
        assert_eq!((packet.encapsulation.0, packet.vni), (bits, vni), "{payload:x?}");
    }
}

#[test]
fn the_number_of_the_innermost_overlay_counts() {
    let vxlan = |vni: u8, inner: &[u8]| {
        let udp = [0x12, 0xb5, 0x12, 0xb5, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, vni, 0];
        [ether(ethertype::IPV4), ipv4(17, &[&udp[..], inner].concat())].concat()
    };
    let read = |bytes: &[u8]| {
        let packet = decode(1, bytes, bytes.len() as u32, Tunnels::Discover);
        (packet.vni, ip(&packet).payload.len())
    };
    let inner = [ether(ethertype::IPV6), ipv6(17, &UDP)].concat();
    assert_eq!(read(&vxlan(1, &vxlan(2, &inner))), (Some(2), UDP.len()));
    // One that is cut off has a flow of its own, which is outside of it.
    let cut = vxlan(1, &vxlan(2, &[]));
    assert_eq!(read(&cut).0, Some(1));
    assert_eq!(read(&vxlan(1, &[])).0, None);
}

#[test]
fn what_is_no_tunnel_stays_what_it_is() {
    // A port of VXLAN without its flag; GRE with an unknown type.
    let vxlan = [0x80, 0, 0x12, 0xb5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0];
    let bytes = [ether(ethertype::IPV4), ipv4(17, &vxlan)].concat();
    let packet = decode(1, &bytes, bytes.len() as u32, Tunnels::Discover);
    assert_eq!((ip(&packet).protocol, ip(&packet).payload), (17, &vxlan[..]));
    assert_eq!(packet.encapsulation.0, Encapsulation::ETHERNET);
}

#[test]
fn extension_headers_lead_to_the_transport() {
    let hop_by_hop = [0x2c, 0, 5, 2, 0, 0, 1, 0];
    let first = [17, 0, 0, 1, 0, 0, 0, 9];
    let bytes = [&ether(ethertype::IPV6)[..], &ipv6(0, &[&hop_by_hop[..], &first, &UDP].concat())];
    let bytes = bytes.concat();
    let packet = read(&bytes);
    let fragment = Fragment { offset: 0, more: true, id: 9 };
    assert_eq!((ip(&packet).protocol, ip(&packet).fragment), (17, Some(fragment)));
    assert_eq!((ip(&packet).payload, ip(&packet).payload_length), (&UDP[..], 12));

    let later = [17, 0, 1, 0x80, 0, 0, 0, 9];
    let bytes = [ether(ethertype::IPV6), ipv6(44, &[&later[..], &UDP].concat())].concat();
    assert_eq!(ip(&read(&bytes)).fragment, Some(Fragment { offset: 384, more: false, id: 9 }));
    assert!(!ip(&read(&bytes)).is_first_fragment());

    let ah = [17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    let bytes = [ether(ethertype::IPV4), ipv4(51, &[&ah[..], &UDP].concat())].concat();
    let packet = read(&bytes);
    assert_eq!((ip(&packet).protocol, ip(&packet).payload), (17, &UDP[..]));
    assert_eq!(packet.encapsulation.0, Encapsulation::ETHERNET | Encapsulation::AH);
}

#[test]
fn options_of_ip_and_tcp_are_named() {
    let mut bytes = ipv4(6, &[]);
    bytes[0] = 0x47;
    bytes[3] = 28 + 32;
    bytes.extend([1, 7, 3, 4, 148, 4, 0, 0]);
    let tcp = [0, 80, 0x9c, 0x40, 0, 0, 3, 0xe8, 0, 0, 0, 1, 0x80, 0x12, 0xfa, 0xf0, 0, 0, 0, 0];
    bytes.extend(tcp);
    bytes.extend([2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 0, 0]);
    let bytes = [ether(ethertype::IPV4), bytes].concat();
    let packet = read(&bytes);
    let ip = ip(&packet);
    assert_eq!(ip.options, 0x41);
    let tcp = Tcp::decode(ip.payload, ip.payload_length).expect("a header");
    assert_eq!((tcp.sequence, tcp.acknowledgement, tcp.window), (1000, 1, 64_240));
    assert_eq!(tcp.flags, flag::SYN | flag::ACK);
    let bits = option::SEGMENT_SIZE | option::WINDOW_SCALE | option::SACK_PERMITTED;
    assert_eq!((tcp.options, tcp.window_scale, tcp.data_length), (bits, Some(7), 0));
}

#[test]
fn an_error_of_icmp_quotes_its_packet() {
    let quoted = ipv4(17, &UDP);
    let bytes = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    let icmp = Icmp::decode(&bytes).expect("a header");
    let ip = icmp.quoted().expect("a quoted packet");
    assert_eq!((icmp.kind, icmp.code, ip.protocol), (3, 3, 17));
    assert_eq!(ports(ip.payload), Some((5353, 53)));
    assert_eq!(Icmp::decode(&bytes[..8]).expect("a header").quoted(), None);
}

#[test]
fn what_was_cut_off_leaves_the_header_before() {
    let bytes = [ether(ethertype::IPV4), ipv4(17, &UDP)].concat();
    for length in 0..bytes.len() {
        let packet = decode(1, &bytes[..length], bytes.len() as u32, Tunnels::Discover);
        match length {
            0..14 => assert_eq!(packet.network, Network::Unknown),
            14..34 => assert_eq!(packet.network, Network::Other(ethertype::IPV4)),
            _ => assert_eq!(ip(&packet).payload_length, 12),
        }
    }
}

#[test]
fn other_link_layers_lead_to_the_packet() {
    let inner = ipv4(17, &UDP);
    let cooked = [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0][..], &inner].concat();
    let cooked_2 = [&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &inner];
    let wireless = [&[0x88, 1][..], &[0; 24], &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], &inner].concat();
    let radio = [&[0, 0, 9, 0, 0, 0, 0, 0, 0][..], &wireless].concat();
    for (link, bytes) in [
        (0, [&[2, 0, 0, 0][..], &inner].concat()),
        (108, [&[0, 0, 0, 2][..], &inner].concat()),
        (9, [&[0xff, 3, 0, 0x21][..], &inner].concat()),
        (101, inner.clone()),
        (104, [&[0x0f, 0, 8, 0][..], &inner].concat()),
        (105, wireless),
        (113, cooked),
        (127, radio),
        (276, cooked_2.concat()),
    ] {
        let packet = decode(link, &bytes, bytes.len() as u32, Tunnels::Declared);
        assert_eq!(ip(&packet).payload, UDP, "link type {link}");
    }
}

/// Each was printed right by tcpdump 4.99, but for the headers that it does not know.
#[test]
fn rare_link_layers_are_opened() {
    let inner = ipv4(17, &UDP);
    let behind = |header: &[u8]| [header, &inner].concat();
    let addresses = [&[2, 0, 0, 0, 0, 1][..], &[2, 0, 0, 0, 0, 2]].concat();
    let in_ethernet = [&addresses[..], &[8, 0], &inner].concat();
    let routed = [&[2, 0, 0, 0, 0, 1][..], &[0x82, 0, 0, 0, 0, 2]].concat();
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    let mut tap = Vec::from([0; 108]);
    tap[..12].copy_from_slice(&[108, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    let log = |family: u8| {
        // A prefix of five bytes and its padding, then the packet.
        let length = (inner.len() as u16 + 4).to_le_bytes();
        let head = [family, 0, 0, 0, 9, 0, 10, 0, b'a', b'b', b'c', b'd', 0, 0, 0, 0];
        [&head[..], &length, &[9, 0], &inner].concat()
    };
    let pflog = [&[61, 2][..], &[0; 62]].concat();
    for (link, bytes) in [
        (6, behind(&[&[0x10, 0x40][..], &addresses, &snap].concat())),
        (6, behind(&[&[0x10, 0x40][..], &routed, &[6, 0x30, 0, 0x11, 0, 0x20], &snap].concat())),
        (8, behind(&[0; 16])),
        (9, behind(&[0x0f, 0, 8, 0])),
        (11, behind(&snap)),
        (122, behind(&[&[0; 16][..], &snap].concat())),
        (123, behind(&[&[2, 0, 0, 0x20][..], &snap].concat())),
        (51, behind(&[0x11, 0, 0, 7, 0, 30, 0, 0x21])),
        // RFC 2427, with padding, by SNAP, and as Cisco has it.
        (107, behind(&[0x18, 0x41, 3, 0xcc])),
        (107, behind(&[0x18, 0x41, 3, 0, 0xcc])),
        (107, behind(&[0x18, 0x40, 0, 0x41, 3, 0, 0x80, 0, 0, 0, 8, 0])),
        (107, behind(&[0x18, 0x41, 8, 0])),
        (107, [&[0x18, 0x41, 3, 0, 0x80, 0, 0x80, 0xc2, 0, 7][..], &in_ethernet].concat()),
        (109, behind(&[2, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1])),
        (117, behind(&pflog)),
        (138, behind(&[&[0; 16][..], &[8, 0]].concat())),
        (166, behind(&[1, 3, 0, 0x21])),
        (204, behind(&[0, 0xff, 3, 0, 0x21])),
        (205, behind(&[0, 0x0f, 0, 8, 0])),
        (206, behind(&[0, 0x18, 0x41, 3, 0xcc])),
        (219, behind(&[0, 1, 1, 0x40])),
        (239, log(2)),
        (242, behind(&[&[0; 40][..], &[8, 0, 0, 0]].concat())),
        (240, [&[0; 4][..], &in_ethernet].concat()),
        (241, [&[0; 12][..], &in_ethernet].concat()),
        (258, [&tap[..], &in_ethernet].concat()),
        (274, [&[0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55, 0xd5][..], &in_ethernet].concat()),
        (281, [&addresses[..], &[0, 0, 0, 1, 8, 0], &inner].concat()),
        (282, [&[0, 0, 0, 1][..], &in_ethernet].concat()),
        (284, [&addresses[..], &[0xc0, 8, 0, 0, 8, 0], &inner].concat()),
        (285, [&addresses[..], &[0xda, 0xda, 0, 0, 0xc0, 8, 0, 0, 8, 0], &inner].concat()),
    ] {
        let packet = decode(link, &bytes, bytes.len() as u32, Tunnels::Declared);
        assert_eq!(ip(&packet).payload, UDP, "link type {link}");
        assert!(reads_link(link), "link type {link}");
        // A capture may cut it anywhere.
        for length in 0..bytes.len() {
            let _ = decode(link, &bytes[..length], bytes.len() as u32, Tunnels::Declared);
        }
    }
    assert!(!reads_link(147) && !reads_link(u16::MAX));
}

/// Such a packet is no packet that was cut.
#[test]
fn what_controls_a_link_has_no_network() {
    // Configure-Request of LCP.
    let lcp = [0xc0, 0x21, 1, 1, 0, 4];
    let behind = |header: &[u8]| [header, &lcp].concat();
    for (link, bytes) in [
        (9, behind(&[0xff, 3])),
        (9, behind(&[])),
        (50, behind(&[0xff, 3])),
        (51, behind(&[0x11, 0, 0, 7, 0, 6])),
        (166, behind(&[0, 0])),
        (204, behind(&[1, 0xff, 3])),
        // AppleTalk in the loopback of BSD, a question of frame relay to its switch.
        (0, Vec::from([16, 0, 0, 0, 1, 2, 3, 4])),
        (107, Vec::from([0, 1, 3, 8, 0, 0x75])),
        (239, Vec::from([7, 0, 0, 0, 5, 0, 9, 0, 1, 0, 0, 0])),
        (258, [&[12, 0, 0, 0, 0, 0, 0, 0][..], &[0; 4]].concat()),
    ] {
        let packet = decode(link, &bytes, bytes.len() as u32, Tunnels::Declared);
        assert_eq!((packet.network, packet.ether), (Network::Control, None), "link type {link}");
    }
    // In Ethernet, it has addresses, and its type.
    let mut session = ether(ethertype::PPPOE_SESSION);
    session.extend(behind(&[0x11, 0, 0, 7, 0, 6]));
    assert_eq!(read(&session).network, Network::Other(ethertype::PPPOE_SESSION));
}

/// The families of IPv6 differ by system; the byte order is that of the capturing machine.
#[test]
fn the_loopback_of_each_system_is_read() {
    let inner = ipv6(17, &UDP);
    for family in [10_u32, 23, 24, 28, 30] {
        for word in [family.to_le_bytes(), family.to_be_bytes()] {
            for link in [0, 108] {
                let bytes = [&word[..], &inner].concat();
                let packet = decode(link, &bytes, bytes.len() as u32, Tunnels::Declared);
                assert_eq!(ip(&packet).payload, UDP, "link type {link}, {word:?}");
            }
        }
    }
}

/// What only looks like a tunnel is a datagram.
#[test]
fn a_port_of_a_tunnel_may_carry_something_else() {
    let datagram = |payload: &[u8]| {
        let length = (payload.len() as u16 + 8).to_be_bytes();
        let header = [0x9c, 0x40, 0x12, 0xb5, length[0], length[1], 0, 0];
        [&ether(ethertype::IPV4)[..], &ipv4(17, &[&header[..], payload].concat())].concat()
    };
    let vxlan = |inner: &[u8]| [&[8, 0, 0, 0, 0, 0, 7, 0][..], inner].concat();
    let inner = [&ether(ethertype::IPV4)[..], &ipv4(6, &UDP)].concat();
    for (bytes, protocol) in [
        (datagram(&vxlan(&inner)), 6),
        // No flag, no frame, a type that is not decoded.
        (datagram(&[0; 60]), 17),
        (datagram(&vxlan(&[])), 17),
        (datagram(&vxlan(&[&ether(0x1234)[..], &[0; 40]].concat())), 17),
    ] {
        let packet = decode(link_type::ETHERNET, &bytes, bytes.len() as u32, Tunnels::Discover);
        assert_eq!(ip(&packet).protocol, protocol);
        let packet = decode(link_type::ETHERNET, &bytes, bytes.len() as u32, Tunnels::Declared);
        assert_eq!(ip(&packet).protocol, 17);
    }
}

proptest! {
    #[test]
    fn no_bytes_cause_a_panic(
        link in 0_u16..300,
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        length in any::<u32>(),
    ) {
        let packet = decode(link, &bytes, length, Tunnels::Discover);
        if let Network::Ip(ip) = packet.network {
            let _ = Tcp::decode(ip.payload, ip.payload_length);
            let _ = Icmp::decode(ip.payload).map(|icmp| icmp.quoted());
        }
    }
}

proptest! {
    /// Most packets go a shorter way, which must lead to the same place.
    #[test]
    fn common_packets_are_decoded_as_any(
        protocol in 0..=255_u8,
        kind in prop::sample::select(Vec::from([ethertype::IPV4, ethertype::IPV6, 0x0806])),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        changes in proptest::collection::vec((0..54_usize, any::<u8>()), 0..4),
        length in 0..120_usize,
        discovers in any::<bool>(),
    ) {
        // Half of them are protocols that are decoded.
        let known = [6, 17, 1, 58][usize::from(protocol) % 4];
        let protocol = if protocol < 128 { known } else { protocol };
        let inner = match kind {
            ethertype::IPV6 => ipv6(protocol, &payload),
            _ => ipv4(protocol, &payload),
        };
        let mut bytes = [ether(kind), inner].concat();
        for (at, byte) in changes {
            bytes[at % 34] = byte;
        }
        bytes.truncate(length);
        let rest = FrameRemainder { bytes: &bytes, length: 200 };
        let tunnels = if discovers { Tunnels::Discover } else { Tunnels::Declared };
        if let Some(packet) = plain(rest, tunnels) {
            prop_assert_eq!(packet, header_by_header(link_type::ETHERNET, rest, tunnels));
        }
    }
}

#[test]
fn common_packets_go_the_short_way() {
    for (kind, packet) in [(ethertype::IPV4, ipv4(17, &UDP)), (ethertype::IPV6, ipv6(6, &UDP))] {
        let bytes = [ether(kind), packet].concat();
        let rest = FrameRemainder { bytes: &bytes, length: bytes.len() as u32 };
        assert!(plain(rest, Tunnels::Declared).is_some());
        assert!(plain(rest, Tunnels::Discover).is_some());
    }
}

#[test]
fn the_options_of_most_segments_are_read() {
    let mut segment = [0_u8; 32];
    segment[12] = 0x80;
    segment[20..24].copy_from_slice(&[1, 1, 8, 10]);
    let tcp = Tcp::decode(&segment, 32).expect("a header");
    assert_eq!((tcp.options, tcp.data_length), (option::TIMESTAMP, 0));
    // A kind of option behind padding that only looks like it.
    segment[23] = 9;
    assert_eq!(Tcp::decode(&segment, 32).expect("a header").options, option::TIMESTAMP);
}
