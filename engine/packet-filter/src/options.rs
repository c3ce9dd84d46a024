//! [`FilterOptions`]: what a program depends on besides its expression.

use panoptes_decoders::packet::link_type::RAW;

/// What a program depends on besides its expression.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilterOptions {
    pub origin: PacketOrigin,
    /// The LINKTYPE number of tcpdump.org (Ethernet is 1), as captures have it.
    pub link: u16,
    /// Bytes of a packet that are captured: what the program returns for a packet that it keeps.
    /// 0 stands for all.
    pub snap_length: u32,
    /// The mask of the network at the interface, for `ip broadcast`. `tcpdump -r` and `argus -r`
    /// have 0: then the addresses 0.0.0.0 and 255.255.255.255 are broadcasts.
    pub netmask: u32,
    /// Whether libpcap shortens the program. `argus -O` turns this off.
    pub optimise: bool,
}

/// Where packets come from. It decides about `inbound`, and about the numbers of address families.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PacketOrigin {
    /// A capture. With [`link`](FilterOptions::link) 0, its packets begin with a number in the byte
    /// order of the machine that has made it, which is that of the capture.
    File {
        /// Whether that order is not the one of this machine.
        is_swapped: bool,
    },
    /// An interface of this machine. The program may load what only the kernel has, such as whether
    /// a packet is inbound; elsewhere such a program keeps no packet.
    Interface,
}

impl FilterOptions {
    /// As `tcpdump -r` has them.
    pub const fn new(link: u16) -> Self {
        Self {
            origin: PacketOrigin::File { is_swapped: false },
            link,
            snap_length: SNAP_LENGTH_MAX,
            netmask: 0,
            optimise: true,
        }
    }

    /// The number that libpcap has for a link type on Linux (`linktype_to_dlt` in its
    /// `pcap-common.c`). It differs only where each system had its own number before.
    pub(crate) const fn dlt(&self) -> u16 {
        match self.link {
            ATM_RFC1483 => 11,
            RAW => 12,
            SLIP_BSDOS => 13,
            PPP_BSDOS => 14,
            ATM_CLIP => 19,
            other => other,
        }
    }
}

/// The length of packets that tcpdump captures unless an option limits it (`MAXIMUM_SNAPLEN`).
pub const SNAP_LENGTH_MAX: u32 = 262_144;

const ATM_RFC1483: u16 = 100;
const SLIP_BSDOS: u16 = 102;
const PPP_BSDOS: u16 = 103;
const ATM_CLIP: u16 = 106;
