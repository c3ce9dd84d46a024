//! Numbers of link types: LINKTYPE_ of <https://www.tcpdump.org/linktypes.html>.

pub const ETHERNET: u16 = 1;
/// IPv4 or IPv6.
pub const RAW: u16 = 101;
/// Cisco's HDLC.
pub const CISCO_HDLC: u16 = 104;
/// IEEE 802.11.
pub const WIRELESS: u16 = 105;
/// A header of the kernel in place of the link layer's (LINKTYPE_LINUX_SLL).
pub const COOKED: u16 = 113;
/// IEEE 802.11 behind a radiotap header.
pub const RADIO_TAP: u16 = 127;
