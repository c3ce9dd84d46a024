//! Names of ports, protocols and encapsulations.

use panoptes_records::flow::header;

use crate::flow::protocol::{TCP, UDP};

/// Well-known ports (IANA's registry of service names): the name, the port, and whether it is one
/// of TCP and of UDP.
const PORTS: &[(&str, u16, bool, bool)] = &[
    ("amqp", 5672, true, false),
    ("auth", 113, true, false),
    ("bgp", 179, true, false),
    ("bootpc", 68, false, true),
    ("bootps", 67, false, true),
    ("chargen", 19, true, true),
    ("daytime", 13, true, true),
    ("discard", 9, true, true),
    ("domain", 53, true, true),
    ("domain-s", 853, true, true),
    ("echo", 7, true, true),
    ("finger", 79, true, false),
    ("ftp", 21, true, false),
    ("ftp-data", 20, true, false),
    ("ftps", 990, true, false),
    ("git", 9418, true, false),
    ("http", 80, true, false),
    ("https", 443, true, true),
    ("imap", 143, true, false),
    ("imap2", 143, true, false),
    ("imaps", 993, true, false),
    ("ipsec-nat-t", 4500, false, true),
    ("isakmp", 500, false, true),
    ("kerberos", 88, true, true),
    ("ldap", 389, true, true),
    ("ldaps", 636, true, true),
    ("login", 513, true, false),
    ("mdns", 5353, false, true),
    ("microsoft-ds", 445, true, false),
    ("ms-sql-s", 1433, true, false),
    ("mysql", 3306, true, false),
    ("netbios-dgm", 138, false, true),
    ("netbios-ns", 137, false, true),
    ("netbios-ssn", 139, true, false),
    ("nfs", 2049, true, true),
    ("nntp", 119, true, false),
    ("ntp", 123, false, true),
    ("openvpn", 1194, true, true),
    ("pop3", 110, true, false),
    ("pop3s", 995, true, false),
    ("postgresql", 5432, true, false),
    ("radius", 1812, true, true),
    ("redis", 6379, true, false),
    ("rsync", 873, true, false),
    ("rtsp", 554, true, true),
    ("shell", 514, true, false),
    ("sip", 5060, true, true),
    ("sip-tls", 5061, true, true),
    ("smtp", 25, true, false),
    ("snmp", 161, true, true),
    ("snmp-trap", 162, true, true),
    ("socks", 1080, true, false),
    ("ssh", 22, true, false),
    ("submission", 587, true, false),
    ("submissions", 465, true, false),
    ("sunrpc", 111, true, true),
    ("syslog", 514, true, true),
    ("tacacs", 49, true, true),
    ("telnet", 23, true, false),
    ("tftp", 69, false, true),
    ("time", 37, true, true),
    ("who", 513, false, true),
    ("whois", 43, true, false),
    ("x11", 6000, true, false),
];

/// Protocols above IP (IANA's registry of protocol numbers).
const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("dccp", 33),
    ("egp", 8),
    ("eigrp", 88),
    ("encap", 98),
    ("esp", 50),
    ("etherip", 97),
    ("gre", 47),
    ("hip", 139),
    ("hopopt", 0),
    ("icmp", 1),
    ("icmp6", 58),
    ("igmp", 2),
    ("ip", 0),
    ("ipcomp", 108),
    ("ipencap", 4),
    ("ipip", 94),
    ("ipv6", 41),
    ("ipv6-frag", 44),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("ipv6-route", 43),
    ("isis", 124),
    ("l2tp", 115),
    ("mpls-in-ip", 137),
    ("ospf", 89),
    ("pim", 103),
    ("rsvp", 46),
    ("sctp", 132),
    ("tcp", TCP),
    ("udp", UDP),
    ("udplite", 136),
    ("vrrp", 112),
];

/// Ethernet types (IANA's registry of IEEE 802 numbers).
const ETHERNET_TYPES: &[(&str, u16)] = &[
    ("aarp", 0x80f3),
    ("arp", 0x0806),
    ("atalk", 0x809b),
    ("decnet", 0x6003),
    ("ip", 0x0800),
    ("ipv4", 0x0800),
    ("ipv6", 0x86dd),
    ("ip6", 0x86dd),
    ("lat", 0x6004),
    ("lldp", 0x88cc),
    ("loopback", 0x9000),
    ("mopdl", 0x6001),
    ("moprc", 0x6002),
    ("mpls", 0x8847),
    ("pppoed", 0x8863),
    ("pppoes", 0x8864),
    ("rarp", 0x8035),
    ("sca", 0x6007),
];

