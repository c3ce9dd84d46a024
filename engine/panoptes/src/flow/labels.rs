//! Labels of flows by their addresses and ports: `--label FILE`.
//!
//! A line is a network and a text, or a protocol, a port and a text. The longest network that
//! contains an address counts. The table is made once.

use std::net::IpAddr;
use std::path::Path;

use panoptes_decoders::packet::transport::protocol::{SCTP, TCP, UDP};
use panoptes_records::flow::{Address, FlowKey, FlowKeyKind, Labels};

use super::values::mistake;
use crate::exit::{Exit, Failure};

/// The most bytes of a text: those of both addresses and both ports fit into a record.
const TEXT_BYTES_MAX: usize = 48;
/// The most lines.
const LABELS_MAX: usize = 1 << 20;

/// Labels of networks and ports.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LabelTable {
    /// The networks of IPv4 and of IPv6, the longest ones first.
    v4: Vec<Networks>,
    v6: Vec<Networks>,
    /// Sorted.
    ports: Vec<((u8, u16), Texts)>,
}

/// The networks with one length.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Networks {
    /// How many bits of an address are not those of the network.
    shift: u32,
    /// The bits of the network and its label, sorted.
    all: Vec<(u128, Texts)>,
}

/// A label for the source and for the destination: `saddr=TEXT`, as ralabel(1) writes it.
type Texts = [Box<str>; 2];

