//! Packets whose link layer could not be read: they are in no record.

use std::fmt;

use panoptes_decoders::packet;

/// The most link types that are counted apart.
const TYPES_MAX: usize = 8;

/// Names of link types that are not read, by their numbers (tcpdump.org, "Link-Layer Header
/// Types").
const NAMES: [(u16, &str); 21] = [
    (6, "IEEE802_5"),
    (7, "ARCNET_BSD"),
    (11, "ATM_RFC1483"),
    (123, "SUNATM"),
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
    /// By link type.
    counts: Vec<(u16, u64)>,
    /// Of further link types.
    others: u64,
    /// Packets that end within the header of their link layer.
    cut: u64,
}

impl UnreadLinks {
    /// Adds a packet.
    #[cold]
    pub(super) fn add(&mut self, link: u16) {
        if packet::reads_link(link) {
            self.cut += 1;
        } else if let Some((_, count)) = self.counts.iter_mut().find(|(known, _)| *known == link) {
            *count += 1;
        } else if self.counts.len() < TYPES_MAX {
            self.counts.push((link, 1));
        } else {
            self.others += 1;
        }
    }

    /// Number of packets whose link type is not read.
    pub(super) fn of_unknown_types(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum::<u64>() + self.others
    }

    /// Number of all these packets.
    pub(super) fn total(&self) -> u64 {
        self.of_unknown_types() + self.cut
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
        by_type.chain(others).chain(cut).collect::<Vec<_>>().into_iter()
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
    use super::*;

    #[test]
    fn packets_are_counted_by_their_link_type() {
        let mut unread = UnreadLinks::default();
        for link in [147, 189, 147, 999, 1] {
            unread.add(link);
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

    #[test]
    fn many_link_types_are_counted_together() {
        let mut unread = UnreadLinks::default();
        (20_000..20_020).for_each(|link| unread.add(link));
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