/// Encapsulations: bits of `FlowSide::encapsulation`, by the names of ra(1) 5, and of ra(1) 3.
const ENCAPSULATIONS: &[(&str, u32)] = &[
    ("mpls", 0x1),
    ("eth", 0x2),
    ("802q", 0x4),
    ("llc", 0x8),
    ("pppoe", 0x10),
    ("isl", 0x20),
    ("gre", 0x40),
    ("ah", 0x80),
    ("ipnip", 0x100),
    ("ipnip6", 0x200),
    ("hdlc", 0x400),
    ("chdlc", 0x800),
    ("atm", 0x1000),
    ("sll", 0x2000),
    ("fddi", 0x4000),
    ("slip", 0x8000),
    ("arc", 0x1_0000),
    ("wlan", 0x2_0000),
    ("prism", 0x4_0000),
    ("avs", 0x8_0000),
    ("lrh", 0x10_0000),
    ("grh", 0x20_0000),
    ("teredo", 0x40_0000),
    ("udt", 0x80_0000),
    ("ipsec", 0x100_0000),
    ("juniper", 0x200_0000),
    ("vxlan", header::VXLAN),
    ("l2tp", header::L2TP),
    ("geneve", header::GENEVE),
    ("erspan", header::ERSPAN),
    ("gtp", header::GTP_USER),
    ("enc", 0x100_0000),
];

/// Differentiated services (RFC 2474, RFC 2597, RFC 3246).
const CODE_POINTS: &[(&str, u8)] = &[
    ("cs0", 0),
    ("cs1", 8),
    ("cs2", 16),
    ("cs3", 24),
    ("cs4", 32),
    ("cs5", 40),
    ("cs6", 48),
    ("cs7", 56),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("ef", 46),
];

fn find<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
}

pub(super) fn protocol(name: &str) -> Option<u8> {
    find(PROTOCOLS, name)
}

pub(super) fn ethernet_type(name: &str) -> Option<u16> {
    find(ETHERNET_TYPES, name)
}

pub(super) fn encapsulation(name: &str) -> Option<u32> {
    find(ENCAPSULATIONS, name)
}

pub(super) fn code_point(name: &str) -> Option<u8> {
    find(CODE_POINTS, name)
}

/// A port, and whether it is one of TCP and of UDP.
pub(super) type Port = (u16, bool, bool);

/// A well-known port.
pub(super) fn port(name: &str) -> Option<Port> {
    let found = PORTS.iter().find(|(known, ..)| *known == name);
    found.map(|(_, port, tcp, udp)| (*port, *tcp, *udp))
}

/// A port in `/etc/services` (services(5)).
pub(super) fn port_of_system(name: &str) -> Option<Port> {
    port_in(&std::fs::read_to_string("/etc/services").ok()?, name)
}

fn port_in(text: &str, name: &str) -> Option<Port> {
    let mut found: Option<Port> = None;
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(first), Some(port)) = (words.next(), words.next()) else { continue };
        let Some((number, protocol)) = port.split_once('/') else { continue };
        let Ok(number) = number.parse() else { continue };
        if first != name && !words.any(|alias| alias == name) {
            continue;
        }
        let (port, tcp, udp) = found.unwrap_or((number, false, false));
        if port == number {
            found = Some((port, tcp || protocol == "tcp", udp || protocol == "udp"));
        }
    }
    found.filter(|(_, tcp, udp)| *tcp || *udp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_from_services() {
        let text = "# services(5)\ndomain 53/tcp nameserver\ndomain 53/udp\nx 9/ddp # y\nz 8/udp\n";
        assert_eq!(port_in(text, "domain"), Some((53, true, true)));
        assert_eq!(port_in(text, "nameserver"), Some((53, true, false)));
        assert_eq!(port_in(text, "z"), Some((8, false, true)));
        assert_eq!(port_in(text, "x"), None);
        assert_eq!(port_in(text, "y"), None);
    }

    #[test]
    fn well_known_ports_are_those_of_the_system() {
        let services = std::fs::read_to_string("/etc/services").unwrap_or_default();
        for (name, ..) in PORTS {
            if let Some(found) = port_in(&services, name) {
                assert_eq!(port(name), Some(found), "{name}");
            }
        }
    }
}
