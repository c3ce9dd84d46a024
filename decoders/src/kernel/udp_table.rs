//! `struct udp_table` and `struct udp_hslot` (include/net/udp.h): the hash table of all UDP sockets
//! that have a port, by port.

crate::layout! {
    /// `struct udp_table` (include/net/udp.h).
    pub struct UdpTable("udp_table") {
        /// Array of the slots, by port.
        hash: ["hash"],
        /// Number of these slots minus one.
        mask: ["mask"],
    }
}

crate::layout! {
    /// `struct udp_hslot` (include/net/udp.h).
    pub struct UdpHslot("udp_hslot") {
        /// First socket of the slot. The list ends with null.
        first: ["head.first", "nulls_head.first"],
    }
}

/// Maximum number of slots that are read: the kernel's own maximum (`udp_table_init`,
/// net/ipv4/udp.c: 64 Ki).
pub const UDP_SLOTS_MAX: u32 = 1 << 16;
