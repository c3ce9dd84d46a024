//! Which link type the packets of an interface have.
//!
//! The numbers of hardware are ARPHRD_ in `include/uapi/linux/if_arp.h`. libpcap has the same map.
//! What our decoders cannot read is captured *cooked*: the kernel removes the link layer and names
//! the protocol, and a header with both takes its place.

use panoptes_decoders::packet::link_type::{
    CISCO_HDLC, COOKED, ETHERNET, RADIO_TAP, RAW, WIRELESS,
};

pub(crate) const ARPHRD_LOOPBACK: u16 = 772;

/// Length of a cooked header: packet type, hardware, length of the address, address, protocol.
/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL.html>
pub(crate) const COOKED_BYTES: usize = 16;

/// The link type of an interface with this hardware.
pub(crate) fn of_hardware(hardware: u16) -> u16 {
    match hardware {
        // Ethernet, Metricom's radios.
        1 | 23 | ARPHRD_LOOPBACK => ETHERNET,
        // SLIP of four kinds, ADAPT, raw HDLC, IP in IP, SIT, no header (tun).
        256..=258 | 260 | 264 | 518 | 768 | 776 | 0xfffe => RAW,
        513 => CISCO_HDLC,
        801 => WIRELESS,
        803 => RADIO_TAP,
        _ => COOKED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_has_the_link_type_of_libpcap() {
        // PPP (512), token ring (800) and InfiniBand (32) are cooked.
        let expected = [(1, 1), (772, 1), (0xfffe, 101), (513, 104), (801, 105), (803, 127)];
        for (hardware, link) in expected.into_iter().chain([(512, 113), (800, 113), (32, 113)]) {
            assert_eq!(of_hardware(hardware), link, "{hardware}");
        }
    }
}