impl LabelTable {
    /// Reads a file.
    pub(super) fn read(what: &str, path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::io(&error, Exit::Source, format_args!("cannot read {}", path.display()))
        })?;
        Self::parse(&text)
            .map_err(|(line, why)| mistake(format!("{what}: {}:{line}: {why}", path.display())))
    }

    /// The table, or a line and what is wrong there.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut table = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                table.add(line).map_err(|why| (index + 1, why))?;
            }
            if index >= LABELS_MAX {
                return Err((index + 1, format!("there are more than {LABELS_MAX} lines")));
            }
        }
        table.sort();
        Ok(table)
    }

    fn add(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("`{line}` is no network, port and text");
        let (what, text) = line.split_once([' ', '\t']).ok_or_else(wrong)?;
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX || text.chars().any(|one| one.is_control() || one == ':') {
            return Err(format!(
                "a text has at most {TEXT_BYTES_MAX} bytes, and no colon: `{text}`"
            ));
        }
        let (first, second) = what.split_once('/').unwrap_or((what, ""));
        if let Ok(address) = first.parse::<IpAddr>() {
            return self.add_network(address, second, text).ok_or_else(wrong);
        }
        let protocol = match first {
            "tcp" => TCP,
            "udp" => UDP,
            "sctp" => SCTP,
            _ => return Err(wrong()),
        };
        let port = second.parse().map_err(|_| wrong())?;
        let texts = ["sport", "dport"].map(|end| format!("{end}={text}").into());
        self.ports.push(((protocol, port), texts));
        Ok(())
    }

    fn add_network(&mut self, address: IpAddr, length: &str, text: &str) -> Option<()> {
        let (groups, bits, width) = match address {
            IpAddr::V4(address) => (&mut self.v4, u128::from(address.to_bits()), 32_u32),
            IpAddr::V6(address) => (&mut self.v6, address.to_bits(), 128),
        };
        let length = if length.is_empty() { width } else { length.parse().ok()? };
        let shift = width.checked_sub(length)?;
        let texts = ["saddr", "daddr"].map(|end| format!("{end}={text}").into());
        let entry = (bits.checked_shr(shift).unwrap_or(0), texts);
        match groups.iter_mut().find(|group| group.shift == shift) {
            Some(group) => group.all.push(entry),
            None => groups.push(Networks { shift, all: vec![entry] }),
        }
        Some(())
    }

    /// The last line of the same network counts.
    fn sort(&mut self) {
        for groups in [&mut self.v4, &mut self.v6] {
            groups.sort_by_key(|group| group.shift);
            for group in groups {
                group.all.reverse();
                group.all.sort_by_key(|(bits, _)| *bits);
                group.all.dedup_by_key(|(bits, _)| *bits);
            }
        }
        self.ports.reverse();
        self.ports.sort_by_key(|(port, _)| *port);
        self.ports.dedup_by_key(|(port, _)| *port);
    }

    /// Adds the labels of a flow.
    pub(super) fn label<'a>(&'a self, key: &FlowKey, labels: &mut Labels<'a>) {
        let has_ip = !matches!(
            key.kind,
            FlowKeyKind::Rarp | FlowKeyKind::Ethernet | FlowKeyKind::Llc | FlowKeyKind::Wireless
        );
        if !has_ip {
            return;
        }
        for (end, address) in [key.source, key.destination].into_iter().enumerate() {
            if let Some(texts) = self.network(key.is_v6(), address) {
                labels.add(&texts[end]);
            }
        }
        if !matches!(key.kind, FlowKeyKind::Ipv4 | FlowKeyKind::Ipv6) {
            return;
        }
        for (end, port) in [key.source_port, key.destination_port].into_iter().enumerate() {
            let found = self.ports.binary_search_by_key(&(key.protocol, port), |(key, _)| *key);
            if let Ok(at) = found {
                labels.add(&self.ports[at].1[end]);
            }
        }
    }

    fn network(&self, is_v6: bool, address: Address) -> Option<&Texts> {
        let (groups, bits) = if is_v6 {
            (&self.v6, u128::from_be_bytes(address.v6()))
        } else {
            (&self.v4, address.v4().into())
        };
        groups.iter().find_map(|group| {
            let wanted = bits.checked_shr(group.shift).unwrap_or(0);
            let at = group.all.binary_search_by_key(&wanted, |(bits, _)| *bits).ok()?;
            Some(&group.all[at].1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(table: &LabelTable, key: &FlowKey) -> String {
        let mut labels = Labels::default();
        table.label(key, &mut labels);
        labels.iter().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_longest_network_counts() {
        let table = LabelTable::parse(
            "# Networks\n10.0.0.0/8 home\n10.1.0.0/16 old\n10.1.0.0/16\toffice 2 # again\n\
             0.0.0.0/0 world\n10.1.0.7 printer\n2001:db8::/32 lab\n::/0 six\ntcp/443 https\n\
             udp/443 quic\n",
        );
        let table = table.expect("no mistake");
        let key = |source: u128, destination: u128, kind: FlowKeyKind| FlowKey {
            source: Address::new(source),
            destination: Address::new(destination),
            source_port: 40_000,
            destination_port: 443,
            protocol: TCP,
            kind,
            ..FlowKey::default()
        };
        for (source, destination, expected) in [
            (0x0a01_0007, 0x0a01_0008, "saddr=printer daddr=office 2 dport=https"),
            (0x0a02_0001, 0x0b00_0001, "saddr=home daddr=world dport=https"),
        ] {
            assert_eq!(labels(&table, &key(source, destination, FlowKeyKind::Ipv4)), expected);
        }
        let six = 0x2001_0db8_u128 << 96 | 1;
        assert_eq!(
            labels(&table, &key(six, 1, FlowKeyKind::Ipv6)),
            "saddr=lab daddr=six dport=https"
        );
        let udp = FlowKey { protocol: UDP, ..key(six, six, FlowKeyKind::Ipv6) };
        assert_eq!(labels(&table, &udp), "saddr=lab daddr=lab dport=quic");
        assert_eq!(labels(&table, &key(1, 1, FlowKeyKind::Ethernet)), "");
    }

    #[test]
    fn mistakes_have_their_line() {
        for (text, expected) in [
            ("\n10.0.0.0/33 x", (2, "`10.0.0.0/33 x` is no network, port and text")),
            ("10.0.0.0/8", (1, "`10.0.0.0/8` is no network, port and text")),
            ("icmp/8 x", (1, "`icmp/8 x` is no network, port and text")),
            ("tcp/70000 x", (1, "`tcp/70000 x` is no network, port and text")),
            ("tcp/7 a:b", (1, "a text has at most 48 bytes, and no colon: `a:b`")),
        ] {
            let expected = (expected.0, expected.1.to_owned());
            assert_eq!(LabelTable::parse(text), Err(expected), "{text}");
        }
    }
}
