//! Packets whose link layer could not be read, or has no sender: they are in no record.

use std::fmt;

use panoptes_decoders::packet::{self, Network, Packet};

/// The most link types that are counted apart.
const TYPES_MAX: usize = 8;

/// Names of link types that are not read, by their numbers (tcpdump.org, "Link-Layer Header
/// Types").
const NAMES: [(u16, &str); 18] = [
    (7, "ARCNET_BSD"),
    (129, "ARCNET_LINUX"),
    (140, "MTP2"),
    (141, "MTP3"),
    (143, "DOCSIS"),
    (177, "LINUX_LAPD"),
    (187, "BLUETOOTH_HCI_H4"),
    (189, "USB_LINUX"),
    (195, "IEEE802_15_4_WITHFCS"),
    (197, "ERF"),
    (201, "BLUETOOTH_HCI_H4_WITH_PHDR"),
    (220, "USB_LINUX_MMAPPED"),
    (227, "CAN_SOCKETCAN"),
    (230, "IEEE802_15_4_NOFCS"),
    (249, "USBPCAP"),
    (251, "BLUETOOTH_LE_LL"),
    (252, "WIRESHARK_UPPER_PDU"),
    (253, "NETLINK"),
];
/// Numbers of link types that nobody has defined.
const USER: std::ops::RangeInclusive<u16> = 147..=162;

/// A link type, as messages name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LinkType(u16);

impl fmt::Display for LinkType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = self;
        write!(out, "link type {number}")?;
        let name = NAMES.iter().find(|(known, _)| known == number);
        match name {
            Some((_, name)) => write!(out, " ({name})"),
            None if USER.contains(number) => write!(out, " (USER{})", number - USER.start()),
            None => Ok(()),
        }
    }
}

/// Numbers of such packets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct UnreadLinks {
    /// Link types, and the number of packets of each.
    counts: Vec<(u16, u64)>,
    /// Packets of further link types.
    others: u64,
    /// Packets that end within the header of their link layer.
    cut: u64,
    /// Whole packets of a link layer, without a sender and without a packet of IP.
    control: u64,
}

impl UnreadLinks {
    /// Adds a packet if it is such a one.
    #[inline]
    pub(super) fn look_at(&mut self, packet: &Packet<'_>, link: u16) {
        if packet.ether.is_none() && matches!(packet.network, Network::Unknown | Network::Control) {
            self.add(packet.network == Network::Control, link);
        }
    }

    #[cold]
    fn add(&mut self, is_control: bool, link: u16) {
        if is_control {
            self.control += 1;
        } else if packet::reads_link(link) {
            self.cut += 1;
        } else if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == link) {
            *count += 1;
        } else if self.counts.len() < TYPES_MAX {
            self.counts.push((link, 1));
        } else {
            self.others += 1;
        }
    }

    /// Adds what others have counted.
    pub(super) fn add_all(&mut self, others: &Self) {
        for &(link, count) in &others.counts {
            if let Some((_, sum)) = self.counts.iter_mut().find(|(known, _)| *known == link) {
                *sum += count;
            } else if self.counts.len() < TYPES_MAX {
                self.counts.push((link, count));
            } else {
                self.others += count;
            }
        }
        self.others += others.others;
        self.cut += others.cut;
        self.control += others.control;
    }

    /// Number of packets whose link type is not read.
    pub(super) fn of_unknown_types(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.others
    }

    /// Number of packets with something that could not be read.
    pub(super) fn unread(&self) -> u64 {
        self.of_unknown_types() + self.cut
    }

    /// Number of all these packets.
    pub(super) fn total(&self) -> u64 {
        self.unread() + self.control
    }

    /// One line for each cause.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let number = |count: u64| match count {
            1 => "1 packet has".to_owned(),
            _ => format!("{count} packets have"),
        };
        let by_type = self.counts.iter().map(|(link, count)| {
            format!("{} {}, which is not read", number(*count), LinkType(*link))
        });
        let others = (self.others > 0)
            .then(|| format!("{} further link types, which are not read", number(self.others)));
        let cut = (self.cut > 0)
            .then(|| format!("{} less than the header of the link layer", number(self.cut)));
        let control = match self.control {
            0 => None,
            1 => Some("1 packet only controls its link, and names no sender".to_owned()),
            count => Some(format!("{count} packets only control their link, and name no sender")),
        };
        by_type.chain(others).chain(cut).chain(control).collect::<Vec<_>>().into_iter()
    }

    /// The link types, as one text.
    pub(super) fn names(&self) -> String {
        let names: Vec<_> =
            self.counts.iter().map(|(link, _)| LinkType(*link).to_string()).collect();
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use panoptes_decoders::packet::Tunnels;

    use super::*;

    #[test]
    fn packets_are_counted_by_their_link_type() {
        let mut unread = UnreadLinks::default();
        for link in [147, 189, 147, 999, 1] {
            unread.add(false, link);
        }
        assert_eq!((unread.of_unknown_types(), unread.total()), (4, 5));
        let lines: Vec<_> = unread.lines().collect();
        assert_eq!(
            lines,
            [
                "2 packets have link type 147 (USER0), which is not read",
                "1 packet has link type 189 (USB_LINUX), which is not read",
                "1 packet has link type 999, which is not read",
                "1 packet has less than the header of the link layer",
            ]
        );
        assert_eq!(
            unread.names(),
            "link type 147 (USER0), link type 189 (USB_LINUX), link type 999"
        );
    }

    /// Nothing of them is missing in records.
    #[test]
    fn packets_that_control_their_link_are_counted_apart() {
        let mut unread = UnreadLinks::default();
        let acknowledgement = [0xd4, 0, 0, 0, 2, 0, 0, 0, 0, 1];
        let lines = [
            "1 packet only controls its link, and names no sender",
            "2 packets only control their link, and name no sender",
        ];
        for line in lines {
            let length = acknowledgement.len() as u32;
            let packet = packet::decode(105, &acknowledgement, length, Tunnels::Declared);
            unread.look_at(&packet, 105);
            assert_eq!(unread.lines().collect::<Vec<_>>(), [line]);
        }
        assert_eq!((unread.of_unknown_types(), unread.unread(), unread.total()), (0, 0, 2));
    }

    #[test]
    fn many_link_types_are_counted_together() {
        let mut unread = UnreadLinks::default();
        (20_000..20_020).for_each(|link| unread.add(false, link));
        assert_eq!((unread.of_unknown_types(), unread.lines().count()), (20, TYPES_MAX + 1));
        let last = unread.lines().last();
        assert_eq!(last.as_deref(), Some("12 packets have further link types, which are not read"));
    }

    /// A name for a type that is read would never be seen.
    #[test]
    fn names_are_of_types_that_are_not_read() {
        assert!(NAMES.iter().all(|(link, _)| !packet::reads_link(*link)));
    }
}
