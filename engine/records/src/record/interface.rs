//! Network interfaces in the guide's two namings: those of the watched machine and of the host.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::json::address::MacAddress;
use crate::json::text::Text;

use super::macros::details;
use super::value::IndexedObjects;

details! {
    /// An interface of the watched machine.
    pub struct WorkloadInterface<'a> "workload_network_interface" {
        /// `eth0`
        workload_network_interface_name: Text<'a>,
        /// Left out for an interface without one.
        workload_network_interface_mac_address: Option<MacAddress>,
        /// Always an array.
        workload_network_interface_ipv4_address: &'a [Ipv4Addr],
        /// Always an array.
        workload_network_interface_ipv6_address: &'a [Ipv6Addr],
    }
}

details! {
    /// An interface of the host, which need not be a BlueField.
    pub struct BluefieldInterface<'a> "bluefield_network_interface" {
        /// `oob_net0`
        bluefield_network_interface_name: Text<'a>,
        /// Left out for an interface without one.
        bluefield_network_interface_mac_address: Option<MacAddress>,
        /// Always an array.
        bluefield_network_interface_ipv4_address: &'a [Ipv4Addr],
        /// Always an array.
        bluefield_network_interface_ipv6_address: &'a [Ipv6Addr],
    }
}

details! {
    /// The host that Panoptes runs on.
    pub struct BluefieldSystem<'a> "bluefield_system_information" {
        /// Keyed "0", "1", …; with a compact header, only where they are new.
        bluefield_networking_interfaces: Option<IndexedObjects<'a, BluefieldInterface<'a>>>,
    }
}
