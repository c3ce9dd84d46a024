//! `struct net_device` (include/linux/netdevice.h) and its addresses: `struct in_device`,
//! `in_ifaddr` (include/linux/inetdevice.h), `inet6_dev`, `inet6_ifaddr` (include/net/if_inet6.h).

crate::layout! {
    /// `struct net_device` (include/linux/netdevice.h).
    pub struct NetDevice("net_device") {
        /// Name, 16 bytes with its NUL.
        name: ["name"],
        /// Link in `net.dev_base_head`.
        dev_list: ["dev_list"],
        ifindex: ["ifindex"],
        /// Pointer to the hardware address.
        dev_addr: ["dev_addr"],
        /// Length of the hardware address in bytes.
        addr_len: ["addr_len"],
        /// `struct in_device *`; null without IPv4.
        ip_ptr: ["ip_ptr"],
        /// `struct inet6_dev *`; null without IPv6.
        ip6_ptr: ["ip6_ptr"],
    }
}

crate::layout! {
    /// The field that is read of a route's device.
    pub struct NetDeviceIndex("net_device") {
        ifindex: ["ifindex"],
    }
}

crate::layout! {
    /// The field that leads to a network device's driver.
    pub struct NetDeviceParent("net_device") {
        /// `struct device *`; null for a device that only the kernel makes.
        parent?: ["dev.parent"],
    }
}

crate::layout! {
    /// `struct in_device` (include/linux/inetdevice.h).
    pub struct InDevice("in_device") {
        /// First `struct in_ifaddr`.
        ifa_list: ["ifa_list"],
    }
}

crate::layout! {
    /// `struct in_ifaddr` (include/linux/inetdevice.h).
    pub struct InIfaddr("in_ifaddr") {
        /// The next `struct in_ifaddr`.
        ifa_next: ["ifa_next"],
        /// The address, in network byte order.
        ifa_local: ["ifa_local"],
    }
}

crate::layout! {
    /// `struct inet6_dev` (include/net/if_inet6.h).
    pub struct Inet6Dev("inet6_dev") {
        /// Head of the list of addresses.
        addr_list: ["addr_list"],
    }
}

crate::layout! {
    /// `struct inet6_ifaddr` (include/net/if_inet6.h).
    pub struct Inet6Ifaddr("inet6_ifaddr") {
        addr: ["addr"],
        /// Link in `inet6_dev.addr_list`.
        if_list: ["if_list"],
    }
}

/// Length of an Ethernet address in bytes. Hardware addresses of other lengths are not read.
pub const MAC_BYTES: usize = 6;
